// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seals: the sums of those files of an entry that verdicts rest on, taken when it was made.
//!
//! A disk can change what was right when it was written. A kernel with a flipped bit panics, and
//! looks as if its livepatches did it: so what is booted or loaded is compared before each use,
//! and made anew if it differs. `sha256sum -c .seal` does the same by hand, but for files with
//! holes: a guest's memory is hardly more than that.
//!
//! What was compared in full is noted with what tells the file from another one, and is not read
//! again until the host boots anew: its pages are in memory, or come from a disk that was right.

use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use sha2::{Digest, Sha256};

use super::{TEMPORARY, hex, identity, sha256_of, write_atomically};
use crate::error::{IoContext, Result};
use crate::event::Events;

/// The file in an entry's folder that holds the sums.
pub(crate) const SEAL: &str = ".seal";

/// The file in an entry's folder that notes what was compared.
pub(crate) const COMPARED: &str = ".compared";
/// How the sum of a file with holes begins.
const SPARSE: &str = "sparse:";
/// The unit in which zeros are left out.
const BLOCK: usize = 4096;

/// Seals files of an entry, named relative to it.
pub fn seal(entry: &Path, files: &[String]) -> Result<()> {
    let mut text = String::new();
    for file in files {
        let path = entry.join(file);
        let data = fs::metadata(&path).at("read", &path)?;
        let sum = match data.blocks() * 512 < data.len() {
            true => sparse_sum(&path)?,
            false => sha256_of(&path)?,
        };
        let _ = writeln!(text, "{sum}  {file}");
    }
    write_atomically(&entry.join(SEAL), text.as_bytes())
}

/// The sum of the blocks of a file that are not all zeros, each with its place: wherever the holes
/// are, and whether they are holes at all.
fn sparse_sum(path: &Path) -> Result<String> {
    let file = File::open(path).at("open", path)?;
    let len = file.metadata().at("read", path)?.len();
    let mut hasher = Sha256::new();
    hasher.update(len.to_le_bytes());
    let mut blocks = vec![0; 256 * BLOCK];
    let mut at = 0;
    // A file system that knows no holes says that all is data.
    while let Some(start) = data_from(&file, at).at("read", path)? {
        at = start - start % BLOCK as u64;
        let end = seek(&file, SeekFrom::Hole(start)).map_err(io::Error::from);
        let end = end.at("read", path)?;
        while at < end {
            let length = file.read_at(&mut blocks, at).at("read", path)?;
            if length == 0 {
                break;
            }
            for (place, block) in (at..).step_by(BLOCK).zip(blocks[..length].chunks(BLOCK)) {
                if block.iter().any(|&byte| byte != 0) {
                    hasher.update(place.to_le_bytes());
                    hasher.update(block);
                }
            }
            at += length as u64;
        }
    }
    Ok(format!("{SPARSE}{}", hex(&hasher.finalize())))
}

/// Where the next data is at or after `at`.
fn data_from(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some(start)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The modules in an entry's folder, all of which are sealed.
pub fn modules_in(entry: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(entry).at("read", entry)?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut modules: Vec<_> = names.filter(|name| name.ends_with(".ko")).collect();
    modules.sort();
    Ok(modules)
}

/// The sum of a file: the one that its entry was sealed with, if it was, without reading it.
///
/// # Errors
///
/// `Host` if it was not sealed and cannot be read.
pub(crate) fn sum(path: &Path) -> Result<String> {
    let sealed = path.ancestors().skip(1).find_map(|entry| {
        let seal = fs::read_to_string(entry.join(SEAL)).ok()?;
        let name = path.strip_prefix(entry).ok()?.to_str()?.to_owned();
        let mut files = seal.lines().filter_map(|line| line.split_once("  "));
        let (sum, _) = files.find(|(_, file)| *file == name)?;
        (!sum.starts_with(SPARSE)).then(|| sum.to_owned())
    });
    sealed.map_or_else(|| sha256_of(path), Ok)
}

/// The first file that is not as it was sealed. An entry without a seal is taken as it is: it came
/// from an older lab.
pub fn damage(entry: &Path) -> Option<String> {
    let seal = fs::read_to_string(entry.join(SEAL)).ok()?;
    let files = || seal.lines().filter_map(|line| line.split_once("  "));
    let names = files().map(|(_, file)| entry.join(file));
    let stamp = stamp(&seal, names).ok();
    let noted = fs::read_to_string(entry.join(COMPARED)).ok();
    if stamp.is_some() && noted == stamp {
        return None;
    }
    let differs = |(sum, file): (&str, &str)| {
        let path = entry.join(file);
        let found = match sum.starts_with(SPARSE) {
            true => sparse_sum(&path),
            false => sha256_of(&path),
        };
        (found.ok().as_deref() != Some(sum)).then(|| file.to_owned())
    };
    let damaged = files().find_map(differs);
    if let (None, Some(stamp)) = (&damaged, stamp) {
        // Without the note it is compared again.
        let _ = write_atomically(&entry.join(COMPARED), stamp.as_bytes());
    }
    damaged
}

/// What changes when the host boots, or when somebody writes to one of the files or to the seal.
/// Nobody can set the time of a file's last change (`ctime`).
fn stamp(seal: &str, files: impl Iterator<Item = PathBuf>) -> Result<String> {
    let boot = Path::new("/proc/sys/kernel/random/boot_id");
    let mut text = fs::read_to_string(boot).at("read", boot)?;
    text += seal;
    for file in files {
        let _ = writeln!(text, "{}", identity(&file)?);
    }
    Ok(text)
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
        seal(&entry, &modules_in(&entry).unwrap()).unwrap();
        assert_eq!(damage(&entry), None);
        for file in ["a.ko", "a.c"].map(|file| entry.join(file)) {
            assert_eq!(sum(&file).unwrap(), sha256_of(&file).unwrap());
        }
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

    #[test]
    fn holes_do_not_count_and_everything_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"first", 5000).unwrap();
        file.write_all_at(b"last", (64 << 20) - 4).unwrap();
        seal(dir.path(), &["memory".to_owned()]).unwrap();
        assert_eq!(damage(dir.path()), None);
        // A copy without holes is the same.
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(damage(dir.path()), None);
        for (byte, at) in [(b"f", 5001), (b"x", 40 << 20)] {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(byte, at).unwrap();
            assert_eq!(damage(dir.path()).as_deref(), Some("memory"));
            file.write_all_at(&bytes[at as usize..=at as usize], at)
                .unwrap();
            assert_eq!(damage(dir.path()), None);
        }
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        assert_eq!(damage(dir.path()).as_deref(), Some("memory"));
    }
}
