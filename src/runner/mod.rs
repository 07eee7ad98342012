// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a plan to verdicts: shared builds once, guests side by side and beside the builds.
//!
//! Builds hand runs on as they get ready; of those that are ready, the longest starts first. A
//! guest that is as it was after its boot plays the next one (`live.rs`, `queue.rs`). Of runs that
//! begin with the same steps, one plays these, and the others go on as forks of its guest
//! (`prefix.rs`, `share.rs`).

mod builds;
pub mod forensics;
mod judge;
mod live;
pub mod manner;
pub mod memory;
pub mod origin;
pub mod pause;
mod prefix;
mod queue;
pub mod record;
pub mod run;
mod share;
pub mod shipped;
mod steps;
mod times;
mod tree;
pub mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::{Event, RunId, millis};
use crate::plan::{Plan, Run};
use crate::state::Snapshots;
use crate::vm::accel::Choice;
use builds::prepare_all;
use live::Live;
use pause::Pause;
use queue::{Kind, Queue};
use record::Record;
use run::{Ended, Guesting, Over};
use share::Share;
use shipped::Shipped;
use times::Times;
use verdict::Verdict;

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
    /// Start no further run after one that did not end as expected.
    pub fail_fast: bool,
    /// Whether to keep the memory of a guest that panics.
    pub dump_on_panic: bool,
    /// Whether guests are forks of templates, and play several runs.
    pub warm: bool,
    /// Whether guests are recorded, each for itself.
    pub record: bool,
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
pub async fn run_all(ctx: &Context, plan: &Plan<'_>, options: Options) -> Result<Vec<Ended>> {
    let started = Instant::now();
    let options = Arc::new(options);
    let mut peak = 0;
    let mut schedule = Schedule::new(ctx, plan, &options);
    let result = tokio::select! {
        result = schedule.run() => result,
        () = memory::watch(&mut peak) => Ok(()),
    };
    let most = schedule.most;
    let ended = schedule.finish();
    ctx.events.send(Event::Ended {
        ms: millis(started.elapsed()),
        guests: most,
        memory_mib: peak,
    });
    result?;
    if ctx.cancel.is_cancelled() {
        return Err(Error::interrupted());
    }
    Ok(ended)
}

/// The runs of a plan, on their way.
struct Schedule<'a> {
    ctx: &'a Context,
    /// In the order of their preparation.
    runs: Vec<Run<'a>>,
    options: &'a Arc<Options>,
    times: Times,
    /// What runs share that are not prepared yet.
    shares: BTreeMap<RunId, Share>,
    /// Prepared, and waiting for a guest.
    queue: Arc<Queue>,
    guests: JoinSet<(Option<Kind>, Result<Over>)>,
    /// The guests that will be free for another run, unless it goes wrong.
    sharing: BTreeMap<Kind, usize>,
    /// The most guests that ran at the same time.
    most: usize,
    ended: Vec<Ended>,
    /// Why no further run is started.
    stopped: Option<String>,
}

impl<'a> Schedule<'a> {
    fn new(ctx: &'a Context, plan: &Plan<'a>, options: &'a Arc<Options>) -> Self {
        let times = Times::load(&ctx.cache);
        let mut runs = plan.runs.clone();
        // Stable: the runs of one kernel stay together, so that the first guests do not wait for
        // the last kernel.
        for group in runs.chunk_by_mut(|a, b| (&a.kernel.name, a.arch) == (&b.kernel.name, b.arch))
        {
            group.sort_by_key(|run| std::cmp::Reverse(times.expected(&run.id())));
        }
        let shares = match options.shares_guests() {
            true => share::plan(&runs, options.jobs),
            false => BTreeMap::new(),
        };
        Self {
            ctx,
            runs,
            options,
            times,
            shares,
            queue: Arc::default(),
            sharing: BTreeMap::new(),
            guests: JoinSet::new(),
            most: 0,
            ended: Vec::new(),
            stopped: None,
        }
    }

