// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab selftests`: the kernel's own livepatch selftests, and the scenarios beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::selection::read_kernels;
use super::sizes::SizeArgs;
use super::{archs, run, scenarios};
use crate::arch::Arch;
use crate::cache::write_atomically;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::{Event, RunId, millis};
use crate::host;
use crate::kernel::Definition;
use crate::plan::{self, Plan};
use crate::report::files::Files;
use crate::runner::{self, Options};
use crate::scenario::{Scenario, SnapshotScope};
use crate::selftests::compare::{self, Word};
use crate::selftests::mutations::{self, Mutation};
use crate::selftests::originals::Originals;
use crate::selftests::play::{self, Cases};
use crate::state::{SnapshotPolicy, Snapshots};
use crate::verdict::Verdict;
use crate::vm::accel::Choice;

pub const EXAMPLES: &str = "\
Examples:
  lab selftests                                    upstream's scripts on the default kernels
  lab selftests --compare --kernel mainline,tags --arch x86_64,arm64
  lab selftests --from my-export --kernel tags     scripts in the style of upstream's
  lab selftests --mutations docs/mutations.md      who notices what in broken kernels";

/// What the kernels of mutations are called.
const MUTANT: &str = "mutant-";

/// Arguments of `lab selftests`.
#[derive(Debug, Args)]
pub struct SelftestsArgs {
    /// Kernels to run on [default: those with `default: true`].
    #[arg(long, value_delimiter = ',', value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Architectures of the guests [default: the host's].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ARCH")]
    arch: Vec<Arch>,
    /// How guests are executed.
    #[arg(long, value_enum, value_name = "ACCEL", default_value = "auto")]
    accel: Choice,
    #[command(flatten)]
    size: SizeArgs,
    /// Play the scripts of DIR (test-*.sh and test_modules/) instead of the kernel's own; may be
    /// given several times.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["compare", "mutations"])]
    from: Vec<PathBuf>,
    /// Also run the scenarios of the same cases; fail where the two disagree.
    #[arg(long)]
    compare: bool,
    /// Play on each deliberately broken kernel (mutant-*), and write to FILE which tests notice.
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    mutations: Option<PathBuf>,
    /// Write a report as results come: jsonl, junit, ktap, github or table, each =FILE.
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<String>,
    /// Install missing host packages first.
    #[arg(long)]
    setup: bool,
    /// Install without a question.
    #[arg(long, short)]
    yes: bool,
}

impl SelftestsArgs {
    /// The files that reports go to.
    pub fn files(&self) -> Result<Files> {
        Files::parse(&self.report)
    }

    /// The folders of scripts; `None` stands for the kernel's own.
    fn folders(&self) -> Vec<Option<PathBuf>> {
        if self.from.is_empty() {
            return vec![None];
        }
        self.from.iter().cloned().map(Some).collect()
    }

    /// The kernels to play on.
    fn kernels(&self, project: &Path) -> Result<Vec<Definition>> {
        if self.mutations.is_none() || !self.kernel.is_empty() {
            return read_kernels(project, &self.kernel);
        }
        let mut kernels = Definition::all(project)?;
        kernels.retain(|kernel| kernel.name.starts_with(MUTANT));
        if kernels.is_empty() {
            let what = format!("no kernel is called {MUTANT}*");
            return Err(Error::new(Blame::File, what));
        }
        Ok(kernels)
    }

    /// The scenarios to run beside the originals.
    fn scenarios(&self, project: &Path) -> Result<Vec<Scenario>> {
        if !self.compare && self.mutations.is_none() {
            return Ok(Vec::new());
        }
        let (mut scenarios, rejected) = scenarios::read(&[project.join("scenarios")], None)?;
        if !rejected.is_empty() {
            return Err(super::check::summary(&rejected).help("see `lab check scenarios`"));
        }
        let with_others = self.mutations.is_some();
        scenarios.retain(|scenario| {
            // klp-build takes minutes for each kernel; a snapshot of another kernel says nothing.
            let other = scenario.snapshot == SnapshotScope::Shared && !scenario.uses_klp_build();
            scenario.original.is_some() || (with_others && other)
        });
        Ok(scenarios)
    }
}

