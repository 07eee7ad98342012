// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab run`: the main job.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::pause::{PauseArgs, note_gdb};
use super::selection::{Selection, SelectionArgs};
use super::{duration, runs_in_ci};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::Event;
use crate::host;
use crate::profile::Settings;
use crate::report::files::{Files, Format};
use crate::report::paint::Color;
use crate::runner::pause::Pause;
use crate::runner::{self, Options, memory};
use crate::state::{SnapshotPolicy, Snapshots};
use crate::vm::accel::Choice;

pub const EXAMPLES: &str = "\
Examples:
  lab run --setup scenarios/tagged-replace.yaml   on a fresh machine
  lab run --profile nightly                       a matrix of lab.yaml
  lab run scenarios --kernel mainline,tags --arch x86_64,arm64
  lab run scenarios --cpus 1,2                    each with one CPU, and with two
  lab run scenarios/legacy-replace.yaml --memory 1G --append 'kasan.fault=panic'
  lab run scenarios/legacy-replace.yaml --accept  take what is observed as the snapshot
  lab run scenarios --report junit=junit.xml --report ktap=results.ktap
  lab run scenarios --shard 2/6 --output results  a part of it, on one of six machines
  lab run scenarios --resume results              only what has no verdict in there yet
  lab run scenarios/tagged-replace.yaml --record  for `lab replay`, instruction by instruction
  lab run scenarios/tagged-transition-window.yaml --pause-at in-the-window
                                                  stop there, for `lab shell` and gdb (--gdb)";

/// Guests at the same time for each CPU, unless --jobs or memory says otherwise. A guest waits for its
/// steps' own waits, and with several CPUs for the kernel's retry of a transition, a second later.
/// Measured under TCG, the profile nightly on two CPUs: guests with one CPU took 60, 48 and 48 s with
/// 2, 3 and 4 of them to a CPU; guests with two CPUs 117 and 116 s with 4 and 8.
const GUESTS_PER_CPU: usize = 4;

/// Arguments of `lab run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// How guests are executed [default: auto].
    #[arg(long, value_enum, value_name = "ACCEL")]
    accel: Option<Choice>,
    /// Number of guests at the same time [default: 4 per CPU, limited by the memory].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Repeat a run with an unexpected result up to N times; if it passes then, it is reported as
    /// flaky.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=10))]
    retries: Option<u8>,
    /// Start no further runs after an unexpected result.
    #[arg(long)]
    fail_fast: bool,
    /// Fail (exit status 1) if a scenario is skipped on every kernel and architecture.
    #[arg(long)]
    every_scenario: bool,
    /// Boot a guest for each run. Otherwise guests go on where one was kept after its boot, and play
    /// further runs as long as they are as they were.
    #[arg(long)]
    cold: bool,
    /// Leave transitions to the kernel's own pace. Otherwise the other CPUs of a guest are kept out of
    /// their idle tasks while a step begins one, so that it need not wait a second for the next try.
    #[arg(long)]
    patient: bool,
    /// Record each guest so that `lab replay` can repeat it instruction by instruction. A guest has
    /// one emulated CPU then, and is booted for its run. Whoever enters it would be in the recording.
    #[arg(long, conflicts_with_all = ["pause_at", "pause_on_failure", "gdb"])]
    record: bool,
    /// Keep the memory of a guest that panics in its record, for crash and drgn (as large as its memory).
    #[arg(long)]
    dump_on_panic: bool,
    /// Time limit of one guest, such as 90s or 5m [default: the limits of its steps].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Install missing host packages first.
    #[arg(long)]
    setup: bool,
    /// Install without a question.
    #[arg(long, short)]
    yes: bool,
    /// Accept the observed states as the snapshot, if every expectation holds.
    #[arg(long)]
    accept: bool,
    /// Put run records and the events below DIR, where other shards may put theirs [default: the
    /// records below .lab].
    #[arg(long, short, value_name = "DIR", conflicts_with = "resume")]
    output: Option<PathBuf>,
    /// Write a report as results come: jsonl, junit, ktap, github or table, each =FILE. `github`
    /// alone writes the step summary.
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<String>,
    /// Show the runs and the skips with their reasons; build nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten, next_help_heading = "Pausing")]
    pause: PauseArgs,
}

impl RunArgs {
    /// Whether nothing is to be done.
    pub fn is_dry(&self) -> bool {
        self.dry_run
    }

