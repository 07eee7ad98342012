// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does what the schedule says: starts attempts, hands guests on, gives verdicts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Options;
use super::attempt::PreparedRun;
use super::builds::prepare_all;
use super::handover::{Handover, Question};
use super::live::{GuestKind, Live};
use super::record::Record;
use super::run::{Ended, Made};
use super::schedule::{Action, End, GuestNumber, Input, Limits, RunIndex, Schedule};
use super::times::Times;
use super::twice::attempt;

use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::{Event, RunId};
use crate::files;
use crate::module::generate;
use crate::plan::{Plan, Run};
use crate::verdict::{Outcome, Verdict};

/// An attempt that has ended.
struct Attempted {
    verdict: Verdict,
    ms: u64,
    /// `None` if the disk did not take one.
    record: Option<Record>,
}

/// What goes on in a task.
struct Running {
    run: RunIndex,
    guest: GuestNumber,
    record: Record,
}

/// The runs of a plan, on their way.
pub(super) struct Drive<'a> {
    ctx: &'a Context,
    /// In the order of their preparation.
    runs: Vec<Run<'a>>,
    places: BTreeMap<RunId, RunIndex>,
    options: &'a Arc<Options>,
    times: Times,
    schedule: Schedule<GuestKind>,
    /// Builds have a token of their own: --fail-fast ends them and lets the guests finish.
    building: CancellationToken,
    prepared: BTreeMap<RunIndex, Arc<PreparedRun>>,
    /// Why runs could not be prepared.
    unprepared: BTreeMap<RunIndex, Error>,
    tasks: JoinSet<Option<Made>>,
    running: HashMap<Id, Running>,
    /// What ended of the runs that have no verdict yet.
    attempts: BTreeMap<RunIndex, Vec<Attempted>>,
    /// The attempts that the emulator broke, which are not among those.
    broken: BTreeMap<RunIndex, u32>,
    questions: (UnboundedSender<Question>, UnboundedReceiver<Question>),
    answers: BTreeMap<RunIndex, oneshot::Sender<bool>>,
    /// The guests between two runs.
    kept: BTreeMap<GuestNumber, Live>,
    stopping: JoinSet<()>,
    ended: Vec<Ended>,
}

impl<'a> Drive<'a> {
    pub(super) fn new(ctx: &'a Context, plan: &Plan<'a>, options: &'a Arc<Options>) -> Self {
        let times = Times::load(&ctx.cache);
        let mut runs = plan.runs.clone();
        // Stable: the runs of one kernel stay together, so that the first guests do not wait for
        // the last kernel.
        for group in runs.chunk_by_mut(|a, b| (&a.kernel.name, a.arch) == (&b.kernel.name, b.arch))
        {
            group.sort_by_key(|run| std::cmp::Reverse(times.expected(&run.id())));
        }
        let limits = Limits {
            jobs: options.jobs,
            attempts: options.attempts,
            fail_fast: options.fail_fast,
        };
        let places = runs.iter().map(Run::id).zip(0..).collect();
        Self {
            ctx,
            places,
            options,
            times,
            schedule: Schedule::new(runs.len(), limits),
            runs,
            building: ctx.cancel.child_token(),
            prepared: BTreeMap::new(),
            unprepared: BTreeMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            attempts: BTreeMap::new(),
            broken: BTreeMap::new(),
            questions: unbounded_channel(),
            answers: BTreeMap::new(),
            kept: BTreeMap::new(),
            stopping: JoinSet::new(),
            ended: Vec::new(),
        }
    }

