// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cold boots: the lab's, bare QEMU's with the same command line, and those of a bzImage.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, Played};
use crate::process;
use crate::project::{Project, large_tempdir, scenario};
use crate::qemu::Bare;
use crate::row::{Goal, Row, Unit};
use crate::tree;
use crate::{Bench, Result};

/// The guests' architectures.
pub const ARCHS: [&str; 2] = ["x86_64", "arm64"];

/// A project with one scenario that does next to nothing, played once on each of `archs`.
pub fn short_project(bench: &Bench<'_>, archs: &[&str]) -> Result<Project> {
    let project = Project::new(bench.root)?;
    project.scenario("short", &scenario(0, 10))?;
    for arch in archs {
        boot(&project, arch, &["--accept"])?;
    }
    Ok(project)
}

/// Plays the short scenario on the default kernel.
pub fn boot(project: &Project, arch: &str, args: &[&str]) -> Result<Played> {
    let args = [&["scenarios/short.yaml", "--arch", arch], args].concat();
    Lab::of(project.path()).run(&args)
}

/// When the guest of a run was ready.
pub fn ready(played: &Played) -> Result<f64> {
    let ready = played.events.ready();
    Ok(*ready.first().ok_or("no guest was booted")?)
}

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let project = short_project(bench, &ARCHS)?;
    let mut rows = Vec::new();
    for arch in ARCHS {
        let name = format!("cold boot, {arch}");
        let mut row = Row::new("boot", &name, "bare QEMU", Unit::Seconds, Goal::Ratio(1.10));
        for _ in 0..bench.rounds {
            let played = boot(&project, arch, &["--cold"])?;
            row.pair(ready(&played)?, Bare::of(&played.only_record()?)?.boot()?);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The lab's x86_64 machine against the usual one: a compressed kernel on q35, which QEMU's default
/// firmware starts.
pub fn measure_firmware(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut row = Row::new(
        "firmware",
        "bare boot, vmlinux",
        "bzImage",
        Unit::Seconds,
        Goal::Ratio(0.45),
    );
    if std::env::consts::ARCH != "x86_64" {
        return Ok(vec![row.noted("the bzImage is built on x86_64 hosts only")]);
    }
    let dir = large_tempdir()?;
    let bz_image = bz_image(bench.root, dir.path(), &[])?;
    let project = short_project(bench, &["x86_64"])?;
    let record = boot(&project, "x86_64", &["--cold"])?;
    let ours = Bare::of(&record.only_record()?)?;
    let mut usual = ours.clone();
    usual.set("-kernel", &bz_image);
    usual.set("-machine", "q35");
    usual.set("-cpu", "max");
    usual.unset("-bios");
    for _ in 0..bench.rounds {
        row.pair(ours.boot()?, usual.boot()?);
    }
    Ok(vec![row])
}

/// Builds the default kernel as a bzImage in a copy of its tree in `dir`, with more options.
pub fn bz_image(root: &Path, dir: &Path, options: &[&str]) -> Result<String> {
    let copy = dir.join("tree");
    tree::copy(&Lab::of(root).tree("tags")?, &copy)?;
    if !options.is_empty() {
        let mut config = Command::new(copy.join("scripts/config"));
        config.arg("--file").arg(copy.join("build/.config"));
        for option in options {
            config.args(["--enable", option]);
        }
        process::time(&mut config)?;
        process::time(&mut tree::make(&copy, &["olddefconfig"]))?;
    }
    process::time(&mut tree::make(&copy, &["bzImage"]))?;
    // Out of the tree: virtme-ng would prepare the modules of a tree that it sees.
    let bz_image = dir.join("bzImage");
    fs::copy(copy.join("build/arch/x86/boot/bzImage"), &bz_image)?;
    Ok(bz_image.display().to_string())
}
