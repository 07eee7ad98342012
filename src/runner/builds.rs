// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs need before they can boot: kernels, images, the accelerator, modules.
//!
//! Kernels are built one after the other, since each uses every core. What mostly waits for
//! something else goes on beside them: images are fetched, and as soon as a kernel is there, its
//! accelerator is tried, its modules are made and its runs start.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Options;
use super::attempt::PreparedRun;
use super::origin::{Ingredients, Provenance};
use crate::arch::Arch;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::files::ProjectFile;
use crate::host;
use crate::image::{self, build::BuiltImage};
use crate::kernel::{self, BuiltKernel};
use crate::module::{self, Module, generate, klp_build, kselftest, prebuilt};
use crate::plan::Run;
use crate::size::{self, Size};
use crate::vm::Accel;
use crate::vm::accel;

/// A run that can boot, or the reason why it cannot.
pub(super) type Prepared<'a> = (Run<'a>, Result<PreparedRun>);

/// Prepares `runs`, which are grouped by kernel and architecture, and hands each on as soon as it
/// is ready. What klp-build makes comes last: it takes minutes, and the other runs need not wait
/// for it.
pub(super) async fn prepare_all<'a>(
    ctx: &Context,
    runs: &[Run<'a>],
    options: &Arc<Options>,
    ready: UnboundedSender<Prepared<'a>>,
) {
    if let Some(shipped) = &options.shipped {
        for &run in runs {
            let _ = ready.send((run, shipped.put_together(ctx, run, options).await));
        }
        return;
    }
    let builds = Builds {
        ctx,
        options,
        guests: runs
            .iter()
            .map(|run| (run.arch, Guest::default()))
            .collect(),
        ready,
    };
    let (built, kernels) = unbounded_channel();
    let build_kernels = async move {
        for group in runs.chunk_by(|a, b| (&a.kernel.name, a.arch) == (&b.kernel.name, b.arch)) {
            // As it is now: it may change while the kernel is built.
            let definition = Arc::new(group[0].kernel.portable(group[0].arch));
            let kernel = kernel::build::build(ctx, group[0].kernel, group[0].arch, false);
            if built.send((group, definition, kernel.await)).is_err() {
                return;
            }
        }
    };
    let build_images = async {
        for &arch in builds.guests.keys() {
            // Whoever needs it is told of its failure.
            let _ = builds.image(arch).await;
        }
    };
    let prepare_runs = async {
        // Gone when this is over, which ends the building of kernels whose runs nobody takes.
        let mut kernels = kernels;
        let mut slow = Vec::new();
        while let Some((group, definition, kernel)) = kernels.recv().await {
            builds
                .prepare(group, &definition, &kernel, &mut slow)
                .await?;
        }
        for parts in slow {
            builds.hand_on(parts).await?;
        }
        Ok::<_, Stopped>(())
    };
    let _ = tokio::join!(build_kernels, build_images, prepare_runs);
}

/// No further run is wanted.
struct Stopped;

/// What all runs of an architecture share; a failure counts for all of them.
#[derive(Default)]
struct Guest {
    image: OnceCell<Result<BuiltImage>>,
    accel: OnceCell<Result<Accel>>,
    /// What QEMU says of its version.
    qemu: OnceCell<String>,
}

/// What a run is put together from.
struct Parts<'a> {
    run: Run<'a>,
    kernel: BuiltKernel,
    /// The kernel's definition, with what that names.
    definition: Arc<Result<Vec<ProjectFile>>>,
    guest: Result<(BuiltImage, Accel)>,
    /// Those that are generated.
    modules: Result<Vec<Module>>,
}

struct Builds<'a, 'c> {
    ctx: &'c Context,
    options: &'c Arc<Options>,
    guests: BTreeMap<Arch, Guest>,
    ready: UnboundedSender<Prepared<'a>>,
}

