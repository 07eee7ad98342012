// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshot files: what was observed and accepted, in insta's file format.
//!
//! A snapshot belongs to a scenario and a kernel, or to all kernels where a scenario says
//! `snapshot: shared`; one serves all architectures, but for those that have a file of their own
//! (`NAME@KERNEL.arm64.snap`). What differs is written next to it as `.snap.new`, which `lab
//! review` and `cargo insta review` both know.

use std::fs;
use std::path::{Path, PathBuf};

use insta::Snapshot;

use crate::arch::Arch;
use crate::cache::write_atomically;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::RunId;
use crate::scenario::SnapshotScope;

/// What the snapshot's `description` says: the version of its text.
const FORMAT: &str = "livepatch-lab snapshot, format 1";

/// Bytes of a snapshot that is read. A guest's states have 64 MiB at the very most.
const LENGTH_MAX: u64 = 64 << 20;

/// The snapshot of a scenario on a kernel, or on all.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    scenario: String,
    /// What was observed, for the file's head: `tagged-replace on tags`.
    expression: String,
}

/// How a run compares with its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// As accepted.
    Same,
    /// There is no snapshot yet.
    Missing,
    /// Not as accepted: the accepted text.
    Different(String),
}

impl SnapshotFile {
    /// The file for a run.
    pub fn of(project: &Path, run: &RunId, scope: SnapshotScope) -> Self {
        let (scenario, kernel) = (&run.scenario, &run.kernel);
        let (name, expression) = match scope {
            SnapshotScope::PerKernel => (
                format!("{scenario}@{kernel}.snap"),
                format!("{scenario} on {kernel}"),
            ),
            SnapshotScope::Shared => (format!("{scenario}.snap"), scenario.clone()),
        };
        Self {
            path: project.join("snapshots").join(name),
            scenario: scenario.clone(),
            expression,
        }
    }

    /// The file of an architecture that behaves otherwise than the rest.
    #[must_use]
    pub fn for_arch(&self, arch: Arch) -> Self {
        Self {
            path: self.path.with_extension(format!("{arch}.snap")),
            scenario: self.scenario.clone(),
            expression: format!("{} ({arch})", self.expression),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of what waits for a review.
    pub fn pending(&self) -> PathBuf {
        self.path.with_extension("snap.new")
    }

    /// Writes what was observed for a review.
    pub fn write_pending(&self, observed: &str) -> Result<()> {
        write_atomically(&self.pending(), self.file_text(observed).as_bytes())
    }

    /// Makes what was observed the snapshot, and removes what waited.
    pub fn accept(&self, observed: &str) -> Result<()> {
        write_atomically(&self.path, self.file_text(observed).as_bytes())?;
        self.remove_pending()
    }

    /// Removes what waited for a review, if anything did.
    pub fn remove_pending(&self) -> Result<()> {
        let pending = self.pending();
        if pending.exists() {
            fs::remove_file(&pending).at("remove", &pending)?;
        }
        Ok(())
    }

    fn file_text(&self, observed: &str) -> String {
        let (scenario, expression) = (&self.scenario, &self.expression);
        format!(
            "---\nsource: scenarios/{scenario}.yaml\ndescription: \"{FORMAT}\"\n\
             expression: \"{expression}\"\n---\n{}\n",
            observed.trim_end()
        )
    }
}

/// The text of a snapshot file; `None` if there is none.
pub fn read(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let broken = |why: String| {
        Error::new(
            Blame::File,
            format!("{} is no snapshot: {why}", path.display()),
        )
        .help("restore it from version control, or remove it and accept a new one")
    };
    let length = path.metadata().map_or(0, |data| data.len());
    if length > LENGTH_MAX {
        return Err(broken(format!(
            "it has {length} bytes, more than {LENGTH_MAX}"
        )));
    }
    let snapshot = Snapshot::from_file(path).map_err(|error| broken(error.to_string()))?;
    let format = snapshot.metadata().description();
    if format.is_some_and(|format| format != FORMAT) {
        let what = format!("{} is of another format than this lab's", path.display());
        return Err(Error::new(Blame::File, what)
            .evidence(&format!(
                "found   {}\nexpects {FORMAT}",
                format.unwrap_or_default()
            ))
            .help("use the lab that wrote it, or remove it and accept a new one"));
    }
    let text = snapshot
        .as_text()
        .ok_or_else(|| broken("it holds no text".to_owned()))?;
    Ok(Some(text.to_string()))
}

/// What waits for a review: `(pending, accepted)` paths, sorted.
pub fn all_pending(project: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let dir = project.join("snapshots");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).at("read", &dir)? {
        let path = entry.at("read", &dir)?.path();
        if path.to_string_lossy().ends_with(".snap.new") {
            found.push((path.clone(), path.with_extension("")));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    fn file(project: &Path) -> SnapshotFile {
        let run = RunId {
            scenario: "s".into(),
            kernel: "k".into(),
            arch: Arch::X86_64,
        };
        SnapshotFile::of(project, &run, SnapshotScope::PerKernel)
    }

    #[test]
    fn what_was_accepted_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        let text = "step 1: load shop\n  call shop.price: 10\n  log 'quotes': \"and\" --- more\n";
        assert_eq!(read(file.path()).unwrap(), None);
        file.accept(text).unwrap();
        assert_eq!(read(file.path()).unwrap().as_deref(), Some(text.trim_end()));
    }

    #[test]
    fn accepting_leaves_nothing_to_review() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        file.write_pending("a\n").unwrap();
        assert_eq!(
            all_pending(dir.path()).unwrap(),
            [(file.pending(), file.path.clone())]
        );
        file.accept("a\n").unwrap();
        assert_eq!(all_pending(dir.path()).unwrap(), []);
    }

    #[test]
    fn a_snapshot_of_another_format_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        file.accept("a\n").unwrap();
        let text = fs::read_to_string(file.path())
            .unwrap()
            .replace("format 1", "format 9");
        fs::write(file.path(), text).unwrap();
        assert_eq!(read(file.path()).unwrap_err().blame, Blame::File);
    }
}
