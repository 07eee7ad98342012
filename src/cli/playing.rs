// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the commands have in common that play many runs to find something out.

use std::path::Path;

use clap::Args;

use super::sizes::SizeArgs;
use super::{check, run, scenarios};
use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::kernel::Definition;
use crate::report::paint::Color;
use crate::scenario::Scenario;
use crate::search::play::How;
use crate::size::Size;
use crate::vm::accel::Choice;

/// How runs are played.
#[derive(Debug, Args)]
pub struct PlayingArgs {
    /// How guests are executed.
    #[arg(long, value_enum, default_value = "auto", value_name = "ACCEL")]
    accel: Choice,
    /// Number of guests at the same time [default: 4 per CPU, limited by the memory].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    #[command(flatten)]
    size: SizeArgs,
}

impl PlayingArgs {
    pub fn how(&self) -> How {
        let sizes = self.size.choices();
        let mib = sizes.memory_mib.unwrap_or(Size::default().memory_mib);
        let default_jobs = || run::default_jobs(mib);
        How {
            accel: self.accel,
            jobs: self.jobs.map_or_else(default_jobs, usize::from),
            boots: run::cpus(),
            sizes,
        }
    }
}

/// Reads the one scenario of a file, or that the project has by this name.
pub fn one_scenario(path: &Path, project: &Path, color: Color) -> Result<Scenario> {
    let (scenarios, rejected) = scenarios::read(&[path.to_path_buf()], Some(project))?;
    if !rejected.is_empty() {
        check::show(&rejected, color);
        return Err(check::summary(&rejected));
    }
    let Ok([scenario]) = <[Scenario; 1]>::try_from(scenarios) else {
        let what = format!("{} holds several scenarios", path.display());
        return Err(Error::new(Blame::Usage, what).help("name the file of one"));
    };
    Ok(scenario)
}

/// The kernel that is named, or the only one that says `default: true`.
pub fn one_kernel(project: &Path, named: Option<&str>) -> Result<Definition> {
    let names: Vec<_> = named.into_iter().map(str::to_owned).collect();
    let kernels = super::selection::read_kernels(project, &names)?;
    let Ok([kernel]) = <[Definition; 1]>::try_from(kernels) else {
        return Err(
            Error::new(Blame::Usage, "several kernels have `default: true`")
                .help("name one with --kernel"),
        );
    };
    Ok(kernel)
}

/// The architecture that is named, or the host's.
pub fn arch(named: Option<Arch>) -> Arch {
    named.unwrap_or_else(Arch::host_or_usual)
}
