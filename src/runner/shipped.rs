// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs of which nothing is built: what they boot and load came in a bundle.

use std::path::PathBuf;
use std::sync::Arc;

use super::Options;
use super::attempt::PreparedRun;
use super::origin::{Origin, Provenance};
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::millis;
use crate::host;
use crate::image::build::BuiltImage;
use crate::module::{Module, build::check_vermagic, generate};
use crate::plan::Run;
use crate::vm::accel;

/// What a run boots and loads instead of what is built for it.
#[derive(Debug, Clone)]
pub struct Shipped {
    /// What QEMU boots.
    pub kernel: PathBuf,
    /// The image's initramfs.
    pub initramfs: PathBuf,
    /// The scenario's modules.
    pub modules: Vec<Module>,
    /// Where all of it comes from.
    pub origin: Origin,
}

impl Shipped {
    /// The run that can boot.
    ///
    /// # Errors
    ///
    /// `File` if a module is another kernel's; those of the accelerator.
    pub(super) async fn put_together(
        &self,
        ctx: &Context,
        run: Run<'_>,
        options: &Arc<Options>,
    ) -> Result<PreparedRun> {
        let release = &self.origin.kernel.release;
        for module in &self.modules {
            check_vermagic(&module.path, release).map_err(|mut error| {
                error.blame = Blame::File;
                error.help("the bundle is inconsistent: ask its author for a new one")
            })?;
        }
        let choice = options.accel;
        let accel = accel::choose(ctx, choice, run.arch, &self.kernel, &self.initramfs).await?;
        let size = run.size().map_err(Error::lab)?;
        let origin = Origin {
            size: size.clone(),
            append: run.choice.append.to_owned(),
            accel: accel.to_string(),
            qemu: host::emulator_version(ctx, run.arch).await,
            timeout_ms: options.timeout.map(millis),
            warm: options.warm,
            patient: options.patient,
            ..self.origin.clone()
        };
        Ok(PreparedRun {
            run: run.id(),
            scenario: run.scenario.clone(),
            bases: run.kernel.bases.clone(),
            sources: generate::sources(run.scenario),
            boot_file: self.kernel.clone(),
            // There is none: what asks for its symbols goes without.
            tree: PathBuf::new(),
            release: release.clone(),
            image: BuiltImage {
                initramfs: self.initramfs.clone(),
                key: self.origin.image.key.clone(),
                record: PathBuf::new(),
            },
            accel,
            size,
            modules: self.modules.clone(),
            options: Arc::clone(options),
            origin: Arc::new(Provenance::of_bundle(origin)),
        })
    }
}
