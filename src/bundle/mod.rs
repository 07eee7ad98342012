// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run in one file, for whoever is to see it on another machine: `lab bundle` writes it from the
//! run's record, `lab repro` plays it again.
//!
//! ```text
//! bundle.json   what follows, with sums; what was run, and in which manner it ended
//! built/        the kernel that was booted and its whole configuration, the initramfs, the modules
//! project/      the scenario, the kernel's definition, its patches and its config fragments
//! run/          the record: console, events, states, diff, verdict, QEMU's command line
//! ```
//!
//! **The same run gives the same bytes**: members are sorted, have no owner and no time, and one
//! thread compresses them.
//!
//! **A bundle is a stranger's.** It is read by the rules of `store::members`, and is no more than
//! plain files that `bundle.json` declares, each with its size and its sum. Nothing in it is run on
//! the host but by the build of a kernel from its definition and patches, which whoever plays it
//! again is told first; the C of modules is generated anew from the scenario, and the guest's
//! programs are the lab's own.

pub mod again;
pub mod contents;
pub mod manifest;
mod mask;
pub mod read;
pub mod write;

pub use contents::Contents;
pub use manifest::Manifest;
pub use read::Bundle;

/// The folder with the files of the project.
pub const PROJECT: &str = "project";
/// The folder with the record.
pub const RUN: &str = "run";
