// SPDX-License-Identifier: MIT OR Apache-2.0
//! What kernels complain of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a kernel complains of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplatKind {
    /// It stopped: `panic()`.
    Panic,
    /// A task died of an exception: a bad pointer, `BUG()`.
    Oops,
    /// A broken rule that the kernel itself found: scheduling while atomic, a bad page.
    Bug,
    /// `WARN()`.
    Warning,
    /// Lockdep or RCU found an order or a context that can go wrong.
    Lockdep,
    /// KASAN, KFENCE, KMSAN, KCSAN or UBSAN.
    Sanitizer,
    /// A CPU did not schedule, or take interrupts, for too long.
    Lockup,
    /// A task slept uninterruptibly for too long, or waits for references that nobody drops.
    HungTask,
    /// A grace period did not end.
    RcuStall,
    /// It killed a process for want of memory.
    OutOfMemory,
    /// It wrote faster than its console: what else it said is not known.
    LostMessages,
}

impl SplatKind {
    /// Whether it says that something did not happen for too long.
    pub fn is_stall(self) -> bool {
        matches!(self, Self::Lockup | Self::HungTask | Self::RcuStall)
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            SplatKind::Panic => "kernel panic",
            SplatKind::Oops => "oops",
            SplatKind::Bug => "kernel bug",
            SplatKind::Warning => "warning",
            SplatKind::Lockdep => "lockdep",
            SplatKind::Sanitizer => "sanitizer",
            SplatKind::Lockup => "lockup",
            SplatKind::HungTask => "hung task",
            SplatKind::RcuStall => "RCU stall",
            SplatKind::OutOfMemory => "out of memory",
            SplatKind::LostMessages => "lost messages",
        }
    }
}

impl fmt::Display for SplatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