/// Plays the originals, then the scenarios; returns the exit code, and the comparison as text.
pub async fn selftests(ctx: &Context, args: &SelftestsArgs) -> Result<(u8, String)> {
    let archs = archs(&args.arch);
    if args.setup {
        super::setup::install(ctx, &host::needed(&archs), args.yes).await?;
    }
    host::require(&archs)?;
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let kernels = args.kernels(&ctx.project)?;
    let scenarios = args.scenarios(&ctx.project)?;
    let sizes = args.size.choices();
    let mut all = Vec::new();
    for kernel in &kernels {
        for &arch in &archs {
            for from in &args.folders() {
                let from = from.as_deref();
                let (accel, size) = (args.accel, sizes.first());
                let originals = Originals::prepare(ctx, kernel, arch, accel, size, from).await?;
                all.push(Arc::new(originals));
            }
        }
    }
    let plan = plan::plan(&scenarios, &kernels, &archs, &sizes);
    let options = options(ctx, args.accel, plan.largest_mib());
    let mut runs: Vec<_> = all.iter().flat_map(|originals| originals.runs()).collect();
    runs.extend(plan.ids());
    ctx.events.send(Event::Planned {
        runs,
        skipped: plan.skipped.clone(),
        elsewhere: Vec::new(),
        jobs: options.jobs,
        every_scenario: false,
    });
    let started = Instant::now();
    let played = play_all(ctx, &all, &options.records).await?;
    if scenarios.is_empty() {
        ctx.events.send(Event::Ended {
            ms: millis(started.elapsed()),
            guests: all.len().min(run::cpus()),
            memory_mib: 0,
        });
        let codes = played.iter().flat_map(|cases| &cases.played);
        return Ok((
            codes.map(|case| case.exit_code).max().unwrap_or(0),
            times(&all, &played),
        ));
    }
    let ended = runner::run_all(ctx, &plan, options).await?.into_iter();
    let verdicts: Vec<_> = ended.map(|ended| (ended.run, ended.verdict)).collect();
    let both = Both {
        all: &all,
        played: &played,
        scenarios: &scenarios,
        plan: &plan,
        verdicts: &verdicts,
    };
    match &args.mutations {
        None => Ok(both.compared()),
        Some(file) => both.mutations(&kernels, file),
    }
}

/// Plays the originals, each in guests of its own, as many at once as there are CPUs: a shell keeps
/// one busy.
async fn play_all(ctx: &Context, all: &[Arc<Originals>], records: &Path) -> Result<Vec<Cases>> {
    let places = Arc::new(Semaphore::new(run::cpus()));
    let mut playing = JoinSet::new();
    for (index, originals) in all.iter().enumerate() {
        let (ctx, originals) = (ctx.clone(), Arc::clone(originals));
        let (places, records) = (Arc::clone(&places), records.to_path_buf());
        playing.spawn(async move {
            let _place = places.acquire().await;
            (index, play::play(&ctx, &originals, &records).await)
        });
    }
    // All of them end in good order before an error is reported.
    let mut played = BTreeMap::new();
    while let Some(joined) = playing.join_next().await {
        let joined = joined.map_err(|error| Error::lab(format!("a task failed: {error}")))?;
        played.insert(joined.0, joined.1);
    }
    played.into_values().collect()
}

fn options(ctx: &Context, accel: Choice, largest_mib: u32) -> Options {
    let folder = ctx.project.join(".lab/runs");
    let records = std::path::absolute(&folder).unwrap_or(folder);
    // What is compared here is not for review.
    let snapshots = Snapshots::new(ctx.project.clone(), SnapshotPolicy::ReadOnly);
    Options {
        accel,
        jobs: run::default_jobs(largest_mib),
        boots: Semaphore::new(run::cpus()),
        ..Options::new(snapshots, records)
    }
}

