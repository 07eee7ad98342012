// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delta debugging: how much can be left out so that something still happens. Pure; who asks plays
//! the candidates, those of one round side by side.

/// Which of `count` things can be left out together. `still` says of each candidate, which is a list
/// of things to leave out, whether it still happens without them. `width` candidates cost as much as
/// one.
///
/// What it returns was asked for and still happened, and no single further thing can be left out.
/// That is less than the smallest there is, which nobody could wait for.
pub async fn removable<E>(
    count: usize,
    width: usize,
    mut still: impl AsyncFnMut(Vec<Vec<usize>>) -> Result<Vec<bool>, E>,
) -> Result<Vec<usize>, E> {
    let mut left: Vec<usize> = (0..count).collect();
    // Everything at once: it costs a candidate, and is all there is to do if none of it matters.
    if count > 1 && still(vec![left.clone()]).await? == [true] {
        return Ok(left);
    }
    let mut removed = Vec::new();
    let mut size = count.div_ceil(width.max(2)).max(1);
    while !left.is_empty() {
        let parts: Vec<&[usize]> = left.chunks(size).collect();
        let ask = parts.iter().map(|part| union(&removed, &[*part]));
        let answers = still(ask.collect()).await?;
        let fit = parts.iter().zip(answers).filter(|(_, fits)| *fits);
        let fit: Vec<&[usize]> = fit.map(|(part, _)| *part).collect();
        let taken = together(&removed, &fit, &mut still).await?;
        if taken > 0 {
            removed = union(&removed, &fit[..taken]);
            left.retain(|thing| !removed.contains(thing));
        } else if size == 1 {
            break;
        } else {
            size = size.div_ceil(2);
        }
    }
    Ok(removed)
}

/// How many of `parts`, each of which can be left out, can be left out together: from the first on.
async fn together<E>(
    removed: &[usize],
    parts: &[&[usize]],
    still: &mut impl AsyncFnMut(Vec<Vec<usize>>) -> Result<Vec<bool>, E>,
) -> Result<usize, E> {
    if parts.len() < 2 || still(vec![union(removed, parts)]).await? == [true] {
        return Ok(parts.len());
    }
    let several = 2..parts.len();
    let ask = several.clone().map(|count| union(removed, &parts[..count]));
    let answers = still(ask.collect()).await?;
    let fit = several.zip(answers).filter(|(_, fits)| *fits);
    Ok(fit.map(|(count, _)| count).max().unwrap_or(1))
}

fn union(removed: &[usize], parts: &[&[usize]]) -> Vec<usize> {
    let mut all = removed.to_vec();
    all.extend(parts.iter().copied().flatten());
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// What is left of `count` things if it still happens whenever `happens` says so of those that
    /// are left; and how many candidates that took, in how many rounds.
    async fn left(
        count: usize,
        width: usize,
        happens: impl Fn(&[usize]) -> bool,
    ) -> (Vec<usize>, usize, usize) {
        let (mut asked, mut rounds) = (0, 0);
        let rest = |gone: &[usize]| -> Vec<usize> {
            (0..count).filter(|thing| !gone.contains(thing)).collect()
        };
        let still = async |candidates: Vec<Vec<usize>>| {
            asked += candidates.len();
            rounds += usize::from(!candidates.is_empty());
            let answers = candidates.iter().map(|gone| happens(&rest(gone)));
            Ok::<_, Infallible>(answers.collect())
        };
        let Ok(gone) = removable(count, width, still).await;
        let left = rest(&gone);
        assert!(happens(&left), "what is returned was asked for");
        (left, asked, rounds)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_matters_is_left() {
        for count in 0..20 {
            for width in [1, 2, 8, 50] {
                let needs = |left: &[usize]| [3, 7].iter().all(|n| *n >= count || left.contains(n));
                let expected: Vec<_> = [3, 7].into_iter().filter(|n| *n < count).collect();
                assert_eq!(
                    left(count, width, needs).await.0,
                    expected,
                    "{count} {width}"
                );
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_that_matters_takes_one_candidate() {
        assert_eq!(left(14, 8, |_| true).await, (vec![], 1, 1));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn of_two_of_which_one_must_stay_one_goes() {
        let (rest, ..) = left(2, 8, |left| !left.is_empty()).await;
        assert_eq!(rest, [1]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_needs_each_other_goes_with_whom_needs_it() {
        // 5 needs 2: 2 goes only when 5 has gone.
        let needs = |left: &[usize]| left.contains(&9) && (!left.contains(&5) || left.contains(&2));
        assert_eq!(left(12, 4, needs).await.0, [9]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_rounds_are_few() {
        let (rest, asked, rounds) = left(100, 8, |left| left.contains(&42)).await;
        assert_eq!(rest, [42]);
        assert!(
            asked < 60 && rounds < 16,
            "{asked} candidates, {rounds} rounds"
        );
    }
}
