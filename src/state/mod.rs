// SPDX-License-Identifier: MIT OR Apache-2.0
//! States: observed → normalised → text, and their comparison. Pure, but for reading and writing
//! snapshot files.

pub mod diff;
pub mod expect;
pub mod log;
pub mod mask;
pub mod observed;
pub mod older;
pub mod refusal;
pub mod snapshot;
pub mod snapshots;
pub mod stall;
pub mod transition;
pub mod witness;

pub use log::StepLog;
pub use observed::{Livepatch, Names, Object, Observed};
pub use snapshots::{SnapshotPolicy, Snapshots};
