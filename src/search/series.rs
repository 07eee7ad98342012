// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which patch of a kernel's series makes the difference.

use std::fmt::Write;
use std::time::Instant;

use super::bisect::{Change, First, Found, Judge, Said, make_dir};
use super::halving::{Answer, Halving};
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::millis;
use crate::files::shown;
use crate::kernel::Definition;
use crate::kernel::patches::{Patch, read_series};
use crate::report::text::{count, one_line, seconds};

/// The longest header of a patch that is looked at, in lines.
const HEADER_MAX: usize = 60;

/// Searches the series of `kernel`. `good` and `bad` say how many of its patches are applied at the
/// ends.
///
/// # Errors
///
/// An end is not what it was said to be, or the lab could not find out.
pub async fn bisect(
    judge: &mut Judge<'_>,
    kernel: &Definition,
    (good, bad): (Option<usize>, Option<usize>),
    first: First,
) -> Result<Found> {
    let started = Instant::now();
    let Some(folder) = &kernel.patches else {
        let what = format!("kernel {} has no patch series", kernel.name);
        return Err(Error::new(Blame::Usage, what).help("name one that has with --kernel"));
    };
    let series = read_series(folder)?;
    let (old, new) = ends(series.len(), (good, bad), first)?;
    let variant =
        |applied: usize| variant(judge.player.records.as_path(), kernel, &series, applied);
    let kernels = (0..=series.len())
        .map(variant)
        .collect::<Result<Vec<_>>>()?;
    let name = |applied: usize| match applied {
        1 => format!("{} with 1 patch", kernel.name),
        _ => format!("{} with {applied} patches", kernel.name),
    };
    let (good, bad) = match first {
        First::Bad => (old, new),
        First::Good => (new, old),
    };
    judge
        .end(Said::Bad, &bad.to_string(), &name(bad), &kernels[bad])
        .await?;
    judge
        .end(Said::Good, &good.to_string(), &name(good), &kernels[good])
        .await?;
    let mut halving = Halving::new(old, new);
    while let Some(applied) = halving.next() {
        let revision = applied.to_string();
        let said = judge
            .judge(&revision, &name(applied), &kernels[applied])
            .await?;
        halving.answer(
            applied,
            match (said, first) {
                (Said::Skip(_), _) => Answer::Skip,
                (Said::Good, First::Bad) | (Said::Bad, First::Good) => Answer::Old,
                (Said::Bad, First::Bad) | (Said::Good, First::Good) => Answer::New,
            },
        );
        judge.write_log(&log(judge, &series))?;
    }
    let log = judge.write_log(&log(judge, &series))?;
    let found = halving.first_new();
    let difference = match found.clone().count() {
        1 => {
            let with = *found.start();
            judge.difference(&(with - 1).to_string(), &with.to_string())
        }
        _ => None,
    };
    Ok(Found {
        first,
        kind: "patch",
        changes: found.map(|applied| change(&series[applied - 1])).collect(),
        manner: judge.wanted(),
        difference,
        log: shown(&log),
        effort: effort(judge, started, "variant"),
    })
}

/// How much work it was.
pub(super) fn effort(judge: &Judge<'_>, started: Instant, what: &str) -> String {
    let tested = count(judge.tested.len(), what);
    let skipped = match judge.skipped() {
        0 => String::new(),
        skipped => format!(" ({skipped} of them said nothing)"),
    };
    let built = count(judge.player.built.get(), "kernel");
    let boots = count(judge.player.played.get(), "run");
    let time = seconds(millis(started.elapsed()));
    format!("{tested} tested{skipped}, {built} built, {boots}, {time}")
}

/// The ends of the search: how many patches are applied before and after.
fn ends(
    count: usize,
    (good, bad): (Option<usize>, Option<usize>),
    first: First,
) -> Result<(usize, usize)> {
    let (old, new) = match first {
        First::Bad => (good.unwrap_or(0), bad.unwrap_or(count)),
        First::Good => (bad.unwrap_or(0), good.unwrap_or(count)),
    };
    if new > count {
        let what = match count {
            1 => format!("the series has 1 patch, not {new}"),
            _ => format!("the series has {count} patches, not {new}"),
        };
        return Err(Error::new(Blame::Usage, what));
    }
    if old >= new {
        let (before, after, other) = match first {
            First::Bad => ("good", "bad", "good"),
            First::Good => ("bad", "good", "bad"),
        };
        let what = format!("--{before} has to come before --{after}");
        return Err(Error::new(Blame::Usage, what).help(format!(
            "to look for the first that is {other}: --first {other}"
        )));
    }
    Ok((old, new))
}

