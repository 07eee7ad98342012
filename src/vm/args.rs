// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's command line. Pure: a value to show, to snapshot and to repeat by hand.

use std::path::{Path, PathBuf};

use super::Accel;
use crate::arch::Arch;
use crate::process::Cmd;

/// A machine to start.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// The guest's architecture.
    pub arch: Arch,
    /// How it is executed.
    pub accel: Accel,
    /// What to boot.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// Where the console goes.
    pub console: PathBuf,
    /// Where QMP listens.
    pub qmp: PathBuf,
    /// Whether QEMU gives up the system calls that it does not need.
    pub sandbox: bool,
}

/// Memory of a guest in MiB: the kernel takes 20, the initramfs and the modules less than that.
pub const MEMORY_MIB: u32 = 256;
/// Two CPUs: a transition is about tasks on other CPUs.
const CPUS: &str = "2,sockets=2";

/// QEMU's program for an architecture.
pub fn program(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "qemu-system-x86_64",
        Arch::Arm64 => "qemu-system-aarch64",
    }
}

/// The command that starts the machine, stopped: QMP connects before the first instruction, so
/// that no event is missed.
pub fn command(spec: &MachineSpec) -> Cmd {
    let (machine, cpu) = match (spec.arch, spec.accel) {
        (Arch::X86_64, Accel::Kvm) => ("q35", "host"),
        (Arch::X86_64, Accel::Tcg) => ("q35", "max"),
        // The newest interrupt controller, since the default depends on QEMU and accelerator.
        (Arch::Arm64, Accel::Kvm) => ("virt,gic-version=host", "host"),
        (Arch::Arm64, Accel::Tcg) => ("virt,gic-version=3", "cortex-a57"),
    };
    let path = |path: &Path| escape_commas(&path.to_string_lossy());
    let sandbox = [
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ];
    Cmd::new(program(spec.arch))
        .args(sandbox.iter().filter(|_| spec.sandbox))
        .args(["-S", "-nodefaults", "-no-user-config", "-display", "none"])
        .args([
            "-machine",
            machine,
            "-accel",
            spec.accel.name(),
            "-cpu",
            cpu,
        ])
        .args(["-smp", CPUS, "-m", &format!("{MEMORY_MIB}M")])
        .arg("-kernel")
        .arg(&spec.kernel)
        .arg("-initrd")
        .arg(&spec.initrd)
        .args(["-append", &kernel_command_line(spec.arch)])
        // The guest reaches nothing; the host reaches its ssh through a port that QEMU picks.
        .args([
            "-netdev",
            "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22",
        ])
        .args(["-device", "virtio-net-pci,netdev=net,romfile="])
        .args(["-device", "virtio-rng-pci"])
        // A panic stops the machine so that evidence can be taken; with QEMU's default it would
        // exit with status 0. A reset (a triple fault) ends QEMU.
        .args([
            "-device",
            "pvpanic-pci",
            "-action",
            "panic=pause,reboot=shutdown",
        ])
        // The short forms know no escape for a comma.
        .args([
            "-chardev",
            &format!("file,id=console,path={}", path(&spec.console)),
            "-serial",
            "chardev:console",
        ])
        .args([
            "-chardev",
            &format!("socket,id=qmp,path={},server=on,wait=off", path(&spec.qmp)),
            "-mon",
            "chardev=qmp,mode=control",
        ])
}

/// The debug messages that are on from the boot: those of transitions.
pub const BOOT_MESSAGES: &str = "file kernel/livepatch/transition.c";

/// The guest's kernel command line. Transition messages are pr_debug; informational messages of
/// the boot are left out of the console because the emulated UART makes them slow, but stay in
/// the log.
///
/// `no_timer_check`: the kernel gives the timer 40 ms of the CPU's clock to interrupt four times
/// (`arch/x86/kernel/apic/io_apic.c: timer_irq_works()`). An emulated timer lives in another thread
/// of the host than the CPU, and on a busy host it comes later: the kernel panicked at boot. Guests
/// of KVM, Hyper-V and VMware leave the check out by themselves. For the same reason the tick is
/// periodic: a guest whose one-shot timer was lost hung at boot.
pub fn kernel_command_line(arch: Arch) -> String {
    let console = match arch {
        Arch::X86_64 => "ttyS0 no_timer_check nohz=off highres=off",
        Arch::Arm64 => "ttyAMA0",
    };
    format!("console={console} loglevel=6 panic=0 dyndbg=\"{BOOT_MESSAGES} +p\"")
}

/// A comma ends a suboption; QEMU reads two as one.
fn escape_commas(path: &str) -> String {
    path.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(arch: Arch, accel: Accel) -> MachineSpec {
        MachineSpec {
            arch,
            accel,
            kernel: "/cache/vmlinux".into(),
            initrd: "/tmp/lab-x/initrd".into(),
            console: "/a,b/console.log".into(),
            qmp: "/tmp/lab-x/qmp".into(),
            sandbox: true,
        }
    }

    fn lines(spec: &MachineSpec) -> String {
        command(spec).to_string().replace(" -", "\n-")
    }

    #[test]
    fn x86_64_tcg() {
        insta::assert_snapshot!(lines(&spec(Arch::X86_64, Accel::Tcg)));
    }

    #[test]
    fn x86_64_kvm() {
        insta::assert_snapshot!(lines(&spec(Arch::X86_64, Accel::Kvm)));
    }

    #[test]
    fn arm64_tcg() {
        insta::assert_snapshot!(lines(&spec(Arch::Arm64, Accel::Tcg)));
    }

    #[test]
    fn nothing_listens_beyond_the_loopback() {
        for arch in Arch::ALL {
            let line = command(&spec(arch, Accel::Tcg)).to_string();
            assert!(line.contains("restrict=on") && line.contains("hostfwd=tcp:127.0.0.1:"));
            assert!(line.contains("-nodefaults"));
        }
    }
}
