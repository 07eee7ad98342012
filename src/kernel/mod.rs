// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels: definition → source tree → patched, configured, built.
//!
//! A built kernel is a cache entry that holds the whole tree: modules must be built against the
//! very tree their kernel came from. Its release carries the cache key, so that the kernel itself
//! refuses a module of another variant (vermagic).

pub mod build;
pub mod ccache;
pub mod config;
pub mod debian;
pub mod definition;
mod early;
pub mod patches;
mod portable;
pub mod prebuilt;
mod relative;
pub mod source;
pub(crate) mod tree;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::cache::Entry;
use crate::context::Context;
use crate::error::{Error, Result};
pub use definition::Definition;

/// A kernel in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuiltKernel {
    /// The name of its definition; none if it is from an older lab.
    #[serde(default)]
    pub name: String,
    /// Its cache key.
    pub key: String,
    /// `uname -r`.
    pub release: String,
    /// Where the source came from: `linux-source-7.3 7.3.4-1~bpo13+1`.
    pub source: String,
    /// Kernels of one family differ in their patches only and share objects.
    pub family: String,
    /// Objects that its build made.
    pub objects: u64,
    /// What it is for, if it was built elsewhere. Its `tree/build` is a link to where, and its image
    /// is in the entry itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prebuilt: Option<Arch>,
    /// The entry's folder.
    #[serde(skip)]
    pub dir: PathBuf,
}

impl BuiltKernel {
    /// The source tree.
    pub fn tree(&self) -> PathBuf {
        self.dir.join(TREE)
    }

    /// Its objects, its config and its tables of symbols.
    pub fn build_dir(&self) -> PathBuf {
        self.tree().join(BUILD)
    }

    /// What QEMU boots.
    pub fn boot_file(&self, arch: Arch) -> PathBuf {
        match self.prebuilt {
            // As a file that is not there, as for any kernel of another architecture.
            Some(other) if other != arch => return self.dir.join(arch.name()),
            Some(_) => return self.dir.join(BOOT),
            None => {}
        }
        self.tree().join(BUILD).join(arch.row().boot_file)
    }

    /// Its whole configuration.
    pub fn config(&self) -> PathBuf {
        self.tree().join(BUILD).join(".config")
    }

    /// An archive to follow the image's: the modules without which the guest has no devices.
    pub fn early(&self) -> Option<PathBuf> {
        Some(self.dir.join(EARLY)).filter(|early| early.is_file())
    }

    /// Reads an entry; `None` if it is not there or unreadable.
    pub fn load(dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(dir.join(MANIFEST)).ok()?;
        let mut kernel: Self = serde_json::from_str(&text).ok()?;
        dir.clone_into(&mut kernel.dir);
        Some(kernel)
    }
}

/// The kind of entries that kernels are.
const CACHE: &str = "kernels";

/// The entry of a kernel, which is whole if its manifest can be read.
fn entry<'a>(ctx: &'a Context, key: &str) -> Result<Entry<'a>> {
    let entry = ctx.entry(CACHE, key)?.locked_as(format!("kernel-{key}"));
    Ok(entry.whole_if(|dir| BuiltKernel::load(dir).is_some()))
}

/// The kernel in an entry that is whole.
fn loaded(dir: &Path) -> Result<BuiltKernel> {
    let gone = || Error::lab(format!("the kernel in {} is gone", dir.display()));
    BuiltKernel::load(dir).ok_or_else(gone)
}

/// How much of a kernel's key is in its release.
const RELEASE_DIGITS: usize = 12;
/// The source tree in an entry.
const TREE: &str = "tree";
/// The objects, a direct child of the tree: the build system then uses relative paths only, and
/// the whole can be copied and renamed without a rebuild.
pub const BUILD: &str = "build";
/// The image of a kernel that was built elsewhere.
const BOOT: &str = "boot";
/// The modules that such a kernel needs before the guest can be reached.
const EARLY: &str = "early.cpio";
/// Written last.
const MANIFEST: &str = "kernel.json";
