// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in the cache: a line for each entry, with its size and its last use.
//!
//! Sizes are disk blocks. A file with several names counts once, for the entry that comes first:
//! sources come before the kernels that are made of links to them. So all sizes together are what
//! `du` says of the whole cache. Nothing in here changes the cache.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::export::source_records;
use crate::arch::Arch;
use crate::cache::{Cache, TEMPORARY, is_key, last_used};
use crate::error::{IoContext, Result};
use crate::kernel::BuiltKernel;
use crate::kernel::debian::UNPACKED;
use crate::vm::template;

/// The folders whose entries are listed one by one, in the order of the listing.
const KINDS: [&str; 8] = [
    "sources",
    "kernels",
    "klp",
    "modules",
    "images",
    "templates",
    "apt",
    "bundles",
];
/// The kind of everything else: notes, locks, the cache's own folders.
pub const OTHER: &str = "other";

/// Something in the cache.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its folder in the cache, or [`OTHER`].
    pub kind: &'static str,
    /// Its name in there.
    pub key: String,
    /// What it is, for people.
    pub what: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes on the disk that no earlier entry of the listing has counted.
    pub bytes: u64,
    /// When it was used for the last time.
    pub last_used: SystemTime,
    /// Whether it is what an interrupted command left behind.
    pub leftover: bool,
}

/// Everything in the cache.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// By kind, then by key.
    pub entries: Vec<Entry>,
}

impl Listing {
    /// Bytes on the disk in all.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// ItemKind, number of entries and bytes on the disk, in the order of the listing.
    pub fn totals(&self) -> Vec<(&'static str, usize, u64)> {
        let kinds = KINDS.into_iter().chain([OTHER]);
        let total = |kind| {
            let of_kind = || self.entries.iter().filter(move |entry| entry.kind == kind);
            (
                kind,
                of_kind().count(),
                of_kind().map(|entry| entry.bytes).sum(),
            )
        };
        kinds
            .map(total)
            .filter(|(_, count, _)| *count > 0)
            .collect()
    }
}

/// Looks through the cache. What disappears meanwhile is left out.
///
/// # Errors
///
/// A folder cannot be read.
pub fn list(cache: &Cache) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut counted = HashSet::new();
    for kind in KINDS {
        let dir = cache.dir().join(kind);
        let words = Words::read(kind, cache.dir());
        for name in names(&dir)? {
            let path = dir.join(&name);
            listing.entries.push(Entry {
                kind,
                what: words.of(&name, &path),
                bytes: disk_bytes(&path, &mut counted)?,
                last_used: words.last_used(&name, &path),
                leftover: leftover_of(&name).is_some(),
                key: name,
                path,
            });
        }
    }
    for name in names(cache.dir())? {
        let path = cache.dir().join(&name);
        let of_kind = KINDS.contains(&name.as_str());
        listing.entries.push(Entry {
            kind: OTHER,
            what: match name.as_str() {
                _ if of_kind => "the folder itself and its notes",
                "accel" => "which accelerator works, which QEMU it is",
                "ccache" => "objects that klp-build's copies share; ccache bounds it",
                "locks" => "the locks of all entries",
                "times" => "how long runs took",
                _ => "not the lab's",
            }
            .to_owned(),
            bytes: if of_kind {
                own_bytes(&path)?
            } else {
                disk_bytes(&path, &mut counted)?
            },
            last_used: last_used(&path),
            leftover: false,
            key: name,
            path,
        });
    }
    listing.entries.push(Entry {
        kind: OTHER,
        key: ".".to_owned(),
        what: "the cache's own folder".to_owned(),
        path: cache.dir().to_path_buf(),
        bytes: own_bytes(cache.dir())?,
        last_used: last_used(cache.dir()),
        leftover: false,
    });
    // A klp-build copy is used together with its kernel.
    let copies: HashMap<_, _> = listing
        .entries
        .iter()
        .filter(|entry| entry.kind == "klp")
        .map(|entry| (entry.key.clone(), entry.last_used))
        .collect();
    for kernel in listing
        .entries
        .iter_mut()
        .filter(|entry| entry.kind == "kernels")
    {
        if let Some(&used) = copies.get(&kernel.key) {
            kernel.last_used = kernel.last_used.max(used);
        }
    }
    Ok(listing)
}

/// What an interrupted command left behind: `Some` with the key of the kernel whose build can be
/// picked up again, if it is that.
pub(super) fn leftover_of(name: &str) -> Option<Option<&str>> {
    match name.strip_prefix("work-") {
        Some(key) => Some(Some(key)),
        None => name.starts_with(TEMPORARY).then_some(None),
    }
}

/// What is known about a kind's entries besides what is in them.
struct Words {
    kind: &'static str,
    /// Of sources: label, tree and last use by record.
    records: Vec<(String, String, String, SystemTime)>,
    /// Of klp-build's copies: their kernels' folder.
    kernels: PathBuf,
}