    /// Runs everything.
    pub(super) async fn run(&mut self) {
        let (ready, mut prepared) = unbounded_channel();
        let mut building = self.ctx.clone();
        building.cancel = self.building.clone();
        let runs = self.runs.clone();
        let preparing = prepare_all(&building, &runs, self.options, ready);
        tokio::pin!(preparing);
        let (mut all_prepared, mut cancelled) = (false, false);
        while !self.schedule.is_over() {
            tokio::select! {
                // Biased: a verdict may stop the rest.
                biased;
                () = self.ctx.cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.happened(Input::Cancelled);
                }
                Some((run, answer)) = self.questions.1.recv() => {
                    self.answers.insert(run, answer);
                    self.happened(Input::GuestFree { run });
                }
                Some(over) = self.tasks.join_next_with_id() => self.attempt_ended(over),
                Some((run, prepared)) = prepared.recv() => self.add(run, prepared),
                () = &mut preparing, if !all_prepared => {
                    all_prepared = true;
                    while let Ok((run, prepared)) = prepared.try_recv() {
                        self.add(run, prepared);
                    }
                    self.happened(Input::AllPrepared);
                }
            }
        }
        while self.stopping.join_next().await.is_some() {}
        if let Some(note) = of_broken(self.broken.values().sum()) {
            self.ctx.events.note(note);
        }
    }

    /// The most guests that ran at the same time.
    pub(super) fn most(&self) -> usize {
        self.schedule.most()
    }

    /// Remembers what the runs took; returns them in the order in which they ended.
    pub(super) fn finish(self) -> Vec<Ended> {
        // A guest that was cut short says nothing about the next time.
        let whole = self
            .ended
            .iter()
            .filter(|ended| ended.verdict.is_as_expected());
        self.times
            .save(whole.map(|ended| (ended.run.clone(), ended.ms)));
        self.ended
    }

    /// Takes in a run that is prepared, or cannot be.
    fn add(&mut self, run: Run<'_>, prepared: Result<PreparedRun>) {
        let Some(&place) = self.places.get(&run.id()) else {
            return;
        };
        match prepared {
            Ok(prepared) => {
                let happened = Input::Prepared {
                    run: place,
                    kind: GuestKind::of(&prepared),
                    shares: prepared.shares_guests(),
                    expected: self.times.expected(&prepared.run),
                };
                self.prepared.insert(place, Arc::new(prepared));
                self.happened(happened);
            }
            Err(error) => {
                self.unprepared.insert(place, error);
                self.happened(Input::NotPrepared { run: place });
            }
        }
    }

    /// Takes in what came of an attempt. One whose task panicked has a verdict as any other.
    fn attempt_ended(&mut self, over: std::result::Result<(Id, Option<Made>), JoinError>) {
        let (id, made) = match over {
            Ok((id, made)) => (id, made),
            Err(error) => {
                let verdict = Verdict::infra(&Error::lab(format!("a run failed inside: {error}")));
                let made = Made {
                    verdict,
                    kept: None,
                    ms: 0,
                };
                (error.id(), Some(made))
            }
        };
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        let (run, mut end, mut guest) = (running.run, End::NotBegun, false);
        if let Some(made) = made {
            end = end_of(&made.verdict);
            if let Some(live) = made.kept {
                guest = true;
                self.kept.insert(running.guest, live);
            }
            self.attempts.entry(run).or_default().push(Attempted {
                verdict: made.verdict,
                ms: made.ms,
                record: Some(running.record),
            });
        }
        self.happened(Input::AttemptEnded { run, end, guest });
    }

    /// Tells the schedule what happened, and does what it says.
    fn happened(&mut self, happened: Input<GuestKind>) {
        let mut all = VecDeque::from([happened]);
        while let Some(happened) = all.pop_front() {
            for action in self.schedule.on(happened) {
                all.extend(self.act(action));
            }
        }
    }

    /// Does something; returns what happened in turn.
    fn act(&mut self, action: Action) -> Option<Input<GuestKind>> {
        match action {
            Action::Start {
                run,
                attempt,
                guest,
                ..
            } => return self.start(run, attempt, guest),
            Action::Answer { run, hand_on } => {
                // A run that was cancelled meanwhile does not wait for it.
                let _ = self.answers.remove(&run).map(|asked| asked.send(hand_on));
            }
            Action::Stop(guest) => {
                if let Some(live) = self.kept.remove(&guest) {
                    self.stop(live);
                }
            }
            Action::FailAttempt { run, counts } => self.fail_attempt(run, counts),
            Action::Finish {
                run,
                shown,
                attempts,
            } => self.give_verdict(run, shown, attempts),
            Action::NotRun { run, after } => {
                let (run, after) = (self.runs[run].id(), self.runs[after].id());
                let reason = format!("--fail-fast, after {after}");
                self.ctx.events.send(Event::NotRun { run, reason });
            }
            Action::CancelBuilds => self.building.cancel(),
        }
        None
    }

    /// Begins an attempt, in a guest that was kept or in a new one.
    fn start(
        &mut self,
        run: RunIndex,
        number: u32,
        guest: GuestNumber,
    ) -> Option<Input<GuestKind>> {
        let live = self.kept.remove(&guest);
        let prepared = self.prepared.get(&run).cloned().ok_or_else(|| {
            Error::lab(format!(
                "{} is started, but is not prepared",
                self.runs[run].id()
            ))
        });
        let made = prepared.and_then(|of| {
            let record = Record::create(&self.options.records, &of.run, &self.ctx.events)?;
            Ok((of, record))
        });
        let (of, record) = match made {
            Ok(made) => made,
            Err(error) => {
                if let Some(live) = live {
                    self.stop(live);
                }
                self.attempts.entry(run).or_default().push(Attempted {
                    verdict: Verdict::infra(&error),
                    ms: 0,
                    record: None,
                });
                return Some(Input::AttemptEnded {
                    run,
                    end: End::Broken,
                    guest: false,
                });
            }
        };
        let handover = Handover {
            run,
            questions: self.questions.0.clone(),
        };
        let (ctx, of_attempt) = (self.ctx.clone(), record.clone());
        let task = self
            .tasks
            .spawn(async move { attempt(&ctx, &of, of_attempt, number, live, &handover).await });
        let running = Running { run, guest, record };
        self.running.insert(task.id(), running);
        None
    }

    /// Stops a guest whose runs have their verdicts.
    fn stop(&mut self, mut live: Live) {
        let events = self.ctx.events.clone();
        self.stopping.spawn(async move {
            if let Err(error) = live.stop().await {
                events.note(format!("a guest could not be stopped: {error}"));
            }
        });
    }

    /// Keeps the verdict on an attempt that another one follows. One that does not count is forgotten
    /// then.
    fn fail_attempt(&mut self, run: RunIndex, counts: bool) {
        self.report_attempt(run);
        if !counts {
            self.attempts.get_mut(&run).and_then(Vec::pop);
            *self.broken.entry(run).or_default() += 1;
        }
    }

    fn report_attempt(&self, run: RunIndex) {
        let made = self.attempts.get(&run);
        let Some((number, made)) = made.and_then(|made| Some((made.len(), made.last()?))) else {
            return;
        };
        let broken = self.broken.get(&run).copied().unwrap_or_default();
        let number = u32::try_from(number)
            .unwrap_or(u32::MAX)
            .saturating_add(broken);
        let (id, verdict) = (self.runs[run].id(), &made.verdict);
        let Some(record) = &made.record else {
            // Without a record, the verdict is in the events only.
            self.ctx.events.send(Event::AttemptFailed {
                run: id,
                attempt: number,
                verdict: verdict.clone(),
                ms: made.ms,
                record: String::new(),
            });
            return;
        };
        if let Err(error) = record.fail_attempt(&id, number, verdict, made.ms) {
            let note = format!("the verdict on attempt {number} at {id} was not kept: {error}");
            self.ctx.events.note(note);
        }
    }

    /// Keeps and reports the verdict on a run.
    fn give_verdict(&mut self, run: RunIndex, shown: u32, attempts: u32) {
        let id = self.runs[run].id();
        let mut made = self.attempts.remove(&run).unwrap_or_default();
        if let Some(error) = self.unprepared.remove(&run) {
            made.push(self.not_prepared(run, &error));
        }
        self.prepared.remove(&run);
        let Some(last) = made.pop() else {
            return;
        };
        let (ms, (mut verdict, record)) = match made.into_iter().next() {
            // What the failed attempt left is what one has to look at.
            Some(first) if shown < attempts => {
                let verdict = Verdict::flaky(&first.verdict, attempts);
                (last.ms, (verdict, first.record))
            }
            // The last one has no snapshot to be held against, and is no pass.
            Some(first) if last.verdict.outcome == Outcome::New => {
                let (mut verdict, how) = (last.verdict, first.verdict.outcome.name());
                let why = first.verdict.reasons.first().map_or("", String::as_str);
                let attempt = format!("attempt 1 of {attempts} {how}: {why}");
                verdict.reasons.push(attempt);
                (last.ms, (verdict, last.record))
            }
            _ => (last.ms, (last.verdict, last.record)),
        };
        let dir = match &record {
            Some(record) => record.dir().to_path_buf(),
            None => self.options.records.clone(),
        };
        let kept = record.map(|record| record.finish(&id, &verdict, ms));
        if let Some(Err(error)) = &kept {
            verdict = with_trouble(verdict, "the verdict was not kept in the record", error);
        }
        if !matches!(kept, Some(Ok(()))) {
            self.ctx.events.send(Event::RunFinished {
                run: id.clone(),
                verdict: verdict.clone(),
                ms,
                record: files::shown(&dir),
            });
        }
        self.ended.push(Ended {
            run: id,
            verdict,
            ms,
            record: dir,
        });
    }

    /// What stands in place of an attempt at a run that could not be prepared.
    fn not_prepared(&self, run: RunIndex, error: &Error) -> Attempted {
        let run = self.runs[run];
        let verdict = Verdict::infra(error);
        let record = Record::create(&self.options.records, &run.id(), &self.ctx.events);
        let written = record.and_then(|record| {
            record.write_sources(&generate::sources(run.scenario))?;
            for (name, text) in &error.attached {
                record.write(name, text)?;
            }
            Ok(record)
        });
        let (verdict, record) = match written {
            Ok(record) => (verdict, Some(record)),
            Err(error) => (
                with_trouble(verdict, "the run has no whole record", &error),
                None,
            ),
        };
        Attempted {
            verdict,
            ms: 0,
            record,
        }
    }
}

