// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building the modules of scenarios, and the proof that they belong to their kernel.
//!
//! A module built with another variant's headers loads without complaint and carries the wrong
//! replace tag. Three things make that impossible: the cache key holds the kernel's key, the
//! kernel's release (in each module's vermagic) holds it too, and both are compared before a
//! module is ever sent to a guest.
//!
//! Every module is a cache entry of its own, which scenarios share. What is missing is made by one
//! `make` for all scenarios, since Kbuild's start takes as long as some modules. Modules of
//! different scenarios may have the same name: each has a folder of its own in there, and is asked
//! for by name (`make FOLDER/NAME.ko`), because Kbuild's `modules` wants all names to differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::generate::{KBUILD_HEAD, ModuleSources, modules};
use super::make::{failure, make};
use super::places::Places;
use super::{CACHE, Module, headers};
use crate::arch::Arch;
use crate::cache::{self, Claim, KeyBuilder, Making, seal};
use crate::context::Context;
use crate::error::{Error, IoContext, Result, full_disk};
use crate::event::Phase;
use crate::kernel::BuiltKernel;
use crate::scenario::{Scenario, kernel_module_name};

/// Counts up when the way modules are built changes.
const RECIPE: &str = "module-2";

/// A module that is generated for a kernel.
struct Generated {
    sources: ModuleSources,
    /// What the kernel calls it.
    name: String,
    key: String,
    /// Its folder in the cache.
    entry: PathBuf,
}

impl Generated {
    /// The modules of a scenario.
    fn of(ctx: &Context, kernel: &BuiltKernel, scenario: &Scenario) -> Result<Vec<Self>> {
        let dir = ctx.cache.kind(CACHE)?;
        let module = |sources: ModuleSources| {
            let mut key = KeyBuilder::new(RECIPE);
            key.part("kernel", kernel.key.as_bytes());
            for file in sources.files.iter().chain(&sources.headers) {
                key.part(&file.name, file.text.as_bytes());
            }
            let key = key.finish();
            Self {
                name: kernel_module_name(&sources.name),
                entry: dir.join(&key),
                sources,
                key,
            }
        };
        Ok(modules(scenario).into_iter().map(module).collect())
    }

    /// What make is asked for.
    fn goal(&self, extension: &str) -> String {
        format!("{}/{}.{extension}", self.key, self.name)
    }

    fn write(&self, batch: &Path) -> Result<()> {
        let folder = batch.join(&self.key);
        fs::create_dir(&folder).at("create", &folder)?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).at("write", &path)
        };
        for file in self.sources.files.iter().chain(&self.sources.headers) {
            write(&file.name, &file.text)?;
        }
        // The kernel's complaints quote `__FILE__`: without the folders that it is built in, however
        // Kbuild names them.
        let names = format!(
            "ccflags-y := -fmacro-prefix-map={}/= -fmacro-prefix-map=$(src)/=\n",
            self.key
        );
        let kbuild = &self.sources.kbuild;
        write("Kbuild", &format!("{KBUILD_HEAD}{names}{kbuild}"))
    }

    /// Whether it has symbols for other modules. Such a module has a make of its own: what the
    /// others link to must not depend on what happens to be built with them.
    fn exports(&self) -> bool {
        let exports = |text: &str| text.contains("EXPORT_SYMBOL");
        self.sources.files.iter().any(|file| exports(&file.text))
    }
}

/// The modules that are generated for `scenario`, if all of them are in the cache.
///
/// # Errors
///
/// The cache cannot be used, or a module in it is another kernel's.
pub fn find(
    ctx: &Context,
    kernel: &BuiltKernel,
    scenario: &Scenario,
) -> Result<Option<Vec<Module>>> {
    let mut found = Vec::new();
    for module in Generated::of(ctx, kernel, scenario)? {
        cache::mark_used(&module.entry);
        if !module.entry.is_dir() || seal::damage(&module.entry).is_some() {
            return Ok(None);
        }
        let path = module.entry.join(format!("{}.ko", module.name));
        check_vermagic(&path, &kernel.release)?;
        found.push(Module {
            name: module.sources.name,
            path,
        });
    }
    Ok(Some(found))
}

