// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults around the guests: QEMU, the disk, other labs, the user.

use super::{Fault, infra, passes};

pub const KILLED: Fault = infra("QEMU is killed", "QEMU ended (signal: 9 (SIGKILL))");
pub const STOPPED: Fault = infra(
    "QEMU is stopped",
    "QEMU answers nothing either, it was stopped by a signal",
);
pub const STOPPED_AT_BOOT: Fault = infra(
    "QEMU is stopped during a boot",
    "QEMU answers nothing either, it was stopped by a signal",
);
pub const TENTH: Fault = passes(
    "QEMU gets a tenth of its time, and the limits are as long as a quick boot",
    "the guest boots and answers",
);
pub const STARVED: Fault = infra(
    "the host gives QEMU hardly any time",
    "the host gave QEMU no time",
);
pub const EXPIRED: Fault = infra(
    "QEMU gets a tenth of its time, and the run has a --timeout",
    ", and was stopped for",
);
pub const SLOW: Fault = passes("QEMU takes 3 s to start", "passed");
pub const OLD: Fault = infra("QEMU is too old", "install 8.2 or later");
pub const NO_SECCOMP: Fault = passes("QEMU has no seccomp", "passed");
pub const NO_KVM: Fault = passes("QEMU aborts under KVM", "guests run under TCG, not KVM");
pub const NO_QEMU: Fault = infra(
    "QEMU is missing",
    "host packages are missing: qemu-system-x86",
);
pub const QMP_LOST: Fault = infra("the QMP socket is lost", "QEMU closed its QMP socket");
pub const QMP_MUTE: Fault = infra(
    "a QMP command is not answered",
    "QMP cont: no answer within 20s",
);
pub const NO_TMPDIR: Fault = infra(
    "TMPDIR is gone",
    "set TMPDIR to a folder that you can write to",
);
pub const FULL_TMPDIR: Fault = infra("TMPDIR is full", "No space left on device");
pub const READ_ONLY: Fault = infra("the checkout is read-only", "--output DIR");
pub const COMPILER: Fault = infra("the compiler crashes", "the compiler crashed");
pub const APT: Fault = infra("apt fails half-way", "apt-get");
pub const TWO_LABS: Fault = passes(
    "two labs want one kernel",
    "waiting for another lab to build kernel",
);
pub const SIGKILLED: Fault = passes("lab is killed (SIGKILL)", "passed");
pub const ODD_PATH: Fault = passes("a path with spaces, commas and non-ASCII letters", "passed");
pub const NO_READER: Fault = passes("nobody reads the output any more (`| head`)", "passed");

pub const SLOW_CONSOLE: Fault = passes("the console is slow", "passed");

pub const FAULTS: [&Fault; 23] = [
    &KILLED,
    &STOPPED,
    &STOPPED_AT_BOOT,
    &TENTH,
    &STARVED,
    &EXPIRED,
    &SLOW,
    &OLD,
    &NO_SECCOMP,
    &NO_KVM,
    &NO_QEMU,
    &QMP_LOST,
    &QMP_MUTE,
    &NO_TMPDIR,
    &FULL_TMPDIR,
    &READ_ONLY,
    &COMPILER,
    &APT,
    &TWO_LABS,
    &SIGKILLED,
    &ODD_PATH,
    &NO_READER,
    &SLOW_CONSOLE,
];
