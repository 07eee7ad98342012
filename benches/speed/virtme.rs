// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cold boot against virtme-ng, which boots the same kernel with the host's root file system and
//! runs `uname -r`.

use std::path::{Path, PathBuf};
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
    let project = short_project(bench, &["x86_64"])?;
    let kvm = boot(&project, "x86_64", &["--cold"])?;
    let vng = Vng {
        bin: venv.join("bin"),
        bz_image,
        kvm: kvm.events.accel() == Some("kvm"),
    };
    if let Err(error) = vng.check() {
        let note = format!("not measured: vng failed: {}", last_line(&error));
        return Ok(vec![row.noted(note)]);
    }
    for _ in 0..bench.rounds {
        let ours = ready(&boot(&project, "x86_64", &["--cold"])?)?;
        row.pair(ours, vng.time()?);
    }
    Ok(vec![row.noted(vng.note())])
}

fn install(venv: &Path) -> Result<()> {
    process::time(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    process::time(pip.args(["install", "--quiet", "virtme-ng"])).map(drop)
}

/// virtme-ng with a kernel.
struct Vng {
    bin: PathBuf,
    bz_image: String,
    kvm: bool,
}

impl Vng {
    /// Runs `uname -r` in as large a guest as the lab's.
    fn command(&self, options: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut vng = Command::new(self.bin.join("vng"));
        // Its parts find each other by name. It writes below HOME.
        vng.env("PATH", format!("{}:{path}", self.bin.display()))
            .env("HOME", &self.bin)
            .args(["--cpus", "2", "--memory", "256M"])
            // Without a name of a root device, Linux 7.3 does not mount it.
            .args(["--append", "root=/dev/root"])
            .args((!self.kvm).then_some("--disable-kvm"))
            .args(options)
            .args(["--run", &self.bz_image, "--", "uname", "-r"]);
        vng
    }

    /// Proves once that the guest says its release.
    fn check(&self) -> Result<()> {
        let said = process::attempt(&mut self.command(&["--verbose"]), |_| {})?.said;
        // The kernel says it as well, with `Linux version` before it.
        let is_release = |line: &str| line.trim().contains("-lab-") && !line.trim().contains(' ');
        match said.lines().any(is_release) {
            true => Ok(()),
            false => Err(format!("`uname -r` says nothing:\n{said}").into()),
        }
    }

    fn time(&self) -> Result<f64> {
        if has_udevd() {
            return process::time(&mut self.command(&[]));
        }
        // See `note`.
        Ok(process::attempt(&mut self.command(&[]), |_| {})?.seconds)
    }

    fn note(&self) -> String {
        match has_udevd() {
            true => String::new(),
            false => {
                "the host has no systemd-udevd, so that virtme-ng skips it and is faster, but \
                      cannot pass on the status of `uname -r`; that it runs was seen with --verbose"
                    .to_owned()
            }
        }
    }
}

/// Whether there is the udev that virtme-ng runs in the guest.
fn has_udevd() -> bool {
    [
        "/usr/lib/systemd/systemd-udevd",
        "/lib/systemd/systemd-udevd",
    ]
    .iter()
    .any(|path| Path::new(path).exists())
}

fn last_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next_back().unwrap_or_default().to_owned()
}
