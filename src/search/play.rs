// SPDX-License-Identifier: MIT OR Apache-2.0
//! Playing the runs of a search: their verdicts are the search's to tell, what is built for them is
//! shown as ever.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio::sync::Semaphore;

use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::{Event, Events};
use crate::plan::{Plan, Run};
use crate::runner::run::Ended;
use crate::runner::{self, Options};
use crate::size::Choices;
use crate::state::{SnapshotPolicy, Snapshots};
use crate::verdict::Outcome;
use crate::vm::accel::Choice;

/// How runs are played.
#[derive(Debug, Clone)]
pub struct How {
    /// `--accel`.
    pub accel: Choice,
    /// Guests at the same time.
    pub jobs: usize,
    /// Guests that boot at the same time.
    pub boots: usize,
    /// How large the guests are; of numbers of CPUs there is one at most.
    pub sizes: Choices,
}

/// Plays runs, and counts.
#[derive(Debug)]
pub struct Player<'a> {
    /// What the search works with.
    pub ctx: &'a Context,
    /// How.
    pub how: How,
    /// The folder of the records, of which this search is the only user.
    pub records: PathBuf,
    /// Runs that were played; what could not be built is none.
    pub played: Cell<usize>,
    /// Kernels that were built.
    pub built: Cell<usize>,
    /// Notes that have been shown.
    notes: RefCell<BTreeSet<String>>,
}

impl<'a> Player<'a> {
    /// A player for the search `what`, whose records go to a folder of their own below `.lab`.
    pub fn new(ctx: &'a Context, how: How, what: &str) -> Result<Self> {
        let time = jiff::Timestamp::now()
            .strftime("%Y%m%d-%H%M%S%.3f")
            .to_string();
        let records = ctx.project.join(".lab").join(what).join(time);
        std::fs::create_dir_all(&records).at("create", &records)?;
        Ok(Self {
            ctx,
            how,
            records: std::path::absolute(&records).unwrap_or(records),
            played: Cell::new(0),
            built: Cell::new(0),
            notes: RefCell::default(),
        })
    }

    /// Plays runs, each with another identity, on their own: no snapshot is looked at.
    ///
    /// # Errors
    ///
    /// What failed in the lab itself, or the user's interruption.
    pub async fn play(&self, runs: Vec<Run<'_>>) -> Result<Vec<Ended>> {
        let (events, mut told) = Events::channel();
        let quiet = Context {
            events,
            ..self.ctx.clone()
        };
        let plan = Plan {
            runs,
            skipped: Vec::new(),
        };
        let snapshots = Snapshots::new(self.ctx.project.clone(), SnapshotPolicy::Ignore);
        let options = Options {
            accel: self.how.accel,
            jobs: self.how.jobs,
            boots: Semaphore::new(self.how.boots),
            ..Options::new(snapshots, self.records.clone())
        };
        // The stream ends when the last sender has gone.
        let play = async move { runner::run_all(&quiet, &plan, options).await };
        let listen = async {
            while let Some(stamped) = told.recv().await {
                self.tell(stamped.event);
            }
        };
        let (ended, ()) = tokio::join!(play, listen);
        let ended = ended?;
        // A fault of the lab says nothing about a candidate.
        let fault = |ended: &&Ended| ended.verdict.blame == Some(Blame::Lab);
        if let Some(ended) = ended.iter().find(fault) {
            let what = format!("{}: {}", ended.run, ended.verdict.reasons.join("; "));
            return Err(Error::lab(what));
        }
        let booted = |ended: &&Ended| ended.verdict.outcome != Outcome::Infra;
        let played = ended.iter().filter(booted).count();
        self.played.set(self.played.get() + played);
        Ok(ended)
    }

    /// Hands on what is of use beside the search's own words.
    fn tell(&self, event: Event) {
        match &event {
            Event::PhaseFinished { built: Some(_), .. } => {
                self.built.set(self.built.get() + 1);
            }
            Event::PhaseStarted { .. }
            | Event::PhaseProgress { .. }
            | Event::PhaseFinished { .. } => {}
            Event::Note { message } if self.notes.borrow_mut().insert(message.clone()) => {}
            _ => return,
        }
        self.ctx.events.send(event);
    }

    /// Removes the records but for those in `keep`.
    pub fn forget(&self, keep: &[&Path]) {
        let entries = std::fs::read_dir(&self.records).into_iter().flatten();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() && !path.is_symlink() && !keep.contains(&path.as_path()) {
                // What stays behind only takes room.
                let _ = std::fs::remove_dir_all(path);
            }
        }
    }
}