impl<'a> Builds<'a, '_> {
    async fn image(&self, arch: Arch) -> Result<BuiltImage> {
        let build = || async {
            let definition = image::Definition::read(&self.ctx.project, image::DEFAULT)?;
            image::build::build(self.ctx, &definition, arch, false).await
        };
        self.guests[&arch].image.get_or_init(build).await.clone()
    }

    /// What else than the kernel boots, and how.
    async fn guest(&self, arch: Arch, kernel: &BuiltKernel) -> Result<(BuiltImage, Accel)> {
        let image = image::build::for_kernel(self.ctx, self.image(arch).await?, kernel).await?;
        let (choice, boot_file) = (self.options.accel, kernel.boot_file(arch));
        let choose = || accel::choose(self.ctx, choice, arch, &boot_file, &image.initramfs);
        let accel = self.guests[&arch].accel.get_or_init(choose).await.clone()?;
        Ok((image, accel))
    }

    /// Hands on the runs of one kernel: those whose modules are in the cache need not wait for the
    /// modules of the others. What klp-build has to do with is put aside as `slow`.
    async fn prepare(
        &self,
        group: &[Run<'a>],
        definition: &Arc<Result<Vec<ProjectFile>>>,
        kernel: &Result<BuiltKernel>,
        slow: &mut Vec<Parts<'a>>,
    ) -> std::result::Result<(), Stopped> {
        let kernel = match kernel {
            Ok(kernel) => kernel,
            Err(error) => {
                for &run in group {
                    self.send(run, Err(error.clone()))?;
                }
                return Ok(());
            }
        };
        let arch = group[0].arch;
        let (mut at_hand, mut missing) = (Vec::new(), Vec::new());
        for &run in group {
            match module::build::find(self.ctx, kernel, run.scenario).transpose() {
                Some(modules) => at_hand.push((run, modules)),
                None => missing.push(run),
            }
        }
        let scenarios: Vec<_> = missing.iter().map(|run| run.scenario).collect();
        let build = module::build::build(self.ctx, kernel, arch, &scenarios);
        let mut hand_on = async |runs: Vec<(Run<'a>, Result<Vec<Module>>)>| {
            let guest = self.guest(arch, kernel).await;
            for (run, modules) in runs {
                let parts = Parts {
                    run,
                    kernel: kernel.clone(),
                    definition: Arc::clone(definition),
                    guest: guest.clone(),
                    modules,
                };
                if run.scenario.from_klp_build().next().is_some() {
                    slow.push(parts);
                } else {
                    self.hand_on(parts).await?;
                }
            }
            Ok(())
        };
        let (built, handed) = tokio::join!(build, hand_on(at_hand));
        handed?;
        let built = built.unwrap_or_else(|error| vec![Err(error); missing.len()]);
        hand_on(missing.into_iter().zip(built).collect()).await
    }

    async fn hand_on(&self, parts: Parts<'a>) -> std::result::Result<(), Stopped> {
        let run = parts.run;
        let prepared = self.put_together(parts).await;
        self.send(run, prepared)
    }

    fn send(
        &self,
        run: Run<'a>,
        prepared: Result<PreparedRun>,
    ) -> std::result::Result<(), Stopped> {
        let interrupted = matches!(&prepared, Err(error) if error.blame == Blame::Interrupted);
        let sent = self.ready.send((run, prepared));
        if sent.is_err() || interrupted {
            return Err(Stopped);
        }
        Ok(())
    }

    /// Builds what is left: modules that are not generated.
    async fn put_together(&self, parts: Parts<'a>) -> Result<PreparedRun> {
        let (ctx, run, kernel) = (self.ctx, parts.run, parts.kernel);
        let (image, accel) = parts.guest?;
        let mut modules = parts.modules?;
        if run.scenario.from_kselftest().next().is_some() {
            let folder = kselftest::in_tree(&kernel);
            let folder = kselftest::build(ctx, &kernel, run.arch, &folder).await?;
            let names = run.scenario.from_kselftest();
            modules.extend(kselftest::find(&folder, &kernel, names)?);
        }
        for (livepatch, patches) in run.scenario.from_klp_build() {
            let request = klp_build::Request {
                name: &livepatch.name,
                replace: livepatch.replace,
                patches,
            };
            modules.push(klp_build::build(ctx, &kernel, run.arch, &request).await?);
        }
        let prebuilt = prebuilt::take(ctx, &kernel, run.arch, run.scenario, &modules).await?;
        modules.extend(prebuilt);
        let boot_file = kernel.boot_file(run.arch);
        let size = run.size().map_err(Error::lab)?;
        has_cpus(&kernel, &size)?;
        let version = || host::emulator_version(ctx, run.arch);
        let image_sum = image::Definition::read(&ctx.project, image::DEFAULT)
            .and_then(|definition| definition.sum());
        let origin = Provenance::of(&Ingredients {
            run: run.id(),
            scenario: run.scenario,
            kernel: &kernel,
            definition: &parts.definition,
            boot_file: &boot_file,
            image: &image,
            image_sum: image_sum.unwrap_or_default(),
            accel,
            size: &size,
            append: run.choice.append,
            qemu: self.guests[&run.arch].qemu.get_or_init(version).await,
            modules: &modules,
            options: self.options,
        });
        Ok(PreparedRun {
            run: run.id(),
            scenario: run.scenario.clone(),
            bases: run.kernel.bases.clone(),
            sources: generate::sources(run.scenario),
            boot_file,
            tree: kernel.tree(),
            release: kernel.release,
            image,
            accel,
            size,
            modules,
            options: Arc::clone(self.options),
            origin: Arc::new(origin),
        })
    }
}

/// Makes sure that a kernel starts as many CPUs as its guest has.
fn has_cpus(kernel: &BuiltKernel, size: &Size) -> Result<()> {
    if size.cpus == 1 {
        return Ok(());
    }
    // Without its configuration nobody knows.
    let config = std::fs::read_to_string(kernel.config()).unwrap_or_default();
    match most_cpus(&config).filter(|&most| most < size.cpus) {
        None => Ok(()),
        Some(most) => {
            let (few, many) = (size::cpus(most), size::cpus(size.cpus));
            let what = format!("the kernel starts {few} at most, and the guest has {many}");
            Err(Error::new(Blame::File, what)
                .help("raise CONFIG_NR_CPUS in the kernel's config, or choose fewer with --cpus"))
        }
    }
}

/// How many CPUs a kernel with this configuration starts, if that says so.
fn most_cpus(config: &str) -> Option<u16> {
    if config.contains("# CONFIG_SMP is not set\n") {
        return Some(1);
    }
    let mut lines = config.lines();
    lines.find_map(|line| line.strip_prefix("CONFIG_NR_CPUS=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_how_many_cpus_are_started() {
        assert_eq!(most_cpus("CONFIG_SMP=y\nCONFIG_NR_CPUS=8\n"), Some(8));
        assert_eq!(most_cpus("# CONFIG_SMP is not set\n"), Some(1));
        assert_eq!(most_cpus("CONFIG_SMP=y\n"), None);
    }
}
