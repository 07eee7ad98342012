// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's command line: a value to show, to snapshot and to repeat by hand.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Accel;
use crate::arch::{Arch, Hardware};
use crate::process::Cmd;
use crate::size::Size;

/// What a machine is made from.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// The guest's architecture.
    pub arch: Arch,
    /// How it is executed.
    pub accel: Accel,
    /// How large it is.
    pub size: Size,
    /// What to boot.
    pub kernel: PathBuf,
    /// The image's initramfs.
    pub image: &'a Path,
    /// The folder for console, QMP log and command line.
    pub record: &'a Path,
}

/// A machine to start.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// The guest's architecture.
    pub arch: Arch,
    /// How it is executed.
    pub accel: Accel,
    /// How large it is.
    pub size: Size,
    /// What to boot and its initramfs; `None` for a machine that goes on where a template was kept.
    pub boot: Option<(PathBuf, PathBuf)>,
    /// Where its memory is.
    pub memory: Memory,
    /// Where the console goes; what is there stays.
    pub console: PathBuf,
    /// The pipe that the console is typed on.
    pub input: PathBuf,
    /// Where QMP listens.
    pub qmp: PathBuf,
    /// Whether QEMU gives up the system calls that it does not need.
    pub sandbox: bool,
    /// Whether QEMU has qboot, which takes 20 ms where `SeaBIOS` takes 90.
    pub qboot: bool,
    /// Where all that gets to the guest from outside is written, or comes from.
    pub log: Option<Log>,
}

/// The log of a machine that is recorded or replayed: all that its instructions do not decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// It is written.
    Record(PathBuf),
    /// It is read, and nothing else gets to the guest.
    Replay(PathBuf),
}

/// A machine's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// Of QEMU's own.
    Own,
    /// A file that has what the guest writes.
    Shared(PathBuf),
    /// A file that stays as it is.
    Private(PathBuf),
}

impl MachineSpec {
    /// Whether the firmware is qboot. Only where it is tried all the time.
    fn has_qboot(&self) -> bool {
        self.qboot && self.arch.row().qboot && self.accel == Accel::Tcg
    }
}

/// What distinguishes one start of a machine from another.
pub(super) struct Spec {
    pub(super) boot: Option<(PathBuf, PathBuf)>,
    pub(super) memory: Memory,
    pub(super) qboot: bool,
    pub(super) log: Option<Log>,
}

impl Spec {
    /// A machine that boots.
    pub(super) fn boot(parts: &Parts<'_>) -> Self {
        Self {
            boot: Some((parts.kernel.clone(), parts.image.to_path_buf())),
            memory: Memory::Own,
            qboot: true,
            log: None,
        }
    }
}

/// QEMU's name of the quick firmware.
pub const QBOOT: &str = "qboot.rom";
/// The guest's nanoseconds for an instruction, as a power of two.
const SHIFT: &str = "auto";

/// QEMU's program for an architecture.
pub fn program(arch: Arch) -> &'static str {
    arch.row().emulator.provides
}

