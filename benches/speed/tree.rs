// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel trees without the lab: copies, and make as src/kernel/build.rs and src/module/build.rs
//! call it. The cache's own trees are never built in.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::host::cores;
use crate::{Result, process};

/// What makes a kernel that can be booted and modules that can be built for it, on the host's own
/// architecture.
#[cfg(target_arch = "x86_64")]
pub const KERNEL: [&str; 2] = ["vmlinux", "modules"];
#[cfg(not(target_arch = "x86_64"))]
pub const KERNEL: [&str; 2] = ["Image", "modules"];

/// `make ARGS` in a tree, for the host's own architecture.
pub fn make(tree: &Path, args: &[&str]) -> Command {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    let mut command = Command::new("make");
    command
        .arg("-C")
        .arg(tree)
        .args(["O=build", "CROSS_COMPILE=", &format!("ARCH={arch}")])
        .arg(format!("-j{}", cores()))
        .args(args)
        .env("LC_ALL", "C")
        .env("KBUILD_BUILD_USER", "lab")
        .env("KBUILD_BUILD_HOST", "lab")
        .env("KBUILD_BUILD_TIMESTAMP", "@0");
    command
}

/// Builds the modules in a folder; the seconds that it takes.
pub fn make_modules(tree: &Path, folder: &Path) -> Result<f64> {
    let folder = format!("M={}", folder.display());
    process::time(&mut make(tree, &[&folder, "modules"]))
}

/// Copies a tree with its objects. They stay up to date: the build uses relative paths.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["--archive", "--reflink=auto"]).arg(from).arg(to);
    process::time(&mut cp).map(drop)
}

/// Copies a tree without its objects.
pub fn copy_source(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != "build" {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Changes one line of the livepatch core: what follows is compiled into it.
pub fn edit(tree: &Path, number: usize) -> Result<()> {
    let path = tree.join("kernel/livepatch/core.c");
    let mut file = fs::File::options().append(true).open(path)?;
    let line = format!("const int lab_edit_{number} = {number};\n");
    Ok(file.write_all(line.as_bytes())?)
}
