// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to run: the arguments that `lab run` and `lab plan` share, and `lab.yaml`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::owners;
use super::sizes::SizesArgs;
use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::event::RunId;
use crate::kernel::Definition;
use crate::plan::shard::Shard;
use crate::plan::{self, Plan};
use crate::profile::{LabFile, Settings};
use crate::report::paint::Color;
use crate::report::read::read_dir;
use crate::report::results::{Results, RunResult};
use crate::scenario::Scenario;

/// Which runs.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Names of the project's scenarios, scenario files, or folders with some.
    #[arg(value_name = "PATH", required_unless_present = "profile")]
    paths: Vec<PathBuf>,
    /// A profile of lab.yaml; options of the command line override it.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Kernels to run on [default: those with `default: true`].
    #[arg(long, value_delimiter = ',', value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Architectures of the guests [default: the host's].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ARCH")]
    arch: Vec<Arch>,
    #[command(flatten)]
    sizes: SizesArgs,
    /// Only part I of N, by the names of the runs; `auto` or `auto/N` takes I from the variables of
    /// Slurm, Kubernetes, GitLab or GitHub.
    #[arg(long, value_name = "I/N", env = "LAB_SHARD")]
    shard: Option<String>,
    /// Leave out runs that have a verdict in the event files of DIR.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
}

/// What is read and checked before anything is built.
pub struct Selection {
    /// What the command line and lab.yaml say.
    pub settings: Settings,
    scenarios: Vec<Scenario>,
    kernels: Vec<Definition>,
    shard: Option<Shard>,
    /// Whether the runs are to be recorded.
    recorded: bool,
    /// What the event files of `--resume` hold.
    earlier: Results,
}

impl SelectionArgs {
    /// The folder of `--resume`.
    pub fn resume(&self) -> Option<&Path> {
        self.resume.as_deref()
    }

    /// Reads scenarios and kernel definitions: every mistake in a file shows here. `more` are the
    /// settings that only the caller's command line has.
    pub fn read(&self, project: &Path, more: Settings, color: Color) -> Result<Selection> {
        let command_line = Settings {
            paths: self.paths.clone(),
            kernels: self.kernel.clone(),
            archs: self.arch.clone(),
            sizes: self.sizes.choices(),
            ..more
        };
        let file = LabFile::read(project)?;
        let mut settings = command_line.or(file.settings(self.profile.as_deref())?);
        if settings.paths.is_empty() {
            let what = "neither the command line nor lab.yaml names scenarios";
            return Err(Error::new(Blame::Usage, what).help("name scenario files or folders"));
        }
        if settings.archs.is_empty() {
            settings.archs = vec![Arch::host_or_usual()];
        }
        let var = |name: &str| std::env::var(name).ok();
        let shard = self.shard.as_deref();
        let shard = shard.map(|text| Shard::parse(text, var)).transpose()?;
        let (scenarios, rejected) = super::scenarios::read(&settings.paths, Some(project))?;
        if !rejected.is_empty() {
            super::check::show(&rejected, color);
            return Err(super::check::summary(&rejected).evidence("nothing was built or booted"));
        }
        owners::check(project, &scenarios)?;
        let kernels = read_kernels(project, &settings.kernels)?;
        let earlier = match &self.resume {
            Some(dir) if dir.exists() => read_dir(dir)?,
            _ => Results::default(),
        };
        Ok(Selection {
            settings,
            scenarios,
            kernels,
            shard,
            recorded: false,
            earlier,
        })
    }
}

/// The definitions of these names, or those that say `default: true`.
pub(super) fn read_kernels(project: &Path, names: &[String]) -> Result<Vec<Definition>> {
    if !names.is_empty() {
        let read = |name: &String| Definition::read(project, name);
        return names.iter().map(read).collect();
    }
    let mut kernels = Definition::all(project)?;
    kernels.retain(|kernel| kernel.default);
    if kernels.is_empty() {
        return Err(
            Error::new(Blame::File, "no kernel has `default: true`").help("name one with --kernel")
        );
    }
    Ok(kernels)
}

impl Selection {
    /// The same, of runs that are recorded.
    #[must_use]
    pub fn recorded(self) -> Self {
        Self {
            recorded: true,
            ..self
        }
    }

    /// The plan of all shards.
    fn whole(&self) -> Plan<'_> {
        let Settings { archs, sizes, .. } = &self.settings;
        let mut plan = plan::plan(&self.scenarios, &self.kernels, archs, sizes);
        if self.recorded {
            plan.retain_recordable();
        }
        plan
    }

    /// The plan for this shard, whether or not it has verdicts already.
    pub fn plan(&self) -> Plan<'_> {
        let mut plan = self.whole();
        if let Some(shard) = self.shard {
            plan.retain_shard(shard);
        }
        plan
    }

    /// The scenarios.
    pub fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// The runs that belong to other shards.
    pub fn elsewhere(&self) -> Vec<RunId> {
        let Some(shard) = self.shard else {
            return Vec::new();
        };
        let runs = self.whole().ids().into_iter();
        runs.filter(|run| !shard.has(run)).collect()
    }

    /// The scenarios that a plan skips and that no shard plays.
    pub fn played_nowhere(&self, plan: &Plan<'_>) -> Vec<String> {
        let (runs, elsewhere) = (plan.ids(), self.elsewhere());
        let names = plan::played_nowhere(&plan.skipped, runs.iter().chain(&elsewhere));
        names.into_iter().map(str::to_owned).collect()
    }

    /// What an earlier command found out about a run, if that needs no repeating.
    pub fn settled(&self, run: &RunId) -> Option<&RunResult> {
        self.earlier.get(run).filter(|earlier| earlier.is_settled())
    }

    /// What an earlier command found out about the runs of this plan.
    pub fn settled_results(&self) -> Results {
        let runs = self.plan().ids();
        let settled = runs.iter().filter_map(|run| self.settled(run).cloned());
        Results::new(settled.collect(), Vec::new(), None, None)
    }
}
