// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run: boot, steps, states, snapshot, verdict.
//!
//! Before the verdict is given, QEMU is stopped and waited for, or the guest goes to another run,
//! which then answers for what the kernel says from there on.

use std::path::PathBuf;
use std::time::Instant;

use tokio::sync::SemaphorePermit;

use super::attempt::{Attempt, EarlyEnd, Played, PreparedRun};
use super::confirm::Confirmation;
use super::handover::Handover;
use super::judge;
use super::live::{Live, Start};
use super::paused::{Paused, expiry};
use super::record::Record;
use super::words::with_lines_of;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::{Event, RunId, millis};
use crate::guest::Guest;
use crate::image::keys::RunKeys;
use crate::replay::{Mark, Recorded};
use crate::verdict::evidence::COMMAND_LINE;
use crate::verdict::{Outcome, Verdict};
use crate::vm::args::Parts;
use crate::vm::machine::{Gone, Machine};

/// When the guest goes on by itself.
const AFTER: &str = "after the last step";
/// The title of the evidence of a guest that could not be stopped.
const UNSTOPPED: &str = "the guest could not be stopped";

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

/// What came of an attempt.
pub(super) struct Made {
    /// How it ended.
    pub(super) verdict: Verdict,
    /// Its guest, if another run goes on in it.
    pub(super) kept: Option<Live>,
    /// Milliseconds that it took.
    pub(super) ms: u64,
}

/// Makes an attempt at a run: in `guest`, or in one of its own. `None` if it was cancelled before it
/// began.
pub(super) async fn attempt(
    ctx: &Context,
    of: &PreparedRun,
    record: Record,
    number: u32,
    guest: Option<Live>,
    handover: &Handover,
    confirmation: &Confirmation,
) -> Option<Made> {
    let attempt = Attempt {
        of,
        record,
        paused: Paused::default(),
        confirmation,
    };
    let boot = match &guest {
        Some(_) => None,
        None => tokio::select! {
            // It is never closed.
            place = of.options.boots.acquire() => place.ok(),
            () = ctx.cancel.cancelled() => return None,
        },
    };
    Some(attempt.make(ctx, number, guest, boot, handover).await)
}

/// How the steps ended, and the verdict if it had to be known while the guest was there.
type Outcomes = (std::result::Result<(), EarlyEnd>, Option<Result<Verdict>>);

/// What the end of a guest left.
#[derive(Default)]
struct Remains {
    /// What to do with its memory.
    dump: String,
    /// Why it could not be stopped.
    unstopped: String,
}