/// A line for each kernel and architecture: what its scripts took.
fn times(all: &[Arc<Originals>], played: &[Cases]) -> String {
    let line = |(originals, cases): (&Arc<Originals>, &Cases)| {
        format!(
            "{} took {:.1} s on {} ({})\n",
            originals.name,
            cases.ms as f64 / 1000.0,
            originals.kernel,
            originals.arch
        )
    };
    all.iter().zip(played).map(line).collect()
}

/// Originals and scenarios, played.
struct Both<'a> {
    all: &'a [Arc<Originals>],
    played: &'a [Cases],
    scenarios: &'a [Scenario],
    plan: &'a Plan<'a>,
    verdicts: &'a [(RunId, Verdict)],
}

impl Both<'_> {
    fn pairs(&self, originals: &Originals, cases: &Cases) -> Vec<compare::Pair> {
        let skipped: Vec<_> = self
            .plan
            .skipped
            .iter()
            .map(|skip| skip.run.clone())
            .collect();
        let of = (originals.kernel.as_str(), originals.arch);
        compare::pairs(of, &cases.played, self.scenarios, &skipped, self.verdicts)
    }

    /// The exit code of the worst of all: a verdict, or a disagreement.
    fn compared(&self) -> (u8, String) {
        let cases = self.played.iter().flat_map(|cases| &cases.played);
        let originals = cases.map(|case| case.exit_code);
        let scenarios = self.verdicts.iter().map(|(_, verdict)| verdict.exit_code);
        let mut code = originals.chain(scenarios).max().unwrap_or(0);
        let mut text = String::new();
        for (originals, cases) in self.all.iter().zip(self.played) {
            let pairs = self.pairs(originals, cases);
            let title = format!("{} on {}", originals.kernel, originals.arch);
            text += &compare::table(&title, &pairs);
            if !pairs.iter().all(compare::Pair::agrees) {
                code = code.max(1);
            }
        }
        (code, text + &times(self.all, self.played))
    }

    /// Writes the page. A mutation that the lab misses fails the command, and so does a scenario
    /// that could not be run; that others fail is what it is for.
    fn mutations(&self, kernels: &[Definition], file: &Path) -> Result<(u8, String)> {
        let infra = self.verdicts.iter().map(|(_, verdict)| verdict.exit_code);
        let mut code = infra.filter(|&code| code > 1).max().unwrap_or(0);
        let mut found = Vec::new();
        for (originals, cases) in self.all.iter().zip(self.played) {
            let definition = kernels
                .iter()
                .find(|kernel| kernel.name == originals.kernel);
            let of_here =
                |run: &RunId| run.kernel == originals.kernel && run.arch == originals.arch;
            let original = |run: &RunId| {
                let is = |scenario: &&Scenario| scenario.name == run.scenario;
                let scenario = self.scenarios.iter().find(is);
                scenario.is_some_and(|scenario| scenario.original.is_some())
            };
            let others = self.verdicts.iter().filter(|(run, verdict)| {
                of_here(run) && !original(run) && Word::of_verdict(verdict) == Word::NotOk
            });
            let mut others: Vec<_> = others.map(|(run, _)| run.scenario.clone()).collect();
            others.sort();
            found.push(Mutation {
                kernel: match (self.all.len() > kernels.len(), originals.arch) {
                    (true, arch) => format!("{} on {arch}", originals.kernel),
                    (false, _) => originals.kernel.clone(),
                },
                summary: definition
                    .map(|kernel| kernel.summary.clone())
                    .unwrap_or_default(),
                pairs: self.pairs(originals, cases),
                others,
            });
        }
        let command = "lab selftests --mutations docs/mutations.md";
        let page = mutations::page(&found, command);
        write_atomically(file, page.as_bytes())?;
        let mut text = String::new();
        for mutation in found.iter().filter(|mutation| !mutation.is_noticed()) {
            code = code.max(1);
            let missed = mutation.missed().join(", ");
            text += &format!(
                "not noticed by the scenarios: {} {missed}\n",
                mutation.kernel
            );
        }
        Ok((code, text + &format!("wrote {}\n", file.display())))
    }
}
