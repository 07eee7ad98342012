// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps of an attempt: those that it plays, and those that another run has played for it.

use std::time::Instant;

use super::forensics;
use super::live::{Live, session};
use super::run::{Attempt, Cut, PROBLEM_MAX, Played, SAID_MAX, full_disk};
use super::share::{Kept, Promise, Share, Taken};
use super::tree::Tree;
use super::verdict::{Outcome, Verdict};
use crate::context::Context;
use crate::error::{Blame, Error};
use crate::event::{Event, millis};
use crate::guest::Guest;
use crate::replay::Mark;
use crate::scenario::Step;
use crate::state::{self, Names, Observed, witness};
use crate::step::{self, Stopped};
use crate::vm::machine::Machine;

/// The guest's disk is full.
const ENOSPC: i32 = 28;

/// When a guest goes on that was kept.
const AFTER_KEPT: &str = "after the guest was kept";
/// When a run goes on that was paused.
pub(super) const AFTER_PAUSE: &str = "after the pause";

impl Attempt<'_> {
    /// Plays all steps.
    pub(super) async fn steps(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &mut Played,
        promise: &mut Option<Promise<'_>>,
    ) -> std::result::Result<(), Cut> {
        self.put_modules(live).await?;
        let before = match self.share {
            Share::Forks(_) => AFTER_KEPT,
            _ => "before the first step",
        };
        self.skip_log(live, before).await?;
        match self.share {
            Share::Forks(kept) => {
                for taken in &kept.steps {
                    self.take_over(taken, played)?;
                }
            }
            Share::Leads(group) => {
                let mut steps = Vec::new();
                for step in &self.of.scenario.steps[..group.steps] {
                    steps.push(self.play(ctx, live, step, played).await?);
                }
                self.keep(ctx, live, steps, promise).await?;
            }
            Share::Nothing | Share::Follows(_) => {}
        }
        if played.states.is_empty() {
            self.before_steps(ctx, live, played).await?;
        }
        for step in &self.of.scenario.steps[played.states.len()..] {
            let problems = played.problems.len();
            self.play(ctx, live, step, played).await?;
            self.after_step(ctx, live, played, problems).await?;
        }
        Ok(())
    }

    async fn put_modules(&self, live: &mut Live) -> std::result::Result<(), Cut> {
        let Live { machine, guest, .. } = live;
        let guest = session(guest.as_ref())?;
        for module in &self.of.modules {
            let doing = format!("copying {} into the guest", module.name);
            let outcome = guest.put_module(&module.name, &module.path).await?;
            let outcome = self.answered(machine, &doing, outcome).await?;
            if !outcome.is_ok() {
                let error = Error::new(Blame::Guest, format!("{doing}: {outcome}"));
                return Err(match outcome.0 {
                    ENOSPC => error.help(full_disk()).into(),
                    _ => error.into(),
                });
            }
        }
        Ok(())
    }

    /// What the log said before the next step belongs to the boot, or to what was played before
    /// the guest was kept.
    pub(super) async fn skip_log(
        &self,
        live: &mut Live,
        doing: &str,
    ) -> std::result::Result<(), Cut> {
        let Live { machine, guest, .. } = live;
        let guest = session(guest.as_ref())?;
        let dump = self.ask(machine, doing, guest.state()).await?;
        self.no_complaint(machine, doing, &dump).await
    }

    /// Keeps the guest for those that begin with the same steps, and goes on as a fork of it. Not
    /// if a step has not done what it should: whoever shares it has to see that for itself.
    async fn keep(
        &self,
        ctx: &Context,
        live: &mut Live,
        steps: Vec<Taken>,
        promise: &mut Option<Promise<'_>>,
    ) -> std::result::Result<(), Cut> {
        let good = steps.iter().all(|step| step.done.problems.is_empty());
        let Some(copy) = live.copy.take().filter(|_| good) else {
            return Ok(());
        };
        let guest = session(live.guest.as_ref())?;
        self.drain(&mut live.machine, guest, "before the guest is kept")
            .await?;
        // Broken if the guest is lost on the way, which ends the wait of those that follow.
        let promise = promise.take();
        let started = Instant::now();
        let template = live.keep(ctx, &self.parts(), copy).await?;
        self.log_in(ctx, live, started).await?;
        self.skip_log(live, AFTER_KEPT).await?;
        if let Some(promise) = promise {
            let by = self.of.run.clone();
            promise.keep(Kept {
                template,
                by,
                steps,
            });
        }
        Ok(())
    }

    /// Performs the next step, observes, and checks.
    async fn play(
        &self,
        ctx: &Context,
        live: &mut Live,
        step: &Step,
        played: &mut Played,
    ) -> std::result::Result<Taken, Cut> {
        let Live { machine, guest, .. } = live;
        let guest = session(guest.as_ref())?;
        let begun = Instant::now();
        if self.of.options.record
            && let Some(icount) = machine.icount().await
        {
            played.marks.push(Mark {
                step: played.states.len() + 1,
                label: step.action.label(),
                icount,
            });
        }
        self.started(step, played);
        let doing = &doing(step, played);
        let tree = Tree {
            ctx,
            dir: &self.of.tree,
        };
        let limit = machine.deadlines.transition;
        let performed = async {
            match step::perform(step, guest, &tree, &mut played.spawned, limit).await {
                Ok(done) => Ok(Ok(done)),
                Err(Stopped::Host(error)) => Ok(Err(error)),
                Err(Stopped::Guest(silence)) => Err(silence),
            }
        };
        let done = self.ask(machine, doing, performed).await??;
        let dump = self.ask(machine, doing, guest.state()).await?;
        self.no_complaint(machine, doing, &dump).await?;
        let mut taken = Taken { done, dump, ms: 0 };
        let problems = self.observe(step, &taken, played)?;
        if let Some(livepatch) = &taken.done.stalled {
            let stalled = self.stalled(machine, guest, step, livepatch, played);
            return Err(stalled.await?.into());
        }
        taken.ms = millis(begun.elapsed());
        self.finished(taken.ms, problems, played);
        Ok(taken)
    }

    /// Takes over what another run has seen of the next step, and checks that.
    fn take_over(&self, taken: &Taken, played: &mut Played) -> std::result::Result<(), Cut> {
        let step = &self.of.scenario.steps[played.states.len()];
        self.started(step, played);
        let problems = self.observe(step, taken, played)?;
        self.finished(taken.ms, problems, played);
        Ok(())
    }

    fn started(&self, step: &Step, played: &Played) {
        self.record.event(Event::StepStarted {
            run: self.of.run.clone(),
            step: played.states.len() + 1,
            of: self.of.scenario.steps.len(),
            label: step.action.label(),
        });
    }

    fn finished(&self, ms: u64, problems: Vec<String>, played: &Played) {
        self.record.event(Event::StepFinished {
            run: self.of.run.clone(),
            step: played.states.len(),
            ms,
            problems,
        });
    }

    /// Keeps the state after the next step; returns what was not as expected.
    fn observe(
        &self,
        step: &Step,
        taken: &Taken,
        played: &mut Played,
    ) -> std::result::Result<Vec<String>, Cut> {
        let Taken { done, dump, .. } = taken;
        let number = played.states.len() + 1;
        let mut state = Observed::parse(dump, &Names::of(&self.of.scenario));
        state.result.clone_from(&done.result);
        played.said += dump.len() + state.result.as_ref().map_or(0, String::len);
        if played.said > SAID_MAX {
            let doing = doing(step, played);
            let reason = format!("{doing}: the guest's states have more than {SAID_MAX} bytes");
            return Err(Verdict::against(Outcome::Flooded, Blame::Guest, reason).into());
        }
        let mut problems = done.problems.clone();
        if let Some(expect) = &step.expect
            && !done.skipped
        {
            problems.extend(state::expect::check(expect, &state));
        }
        for problem in &mut problems {
            problem.truncate(problem.floor_char_boundary(PROBLEM_MAX));
        }
        self.record
            .write(&format!("states/{number:02}.txt"), &state.text())?;
        let at = at(step, number);
        played.problems.extend(
            problems
                .iter()
                .map(|problem| (number, format!("{at}: {problem}"))),
        );
        played.states.push((step.action.label(), state));
        if !problems.is_empty() && witness::disk_is_full(dump) {
            let reason = format!("{at}: the guest's disk is full: {}", problems.join("; "));
            let verdict = Verdict::against(Outcome::Failed, Blame::Guest, reason);
            return Err(verdict.help(full_disk()).into());
        }
        Ok(problems)
    }

    /// The verdict on a transition that did not end in the last step.
    async fn stalled(
        &self,
        machine: &mut Machine,
        guest: &Guest,
        step: &Step,
        livepatch: &str,
        played: &mut Played,
    ) -> std::result::Result<Verdict, Cut> {
        let number = played.states.len();
        let names = Names::of(&self.of.scenario);
        let tail = machine.console.tail(25);
        let evidence = forensics::of_stall(machine, guest, &names).await;
        let doing = format!("step {number} ({})", step.action.label());
        let evidence = self.answered(machine, &doing, evidence).await?;
        let limit = step.timeout.unwrap_or(machine.deadlines.transition);
        let livepatch = names.of_module(livepatch);
        let at = at(step, number);
        let reason = format!("{at}: the transition of {livepatch} did not end in {limit:?}");
        played.problems.push((number, reason.clone()));
        let mut verdict = Verdict::against(Outcome::StalledTransition, Blame::Kernel, reason);
        verdict.evidence = evidence;
        Ok(verdict
            .with("the console's last lines before that", &tail)
            .help(
                "a task stays in a function that changes (▶), or its stack is not reliable; a \
                 step's `timeout:` gives a transition more time",
            ))
    }
}

/// What is being done when the next step is played.
fn doing(step: &Step, played: &Played) -> String {
    format!("step {} ({})", played.states.len() + 1, step.action.label())
}

/// Where a problem is.
pub(super) fn at(step: &Step, number: usize) -> String {
    format!(
        "step {number} (line {}, {})",
        step.line,
        step.action.label()
    )
}
