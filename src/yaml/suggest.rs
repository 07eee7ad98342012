// SPDX-License-Identifier: MIT OR Apache-2.0
//! "Did you mean": the known name that a misspelt one probably stands for.

/// Names longer than this are no typing errors, and comparing them would cost time.
const LONGEST: usize = 64;

/// How many candidates are compared at most, so that a hostile file stays cheap.
const MOST: usize = 256;

/// The candidate closest to `name`, if one is close enough to be meant.
///
/// Close enough is one edit for every three characters, whatever their case. The first of several equally close ones
/// wins, so the answer depends on nothing but the order of the candidates.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length > LONGEST {
        return None;
    }
    let limit = (length / 3).max(1);
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| {
            let distance = strsim::osa_distance(&name, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A help line for an unknown name: the name that was meant, or else the known ones.
pub fn did_you_mean<'a>(
    name: &str,
    what: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(meant) = suggest(name, candidates.clone()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    known_names(what, candidates)
}

/// A help line with the known names, if there are any: "its functions: `price`, `stock`".
pub fn known_names<'a>(
    what: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let mut known: Vec<_> = candidates
        .into_iter()
        .take(13)
        .map(|c| format!("`{c}`"))
        .collect();
    if known.len() == 13 {
        known[12] = String::from("...");
    }
    (!known.is_empty()).then(|| format!("{what}: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        assert_eq!(
            suggest("pricing-v3", ["stock", "pricing-v2"]),
            Some("pricing-v2")
        );
        assert_eq!(suggest("laod", ["load", "unload"]), Some("load"));
    }

    #[test]
    fn the_first_of_equally_close_names_wins() {
        assert_eq!(suggest("v3", ["v1", "v2"]), Some("v1"));
    }

    #[test]
    fn an_unrelated_name_finds_nothing() {
        assert_eq!(suggest("inventory", ["load", "unload"]), None);
        assert_eq!(suggest("x", ["y"]), None);
        assert_eq!(suggest("", ["y"]), None);
    }

    #[test]
    fn without_a_neighbour_the_known_names_are_listed() {
        let help = did_you_mean("inventory", "known targets", ["shop", "till"]);
        assert_eq!(help.as_deref(), Some("known targets: `shop`, `till`"));
        assert_eq!(did_you_mean("inventory", "known targets", []), None);
    }
}