impl Words {
    fn read(kind: &'static str, cache: &Path) -> Self {
        let sources = cache.join("sources");
        let records = if kind == "sources" {
            source_records(&sources)
        } else {
            Vec::new()
        };
        let records = records.into_iter().map(|(name, tree)| {
            let used = last_used(&sources.join(&name));
            (name, tree.id, tree.label, used)
        });
        Self {
            kind,
            records: records.collect(),
            kernels: cache.join("kernels"),
        }
    }

    fn of(&self, name: &str, path: &Path) -> String {
        match leftover_of(name) {
            Some(Some(_)) => return "a build that was interrupted, or is under way".to_owned(),
            Some(None) => return "left behind, or under way".to_owned(),
            None => {}
        }
        match self.kind {
            "sources" => self.source(name),
            "kernels" if path.join(UNPACKED).is_file() => {
                "a kernel as Debian packages it".to_owned()
            }
            "kernels" if name.starts_with("debian-") => {
                "versions of a kernel's packages".to_owned()
            }
            "kernels" => kernel(path).unwrap_or_else(|| "notes on builds".to_owned()),
            "klp" => match BuiltKernel::load(&self.kernels.join(name)) {
                Some(kernel) => format!("klp-build's copy of {}", kernel.release),
                None if is_key(name) => "klp-build's copy of a kernel that is gone".to_owned(),
                None => "notes on builds".to_owned(),
            },
            "modules" => modules(path),
            "images" if path.is_dir() => "guest image".to_owned(),
            "images" => "versions of an image's packages".to_owned(),
            "templates" => template::describe(path)
                .unwrap_or_else(|| "a guest that cannot be used any more".to_owned()),
            _ => "package lists".to_owned(),
        }
    }

    fn source(&self, name: &str) -> String {
        let by_record = |(record, ..): &&(String, String, String, SystemTime)| record == name;
        let by_tree = |(_, id, ..): &&(String, String, String, SystemTime)| id == name;
        if let Some((_, _, label, _)) = self.records.iter().find(by_record) {
            return format!("resolved to {label}");
        }
        match self.records.iter().find(by_tree) {
            Some((_, _, label, _)) => label.clone(),
            None if is_key(name) => "a source that no record names".to_owned(),
            None => "a record whose source is gone".to_owned(),
        }
    }

    /// A source tree has no mark, since all of it is copied: its records have the times.
    fn last_used(&self, name: &str, path: &Path) -> SystemTime {
        let of_tree = self.records.iter().filter(|(_, id, ..)| id == name);
        let own = last_used(path);
        of_tree.map(|(.., used)| *used).fold(own, SystemTime::max)
    }
}

fn kernel(path: &Path) -> Option<String> {
    let kernel = BuiltKernel::load(path)?;
    let has = |arch: &Arch| kernel.boot_file(*arch).is_file();
    // From the end: an arm64 build has a vmlinux, which is what x86_64 boots, as well.
    let arch = Arch::ALL.into_iter().rfind(has).map_or("?", Arch::name);
    Some(format!("{} {arch}, {}", kernel.release, kernel.source))
}

/// The names of the modules in an entry.
fn modules(path: &Path) -> String {
    let names = names(path).unwrap_or_default();
    let modules: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".ko"))
        .collect();
    modules.join(" ")
}

/// The names in a folder, sorted; none if it is not there.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.at("read", dir)?,
    };
    for entry in entries {
        names.push(
            entry
                .at("read", dir)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Calls `visit` for everything below `path` and for itself. What disappears is left out.
pub(super) fn walk(path: &Path, mut visit: impl FnMut(&Metadata)) -> Result<()> {
    let mut left = vec![path.to_path_buf()];
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    while let Some(path) = left.pop() {
        let data = match fs::symlink_metadata(&path) {
            Err(error) if gone(&error) => continue,
            data => data.at("read", &path)?,
        };
        visit(&data);
        if !data.is_dir() {
            continue;
        }
        let entries = match fs::read_dir(&path) {
            Err(error) if gone(&error) => continue,
            entries => entries.at("read", &path)?,
        };
        for entry in entries {
            left.push(entry.at("read", &path)?.path());
        }
    }
    Ok(())
}

/// Bytes on the disk of what is not in `counted` yet.
fn disk_bytes(path: &Path, counted: &mut HashSet<(u64, u64)>) -> Result<u64> {
    let mut bytes = 0;
    walk(path, |data| {
        let single = data.is_dir() || data.nlink() == 1;
        if single || counted.insert((data.dev(), data.ino())) {
            bytes += blocks(data);
        }
    })?;
    Ok(bytes)
}

fn own_bytes(path: &Path) -> Result<u64> {
    Ok(blocks(&fs::symlink_metadata(path).at("read", path)?))
}

/// Bytes on the disk: `stat` counts in blocks of 512.
pub(super) fn blocks(data: &Metadata) -> u64 {
    data.blocks() * 512
}