/// The kernel with the first patches only.
fn variant(
    records: &std::path::Path,
    kernel: &Definition,
    series: &[Patch],
    applied: usize,
) -> Result<Definition> {
    let mut variant = kernel.clone();
    if applied == series.len() {
        // It has its name, and is in the cache under it.
        return Ok(variant);
    }
    variant.name = format!("{}-{applied}", kernel.name);
    variant.patches = None;
    if applied > 0 {
        let folder = records.join(format!("patches-{applied}"));
        make_dir(&folder)?;
        for patch in &series[..applied] {
            let path = folder.join(patch.path.file_name().unwrap_or_default());
            std::fs::write(&path, &patch.text).at("write", &path)?;
        }
        variant.patches = Some(folder);
    }
    Ok(variant)
}

/// What was tested, a line each.
fn log(judge: &Judge<'_>, series: &[Patch]) -> String {
    let mut text = String::new();
    for tested in &judge.tested {
        let last = tested
            .revision
            .parse()
            .ok()
            .and_then(|applied: usize| applied.checked_sub(1));
        let last = last.map_or("no patch".to_owned(), |last| change(&series[last]).id);
        let why = match &tested.said {
            Said::Skip(why) => format!(": {}", one_line(why)),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "{} {} {last}{why}",
            tested.said.name(),
            tested.revision
        );
    }
    text
}

/// What the header of a patch says.
fn change(patch: &Patch) -> Change {
    let text = String::from_utf8_lossy(&patch.text);
    let mut headers: Vec<String> = Vec::new();
    for line in text
        .lines()
        .take(HEADER_MAX)
        .take_while(|line| !line.is_empty())
    {
        match (line.strip_prefix([' ', '\t']), headers.last_mut()) {
            (Some(rest), Some(header)) => *header = format!("{header} {}", rest.trim()),
            _ => headers.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let value = headers.iter().find_map(|header| header.strip_prefix(name));
        value.unwrap_or_default().trim().to_owned()
    };
    let subject = header("Subject:");
    let subject = match subject.strip_prefix("[PATCH") {
        Some(rest) => rest
            .split_once(']')
            .map_or("", |(_, subject)| subject)
            .trim()
            .to_owned(),
        None => subject,
    };
    let file = patch.path.file_name().unwrap_or_default();
    Change {
        id: file.to_string_lossy().into_owned(),
        subject,
        author: header("From:"),
        date: header("Date:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_the_whole_series_unless_others_are_named() {
        assert_eq!(ends(12, (None, None), First::Bad).unwrap(), (0, 12));
        assert_eq!(ends(12, (Some(3), None), First::Bad).unwrap(), (3, 12));
        assert_eq!(ends(12, (None, Some(3)), First::Good).unwrap(), (3, 12));
        assert_eq!(ends(12, (Some(9), Some(3)), First::Good).unwrap(), (3, 9));
        let error = ends(12, (None, Some(13)), First::Bad).unwrap_err();
        assert_eq!(error.what, "the series has 12 patches, not 13");
        let error = ends(12, (Some(9), Some(3)), First::Bad).unwrap_err();
        assert_eq!(error.what, "--good has to come before --bad");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_patch_says_who_it_is() {
        let text = "From 0123 Mon Sep 17 00:00:00 2001\nFrom: Jane Doe <jane@example.org>\n\
                    Date: Fri, 2 Jan 2026 10:00:00 +0000\nSubject: [PATCH 04/12] livepatch: Add nops\n \
                    only for some\n\nSubject: not this\n---\n";
        let patch = Patch {
            path: "s/0004-x.patch".into(),
            text: text.into(),
        };
        let change = change(&patch);
        assert_eq!(change.id, "0004-x.patch");
        assert_eq!(change.subject, "livepatch: Add nops only for some");
        assert_eq!(change.author, "Jane Doe <jane@example.org>");
        assert_eq!(change.date, "Fri, 2 Jan 2026 10:00:00 +0000");
    }

    #[test]
    fn a_variant_has_the_first_patches_and_a_name_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let patch = |name: &str| Patch {
            path: format!("s/{name}.patch").into(),
            text: name.into(),
        };
        let series = ["0001-a", "0002-b", "0003-c"].map(patch);
        let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let kernel = Definition::read(project, "tags").unwrap();
        let of = |applied| variant(dir.path(), &kernel, &series, applied).unwrap();
        assert_eq!((of(0).name.as_str(), of(0).patches), ("tags-0", None));
        assert_eq!(of(3).name, "tags");
        let two = read_series(&of(2).patches.unwrap()).unwrap();
        let texts: Vec<_> = two.iter().map(|patch| patch.text.as_slice()).collect();
        assert_eq!(texts, [b"0001-a", b"0002-b"]);
    }
}
