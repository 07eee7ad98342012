// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unpacking a stranger's archive into staging folders; see `cache::import` for the rules.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::{Archive, Entry, EntryType};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::archive::{Item, MANIFEST, Manifest, VERSION};
use super::{NOTES, staging_dir};
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::Phase;

/// Bytes that an archive unpacks to at most: some twenty kernels of different sources.
const BYTES_MAX: u64 = 40 << 30;
/// Its members at most; a kernel's tree has 110,000.
const MEMBERS_MAX: u64 = 3_000_000;
/// The longest manifest or record in bytes.
pub(super) const TEXT_MAX: u64 = 1 << 20;
/// The longest name in bytes: with the cache's own folder before it, Linux takes 4095.
const NAME_MAX: u64 = 2048;
/// The longest part of a name in bytes.
const PART_MAX: usize = 255;

/// Unpacks what the archive declares, each entry into a staging folder next to its place in the
/// cache, and reads it to its end.
pub(super) fn unpack(
    file: &Path,
    cache: &Path,
    cancel: &CancellationToken,
    phase: &mut Phase,
) -> Result<Vec<Staged>> {
    let bad = Bad(file);
    let input = File::open(file).at("open", file).map_err(|mut error| {
        error.blame = Blame::File;
        error
    })?;
    let decoder = zstd::Decoder::new(input).map_err(|error| bad.unreadable(&error))?;
    let mut unpacker = Unpacker {
        bad,
        cache,
        cancel,
        phase,
        entries: Vec::new(),
        index: HashMap::new(),
        folders: HashSet::new(),
        members: 0,
        now: SystemTime::now(),
    };
    unpacker.unpack(Bounded {
        input: decoder,
        left: BYTES_MAX,
    })?;
    Ok(unpacker.entries)
}

/// Errors that are the archive's fault.
#[derive(Clone, Copy)]
pub(super) struct Bad<'a>(pub &'a Path);

impl Bad<'_> {
    fn error(self, why: &str) -> Error {
        let what = format!("{} cannot be imported: {why}", self.0.display());
        Error::new(Blame::File, what)
            .help("nothing of it is in the cache; write it anew with `lab cache export`")
    }

    pub(super) fn member(self, name: &OsStr, why: &str) -> Error {
        self.error(&format!("{} {why}", name.to_string_lossy().escape_debug()))
    }

    fn unreadable(self, error: &io::Error) -> Error {
        self.error(&format!("it is damaged or no such archive ({error})"))
    }
}

/// A reader that ends with an error after so many bytes.
struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.left = self
            .left
            .checked_sub(length as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than 40 GiB"))?;
        Ok(length)
    }
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
    cancel: &'a CancellationToken,
    phase: &'a mut Phase,
    entries: Vec<Staged>,
    /// Indices of entries by their path.
    index: HashMap<PathBuf, usize>,
    /// The folders that were made: nothing else is a parent.
    folders: HashSet<PathBuf>,
    members: u64,
    now: SystemTime,
}

