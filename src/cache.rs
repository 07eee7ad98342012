// SPDX-License-Identifier: MIT OR Apache-2.0
//! The content-addressed cache in the user's cache directory.
//!
//! An entry is a folder that is complete or absent: it is made under a temporary name in the same
//! file system and renamed. Whoever makes one holds the entry's lock, so that two labs never build
//! the same thing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, IoContext, Result};

/// Hex digits of a key that are shown and used in names: 80 bits.
const KEY_DIGITS: usize = 20;

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

    /// A folder for one kind of things, made if needed.
    pub fn kind(&self, kind: &str) -> Result<PathBuf> {
        let dir = self.dir.join(kind);
        fs::create_dir_all(&dir).at("create", &dir)?;
        Ok(dir)
    }

    /// Takes the exclusive lock of `name`; `on_wait` is called once if somebody else holds it.
    /// The lock ends with the returned file, also when the process is killed.
    pub async fn lock(&self, name: &str, on_wait: impl FnOnce()) -> Result<File> {
        let path = self.kind("locks")?.join(format!("{name}.lock"));
        let file = File::create(&path).at("create", &path)?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => on_wait(),
            Err(fs::TryLockError::Error(error)) => return Err(error).at("lock", &path),
        }
        blocking(move || {
            file.lock().at("lock", &path)?;
            Ok(file)
        })
        .await
    }
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

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
        .prefix(".tmp-")
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
    fn a_dropped_staging_folder_leaves_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("entry");
        let staging = staging_dir(&entry).unwrap();
        fs::write(staging.path().join("half"), "x").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
