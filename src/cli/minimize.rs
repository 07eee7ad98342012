// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab minimize`: what of a scenario its failure needs.

use std::path::{Path, PathBuf};

use clap::Args;

use super::playing::{self, PlayingArgs};
use super::{scenarios, setup};
use crate::arch::Arch;
use crate::cache::write_atomically;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::files;
use crate::host;
use crate::kernel::Definition;
use crate::report::paint::Color;
use crate::scenario::Scenario;
use crate::search::minimize::{self, Subject};
use crate::search::play::Player;
use crate::search::summary;
use crate::search::units::needs_folder;
use crate::yaml::Source;

pub const EXAMPLES: &str = "\
Examples:
  lab minimize scenarios/tagged-transition-window.yaml --kernel tags-rfc
  lab minimize report.yaml --kernel mine --passes-on mainline
  lab minimize report.yaml --kernel mine --times 5     a failure that is not deterministic
  lab minimize report.yaml -o smaller.yaml --force

Steps, livepatches, targets, functions and expectations are left out as long as the scenario fails
in the same way: in the same step, with the same words or the same complaint of the kernel. With
--passes-on, it must also pass on a kernel without the defect, which is the surest way to keep it.
Ctrl-C ends the search; the smallest scenario so far is written.

Exit status: 0 written, 2 the scenario does not fail there, 130 interrupted (and written).";

/// Arguments of `lab minimize`.
#[derive(Debug, Args)]
pub struct MinimizeArgs {
    /// The scenario: its file, or its name in the project.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// The kernel on which it fails [default: the one with `default: true`].
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// A kernel on which the scenario passes; the reduced scenario must pass there as well.
    #[arg(long, value_name = "KERNEL")]
    passes_on: Option<String>,
    /// The architecture of the guest [default: the host's].
    #[arg(long, value_enum, value_name = "ARCH")]
    arch: Option<Arch>,
    /// Where to write it [default: NAME-min.yaml beside the scenario].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file.
    #[arg(long)]
    force: bool,
    /// Play each candidate N times; one failure counts as failing.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=100))]
    times: u16,
    #[command(flatten)]
    playing: PlayingArgs,
}

/// What is read and checked before anything is built.
pub struct Read {
    scenario: Scenario,
    source: Source,
    kernel: Definition,
    passes_on: Option<Definition>,
    arch: Arch,
    output: PathBuf,
}

impl MinimizeArgs {
    /// Reads the scenario and the kernel.
    pub fn read(&self, project: &Path, color: Color) -> Result<Read> {
        let scenario = playing::one_scenario(&self.scenario, project, color)?;
        let file = scenarios::file(&self.scenario, project)?;
        let kernel = playing::one_kernel(project, self.kernel.as_deref())?;
        let passes_on = self.passes_on.as_deref();
        let passes_on = passes_on.map(|name| playing::one_kernel(project, Some(name)));
        let passes_on = passes_on.transpose()?;
        if passes_on
            .as_ref()
            .is_some_and(|other| other.name == kernel.name)
        {
            let what = format!("it cannot fail and pass on {}", kernel.name);
            return Err(Error::new(Blame::Usage, what).help("--passes-on names another kernel"));
        }
        let output = match &self.output {
            Some(file) => file.clone(),
            None => file.with_file_name(format!("{}-min.yaml", scenario.name)),
        };
        if output.exists() && !self.force {
            let what = format!("{} is there already", output.display());
            return Err(Error::new(Blame::Usage, what)
                .help("overwrite it with --force, or name another file with -o"));
        }
        let folder = |path: &Path| {
            std::path::absolute(path)
                .ok()?
                .parent()
                .map(Path::to_path_buf)
        };
        if needs_folder(&scenario) && folder(&output) != folder(&file) {
            let what =
                "the scenario has source patches in its folder, so the result must stay there";
            return Err(Error::new(Blame::Usage, what).help("name a file in the same folder"));
        }
        Ok(Read {
            source: files::read_source(&file)?,
            scenario,
            kernel,
            passes_on,
            arch: playing::arch(self.arch),
            output,
        })
    }
}

/// Writes the smallest scenario that fails in the same way.
pub async fn minimize(ctx: &Context, args: &MinimizeArgs, read: &Read) -> Result<(u8, String)> {
    host::require_packages(&setup::needed([(read.arch, &read.scenario)]))?;
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let player = Player::new(ctx, args.playing.how(), "minimize")?;
    let subject = Subject {
        source: &read.source,
        name: &read.scenario.name,
        kernel: &read.kernel,
        arch: read.arch,
        passes_on: read.passes_on.as_ref(),
        times: usize::from(args.times),
    };
    let made = minimize::minimize(&player, &subject).await?;
    let file = &read.output;
    write_atomically(file, made.text.as_bytes())?;
    let (sizes, played) = (summary::sizes(made.sizes), player.played.get());
    let (kernel, arch, shown) = (&read.kernel.name, read.arch, file.display());
    let mut text = String::new();
    if made.interrupted {
        text += "interrupted: this is the smallest so far\n";
    }
    text += &format!("{shown}: {sizes}, {played} runs\n");
    text += &format!("  {}\n", summary::shown(&made.manner));
    let (seen, tries) = made.seen;
    if seen < tries {
        text += &format!("  the original failed so in {seen} of {tries} tries\n");
    }
    text += &format!("  record: {}\n", files::shown(&made.record));
    let size = player.how.sizes.options();
    text += &format!("  again: lab run {shown} --kernel {kernel} --arch {arch}{size}\n");
    Ok((if made.interrupted { 130 } else { 0 }, text))
}
