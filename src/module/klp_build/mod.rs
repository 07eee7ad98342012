// SPDX-License-Identifier: MIT OR Apache-2.0
//! Livepatches from source patches, made by the kernel tree's own `scripts/livepatch/klp-build`.
//!
//! **A private copy of the tree.** klp-build works in its tree: it wants `.config` and all objects
//! there, applies the patches to it and reverts them. Scenarios' modules are built against the
//! kernel's own tree at the same time, and that tree must stay what was booted. The copy, one per
//! kernel, is hard links to the kernel's sources; patch(1), `sed -i` and `mv`, which is all that
//! klp-build changes sources with, put a new file in the place of the old one and so break the
//! link.
//!
//! **A lock.** Two klp-builds in one tree would see each other's patches, so the cache's lock of
//! the copy is held from its preparation to the finished module. What survives a killed lab (make
//! and its compilers are not the lab's own children) still holds the lock on the file `running`,
//! and is waited for.
//!
//! **Time and space.** The first livepatch of a kernel compiles all of it again, with one section
//! per function: 5 to 6 min on 2 idle cores, unless ccache has seen most of it for another kernel.
//! `klp-tmp` keeps that original build, and each further livepatch of one file takes 30 to 50 s, most
//! of it linking. A copy takes 370 MB besides the shared sources, 150 MB of it in `klp-tmp`; deleting
//! the cache's folder `klp` costs only time.
//!
//! **Why the module fits the booted kernel.** The original build has the booted kernel's source,
//! config, compiler and release, but not its addresses: `-ffunction-sections` lays it out anew. No
//! address gets into a livepatch: functions to patch and klp relocations name a symbol and, if
//! there are several of that name, its position among them (sympos). The linker keeps the order of
//! the objects in either build, so that positions agree; of the 377 such names of a 7.3 kernel all
//! do but `__key.N`, which are empty without lockdep.
//!
//! `unbuilt.rs` finds before the build what it would drop, `tool.rs` runs it, `tree.rs` mends the copy after
//! it, and `said.rs` reads its messages.

mod makefile;
mod patch;
mod said;
mod tool;
mod tree;
mod unbuilt;

use std::fs;
use std::path::{Path, PathBuf};

use super::build::check_vermagic;
use super::{CACHE, Module};
use crate::arch::Arch;
use crate::cache::{KeyBuilder, seal};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::files::read_regular;
use crate::host;
use crate::kernel::BuiltKernel;
use crate::kernel::patches::Patch;
use crate::scenario::{Replace, kernel_module_name};
use patch::files_of;
use tool::{Job, StagedPatch};
use tree::PrivateTree;

/// Counts up when the way livepatches are built, or what is kept of that, changes.
const RECIPE: &str = "klp-build-2";
/// Bytes of a source patch; the longest of a kernel release candidate have a few mebibytes.
const PATCH_MAX: u64 = 16 << 20;
/// The tool, in a kernel's tree.
const SCRIPT: &str = "scripts/livepatch/klp-build";
/// What klp-build said, beside the module.
const LOG: &str = "klp-build.log";
/// The most bytes of that which are read back.
const LOG_MAX: u64 = 64 << 20;
/// Warnings of a livepatch that are told; its record has all of them.
const TOLD: usize = 3;

/// A livepatch to make from source patches.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The livepatch's name in the scenario, such as `cmdline-fix`.
    pub name: &'a str,
    /// Its `replace`.
    pub replace: Replace,
    /// Its patches, in the order in which they are applied.
    pub patches: Vec<PathBuf>,
}

/// Builds the livepatch, or finds it in the cache.
pub async fn build(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    request: &Request<'_>,
) -> Result<Module> {
    if arch.row().klp_build.is_none() {
        let known = Arch::ALL
            .into_iter()
            .filter(|arch| arch.row().klp_build.is_some());
        let known = known.map(Arch::name).collect::<Vec<_>>().join(", ");
        let what = format!(
            "{} cannot be built for {arch}: the kernel's klp-build knows {known} only",
            request.name
        );
        let help = format!("add `requires: {{ arch: {known} }}` to the scenario");
        return Err(Error::new(Blame::File, what).help(help));
    }
    let patches = read_patches(&request.patches)?;
    let key = key(kernel, request, &patches);
    // klp-build names the module after its file, and the kernel's build turns `-` into `_`: with
    // none in the name, the file, the module and the livepatch in sysfs are all called the same.
    let file = format!("{}.ko", kernel_module_name(request.name));
    let make = async |stage: &Path| {
        make_module(ctx, kernel, arch, request, &patches, stage, &file).await?;
        seal::modules_in(stage)
    };
    let path = ctx.entry(CACHE, &key)?.get_or_make(make).await?.join(&file);
    check_vermagic(&path, &kernel.release)?;
    let module = Module {
        name: request.name.to_owned(),
        path,
    };
    warn(ctx, kernel, &module);
    Ok(module)
}

