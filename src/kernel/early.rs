// SPDX-License-Identifier: MIT OR Apache-2.0
//! The modules without which a guest of a distribution's kernel has no network: an archive that
//! follows the image's, from which `images/guest/init.c` loads them first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::initramfs::Archive;
use crate::ko;
use crate::process::Cmd;
use crate::scenario::kernel_module_name;

/// Options that may be modules, and what these are called.
const MODULES: [(&str, &str); 4] = [
    ("VIRTIO_PCI", "virtio_pci"),
    ("VIRTIO_NET", "virtio_net"),
    ("HW_RANDOM_VIRTIO", "virtio_rng"),
    ("PVPANIC_PCI", "pvpanic_pci"),
];
/// Where the guest's init looks for them; see `images/guest/init.c`.
const FOLDER: &str = "usr/lib/modules/lab";
/// Modules that one needs, at most.
const DEPTH_MAX: usize = 16;
/// Files and folders that are looked through.
const FILES_MAX: usize = 100_000;

/// Whether an option is a module that can be loaded early.
pub(super) fn is_module(config: &str, option: &str) -> bool {
    let line = format!("CONFIG_{option}=m");
    MODULES.iter().any(|(known, _)| *known == option) && config.lines().any(|other| other == line)
}

/// The archive with those that the config has as modules; `None` if there are none.
pub(super) async fn archive(ctx: &Context, folder: &Path, config: &str) -> Result<Option<Vec<u8>>> {
    let wanted = MODULES
        .iter()
        .filter(|(option, _)| is_module(config, option));
    let wanted: Vec<_> = wanted.map(|(_, module)| *module).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let files = files(folder)?;
    let scratch = tempfile::tempdir().at("create a folder in", &std::env::temp_dir())?;
    let mut order: Vec<(String, Vec<u8>)> = Vec::new();
    for module in wanted {
        add(ctx, &files, module, scratch.path(), &mut order).await?;
    }
    let mut archive = Archive::default();
    for (number, (module, data)) in order.iter().enumerate() {
        archive.file(&format!("{FOLDER}/{number:02}-{module}.ko"), 0o644, data)?;
    }
    archive.finish().map(Some)
}

/// Adds a module after those that it needs. What depends on what is a tree of a few, so that the
/// stack of what is still to be looked at is enough.
async fn add(
    ctx: &Context,
    files: &BTreeMap<String, PathBuf>,
    module: &str,
    scratch: &Path,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let mut open = vec![module.to_owned()];
    while let Some(module) = open.last().cloned() {
        if order.iter().any(|(known, _)| *known == module) {
            open.pop();
            continue;
        }
        let Some(path) = files.get(&module) else {
            let what = format!("there is no module {module} among the kernel's");
            return Err(Error::new(Blame::File, what)
                .help("name the folder of all its modules, lib/modules/RELEASE"));
        };
        let (read, data) = ko::read(&decompressed(ctx, path, &module, scratch).await?)?;
        let depends = read.info("depends").unwrap_or_default().split(',');
        let depends = depends
            .filter(|name| !name.is_empty())
            .map(kernel_module_name);
        let missing: Vec<_> = depends
            .filter(|name| !order.iter().any(|(known, _)| known == name))
            .collect();
        if missing.is_empty() {
            order.push((module, data));
            open.pop();
        } else if open.len() > DEPTH_MAX || missing.iter().any(|name| open.contains(name)) {
            let what = format!("the kernel's module {module} needs itself");
            return Err(Error::new(Blame::File, what).help("name another folder of modules"));
        } else {
            open.extend(missing);
        }
    }
    Ok(())
}

/// The file of a module as it is loaded.
async fn decompressed(ctx: &Context, path: &Path, module: &str, scratch: &Path) -> Result<PathBuf> {
    let tools = [("xz", "xz"), ("gz", "gzip"), ("zst", "zstd")];
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let Some((_, tool)) = tools.iter().find(|(known, _)| *known == ending) else {
        return Ok(path.to_owned());
    };
    let plain = scratch.join(format!("{module}.ko"));
    if !plain.exists() {
        let copy = scratch.join(format!("{module}.ko.{ending}"));
        fs::copy(path, &copy).at("copy", path)?;
        Cmd::new(*tool)
            .arg("-d")
            .arg(&copy)
            .output(&ctx.cancel)
            .await?;
    }
    Ok(plain)
}

/// The modules in a folder and those below it, by what the kernel calls them.
fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let entry = entry.at("read", &folder)?;
            seen += 1;
            if seen > FILES_MAX {
                let what = format!("{} has more files than a kernel", folder.display());
                return Err(Error::new(Blame::File, what).help("name lib/modules/RELEASE"));
            }
            // Links (`build`, `source`) lead elsewhere.
            let kind = entry.file_type().at("read", &folder)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if let Some((module, ending)) = name.split_once(".ko")
                && ["", ".xz", ".gz", ".zst"].contains(&ending)
            {
                files.insert(kernel_module_name(module), entry.path());
            }
        }
    }
    Ok(files)
}
