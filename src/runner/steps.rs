// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps of an attempt.

use std::time::{Duration, Instant};

use super::attempt::{Attempt, EarlyEnd, Played};
use super::forensics;
use super::live::Live;
use super::next;
use super::tree::Tree;
use crate::context::Context;
use crate::error::{Blame, Error};
use crate::event::{Event, millis};
use crate::klp::FunctionRef;
use crate::replay::Mark;
use crate::scenario::{Expect, Step, Went, World};
use crate::size::Size;
use crate::state::refusal::{Refusal, has_function, refusal};
use crate::state::{self, Names, Observed, StepLog, mask, stall, witness};
use crate::step::{self, Fails, Mistake, Operations, Performed, Stopped, Subject};
use crate::verdict::{Outcome, Problem, Verdict};
use crate::vm::kernel_log;
use crate::vm::progress::Share;

/// Bytes of all states of a run; they usually have some ten thousand. With everything in them made
/// visible, a snapshot of them can still be read back.
const SAID_MAX: usize = 8 << 20;
/// Bytes of a problem, which may quote a file of the guest.
const PROBLEM_MAX: usize = 16 << 10;
/// The guest's disk is full.
const ENOSPC: i32 = 28;
/// What to do about a transition whose tasks do not say why they have not switched.
const STALLED: &str = "see which function each task is in (▶); wake the task, or let it return;";
/// What to do about a transition that did not end on a slow host.
const SLOW_HOST: &str =
    "the host had too little time for the guest: run it again with fewer guests at once (--jobs 1)";