/// How an attempt with this verdict ended. What was observed may differ because of the runs that the
/// guest had played before; a kernel that complained has complained.
fn end_of(verdict: &Verdict) -> End {
    match verdict.outcome {
        _ if verdict.is_as_expected() => End::AsExpected,
        Outcome::New => End::Settled,
        Outcome::Failed if verdict.blame == Some(Blame::File) => End::Settled,
        Outcome::Failed | Outcome::UnexpectedlyPassed => End::Differs,
        _ if verdict.is_emulators() => End::Emulator,
        _ => End::Broken,
    }
}

/// What is said at the end of attempts that the emulator broke.
fn of_broken(attempts: u32) -> Option<String> {
    let times = match attempts {
        0 => return None,
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Some(format!(
        "QEMU executed a translation that was out of date {times}: such an attempt counts as none, and was \
         made again"
    ))
}

/// A verdict with what the lab could not do afterwards. That replaces no failure; what passed is not
/// known to have passed if its record is not whole.
fn with_trouble(verdict: Verdict, title: &str, error: &Error) -> Verdict {
    if verdict.is_as_expected() {
        return Verdict::infra(error);
    }
    let mut verdict = verdict.with(title, &error.what);
    // A host on which a run could not start and whose disk is full lacks room first of all.
    if verdict.blame == Some(Blame::Host) && error.help.is_some() {
        verdict.help.clone_from(&error.help);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_emulator_broke_is_counted() {
        assert_eq!(of_broken(0), None);
        assert!(of_broken(1).unwrap().contains(" once: "));
        assert!(of_broken(3).unwrap().contains(" 3 times: "));
        let mut verdict = Verdict::infra(&Error::host("x"));
        assert_eq!(end_of(&verdict), End::Broken);
        verdict.splat = Some(crate::verdict::Complaint {
            kind: crate::verdict::SplatKind::Oops,
            title: "Oops: int3: 0000 [#1] SMP".into(),
            code: None,
        });
        assert_eq!(end_of(&verdict), End::Emulator);
    }
}
