// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cold boot against virtme-ng, which boots the same kernel with the host's root file system and
//! runs `uname -r`.

use std::path::Path;
use std::process::Command;

use crate::boot::{boot, bz_image, ready, short_project};
use crate::project::large_tempdir;
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result, process};

/// What virtme-ng needs besides the lab's config: the root file system over 9p with an overlay on
/// it, and ports for the command's input and output.
const OPTIONS: [&str; 7] = [
    "NETWORK_FILESYSTEMS",
    "NET_9P",
    "NET_9P_VIRTIO",
    "9P_FS",
    "OVERLAY_FS",
    "VIRTIO_CONSOLE",
    "INOTIFY_USER",
];

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let goal = Goal::Times(15.0);
    let mut row = Row::new(
        "virtme",
        "cold boot, x86_64",
        "virtme-ng",
        Unit::Seconds,
        goal,
    );
    if std::env::consts::ARCH != "x86_64" {
        return Ok(vec![
            row.noted("not measured: the bzImage is built on x86_64 hosts only"),
        ]);
    }
    let dir = large_tempdir()?;
    let venv = dir.path().join("venv");
    if let Err(error) = install(&venv) {
        return Ok(vec![row.noted(format!(
            "not measured: no virtme-ng: {}",
            last_line(&error)
        ))]);
    }
    let bz_image = bz_image(bench.root, dir.path(), &OPTIONS)?;
    let project = short_project(bench)?;
    let kvm = boot(&project, "x86_64", &["--cold"])?;
    let kvm = kvm.events.accel() == Some("kvm");
    for _ in 0..bench.rounds {
        let ours = ready(&boot(&project, "x86_64", &["--cold"])?)?;
        match uname(&venv, &bz_image, kvm) {
            Ok(theirs) => row.pair(ours, theirs),
            Err(error) => {
                let note = format!("not measured: vng failed: {}", last_line(&error));
                return Ok(vec![row.noted(note)]);
            }
        }
    }
    Ok(vec![row])
}

fn install(venv: &Path) -> Result<()> {
    process::time(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    process::time(pip.args(["install", "--quiet", "virtme-ng"])).map(drop)
}

/// The seconds that virtme-ng takes for `uname -r`.
fn uname(venv: &Path, bz_image: &str, kvm: bool) -> Result<f64> {
    let bin = venv.join("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    // The parts of virtme-ng find each other by name. It writes below HOME.
    let mut vng = Command::new(bin.join("vng"));
    vng.env("PATH", format!("{}:{path}", bin.display()))
        .env("HOME", venv)
        .args(["--cpus", "2", "--memory", "256M"])
        .args((!kvm).then_some("--disable-kvm"))
        .args(["--run", bz_image, "--", "uname", "-r"]);
    let finished = process::run(&mut vng, |_| {})?;
    match finished.said.contains("-lab-") {
        true => Ok(finished.seconds),
        false => Err(format!("vng does not say the kernel's release: {}", finished.said).into()),
    }
}

fn last_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next_back().unwrap_or_default().to_owned()
}
