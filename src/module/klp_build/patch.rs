// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a source patch names and adds. Pure.

use std::path::{Component, Path, PathBuf};

/// What a patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The file before; `None` if the patch adds it.
    pub(super) old: Option<PathBuf>,
    /// The file after; `None` if the patch removes it.
    pub(super) new: Option<PathBuf>,
    /// The lines that are added to it.
    pub(super) added: String,
}

/// What a patch does, file by file, as klp-build and patch(1) read it.
pub(super) fn changes(patch: &str) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    // Lines of the hunk that are still to come, of the old file and of the new one.
    let (mut old, mut new) = (0_usize, 0_usize);
    let mut lines = patch.lines().peekable();
    while let Some(line) = lines.next() {
        if old + new > 0 {
            let (text, kind) = (line.get(1..).unwrap_or_default(), line.as_bytes().first());
            match kind {
                Some(b'-') => old = old.saturating_sub(1),
                Some(b'+') => {
                    new = new.saturating_sub(1);
                    if let Some(change) = changes.last_mut() {
                        change.added += text;
                        change.added.push('\n');
                    }
                }
                // `\ No newline at end of file`
                Some(b'\\') => {}
                _ => (old, new) = (old.saturating_sub(1), new.saturating_sub(1)),
            }
        } else if let Some(counts) = hunk(line) {
            (old, new) = counts;
        } else if let (Some(before), Some(after)) = (
            line.strip_prefix("--- "),
            lines.peek().and_then(|next| next.strip_prefix("+++ ")),
        ) {
            let change = Change {
                old: existing(before),
                new: existing(after),
                added: String::new(),
            };
            changes.push(change);
            lines.next();
        }
    }
    changes.retain(|change| change.old.is_some() || change.new.is_some());
    changes
}

/// `@@ -1,3 +1,4 @@`: how many lines of the old file and of the new one follow.
fn hunk(line: &str) -> Option<(usize, usize)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    };
    Some((count(old)?, count(new)?))
}

/// The file that a header names, unless there is none: see klp-build's `get_patch_input_files()`.
fn existing(header: &str) -> Option<PathBuf> {
    let none = ["/dev/null", "1969-12-31", "1970-01-01"];
    if none.iter().any(|mark| header.contains(mark)) {
        return None;
    }
    file(header)
}

/// The file that a header names, without its first component (`patch -p1`).
fn file(header: &str) -> Option<PathBuf> {
    let path = Path::new(header.split_whitespace().next()?);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let file: PathBuf = path.components().skip(1).collect();
    (inside && file != Path::new("")).then_some(file)
}

/// The files that a patch names, for a tree to be restored: what only looks like a name is in the list
/// as well.
pub(super) fn files_of(patch: &str) -> Vec<PathBuf> {
    let header = |line: &str| {
        let header = line
            .strip_prefix("--- ")
            .or_else(|| line.strip_prefix("+++ "))?;
        file(header)
    };
    let mut files: Vec<_> = patch.lines().filter_map(header).collect();
    files.sort();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patchs_files_stay_in_the_tree() {
        let patch = "--- a/fs/proc/cmdline.c\t2026-01-01\n+++ b/fs/proc/cmdline.c\n@@ -1 +1 @@\n\
                     --- /dev/null\n+++ b/fs/proc/new.c\n+++ b/../../etc/passwd\n+++ plain\n---\n";
        assert_eq!(
            files_of(patch),
            [Path::new("fs/proc/cmdline.c"), Path::new("fs/proc/new.c")]
        );
    }

    #[test]
    fn a_patch_is_read_file_by_file() {
        let patch = "From: a\n--- \n a/x.c | 2 +-\n---\n\n--- a/fs/x.c\t2026-01-01 00:00\n\
                     +++ b/fs/x.c\n@@ -1,3 +1,3 @@ f()\n one\n--- a/not/a.c\n+++ b/not/a.c\n two\n\
                     @@ -9 +9,2 @@\n \n+nine\n--- /dev/null\n+++ b/fs/new.c\n@@ -0,0 +1 @@\n+new\n\
                     \\ No newline at end of file\n--- a/fs/gone.c\n\
                     +++ b/fs/gone.c\t1970-01-01 01:00:00 +0100\n@@ -1 +0,0 @@\n-gone\n-- \n2.39\n";
        let change = |old: &str, new: &str, added: &str| Change {
            old: (!old.is_empty()).then(|| old.into()),
            new: (!new.is_empty()).then(|| new.into()),
            added: added.into(),
        };
        assert_eq!(
            changes(patch),
            [
                change("fs/x.c", "fs/x.c", "++ b/not/a.c\nnine\n"),
                change("", "fs/new.c", "new\n"),
                change("fs/gone.c", "", ""),
            ]
        );
    }
}
