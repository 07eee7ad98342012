// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding and reading the scenario files that a command line names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Blame, Error, IoContext, Result};
use crate::files;
use crate::module::prebuilt;
use crate::scenario::{self, Scenario};
use crate::yaml::{Diagnostics, Source};

/// A file that cannot be used.
pub struct Rejected {
    /// The file.
    pub source: Source,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
}

/// The `*.yaml` files that a path names: itself, or those of a folder, of which there may be none.
pub fn files_in(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    match path.is_dir() {
        true => collect_entries(path, &mut files)?,
        false => files.push(path.to_path_buf()),
    }
    Ok(files)
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
        match scenario::check(&name, &source) {
            Ok(scenario) => {
                patches_are_there(&file, &scenario)?;
                prebuilt::check(&scenario)?;
                scenarios.push(scenario);
            }
            Err(diagnostics) => rejected.push(Rejected {
                source,
                diagnostics,
            }),
        }
    }
    Ok((scenarios, rejected))
}

/// The source patches of a scenario must be there before anything is built.
fn patches_are_there(file: &Path, scenario: &Scenario) -> Result<()> {
    for (livepatch, patches) in scenario.from_klp_build() {
        if let Some(missing) = patches.iter().find(|patch| !patch.is_file()) {
            let what = format!(
                "{}: there is no {}, from which {} is to be made",
                file.display(),
                missing.display(),
                livepatch.name
            );
            return Err(Error::new(Blame::File, what)
                .help("paths after `klp-build:` are relative to the scenario's folder"));
        }
    }
    Ok(())
}

/// The files that a path names. A folder must hold a scenario somewhere.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.exists() {
        let what = format!("there is no {}", path.display());
        return Err(Error::new(Blame::Usage, what).help("`lab list scenarios` shows what there is"));
    }
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let before = files.len();
    collect_entries(path, files)?;
    if files.len() == before {
        return Err(Error::new(
            Blame::Usage,
            format!("{} holds no *.yaml file", path.display()),
        ));
    }
    Ok(())
}

/// The `*.yaml` files of a folder and of those in it, by name.
fn collect_entries(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).at("read", folder)? {
        entries.push(entry.at("read", folder)?.path());
    }
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect_entries(&entry, files)?;
        } else if entry.extension().is_some_and(|ending| ending == "yaml") {
            files.push(entry);
        }
    }
    Ok(())
}
