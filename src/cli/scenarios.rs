// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding and reading the scenario files that a command line names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Blame, Error, IoContext, Result};
use crate::files;
use crate::scenario::{self, Scenario};
use crate::yaml::{Diagnostics, Source};

/// A file that cannot be used.
pub struct Rejected {
    /// The file.
    pub source: Source,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
}

/// Reads files, and the `*.yaml` files of folders. Everything that is wrong is found at once.
pub fn read(paths: &[PathBuf]) -> Result<(Vec<Scenario>, Vec<Rejected>)> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    let (mut scenarios, mut rejected) = (Vec::new(), Vec::new());
    for file in files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(other) = seen.insert(name.clone(), file.clone()) {
            if other == file {
                continue;
            }
            let (other, file) = (other.display(), file.display());
            let what = format!("{other} and {file} have the same name, `{name}`");
            return Err(Error::new(Blame::File, what)
                .help("a scenario's name identifies its snapshots: rename one of them"));
        }
        let source = files::read_source(&file)?;
        match scenario::parse(&name, &source) {
            Ok(scenario) => scenarios.push(scenario),
            Err(diagnostics) => rejected.push(Rejected {
                source,
                diagnostics,
            }),
        }
    }
    Ok((scenarios, rejected))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.exists() {
        let what = format!("there is no {}", path.display());
        return Err(Error::new(Blame::Usage, what).help("`lab list scenarios` shows what there is"));
    }
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).at("read", path)? {
        entries.push(entry.at("read", path)?.path());
    }
    entries.sort();
    let before = files.len();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|ending| ending == "yaml") {
            collect(&entry, files)?;
        }
    }
    if files.len() == before {
        return Err(Error::new(
            Blame::Usage,
            format!("{} holds no *.yaml file", path.display()),
        ));
    }
    Ok(())
}
