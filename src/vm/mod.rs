// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual machine: QEMU's arguments (pure), its process, QMP, the console, and the question
//! whether KVM works here.

pub mod accel;
pub mod args;
pub mod console;
pub mod gdb;
pub mod kernel_log;
pub mod machine;
mod memory;
pub mod qmp;
mod recorder;
pub mod registers;
pub mod replay;
pub mod ring;
mod scratch;
pub mod splat;
pub mod template;

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

/// All limits on waiting for a guest, in one place: generous, because a loaded CI machine is slow
/// and a limit that is met costs nothing. How long QEMU itself may take for a command is beside
/// what asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From QEMU's start to the init's last line.
    pub boot: Duration,
    /// Login, upload, and each answer of the agent beyond what the request itself waits for.
    pub answer: Duration,
    /// For a transition to end. The kernel signals the tasks that hold one up after 15 s.
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
        const SLOWER: u32 = 2;
        Self {
            boot: self.boot * SLOWER,
            answer: self.answer * SLOWER,
            transition: self.transition * SLOWER,
            script: self.script * SLOWER,
            ..self
        }
    }
}
