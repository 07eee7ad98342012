// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab build`: kernels and images without a run.

use clap::{Args, ValueEnum};

use super::archs;
use crate::arch::Arch;
use crate::context::Context;
use crate::error::Result;
use crate::{host, image, kernel};

/// What to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Buildable {
    /// Kernels.
    Kernel,
    /// Guest images.
    Image,
}

/// Arguments of `lab build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// What to build.
    #[arg(value_enum)]
    kind: Buildable,
    /// Names; `lab list` shows them.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Architectures [default: the host's].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ARCH")]
    arch: Vec<Arch>,
    /// Check for a newer source or newer packages first.
    #[arg(long)]
    refresh: bool,
    /// Check the patches and the config against every source of a kernel, without building.
    #[arg(long)]
    every_source: bool,
    /// Install missing host packages first.
    #[arg(long)]
    setup: bool,
    /// Install without a question.
    #[arg(long, short)]
    yes: bool,
}

/// Builds, and prints where the results are.
pub async fn build(ctx: &Context, args: &BuildArgs) -> Result<u8> {
    let archs = archs(&args.arch);
    if args.setup {
        super::setup::install(ctx, &host::needed(&archs), args.yes).await?;
    }
    host::require(&archs)?;
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    for &arch in &archs {
        for name in &args.names {
            let path = match args.kind {
                Buildable::Kernel if args.every_source => {
                    let definition = kernel::Definition::read(&ctx.project, name)?;
                    let labels = kernel::build::check_sources(ctx, &definition, arch).await?;
                    super::print(&format!("{name} {arch} fits {}\n", labels.join(", ")));
                    continue;
                }
                Buildable::Kernel => {
                    let definition = kernel::Definition::read(&ctx.project, name)?;
                    let built = kernel::build::build(ctx, &definition, arch, args.refresh).await?;
                    built.boot_file(arch)
                }
                Buildable::Image => {
                    let definition = image::Definition::read(&ctx.project, name)?;
                    image::build::build(ctx, &definition, arch, args.refresh)
                        .await?
                        .initramfs
                }
            };
            super::print(&format!("{name} {arch} {}\n", path.display()));
        }
    }
    Ok(0)
}
