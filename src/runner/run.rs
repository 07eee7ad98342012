// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run: boot, steps, states, snapshot, verdict.
//!
//! Before the verdict is given, QEMU is stopped and waited for, or the guest goes to another run,
//! which then answers for what the kernel says from there on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::Options;
use super::forensics;
use super::judge;
use super::live::{Live, Start, session};
use super::origin::Whole;
use super::pause::{Paused, expiry};
use super::queue::{Kind, Queue};
use super::record::Record;
use super::share::{Promise, Share};
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::{Event, Forked, RunId, millis};
use crate::guest::{Answer, Guest, Silence};
use crate::image::build::BuiltImage;
use crate::image::keys::RunKeys;
use crate::module::Module;
use crate::module::generate::SourceFile;
use crate::replay::{Mark, Recorded};
use crate::scenario::Scenario;
use crate::state::{Names, Observed, witness};
use crate::step;
use crate::verdict::{Outcome, Problem, Verdict};
use crate::vm::Accel;
use crate::vm::args::MEMORY_MIB;
use crate::vm::machine::{Gone, Machine, Parts};

/// A console's last words may come after the connection is lost.
const DRAIN: Duration = Duration::from_millis(300);
/// Bytes of all states of a run; they usually have some ten thousand. With everything in them made
/// visible, a snapshot of them can still be read back.
pub(super) const SAID_MAX: usize = 8 << 20;
/// Bytes of a problem, which may quote a file of the guest.
pub(super) const PROBLEM_MAX: usize = 16 << 10;

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
    /// What it was made from, for its record.
    pub origin: Arc<Whole>,
    /// What it shares with other runs.
    pub(super) share: Share,
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
    /// The folder of the record to look at.
    pub record: PathBuf,
}

/// What a guest's task comes back with.
pub(super) struct Over {
    /// The run; `None` if it was cancelled before it began.
    pub(super) ended: Option<Ended>,
    /// The guest, and the run that it plays next.
    pub(super) next: Option<(Guesting, Live)>,
}

