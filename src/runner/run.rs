// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run: boot, steps, states, snapshot, verdict.
//!
//! Whatever happens, QEMU is stopped and waited for before the verdict is given.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::Options;
use super::record::Record;
use super::verdict::{Outcome, Verdict};
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::{Event, RunId, millis};
use crate::guest::{Answer, Guest, Silence};
use crate::image::build::BuiltImage;
use crate::image::keys::RunKeys;
use crate::module::Module;
use crate::module::generate::SourceFile;
use crate::scenario::{Action, ExpectedFailure, Scenario, Step};
use crate::state::observed::run_text;
use crate::state::snapshot::Comparison;
use crate::state::{Names, Observed, SnapshotPolicy, diff};
use crate::step;
use crate::vm::Accel;
use crate::vm::machine::{Gone, Machine, Parts};

/// A console's last words may come after the connection is lost.
const DRAIN: Duration = Duration::from_millis(300);
/// How long a guest whose time is up may take to say what it was doing.
const EVIDENCE: Duration = Duration::from_secs(20);

/// A run that is ready to boot.
#[derive(Debug)]
pub struct Guesting {
    /// Its identity.
    pub run: RunId,
    /// What is played.
    pub scenario: Scenario,
    /// The generated C of its modules.
    pub sources: Vec<SourceFile>,
    /// What is booted.
    pub boot_file: PathBuf,
    /// The kernel's source tree.
    pub tree: PathBuf,
    /// `uname -r` of the kernel that the modules were built for.
    pub release: String,
    /// The image.
    pub image: BuiltImage,
    /// How it is executed.
    pub accel: Accel,
    /// The scenario's modules.
    pub modules: Vec<Module>,
    /// How to run it.
    pub options: Arc<Options>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its identity.
    pub run: RunId,
    /// How it ended.
    pub verdict: Verdict,
    /// Milliseconds of its last attempt.
    pub ms: u64,
}

/// A run that ended before its last step.
enum Cut {
    /// With a verdict on the guest.
    Verdict(Box<Verdict>),
    /// The lab could not go on.
    Error(Error),
    /// It took longer than it may.
    Expired(Duration),
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        Cut::Error(error)
    }
}

impl From<Verdict> for Cut {
    fn from(verdict: Verdict) -> Self {
        Cut::Verdict(Box::new(verdict))
    }
}

/// What the steps gave.
#[derive(Default)]
struct Played {
    states: Vec<(String, Observed)>,
    /// Each with the number of its step, from 1.
    problems: Vec<(usize, String)>,
    spawned: step::Spawned,
}

impl Guesting {
    /// Plays the scenario, again if need be. An `Err` is the lab's; everything else is a verdict,
    /// or `None` if it was cancelled before it began.
    pub async fn run(self, ctx: &Context) -> Result<Option<Ended>> {
        let attempts = self.options.attempts.max(1);
        let mut first: Option<(Verdict, Record)> = None;
        let mut number = 1;
        loop {
            let boot = tokio::select! {
                place = self.options.boots.acquire() => place,
                () = ctx.cancel.cancelled() => return Ok(None),
            };
            let boot = boot.map_err(|error| Error::lab(error.to_string()))?;
            let record = Record::create(&self.options.records, &self.run, &ctx.events)?;
            record.write_sources(&self.sources)?;
            record.event(Event::RunStarted {
                run: self.run.clone(),
                attempt: number,
                record: record.shown(),
            });
            let started = Instant::now();
            let attempt = Attempt { of: &self, record };
            let verdict = attempt.verdict(ctx, boot).await;
            let (record, ms) = (attempt.record, millis(started.elapsed()));
            if !verdict.is_as_expected() && number < attempts && !ctx.cancel.is_cancelled() {
                record.fail_attempt(&self.run, number, &verdict, ms)?;
                first.get_or_insert((verdict, record));
                number += 1;
                continue;
            }
            // What the failed attempt left is what one has to look at.
            let (verdict, record) = match first {
                Some((first, failed)) if verdict.is_as_expected() => {
                    (Verdict::flaky(&first, number), failed)
                }
                _ => (verdict, record),
            };
            record.finish(&self.run, &verdict, ms)?;
            return Ok(Some(Ended {
                run: self.run,
                verdict,
                ms,
            }));
        }
    }
}

