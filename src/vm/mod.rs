// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual machine: QEMU's arguments (pure), its process, QMP, the console, and the question
//! whether KVM works here.

pub mod accel;
pub mod args;
pub mod console;
pub mod emulator;
pub mod gdb;
pub mod kernel_log;
pub mod machine;
mod memory;
pub mod modules;
pub mod progress;
pub mod qmp;
mod ready;
mod recorder;
pub mod registers;
pub mod replay;
pub mod ring;
mod scratch;
pub mod splat;
pub mod template;
pub mod vitals;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::arch::Arch;

/// How guest code is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By the host's processor.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

impl Accel {
    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

impl std::fmt::Display for Accel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// All limits on waiting for a guest, in one place. They count the time in which the guest could run
/// ([`progress`]), not the wall's: a host that is ten times too slow makes them ten times as long. They
/// are generous all the same, because not all that makes a host slow can be seen, and a limit that
/// is met costs nothing. How long QEMU itself may take for a command is beside what asks it, and
/// counts in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From one line on the console to the next, until the init's last one. A boot that goes on for
    /// ever has an end as well: after ten times as long.
    pub boot: Duration,
    /// Login, upload, and each answer of the agent beyond what the request itself waits for.
    pub answer: Duration,
    /// For a transition to end, by the guest's own clock, which is the wall's. The kernel signals the
    /// tasks that hold one up after 15 s, by the same clock.
    pub transition: Duration,
    /// For a script of selftests, which may wait a minute for each of many things.
    pub script: Duration,
    /// For an answer after a complaint of its kernel.
    pub after_splat: Duration,
    /// For its console to say the last words after the connection is lost.
    pub last_words: Duration,
    /// For a login and each answer of a guest whose time is up.
    pub overdue: Duration,
    /// For what SysRq shows.
    pub sysrq: Duration,
}

impl Deadlines {
    /// The limits for a guest that somebody may stop in a debugger. A transition's is counted by the
    /// guest, whose time stands still then.
    #[must_use]
    pub fn debugged(self) -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            boot: DAY,
            answer: DAY,
            script: DAY,
            ..self
        }
    }

    /// The limits for an accelerator and an architecture.
    pub fn of(accel: Accel, arch: Arch) -> Self {
        let scale = match accel {
            Accel::Kvm => 1,
            Accel::Tcg => arch.row().tcg_patience,
        };
        Self {
            boot: Duration::from_secs(30) * scale,
            answer: Duration::from_secs(10) * scale,
            transition: Duration::from_secs(30) * scale,
            script: Duration::from_secs(300) * scale,
            after_splat: Duration::from_secs(10),
            last_words: Duration::from_millis(300),
            overdue: Duration::from_secs(15),
            sysrq: Duration::from_secs(5),
        }
    }

    /// The same while a guest is recorded, which makes it slower.
    #[must_use]
    pub fn recorded(self) -> Self {
        self.times(2)
    }

    /// Limits that are so many times as long, for a guest that is known to be slow.
    #[must_use]
    pub fn times(self, slower: u32) -> Self {
        Self {
            boot: self.boot * slower,
            answer: self.answer * slower,
            transition: self.transition * slower,
            script: self.script * slower,
            ..self
        }
    }
}