/// The command that starts the machine, stopped: QMP connects before the first instruction, so
/// that no event is missed.
pub fn command(spec: &MachineSpec) -> Cmd {
    let path = |path: &Path| escape_commas(&path.to_string_lossy());
    let sandbox = [
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ];
    let start = match &spec.boot {
        Some((kernel, initrd)) => boot(kernel, initrd, kernel_command_line(spec.arch, &spec.size)),
        None => vec!["-incoming".into(), "defer".into()],
    };
    let command = Cmd::new(program(spec.arch))
        .args(sandbox.iter().filter(|_| spec.sandbox))
        .arg("-S")
        .args(hardware(
            (spec.arch, spec.accel),
            &spec.size,
            &spec.memory,
            spec.log.as_ref(),
        ));
    let command = match spec.has_qboot() {
        true => command.args(["-bios", QBOOT]),
        false => command,
    };
    let input = match &spec.log {
        // What was typed is in the log.
        Some(Log::Replay(_)) => String::new(),
        _ => format!(",input-path={}", path(&spec.input)),
    };
    command
        .args(start)
        // The short forms know no escape for a comma.
        .args([
            "-chardev",
            &format!(
                "file,id=console,path={},append=on{input}",
                path(&spec.console)
            ),
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

/// The command that boots the same to a shell on the terminal.
pub fn by_hand(parts: &Parts<'_>) -> Cmd {
    let append = kernel_command_line(parts.arch, &parts.size) + " rdinit=/bin/sh";
    Cmd::new(program(parts.arch))
        .args(hardware(
            (parts.arch, parts.accel),
            &parts.size,
            &Memory::Own,
            None,
        ))
        .args(boot(&parts.kernel, parts.image, append))
        .args(["-serial", "mon:stdio"])
}

/// What a recording rests on besides QEMU and files: the machine as it is made here. A replay in
/// another one would go astray.
pub fn recorded_machine(arch: Arch, size: &Size, qboot: bool) -> String {
    let log = Log::Record(PathBuf::new());
    let firmware = ["-bios", QBOOT];
    Cmd::new(program(arch))
        .args(hardware((arch, Accel::Tcg), size, &Memory::Own, Some(&log)))
        .args(firmware.iter().filter(|_| qboot && arch.row().qboot))
        .args(["-append", &kernel_command_line(arch, size)])
        .to_string()
}

/// What the kernel finds.
///
/// One thread of the host executes all CPUs of an emulated guest (`thread=single`). With a thread for
/// each, a CPU can execute a stale translation of code that another CPU has just patched (QEMU 8.0 to
/// 10.0.2): it meets an `int3` of the function tracer that is no longer in memory, and the oops is
/// QEMU's. 56 runs with eight guests on two CPUs took 40 s with one thread and 42 s with two.
///
/// With several CPUs each has a socket of its own, as QEMU has it for one.
fn hardware(
    (arch, accel): (Arch, Accel),
    size: &Size,
    memory: &Memory,
    log: Option<&Log>,
) -> Vec<String> {
    let Hardware { machine, cpu } = match accel {
        Accel::Kvm => &arch.row().kvm,
        Accel::Tcg => &arch.row().tcg,
    };
    let cpus = match size.cpus {
        1 => "1".to_owned(),
        cpus => format!("{cpus},sockets={cpus}"),
    };
    let size = format!("{}M", size.memory_mib);
    let (backend, memory) = match memory {
        Memory::Own => (None, ""),
        Memory::Shared(file) => (Some((file, "on")), ",memory-backend=ram"),
        Memory::Private(file) => (Some((file, "off")), ",memory-backend=ram"),
    };
    let backend = backend.map(|(file, share)| {
        let file = escape_commas(&file.to_string_lossy());
        format!("memory-backend-file,id=ram,size={size},mem-path={file},share={share}")
    });
    // The guest reaches nothing; the host reaches its ssh through a port that QEMU picks.
    let forward = match log {
        Some(Log::Replay(_)) => "",
        _ => ",hostfwd=tcp:127.0.0.1:0-10.0.2.15:22",
    };
    // A queue that is handled in another thread of QEMU is handled at another instruction.
    let same_thread = if log.is_some() { ",ioeventfd=off" } else { "" };
    // The last instruction of a machine that went down can be asked for.
    let down = if log.is_some() { ",shutdown=pause" } else { "" };
    let counted = log.into_iter().flat_map(|log| {
        let (mode, file) = match log {
            Log::Record(file) => ("record", file),
            Log::Replay(file) => ("replay", file),
        };
        let file = escape_commas(&file.to_string_lossy());
        [
            "-icount".to_owned(),
            format!("shift={SHIFT},rr={mode},rrfile={file}"),
            "-object".to_owned(),
            "filter-replay,id=log,netdev=net".to_owned(),
        ]
    });
    let fixed = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        &format!("{machine}{memory}"),
        "-accel",
        match (accel, log) {
            (Accel::Tcg, None) => "tcg,thread=single",
            // A machine whose instructions are counted has one thread by itself. Recordings that are
            // there already were made with this very line.
            _ => accel.name(),
        },
        "-cpu",
        cpu,
        "-smp",
        &cpus,
        "-m",
        &size,
        "-netdev",
        &format!("user,id=net,restrict=on{forward}"),
        "-device",
        &format!("virtio-net-pci,netdev=net,romfile={same_thread}"),
        "-device",
        "virtio-rng-pci",
        // A panic stops the machine so that evidence can be taken; with QEMU's default it would
        // exit with status 0. A reset (a triple fault) ends QEMU.
        "-device",
        "pvpanic-pci",
        "-action",
        &format!("panic=pause,reboot=shutdown{down}"),
    ];
    let fixed = fixed.map(str::to_owned).into_iter();
    let backend = backend.into_iter();
    fixed
        .chain(backend.flat_map(|backend| ["-object".to_owned(), backend]))
        .chain(counted)
        .collect()
}

fn boot(kernel: &Path, initrd: &Path, append: String) -> Vec<OsString> {
    let kernel = ["-kernel".into(), kernel.into()];
    let initrd = ["-initrd".into(), initrd.into()];
    let append = ["-append".into(), append.into()];
    [kernel, initrd, append].concat()
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
///
/// `tsc=nowatchdog`: in 7.3.4 the watchdog of clocksources waits for another CPU, interrupts off,
/// as long as a clock says (`kernel/time/clocksource.c: watchdog_wait_seq()`). While that clock is
/// still `jiffies`, it stands still meanwhile; and if the other CPU waits with its interrupts off as
/// well, in the `stop_machine()` that changes the clocksource, the boot ends there: one in a hundred
/// did on a busy host. The emulated CPUs have one TSC, the host's, so that there is nothing to watch.
///
/// Words that spare an emulated guest its measurements of clocks (`tsc=reliable lpj=…
/// cpu_init_udelay=0`) save 100 ms, and on a busy host one boot in a hundred stood still for 15 s.
pub fn kernel_command_line(arch: Arch, size: &Size) -> String {
    let row = arch.row();
    let words = [&[row.console], row.command_line].concat().join(" ");
    let own = format!("console={words} loglevel=6 panic=0 dyndbg=\"{BOOT_MESSAGES} +p\"");
    match &*size.append {
        "" => own,
        append => format!("{own} {append}"),
    }
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
            size: Size::default(),
            boot: Some(("/cache/vmlinux".into(), "/cache/initramfs.cpio".into())),
            memory: Memory::Own,
            console: "/a,b/console.log".into(),
            input: "/tmp/lab-x/input".into(),
            qmp: "/tmp/lab-x/qmp".into(),
            sandbox: true,
            qboot: true,
            log: None,
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
    fn a_guest_has_the_size_that_is_asked_for() {
        for arch in Arch::ALL {
            let mut spec = spec(arch, Accel::Tcg);
            spec.memory = Memory::Shared("/cache/memory".into());
            spec.size = Size {
                cpus: 2,
                memory_mib: 1536,
                append: "slub_debug=FZ lab.test=1".into(),
            };
            insta::assert_snapshot!(lines(&spec));
        }
    }

    #[test]
    fn what_a_recording_of_a_larger_guest_rests_on_says_so() {
        let size = Size {
            memory_mib: 512,
            append: "lab.test=1".into(),
            ..Size::default()
        };
        let machine = recorded_machine(Arch::X86_64, &size, true);
        assert!(
            machine.contains("-m 512M") && machine.contains("-smp 1"),
            "{machine}"
        );
        assert!(machine.contains(" lab.test=1'"), "{machine}");
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
    fn a_fork_has_its_own_copy_of_a_templates_memory() {
        let mut spec = spec(Arch::X86_64, Accel::Tcg);
        spec.memory = Memory::Shared("/cache/t,1/memory".into());
        let template = command(&spec).to_string();
        assert!(template.contains("mem-path=/cache/t,,1/memory,share=on"));
        spec.boot = None;
        spec.memory = Memory::Private("/cache/t,1/memory".into());
        insta::assert_snapshot!(lines(&spec));
    }

    #[test]
    fn a_recording_and_its_replay_are_of_the_same_machine() {
        let mut recorded = spec(Arch::X86_64, Accel::Tcg);
        recorded.log = Some(Log::Record("/runs/a,b/replay.bin".into()));
        insta::assert_snapshot!(lines(&recorded));
        let mut replayed = recorded.clone();
        replayed.log = Some(Log::Replay("/runs/a,b/replay.bin".into()));
        insta::assert_snapshot!(lines(&replayed));
        // Nothing gets in but what is in the log.
        let line = command(&replayed).to_string();
        assert!(!line.contains("hostfwd") && !line.contains("input-path"));
    }

    #[test]
    fn what_a_recording_rests_on_names_no_file_of_it() {
        for arch in Arch::ALL {
            insta::assert_snapshot!(recorded_machine(arch, &Size::default(), true));
        }
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
