// SPDX-License-Identifier: MIT OR Apache-2.0
//! The content-addressed cache in the user's cache directory.
//!
//! An entry is a folder that is complete or absent: it is made under a temporary name in the same
//! file system and renamed. Whoever makes one holds the entry's lock, so that two labs never build
//! the same thing. Whoever uses one marks it first ([`mark_used`]), so that `lab cache prune` can
//! tell what nobody needs any more.

mod entry;
pub mod seal;

pub use entry::{Claim, Entry, Making};

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, IoContext, Result};

/// Hex digits of a key that are shown and used in names: 80 bits.
const KEY_DIGITS: usize = 20;
/// The file in an entry's folder whose time is that of the last use.
pub(crate) const USED: &str = ".used";
/// What the lab notes in an entry's folder while it uses it: of this host, and no part of the entry.
pub(crate) const NOTES: [&str; 2] = [USED, seal::COMPARED];
/// How the names of things begin that are not finished yet: [`staging_dir`]'s, and those of
/// [`write_atomically`], which are tempfile's own.
pub(crate) const TEMPORARY: &str = ".tmp";
/// The lock that every lab shares which uses the cache, and that a prune may have to itself.
pub(crate) const LABS: &str = "labs";

/// Where built things are kept.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// `$LAB_CACHE_DIR`, else `$XDG_CACHE_HOME/livepatch-lab`, else `~/.cache/livepatch-lab`.
    pub fn from_env() -> Result<Self> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dir = var("LAB_CACHE_DIR")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(var("XDG_CACHE_HOME")?).join("livepatch-lab")))
            .or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache/livepatch-lab")))
            .ok_or_else(|| {
                Error::host("neither HOME nor XDG_CACHE_HOME is set").help("set LAB_CACHE_DIR")
            })?;
        let dir = std::path::absolute(&dir).at("resolve", &dir)?;
        let text = dir.to_string_lossy();
        if text.contains(|c: char| c.is_whitespace() || c == ':') {
            let what = format!("the cache directory `{text}` has a space or a colon in its path");
            return Err(Error::host(what)
                .help("the kernel's build system cannot work there: set LAB_CACHE_DIR"));
        }
        fs::create_dir_all(&dir).at("create", &dir)?;
        Ok(Self { dir })
    }

    /// A cache in `dir`, which must exist.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
        }
    }

    /// A folder for one kind of things, made if needed.
    pub fn kind(&self, kind: &str) -> Result<PathBuf> {
        let dir = self.dir.join(kind);
        fs::create_dir_all(&dir).at("create", &dir)?;
        Ok(dir)
    }

    /// The cache's own folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the exclusive lock of `name`; `on_wait` is called once if somebody else holds it.
    /// The lock ends with the returned file, also when the process is killed.
    ///
    /// # Errors
    ///
    /// The lock's file cannot be made, or `Interrupted` while somebody else holds it.
    pub async fn lock(
        &self,
        name: &str,
        cancel: &CancellationToken,
        on_wait: impl FnOnce(),
    ) -> Result<File> {
        if let Some(file) = self.try_lock(name)? {
            return Ok(file);
        }
        on_wait();
        let (file, path) = self.lock_file(name)?;
        let locked = blocking(move || {
            file.lock().at("lock", &path)?;
            Ok(file)
        });
        unless_cancelled(locked, cancel).await
    }

    /// Takes the exclusive lock of `name`, or returns `None` if somebody else holds it.
    ///
    /// # Errors
    ///
    /// The lock's file cannot be made.
    pub fn try_lock(&self, name: &str) -> Result<Option<File>> {
        let (file, path) = self.lock_file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at("lock", &path),
        }
    }

    /// Says that this lab uses entries, until the returned file is dropped: those that it found
    /// are used without their locks. Waits for the end of a prune, which takes seconds.
    ///
    /// # Errors
    ///
    /// The lock's file cannot be made, or `Interrupted` during a prune.
    pub async fn in_use(&self, cancel: &CancellationToken) -> Result<File> {
        let (file, path) = self.lock_file(LABS)?;
        let locked = blocking(move || {
            file.lock_shared().at("lock", &path)?;
            Ok(file)
        });
        unless_cancelled(locked, cancel).await
    }

    pub(crate) fn lock_file(&self, name: &str) -> Result<(File, PathBuf)> {
        let path = self.kind("locks")?.join(format!("{name}.lock"));
        let file = File::create(&path).at("create", &path)?;
        Ok((file, path))
    }
}

