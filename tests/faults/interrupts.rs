// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C, once and twice, in every phase of a build and of a run; and a terminal that goes away.

use super::Fault;

/// A phase in which somebody presses Ctrl-C.
pub struct Phase {
    pub what: &'static str,
    /// The tool that hangs in it,
    pub tool: &'static str,
    /// if its arguments are like this pattern of the shell.
    pub when: &'static str,
    pub args: &'static [&'static str],
    /// Commands that have been run before, so that the phase is reached at once.
    pub before: &'static [&'static [&'static str]],
}

const fn phase(
    what: &'static str,
    (tool, when): (&'static str, &'static str),
    args: &'static [&'static str],
) -> Phase {
    Phase {
        what,
        tool,
        when,
        args,
        before: &[],
    }
}

pub const IMAGE: &[&str] = &["build", "image", "default"];
pub const KERNEL: &[&str] = &["build", "kernel", "fake"];
pub const RUN: &[&str] = &["run", "scenarios", "--kernel=fake", "--accel=tcg"];

pub const HANGUP: Fault = Fault {
    what: "the terminal goes away (SIGHUP)",
    outcome: "cancelled",
    blame: "",
    code: 130,
    says: "",
};
pub const CLOSED: Fault = Fault {
    what: "a terminal is closed in which lab builds",
    ..HANGUP
};
pub const FAULTS: [&Fault; 2] = [&HANGUP, &CLOSED];

pub const BOOT: &str = "a boot";
pub const TEARDOWN: &str = "the end of a guest";
pub const LOCK: &str = "waiting for another lab";
pub const TRANSITION: &str = "a transition (real guest)";
pub const STEP: &str = "a step (real guest)";
pub const REAL_BOOT: &str = "a boot (real guest)";

pub const PHASES: [Phase; 13] = [
    phase(
        "fetching a source",
        ("git", "*fetch*"),
        &["build", "kernel", "git"],
    ),
    phase(
        "unpacking a source",
        ("tar", "*"),
        &["build", "kernel", "tarball"],
    ),
    Phase {
        before: &[&["build", "kernel", "tarball"]],
        ..phase(
            "patching a tree",
            ("patch", "*"),
            &["build", "kernel", "patched"],
        )
    },
    phase("configuring a kernel", ("make", "*allnoconfig*"), KERNEL),
    phase("building a kernel", ("make", "*vmlinux*"), KERNEL),
    phase(
        "asking for a kernel's release",
        ("make", "*kernelrelease*"),
        KERNEL,
    ),
    phase("reading package lists", ("apt-get", "*update*"), IMAGE),
    phase("fetching packages", ("apt-get", "*download*"), IMAGE),
    phase("unpacking packages", ("dpkg", "-x*"), IMAGE),
    phase("compiling the guest's agent", ("gcc", "*-static*"), IMAGE),
    Phase {
        before: &[KERNEL, IMAGE],
        ..phase("building modules", ("make", "*M=*"), RUN)
    },
    Phase {
        before: &[RUN],
        ..phase(
            "the start of QEMU",
            ("qemu-system-x86_64", "*-qmp*|*-mon*"),
            RUN,
        )
    },
    phase(
        "installing host packages",
        ("apt-get", "*-y*install*"),
        &["setup", "--yes"],
    ),
];

/// Phases that have tests of their own.
pub const OTHERS: [&str; 7] = [
    "trying whether KVM works",
    LOCK,
    BOOT,
    TEARDOWN,
    REAL_BOOT,
    STEP,
    TRANSITION,
];
