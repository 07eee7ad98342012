// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unpacking a stranger's archive into staging folders; see `cache::import` for the rules.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::EntryType;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::archive::{Item, MANIFEST, Manifest, VERSION};
use super::members::{self, Bad, Limits, Member};
use crate::cache::{NOTES, staging_dir};
use crate::error::{IoContext, Result};
use crate::event::Phase;

/// Some twenty kernels of different sources; a kernel's tree has 110,000 members.
const LIMITS: Limits = Limits {
    bytes: 40 << 30,
    members: 3_000_000,
};
/// The longest manifest or record in bytes.
pub(super) const TEXT_MAX: u64 = 1 << 20;
/// The longest part of a name in bytes.
const PART_MAX: usize = 255;

/// Errors that are the fault of an archive that is imported.
pub(super) fn bad(file: &Path) -> Bad<'_> {
    Bad {
        file,
        done: "imported",
        help: "nothing of it is in the cache; write it anew with `lab cache export`",
    }
}

/// Unpacks what the archive declares, each entry into a staging folder next to its place in the
/// cache, and reads it to its end.
pub(super) fn unpack(
    file: &Path,
    cache: &Path,
    cancel: &CancellationToken,
    phase: &mut Phase,
) -> Result<Vec<Staged>> {
    let bad = bad(file);
    let mut unpacker = Unpacker {
        bad,
        cache,
        phase,
        entries: Vec::new(),
        index: HashMap::new(),
        folders: HashSet::new(),
        now: SystemTime::now(),
    };
    members::read(bad, LIMITS, cancel, |member| match member.number {
        1 => unpacker.manifest(member),
        _ => unpacker.member(member),
    })?;
    Ok(unpacker.entries)
}

/// An entry that is being unpacked.
pub(super) struct Staged {
    pub item: Item,
    /// The entry itself, or the folder that holds the record.
    pub dir: TempDir,
    /// Whether its folder or its file was in the archive.
    pub begun: bool,
}

impl Staged {
    fn path(&self, rest: &Path) -> PathBuf {
        self.dir.path().join(rest)
    }
}

struct Unpacker<'a> {
    bad: Bad<'a>,
    cache: &'a Path,
    phase: &'a mut Phase,
    entries: Vec<Staged>,
    /// Indices of entries by their path.
    index: HashMap<PathBuf, usize>,
    /// The folders that were made: nothing else is a parent.
    folders: HashSet<PathBuf>,
    now: SystemTime,
}

