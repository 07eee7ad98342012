// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which scenario a snapshot belongs to: a name is that of one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::scenarios;
use crate::error::{Blame, Error, Result};
use crate::files;
use crate::scenario::Scenario;
use crate::state::snapshot::{self, Owner, file_of};

/// The folder of a project's scenarios.
const FOLDER: &str = "scenarios";

/// The scenario files of a project by their names.
pub struct Owners {
    project: PathBuf,
    files: BTreeMap<String, Vec<PathBuf>>,
}

impl Owners {
    /// Finds them, in `scenarios/` and in `more` files and folders.
    pub fn find(project: &Path, more: &[PathBuf]) -> Result<Self> {
        let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let folder = project.join(FOLDER);
        for path in [folder].iter().chain(more).filter(|path| path.exists()) {
            for file in scenarios::files_in(path)? {
                let name = file.file_stem().unwrap_or_default();
                let name = name.to_string_lossy().into_owned();
                files.entry(name).or_default().push(file);
            }
        }
        let project = project.to_path_buf();
        Ok(Self { project, files })
    }

    /// The scenario that a snapshot belongs to, if it is there: the file that it names, or else one of
    /// its name.
    pub fn scenario_of(&self, accepted: &Path, owner: &Owner) -> Option<PathBuf> {
        let named = self.files.get(&owner.scenario);
        let first = named.and_then(|files| files.first().cloned());
        first.or_else(|| self.source_of(accepted, owner))
    }

    /// The file that a snapshot says it is of, if that is there and has the snapshot's name. A
    /// snapshot that cannot be read says nothing here: a run that needs it says why.
    fn source_of(&self, accepted: &Path, owner: &Owner) -> Option<PathBuf> {
        let source = snapshot::source_of(accepted).ok().flatten()?;
        let file = self.project.join(source);
        let named = file
            .file_stem()
            .is_some_and(|stem| *stem == *owner.scenario);
        (named && file.is_file()).then_some(file)
    }

    /// All scenario files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.values().flatten()
    }
}

/// Refuses scenarios whose snapshots are those of other files with the same name.
pub fn check(project: &Path, scenarios: &[Scenario]) -> Result<()> {
    let owners = Owners::find(project, &[])?;
    let mut accepted: BTreeMap<String, (PathBuf, Owner)> = BTreeMap::new();
    for path in snapshot::all_accepted(project)? {
        if let Some(owner) = Owner::of(&path) {
            accepted.insert(owner.scenario.clone(), (path, owner));
        }
    }
    for scenario in scenarios {
        let file = file_of(scenario);
        let named = owners.files.get(&scenario.name).into_iter().flatten();
        let source = accepted.get(&scenario.name);
        let source = source.and_then(|(path, owner)| owners.source_of(path, owner));
        let mut others = named.chain(&source);
        if let Some(other) = others.find(|other| !is_same(other, &file)) {
            let (file, other) = (file.display(), files::shown(other));
            let what = format!("{file} has the name of another scenario, {other}");
            return Err(Error::new(Blame::File, what).help(
                "a scenario's name identifies its snapshots: rename one, or use --project DIR",
            ));
        }
    }
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
