// SPDX-License-Identifier: MIT OR Apache-2.0
//! Playing selftests: one guest for all scripts, as upstream runs them, and a new one after a
//! script that did not end well, so that what it left behind hides nothing of the next ones.

use std::path::Path;
use std::time::Instant;

use super::originals::{Originals, Script};
use super::output::{self, Case, Ending};
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::{Event, RunId, millis};
use crate::guest::{self, Executed, Guest, Silence};
use crate::image::keys::RunKeys;
use crate::runner::forensics;
use crate::runner::judge;
use crate::runner::log::{KernelLog, LAST_DEBUG};
use crate::runner::record::Record;
use crate::verdict::{Evidence, Outcome, Verdict};
use crate::vm::args::Parts;
use crate::vm::machine::{Gone, Machine};

/// Where the selftests are in the guest.
const FOLDER: &str = "/selftests";
/// The folders that the scripts look for, the shell's `/dev/fd`, and awk under its usual name.
const PREPARE: &str = "mkdir -p test_modules \"/lib/modules/$(uname -r)/build\" && \
                       ln -sf /proc/self/fd /dev/fd && ln -sf gawk /usr/bin/awk";

/// A case that was played, or was to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// Its script.
    pub script: String,
    /// The case and what the script says of it.
    pub case: Case,
    /// The exit code that the lab's verdict on it asks for: a kernel's complaint is no pass,
    /// whatever the script says.
    pub exit_code: u8,
}

/// All cases that were played.
#[derive(Debug, Default)]
pub struct Cases {
    /// In the order of the scripts.
    pub played: Vec<Played>,
    /// Milliseconds that the scripts took, without the guests' boots.
    pub ms: u64,
}

/// Plays all scripts. Each case is a run of the event stream.
pub async fn play(ctx: &Context, originals: &Originals, records: &Path) -> Result<Cases> {
    let mut cases = Cases::default();
    let mut guest: Option<Player<'_>> = None;
    for script in &originals.scripts {
        let mut player = match guest.take() {
            Some(player) => player,
            None => Player::boot(ctx, originals, records).await?,
        };
        let ended = tokio::select! {
            ended = player.script(ctx, script) => ended,
            () = ctx.cancel.cancelled() => Err(Error::interrupted()),
        };
        match ended {
            Ok(ended) => {
                cases.ms += ended.ms;
                cases.played.extend(ended.played);
                if ended.clean {
                    guest = Some(player);
                } else {
                    player.stop().await?;
                }
            }
            Err(error) => {
                player.stop().await?;
                return Err(error);
            }
        }
    }
    if let Some(player) = guest {
        player.stop().await?;
    }
    Ok(cases)
}

/// A guest with the selftests in it.
struct Player<'a> {
    of: &'a Originals,
    machine: Machine,
    guest: Guest,
    record: Record,
    /// What its kernel has said.
    log: KernelLog,
}

/// A script that ended.
struct Ended {
    played: Vec<Played>,
    ms: u64,
    /// Whether its guest can be trusted with the next one.
    clean: bool,
}