impl Unpacker<'_> {
    /// The first member: makes a staging folder for each entry.
    fn manifest(&mut self, member: &mut Member<'_>) -> Result<()> {
        let bad = self.bad;
        if member.name != MANIFEST || member.kind != EntryType::Regular {
            return Err(bad.error("it does not begin with lab-cache.json"));
        }
        let text = member.text(TEXT_MAX)?;
        // serde quotes what it does not like.
        let wrong = |error: serde_json::Error| {
            let why = error.to_string();
            bad.error(&format!("lab-cache.json: {}", why.escape_debug()))
        };
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
        if json["version"] != VERSION {
            let why = format!("its version is {}, not {VERSION}", json["version"]);
            return Err(bad
                .error(&why)
                .help("use a lab of the version that wrote it"));
        }
        let manifest: Manifest = serde_json::from_value(json).map_err(wrong)?;
        for item in manifest.entries {
            let path = item.path();
            if !item.is_valid() {
                return Err(bad.member(path.as_os_str(), "is no name of an entry"));
            }
            let dir = staging_dir(&self.cache.join(&path))?;
            if self.index.insert(path, self.entries.len()).is_some() {
                return Err(bad.member(item.path().as_os_str(), "is declared twice"));
            }
            self.entries.push(Staged {
                item,
                dir,
                begun: false,
            });
        }
        Ok(())
    }

    fn member(&mut self, member: &mut Member<'_>) -> Result<()> {
        let bad = self.bad;
        let (kind, mode, mtime) = (member.kind, member.mode, member.mtime);
        let (name, target) = (&*member.name.clone(), member.target.clone());
        let (index, rest) = self.locate(name)?;
        let entry = &mut self.entries[index];
        let top = rest == Path::new("");
        if entry.item.is_record() {
            if !top || kind != EntryType::Regular {
                return Err(bad.member(name, "is no file"));
            }
            let path = entry.path(Path::new(&entry.item.key));
            entry.begun = true;
            // The time of a record is that of its last use, which begins now.
            return self.file(member, &path, 0o644, u64::MAX);
        }
        let path = entry.path(&rest);
        if top {
            // The staging folder is the entry's own, and there already.
            if kind != EntryType::Directory || entry.begun {
                return Err(bad.member(name, "is no folder, or there twice"));
            }
            entry.begun = true;
            self.folders.insert(path);
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        if !self.folders.contains(parent) || NOTES.iter().any(|note| rest == Path::new(note)) {
            return Err(bad.member(name, "is in no folder of the archive, or is the lab's own"));
        }
        let once = |made: io::Result<()>| match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(bad.member(name, "is in the archive twice"))
            }
            made => made.at("create", &path),
        };
        match kind {
            EntryType::Directory => {
                once(fs::create_dir(&path))?;
                self.folders.insert(path);
                Ok(())
            }
            EntryType::Regular => self.file(member, &path, (mode & 0o755) | 0o400, mtime),
            EntryType::Symlink => {
                let target = target.unwrap_or_default();
                if !stays_inside(&rest, Path::new(&target)) {
                    return Err(bad.member(name, "is a link that leads out of its entry"));
                }
                once(std::os::unix::fs::symlink(&target, &path))
            }
            EntryType::Link => {
                let (index, rest) = self.locate(&target.unwrap_or_default())?;
                let first = self.entries[index].path(&rest);
                let known = first.parent().is_some_and(|dir| self.folders.contains(dir));
                // Unpacked before, as nothing else is in the staging folders; and no link itself.
                if !known || !fs::symlink_metadata(&first).is_ok_and(|data| data.is_file()) {
                    return Err(bad.member(name, "is a hard link to no file of the archive"));
                }
                once(fs::hard_link(&first, &path))
            }
            _ => Err(bad.member(name, "is not a file, a folder or a link")),
        }
    }

    /// The declared entry that a name belongs to, and the path within it.
    fn locate(&self, name: &OsStr) -> Result<(usize, PathBuf)> {
        let bytes = name.as_bytes();
        let parts: Vec<_> = bytes
            .strip_suffix(b"/")
            .unwrap_or(bytes)
            .split(|&byte| byte == b'/')
            .collect();
        let odd = |part: &&[u8]| {
            matches!(*part, b"" | b"." | b"..") || part.contains(&0) || part.len() > PART_MAX
        };
        if parts.iter().any(odd) {
            return Err(self.bad.member(name, "is no proper path"));
        }
        let path = |parts: &[&[u8]]| parts.iter().map(|part| OsStr::from_bytes(part)).collect();
        let (entry, rest) = parts.split_at(parts.len().min(2));
        let entry: PathBuf = path(entry);
        match self.index.get(&entry) {
            Some(&index) => Ok((index, path(rest))),
            None => Err(self
                .bad
                .member(name, "is in no entry that the archive declares")),
        }
    }

    /// Writes a new file. `mtime` is in seconds since 1970; a time in the future becomes now.
    fn file(&mut self, member: &mut Member<'_>, path: &Path, mode: u32, mtime: u64) -> Result<()> {
        let file = member.write(path, mode, |_| {})?;
        // A time in the future would make make build again and again.
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(mtime));
        let time = time.map_or(self.now, |time| time.min(self.now));
        file.set_modified(time).at("write", path)?;
        let detail = path.file_name().unwrap_or_default().to_string_lossy();
        self.phase.progress(member.number, None, &detail);
        Ok(())
    }
}

/// Whether a symbolic link at `path` in an entry leads to something in the entry: it may go up
/// only at its beginning, through its own parents, which are folders; what follows goes down, and
/// through other links of which the same is true.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let parents = path.components().count() - 1;
    let mut ups = 0;
    let mut down = false;
    for part in target.components() {
        match part {
            Component::ParentDir if !down => ups += 1,
            Component::Normal(_) => down = true,
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    let is_name = |bytes: &[u8]| !bytes.is_empty() && !bytes.contains(&0);
    ups <= parents && is_name(target.as_os_str().as_bytes())
}
