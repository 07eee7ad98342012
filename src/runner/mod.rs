// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a plan to verdicts: shared builds once and one after the other, then guests side by side.

pub mod record;
pub mod run;
pub mod verdict;

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use crate::arch::Arch;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::{Event, RunId};
use crate::image::build::BuiltImage;
use crate::kernel::{BuiltKernel, Definition};
use crate::module::{generate, klp_build};
use crate::plan::{Plan, Run};
use crate::vm::Accel;
use crate::vm::accel::{self, Choice};
use record::Record;
use run::{Guesting, SnapshotPolicy};
use verdict::Verdict;

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// `--accel`.
    pub accel: Choice,
    /// What to do with a snapshot that differs.
    pub snapshots: SnapshotPolicy,
    /// Guests at the same time.
    pub jobs: usize,
}

/// Runs a plan. Returns every run's verdict in the order in which they ended.
pub async fn run_all(
    ctx: &Context,
    plan: &Plan<'_>,
    options: Options,
) -> Result<Vec<(RunId, Verdict)>> {
    let skipped = plan.skipped.clone();
    ctx.events.send(Event::Planned {
        runs: plan.runs.len(),
        skipped,
    });
    let mut builds = Builds::default();
    let mut verdicts = Vec::new();
    let mut guests = JoinSet::new();
    for &run in &plan.runs {
        // A free place first: while a guest runs, the next modules are built.
        while guests.len() >= options.jobs.max(1) {
            collect(&mut guests, &mut verdicts).await?;
        }
        let record = Record::create(&ctx.project, &run.id(), &ctx.events)?;
        record.event(Event::RunStarted {
            run: run.id(),
            record: record.shown(),
        });
        match prepare(ctx, &mut builds, run, options, &record).await {
            Ok(guesting) => {
                let ctx = ctx.clone();
                guests.spawn(async move { guesting.play(&ctx).await });
            }
            Err(error) => {
                let verdict = Verdict::infra(&error);
                verdicts.push((run.id(), record.finish(run.id(), verdict, 0)?));
                if error.blame == Blame::Interrupted {
                    break;
                }
            }
        }
    }
    while !guests.is_empty() {
        collect(&mut guests, &mut verdicts).await?;
    }
    if ctx.cancel.is_cancelled() {
        Err(Error::interrupted())
    } else {
        Ok(verdicts)
    }
}

async fn collect(
    guests: &mut JoinSet<Result<(RunId, Verdict)>>,
    verdicts: &mut Vec<(RunId, Verdict)>,
) -> Result<()> {
    match guests.join_next().await {
        Some(Ok(result)) => verdicts.push(result?),
        Some(Err(error)) => return Err(Error::lab(format!("a run failed inside: {error}"))),
        None => {}
    }
    Ok(())
}

/// What is built once for many runs; a failure counts for all of them.
#[derive(Default)]
struct Builds {
    kernels: BTreeMap<(String, &'static str), Result<BuiltKernel>>,
    images: BTreeMap<&'static str, Result<BuiltImage>>,
    accels: BTreeMap<&'static str, Result<Accel>>,
}

impl Builds {
    async fn kernel(
        &mut self,
        ctx: &Context,
        definition: &Definition,
        arch: Arch,
    ) -> Result<BuiltKernel> {
        let key = (definition.name.clone(), arch.name());
        if !self.kernels.contains_key(&key) {
            let built = crate::kernel::build::build(ctx, definition, arch, false).await;
            self.kernels.insert(key.clone(), built);
        }
        self.kernels[&key].clone()
    }

    async fn image(&mut self, ctx: &Context, arch: Arch) -> Result<BuiltImage> {
        if !self.images.contains_key(arch.name()) {
            let definition = crate::image::Definition::read(&ctx.project, crate::image::DEFAULT)?;
            let built = crate::image::build::build(ctx, &definition, arch, false).await;
            self.images.insert(arch.name(), built);
        }
        self.images[arch.name()].clone()
    }

    async fn accel(
        &mut self,
        ctx: &Context,
        choice: Choice,
        arch: Arch,
        kernel: &BuiltKernel,
        image: &BuiltImage,
    ) -> Result<Accel> {
        if !self.accels.contains_key(arch.name()) {
            let boot_file = kernel.boot_file(arch);
            let accel = accel::choose(ctx, choice, arch, &boot_file, &image.initramfs).await;
            self.accels.insert(arch.name(), accel);
        }
        self.accels[arch.name()].clone()
    }
}

/// Builds all that a run needs.
async fn prepare(
    ctx: &Context,
    builds: &mut Builds,
    run: Run<'_>,
    options: Options,
    record: &Record,
) -> Result<Guesting> {
    let sources = generate::sources(run.scenario);
    record.write_sources(&sources)?;
    let kernel = builds.kernel(ctx, run.kernel, run.arch).await?;
    let image = builds.image(ctx, run.arch).await?;
    let accel = builds
        .accel(ctx, options.accel, run.arch, &kernel, &image)
        .await?;
    let mut modules =
        crate::module::build::build(ctx, &kernel, run.arch, run.scenario, &sources).await?;
    for (livepatch, patches) in run.scenario.from_klp_build() {
        let request = klp_build::Request {
            name: &livepatch.name,
            replace: livepatch.replace,
            patches,
        };
        modules.push(klp_build::build(ctx, &kernel, run.arch, &request).await?);
    }
    Ok(Guesting {
        run: run.id(),
        scenario: run.scenario.clone(),
        boot_file: kernel.boot_file(run.arch),
        tree: kernel.tree(),
        release: kernel.release,
        image,
        accel,
        modules,
        record: record.clone(),
        snapshots: options.snapshots,
    })
}
