// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults injected on purpose, each with the verdict, the blame and the evidence that it must get.
//!
//! `guest` provokes them in real guests, `host` around them; `disk`, `interrupts`, `clock` and
//! `damage` do so at every stage. All are tables, of which `page` makes `docs/reliability.md`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod clock;
#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod damage;
mod disk;
mod guest;
mod host;
mod hostile;
mod interrupts;
mod page;
mod ports;
#[path = "../common/sandbox.rs"]
mod sandbox;
mod stages;
