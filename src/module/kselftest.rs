// SPDX-License-Identifier: MIT OR Apache-2.0
//! The modules of livepatch selftests, all of a folder `test_modules` built once for each kernel:
//! the folder of the kernel's own, from its very tree, or one in the style of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::build::check_vermagic;
use super::make::{failure, make};
use super::{CACHE, Module};
use crate::arch::Arch;
use crate::cache::{KeyBuilder, seal};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::kernel::BuiltKernel;
use crate::scenario::kernel_module_name;

/// Counts up when the way the modules are built changes.
const RECIPE: &str = "kselftest-2";
/// Where the kernel's own are in its tree.
const TEST_MODULES: &str = "tools/testing/selftests/livepatch/test_modules";

/// The folder of the kernel's own test modules.
pub fn in_tree(kernel: &BuiltKernel) -> PathBuf {
    kernel.tree().join(TEST_MODULES)
}

/// Builds the modules in `folder`, whose `Makefile` names them in `obj-m`, or finds them in the
/// cache. Returns the folder of what was built.
pub async fn build(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    folder: &Path,
) -> Result<PathBuf> {
    let sources = sources(folder)?;
    let mut key = KeyBuilder::new(RECIPE);
    key.part("kernel", kernel.key.as_bytes());
    for (name, data) in &sources {
        key.part(name, data);
    }
    let make_entry = async |stage: &Path| {
        // Kbuild writes beside the sources, and the folder is not ours to write to.
        for (name, data) in &sources {
            let path = stage.join(name);
            fs::write(&path, data).at("write", &path)?;
        }
        let mut phase = ctx.events.phase("build the modules of the selftests");
        let on_line = |line: &str| phase.progress(0, None, line.trim());
        make(ctx, kernel, arch, stage, &["modules".to_owned()], on_line)
            .await?
            .map_err(|output| failure("the selftests", &output))?;
        phase.done("built the modules of the selftests");
        seal::modules_in(stage)
    };
    ctx.entry(CACHE, &key.finish())?
        .get_or_make(make_entry)
        .await
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

/// All modules in a folder that [`build`] returned.
pub fn all(folder: &Path, kernel: &BuiltKernel) -> Result<Vec<Module>> {
    let mut modules = Vec::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        let path = entry.at("read", folder)?.path();
        if path.extension().is_some_and(|extension| extension == "ko") {
            check_vermagic(&path, &kernel.release)?;
            let name = path.file_stem().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            modules.push(Module { name, path });
        }
    }
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(modules)
}

/// The sources in a folder, by name.
fn sources(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut sources = BTreeMap::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        let path = entry.at("read", folder)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let is_source =
            |name: &&str| *name == "Makefile" || name.ends_with(".c") || name.ends_with(".h");
        if let Some(name) = name.filter(is_source)
            && path.is_file()
        {
            sources.insert(name.to_owned(), fs::read(&path).at("read", &path)?);
        }
    }
    Ok(sources)
}
