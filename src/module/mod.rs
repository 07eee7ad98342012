// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules: scenario → generated C → `.ko`, built against the very tree of the kernel.

pub mod build;
pub mod generate;
mod headers;
pub mod klp_build;
pub mod kselftest;
pub mod prebuilt;

use std::fs::File;
use std::path::PathBuf;

use crate::cache;
use crate::context::Context;
use crate::error::Result;

/// The folder in the cache of what has `key`, marked as used, and the lock to make it with.
async fn locked_entry(ctx: &Context, key: &str) -> Result<(PathBuf, File)> {
    let entry = ctx.cache.kind("modules")?.join(key);
    let name = format!("modules-{key}");
    let lock = ctx.cache.lock(&name, &ctx.cancel, || {}).await?;
    cache::mark_used(&entry);
    Ok((entry, lock))
}

/// A built module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its name in the scenario.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}
