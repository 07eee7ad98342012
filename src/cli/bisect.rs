// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab bisect`: which commit or patch makes a scenario fail, or pass.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::playing::{self, PlayingArgs};
use super::setup;
use crate::arch::Arch;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::host;
use crate::kernel::Definition;
use crate::report::paint::Color;
use crate::scenario::Scenario;
use crate::search::bisect::{First, Judge};
use crate::search::play::Player;
use crate::search::{git, series};

pub const EXAMPLES: &str = "\
Examples:
  lab bisect my-scenario.yaml --source path:../linux --good v7.2 --bad master
  lab bisect my-scenario.yaml --series --kernel mine           which patch of mine breaks it?
  lab bisect my-scenario.yaml --series --kernel mine --first good --bad 3
                                                               which patch after the third mends it?

Both ends are tested first. What cannot be built or booted, or fails in another way than the bad end,
is skipped. With --source, commits are checked out in a worktree of the lab's own. With --series, --good
and --bad say how many patches of the series are applied.

Exit status: 0 found (or narrowed down, if what is beside it was skipped), 2 an end is not what it was
said to be, 3 a build, the host or the lab failed, 130 interrupted.";

/// What to search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FirstArg {
    /// The first that fails.
    Bad,
    /// The first that passes.
    Good,
}

/// Arguments of `lab bisect`.
#[derive(Debug, Args)]
pub struct BisectArgs {
    /// The scenario: its file, or its name in the project.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// The git repository whose commits are searched: path:DIR.
    #[arg(
        long,
        value_name = "path:DIR",
        required_unless_present = "series",
        requires = "good",
        requires = "bad"
    )]
    source: Option<String>,
    /// Search the patch series of the kernel.
    #[arg(long, conflicts_with = "source")]
    series: bool,
    /// Where the scenario passes [with --series: no patch, or all if --first good].
    #[arg(long, value_name = "REV")]
    good: Option<String>,
    /// Where it fails [with --series: all patches, or none if --first good].
    #[arg(long, value_name = "REV")]
    bad: Option<String>,
    /// What to look for: the first that is bad, or the first that is good.
    #[arg(long, value_enum, default_value = "bad", value_name = "WHAT")]
    first: FirstArg,
    /// The kernel with the series; with --source, whose config and capabilities to use, without its
    /// patches [default: the one with `default: true`].
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// The architecture of the guest [default: the host's].
    #[arg(long, value_enum, value_name = "ARCH")]
    arch: Option<Arch>,
    /// Play the scenario N times on each kernel; one failure counts as failing.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=100))]
    times: u16,
    #[command(flatten)]
    playing: PlayingArgs,
}

/// What is read and checked before anything is built.
pub struct Read {
    scenario: Scenario,
    kernel: Definition,
    arch: Arch,
    history: History,
}

/// What is searched, and its good and its bad end.
enum History {
    Git(PathBuf, [String; 2]),
    Series([Option<usize>; 2]),
}

impl BisectArgs {
    /// Reads the scenario and the kernel.
    pub fn read(&self, project: &Path, color: Color) -> Result<Read> {
        let scenario = playing::one_scenario(&self.scenario, project, color)?;
        let kernel = playing::one_kernel(project, self.kernel.as_deref())?;
        let history = match &self.source {
            Some(source) => {
                let Some(dir) = source.strip_prefix("path:").filter(|dir| !dir.is_empty()) else {
                    let what = format!("--source {source}: only a repository's folder goes");
                    return Err(Error::new(Blame::Usage, what).help("write --source path:DIR"));
                };
                let end = |end: &Option<String>| end.clone().unwrap_or_default();
                History::Git(dir.into(), [end(&self.good), end(&self.bad)])
            }
            None => History::Series([
                applied(self.good.as_deref(), "--good")?,
                applied(self.bad.as_deref(), "--bad")?,
            ]),
        };
        Ok(Read {
            scenario,
            kernel,
            arch: playing::arch(self.arch),
            history,
        })
    }
}

/// How many patches are applied at an end.
fn applied(end: Option<&str>, option: &str) -> Result<Option<usize>> {
    let Some(end) = end else { return Ok(None) };
    end.parse().map(Some).map_err(|_| {
        let what = format!("{option} {end}: with --series this is a number of patches");
        Error::new(Blame::Usage, what).help("0 is the kernel without any of them")
    })
}

/// Searches; the result is a text.
pub async fn bisect(ctx: &Context, args: &BisectArgs, read: &Read) -> Result<(u8, String)> {
    host::require_packages(&setup::needed([(read.arch, &read.scenario)]))?;
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let player = Player::new(ctx, args.playing.how(), "bisect")?;
    let mut judge = Judge::new(&player, &read.scenario, read.arch, usize::from(args.times));
    let first = match args.first {
        FirstArg::Bad => First::Bad,
        FirstArg::Good => First::Good,
    };
    let found = match &read.history {
        History::Git(dir, [good, bad]) => {
            git::bisect(&mut judge, &read.kernel, dir, (good, bad), first).await?
        }
        History::Series([good, bad]) => {
            series::bisect(&mut judge, &read.kernel, (*good, *bad), first).await?
        }
    };
    Ok((0, found.render()))
}
