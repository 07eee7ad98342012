// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seals: the sums of those files of an entry that verdicts rest on, taken when it was made.
//!
//! A disk can change what was right when it was written. A kernel with a flipped bit panics, and
//! looks as if its livepatches did it: so what is booted or loaded is compared before each use,
//! and made anew if it differs. `sha256sum -c .seal` does the same by hand.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{TEMPORARY, sha256_of, write_atomically};
use crate::error::{IoContext, Result};
use crate::event::Events;

/// The file in an entry's folder that holds the sums.
pub(crate) const SEAL: &str = ".seal";

/// Seals files of an entry, named relative to it.
pub fn seal(entry: &Path, files: &[String]) -> Result<()> {
    let mut text = String::new();
    for file in files {
        let _ = writeln!(text, "{}  {file}", sha256_of(&entry.join(file))?);
    }
    write_atomically(&entry.join(SEAL), text.as_bytes())
}

/// Seals all modules in an entry's folder.
pub fn seal_modules(entry: &Path) -> Result<()> {
    let names = fs::read_dir(entry).at("read", entry)?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut modules: Vec<_> = names.filter(|name| name.ends_with(".ko")).collect();
    modules.sort();
    seal(entry, &modules)
}

/// The first file that is not as it was sealed. An entry without a seal is taken as it is: it came
/// from an older lab.
pub fn damage(entry: &Path) -> Option<String> {
    let seal = fs::read_to_string(entry.join(SEAL)).ok()?;
    let differs = |line: &str| {
        let (sum, file) = line.split_once("  ")?;
        (sha256_of(&entry.join(file)).ok().as_deref() != Some(sum)).then(|| file.to_owned())
    };
    seal.lines().find_map(differs)
}

/// Whether an entry is there that can be used. One that is damaged, or not whole for a reason that
/// the caller knows, is put away. Call it with the entry's lock.
pub fn reuse(events: &Events, entry: &Path, is_whole: bool) -> Result<bool> {
    if entry.symlink_metadata().is_err() {
        return Ok(false);
    }
    let why = match (is_whole, damage(entry)) {
        (true, None) => return Ok(true),
        (_, Some(file)) => format!("{file} is not what was written"),
        (false, None) => "it is not whole".to_owned(),
    };
    let parent = entry.parent().unwrap_or(Path::new("."));
    let name = entry.file_name().unwrap_or_default().to_string_lossy();
    // A leftover like others: it can be looked at for a day.
    let away = parent.join(format!("{TEMPORARY}-damaged-{name}-{}", std::process::id()));
    fs::rename(entry, &away).at("put away", entry)?;
    events.note(format!(
        "the cached {} is damaged ({why}): making it anew; if this happens again, look at the disk",
        entry.display()
    ));
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_and_a_lost_end_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("entry");
        fs::create_dir(&entry).unwrap();
        fs::write(entry.join("a.ko"), "abc").unwrap();
        fs::write(entry.join("a.c"), "int a;").unwrap();
        assert_eq!(damage(&entry), None);
        seal_modules(&entry).unwrap();
        assert_eq!(damage(&entry), None);
        fs::write(entry.join("a.c"), "int b;").unwrap();
        assert_eq!(damage(&entry), None);
        for damaged in ["abb", "ab"] {
            fs::write(entry.join("a.ko"), damaged).unwrap();
            assert_eq!(damage(&entry).as_deref(), Some("a.ko"));
        }
        fs::remove_file(entry.join("a.ko")).unwrap();
        assert_eq!(damage(&entry).as_deref(), Some("a.ko"));

        let (events, _receiver) = Events::channel();
        assert!(!reuse(&events, &entry, true).unwrap());
        assert!(!entry.exists());
        assert!(!reuse(&events, &entry, true).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
