// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots whose scenario is not there any more, and where they may belong now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::owners::Owners;
use crate::error::Result;
use crate::files;
use crate::scenario::{self, Scenario, SnapshotScope};
use crate::state::older::titles;
use crate::state::snapshot::{self, Owner, file_of};

/// A snapshot whose scenario is not there.
pub(super) struct Orphan {
    /// Its file.
    pub(super) path: PathBuf,
    /// The scenario's file that it says it is of.
    pub(super) source: String,
    /// What was accepted.
    pub(super) text: String,
    /// Where it may belong now.
    pub(super) home: Option<Home>,
}

/// A scenario with the steps of an orphan, and without a snapshot.
pub(super) struct Home {
    /// The scenario's file.
    pub(super) file: PathBuf,
    /// What the snapshot would be called.
    pub(super) owner: Owner,
}

/// The orphans of a project, in the order of their names.
pub(super) fn find(project: &Path, owners: &Owners) -> Result<Vec<Orphan>> {
    let mut found = Vec::new();
    for path in snapshot::all_accepted(project)? {
        let owner = Owner::of(&path);
        if let Some(owner) = owner.filter(|owner| owners.scenario_of(&path, owner).is_none()) {
            found.push((path, owner));
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let scenarios = readable(owners);
    let orphan = |(path, owner): (PathBuf, Owner)| {
        // One that cannot be read can be deleted all the same.
        let source = snapshot::source_of(&path).ok().flatten();
        let source = source.map(|source| source.display().to_string());
        let text = snapshot::read(&path).ok().flatten().unwrap_or_default();
        Orphan {
            source: source.unwrap_or_else(|| format!("scenarios/{}.yaml", owner.scenario)),
            home: home(project, &scenarios, &owner, &text),
            path,
            text,
        }
    };
    Ok(found.into_iter().map(orphan).collect())
}

/// The scenarios without mistakes.
fn readable(owners: &Owners) -> Vec<Scenario> {
    let files: BTreeSet<&PathBuf> = owners.files().collect();
    let read = |file: &&PathBuf| {
        let name = file.file_stem()?.to_str()?;
        scenario::parse(name, &files::read_source(file).ok()?).ok()
    };
    files.iter().filter_map(read).collect()
}

/// The one scenario that an orphan's steps are those of, if it has no snapshot in its place.
fn home(project: &Path, scenarios: &[Scenario], orphan: &Owner, text: &str) -> Option<Home> {
    let steps = titles(text);
    let fits = |scenario: &&Scenario| {
        let shared = scenario.snapshot == SnapshotScope::Shared;
        let labels = scenario.steps.iter().map(|step| step.action.label());
        shared == orphan.kernel.is_none() && !steps.is_empty() && labels.eq(steps.iter().copied())
    };
    let mut homes = scenarios.iter().filter(fits).map(|scenario| Home {
        file: file_of(scenario),
        owner: Owner {
            scenario: scenario.name.clone(),
            ..orphan.clone()
        },
    });
    let first = homes.next().filter(|_| homes.next().is_none());
    first.filter(|home| !project.join(home.owner.path()).exists())
}