/// One attempt at a run.
struct Attempt<'a> {
    of: &'a Guesting,
    /// Where it is recorded.
    record: Record,
}

impl Attempt<'_> {
    /// `boot` is the place among those that boot, given back once the guest answers.
    async fn verdict(&self, ctx: &Context, boot: SemaphorePermit<'_>) -> Verdict {
        let verdict = match self.boot_and_play(ctx, boot).await {
            Ok(verdict) => verdict,
            Err(error) => Verdict::infra(&error),
        };
        match verdict.outcome {
            // The guest did its work; what it answered is the matter.
            Outcome::Passed
            | Outcome::Failed
            | Outcome::ExpectedFailure
            | Outcome::UnexpectedlyPassed => verdict,
            _ => verdict.with("QEMU's command line", &self.command_line()),
        }
    }

    /// QEMU's command line, an option a line, in shell syntax. The record's qemu.sh says
    /// what to change to repeat it.
    fn command_line(&self) -> String {
        let script = std::fs::read_to_string(self.record.dir().join("qemu.sh")).unwrap_or_default();
        script
            .lines()
            .last()
            .unwrap_or_default()
            .replace(" -", " \\\n  -")
    }

    async fn boot_and_play(&self, ctx: &Context, boot: SemaphorePermit<'_>) -> Result<Verdict> {
        let started = Instant::now();
        let keys = RunKeys::generate()?;
        let parts = Parts {
            arch: self.of.run.arch,
            accel: self.of.accel,
            kernel: self.of.boot_file.clone(),
            image: &self.of.image.initramfs,
            keys: keys.archive()?,
            record: self.record.dir(),
        };
        let mut machine = Machine::start(&parts).await?;
        let mut played = Played::default();
        let result = tokio::select! {
            result = self.play_on(ctx, &mut machine, &keys, boot, started, &mut played) => result,
            () = ctx.cancel.cancelled() => Err(Cut::Error(Error::interrupted())),
            limit = expiry(self.of.options.timeout) => Err(Cut::Expired(limit)),
        };
        let result = match result {
            Err(Cut::Expired(limit)) => {
                let verdict = self.expired(&mut machine, &keys, &played, limit).await?;
                Err(verdict.into())
            }
            other => other,
        };
        machine.stop().await?;
        match result {
            // A complaint may be the very last thing that a kernel says.
            Ok(()) => match machine.console.splat() {
                Some(splat) => Ok(splat_verdict("after the last step", &splat)),
                None => self.judge(&played),
            },
            Err(Cut::Verdict(verdict)) => Ok(self.known(*verdict, &played)),
            Err(Cut::Error(error)) => Err(error),
            Err(Cut::Expired(_)) => unreachable!("has become a verdict"),
        }
    }

    /// The verdict on a run that took longer than `--timeout`: what it was doing, and what the
    /// guest's tasks say over a connection of its own.
    async fn expired(
        &self,
        machine: &mut Machine,
        keys: &RunKeys,
        played: &Played,
        limit: Duration,
    ) -> Result<Verdict> {
        let done = played.states.len();
        let doing = match (done, self.of.scenario.steps.get(done)) {
            (_, Some(step)) => format!("during step {} ({})", done + 1, step.action.label()),
            (_, None) => "after the last step".to_owned(),
        };
        let mut blocked = String::new();
        if let Ok(port) = machine.ssh_port().await
            && let Ok(guest) = Guest::connect(port, keys, EVIDENCE).await?
        {
            blocked = guest.blocked().await.unwrap_or_default();
            guest.close().await?;
        }
        let reason = format!("{doing}: the run took longer than --timeout {limit:?}");
        Ok(Verdict::against(Outcome::Hung, Blame::Kernel, reason)
            .with("tasks that have not switched, with their stacks", &blocked)
            .with("the console's last lines", &machine.console.tail(25))
            .help("give it more time with --timeout, or look at what it waits for"))
    }

    async fn play_on(
        &self,
        ctx: &Context,
        machine: &mut Machine,
        keys: &RunKeys,
        boot: SemaphorePermit<'_>,
        started: Instant,
        played: &mut Played,
    ) -> std::result::Result<(), Cut> {
        let limits = machine.deadlines;
        if let Err(gone) = machine.wait_ready(limits.boot, &ctx.cancel).await? {
            tokio::time::sleep(DRAIN).await;
            return Err(Verdict::of_gone(&gone, "booting", &machine.console)
                .help("the whole console is in the run record: console.log")
                .into());
        }
        let port = machine.ssh_port().await?;
        let guest = Guest::connect(port, keys, limits.answer).await?;
        let guest = self.answered(machine, "logging in", guest).await?;
        drop(boot);
        let result = self.steps(ctx, machine, &guest, started, played).await;
        guest.close().await?;
        result
    }

    async fn steps(
        &self,
        ctx: &Context,
        machine: &mut Machine,
        guest: &Guest,
        started: Instant,
        played: &mut Played,
    ) -> std::result::Result<(), Cut> {
        let release = self
            .ask(machine, "asking for the release", guest.release())
            .await?;
        if release != self.of.release {
            let what = format!(
                "the guest runs `{release}`, its modules are for `{}`",
                self.of.release
            );
            return Err(Error::lab(what).into());
        }
        let ms = millis(started.elapsed());
        self.record.event(Event::Booted {
            run: self.of.run.clone(),
            accel: self.of.accel.to_string(),
            ms,
        });
        for module in &self.of.modules {
            let doing = format!("copying {} into the guest", module.name);
            let outcome = guest.put_module(&module.name, &module.path).await?;
            let outcome = self.answered(machine, &doing, outcome).await?;
            if !outcome.is_ok() {
                return Err(Error::new(Blame::Guest, format!("{doing}: {outcome}")).into());
            }
        }
        let names = Names::of(&self.of.scenario);
        // What the log said before the first step belongs to the boot.
        self.ask(machine, "reading the state", guest.state())
            .await?;
        let of = self.of.scenario.steps.len();
        for (index, step) in self.of.scenario.steps.iter().enumerate() {
            let (number, label) = (index + 1, step.action.label());
            let begun = Instant::now();
            self.record.event(Event::StepStarted {
                run: self.of.run.clone(),
                step: number,
                of,
                label,
            });
            let problems = self.step(ctx, machine, guest, step, &names, played).await?;
            self.record.event(Event::StepFinished {
                run: self.of.run.clone(),
                step: number,
                ms: millis(begun.elapsed()),
                problems,
            });
        }
        Ok(())
    }

    /// Performs a step, observes, and checks; returns what was not as expected.
    async fn step(
        &self,
        ctx: &Context,
        machine: &mut Machine,
        guest: &Guest,
        step: &Step,
        names: &Names,
        played: &mut Played,
    ) -> std::result::Result<Vec<String>, Cut> {
        let limits = machine.deadlines;
        let number = played.states.len() + 1;
        let doing = &format!("step {number} ({})", step.action.label());
        let done = match &step.action {
            Action::KlpBuild { options, rejects } => {
                step::klp_build::try_options(ctx, &self.of.tree, options, rejects.as_deref())
                    .await?
            }
            _ => {
                self.ask(
                    machine,
                    doing,
                    step::perform(guest, step, &mut played.spawned, limits),
                )
                .await?
            }
        };
        if let Some(splat) = machine.console.splat() {
            return Err(splat_verdict(doing, &splat).into());
        }
        let dump = self.ask(machine, doing, guest.state()).await?;
        let mut state = Observed::parse(&dump, names);
        state.result = done.result;
        let mut problems = done.problems;
        if let Some(expect) = &step.expect
            && !done.skipped
        {
            problems.extend(step::expect::check(expect, &state));
        }
        self.record
            .write(&format!("states/{number:02}.txt"), &state.text())?;
        let at = format!(
            "step {number} (line {}, {})",
            step.line,
            step.action.label()
        );
        played.problems.extend(
            problems
                .iter()
                .map(|problem| (number, format!("{at}: {problem}"))),
        );
        played.states.push((step.action.label(), state));
        if let Some(livepatch) = done.stalled {
            let blocked = self.ask(machine, doing, guest.blocked()).await?;
            let limit = step.timeout.unwrap_or(limits.transition);
            let reason = format!("{at}: the transition of {livepatch} did not end in {limit:?}");
            played.problems.push((number, reason.clone()));
            return Err(Verdict::against(Outcome::StalledTransition, Blame::Kernel, reason)
                .with("tasks that have not switched, with their stacks", &blocked)
                .with("the console's last lines", &machine.console.tail(25))
                .help("a task stays in a patched function, or its stack is not reliable; a step's \
                       `timeout:` gives a transition more time")
                .into());
        }
        Ok(problems)
    }

    /// Waits for an answer while watching the machine: a dead guest ends the wait at once.
    async fn ask<T>(
        &self,
        machine: &mut Machine,
        doing: &str,
        answer: impl Future<Output = Answer<T>>,
    ) -> std::result::Result<T, Cut> {
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            gone = machine.wait_gone() => {
                tokio::time::sleep(DRAIN).await;
                return Err(Verdict::of_gone(&gone, doing, &machine.console).into());
            }
        };
        self.answered(machine, doing, answer).await
    }

    /// Turns a silence into a verdict; what the console and QEMU say comes first.
    async fn answered<T>(
        &self,
        machine: &mut Machine,
        doing: &str,
        answer: Answer<T>,
    ) -> std::result::Result<T, Cut> {
        let silence = match answer {
            Ok(value) => return Ok(value),
            Err(silence) => silence,
        };
        tokio::time::sleep(DRAIN).await;
        if let Silence::Nonsense(what) = &silence {
            let reason = format!("{doing}: the guest's answer makes no sense: {what}");
            return Err(Verdict::against(Outcome::Hung, Blame::Guest, reason)
                .with("the console's last lines", &machine.console.tail(25))
                .into());
        }
        let gone = machine
            .gone()
            .unwrap_or_else(|| Gone::Silent(silence.to_string()));
        Err(Verdict::of_gone(&gone, doing, &machine.console).into())
    }

    /// What the scenario says of this kernel.
    fn expected_failures(&self) -> Vec<&ExpectedFailure> {
        let all = self.of.scenario.expect_failure.iter();
        all.filter(|failure| failure.kernels.contains(&self.of.run.kernel))
            .collect()
    }

    /// A stalled transition ends a run early, and may be a known defect all the same.
    fn known(&self, verdict: Verdict, played: &Played) -> Verdict {
        if verdict.outcome != Outcome::StalledTransition {
            return verdict;
        }
        let known = Verdict::of_problems(&played.problems, &self.expected_failures());
        match known.outcome {
            Outcome::ExpectedFailure => known,
            _ => verdict,
        }
    }

    /// The verdict on a run that reached its end: expectations first, then the snapshot.
    fn judge(&self, played: &Played) -> Result<Verdict> {
        let observed = run_text(&played.states);
        self.record.write("observed.txt", &observed)?;
        let mut verdict = Verdict::of_problems(&played.problems, &self.expected_failures());
        let snapshots = &self.of.options.snapshots;
        // What breaks an expectation is not accepted unseen.
        let (scope, acceptable) = (self.of.scenario.snapshot, verdict.is_as_expected());
        let standing = snapshots.observe(&self.of.run, scope, &observed, acceptable)?;
        let accepted = match &standing.comparison {
            Comparison::Same => return Ok(verdict),
            Comparison::Missing => "",
            Comparison::Different(accepted) => accepted,
        };
        let difference = diff::render(accepted, &observed);
        self.record.write("diff.txt", &difference)?;
        if standing.accepted {
            return Ok(verdict);
        }
        let name = standing.name;
        let (blame, reason) = match standing.comparison {
            Comparison::Missing => (Blame::File, format!("there is no snapshot {name} yet")),
            _ => (Blame::Kernel, format!("the states differ from {name}")),
        };
        if verdict.is_as_expected() {
            verdict = Verdict::against(Outcome::Failed, blame, reason);
        } else {
            verdict.reasons.push(reason);
        }
        verdict = verdict.with("states by step (- accepted, + observed)", &difference);
        Ok(verdict.help(match snapshots.policy() {
            SnapshotPolicy::ReadOnly => "run it without CI=true, then `lab review`",
            _ => "if what was observed is right: `lab review` (or `cargo insta review`)",
        }))
    }
}

/// Resolves when the time is up, if it is limited.
async fn expiry(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

fn splat_verdict(doing: &str, splat: &crate::vm::console::Splat) -> Verdict {
    let outcome = if splat.fatal {
        Outcome::Panicked
    } else {
        Outcome::Splat
    };
    Verdict::against(outcome, Blame::Kernel, format!("{doing}: {}", splat.title))
        .with("what the kernel said", &splat.text)
}
