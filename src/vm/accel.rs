// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does KVM work here? Proven by a guest that answers, remembered per boot of the host.
//!
//! `/dev/kvm` can be opened, and a virtual machine even created, on hosts where no guest ever
//! runs: QEMU aborts, or nothing happens. So the run's own kernel and image are booted once under
//! KVM before it is trusted.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Accel;
use super::args::Parts;
use super::machine::{Gone, Machine};
use crate::arch::Arch;
use crate::cache::write_atomically;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::host;
use crate::size::Size;

/// How long the probe guest may take. Under KVM it needs about a second.
const PROBE: Duration = Duration::from_secs(10);

/// `--accel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// KVM where a guest answers under it, else TCG.
    Auto,
    /// KVM, or an error that says why not.
    Kvm,
    /// TCG.
    Tcg,
}

impl Choice {
    /// All names, as they are written in YAML files.
    pub const NAMES: [&'static str; 3] = ["auto", "kvm", "tcg"];

    /// The choice with a name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "kvm" => Some(Self::Kvm),
            "tcg" => Some(Self::Tcg),
            _ => None,
        }
    }
}

/// What was found out, for one boot of the host and one QEMU.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    boot: String,
    qemu: String,
    arch: String,
    /// Why KVM does not work; `None` if it does.
    problem: Option<String>,
}

/// Chooses the accelerator for guests of `arch`; `kernel` and `image` are what a probe boots.
pub async fn choose(
    ctx: &Context,
    choice: Choice,
    arch: Arch,
    kernel: &Path,
    image: &Path,
) -> Result<Accel> {
    if choice == Choice::Tcg {
        return Ok(Accel::Tcg);
    }
    let problem = match quick_problem(arch) {
        Some(problem) => Some(problem),
        None => probed(ctx, arch, kernel, image).await?,
    };
    match (problem, choice) {
        (None, _) => Ok(Accel::Kvm),
        (Some(problem), Choice::Kvm) => Err(Error::new(
            Blame::Host,
            format!("KVM does not work here: {problem}"),
        )
        .help("use --accel auto or --accel tcg")),
        (Some(problem), _) => {
            ctx.events
                .note(format!("{arch} guests run under TCG, not KVM: {problem}"));
            Ok(Accel::Tcg)
        }
    }
}

/// What can be seen without starting anything.
fn quick_problem(arch: Arch) -> Option<String> {
    if Arch::host() != Some(arch) {
        let host = Arch::host().map_or("unknown", Arch::name);
        return Some(format!("the host is {host}"));
    }
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        Ok(_) => None,
        Err(error) => Some(kvm_open_problem(&error)),
    }
}

fn kvm_open_problem(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no /dev/kvm".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "no permission on /dev/kvm (add yourself to the group `kvm`)".to_owned()
        }
        _ => format!("/dev/kvm does not open: {error}"),
    }
}

/// What is remembered is one file, which is written anew at each boot of the host, and no entry.
async fn probed(ctx: &Context, arch: Arch, kernel: &Path, image: &Path) -> Result<Option<String>> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let qemu = host::installed(arch)?;
    let file = ctx.cache.kind("accel")?.join(format!("{arch}.json"));
    let _lock = ctx
        .cache
        .lock(&format!("accel-{arch}"), &ctx.cancel, || {})
        .await?;
    if let Some(problem) = remembered(&file, boot.trim(), &qemu) {
        return Ok(problem);
    }
    let phase = ctx.events.phase(format!("try KVM with {arch} guests"));
    let Found {
        problem,
        is_lasting,
    } = probe(ctx, arch, kernel, image).await?;
    if !is_lasting {
        phase.done(format!("KVM could not be tried with {arch} guests"));
        return Ok(problem);
    }
    let memory = Remembered {
        boot: boot.trim().to_owned(),
        qemu,
        arch: arch.name().to_owned(),
        problem: problem.clone(),
    };
    let json = serde_json::to_vec_pretty(&memory)
        .map_err(|error| Error::lab(format!("cannot remember the probe: {error}")))?;
    write_atomically(&file, &json)?;
    phase.done(match &problem {
        None => format!("KVM works with {arch} guests"),
        Some(_) => format!("KVM does not work with {arch} guests; remembered until reboot"),
    });
    Ok(problem)
}