impl Unpacker<'_> {
    fn unpack(&mut self, input: impl Read) -> Result<()> {
        let bad = self.bad;
        let unreadable = |error: io::Error| bad.unreadable(&error);
        let mut archive = Archive::new(input);
        // Raw: the crate would read names of any length into memory.
        let members = archive.entries().map_err(unreadable)?.raw(true);
        let (mut name, mut target) = (None, None);
        for member in members {
            if self.cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let mut member = member.map_err(unreadable)?;
            self.members += 1;
            if self.members > MEMBERS_MAX {
                return Err(bad.error("it has more than 3 million members"));
            }
            if self.members == 1 {
                self.manifest(&mut member)?;
                continue;
            }
            match member.header().entry_type() {
                EntryType::GNULongName => name = Some(self.long_name(&mut member)?),
                EntryType::GNULongLink => target = Some(self.long_name(&mut member)?),
                _ => {
                    let name = name.take().unwrap_or_else(|| owned(&member.path_bytes()));
                    let target = target
                        .take()
                        .or_else(|| member.link_name_bytes().map(|bytes| owned(&bytes)));
                    self.member(&mut member, &name, target.as_deref())?;
                }
            }
        }
        if self.members == 0 {
            return Err(bad.error("it is empty"));
        }
        // The checksum comes last; after tar's own end there are zeros at most.
        let mut rest = Vec::new();
        let mut input = archive.into_inner().take(TEXT_MAX);
        input.read_to_end(&mut rest).map_err(unreadable)?;
        if input.limit() == 0 || rest.iter().any(|&byte| byte != 0) {
            return Err(bad.error("something follows its end"));
        }
        Ok(())
    }

    /// The first member: makes a staging folder for each entry.
    fn manifest(&mut self, member: &mut Entry<'_, impl Read>) -> Result<()> {
        let bad = self.bad;
        if member.path_bytes() != MANIFEST.as_bytes() || !is_plain(member) {
            return Err(bad.error("it does not begin with lab-cache.json"));
        }
        let text = self.text(member)?;
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
                .help("take a lab of the version that wrote it"));
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

    fn member(
        &mut self,
        member: &mut Entry<'_, impl Read>,
        name: &OsStr,
        target: Option<&OsStr>,
    ) -> Result<()> {
        let bad = self.bad;
        let header = member.header();
        let kind = header.entry_type();
        let (mode, mtime) = header
            .mode()
            .and_then(|mode| Ok((mode, header.mtime()?)))
            .map_err(|error| bad.unreadable(&error))?;
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
                if !stays_inside(&rest, Path::new(target)) {
                    return Err(bad.member(name, "is a link that leads out of its entry"));
                }
                once(std::os::unix::fs::symlink(target, &path))
            }
            EntryType::Link => {
                let (index, rest) = self.locate(target.unwrap_or_default())?;
                let first = self.entries[index].path(&rest);
                let known = first.parent().is_some_and(|dir| self.folders.contains(dir));
                // Unpacked before, as nothing else is in the staging folders; and no link itself.
                if !known || !fs::symlink_metadata(&first).is_ok_and(|data| data.is_file()) {
                    return Err(bad.member(name, "is a hard link to no file of the archive"));
                }
                once(fs::hard_link(&first, &path))
            }
            _ => Err(bad.member(name, "is neither a file nor a folder nor a link")),
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
    fn file(
        &mut self,
        member: &mut Entry<'_, impl Read>,
        path: &Path,
        mode: u32,
        mtime: u64,
    ) -> Result<()> {
        let bad = self.bad;
        let mut options = OpenOptions::new();
        let mut file = match options.write(true).create_new(true).mode(mode).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let name = path.file_name().unwrap_or_default();
                return Err(bad.member(name, "is in the archive twice"));
            }
            file => file.at("create", path)?,
        };
        let size = member.size();
        let mut block = vec![0; usize::try_from(size.min(1 << 16)).unwrap_or(1 << 16)];
        let mut left = size;
        while left > 0 {
            let length = member
                .read(&mut block)
                .map_err(|error| bad.unreadable(&error))?;
            if length == 0 {
                return Err(bad.error("it ends within a file"));
            }
            file.write_all(&block[..length]).at("write", path)?;
            left = left.saturating_sub(length as u64);
        }
        // A time in the future would make make build again and again.
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(mtime));
        let time = time.map_or(self.now, |time| time.min(self.now));
        file.set_modified(time).at("write", path)?;
        let detail = path.file_name().unwrap_or_default().to_string_lossy();
        self.phase.progress(self.members, None, &detail);
        Ok(())
    }

    /// The name in a member that only holds the next one's name.
    fn long_name(&self, member: &mut Entry<'_, impl Read>) -> Result<OsString> {
        let mut bytes = Vec::new();
        let mut limited = member.take(NAME_MAX + 1);
        limited
            .read_to_end(&mut bytes)
            .map_err(|error| self.bad.unreadable(&error))?;
        if limited.limit() == 0 {
            return Err(self.bad.error("a name in it is too long"));
        }
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(OsString::from_vec(bytes))
    }

    fn text(&self, member: &mut Entry<'_, impl Read>) -> Result<Vec<u8>> {
        if member.size() > TEXT_MAX {
            return Err(self.bad.error("lab-cache.json is too long"));
        }
        let mut text = Vec::new();
        member
            .read_to_end(&mut text)
            .map_err(|error| self.bad.unreadable(&error))?;
        Ok(text)
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

fn is_plain(member: &Entry<'_, impl Read>) -> bool {
    member.header().entry_type() == EntryType::Regular
}

fn owned(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}
