// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing what nobody needs any more.
//!
//! **Who may still use it.** A lab holds an entry's lock while it makes the entry, and not while
//! guests run. So nothing is removed whose lock somebody holds; and while any other lab runs,
//! nothing that was used within a day. An entry is first renamed out of the way, so that it is
//! complete or absent for everybody else, and put back if it was used in the meantime: labs mark an
//! entry before they look for it.
//!
//! **What is freed.** The disk gets a file's space back when its last name goes. A source's files
//! live on in the kernels that were built from it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::export::source_records;
use super::list::{Entry, OTHER, blocks, leftover_of, list, walk};
use crate::cache::{Cache, LABS, USED, is_key, last_used, staging_dir};
use crate::error::{Error, IoContext, Result};

/// How old a leftover must be; and how long nothing of another lab's is touched.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// By how much a source outlives a kernel that was used at the same time.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// What to remove.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What was not used for this long.
    pub unused_for: Duration,
    /// The least recently used, until the cache has so many bytes or fewer.
    pub max_size: Option<u64>,
    /// Remove nothing, only list what would be removed.
    pub dry_run: bool,
}

/// What a prune did, or would do.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What went, each with the bytes that the disk got back for it.
    pub removed: Vec<(Entry, u64)>,
    /// What would have gone but is in use, with the reason.
    pub kept: Vec<(Entry, &'static str)>,
    /// Bytes on the disk that are left.
    pub left: u64,
}

/// Removes what `policy` says.
///
/// # Errors
///
/// `Host` if something cannot be read or removed, `Interrupted`; what was removed by then is gone.
pub fn prune(cache: &Cache, policy: &Policy, cancel: &CancellationToken) -> Result<Pruned> {
    // Held to the end: no lab begins to use anything meanwhile.
    let alone = cache.try_lock(LABS)?;
    let mut entries = list(cache)?.entries;
    date_back(&mut entries, policy.dry_run);
    let mut pruned = Pruned {
        left: entries.iter().map(|entry| entry.bytes).sum(),
        ..Pruned::default()
    };
    entries.retain(|entry| entry.leftover || is_entry(entry));
    // Leftovers first; and a kernel after its klp-build copy, a source after its records.
    let rank = |entry: &Entry| match entry.kind {
        "kernels" => 1,
        "sources" => 2 + u8::from(is_key(&entry.key)),
        _ => 0,
    };
    // A source is looked up moments before its kernel, and frees next to nothing as long as that is
    // there: without this, --max-size would take it first and so cost a download.
    let order = |entry: &Entry| match entry.kind {
        "sources" => entry.last_used + HOUR,
        _ => entry.last_used,
    };
    entries.sort_by_key(|entry| (!entry.leftover, order(entry), rank(entry)));
    let mut run = Run {
        cache,
        policy,
        alone: alone.is_some(),
        names: HashMap::new(),
        gone: HashSet::new(),
    };
    for entry in entries {
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let age = entry.last_used.elapsed().unwrap_or_default();
        let due = if entry.leftover {
            age >= DAY
        } else {
            age >= policy.unused_for || policy.max_size.is_some_and(|max| pruned.left > max)
        };
        if !due {
            continue;
        }
        match run.remove(&entry, age)? {
            Ok(bytes) => {
                pruned.left = pruned.left.saturating_sub(bytes);
                pruned.removed.push((entry, bytes));
            }
            Err(reason) => pruned.kept.push((entry, reason)),
        }
    }
    Ok(pruned)
}

/// Dates what was used in the future, before the clock was set back, as if it were used now: else
/// it would never get old.
fn date_back(entries: &mut [Entry], dry_run: bool) {
    let now = SystemTime::now();
    for entry in entries.iter_mut().filter(|entry| entry.last_used > now) {
        entry.last_used = now;
        let dated = [entry.path.join(USED), entry.path.clone()];
        if let (false, Some(file)) = (dry_run, dated.iter().find_map(|path| File::open(path).ok()))
        {
            let _ = file.set_modified(now);
        }
    }
}

/// Whether it is something that can be removed at all, and not a note of a few bytes.
fn is_entry(entry: &Entry) -> bool {
    let key = &*entry.key;
    match entry.kind {
        OTHER => false,
        "apt" => entry.path.is_dir(),
        _ => is_key(key) || key.ends_with(".json"),
    }
}

struct Run<'a> {
    cache: &'a Cache,
    policy: &'a Policy,
    alone: bool,
    /// How many names of a file are gone so far, in a dry run.
    names: HashMap<(u64, u64), u64>,
    /// `kind/key` of what is gone.
    gone: HashSet<String>,
}