impl Attempt<'_> {
    /// Makes the attempt.
    async fn make(
        &self,
        ctx: &Context,
        number: u32,
        guest: Option<Live>,
        boot: Option<SemaphorePermit<'_>>,
        handover: &Handover,
    ) -> Made {
        let begun = self.begin(number);
        let started = Instant::now();
        let before = guest.as_ref().map(|live| live.played.clone());
        let (verdict, kept) = match (begun, guest) {
            (Ok(()), guest) => {
                self.boot_and_play(ctx, guest, boot, handover, started)
                    .await
            }
            (Err(error), guest) => (self.without_steps(error, guest).await, None),
        };
        let took = started.elapsed();
        let ms = millis(took.saturating_sub(self.paused.for_how_long()));
        let verdict = match verdict.outcome {
            // The guest did its work; what it answered is the matter.
            Outcome::Passed
            | Outcome::New
            | Outcome::Failed
            | Outcome::ExpectedFailure
            | Outcome::UnexpectedlyPassed => verdict,
            _ => verdict.with(COMMAND_LINE, &self.command_line()),
        };
        let verdict = match before {
            Some(before) if !verdict.is_as_expected() && verdict.outcome != Outcome::New => {
                let names: Vec<_> = before.iter().map(|run| run.scenario.clone()).collect();
                verdict.with("the guest had played before", &names.join("\n"))
            }
            _ => verdict,
        };
        let verdict = with_lines_of(&self.of.scenario, verdict);
        Made { verdict, kept, ms }
    }

    /// Keeps what is known before the attempt, and reports its start.
    fn begin(&self, number: u32) -> Result<()> {
        self.record.write_sources(&self.of.sources)?;
        self.record
            .write_findings(&self.of.scenario, &self.of.modules)?;
        self.of.origin.write(&self.record)?;
        self.record.event(Event::RunStarted {
            run: self.of.run.clone(),
            attempt: number,
            record: self.record.shown(),
        });
        Ok(())
    }

    /// The verdict where the lab could not begin; the guest has nothing to do any more.
    async fn without_steps(&self, error: Error, guest: Option<Live>) -> Verdict {
        let verdict = Verdict::infra(&error);
        match guest {
            Some(mut live) => verdict.with(UNSTOPPED, &stop(&mut live).await),
            None => verdict,
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

    /// The verdict, and the guest if another run goes on in it.
    async fn boot_and_play(
        &self,
        ctx: &Context,
        guest: Option<Live>,
        boot: Option<SemaphorePermit<'_>>,
        handover: &Handover,
        started: Instant,
    ) -> (Verdict, Option<Live>) {
        let live = match guest {
            Some(live) => Ok(live),
            None => match RunKeys::generate() {
                Ok(keys) => Live::start(ctx, &self.parts(), keys, self.start()).await,
                Err(error) => Err(error),
            },
        };
        let mut live = match live {
            Ok(live) => live,
            Err(error) => return (Verdict::infra(&error), None),
        };
        live.log.begin(self.record.dir());
        if let Err(error) = self.open_gdb(&mut live).await {
            return (self.without_steps(error, Some(live)).await, None);
        }
        let mut played = Played::default();
        let result = self
            .play_within_limits(ctx, &mut live, boot, started, &mut played)
            .await;
        let (result, judged) = self.pause_if_failed(ctx, &mut live, &played, result).await;
        let good = result.is_ok() && played.problems.is_empty();
        let hand_on = good && self.hands_on(ctx, &mut live, handover).await;
        let booted = live.guest.is_some();
        let mut remains = Remains::default();
        if !hand_on {
            remains = self
                .end(ctx, &mut live, &mut played, &result, started)
                .await;
        }
        let recorded = live.record_console(&self.record, hand_on);
        let splat = live.machine.console.splat(&self.allowed());
        if hand_on {
            live.hand_on(&self.of.run);
        }
        let mut judged = judged;
        if result.is_ok() && splat.is_none() && self.missed(ctx, &live, &mut played) {
            judged = None;
        }
        let verdict = match (result, splat) {
            // A complaint may be the very last thing that a kernel says.
            (Ok(()), Some(splat)) => Ok(self.as_executed(judge::of_splat(&splat, AFTER))),
            (Ok(()), None) => recorded.and_then(|()| judged.unwrap_or_else(|| self.judge(&played))),
            (Err(EarlyEnd::Verdict(verdict)), _) => Ok(self
                .known(*verdict, &played)
                .with("the guest's memory", &remains.dump)),
            (Err(EarlyEnd::Error(error)), _) => Err(error),
            (Err(EarlyEnd::Left(at)), _) => Ok(Verdict::left(&at)),
            (Err(EarlyEnd::Expired(_)), _) => unreachable!("has become a verdict"),
        };
        match verdict {
            Ok(mut verdict) => {
                verdict.failing = self.failing(&verdict, &played, booted);
                let verdict = verdict.with(UNSTOPPED, &remains.unstopped);
                let mut verdict = judge::with_earlier(verdict, &played.problems);
                verdict.problems = played.problems;
                (verdict, hand_on.then_some(live))
            }
            Err(error) => {
                let left = hand_on.then_some(live);
                let verdict = self.without_steps(error, left).await;
                let verdict = verdict.with(UNSTOPPED, &remains.unstopped);
                let mut verdict = judge::with_earlier(verdict, &played.problems);
                verdict.problems = played.problems;
                (verdict, None)
            }
        }
    }

    /// Plays the steps as long as they may take. What came of a guest that was cut short is asked
    /// from outside.
    async fn play_within_limits(
        &self,
        ctx: &Context,
        live: &mut Live,
        boot: Option<SemaphorePermit<'_>>,
        started: Instant,
        played: &mut Played,
    ) -> std::result::Result<(), EarlyEnd> {
        let before = live.machine.vitals().sample();
        let result = tokio::select! {
            result = self.play_on(ctx, live, boot, started, played) => result,
            () = ctx.cancel.cancelled() => Err(EarlyEnd::Error(Error::interrupted())),
            limit = expiry(self.of.options.timeout, &self.paused) => Err(EarlyEnd::Expired(limit)),
        };
        match result {
            Err(EarlyEnd::Expired(limit)) => {
                let share = live.machine.vitals().since(&before);
                let verdict = self.expired(live, played, limit, share).await?;
                Err(verdict.into())
            }
            Err(EarlyEnd::Verdict(verdict)) => Err(self.on_loss(live, *verdict).await?.into()),
            other => other,
        }
    }

    /// Pauses a run that has failed, for somebody who may want to look at its guest.
    async fn pause_if_failed(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &Played,
        result: std::result::Result<(), EarlyEnd>,
    ) -> Outcomes {
        let judged = match &result {
            Ok(()) if self.of.options.pause.on_failure => Some(self.judge(played)),
            _ => None,
        };
        let failed = match (&result, &judged) {
            (Err(EarlyEnd::Verdict(verdict)), _) => Some(self.known((**verdict).clone(), played)),
            (_, Some(Ok(verdict))) => Some(verdict.clone()),
            _ => None,
        };
        let result = match failed {
            Some(verdict) => {
                let paused = self.before_the_end(ctx, live, played, &verdict).await;
                paused.map_or_else(|error| Err(EarlyEnd::Error(error)), |()| result)
            }
            None => result,
        };
        (result, judged)
    }

    /// Ends the guest, after its memory was kept if that is wanted.
    async fn end(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &mut Played,
        result: &std::result::Result<(), EarlyEnd>,
        started: Instant,
    ) -> Remains {
        let panicked = matches!(
            result,
            Err(EarlyEnd::Verdict(verdict)) if verdict.outcome == Outcome::Panicked
        );
        let panicked = panicked || live.machine.gone() == Some(Gone::Panicked);
        let mut remains = Remains::default();
        if panicked && self.of.options.dump_on_panic {
            remains.dump = self.dump(&mut live.machine).await;
        }
        remains.unstopped = stop(live).await;
        if !remains.unstopped.is_empty() {
            // Evidence of a passed run is not shown.
            let what = remains.unstopped.trim_end();
            ctx.events
                .note(format!("{}: {UNSTOPPED}: {what}", self.of.run));
        }
        if self.of.options.record {
            let steps = std::mem::take(&mut played.marks);
            self.keep_recording(ctx, &live.machine, steps, started)
                .await;
        }
        remains
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
    fn start(&self) -> Start {
        let options = &self.of.options;
        if options.record {
            Start::Recorded
        } else if !options.warm || options.pause.gdb {
            // gdb sees all of a boot.
            Start::Cold
        } else {
            Start::Warm
        }
    }

    /// What a guest of this run's own is made from.
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            arch: self.of.run.arch,
            accel: self.of.accel,
            size: self.of.size.clone(),
            kernel: self.of.boot_file.clone(),
            image: &self.of.image.initramfs,
            record: self.record.dir(),
        }
    }

    /// Whether another run goes on in this guest: there is one, and the guest is as it was after
    /// its boot.
    async fn hands_on(&self, ctx: &Context, live: &mut Live, handover: &Handover) -> bool {
        if !self.of.shares_guests() {
            return false;
        }
        let tidy = tokio::select! {
            tidy = live.tidy() => tidy,
            () = ctx.cancel.cancelled() => return false,
        };
        let fit = tidy == Ok(true)
            && live.machine.gone().is_none()
            && live.machine.console.splat(&[]).is_none();
        fit && handover.is_wanted().await
    }

    async fn play_on(
        &self,
        ctx: &Context,
        live: &mut Live,
        boot: Option<SemaphorePermit<'_>>,
        started: Instant,
        played: &mut Played,
    ) -> std::result::Result<(), EarlyEnd> {
        let mut ready_ms = None;
        if live.guest.is_none() {
            ready_ms = Some(self.log_in(ctx, live, started).await?);
        }
        drop(boot);
        live.record_start(&self.record)?;
        self.record.event(Event::Booted {
            run: self.of.run.clone(),
            accel: self.of.accel.to_string(),
            ready_ms,
            ms: millis(started.elapsed()),
            after: live.played.last().cloned(),
        });
        self.steps(ctx, live, played).await?;
        self.quiet(ctx, live).await?;
        self.drain(live, AFTER).await
    }

    /// Lets the guest go on as long as modules have left something pending, which may be an oops to
    /// come.
    async fn quiet(&self, ctx: &Context, live: &mut Live) -> std::result::Result<(), EarlyEnd> {
        let (machine, guest, _) = live.split()?;
        let map = std::fs::read_to_string(self.of.tree.join("build/System.map"));
        let map = map.unwrap_or_default();
        let pending = self.ask(machine, AFTER, guest.quiet(&map)).await?;
        if let Some(pending) = pending {
            ctx.events.note(format!(
                "{}: still pending in modules {AFTER}: {pending}; what comes of it is not seen",
                self.of.run
            ));
        }
        Ok(())
    }

    /// Waits until the guest is up, and asks it who it is. Returns the milliseconds from `started`
    /// until it could be logged into.
    pub(super) async fn log_in(
        &self,
        ctx: &Context,
        live: &mut Live,
        started: Instant,
    ) -> std::result::Result<u64, EarlyEnd> {
        if let Err(gone) = live.ready(ctx, &self.parts()).await? {
            tokio::time::sleep(live.machine.deadlines.last_words).await;
            let verdict = self.gone(&live.machine, &gone, "booting");
            return Err(match verdict.outcome {
                Outcome::Hung | Outcome::Panicked => {
                    verdict.help("the whole console is in the run record: console.log")
                }
                _ => verdict,
            }
            .into());
        }
        let ready_ms = millis(started.elapsed());
        let machine = &mut live.machine;
        let limits = machine.deadlines;
        let port = machine.ssh_port().await?;
        let guest = Guest::connect(port, &live.keys, machine.vitals(), limits.answer).await?;
        let guest = self.answered(machine, "logging in", guest).await?;
        let guest = match self.of.options.patient {
            true => guest,
            false => guest.hurried(),
        };
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
        if self.of.shares_guests() {
            live.settings = self
                .ask(machine, "asking for the settings", guest.tidy())
                .await?;
        }
        Ok(ready_ms)
    }
}

/// Ends a guest; says why it could not be stopped, which no verdict depends on.
async fn stop(live: &mut Live) -> String {
    let stopped = live.stop().await;
    stopped.err().map_or_else(String::new, |error| error.what)
}