/// Waits for a lock. If it is cancelled, the thread goes on waiting, and goes with the process.
async fn unless_cancelled(
    locked: impl Future<Output = Result<File>>,
    cancel: &CancellationToken,
) -> Result<File> {
    tokio::select! {
        locked = locked => locked,
        () = cancel.cancelled() => Err(Error::interrupted()),
    }
}

/// Notes that an entry is used now: a folder in its file [`USED`], a file in its own time. Call it
/// *before* looking whether the entry is there: a prune that comes first then finds the mark or
/// has taken the entry away as a whole. Failure is ignored: it only makes the entry look older.
pub fn mark_used(entry: &Path) {
    let folder = entry.is_dir();
    let mark = if folder {
        entry.join(USED)
    } else {
        entry.to_path_buf()
    };
    let file = File::options().append(true).create(folder).open(mark);
    let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
}

/// When an entry was used for the last time: its mark, or its own time if it has none.
pub(crate) fn last_used(entry: &Path) -> SystemTime {
    let time = |path: &Path| fs::symlink_metadata(path).and_then(|data| data.modified());
    time(&entry.join(USED))
        .or_else(|_| time(entry))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whether `text` can be a key: 20 lower-case hex digits.
pub(crate) fn is_key(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == KEY_DIGITS && text.bytes().all(hex)
}

/// Runs blocking work off the runtime's thread. No child process may be started in there.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::lab(format!("a worker thread failed: {error}"))))
}

/// A content address under construction: labelled parts, so that neighbours cannot run together.
#[derive(Clone)]
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// `recipe` names what is built and the version of the way it is built.
    pub fn new(recipe: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.part("recipe", recipe.as_bytes());
        key
    }

    /// Adds a labelled part.
    pub fn part(&mut self, label: &str, data: &[u8]) -> &mut Self {
        for bytes in [label.as_bytes(), data] {
            self.0.update((bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
        self
    }

    /// The key: lower-case hex.
    pub fn finish(&self) -> String {
        hex(&self.0.clone().finalize())[..KEY_DIGITS].to_owned()
    }
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What tells a file from another one at the same place, without reading it.
///
/// # Errors
///
/// `Host` if it cannot be looked at.
pub(crate) fn identity(path: &Path) -> Result<String> {
    let data = fs::metadata(path).at("read", path)?;
    Ok(format!(
        "{}:{} {} bytes {}.{:09} {}.{:09}",
        data.dev(),
        data.ino(),
        data.len(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec()
    ))
}

/// The sha256 of a file, in hex.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).at("open", path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match std::io::Read::read(&mut file, &mut block).at("read", path)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&block[..length]),
        }
    }
}

/// Writes a file under a temporary name, then renames it.
pub fn write_atomically(path: &Path, data: &[u8]) -> Result<()> {
    use std::io::Write;
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).at("create", parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent).at("create a file in", parent)?;
    file.write_all(data).at("write", path)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).at("write", path)?;
    file.persist(path)
        .map_err(|error| error.error)
        .at("write", path)?;
    Ok(())
}

/// A fresh folder next to `path`, removed unless it is published by a rename.
pub fn staging_dir(path: &Path) -> Result<tempfile::TempDir> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).at("create", parent)?;
    tempfile::Builder::new()
        .prefix(&format!("{TEMPORARY}-"))
        .tempdir_in(parent)
        .at("create a folder in", parent)
}

/// Renames a finished staging folder to its final name.
pub fn publish(staging: tempfile::TempDir, path: &Path) -> Result<()> {
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(staging.path(), readable).at("publish", path)?;
    fs::rename(staging.path(), path).at("publish", path)?;
    // Renamed away: there is nothing left to remove.
    let _ = staging.keep();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let mut first = KeyBuilder::new("test");
        first.part("a", b"bc");
        let mut second = KeyBuilder::new("test");
        second.part("ab", b"c");
        assert_ne!(first.finish(), second.finish());
    }

    #[test]
    fn a_use_is_marked_in_folders_and_on_files() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("folder"), dir.path().join("file"));
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "text").unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let marked = File::open(&file).unwrap();
        marked.set_modified(long_ago).unwrap();
        for entry in [&folder, &file] {
            mark_used(entry);
            assert!(last_used(entry).elapsed().unwrap().as_secs() < 60);
        }
        assert!(folder.join(USED).is_file());
        assert_eq!(fs::read(&file).unwrap(), b"text");
        mark_used(&dir.path().join("absent"));
        assert!(!dir.path().join("absent").exists());
    }

    #[test]
    fn a_dropped_staging_folder_leaves_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("entry");
        let staging = staging_dir(&entry).unwrap();
        fs::write(staging.path().join("half"), "x").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
