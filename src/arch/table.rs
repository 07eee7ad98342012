// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of architectures: all that the lab knows of one is its row.
//!
//! What reads a row does not ask which one it is. Another architecture is another row here and
//! another name in [`Arch`](super::Arch).

use object::elf;

/// A host package and the reason for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPackage {
    /// The Debian package.
    pub name: &'static str,
    /// A file that shows that what it gives is there.
    pub provides: &'static str,
    /// Why the lab needs it.
    pub why: &'static str,
}

/// A host package, as it is written in a table.
pub(crate) const fn package(
    name: &'static str,
    provides: &'static str,
    why: &'static str,
) -> HostPackage {
    HostPackage {
        name,
        provides,
        why,
    }
}

/// A machine of QEMU's and the CPU in it.
#[derive(Debug)]
pub struct Hardware {
    /// `-machine`.
    pub machine: &'static str,
    /// `-cpu`.
    pub cpu: &'static str,
}

/// What an architecture is.
#[derive(Debug)]
pub struct Row {
    /// The name that users see and write. It is the kernel's name, hence `arm64`.
    pub name: &'static str,
    /// What `uname -m` says, and Rust.
    pub uname: &'static str,
    /// Debian's name.
    pub debian: &'static str,

    /// `ARCH=` of the kernel's build system.
    pub kernel_arch: &'static str,
    /// `CROSS_COMPILE=` on a host of another architecture.
    pub cross_compile: &'static str,
    /// The host packages of that compiler.
    pub cross: &'static [HostPackage],
    /// The make targets that make what QEMU boots and modules need.
    pub targets: &'static [&'static str],
    /// What QEMU boots, below the build folder.
    pub boot_file: &'static str,
    /// What the kernel's klp-build needs on the host; `None` if it does not know the architecture.
    pub klp_build: Option<&'static [HostPackage]>,

    /// The option that each kernel's configuration for it has.
    pub config: &'static str,
    /// The options that a guest's kernel needs besides those of every architecture, and why.
    pub needed: &'static [(&'static str, &'static str)],

    /// The host package with QEMU's program.
    pub emulator: HostPackage,
    /// What the host's processor executes.
    pub kvm: Hardware,
    /// What QEMU translates.
    pub tcg: Hardware,
    /// Whether QEMU's machine boots with qboot.
    pub qboot: bool,
    /// How much longer than for one of KVM to wait for an emulated guest.
    pub tcg_patience: u32,
    /// The kernel's name of the serial port.
    pub console: &'static str,
    /// Words of the kernel's command line; [`crate::vm::args::kernel_command_line`] has the reasons.
    pub command_line: &'static [&'static str],
    /// How QEMU's `info registers` names the program counter.
    pub program_counter: &'static str,

    /// The machine in the header of an ELF file. All are of 64 bits, little endian.
    pub elf_machine: elf::Machine,
    /// The relocation of a whole pointer.
    pub elf_pointer: elf::RelocationType,
    /// What follows the options in a module's vermagic (`MODULE_ARCH_VERMAGIC`).
    pub vermagic: &'static str,
}

/// 64-bit x86.
pub(super) const X86_64: Row = Row {
    name: "x86_64",
    uname: "x86_64",
    debian: "amd64",
    kernel_arch: "x86_64",
    cross_compile: "x86_64-linux-gnu-",
    cross: &[
        package(
            "gcc-x86-64-linux-gnu",
            "x86_64-linux-gnu-gcc",
            "compiles x86_64 kernels on this host",
        ),
        package(
            "libc6-dev-amd64-cross",
            "/usr/x86_64-linux-gnu/include/stdlib.h",
            "the agent of x86_64 guests is linked statically",
        ),
    ],
    targets: &["vmlinux", "modules"],
    boot_file: "vmlinux",
    klp_build: Some(&[
        package(
            "patchutils",
            "recountdiff",
            "the kernel's klp-build refreshes patches",
        ),
        package("gawk", "gawk", "the kernel's klp-build"),
        package(
            "libxxhash-dev",
            "/usr/include/xxhash.h",
            "objtool compares functions for klp-build",
        ),
        package(
            "ccache",
            "ccache",
            "klp-build compiles each kernel from the start",
        ),
    ]),
    config: "X86_64",
    needed: &[("SERIAL_8250_CONSOLE", "the console is the evidence")],
    emulator: package(
        "qemu-system-x86",
        "qemu-system-x86_64",
        "runs x86_64 guests",
    ),
    kvm: Hardware {
        machine: "q35",
        cpu: "host",
    },
    // What Debian's programs need and no more: XSAVE and page tables of five levels cost an
    // emulated CPU a tenth of its boot. RDRAND seeds the kernel before virtio-rng is there.
    tcg: Hardware {
        machine: "q35",
        cpu: "Nehalem,+rdrand",
    },
    qboot: true,
    tcg_patience: 3,
    console: "ttyS0",
    command_line: &[
        "no_timer_check",
        "tsc=nowatchdog",
        "nohz=off",
        "highres=off",
    ],
    program_counter: "RIP=",
    elf_machine: elf::EM_X86_64,
    elf_pointer: elf::R_X86_64_64,
    vermagic: "",
};

/// 64-bit Arm, little endian.
pub(super) const ARM64: Row = Row {
    name: "arm64",
    uname: "aarch64",
    debian: "arm64",
    kernel_arch: "arm64",
    cross_compile: "aarch64-linux-gnu-",
    cross: &[
        package(
            "gcc-aarch64-linux-gnu",
            "aarch64-linux-gnu-gcc",
            "compiles arm64 kernels on this host",
        ),
        package(
            "libc6-dev-arm64-cross",
            "/usr/aarch64-linux-gnu/include/stdlib.h",
            "the agent of arm64 guests is linked statically",
        ),
    ],
    targets: &["Image", "modules"],
    boot_file: "arch/arm64/boot/Image",
    klp_build: None,
    config: "ARM64",
    needed: &[
        ("SERIAL_AMBA_PL011_CONSOLE", "the console is the evidence"),
        ("PCI_HOST_GENERIC", "QEMU's virt machine has this PCI host"),
    ],
    emulator: package(
        "qemu-system-arm",
        "qemu-system-aarch64",
        "runs arm64 guests",
    ),
    // The newest interrupt controller, since the default depends on QEMU and accelerator.
    kvm: Hardware {
        machine: "virt,gic-version=host",
        cpu: "host",
    },
    tcg: Hardware {
        machine: "virt,gic-version=3",
        cpu: "cortex-a57",
    },
    qboot: false,
    tcg_patience: 4,
    console: "ttyAMA0",
    command_line: &[],
    program_counter: "PC=",
    elf_machine: elf::EM_AARCH64,
    elf_pointer: elf::R_AARCH64_ABS64,
    vermagic: "aarch64",
};
