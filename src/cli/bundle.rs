// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab bundle`: a run in one file.

use std::path::{Path, PathBuf};

use clap::Args;

use super::cache::bytes;
use crate::bundle::write::{How, write};
use crate::cache::blocking;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
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
    /// Leave out what can be built: the kernel, the initramfs, the modules.
    #[arg(long)]
    slim: bool,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
}

impl BundleArgs {
    /// The run's record.
    pub fn record(&self, project: Result<PathBuf>) -> Result<PathBuf> {
        find_record(&self.run, project)
    }
}

/// The folder of a run's record: one that is named, or one below `.lab/runs`, of the current folder
/// (where `lab repro` puts them) or of the project.
pub(super) fn find_record(run: &Path, project: Result<PathBuf>) -> Result<PathBuf> {
    let is_record = |dir: &PathBuf| dir.join("events.jsonl").is_file();
    let mut places = vec![PathBuf::from(".lab/runs")];
    places.extend(project.map(|project| project.join(".lab/runs")));
    let is_name = run.components().count() == 1;
    let below = places.iter().map(|runs| runs.join(run));
    let mut records = std::iter::once(run.to_path_buf()).chain(below.filter(|_| is_name));
    records.find(is_record).ok_or_else(|| {
        let what = format!("{} is no run's record", run.display());
        let runs = places.last().map(|runs| runs.display().to_string());
        let help = format!(
            "name a folder below {}, or `latest`",
            runs.unwrap_or_default()
        );
        Error::new(Blame::Usage, what).help(help)
    })
}

/// Writes the bundle.
pub async fn bundle(ctx: &Context, args: &BundleArgs, record: PathBuf) -> Result<u8> {
    let _in_use = ctx.cache.in_use().await?;
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