/// What klp-build said of a module when it made it, for a record: its warnings, and the functions that
/// are new and changed. Nothing if it has not made it.
pub fn findings(module: &Module) -> String {
    let findings: Vec<_> = said::findings(&output(module)).map(str::to_owned).collect();
    match &findings[..] {
        [] => String::new(),
        lines => lines.join("\n") + "\n",
    }
}

fn output(module: &Module) -> String {
    let log = module.path.with_file_name(LOG);
    // Without it, only the record is poorer.
    let bytes = read_regular(&log, LOG_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tells klp-build's warnings, of a module that is in the cache as of one that was just made.
fn warn(ctx: &Context, kernel: &BuiltKernel, module: &Module) {
    let output = output(module);
    let of = format!("livepatch {} on {}", module.name, kernel.name);
    let mut warnings = said::warnings(&output);
    for warning in warnings.by_ref().take(TOLD) {
        ctx.events.note(format!("{of}: {warning}"));
    }
    let more = warnings.count();
    if more > 0 {
        ctx.events
            .note(format!("{of}: {more} more warnings are in the record"));
    }
}

fn read_patches(paths: &[PathBuf]) -> Result<Vec<Patch>> {
    let read = |path: &PathBuf| {
        let text = read_regular(path, PATCH_MAX).map_err(|error| {
            error.help("name a file that exists; the path is relative to the scenario's folder")
        })?;
        Ok(Patch {
            path: path.clone(),
            text,
        })
    };
    paths.iter().map(read).collect()
}

fn key(kernel: &BuiltKernel, request: &Request<'_>, patches: &[Patch]) -> String {
    let mut key = KeyBuilder::new(RECIPE);
    key.part("kernel", kernel.key.as_bytes())
        .part("name", request.name.as_bytes())
        .part("replace", format!("{:?}", request.replace).as_bytes());
    for patch in patches {
        key.part("patch", &patch.text);
    }
    key.finish()
}

/// Makes what the entry has: the module, and the patches that it was made from. The private tree is
/// no such entry, because klp-build works in it.
async fn make_module(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    request: &Request<'_>,
    patches: &[Patch],
    stage: &Path,
    file: &str,
) -> Result<()> {
    host::require_packages(&host::everything(&[arch]))?;
    if !kernel.tree().join(SCRIPT).is_file() {
        let what = format!("kernel {} has no {SCRIPT}", kernel.release);
        return Err(Error::new(Blame::Kernel, what)
            .help("take a kernel of Linux 7.0 or later, or write `patches:` instead"));
    }
    let notes = unbuilt::check(ctx, kernel, arch, request.name, patches).await?;
    let lock = format!("klp-{}", kernel.key);
    let waiting = || {
        let release = &kernel.release;
        ctx.events
            .note(format!("waiting for another klp-build of {release}"));
    };
    let _lock = ctx.cache.lock(&lock, &ctx.cancel, waiting).await?;
    let private = PrivateTree::of(ctx, kernel)?;
    private.prepare(ctx, kernel).await?;
    let job = Job {
        ctx,
        kernel,
        arch,
        request,
        private: &private,
        patches: &stage_patches(patches, stage)?,
        stage,
        file,
    };
    job.run(&notes).await
}

/// The very bytes that are in the key, under names that klp-build can use.
fn stage_patches(patches: &[Patch], dir: &Path) -> Result<Vec<StagedPatch>> {
    let stage = |(index, patch): (usize, &Patch)| {
        let name = patch.path.file_name().unwrap_or_default().to_string_lossy();
        let path = dir.join(format!("{}-{name}", index + 1));
        fs::write(&path, &patch.text).at("write", &path)?;
        let text = String::from_utf8_lossy(&patch.text).into_owned();
        Ok(StagedPatch {
            from: patch.path.clone(),
            path,
            files: files_of(&text),
            text,
        })
    };
    patches.iter().enumerate().map(stage).collect()
}
