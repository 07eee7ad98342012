// SPDX-License-Identifier: MIT OR Apache-2.0
//! The modules of the kernel's own livepatch selftests, from the very tree of a kernel: all of
//! `tools/testing/selftests/livepatch/test_modules`, built once for each kernel.

use std::fs;
use std::path::{Path, PathBuf};

use super::Module;
use super::build::{check_vermagic, make_modules};
use crate::arch::Arch;
use crate::cache::{self, KeyBuilder};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::kernel::BuiltKernel;
use crate::scenario::kernel_module_name;

/// Counts up when the way the modules are built changes.
const RECIPE: &str = "kselftest-1";
/// Where they are in a kernel tree.
const TEST_MODULES: &str = "tools/testing/selftests/livepatch/test_modules";

/// The folder of the built `test_modules` of `kernel`, from the cache if they are there.
pub async fn build(ctx: &Context, kernel: &BuiltKernel, arch: Arch) -> Result<PathBuf> {
    let mut key = KeyBuilder::new(RECIPE);
    key.part("kernel", kernel.key.as_bytes());
    let key = key.finish();
    let entry = ctx.cache.kind("modules")?.join(&key);
    let _lock = ctx.cache.lock(&format!("modules-{key}"), || {}).await?;
    cache::mark_used(&entry);
    if entry.is_dir() {
        return Ok(entry);
    }
    let staging = cache::staging_dir(&entry)?;
    copy_sources(&kernel.tree().join(TEST_MODULES), staging.path())?;
    make_modules(ctx, kernel, arch, staging.path(), "the kernel's selftests").await?;
    cache::publish(staging, &entry)?;
    Ok(entry)
}

/// Those of the modules that a scenario names.
pub fn find<'a>(
    folder: &Path,
    kernel: &BuiltKernel,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<Module>> {
    names
        .map(|name| {
            let path = folder.join(format!("{}.ko", kernel_module_name(name)));
            if !path.is_file() {
                let what = format!("the kernel's {TEST_MODULES} has no module `{name}`");
                return Err(Error::new(Blame::File, what)
                    .help("correct the scenario, or take a kernel that has it"));
            }
            check_vermagic(&path, &kernel.release)?;
            Ok(Module {
                name: name.to_owned(),
                path,
            })
        })
        .collect()
}

/// Kbuild writes beside the sources, and the tree is not ours to write to.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).at("read", from)? {
        let entry = entry.at("read", from)?;
        let path = entry.path();
        let is_source =
            |name: &str| name == "Makefile" || name.ends_with(".c") || name.ends_with(".h");
        let name = entry.file_name();
        if name.to_str().is_some_and(is_source) && path.is_file() {
            fs::copy(&path, to.join(&name)).at("copy", &path)?;
        }
    }
    Ok(())
}