/// A run that ended before its last step.
pub(super) enum Cut {
    /// With a verdict on the guest.
    Verdict(Box<Verdict>),
    /// The lab could not go on.
    Error(Error),
    /// It took longer than it may.
    Expired(Duration),
    /// Somebody has entered its guest there, instead of the rest.
    Left(String),
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
pub(super) struct Played {
    pub(super) states: Vec<(String, Observed)>,
    pub(super) problems: Vec<Problem>,
    pub(super) spawned: step::Spawned,
    /// Bytes of what the guest has said of its states.
    pub(super) said: usize,
    /// Where the steps of a recording begin.
    pub(super) marks: Vec<Mark>,
}

impl Guesting {
    /// Plays the scenario, again if need be: in `guest`, or in one of its own. An `Err` is the
    /// lab's; everything else is a verdict.
    pub(super) async fn run(
        self,
        ctx: &Context,
        queue: &Queue,
        mut guest: Option<Live>,
    ) -> Result<Over> {
        let mut attempts = self.options.attempts.max(1);
        let mut promise = Promise::of(&self.share, queue);
        let mut first: Option<(Verdict, Record)> = None;
        let mut number = 1;
        loop {
            let record = Record::create(&self.options.records, &self.run, &ctx.events);
            let record = match (record, &mut guest) {
                (Ok(record), _) => record,
                (Err(error), Some(live)) => {
                    live.stop().await?;
                    return Err(error);
                }
                (Err(error), None) => return Err(error),
            };
            let share = match number {
                1 => &self.share,
                // Another attempt has a guest of its own.
                _ => &Share::Nothing,
            };
            let attempt = Attempt {
                of: &self,
                record,
                share,
                paused: Paused::default(),
            };
            let used = guest.is_some();
            let made = attempt.make(ctx, queue, guest.take(), number, &mut promise);
            let Some((verdict, next, ms)) = made.await? else {
                return Ok(Over {
                    ended: None,
                    next: None,
                });
            };
            let forked = match share {
                Share::Forks(_) => true,
                Share::Leads(_) => promise.is_none(),
                _ => false,
            };
            // Whoever follows need not wait for another attempt.
            promise = None;
            let record = attempt.record;
            // What does not pass in a guest that others have used, or that was kept in between, has
            // a guest of its own. A kernel that complained has complained.
            let doubtful = match verdict.outcome {
                Outcome::Failed | Outcome::UnexpectedlyPassed => used || forked,
                Outcome::Infra | Outcome::Hung | Outcome::StalledTransition => forked,
                _ => false,
            };
            if doubtful {
                attempts += 1;
            }
            let again =
                !verdict.is_as_expected() && number < attempts && !ctx.cancel.is_cancelled();
            if again {
                if let Some((run, mut live)) = next {
                    queue.push(u64::MAX, run);
                    live.stop().await?;
                }
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
            let ended = Some(Ended {
                run: self.run,
                verdict,
                ms,
                record: record.dir().to_path_buf(),
            });
            return Ok(Over { ended, next });
        }
    }
}

/// One attempt at a run.
pub(super) struct Attempt<'a> {
    pub(super) of: &'a Guesting,
    /// Where it is recorded.
    pub(super) record: Record,
    /// What it shares with other runs.
    pub(super) share: &'a Share,
    /// How long it was paused.
    pub(super) paused: Paused,
}

/// A verdict, what goes on in the guest, and the attempt's milliseconds.
type Made = (Verdict, Option<(Guesting, Live)>, u64);

impl Attempt<'_> {
    /// Makes the attempt; `None` if it was cancelled before it began.
    async fn make(
        &self,
        ctx: &Context,
        queue: &Queue,
        guest: Option<Live>,
        number: u32,
        promise: &mut Option<Promise<'_>>,
    ) -> Result<Option<Made>> {
        let boot = match &guest {
            Some(_) => None,
            None => {
                let place = tokio::select! {
                    place = self.of.options.boots.acquire() => place,
                    () = ctx.cancel.cancelled() => return Ok(None),
                };
                Some(place.map_err(|error| Error::lab(error.to_string()))?)
            }
        };
        self.record.write_sources(&self.of.sources)?;
        self.of.origin.write(&self.record)?;
        self.record.event(Event::RunStarted {
            run: self.of.run.clone(),
            attempt: number,
            record: self.record.shown(),
        });
        let started = Instant::now();
        let before = guest.as_ref().map(|live| live.played.clone());
        let (verdict, next) = match self.boot_and_play(ctx, queue, guest, boot, promise).await {
            Ok(made) => made,
            Err(error) => (Verdict::infra(&error), None),
        };
        let took = started.elapsed();
        let ms = millis(took.saturating_sub(self.paused.for_how_long()));
        let verdict = match verdict.outcome {
            // The guest did its work; what it answered is the matter.
            Outcome::Passed
            | Outcome::Failed
            | Outcome::ExpectedFailure
            | Outcome::UnexpectedlyPassed => verdict,
            _ => verdict.with("QEMU's command line", &self.command_line()),
        };
        let verdict = match (before, self.share) {
            _ if verdict.is_as_expected() => verdict,
            (Some(before), _) => {
                let names: Vec<_> = before.iter().map(|run| run.scenario.clone()).collect();
                verdict.with("the guest had played before", &names.join("\n"))
            }
            (None, Share::Forks(kept)) => {
                verdict.with("the guest went on after", &format!("the first {kept}"))
            }
            (None, _) => verdict,
        };
        Ok(Some((verdict, next, ms)))
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

    async fn boot_and_play(
        &self,
        ctx: &Context,
        queue: &Queue,
        guest: Option<Live>,
        boot: Option<SemaphorePermit<'_>>,
        promise: &mut Option<Promise<'_>>,
    ) -> Result<(Verdict, Option<(Guesting, Live)>)> {
        let started = Instant::now();
        let mut live = match guest {
            Some(live) => live,
            None => {
                let keys = RunKeys::generate()?;
                Live::start(ctx, &self.parts(), keys, self.start()).await?
            }
        };
        if let Err(error) = self.open_gdb(&mut live).await {
            live.stop().await?;
            return Err(error);
        }
        let mut played = Played::default();
        let result = tokio::select! {
            result = self.play_on(ctx, &mut live, boot, (started, promise), &mut played) => result,
            () = ctx.cancel.cancelled() => Err(Cut::Error(Error::interrupted())),
            limit = expiry(self.of.options.timeout, &self.paused) => Err(Cut::Expired(limit)),
        };
        let result = match result {
            Err(Cut::Expired(limit)) => Err(self.expired(&mut live, &played, limit).await.into()),
            Err(Cut::Verdict(verdict)) if verdict.is_stuck() && live.machine.gone().is_none() => {
                Err(self.ask_from_outside(&mut live, *verdict).await.into())
            }
            other => other,
        };
        // The verdict on what a run has reached its end with, if somebody may want to look at it.
        let judged = match &result {
            Ok(()) if self.of.options.pause.on_failure => Some(self.judge(&played)),
            _ => None,
        };
        let failed = match (&result, &judged) {
            (Err(Cut::Verdict(verdict)), _) => Some(self.known((**verdict).clone(), &played)),
            (_, Some(Ok(verdict))) => Some(verdict.clone()),
            _ => None,
        };
        let result = match failed {
            Some(verdict) => {
                let paused = self.before_the_end(ctx, &mut live, &played, &verdict).await;
                paused.map_or_else(|error| Err(Cut::Error(error)), |()| result)
            }
            None => result,
        };
        let next = match &result {
            Ok(()) if played.problems.is_empty() => self.next(ctx, queue, &mut live).await,
            _ => None,
        };
        let booted = live.guest.is_some();
        let mut dump = String::new();
        if next.is_none() {
            let panicked = matches!(
                &result,
                Err(Cut::Verdict(verdict)) if verdict.outcome == Outcome::Panicked
            );
            let panicked = panicked || live.machine.gone() == Some(Gone::Panicked);
            if panicked && self.of.options.dump_on_panic {
                dump = self.dump(&mut live.machine).await;
            }
            live.stop().await?;
            if self.of.options.record {
                let steps = std::mem::take(&mut played.marks);
                self.keep_recording(ctx, &live.machine, steps, started)
                    .await;
            }
        }
        let recorded = live.record_console(&self.record);
        let splat = live.machine.console.splat(&self.allowed());
        let next = match next {
            Some(next) => {
                live.hand_on(&self.of.run);
                Some((next, live))
            }
            None => None,
        };
        let verdict = match (result, splat) {
            // A complaint may be the very last thing that a kernel says.
            (Ok(()), Some(splat)) => Ok(judge::of_splat(&splat, "after the last step")),
            (Ok(()), None) => recorded.and_then(|()| judged.unwrap_or_else(|| self.judge(&played))),
            (Err(Cut::Verdict(verdict)), _) => Ok(self
                .known(*verdict, &played)
                .with("the guest's memory", &dump)),
            (Err(Cut::Error(error)), _) => Err(error),
            (Err(Cut::Left(at)), _) => Ok(Verdict::left(&at)),
            (Err(Cut::Expired(_)), _) => unreachable!("has become a verdict"),
        };
        match (verdict, next) {
            (Ok(mut verdict), next) => {
                verdict.failing = self.failing(&verdict, &played, booted);
                verdict.problems = played.problems;
                Ok((verdict, next))
            }
            (Err(error), Some((run, mut live))) => {
                queue.push(u64::MAX, run);
                live.stop().await?;
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Keeps the memory of a guest that panicked; says what to do with it.
    async fn dump(&self, machine: &mut Machine) -> String {
        let file = self.record.dir().join("memory.elf");
        let dumped = match std::path::absolute(&file) {
            Ok(file) => machine.dump(&file).await,
            Err(error) => Err(Error::host(error.to_string())),
        };
        let vmlinux = self.of.tree.join("build/vmlinux");
        let (vmlinux, shown) = (vmlinux.display(), self.record.shown());
        match dumped {
            Ok(()) => format!(
                "crash {vmlinux} {shown}/memory.elf\ndrgn -s {vmlinux} -c {shown}/memory.elf"
            ),
            Err(error) => {
                // Half of it is of no use, and the verdict may need its place on the disk.
                let _ = std::fs::remove_file(&file);
                format!("not kept: {}", error.what)
            }
        }
    }

    /// Makes a recording of what QEMU has written, however the run ended. Nothing else depends on
    /// it.
    async fn keep_recording(
        &self,
        ctx: &Context,
        machine: &Machine,
        steps: Vec<Mark>,
        started: Instant,
    ) {
        let recorded = Recorded {
            run: self.of.run.clone(),
            parts: self.parts(),
            qboot: machine.has_qboot(),
            vmlinux: self.of.tree.join("build/vmlinux"),
            icount: machine.recorded(),
            ms: millis(started.elapsed()),
            steps,
        };
        let shown = self.record.shown();
        // One that was interrupted is kept as well.
        ctx.events.note(match recorded.keep().await {
            Ok((recording, length)) => format!(
                "recorded {}: {} million instructions, {} KiB; `lab replay {shown}`",
                self.of.run,
                recording.icount / 1_000_000,
                length >> 10
            ),
            Err(error) => format!("{} was not recorded: {error}", self.of.run),
        });
    }

    /// How a guest of this run's own starts.
    fn start(&self) -> Start<'_> {
        match self.share {
            _ if self.of.options.record => Start::Recorded,
            // gdb sees all of a boot.
            _ if !self.of.options.warm || self.of.options.pause.gdb => Start::Cold,
            Share::Leads(_) => Start::Keepable,
            Share::Forks(kept) => Start::Middle(&kept.template),
            Share::Nothing | Share::Follows(_) => Start::Warm,
        }
    }

    /// What a guest of this run's own is made from.
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            arch: self.of.run.arch,
            accel: self.of.accel,
            kernel: self.of.boot_file.clone(),
            image: &self.of.image.initramfs,
            record: self.record.dir(),
        }
    }

    /// The run that goes on in this guest, if there is one and the guest is as it was after its
    /// boot.
    async fn next(&self, ctx: &Context, queue: &Queue, live: &mut Live) -> Option<Guesting> {
        let alone = matches!(self.of.share, Share::Nothing);
        if !self.of.options.shares_guests() || !self.of.scenario.cleans_up() || !alone {
            return None;
        }
        let tidy = tokio::select! {
            tidy = live.tidy() => tidy,
            () = ctx.cancel.cancelled() => return None,
        };
        let fit = tidy == Ok(true)
            && live.machine.gone().is_none()
            && live.machine.console.splat(&[]).is_none();
        if fit {
            queue.take(&Kind::of(self.of))
        } else {
            None
        }
    }

    /// The verdict on a run that took longer than `--timeout`: what it was doing, and what the
    /// guest says of itself.
    async fn expired(&self, live: &mut Live, played: &Played, limit: Duration) -> Verdict {
        let done = played.states.len();
        let doing = match (done, self.of.scenario.steps.get(done)) {
            _ if live.guest.is_none() => "booting".to_owned(),
            (_, Some(step)) => format!("during step {} ({})", done + 1, step.action.label()),
            (_, None) => "after the last step".to_owned(),
        };
        let why = format!("the run took longer than --timeout {limit:?}");
        let gone = live.machine.why_silent(why).await;
        let verdict = self.gone(&live.machine, &gone, &doing);
        if !verdict.is_stuck() {
            return verdict;
        }
        let verdict = self.ask_from_outside(live, verdict).await;
        verdict.help("give it more time with --timeout, or look at what it waits for")
    }

    /// Adds what a guest that does not answer says all the same.
    async fn ask_from_outside(&self, live: &mut Live, mut verdict: Verdict) -> Verdict {
        let names = Names::of(&self.of.scenario);
        let evidence = forensics::of_silence(live, &names, &self.of.tree).await;
        verdict.evidence.splice(..0, evidence);
        verdict
    }

    async fn play_on(
        &self,
        ctx: &Context,
        live: &mut Live,
        boot: Option<SemaphorePermit<'_>>,
        (started, promise): (Instant, &mut Option<Promise<'_>>),
        played: &mut Played,
    ) -> std::result::Result<(), Cut> {
        let mut ready_ms = None;
        if live.guest.is_none() {
            ready_ms = Some(self.log_in(ctx, live, started).await?);
        }
        drop(boot);
        let forked = match self.share {
            Share::Forks(kept) => Some(&**kept),
            _ => None,
        };
        live.record_start(&self.record, forked)?;
        self.record.event(Event::Booted {
            run: self.of.run.clone(),
            accel: self.of.accel.to_string(),
            ready_ms,
            ms: millis(started.elapsed()),
            after: live.played.last().cloned(),
            forked: forked.map(|kept| Forked {
                run: kept.by.clone(),
                steps: kept.steps.len(),
            }),
        });
        self.steps(ctx, live, played, promise).await?;
        let guest = session(live.guest.as_ref())?;
        self.drain(&mut live.machine, guest, "after the last step")
            .await
    }

    /// Waits until the console has come to its end, where the kernel must not have complained.
    pub(super) async fn drain(
        &self,
        machine: &mut Machine,
        guest: &Guest,
        doing: &str,
    ) -> std::result::Result<(), Cut> {
        let limit = machine.deadlines.answer;
        let console = machine.console.clone();
        if self
            .ask(machine, doing, guest.drain(&console, limit))
            .await?
        {
            return match console.splat(&self.allowed()) {
                Some(splat) => Err(judge::of_splat(&splat, doing).into()),
                None => Ok(()),
            };
        }
        let gone = Gone::Silent(format!("its console was not at its end after {limit:?}"));
        Err(self.gone(machine, &gone, doing).into())
    }

    /// Waits until the guest is up, and asks it who it is. Returns the milliseconds from `started`
    /// until it could be logged into.
    pub(super) async fn log_in(
        &self,
        ctx: &Context,
        live: &mut Live,
        started: Instant,
    ) -> std::result::Result<u64, Cut> {
        if let Err(gone) = live.ready(ctx, &self.parts()).await? {
            tokio::time::sleep(DRAIN).await;
            let verdict = self.gone(&live.machine, &gone, "booting");
            return Err(verdict
                .help("the whole console is in the run record: console.log")
                .into());
        }
        let ready_ms = millis(started.elapsed());
        let machine = &mut live.machine;
        let limits = machine.deadlines;
        let port = machine.ssh_port().await?;
        let guest = Guest::connect(port, &live.keys, limits.answer).await?;
        let guest = self.answered(machine, "logging in", guest).await?;
        let guest = live.guest.insert(guest);
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
        let alone = matches!(self.share, Share::Nothing);
        if self.of.options.shares_guests() && self.of.scenario.cleans_up() && alone {
            live.settings = self
                .ask(machine, "asking for the settings", guest.tidy())
                .await?;
        }
        Ok(ready_ms)
    }

    /// Waits for an answer while watching the machine: a dead guest ends the wait at once.
    pub(super) async fn ask<T>(
        &self,
        machine: &mut Machine,
        doing: &str,
        answer: impl Future<Output = Answer<T>>,
    ) -> std::result::Result<T, Cut> {
        let allowed = self.allowed();
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            gone = machine.wait_gone_or_stuck(&allowed) => {
                tokio::time::sleep(DRAIN).await;
                return Err(self.gone(machine, &gone, doing).into());
            }
        };
        self.answered(machine, doing, answer).await
    }

    /// Turns a silence into a verdict; what the console and QEMU say comes first.
    pub(super) async fn answered<T>(
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
        if let Silence::Nonsense(_) = &silence {
            let reason = format!("{doing}: {silence}");
            return Err(Verdict::against(Outcome::Hung, Blame::Guest, reason)
                .with("the console's last lines", &machine.console.tail(25))
                .into());
        }
        let gone = match (machine.why_silent(silence.to_string()).await, silence) {
            // The machine goes on: what is lost is the connection.
            (Gone::Silent(why), Silence::Lost(_)) => Gone::Lost(why),
            (gone, _) => gone,
        };
        Err(self.gone(machine, &gone, doing).into())
    }

    /// The verdict on a guest that has gone.
    fn gone(&self, machine: &Machine, gone: &Gone, doing: &str) -> Verdict {
        let verdict = judge::of_gone(gone, doing, &machine.console, &self.allowed());
        verdict.with("what QEMU said", &machine.stderr())
    }

    /// Ends the run if the kernel has complained, on its console or by its taint flags.
    pub(super) async fn no_complaint(
        &self,
        machine: &Machine,
        doing: &str,
        dump: &str,
    ) -> std::result::Result<(), Cut> {
        let allowed = self.allowed();
        let complaints = witness::complaints(dump);
        let mut splat = machine.console.splat(&allowed);
        if splat.is_none() && !complaints.is_empty() && machine.console.splat(&[]).is_none() {
            tokio::time::sleep(DRAIN).await;
            splat = machine.console.splat(&allowed);
            if splat.is_none() && machine.console.splat(&[]).is_none() {
                let flags = complaints.join(", ");
                let reason =
                    format!("{doing}: the kernel is tainted ({flags}), and does not say why");
                let verdict = Verdict::against(Outcome::Splat, Blame::Kernel, reason);
                return Err(verdict
                    .with("the console's last lines", &machine.console.tail(25))
                    .into());
            }
        }
        match splat {
            Some(splat) => Err(judge::of_splat(&splat, doing).into()),
            None => Ok(()),
        }
    }
}

pub(super) fn full_disk() -> String {
    format!(
        "the guest's disk is half of its {MEMORY_MIB} MiB: modules and what livepatches write \
         share it"
    )
}
