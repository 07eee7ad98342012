// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults injected on purpose, each with the verdict, the blame and the evidence that it must get.
//!
//! `guest` provokes them in real guests, `host` around them. Both are tables, of which `page`
//! makes `docs/reliability.md`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod guest;
mod host;
mod hostile;
mod page;
#[path = "../common/sandbox.rs"]
mod sandbox;
