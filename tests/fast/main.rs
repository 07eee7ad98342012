// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fast tier: no guest, no network, no root, and nothing to install.
//!
//! `cargo test --lib --test fast`

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod corpus;
mod events;
mod export;
#[path = "../faults/mod.rs"]
mod faults;
mod fleet;
mod hostile;
mod layers;
mod on_screen;
mod reliability;
mod scenario_errors;
mod scenario_files;
#[path = "../screens/mod.rs"]
mod screens;

mod series;
