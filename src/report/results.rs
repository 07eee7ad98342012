// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the events so far amount to: the plan, and each run's steps, attempts and verdict.
//!
//! Every report that shows more than the latest event is a pure function of this.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, RunId, Skipped, Stamped};
use crate::plan;
use crate::verdict::{Outcome, Verdict};

/// The results so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results {
    /// The planned runs, in the order of the plan.
    pub runs: Vec<RunResult>,
    /// What is left out, with the reason.
    pub skipped: Vec<Skipped>,
    /// The runs that belong to other shards.
    pub elsewhere: BTreeSet<RunId>,
    /// Whether a scenario that is skipped everywhere fails the command.
    pub every_scenario: bool,
    /// When the stream began, RFC 3339.
    pub started: Option<String>,
    /// What it took, once every guest has ended.
    pub ended: Option<Ended>,
    /// Where each run is in `runs`.
    index: BTreeMap<RunId, usize>,
}

/// What the whole took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Milliseconds since the plan was made.
    pub ms: u64,
    /// The most guests that ran at the same time.
    pub guests: usize,
    /// The most memory in MiB that they and the lab took together at one time.
    pub memory_mib: u64,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// Its identity.
    pub run: RunId,
    /// `kvm` or `tcg`, once its guest answered.
    pub accel: Option<String>,
    /// The steps of its last attempt, as far as it came.
    pub steps: Vec<StepResult>,
    /// The attempts that did not end as expected and were followed by another.
    pub failed_attempts: Vec<Finished>,
    /// How far it has come.
    pub state: State,
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Planned; its guest was not started yet.
    Planned,
    /// Its guest was started.
    Running,
    /// It will not be started: why.
    NotRun(String),
    /// It has a verdict.
    Finished(Box<Finished>),
}

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How.
    pub verdict: Verdict,
    /// Milliseconds.
    pub ms: u64,
    /// The record's folder.
    pub record: String,
    /// When, RFC 3339.
    pub time: String,
}

/// One step of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// What it does: `load pricing-v1`.
    pub label: String,
    /// Milliseconds; `None` if it did not end.
    pub ms: Option<u64>,
    /// What was not as expected.
    pub problems: Vec<String>,
}

impl RunResult {
    fn planned(run: RunId) -> Self {
        Self {
            run,
            accel: None,
            steps: Vec::new(),
            failed_attempts: Vec::new(),
            state: State::Planned,
        }
    }

    /// The verdict, if there is one.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.state {
            State::Finished(finished) => Some(&finished.verdict),
            _ => None,
        }
    }

    /// Whether it needs no further run: a verdict on the kernel or the scenario, not on the lab or
    /// on a limit, nor one that a review changes.
    pub fn is_settled(&self) -> bool {
        let settles =
            |verdict: &Verdict| verdict.outcome.is_settled() && verdict.outcome != Outcome::New;
        self.verdict().is_some_and(settles)
    }
}

impl Results {
    /// Results that were put together elsewhere.
    pub fn new(
        runs: Vec<RunResult>,
        skipped: Vec<Skipped>,
        started: Option<String>,
        ended: Option<Ended>,
    ) -> Self {
        let index = runs
            .iter()
            .enumerate()
            .map(|(index, run)| (run.run.clone(), index));
        Self {
            index: index.collect(),
            runs,
            skipped,
            elsewhere: BTreeSet::new(),
            every_scenario: false,
            started,
            ended,
        }
    }

