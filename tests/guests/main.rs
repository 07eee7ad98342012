// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tier of guests: real kernels in real guests. It installs what the host lacks and builds kernels
//! and images; a missing tool fails, it skips no test.
//!
//! `cargo test --release --test guests`

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bundle;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod consoles;
#[path = "../faults/mod.rs"]
mod faults;
mod hammers;
mod intake;
mod interactive;
mod klp_build;
mod kunit;
mod log;
mod machine;
mod matrix;
mod provoked;
mod real;
mod replay;
mod reports;
mod search;
mod selftests;
mod series;
mod slurm;
mod snapshots;
mod turn;
mod warm;