    /// Runs everything. An `Err` is the lab's own.
    async fn run(&mut self) -> Result<()> {
        let (ready, mut prepared) = mpsc::unbounded_channel();
        // Builds have a token of their own: --fail-fast ends them and lets the guests finish.
        let mut building = self.ctx.clone();
        building.cancel = self.ctx.cancel.child_token();
        let runs = self.runs.clone();
        let preparing = prepare_all(&building, &runs, self.options, ready);
        tokio::pin!(preparing);
        let mut all_prepared = false;
        loop {
            self.start_guests();
            tokio::select! {
                // Biased: a verdict may stop the rest.
                biased;
                Some(over) = self.guests.join_next() => {
                    let (kind, over) = over
                        .map_err(|error| Error::lab(format!("a run failed inside: {error}")))?;
                    if let Some(free) = kind.and_then(|kind| self.sharing.get_mut(&kind)) {
                        *free = free.saturating_sub(1);
                    }
                    let over = over?;
                    if let Some((run, guest)) = over.next {
                        self.start(run, Some(guest));
                    }
                    if let Some(ended) = over.ended {
                        self.take(ended);
                    }
                }
                Some((run, guesting)) = prepared.recv() => self.add(run, guesting)?,
                () = self.queue.more(), if !self.guests.is_empty() => {}
                () = &mut preparing, if !all_prepared => all_prepared = true,
                else => break,
            }
            if self.stopped.is_some() {
                building.cancel.cancel();
                self.queue.clear();
            }
        }
        Ok(())
    }

    fn start_guests(&mut self) {
        while self.stopped.is_none()
            && !self.ctx.cancel.is_cancelled()
            && self.guests.len() < self.options.jobs.max(1)
        {
            let Some(run) = self.queue.take_for_boot(&self.sharing) else {
                return;
            };
            self.start(run, None);
        }
    }

    /// Starts a run in a guest, or boots one for it.
    fn start(&mut self, run: Guesting, guest: Option<Live>) {
        let alone = matches!(run.share, Share::Nothing);
        let shares = self.options.shares_guests() && run.scenario.cleans_up() && alone;
        let kind = shares.then(|| Kind::of(&run));
        if let Some(kind) = &kind {
            *self.sharing.entry(kind.clone()).or_default() += 1;
        }
        let (ctx, queue) = (self.ctx.clone(), Arc::clone(&self.queue));
        self.guests
            .spawn(async move { (kind, run.run(&ctx, &queue, guest).await) });
        self.most = self.most.max(self.guests.len());
    }

    /// Takes in a prepared run; one that cannot be prepared has its verdict now.
    fn add(&mut self, run: Run<'_>, guesting: Result<Guesting>) -> Result<()> {
        let share = self.shares.remove(&run.id()).unwrap_or_default();
        let error = match guesting {
            Ok(mut guesting) => {
                let expected = match share {
                    // Others wait for it.
                    Share::Leads(_) => u64::MAX,
                    _ => self.times.expected(&guesting.run),
                };
                guesting.share = share;
                self.queue.push(expected, guesting);
                return Ok(());
            }
            Err(error) => error,
        };
        if let Share::Leads(group) = share {
            self.queue.decide(group, None);
        }
        if self.stopped.is_some() {
            return Ok(());
        }
        let record = Record::create(&self.options.records, &run.id(), &self.ctx.events)?;
        record.write_sources(&crate::module::generate::sources(run.scenario))?;
        let verdict = Verdict::infra(&error);
        record.finish(&run.id(), &verdict, 0)?;
        self.take(Ended {
            run: run.id(),
            verdict,
            ms: 0,
            record: record.dir().to_path_buf(),
        });
        Ok(())
    }

    fn take(&mut self, ended: Ended) {
        let fails = !ended.verdict.is_as_expected() && !self.ctx.cancel.is_cancelled();
        if self.options.fail_fast && fails && self.stopped.is_none() {
            let run = &ended.run;
            self.stopped = Some(format!("--fail-fast, after {run}"));
        }
        self.ended.push(ended);
    }

    /// Says which runs were left out, and remembers what the others took.
    fn finish(self) -> Vec<Ended> {
        if let Some(reason) = &self.stopped {
            let ended = |run: &RunId| self.ended.iter().any(|ended| ended.run == *run);
            for run in self.runs.iter().map(Run::id).filter(|run| !ended(run)) {
                let reason = reason.clone();
                self.ctx.events.send(Event::NotRun { run, reason });
            }
        }
        // A guest that was cut short says nothing about the next time.
        let whole = self
            .ended
            .iter()
            .filter(|ended| ended.verdict.is_as_expected());
        self.times
            .save(whole.map(|ended| (ended.run.clone(), ended.ms)));
        self.ended
    }
}