/// Builds what [`find`] misses for `scenarios`, all at once. A module that does not build is the
/// matter of the scenarios that have it: each is given its modules or its error, in order.
///
/// # Errors
///
/// What keeps all of them from being built.
pub async fn build(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    scenarios: &[&Scenario],
) -> Result<Vec<Result<Vec<Module>>>> {
    // By key, so that every lab takes locks in the same order.
    let mut missing = BTreeMap::new();
    for scenario in scenarios {
        for module in Generated::of(ctx, kernel, scenario)? {
            missing.insert(module.key.clone(), module);
        }
    }
    let mut claims = BTreeMap::new();
    for (key, module) in std::mem::take(&mut missing) {
        if let Claim::Missing(making) = ctx.entry(CACHE, &key)?.claim().await? {
            claims.insert(key.clone(), making);
            missing.insert(key, module);
        }
    }
    let mut broken = BTreeMap::new();
    if !missing.is_empty() {
        let of = match scenarios {
            [scenario] => scenario.name.clone(),
            all => format!("{} scenarios", all.len()),
        };
        let cc = headers::compiler(ctx, kernel, arch).await?;
        let staging = cache::staging_dir(&ctx.cache.kind(CACHE)?.join("batch"))?;
        let mut batch = Batch {
            ctx,
            kernel,
            arch,
            cc,
            folder: staging.path(),
            phase: ctx.events.phase(format!("build the modules of {of}")),
            of,
            claims,
            broken,
        };
        let count = missing.len();
        batch.build(missing.into_values().collect()).await?;
        let built = format!("built the modules of {}", batch.of);
        match batch.broken.len() {
            0 => batch.phase.done(built),
            broken if broken < count => batch.phase.done(format!("{built}, but for {broken}")),
            _ => drop(batch.phase),
        }
        broken = batch.broken;
    }
    scenarios
        .iter()
        .map(|scenario| {
            let modules = Generated::of(ctx, kernel, scenario)?;
            let output = modules.iter().find_map(|module| broken.get(&module.key));
            if let Some(output) = output {
                let output = Places::of(scenario).translate(output);
                return Ok(Err(failure(&scenario.name, &output)));
            }
            let gone = || Error::lab(format!("the modules of {} are gone", scenario.name));
            Ok(find(ctx, kernel, scenario).and_then(|modules| modules.ok_or_else(gone)))
        })
        .collect()
}

/// Modules that are built together, in a folder with a folder for each.
struct Batch<'a> {
    ctx: &'a Context,
    kernel: &'a BuiltKernel,
    arch: Arch,
    cc: String,
    folder: &'a Path,
    /// Whose modules they are.
    of: String,
    phase: Phase,
    /// The right to make each, by key.
    claims: BTreeMap<String, Making>,
    /// What make said of those that do not build, by key.
    broken: BTreeMap<String, String>,
}

impl Batch<'_> {
    /// Builds modules, as many at once as there are that do build.
    async fn build(&mut self, modules: Vec<Generated>) -> Result<()> {
        let mut kbuild = KBUILD_HEAD.to_owned();
        for module in &modules {
            module.write(self.folder)?;
            kbuild += &format!("obj-m += {}/\n", module.key);
        }
        let path = self.folder.join("Kbuild");
        fs::write(&path, kbuild).at("write", &path)?;
        let (mut alone, mut together): (Vec<_>, Vec<_>) =
            modules.into_iter().partition(Generated::exports);
        if together.len() == 1 {
            alone.append(&mut together);
        }
        while !together.is_empty() {
            let Err(output) = self.make(&together).await? else {
                break;
            };
            let is_suspect = |module: &Generated| self.is_suspect(module, &output);
            let (mut suspects, mut others) =
                together.into_iter().partition::<Vec<_>, _>(is_suspect);
            if suspects.is_empty() {
                std::mem::swap(&mut suspects, &mut others);
            }
            alone.extend(suspects);
            together = others;
        }
        for module in alone {
            if let Err(output) = self.make(std::slice::from_ref(&module)).await? {
                let below = format!("{}/", module.key);
                let output = output.replace(&format!("{}/{below}", self.folder.display()), "");
                self.broken.insert(module.key, output.replace(&below, ""));
            }
        }
        Ok(())
    }

    /// Runs make and moves what it made into the cache. The inner `Err` is its output.
    async fn make(&mut self, modules: &[Generated]) -> Result<std::result::Result<(), String>> {
        let mut arguments = vec![format!("CC={}", self.cc), "--keep-going".to_owned()];
        arguments.extend(modules.iter().map(|module| module.goal("ko")));
        let phase = &mut self.phase;
        let on_line = |line: &str| phase.progress(0, None, line.trim());
        let (ctx, kernel) = (self.ctx, self.kernel);
        let made = make(ctx, kernel, self.arch, self.folder, &arguments, on_line).await?;
        if let Err(output) = made {
            // A full disk is no module's fault.
            return match full_disk(&output) {
                Some(_) => Err(failure(&self.of, &output)),
                None => Ok(Err(output)),
            };
        }
        for module in modules {
            let folder = self.folder.join(&module.key);
            let sealed = seal::modules_in(&folder)?;
            if let Some(making) = self.claims.remove(&module.key) {
                making.publish_folder(folder, sealed).await?;
            }
        }
        Ok(Ok(()))
    }

    /// Whether make may have failed because of this module: it was not compiled, or modpost
    /// complains about it.
    fn is_suspect(&self, module: &Generated, output: &str) -> bool {
        let below = format!("{}/", module.key);
        let complaint = |line: &str| line.contains("ERROR: modpost") && line.contains(&below);
        !self.folder.join(module.goal("o")).is_file() || output.lines().any(complaint)
    }
}

/// The release that a module was built for must be the kernel's.
pub(crate) fn check_vermagic(path: &Path, release: &str) -> Result<()> {
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
