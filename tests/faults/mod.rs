// SPDX-License-Identifier: MIT OR Apache-2.0
//! The faults that tests provoke, and what must come of each: tables, of which `docs/reliability.md` is
//! made (`tests/fast/reliability.rs`). The tests are in `tests/tools/` and `tests/guests/provoked/`.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod clock;
pub mod damage;
pub mod disk;
pub mod guest;
pub mod host;
pub mod interrupts;
pub mod klp_build;
pub mod mistakes;
pub mod ports;
pub mod snapshots;

/// What happens to the lab, and what must come of it.
pub struct Fault {
    pub what: &'static str,
    /// As it is shown: `could not run`, or what the lab does about it.
    pub outcome: &'static str,
    /// As it is shown, in brackets; empty if nobody is to blame.
    pub blame: &'static str,
    pub code: i32,
    /// What the message says.
    pub says: &'static str,
}

pub const fn infra(what: &'static str, says: &'static str) -> Fault {
    Fault {
        what,
        outcome: "could not run",
        blame: "host",
        code: 3,
        says,
    }
}

pub const fn passes(what: &'static str, outcome: &'static str) -> Fault {
    Fault {
        what,
        outcome,
        blame: "",
        code: 0,
        says: outcome,
    }
}
