// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab check`: the mistakes in scenario files, all of them, in milliseconds.

use std::path::{Path, PathBuf};

use super::scenarios::{self, Rejected};
use crate::error::{Blame, Error, Result};
use crate::files;
use crate::report::paint::{Color, Paint};
use crate::report::to_stderr;
use crate::scenario::{Scenario, oddities};

/// Checks files; exit code 2 if any has a mistake.
pub fn check(paths: &[PathBuf], project: Option<&Path>, color: Color) -> Result<u8> {
    let (scenarios, rejected) = scenarios::read(paths, project)?;
    if !rejected.is_empty() {
        show(&rejected, color);
        return Err(summary(&rejected));
    }
    show(&odd(&scenarios)?, color);
    let files = if scenarios.len() == 1 {
        "scenario"
    } else {
        "scenarios"
    };
    super::print(&format!("{} {files}, no mistakes\n", scenarios.len()));
    Ok(0)
}

/// The files with something in them that is odd, but not wrong.
fn odd(scenarios: &[Scenario]) -> Result<Vec<Rejected>> {
    let mut odd = Vec::new();
    for scenario in scenarios {
        let file = scenario.folder.join(format!("{}.yaml", scenario.name));
        let source = files::read_source(&file)?;
        let diagnostics = oddities(&scenario.name, &source);
        if !diagnostics.is_empty() {
            odd.push(Rejected {
                source,
                diagnostics,
            });
        }
    }
    Ok(odd)
}

/// Shows what is wrong, with the places.
pub fn show(rejected: &[Rejected], color: Color) {
    let paint = Paint::stderr(color);
    for file in rejected {
        let text = file.diagnostics.render(&file.source, paint.is_on());
        to_stderr(&format!("{}\n", text.trim_end()));
    }
}

/// How much is wrong.
pub fn summary(rejected: &[Rejected]) -> Error {
    let count: usize = rejected.iter().map(|file| file.diagnostics.len()).sum();
    let errors = if count == 1 {
        "1 mistake".to_owned()
    } else {
        format!("{count} mistakes")
    };
    let names: Vec<_> = rejected
        .iter()
        .map(|file| file.source.path.as_str())
        .collect();
    Error::new(Blame::File, format!("{errors} in {}", names.join(", ")))
}
