// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine's folder for its sockets and its initramfs, in the system's folder for such things: a
//! unix socket's path may have 107 bytes.
//!
//! It goes with the machine. What a killed lab has left behind goes when the next one starts a
//! machine: nobody holds its lock any more.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Once;

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::error::{IoContext, Result};

const PREFIX: &str = "lab-";
/// The file that the lab which owns the folder has locked.
const LOCK: &str = "lock";

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one, mode 0700. The first in a process removes those that nobody owns.
    pub(super) fn new() -> Result<Self> {
        static SWEPT: Once = Once::new();
        let temp = std::env::temp_dir();
        SWEPT.call_once(|| sweep(&temp));
        Self::new_in(&temp)
    }

    fn new_in(temp: &Path) -> Result<Self> {
        let dir = Builder::new()
            .prefix(PREFIX)
            // The initramfs has this run's keys in it.
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(temp)
            .at("create a folder in", temp)
            .map_err(|error| error.help("set TMPDIR to a folder that you can write to"))?;
        // Locked before it has its name: whoever finds it finds it locked.
        let lock = NamedTempFile::new_in(dir.path()).at("create a file in", dir.path())?;
        lock.as_file().lock().at("lock", lock.path())?;
        let name = dir.path().join(LOCK);
        let lock = lock.persist(&name).map_err(|error| error.error);
        Ok(Self {
            _lock: lock.at("create", &name)?,
            dir,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes this user's folders whose lab has gone. What cannot be removed does not matter.
fn sweep(temp: &Path) {
    let user = rustix::process::getuid().as_raw();
    for entry in fs::read_dir(temp).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(entry.path())
                .is_ok_and(|data| data.is_dir() && data.uid() == user);
        if let Ok(lock) = File::open(entry.path().join(LOCK))
            && is_ours
            && lock.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_owns_goes_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let owned = Scratch::new_in(temp.path()).unwrap();
        let orphan = temp.path().join("lab-orphan");
        let other = temp.path().join("lab-other");
        for dir in [&orphan, &other] {
            fs::create_dir(dir).unwrap();
        }
        fs::write(orphan.join(LOCK), "").unwrap();
        fs::write(other.join("file"), "somebody else's").unwrap();
        sweep(temp.path());
        assert!(owned.path().exists() && other.exists() && !orphan.exists());
        let path = owned.path().to_path_buf();
        drop(owned);
        assert!(!path.exists());
    }
}
