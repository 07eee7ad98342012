// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every piece of work needs: the project, the cache, the event stream, cancellation.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Entry};
use crate::error::{Error, Result};
use crate::event::Events;

/// Passed by reference to whatever does work.
#[derive(Debug, Clone)]
pub struct Context {
    /// The folder with `kernels/`, `images/`, `scenarios/` and `snapshots/`.
    pub project: PathBuf,
    /// Built things.
    pub cache: Cache,
    /// Where to report.
    pub events: Events,
    /// Cancelled by the first Ctrl-C.
    pub cancel: CancellationToken,
}

impl Context {
    /// An entry of the cache that is wanted.
    ///
    /// # Errors
    ///
    /// `Host` if the cache cannot be written to.
    pub fn entry(&self, kind: &str, key: &str) -> Result<Entry<'_>> {
        Entry::new(&self.cache, &self.events, &self.cancel, kind, key)
    }
}

/// Whether a folder is a project: it has `kernels/` and `images/`.
pub fn is_project(dir: &Path) -> bool {
    dir.join("kernels").is_dir() && dir.join("images").is_dir()
}

/// The project that `from` is in: the nearest folder upwards that is one.
pub fn find_project(from: &Path) -> Result<PathBuf> {
    from.ancestors()
        .find(|dir| is_project(dir))
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            let what = format!(
                "no folder from {} upwards holds kernels/ and images/",
                from.display()
            );
            Error::new(crate::error::Blame::Usage, what)
                .help("run lab in a checkout of the project, or name it with --project DIR")
        })
}