impl Attempt<'_> {
    /// Plays all steps.
    pub(super) async fn steps(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &mut Played,
    ) -> std::result::Result<(), EarlyEnd> {
        self.put_modules(live).await?;
        self.skip_log(live, "before the first step").await?;
        self.before_steps(ctx, live, played).await?;
        let scenario = &self.of.scenario;
        let (targets, livepatches) = (&scenario.targets, &scenario.livepatches);
        played.world = World::of(targets, livepatches, scenario.requires.replace);
        for step in &self.of.scenario.steps {
            let problems = played.problems.len();
            self.play(ctx, live, step, played).await?;
            self.after_step(ctx, live, played, problems).await?;
        }
        Ok(())
    }

    async fn put_modules(&self, live: &mut Live) -> std::result::Result<(), EarlyEnd> {
        let (machine, guest, _) = live.split()?;
        for module in &self.of.modules {
            let doing = format!("copying {} into the guest", module.name);
            let outcome = guest.put_module(&module.name, &module.path).await?;
            let outcome = self.answered(machine, &doing, outcome).await?;
            if !outcome.is_ok() {
                let error = Error::new(Blame::Guest, format!("{doing}: {outcome}"));
                return Err(match outcome.0 {
                    ENOSPC => error.help(full_disk(&self.of.size)).into(),
                    _ => error.into(),
                });
            }
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
    ) -> std::result::Result<(), EarlyEnd> {
        let (machine, guest, log) = live.split()?;
        log.begin_step();
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
        let before = machine.vitals().sample();
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
        log.take(kernel_log::records(&dump))?;
        self.no_complaint(machine, doing, &dump).await?;
        let mistakes = played.world.before(step);
        played.world.after(step, went(&done));
        let problems = self.observe(step, &done, &mistakes, &dump, played)?;
        if let Some(livepatch) = &done.stalled {
            let share = machine.vitals().since(&before);
            let mistake = mistakes.into_iter().find(|mistake| done.shows(mistake));
            let stalled = self.stalled(live, step, livepatch, mistake, played);
            return Err(of_share(stalled.await?, share).into());
        }
        self.finished(millis(begun.elapsed()), problems, played);
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
        done: &Performed,
        mistakes: &[Mistake],
        dump: &str,
        played: &mut Played,
    ) -> std::result::Result<Vec<String>, EarlyEnd> {
        let number = played.states.len() + 1;
        let parsed = Observed::parse(dump, &Names::of(&self.of.scenario));
        let mut state = parsed.map_err(|unknown| {
            let reason = format!("{}: {unknown}", doing(step, played));
            Verdict::against(Outcome::Hung, Blame::Guest, reason).help(next::NONSENSE)
        })?;
        state.result.clone_from(&done.result);
        mask::apply(&mut state, &self.of.scenario.mask);
        played.said += dump.len() + state.result.as_ref().map_or(0, String::len);
        if played.said > SAID_MAX {
            let doing = doing(step, played);
            let reason = format!("{doing}: the guest's states have more than {SAID_MAX} bytes");
            let verdict = Verdict::against(Outcome::Flooded, Blame::Guest, reason);
            return Err(verdict.help(next::STATES).into());
        }
        let mut found: Vec<_> = done.problems.iter().cloned().map(Found::from).collect();
        let why = done.mistake.iter().chain(mistakes);
        if let Some(mistake) = why.into_iter().find(|mistake| done.shows(mistake)) {
            found.iter_mut().for_each(|found| found.blame(mistake));
        } else if !found.is_empty()
            && let Some(refusal) = refusal(&state.log)
        {
            found
                .iter_mut()
                .for_each(|found| self.refused(found, &refusal));
        }
        if let Some(expect) = &step.expect
            && !done.skipped
        {
            let mut expect = expect.clone();
            for mistake in played.world.expected(&expect) {
                found.extend(without_answer(&mistake, &mut expect, &state));
            }
            let problems = state::expect::check(&expect, &state, &StepLog::parse(dump));
            found.extend(problems.into_iter().map(Found::from));
        }
        for Found { what, .. } in &mut found {
            what.truncate(what.floor_char_boundary(PROBLEM_MAX));
        }
        self.record.write_state(number, &state)?;
        let problems: Vec<_> = found.iter().map(|found| found.what.clone()).collect();
        played
            .problems
            .extend(found.into_iter().map(|found| problem(step, number, found)));
        played.states.push((step.action.label(), state));
        if !problems.is_empty() && witness::disk_is_full(dump) {
            let what = format!("the guest's disk is full: {}", problems.join("; "));
            let reason = problem(step, number, what.into()).to_string();
            let verdict = Verdict::against(Outcome::Failed, Blame::Guest, reason);
            return Err(verdict.help(full_disk(&self.of.size)).into());
        }
        Ok(problems)
    }

    /// The kernel has said why. That it does not have a function that is not in its `System.map` is no
    /// fault of its own.
    fn refused(&self, found: &mut Found, refusal: &Refusal) {
        found.help = Some(refusal.help.clone());
        if let Some(name) = &refusal.missing {
            let map = std::fs::read_to_string(self.of.tree.join("build/System.map"));
            if has_function(&map.unwrap_or_default(), name) == Some(false) {
                found.blame = Blame::File;
            }
        }
    }

    /// The verdict on a transition that did not end in the last step.
    async fn stalled(
        &self,
        live: &mut Live,
        step: &Step,
        livepatch: &str,
        mistake: Option<Mistake>,
        played: &mut Played,
    ) -> std::result::Result<Verdict, EarlyEnd> {
        let number = played.states.len();
        let names = Names::of(&self.of.scenario);
        let (machine, guest, log) = live.split()?;
        let tail = machine.console.tail(25);
        let name = names.of_module(livepatch);
        let own = played.world.held_and_changed(&name);
        let held = match &mistake {
            None if !own.is_empty() => {
                let held = guest.held(None, LOOK).await;
                self.answered(machine, &doing(step, played), held)
                    .await?
                    .is_ok()
            }
            _ => false,
        };
        let stuck = forensics::of_stall(machine, guest, log, &names, &self.of.tree).await;
        let doing = format!("step {number} ({})", step.action.label());
        let stuck = self.answered(machine, &doing, stuck).await?;
        let limit = step.timeout.unwrap_or(machine.deadlines.transition);
        let what = format!("the transition of {name} did not end in {limit:?}");
        let mut found = Found::from(what);
        let by_held = || held_by_scenario(&own);
        if let Some(mistake) = mistake.or_else(|| held.then(by_held)) {
            found.blame(&mistake);
        }
        let problem = problem(step, number, found);
        let reason = problem.to_string();
        let mut verdict = Verdict::against(Outcome::StalledTransition, problem.blame, reason);
        let help = problem.help.clone();
        played.problems.push(problem);
        verdict.evidence = stuck.evidence;
        Ok(verdict
            .with("the console's last lines before that", &tail)
            .help(
                help.or(stuck.help)
                    .unwrap_or_else(|| format!("{STALLED}\n{}", stall::ENDS)),
            ))
    }
}