    /// Reads scenarios and kernel definitions: every mistake in a file shows here.
    pub fn read(&self, project: &Path, color: Color) -> Result<Selection> {
        if self.accept && runs_in_ci() {
            return Err(
                Error::new(Blame::Usage, "--accept does not go with CI=true")
                    .help("snapshots are accepted by a person: run it outside CI"),
            );
        }
        if self.record && self.accel == Some(Choice::Kvm) {
            let what = "--record does not go with --accel kvm";
            return Err(Error::new(Blame::Usage, what)
                .help("only QEMU's translator counts instructions: leave --accel out"));
        }
        let more = Settings {
            accel: self.accel,
            jobs: self.jobs,
            retries: self.retries,
            timeout: self.timeout,
            fail_fast: self.fail_fast.then_some(true),
            every_scenario: self.every_scenario.then_some(true),
            ..Settings::default()
        };
        let selection = self.selection.read(project, more, color)?;
        Ok(match self.record {
            true => selection.recorded(),
            false => selection,
        })
    }

    /// Where records and events go, if not below .lab.
    fn output(&self) -> Option<&Path> {
        self.output.as_deref().or(self.selection.resume())
    }

    /// The files that reports go to.
    pub fn files(&self) -> Result<Files> {
        let mut files = Files::parse(&self.report)?;
        if let Some(dir) = self.output() {
            std::fs::create_dir_all(dir).at("create", dir)?;
            // A name of its own: other shards, and earlier attempts, may have put theirs here.
            let time = jiff::Timestamp::now()
                .strftime("%Y%m%d-%H%M%S%.3f")
                .to_string();
            let name = format!("events-{time}-{}.jsonl", std::process::id());
            files.add(Format::Jsonl, dir.join(name));
        }
        Ok(files)
    }
}

/// Runs; the exit code is that of the worst verdict.
pub async fn run(ctx: &Context, args: &RunArgs, selection: &Selection) -> Result<u8> {
    let settings = &selection.settings;
    let plan = selection.plan();
    let mut rest = plan.clone();
    rest.runs
        .retain(|run| selection.settled(&run.id()).is_none());
    let packages = super::setup::needed_for(&rest);
    if args.setup {
        super::setup::install(ctx, &packages, args.yes).await?;
    }
    host::require_packages(&packages)?;
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let pause = args.pause.pause(selection.scenarios())?;
    if pause.gdb {
        note_gdb(&ctx.events, &settings.archs);
    }
    let options = options(ctx, args, settings, pause, plan.largest_mib());
    if options.record {
        ctx.events
            .note("recording: each guest is booted for its run and has one emulated CPU");
    }
    ctx.events.send(Event::Planned {
        runs: plan.ids(),
        skipped: plan.skipped.clone(),
        elsewhere: selection.elsewhere(),
        jobs: options.jobs,
        every_scenario: settings.every_scenario.unwrap_or(false),
    });
    let earlier = selection.settled_results();
    if !earlier.runs.is_empty() {
        let (done, left) = (earlier.runs.len(), rest.runs.len());
        ctx.events.note(format!(
            "{done} runs have a verdict already, {left} are left"
        ));
    }
    let unplayed = !selection.played_nowhere(&plan).is_empty();
    let unplayed = unplayed && settings.every_scenario.unwrap_or(false);
    let ended = runner::run_all(ctx, &rest, options).await?;
    let now = ended.iter().map(|ended| ended.verdict.exit_code);
    let before = [earlier.exit_code(), u8::from(unplayed)];
    Ok(now.chain(before).max().unwrap_or(0))
}

fn options(
    ctx: &Context,
    args: &RunArgs,
    settings: &Settings,
    pause: Pause,
    largest_mib: u32,
) -> Options {
    let policy = match (args.accept, runs_in_ci()) {
        (_, true) => SnapshotPolicy::ReadOnly,
        (true, _) => SnapshotPolicy::Accept,
        _ => SnapshotPolicy::Review,
    };
    let folder = args
        .output()
        .map_or_else(|| ctx.project.join(".lab"), Path::to_path_buf);
    let records = std::path::absolute(folder.join("runs")).unwrap_or(folder);
    Options {
        accel: match args.record {
            true => Choice::Tcg,
            false => settings.accel.unwrap_or(Choice::Auto),
        },
        // Somebody looks at one guest after the other.
        jobs: match settings.jobs {
            Some(jobs) => usize::from(jobs),
            None if pause.is_possible() => 1,
            None => default_jobs(largest_mib),
        },
        boots: tokio::sync::Semaphore::new(cpus()),
        attempts: 1 + u32::from(settings.retries.unwrap_or(0)),
        timeout: settings.timeout.filter(|_| !pause.gdb),
        fail_fast: settings.fail_fast.unwrap_or(false),
        dump_on_panic: args.dump_on_panic,
        warm: !args.cold && !args.record,
        record: args.record,
        patient: args.patient,
        pause,
        ..Options::new(Snapshots::new(ctx.project.clone(), policy), records)
    }
}

/// The host's CPUs.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Guests with so many MiB at the same time, if nobody says how many.
pub(super) fn default_jobs(mib: u32) -> usize {
    (cpus() * GUESTS_PER_CPU).min(memory::guests_that_fit(mib))
}