impl Run<'_> {
    /// Removes an entry and returns the bytes that this frees, or why it must stay.
    fn remove(
        &mut self,
        entry: &Entry,
        age: Duration,
    ) -> Result<std::result::Result<u64, &'static str>> {
        if !self.alone && age < DAY {
            return Ok(Err("another lab is running and may use it"));
        }
        let Some(_locks) = self.locks(entry)? else {
            return Ok(Err("another lab works on it"));
        };
        if let Some(reason) = self.needed_by(entry) {
            return Ok(Err(reason));
        }
        if self.policy.dry_run {
            let bytes = freed(&entry.path, &mut self.names)?;
            self.gone.insert(format!("{}/{}", entry.kind, entry.key));
            return Ok(Ok(bytes));
        }
        let staging = staging_dir(&entry.path)?;
        let aside = staging.path().join(&entry.key);
        fs::rename(&entry.path, &aside).at("remove", &entry.path)?;
        if used_since(&aside, entry.last_used) {
            fs::rename(&aside, &entry.path).at("put back", &entry.path)?;
            return Ok(Err("another lab has just used it"));
        }
        let bytes = freed(&aside, &mut HashMap::new())?;
        staging.close().at("remove", &aside)?;
        Ok(Ok(bytes))
    }

    /// The locks of all that may make or use the entry without a mark; `None` if one is held.
    fn locks(&self, entry: &Entry) -> Result<Option<Vec<File>>> {
        let key = entry.key.trim_end_matches(".json");
        let names = match (entry.kind, leftover_of(&entry.key)) {
            (_, Some(Some(kernel))) => vec![format!("kernel-{kernel}")],
            // Nobody knows whose it is. It is a day old.
            (_, Some(None)) => Vec::new(),
            ("kernels", None) => vec![format!("kernel-{key}")],
            ("klp", None) => vec![format!("klp-{key}")],
            ("modules", None) => vec![format!("modules-{key}")],
            ("templates", None) => vec![format!("template-{key}")],
            ("sources", None) if key != entry.key => vec![format!("source-{key}")],
            ("images", None) if key != entry.key => {
                vec![key.replacen("packages-", "image-", 1)]
            }
            // These are made under the locks of what is wished for, whatever it turns out to be.
            ("sources", None) => self.all_locks("source-")?,
            ("images", None) => self.all_locks("image-")?,
            // `SUITE-ARCH-KEY`
            _ => vec![format!("apt-{}", key.rsplit('-').next().unwrap_or(key))],
        };
        let mut locks = Vec::new();
        for name in names {
            match self.cache.try_lock(&name)? {
                Some(lock) => locks.push(lock),
                None => return Ok(None),
            }
        }
        // What survives a killed lab has klp-build's own mark locked.
        if entry.kind == "klp"
            && let Ok(running) = File::open(entry.path.join("running"))
        {
            match running.try_lock() {
                Ok(()) => locks.push(running),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error).at("lock", &entry.path),
            }
        }
        Ok(Some(locks))
    }

    fn all_locks(&self, prefix: &str) -> Result<Vec<String>> {
        let dir = self.cache.kind("locks")?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).at("read", &dir)? {
            let name = entry.at("read", &dir)?.file_name();
            let name = name.to_string_lossy();
            if let Some(name) = name
                .strip_suffix(".lock")
                .filter(|name| name.starts_with(prefix))
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Why an entry must stay as long as another one does.
    fn needed_by(&self, entry: &Entry) -> Option<&'static str> {
        let stays = |kind: &str, key: &str| {
            self.cache.dir().join(kind).join(key).exists()
                && !self.gone.contains(&format!("{kind}/{key}"))
        };
        match entry.kind {
            "kernels" if stays("klp", &entry.key) => Some("klp-build's copy of it is in use"),
            "sources" if is_key(&entry.key) => source_records(&self.cache.dir().join("sources"))
                .iter()
                .any(|(record, tree)| tree.id == entry.key && stays("sources", record))
                .then_some("a record refers to it"),
            _ => None,
        }
    }
}

/// Whether an entry that was taken away has been used after it was listed.
fn used_since(aside: &Path, listed: SystemTime) -> bool {
    // A source's own time never changes, and a kernel's may be that of its klp-build copy.
    last_used(aside) > listed
}

/// Bytes that the disk gets back when `path` goes. `names` counts the names of a file that go.
fn freed(path: &Path, names: &mut HashMap<(u64, u64), u64>) -> Result<u64> {
    let mut bytes = 0;
    walk(path, |data| {
        if data.is_dir() || data.nlink() == 1 {
            bytes += blocks(data);
            return;
        }
        let gone = names.entry((data.dev(), data.ino())).or_default();
        *gone += 1;
        if *gone == data.nlink() {
            bytes += blocks(data);
        }
    })?;
    Ok(bytes)
}