fn remembered(file: &Path, boot: &str, qemu: &str) -> Option<Option<String>> {
    let memory: Remembered = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (memory.boot == boot && memory.qemu == qemu).then_some(memory.problem)
}

/// What a probe found out.
struct Found {
    /// Why KVM does not work; `None` if it does.
    problem: Option<String>,
    /// Whether it is so until the next boot of the host. A host without time may have some later.
    is_lasting: bool,
}

impl From<Option<String>> for Found {
    fn from(problem: Option<String>) -> Self {
        Self {
            problem,
            is_lasting: true,
        }
    }
}

/// Boots a guest under KVM and throws it away.
async fn probe(ctx: &Context, arch: Arch, kernel: &Path, image: &Path) -> Result<Found> {
    let record = tempfile::tempdir()
        .map_err(|error| Error::host(format!("cannot create a temporary folder: {error}")))?;
    let parts = Parts {
        arch,
        accel: Accel::Kvm,
        size: Size::default(),
        kernel: kernel.to_path_buf(),
        image,
        record: record.path(),
    };
    let mut machine = match Machine::boot(&parts, None, &ctx.cancel).await {
        Ok(machine) => machine,
        Err(error) if error.blame == Blame::Host => {
            return Ok(Found::from(Some(match error.evidence.first() {
                Some(line) => format!("QEMU says: {}", without_program(line)),
                None => error.what,
            })));
        }
        Err(error) => return Err(error),
    };
    let ready = machine.wait_waiting(PROBE, &ctx.cancel).await;
    let said = std::fs::read_to_string(record.path().join("qemu.stderr")).unwrap_or_default();
    machine.stop().await?;
    let gone = match ready? {
        Ok(()) => return Ok(Found::from(None)),
        Err(gone) => gone,
    };
    let problem = match &gone {
        Gone::Silent(_) => format!(
            "the probe guest did not answer within {} s",
            PROBE.as_secs()
        ),
        gone => {
            let last = said.lines().last();
            let last = last.map(|line| format!(": {line}")).unwrap_or_default();
            let why = describe(gone).replace('\n', "; ");
            format!("the probe guest did not start ({why}){last}")
        }
    };
    Ok(Found {
        problem: Some(problem),
        is_lasting: !matches!(gone, Gone::Starved(_)),
    })
}

/// `qemu-system-x86_64: error: failed to set MSR …` → `failed to set MSR …`.
fn without_program(line: &str) -> &str {
    let rest = line
        .strip_prefix("qemu-system-")
        .and_then(|line| line.split_once(": "));
    let rest = rest.map_or(line, |(_, message)| message);
    rest.strip_prefix("error: ").unwrap_or(rest)
}

/// What became of a guest, in words.
pub fn describe(gone: &Gone) -> String {
    match gone {
        Gone::Panicked => "the guest's kernel panicked".to_owned(),
        Gone::Reset(how) => format!("the guest's machine shut down by itself ({how})"),
        Gone::Lost(reason) | Gone::Qemu(reason) | Gone::Silent(reason) | Gone::Starved(reason) => {
            reason.clone()
        }
        Gone::Flooded => "the guest flooded its console with output".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error as IoError, ErrorKind};

    #[test]
    fn the_reasons_name_what_to_do() {
        let problem = kvm_open_problem(&IoError::from(ErrorKind::PermissionDenied));
        assert!(problem.contains("group `kvm`"));
        assert_eq!(
            kvm_open_problem(&IoError::from(ErrorKind::NotFound)),
            "there is no /dev/kvm"
        );
    }

    #[test]
    fn qemus_words_come_without_its_name() {
        let line = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69";
        assert_eq!(without_program(line), "failed to set MSR 0x10a to 0x69");
        assert_eq!(
            without_program("Could not access KVM"),
            "Could not access KVM"
        );
    }

    #[test]
    fn what_was_remembered_is_void_after_a_reboot_or_an_upgrade() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x86_64.json");
        let memory = Remembered {
            boot: "a".into(),
            qemu: "10.0".into(),
            arch: "x86_64".into(),
            problem: Some("p".into()),
        };
        std::fs::write(&file, serde_json::to_vec(&memory).unwrap()).unwrap();
        assert_eq!(remembered(&file, "a", "10.0"), Some(Some("p".to_owned())));
        assert_eq!(remembered(&file, "b", "10.0"), None);
        assert_eq!(remembered(&file, "a", "10.1"), None);
    }
}
