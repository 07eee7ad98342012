// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab run`: the main job.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{ArchName, archs};
use crate::arch::Arch;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::kernel::Definition;
use crate::report::paint::Color;
use crate::runner::run::SnapshotPolicy;
use crate::runner::{self, Options};
use crate::scenario::Scenario;
use crate::vm::accel::Choice;
use crate::{host, plan, report};

pub const EXAMPLES: &str = "\
Examples:
  lab run --setup scenarios/tagged-replace.yaml   on a fresh machine
  lab run scenarios --kernel mainline,tags        every scenario on two kernels
  lab run scenarios/legacy-replace.yaml --accept  take what is observed as the snapshot
  lab run scenarios --report jsonl=events.jsonl   keep the events for another program";

/// Arguments of `lab run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or folders with some.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Kernels to run on [default: those that say `default: true`].
    #[arg(long, value_delimiter = ',', value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Architectures of the guests [default: the host's].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ARCH")]
    arch: Vec<ArchName>,
    /// How guests are executed.
    #[arg(long, value_enum, default_value = "auto", value_name = "ACCEL")]
    accel: Choice,
    /// Guests at the same time [default: the number of CPUs].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Install missing host packages first.
    #[arg(long)]
    setup: bool,
    /// Do not ask before installing.
    #[arg(long, short)]
    yes: bool,
    /// Take what is observed as the snapshot, where every expectation holds.
    #[arg(long)]
    accept: bool,
    /// Write reports: jsonl=FILE gets the events, table=FILE a Markdown table of the verdicts in
    /// its place in a document.
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<String>,
}

impl RunArgs {
    /// The files of `--report FORMAT=FILE`.
    pub fn report_files(&self) -> Result<report::Files> {
        let mut files = report::Files::default();
        for report in &self.report {
            let place = match report.split_once('=') {
                Some(("jsonl", file)) if !file.is_empty() => (&mut files.jsonl, file),
                Some(("table", file)) if !file.is_empty() => (&mut files.table, file),
                _ => {
                    let what = format!("`--report {report}` is no report");
                    return Err(Error::new(Blame::Usage, what)
                        .help("write --report jsonl=FILE or --report table=FILE"));
                }
            };
            *place.0 = Some(PathBuf::from(place.1));
        }
        Ok(files)
    }
}

/// What is read and checked before anything is built.
pub struct Work {
    scenarios: Vec<Scenario>,
    kernels: Vec<Definition>,
    archs: Vec<Arch>,
}

/// Reads scenarios and kernel definitions: every mistake in a file shows here.
pub fn prepare(project: &Path, args: &RunArgs, color: Color) -> Result<Work> {
    let in_ci = runs_in_ci();
    if args.accept && in_ci {
        return Err(
            Error::new(Blame::Usage, "--accept does not go with CI=true")
                .help("snapshots are accepted by a person: run it outside CI"),
        );
    }
    let (scenarios, rejected) = super::scenarios::read(&args.paths)?;
    if !rejected.is_empty() {
        super::check::show(&rejected, color);
        return Err(super::check::summary(&rejected).evidence("nothing was built or booted"));
    }
    let kernels = if args.kernel.is_empty() {
        let mut kernels = Definition::all(project)?;
        kernels.retain(|kernel| kernel.default);
        if kernels.is_empty() {
            return Err(Error::new(Blame::File, "no kernel says `default: true`")
                .help("name one with --kernel"));
        }
        kernels
    } else {
        let read = |name: &String| Definition::read(project, name);
        args.kernel.iter().map(read).collect::<Result<_>>()?
    };
    Ok(Work {
        scenarios,
        kernels,
        archs: archs(&args.arch),
    })
}

/// Runs; the exit code is that of the worst verdict.
pub async fn run(ctx: &Context, args: &RunArgs, work: &Work) -> Result<u8> {
    if args.setup {
        super::setup::setup(ctx, &work.archs, args.yes).await?;
    }
    host::require(&work.archs)?;
    let plan = plan::plan(&work.scenarios, &work.kernels, &work.archs);
    let snapshots = match (args.accept, runs_in_ci()) {
        (_, true) => SnapshotPolicy::ReadOnly,
        (true, _) => SnapshotPolicy::Accept,
        _ => SnapshotPolicy::Review,
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = args.jobs.map_or(cpus, usize::from);
    let options = Options {
        accel: args.accel,
        snapshots,
        jobs,
    };
    let verdicts = runner::run_all(ctx, &plan, options).await?;
    Ok(verdicts
        .iter()
        .map(|(_, verdict)| verdict.exit_code)
        .max()
        .unwrap_or(0))
}

/// CI systems set `CI`; then nothing is ever written to snapshots/.
fn runs_in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !["", "0", "false"].contains(&ci.as_str()))
}