/// How long a transition that has stalled is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// How a step went, for the account of what is so.
fn went(done: &Performed) -> Went {
    match done.problems.is_empty() && done.stalled.is_none() {
        _ if done.skipped => Went::Skipped,
        true => Went::AsWritten,
        false => Went::Otherwise,
    }
}

/// Why a transition does not end for which only the scenario's own tasks are in the way, in functions
/// that it changes.
fn held_by_scenario(own: &[(&FunctionRef, usize)]) -> Mistake {
    let held: Vec<_> = own
        .iter()
        .map(|(function, since)| format!("{function} (step {since})"))
        .collect();
    let held = held.join(", ");
    let what = format!("only what the scenario holds keeps it open: {held}");
    let help = "`transition: held`, or release that first";
    Mistake::new(what, Fails::Stalls, help)
}

/// A function that cannot answer, because its target is not loaded by any step: a problem, which is
/// no longer to be expected.
fn without_answer(mistake: &Mistake, expect: &mut Expect, state: &Observed) -> Option<Found> {
    let Subject::Call(function) = &mistake.subject else {
        return None;
    };
    if state.calls.contains_key(&function.to_string()) {
        return None;
    }
    expect.calls.retain(|(called, _)| called != function);
    let mut found = Found::from(format!("{function} cannot be called"));
    found.blame(mistake);
    Some(found)
}

/// What was not as expected in a step, and who has to act.
struct Found {
    what: String,
    blame: Blame,
    help: Option<String>,
}

impl From<String> for Found {
    /// The kernel, unless something else is known.
    fn from(what: String) -> Self {
        Self {
            what,
            blame: Blame::Kernel,
            help: None,
        }
    }
}

impl Found {
    /// It is so because of this mistake of the author's.
    fn blame(&mut self, mistake: &Mistake) {
        self.what = format!("{}: {}", mistake.told(), self.what);
        self.blame = Blame::File;
        self.help = Some(mistake.help.clone());
    }
}

/// A transition's limit is the guest's own, so a host without time makes it short. The verdict says
/// so, and stands: what holds the transition up is known.
fn of_share(mut verdict: Verdict, share: Share) -> Verdict {
    if share.is_hosts() {
        verdict.reasons.push(share.to_string());
        let help = verdict.help.map(|help| format!("{help}\n{SLOW_HOST}"));
        verdict.help = help.or_else(|| Some(SLOW_HOST.to_owned()));
    }
    verdict
}

/// What is being done when the next step is played.
fn doing(step: &Step, played: &Played) -> String {
    format!("step {} ({})", played.states.len() + 1, step.action.label())
}

/// Something that was not as expected in the step with this number.
fn problem(step: &Step, number: usize, found: Found) -> Problem {
    let Found { what, blame, help } = found;
    Problem {
        step: number,
        line: step.line,
        label: step.action.label(),
        what,
        blame,
        help,
    }
}

fn full_disk(size: &Size) -> String {
    format!(
        "the guest's disk is half of its {} MiB, for modules and files: --memory gives it more",
        size.memory_mib
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_transition_says_if_the_host_had_no_time_for_it() {
        let stalled = Verdict::against(Outcome::StalledTransition, Blame::Kernel, "it did not end");
        let stalled = stalled.help("a task stays in a function");
        let share = |waited| Share {
            time: Duration::from_secs(30),
            waited: Duration::from_secs(waited),
            ..Share::default()
        };
        assert_eq!(of_share(stalled.clone(), share(10)), stalled);
        let slow = of_share(stalled, share(20));
        assert_eq!(slow.outcome, Outcome::StalledTransition);
        let numbers = "QEMU had 0.0 s of CPU time in 30.0 s, and waited 20.0 s for a CPU";
        assert_eq!(slow.reasons, ["it did not end", numbers]);
        assert!(slow.help.unwrap().contains("--jobs 1"));
    }
}
