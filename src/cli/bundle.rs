// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab bundle`: a run in one file.

use std::path::PathBuf;

use clap::Args;

use super::cache::bytes;
use crate::bundle::write::{How, write};
use crate::cache::blocking;
use crate::context::Context;
use crate::error::Result;
use crate::runner::record;
use crate::visible::visible;

pub const EXAMPLES: &str = "\
Examples:
  lab bundle latest                               the run that began last
  lab bundle .lab/runs/20261125-163154.120-window-tags-x86_64 -o report.tar.zst
  lab bundle latest --slim -o report.tar.zst      without what can be built: some 50 KiB

`lab repro FILE` plays it again, elsewhere. Look through what you hand on: it holds the scenario, the
kernel's patches and configuration and the whole console. Of your machine it names QEMU's version and
its command line; your home folder and those of the cache and of the project are replaced in there.";

/// Arguments of `lab bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// A run's record: its folder, or its name below .lab/runs, such as `latest`.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The bundle (tar, compressed with zstd) [default: SCENARIO-KERNEL-ARCH.tar.zst].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out the kernel, the initramfs and the modules: they can be built again.
    #[arg(long)]
    slim: bool,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
}

impl BundleArgs {
    /// The run's record.
    pub fn record(&self, project: Result<PathBuf>) -> Result<PathBuf> {
        record::find(&self.run, project.ok().as_deref())
    }
}

/// Writes the bundle.
pub async fn bundle(ctx: &Context, args: &BundleArgs, record: PathBuf) -> Result<u8> {
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let default = || {
        // Its name begins with its time: `20261125-163154.120-window-tags-x86_64`.
        let record = std::fs::canonicalize(&record).unwrap_or_else(|_| record.clone());
        let name = record.file_name().unwrap_or_default().to_string_lossy();
        let name = name.splitn(3, '-').nth(2).unwrap_or(&name).to_owned();
        PathBuf::from(format!("{name}.tar.zst"))
    };
    let file = args.output.clone().unwrap_or_else(default);
    let how = How {
        slim: args.slim,
        replace: args.force,
    };
    let mut phase = ctx.events.phase(format!("write {}", file.display()));
    let (cache, cancel, to) = (ctx.cache.clone(), ctx.cancel.clone(), file.clone());
    let written = blocking(move || {
        let written = write(&record, &to, how, &cache, &cancel, &mut phase)?;
        phase.done(format!("wrote {}", to.display()));
        Ok(written)
    })
    .await?;
    let manifest = &written.manifest;
    super::print(&format!(
        "{}\n  {}\n{}  {}\n",
        visible(&manifest.origin.run.to_string()),
        visible(&manifest.manner.to_string()),
        bytes(written.bytes),
        file.display()
    ));
    Ok(0)
}