    /// Takes in an event.
    pub fn event(&mut self, stamped: &Stamped) {
        let time = &stamped.time;
        match &stamped.event {
            Event::Started { .. } => self.started = Some(time.clone()),
            Event::Planned {
                runs,
                skipped,
                elsewhere,
                every_scenario,
                ..
            } => {
                self.every_scenario |= every_scenario;
                self.elsewhere.extend(elsewhere.iter().cloned());
                for run in runs {
                    let entry = self.entry(run);
                    // Planned anew, by a lab that resumes; an earlier verdict holds until then.
                    if entry.verdict().is_none() {
                        entry.state = State::Planned;
                    }
                }
                for skip in skipped {
                    if !self.skipped.contains(skip) {
                        self.skipped.push(skip.clone());
                    }
                }
            }
            Event::RunStarted { run, .. } => {
                let entry = self.entry(run);
                entry.state = State::Running;
                entry.steps.clear();
            }
            Event::Booted { run, accel, .. } => self.entry(run).accel = Some(accel.clone()),
            Event::StepStarted { run, label, .. } => {
                let step = StepResult {
                    label: label.clone(),
                    ms: None,
                    problems: Vec::new(),
                };
                self.entry(run).steps.push(step);
            }
            Event::StepFinished {
                run, ms, problems, ..
            } => {
                if let Some(step) = self.entry(run).steps.last_mut() {
                    step.ms = Some(*ms);
                    step.problems.clone_from(problems);
                }
            }
            Event::AttemptFailed {
                run,
                verdict,
                ms,
                record,
                ..
            } => {
                let finished = finished(verdict, *ms, record, time);
                self.entry(run).failed_attempts.push(finished);
            }
            Event::RunFinished {
                run,
                verdict,
                ms,
                record,
            } => {
                let finished = finished(verdict, *ms, record, time);
                self.entry(run).state = State::Finished(Box::new(finished));
            }
            Event::NotRun { run, reason } => {
                self.entry(run).state = State::NotRun(reason.clone());
            }
            Event::Ended {
                ms,
                guests,
                memory_mib,
            } => {
                self.ended = Some(Ended {
                    ms: *ms,
                    guests: *guests,
                    memory_mib: *memory_mib,
                });
            }
            Event::PhaseStarted { .. }
            | Event::PhaseProgress { .. }
            | Event::PhaseFinished { .. }
            | Event::Note { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Unknown => {}
        }
    }

    /// Makes the runs of shards that left nothing behind runs without a verdict.
    pub fn miss_elsewhere(&mut self) {
        for run in std::mem::take(&mut self.elsewhere) {
            self.entry(&run);
        }
    }

    fn entry(&mut self, run: &RunId) -> &mut RunResult {
        let index = *self.index.entry(run.clone()).or_insert_with(|| {
            self.runs.push(RunResult::planned(run.clone()));
            self.runs.len() - 1
        });
        &mut self.runs[index]
    }

    /// A run by its identity.
    pub fn get(&self, run: &RunId) -> Option<&RunResult> {
        self.index.get(run).map(|&index| &self.runs[index])
    }

    /// How many runs ended in which way, in the order of [`Outcome`].
    pub fn tally(&self) -> Vec<(Outcome, usize)> {
        let mut tally = BTreeMap::new();
        for verdict in self.runs.iter().filter_map(RunResult::verdict) {
            *tally.entry(verdict.outcome).or_insert(0) += 1;
        }
        tally.into_iter().collect()
    }

    /// The planned runs without a verdict.
    pub fn without_verdict(&self) -> impl Iterator<Item = &RunResult> {
        self.runs.iter().filter(|run| run.verdict().is_none())
    }

    /// The scenarios that are skipped and that no run plays, here or in another shard, by name.
    pub fn played_nowhere(&self) -> Vec<&str> {
        let runs = self.runs.iter().map(|run| &run.run);
        plan::played_nowhere(&self.skipped, runs.chain(&self.elsewhere))
    }

    /// The exit code: that of the worst verdict, 3 if a run has none, and 1 if a scenario is played
    /// nowhere that should be.
    pub fn exit_code(&self) -> u8 {
        let verdicts = self.runs.iter().filter_map(RunResult::verdict);
        let worst = verdicts.map(|verdict| verdict.exit_code).max().unwrap_or(0);
        let unplayed = self.every_scenario && !self.played_nowhere().is_empty();
        let worst = worst.max(u8::from(unplayed));
        // What --fail-fast left out follows from a verdict that counts already.
        let lost = |run: &&RunResult| !matches!(run.state, State::NotRun(_));
        if worst < 3 && self.without_verdict().any(|run| lost(&run)) {
            return 3;
        }
        worst
    }
}

fn finished(verdict: &Verdict, ms: u64, record: &str, time: &str) -> Finished {
    Finished {
        verdict: verdict.clone(),
        ms,
        record: record.to_owned(),
        time: time.to_owned(),
    }
}
