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
use crate::files::read_regular;
use crate::scenario::SnapshotScope;
use crate::yaml::{self, Node, Source};

/// What the snapshot's `description` says: the version of its text.
const FORMAT: &str = "livepatch-lab snapshot, format 1";

/// Bytes of a snapshot that is read. A guest's states have 64 MiB at the very most.
const LENGTH_MAX: u64 = 64 << 20;
/// Bytes of its head.
const HEAD_MAX: usize = 64 << 10;

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
    check_head(&read_regular(path, LENGTH_MAX)?).map_err(broken)?;
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

/// Holds the head of a snapshot against the lab's own limits before insta reads it. insta would
/// also read the file that the head of a binary snapshot names, and panic if that is in another
/// folder.
fn check_head(bytes: &[u8]) -> std::result::Result<(), String> {
    let start = &bytes[..bytes.len().min(HEAD_MAX)];
    // What is cut in two at its end is no part of a head.
    let start = String::from_utf8_lossy(start);
    let mut lines = start.split_inclusive('\n');
    let is_fence = |line: &str| line.trim_end() == "---";
    if !lines.next().is_some_and(is_fence) {
        return Err("it does not begin with `---`".to_owned());
    }
    let mut head = String::new();
    loop {
        match lines.next() {
            None => return Err("its head has no end".to_owned()),
            Some(line) if is_fence(line) => break,
            Some(line) => head += line,
        }
    }
    let head = yaml::parse(&Source::new("", head)).map_err(|errors| {
        let first = errors.iter().next();
        first.map_or_else(String::new, |error| error.message.clone())
    })?;
    match head.get("snapshot_kind").map(Node::as_str) {
        None | Some(Some("text")) => Ok(()),
        Some(_) => Err("it holds no text".to_owned()),
    }
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
            cpus: None,
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
    fn the_head_of_a_snapshot_is_small_and_names_no_other_file() {
        let head = |head: &str| check_head(format!("---\n{head}\n---\ntext").as_bytes());
        assert_eq!(head("source: x\nassertion_line: 3"), Ok(()));
        let binary = "snapshot_kind: binary\nextension: ../../etc/passwd";
        assert_eq!(head(binary), Err("it holds no text".to_owned()));
        let deep = format!("info: {}", ["[".repeat(20), "]".repeat(20)].concat());
        assert_eq!(head(&deep), Err("this is nested too deeply".to_owned()));
        let endless = format!("info: {}", "x".repeat(HEAD_MAX));
        assert_eq!(head(&endless), Err("its head has no end".to_owned()));
        let legacy = check_head(b"Source: x\n\ntext");
        assert_eq!(legacy, Err("it does not begin with `---`".to_owned()));
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
