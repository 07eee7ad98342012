// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab list`: what there is, a line each.

use std::path::Path;

use super::scenarios;
use crate::error::Result;
use crate::profile::LabFile;
use crate::{image, kernel};

/// What to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// The scenarios of the project.
    Scenarios,
    /// The kernels that can be built.
    Kernels,
    /// The guest images.
    Images,
    /// The matrices of lab.yaml.
    Profiles,
}

/// Prints name and summary.
pub fn list(project: &Path, what: What) -> Result<()> {
    let rows: Vec<(String, String)> = match what {
        What::Scenarios => {
            let (scenarios, rejected) = scenarios::read(&[project.join("scenarios")], None)?;
            if !rejected.is_empty() {
                return Err(super::check::summary(&rejected).help("`lab check` shows them"));
            }
            scenarios
                .into_iter()
                .map(|scenario| (scenario.name, scenario.summary))
                .collect()
        }
        What::Kernels => {
            let kernels = kernel::Definition::all(project)?.into_iter();
            kernels
                .map(|kernel| (kernel.name, kernel.summary))
                .collect()
        }
        What::Images => {
            let images = image::Definition::all(project)?.into_iter();
            images.map(|image| (image.name, image.summary)).collect()
        }
        What::Profiles => {
            let profiles = LabFile::read(project)?.profiles.into_iter();
            profiles
                .map(|profile| (profile.name, profile.summary))
                .collect()
        }
    };
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows
        .iter()
        .map(|(name, summary)| format!("{name:width$}  {summary}\n"));
    super::print(&lines.collect::<String>());
    Ok(())
}
