// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building a scenario's modules, and the proof that they belong to their kernel.
//!
//! A module built with another variant's headers loads without complaint and carries the wrong
//! replace tag. Three things make that impossible: the cache key holds the kernel's key, the
//! kernel's release (in each module's vermagic) holds it too, and both are compared before a
//! module is ever sent to a guest.

use std::fs;
use std::path::Path;

use super::Module;
use super::generate::SourceFile;
use crate::arch::Arch;
use crate::cache::{self, KeyBuilder, seal};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::kernel::build::{build_error, make};
use crate::kernel::{BuiltKernel, Toolchain};
use crate::scenario::{Livepatch, Scenario, kernel_module_name};

/// Counts up when the way modules are built changes.
const RECIPE: &str = "modules-1";

/// Builds the modules that are generated for `scenario` from `sources`, or finds them in the cache.
pub async fn build(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    scenario: &Scenario,
    sources: &[SourceFile],
) -> Result<Vec<Module>> {
    let mut key = KeyBuilder::new(RECIPE);
    key.part("kernel", kernel.key.as_bytes());
    for file in sources {
        key.part(&file.name, file.text.as_bytes());
    }
    let key = key.finish();
    let entry = ctx.cache.kind("modules")?.join(&key);
    let _lock = ctx
        .cache
        .lock(&format!("modules-{key}"), &ctx.cancel, || {})
        .await?;
    cache::mark_used(&entry);
    if !seal::reuse(&ctx.events, &entry, true)? {
        compile(ctx, kernel, arch, &scenario.name, sources, &entry).await?;
    }
    let targets = scenario
        .targets
        .iter()
        .filter(|target| !target.is_kselftest);
    let targets = targets.map(|target| &target.name);
    let generated = |livepatch: &&Livepatch| livepatch.generated().is_some();
    let livepatches = scenario.livepatches.iter().filter(generated);
    targets
        .chain(livepatches.map(|livepatch| &livepatch.name))
        .map(|name| {
            let path = entry.join(format!("{}.ko", kernel_module_name(name)));
            check_vermagic(&path, &kernel.release)?;
            Ok(Module {
                name: name.clone(),
                path,
            })
        })
        .collect()
}

async fn compile(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    scenario: &str,
    sources: &[SourceFile],
    entry: &Path,
) -> Result<()> {
    let staging = cache::staging_dir(entry)?;
    for file in sources {
        let path = staging.path().join(&file.name);
        fs::write(&path, &file.text).at("write", &path)?;
    }
    make_modules(ctx, kernel, arch, staging.path(), scenario).await?;
    seal::seal_modules(staging.path())?;
    cache::publish(staging, entry)
}

/// Builds the modules in a folder with a `Kbuild` or `Makefile`; `of` says what they belong to.
pub(super) async fn make_modules(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    folder: &Path,
    of: &str,
) -> Result<()> {
    let mut phase = ctx.events.phase(format!("build the modules of {of}"));
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut output = String::new();
    let finished = make(&kernel.tree(), Toolchain::of(arch))
        .arg(format!("-j{jobs}"))
        .arg(format!("M={}", folder.display()))
        .arg("modules")
        .run(&ctx.cancel, |line| {
            phase.progress(0, None, line.trim());
            // A compiler in a loop must not fill the memory.
            if output.len() < 1 << 20 {
                output += line;
                output.push('\n');
            }
        })
        .await?;
    if !finished.status.success() {
        let mut error = build_error(&format!("building the modules of {of}"), &output);
        if error.blame == Blame::Kernel {
            error.blame = Blame::ModuleBuild;
            error.help = Some(
                "the generated C is in the run record; correct the `body:` or the names in the \
                 scenario"
                    .to_owned(),
            );
        }
        return Err(error);
    }
    phase.done(format!("built the modules of {of}"));
    Ok(())
}

/// The release that a module was built for must be the kernel's.
pub(super) fn check_vermagic(path: &Path, release: &str) -> Result<()> {
    let data = fs::read(path).at("read", path)?;
    let found = vermagic(&data).unwrap_or_default();
    let built_for = found.split(' ').next().unwrap_or_default();
    if built_for == release {
        return Ok(());
    }
    let what = format!(
        "{} was built for kernel `{built_for}`, not `{release}`",
        path.display()
    );
    Err(Error::lab(what).help("remove the entry's folder from the cache and run again"))
}

/// The `vermagic=` string of a module's `.modinfo`.
fn vermagic(module: &[u8]) -> Option<String> {
    let mark = b"\0vermagic=";
    let start = module
        .windows(mark.len())
        .position(|window| window == mark)?
        + mark.len();
    let end = start + module[start..].iter().position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&module[start..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_of_another_variant_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ko");
        fs::write(
            &path,
            b"\0license=GPL\0vermagic=7.3.4-lab-aaaa SMP mod_unload \0name=x\0",
        )
        .unwrap();
        assert!(check_vermagic(&path, "7.3.4-lab-aaaa").is_ok());
        let error = check_vermagic(&path, "7.3.4-lab-bbbb").unwrap_err();
        assert!(error.what.contains("was built for kernel `7.3.4-lab-aaaa`"));
    }
}
