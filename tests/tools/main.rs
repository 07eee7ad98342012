// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tier of fake tools: the real `lab` in projects whose PATH has little but scripts. No QEMU, no
//! apt, no kernel.
//!
//! `cargo test --test tools`

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cli;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod disk;
mod export;
mod fake;
#[path = "../faults/mod.rs"]
mod faults;
mod first_build;
mod host;
mod intake;
mod interrupts;
mod klp_build;
mod on_terminal;
mod plan;
mod prompts;
mod review;
#[path = "../screens/mod.rs"]
mod screens;
mod snapshots;
mod stages;