impl<'a> Player<'a> {
    async fn boot(ctx: &Context, originals: &'a Originals, records: &Path) -> Result<Self> {
        let run = RunId {
            scenario: originals.name.clone(),
            kernel: originals.kernel.clone(),
            arch: originals.arch,
            cpus: None,
        };
        let record = Record::create(records, &run, &ctx.events)?;
        let what = format!("boot {} {} for selftests", run.kernel, run.arch);
        let phase = ctx.events.phase(what);
        let keys = RunKeys::generate()?;
        let parts = Parts {
            arch: originals.arch,
            accel: originals.accel,
            size: originals.size.clone(),
            kernel: originals.boot_file.clone(),
            image: &originals.image.initramfs,
            record: record.dir(),
        };
        let mut machine = Machine::boot(&parts, None, &ctx.cancel).await?;
        match log_in(ctx, originals, &mut machine, &keys).await {
            Ok(guest) => {
                phase.done(format!("booted {} {} for selftests", run.kernel, run.arch));
                let mut log = KernelLog::default();
                log.begin(record.dir());
                log.take(guest.log().await.map_err(silent)?)?;
                Ok(Self {
                    of: originals,
                    machine,
                    guest,
                    record,
                    log,
                })
            }
            Err(error) => {
                machine.stop().await?;
                Err(error.evidence(&format!("record: {}", record.shown())))
            }
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.guest.close().await?;
        self.machine.stop().await
    }

    async fn script(&mut self, ctx: &Context, script: &Script) -> Result<Ended> {
        let (of, name) = (self.of, &script.name);
        let phase = ctx
            .events
            .phase(format!("{name} on {} {}", of.kernel, of.arch));
        for test in &script.cases {
            self.record.event(Event::RunStarted {
                run: of.run(name, test),
                attempt: 1,
                record: self.record.shown(),
            });
        }
        self.log.begin_step();
        let started = Instant::now();
        let executed = self.execute(name).await;
        let ms = millis(started.elapsed());
        // What the kernel says comes after what it does.
        let drained = match &executed {
            Ok(_) => self.drained().await?,
            Err(_) => None,
        };
        if drained.is_none() {
            tokio::time::sleep(self.machine.deadlines.last_words).await;
        }
        let log = drained.unwrap_or_default();
        let gone = match &executed {
            Ok(executed) => {
                self.record
                    .write(&format!("{name}.out"), &executed.output)?;
                None
            }
            Err(verdict) => Some(verdict),
        };
        let (endings, clean) = match &executed {
            Ok(executed) => {
                let ended_well = matches!(executed.ending, guest::Ending::Exit(0 | output::SKIP));
                let endings = output::endings(&script.cases, &executed.output, executed.ending);
                (endings, ended_well)
            }
            Err(verdict) => (lost(&script.cases, verdict), false),
        };
        let splat = self.machine.console.splat(&[]);
        let durations = output::durations(&log);
        let mut played = Vec::new();
        for case in endings {
            let run = of.run(name, &case.test);
            let verdict = match (&case.ending, gone, &splat) {
                (Ending::Skipped(reason), ..) => Err(reason.clone()),
                (Ending::NotReached, ..) => Err(format!("{name} ended before it")),
                (_, Some(gone), _) => Ok(gone.clone()),
                (Ending::NotOk(said), _, None) => Ok(not_ok(name, said)),
                (Ending::Ok, _, None) => Ok(Verdict::passed()),
                (_, _, Some(splat)) => {
                    let verdict = judge::of_splat(splat, &format!("while {name} ran"));
                    Ok(judge::as_executed(verdict, of.accel, of.size.cpus))
                }
            };
            let exit_code = verdict.as_ref().map_or(0, |verdict| verdict.exit_code);
            let record = self.record.shown();
            self.record.event(match verdict {
                Err(reason) => Event::NotRun { run, reason },
                Ok(verdict) => Event::RunFinished {
                    run,
                    verdict,
                    ms: durations.get(&case.test).copied().unwrap_or(0),
                    record,
                },
            });
            let script = name.clone();
            played.push(Played {
                script,
                case,
                exit_code,
            });
        }
        let ok = |played: &&Played| played.case.ending == Ending::Ok;
        let oks = played.iter().filter(ok).count();
        let all = played.len();
        phase.done(format!(
            "{name} on {} {}: {oks} of {all} ok",
            of.kernel, of.arch
        ));
        Ok(Ended {
            played,
            ms,
            clean: clean && splat.is_none(),
        })
    }

    /// What the kernel has said since the last script, if the console has all of it.
    async fn drained(&mut self) -> Result<Option<String>> {
        let limit = self.machine.deadlines.answer;
        match self.guest.drain(&self.machine.console, limit).await {
            Ok((end, said)) => Ok(Some(self.log.take(said)?).filter(|_| end.is_ok())),
            Err(_) => Ok(None),
        }
    }

    /// Runs a script, unless the guest goes first: the verdict on that.
    async fn execute(&mut self, script: &str) -> std::result::Result<Executed, Verdict> {
        let limit = self.machine.deadlines.script;
        let command = format!("exec bash ./{script}");
        let gone = tokio::select! {
            biased;
            executed = self.guest.exec(FOLDER, &command, limit) => match executed {
                Ok(executed) => return Ok(executed),
                Err(silence) => guest::why(&mut self.machine, &silence).await,
            },
            gone = self.machine.wait_gone() => gone,
        };
        let verdict = verdict_on(&gone, script, self.of, &mut self.machine).await;
        // What cannot be had is left out: the verdict stands without it.
        let (log, machine) = (&mut self.log, &mut self.machine);
        if !matches!(gone, Gone::Qemu(_) | Gone::Reset(_)) {
            let _ = log.take_from_memory(machine, &self.of.tree).await;
        }
        Err(verdict.with(LAST_DEBUG, &log.last_debug()))
    }
}

/// The verdict on a guest that has gone, and where one that stands still does so.
async fn verdict_on(gone: &Gone, doing: &str, of: &Originals, machine: &mut Machine) -> Verdict {
    // What the kernel says comes after what it does.
    tokio::time::sleep(machine.deadlines.last_words).await;
    let mut verdict = judge::of_gone(gone, doing, &machine.console, &[]);
    if verdict.is_stuck() && machine.gone().is_none() {
        verdict
            .evidence
            .extend(forensics::places(machine, &of.tree).await);
    }
    judge::as_executed(verdict, of.accel, of.size.cpus)
}

/// The verdict on a case that is not ok.
fn not_ok(script: &str, said: &str) -> Verdict {
    let first = said.lines().next().unwrap_or_default();
    let reason = match first {
        "" => format!("{script} does not say ok"),
        first => format!("{script} says: {first}"),
    };
    Verdict::against(Outcome::Failed, Blame::Kernel, reason).with("what the script said", said)
}

/// Of a guest that has gone nobody knows which case was the last: none of them is ok.
fn lost(cases: &[String], verdict: &Verdict) -> Vec<Case> {
    let reason = verdict.reasons.join("\n");
    let case = |test: &String| Case {
        test: test.clone(),
        ending: Ending::NotOk(reason.clone()),
    };
    cases.iter().map(case).collect()
}

/// Why there is no answer of a guest that plays no script yet.
fn silent(silence: Silence) -> Error {
    let blame = match &silence {
        Silence::Starved(_) => Blame::Host,
        _ => Blame::Guest,
    };
    Error::new(blame, silence.to_string())
}

/// Logs in and puts everything into place. What fails here is not about the kernel's livepatching.
async fn log_in(
    ctx: &Context,
    originals: &Originals,
    machine: &mut Machine,
    keys: &RunKeys,
) -> Result<Guest> {
    let limits = machine.deadlines;
    let identity = keys.identity()?;
    if let Err(gone) = machine.wait_ready(&identity, &ctx.cancel).await? {
        let verdict = verdict_on(&gone, "booting", originals, machine).await;
        let blame = verdict.blame.unwrap_or(Blame::Kernel);
        let error = Error::new(blame, verdict.reasons.join("\n"));
        let evidence = verdict.evidence.iter();
        return Err(evidence.fold(error, |error, Evidence { title, text }| {
            error.evidence(&format!("{title}:\n{text}"))
        }));
    }
    let port = machine.ssh_port().await?;
    let guest = Guest::connect(port, keys, machine.vitals(), limits.answer)
        .await?
        .map_err(silent)?;
    let made = guest
        .exec("/", &format!("mkdir {FOLDER}"), limits.answer)
        .await;
    made.map_err(silent)?;
    let made = guest.exec(FOLDER, PREPARE, limits.answer).await;
    let made = made.map_err(silent)?;
    if made.ending != guest::Ending::Exit(0) {
        let what = format!("preparing the guest for selftests: {}", made.ending);
        return Err(Error::new(Blame::Guest, what).evidence(&made.output));
    }
    for (name, data) in &originals.files {
        let put = guest.put(&format!("{FOLDER}/{name}"), data).await;
        let put = put.map_err(silent)?;
        if !put.is_ok() {
            let what = format!("copying {name} into the guest: {put}");
            return Err(Error::new(Blame::Guest, what));
        }
    }
    // Files arrive without the right to be executed.
    let rights = guest.exec(FOLDER, "chmod 0755 *", limits.answer).await;
    rights.map_err(silent)?;
    Ok(guest)
}
