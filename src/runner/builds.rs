// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs need before they can boot: kernels, images, the accelerator, modules. Each is made
//! once, one after the other, since each build uses every core by itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::Options;
use super::run::Guesting;
use super::share::Share;
use crate::arch::Arch;
use crate::context::Context;
use crate::error::{Blame, Result};
use crate::image::build::BuiltImage;
use crate::kernel::{BuiltKernel, Definition};
use crate::module::{generate, klp_build, kselftest};
use crate::plan::Run;
use crate::vm::Accel;
use crate::vm::accel::{self, Choice};

/// A run that can boot, or the reason why it cannot.
pub(super) type Prepared<'a> = (Run<'a>, Result<Guesting>);

/// Prepares `runs` and hands each on as soon as it is ready. What klp-build makes comes last: it
/// takes minutes, and the other runs need not wait for it.
pub(super) async fn prepare_all<'a>(
    ctx: &Context,
    runs: &[Run<'a>],
    options: &Arc<Options>,
    ready: UnboundedSender<Prepared<'a>>,
) {
    let mut builds = Builds::default();
    for slow in [false, true] {
        let of_now = |run: &&Run<'_>| run.scenario.from_klp_build().next().is_some() == slow;
        for &run in runs.iter().filter(of_now) {
            let guesting = builds.prepare(ctx, run, options).await;
            let interrupted = matches!(&guesting, Err(error) if error.blame == Blame::Interrupted);
            if ready.send((run, guesting)).is_err() || interrupted {
                return;
            }
        }
    }
}

/// What is built once for many runs; a failure counts for all of them.
#[derive(Default)]
struct Builds {
    kernels: BTreeMap<(String, Arch), Result<BuiltKernel>>,
    images: BTreeMap<Arch, Result<BuiltImage>>,
    accels: BTreeMap<Arch, Result<Accel>>,
}

impl Builds {
    async fn kernel(
        &mut self,
        ctx: &Context,
        definition: &Definition,
        arch: Arch,
    ) -> Result<BuiltKernel> {
        match self.kernels.entry((definition.name.clone(), arch)) {
            Entry::Occupied(built) => built.get().clone(),
            Entry::Vacant(place) => {
                let built = crate::kernel::build::build(ctx, definition, arch, false).await;
                place.insert(built).clone()
            }
        }
    }

    async fn image(&mut self, ctx: &Context, arch: Arch) -> Result<BuiltImage> {
        match self.images.entry(arch) {
            Entry::Occupied(built) => built.get().clone(),
            Entry::Vacant(place) => {
                let name = crate::image::DEFAULT;
                let definition = crate::image::Definition::read(&ctx.project, name)?;
                let built = crate::image::build::build(ctx, &definition, arch, false).await;
                place.insert(built).clone()
            }
        }
    }

    async fn accel(
        &mut self,
        ctx: &Context,
        choice: Choice,
        arch: Arch,
        kernel: &BuiltKernel,
        image: &BuiltImage,
    ) -> Result<Accel> {
        match self.accels.entry(arch) {
            Entry::Occupied(accel) => accel.get().clone(),
            Entry::Vacant(place) => {
                let boot_file = kernel.boot_file(arch);
                let accel = accel::choose(ctx, choice, arch, &boot_file, &image.initramfs).await;
                place.insert(accel).clone()
            }
        }
    }

    /// Builds all that a run needs.
    async fn prepare(
        &mut self,
        ctx: &Context,
        run: Run<'_>,
        options: &Arc<Options>,
    ) -> Result<Guesting> {
        let sources = generate::sources(run.scenario);
        let kernel = self.kernel(ctx, run.kernel, run.arch).await?;
        let image = self.image(ctx, run.arch).await?;
        let accel = self
            .accel(ctx, options.accel, run.arch, &kernel, &image)
            .await?;
        let mut modules = Vec::new();
        if run.scenario.has_generated() {
            modules =
                crate::module::build::build(ctx, &kernel, run.arch, run.scenario, &sources).await?;
        }
        if run.scenario.from_kselftest().next().is_some() {
            let folder = kselftest::in_tree(&kernel);
            let folder = kselftest::build(ctx, &kernel, run.arch, &folder).await?;
            modules.extend(kselftest::find(
                &folder,
                &kernel,
                run.scenario.from_kselftest(),
            )?);
        }
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
            sources,
            boot_file: kernel.boot_file(run.arch),
            tree: kernel.tree(),
            release: kernel.release,
            image,
            accel,
            modules,
            options: Arc::clone(options),
            share: Share::Nothing,
        })
    }
}
