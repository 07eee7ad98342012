// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a plan to verdicts: shared builds once, guests side by side and beside the builds.
//!
//! Builds hand runs on as they get ready; of those that are ready, the longest starts first. A
//! guest that is as it was after its boot plays the next one. Which one that is, and what is tried again, is
//! decided in `schedule.rs` and done in `drive.rs`.

mod allowed;
mod ask;
mod attempt;
mod builds;
mod confirm;
mod drive;
pub mod forensics;
mod handover;
pub mod judge;
mod live;
pub mod log;
mod lost;
pub mod manner;
pub mod memory;
mod next;
pub mod origin;
pub mod pause;
mod paused;
pub mod record;
pub mod run;
mod schedule;
pub mod shipped;
mod steps;
mod times;
mod tree;
mod twice;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::{Event, millis};
use crate::plan::Plan;
use crate::state::Snapshots;
use crate::vm::accel::Choice;
use drive::Drive;
use pause::Pause;
use run::Ended;
use shipped::Shipped;

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// `--accel`.
    pub accel: Choice,
    /// What was accepted, and what to do with what differs.
    pub snapshots: Snapshots,
    /// Guests at the same time.
    pub jobs: usize,
    /// A place for each guest that boots. A boot uses a CPU all the time, and measures its clocks
    /// against each other: more of them than CPUs are slower, and may fail for no fault of the
    /// kernel.
    pub boots: Semaphore,
    /// How often a run is tried before it counts as failed; at least once.
    pub attempts: u32,
    /// How long one guest may take in all.
    pub timeout: Option<Duration>,
    /// Start no further runs after an unexpected result.
    pub fail_fast: bool,
    /// Whether to keep the memory of a guest that panics.
    pub dump_on_panic: bool,
    /// Whether guests are forks of templates, and play several runs.
    pub warm: bool,
    /// Whether guests are recorded, each for itself.
    pub record: bool,
    /// Whether transitions go at the kernel's own pace: `--patient`.
    pub patient: bool,
    /// The folder of the run records.
    pub records: PathBuf,
    /// When runs stop with their guests alive.
    pub pause: Pause,
    /// What is booted and loaded instead of what would be built.
    pub shipped: Option<Shipped>,
}

impl Options {
    /// One warm guest at a time, each run once, however long it takes.
    pub fn new(snapshots: Snapshots, records: PathBuf) -> Self {
        Self {
            accel: Choice::Auto,
            snapshots,
            jobs: 1,
            boots: Semaphore::new(1),
            attempts: 1,
            timeout: None,
            fail_fast: false,
            dump_on_panic: false,
            warm: true,
            record: false,
            patient: false,
            records,
            pause: Pause::default(),
            shipped: None,
        }
    }

    /// Whether a guest plays several runs.
    fn shares_guests(&self) -> bool {
        self.warm && !self.pause.is_possible()
    }
}

/// Runs a plan. Returns every run with its verdict, in the order in which they ended.
///
/// # Errors
///
/// `Interrupted` if the user pressed Ctrl-C. What goes wrong with a run is its verdict.
pub async fn run_all(ctx: &Context, plan: &Plan<'_>, options: Options) -> Result<Vec<Ended>> {
    let started = Instant::now();
    let options = Arc::new(options);
    let mut peak = 0;
    let mut drive = Drive::new(ctx, plan, &options);
    tokio::select! {
        () = drive.run() => {}
        () = memory::watch(&mut peak) => {}
    }
    ctx.events.send(Event::Ended {
        ms: millis(started.elapsed()),
        guests: drive.most(),
        memory_mib: peak,
    });
    let ended = drive.finish();
    if ctx.cancel.is_cancelled() {
        return Err(Error::interrupted());
    }
    Ok(ended)
}
