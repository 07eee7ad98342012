// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the numbers were measured on. Nothing here names the machine itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Hardware and what runs on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub qemu: String,
    /// How guests of the host's own architecture are executed, as the last run says.
    pub accel: String,
    pub commit: String,
}

impl Host {
    pub fn read(root: &Path, accel: String) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cpu = field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "CPU part"));
        let kib = field(&meminfo, "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu.unwrap_or_else(|| "unknown".to_owned()),
            cores: cores(),
            memory_mib: kib.unwrap_or_default() / 1024,
            kernel: release.trim().to_owned(),
            qemu: first_line(Command::new("qemu-system-x86_64").arg("--version")),
            accel,
            commit: commit(root),
        }
    }

    pub fn markdown(&self) -> String {
        let Self {
            cpu,
            cores,
            memory_mib,
            kernel,
            qemu,
            accel,
            commit,
        } = self;
        format!(
            "- CPU: {cpu}, {cores} of them; {memory_mib} MiB of memory\n\
             - host: Linux {kernel}; {qemu}; accelerator {accel}\n\
             - commit: {commit}\n"
        )
    }
}

/// CPUs that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The commit, and whether anything else than documents differs from it.
fn commit(root: &Path) -> String {
    let git = |args: &[&str]| first_line(Command::new("git").arg("-C").arg(root).args(args));
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":!docs",
    ]);
    match changed.is_empty() {
        true => commit,
        false => format!("{commit}, changed"),
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout);
    let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
    text.lines().next().unwrap_or_default().trim().to_owned()
}
