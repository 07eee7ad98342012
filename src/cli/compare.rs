// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab compare`: where kernels begin to behave otherwise.

use std::path::{Path, PathBuf};

use clap::Args;

use super::playing::PlayingArgs;
use super::{archs, check, scenarios, selection, setup};
use crate::arch::Arch;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::files;
use crate::host;
use crate::kernel::Definition;
use crate::plan;
use crate::report::paint::Color;
use crate::scenario::Scenario;
use crate::search::compare::{self, Comparison};
use crate::search::play::Player;

pub const EXAMPLES: &str = "\
Examples:
  lab compare scenarios/tagged-transition-window.yaml --kernel tags,tags-rfc
  lab compare scenarios --kernel mainline,mine
  lab compare my-scenario.yaml --kernel a,b,c --all    every step that differs

Exit status: 0 the kernels behave the same, 1 they do not, 2 usage or an invalid file, 3 a run could
not be played.";

/// Arguments of `lab compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Names of the project's scenarios, scenario files, or folders with some.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The kernels to compare, at least two.
    #[arg(long, value_delimiter = ',', value_name = "KERNEL", required = true)]
    kernel: Vec<String>,
    /// Architectures of the guests [default: the host's].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ARCH")]
    arch: Vec<Arch>,
    /// Show every step after which the states differ, not only the first.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    playing: PlayingArgs,
}

/// What is read and checked before anything is built.
pub struct Read {
    scenarios: Vec<Scenario>,
    kernels: Vec<Definition>,
    archs: Vec<Arch>,
}

impl CompareArgs {
    /// Reads the scenarios and the kernels.
    pub fn read(&self, project: &Path, color: Color) -> Result<Read> {
        let (scenarios, rejected) = scenarios::read(&self.paths, Some(project))?;
        if !rejected.is_empty() {
            check::show(&rejected, color);
            return Err(check::summary(&rejected).evidence("nothing was built or booted"));
        }
        let mut names = self.kernel.clone();
        names.sort();
        names.dedup();
        if names.len() < 2 || names.len() < self.kernel.len() {
            return Err(
                Error::new(Blame::Usage, "there must be two kernels or more, each once")
                    .help("name them with --kernel A,B"),
            );
        }
        Ok(Read {
            scenarios,
            kernels: selection::read_kernels(project, &self.kernel)?,
            archs: archs(&self.arch),
        })
    }
}

/// Plays, and shows what differs.
pub async fn compare(ctx: &Context, args: &CompareArgs, read: &Read) -> Result<(u8, String)> {
    let how = args.playing.how();
    let plan = plan::plan(&read.scenarios, &read.kernels, &read.archs, &how.sizes);
    host::require_packages(&setup::needed_for(&plan))?;
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let player = Player::new(ctx, how, "compare")?;
    let made = compare::compare(&player, &read.scenarios, &read.kernels, &read.archs).await?;
    let mut text = String::new();
    for comparison in &made {
        text += &comparison.render(args.all);
        text.push('\n');
    }
    let (compared, alone): (Vec<_>, Vec<_>) = made.iter().partition(|one| one.is_one());
    let same = compared.iter().filter(|one| one.is_same()).count();
    let different = compared.len() - same;
    text += &format!("{same} the same, {different} different");
    if !alone.is_empty() {
        text += &format!(", {} on fewer than two of the kernels", alone.len());
    }
    text += &format!("; records: {}\n", files::shown(&player.records));
    Ok((code(&made, different), text))
}

fn code(made: &[Comparison], different: usize) -> u8 {
    match different {
        _ if compare::any_infra(made) => 3,
        0 => 0,
        _ => 1,
    }
}
