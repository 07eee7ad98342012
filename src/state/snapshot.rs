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
use crate::files::{self, read_regular};
use crate::scenario::{Scenario, SnapshotScope};
use crate::yaml::{self, Node, Source};

/// What the snapshot's `description` says: the version of its text.
const FORMAT: &str = "livepatch-lab snapshot, format 1";

/// Bytes of a snapshot that is read. A guest's states have 64 MiB at the very most.
const LENGTH_MAX: u64 = 64 << 20;
/// Bytes of its head.
const HEAD_MAX: usize = 64 << 10;

/// The folder of a project's snapshots.
const FOLDER: &str = "snapshots";
/// The ending of a snapshot's file.
const ENDING: &str = ".snap";
/// The ending of what waits for a review.
const PENDING: &str = ".snap.new";

/// The run whose states a snapshot has.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its identity.
    pub run: &'a RunId,
    /// The scenario's file.
    pub file: &'a Path,
    /// Whether kernels share the snapshot.
    pub scope: SnapshotScope,
    /// The kernels whose snapshots it is held against if its kernel has none, the nearest first.
    pub bases: &'a [String],
}

/// Whose a snapshot's file is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The scenario.
    pub scenario: String,
    /// The kernel; `None` if all share it.
    pub kernel: Option<String>,
    /// The architecture that behaves otherwise than the rest.
    pub arch: Option<Arch>,
}

/// The snapshot of a scenario on a kernel, or on all.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    /// The scenario's file, relative to the project.
    source: String,
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
    pub fn of(project: &Path, subject: &Subject<'_>) -> Self {
        let kernel = match subject.scope {
            SnapshotScope::PerKernel => Some(subject.run.kernel.clone()),
            SnapshotScope::Shared => None,
        };
        let owner = Owner {
            scenario: subject.run.scenario.clone(),
            kernel,
            arch: None,
        };
        Self::owned(project, &owner, subject.file)
    }

    /// The file that belongs to an owner whose scenario is in `file`.
    pub fn owned(project: &Path, owner: &Owner, file: &Path) -> Self {
        let scenario = &owner.scenario;
        let (name, expression) = match &owner.kernel {
            Some(kernel) => (
                format!("{scenario}@{kernel}{ENDING}"),
                format!("{scenario} on {kernel}"),
            ),
            None => (format!("{scenario}{ENDING}"), scenario.clone()),
        };
        let of_all = Self {
            path: project.join(FOLDER).join(name),
            source: files::relative_to(project, file),
            expression,
        };
        match owner.arch {
            Some(arch) => of_all.for_arch(arch),
            None => of_all,
        }
    }

    /// The file of an architecture that behaves otherwise than the rest.
    #[must_use]
    pub fn for_arch(&self, arch: Arch) -> Self {
        Self {
            path: self.path.with_extension(format!("{arch}.snap")),
            source: self.source.clone(),
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
        self.write(observed)?;
        self.remove_pending()
    }

    /// Makes a text the snapshot; what waits goes on waiting.
    pub fn write(&self, text: &str) -> Result<()> {
        write_atomically(&self.path, self.file_text(text).as_bytes())
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
        let expression = &self.expression;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let source = match self.source.chars().all(is_plain) {
            true => self.source.clone(),
            false => serde_json::json!(self.source).to_string(),
        };
        format!(
            "---\nsource: {source}\ndescription: \"{FORMAT}\"\n\
             expression: \"{expression}\"\n---\n{}\n",
            observed.trim_end()
        )
    }
}

impl Owner {
    /// Reads `NAME@KERNEL.ARCH.snap`, with the kernel and the architecture if it has them.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
        let of_arch = |arch: &Arch| Some((*arch, name.strip_suffix(&format!(".{arch}"))?));
        let (arch, name) = match Arch::ALL.iter().find_map(of_arch) {
            Some((arch, name)) => (Some(arch), name),
            None => (None, name),
        };
        let (scenario, kernel) = match name.split_once('@') {
            Some((scenario, kernel)) => (scenario, Some(kernel.to_owned())),
            None => (name, None),
        };
        Some(Self {
            scenario: scenario.to_owned(),
            kernel,
            arch,
        })
    }

    /// The snapshot of the nearest of these kernels that has one: what a run is held against whose
    /// own kernel has none. `None` if it shares one with all kernels.
    pub fn inherited(&self, project: &Path, bases: &[String]) -> Option<(String, PathBuf)> {
        self.kernel.as_ref()?;
        let of = |base: &String, arch: Option<Arch>| {
            let owner = Self {
                kernel: Some(base.clone()),
                arch,
                ..self.clone()
            };
            let path = owner.path();
            project.join(&path).exists().then(|| (base.clone(), path))
        };
        let either = |base: &String| of(base, self.arch).or_else(|| of(base, None));
        bases.iter().find_map(either)
    }

    /// Its file, relative to the project.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(self.name())
    }

    fn name(&self) -> String {
        let kernel = self.kernel.as_ref().map(|kernel| format!("@{kernel}"));
        let arch = self.arch.map(|arch| format!(".{arch}"));
        let [kernel, arch] = [kernel, arch].map(Option::unwrap_or_default);
        format!("{}{kernel}{arch}{ENDING}", self.scenario)
    }
}

/// The file of a scenario.
pub fn file_of(scenario: &Scenario) -> PathBuf {
    scenario.folder.join(format!("{}.yaml", scenario.name))
}

/// The text of a snapshot file; `None` if there is none.
pub fn read(path: &Path) -> Result<Option<String>> {
    Ok(open(path)?.map(|(text, _)| text))
}

/// The scenario's file that a snapshot says it is of, relative to the project. Labs before this one
/// wrote `scenarios/NAME.yaml` wherever it was.
pub fn source_of(path: &Path) -> Result<Option<PathBuf>> {
    Ok(open(path)?.and_then(|(_, source)| source))
}

fn open(path: &Path) -> Result<Option<(String, Option<PathBuf>)>> {
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
    let source = snapshot.metadata().source().map(PathBuf::from);
    Ok(Some((text.to_string(), source)))
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
    let with = |path: PathBuf| (path.clone(), path.with_extension(""));
    Ok(ending_in(project, PENDING)?.into_iter().map(with).collect())
}

/// What was accepted, sorted.
pub fn all_accepted(project: &Path) -> Result<Vec<PathBuf>> {
    ending_in(project, ENDING)
}

/// The files of the project's snapshots with this ending.
fn ending_in(project: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let dir = project.join(FOLDER);
    let mut found = Vec::new();
    if !dir.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(&dir).at("read", &dir)? {
        let path = entry.at("read", &dir)?.path();
        if path.to_string_lossy().ends_with(ending) {
            found.push(path);
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
        let subject = Subject {
            run: &run,
            file: &project.join("scenarios/deep/s.yaml"),
            scope: SnapshotScope::PerKernel,
            bases: &[],
        };
        SnapshotFile::of(project, &subject)
    }

    #[test]
    fn a_snapshot_says_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        file.accept("a\n").unwrap();
        let source = source_of(file.path()).unwrap();
        assert_eq!(source.as_deref(), Some(Path::new("scenarios/deep/s.yaml")));
        let owner = |name: &str| Owner::of(Path::new(name)).map(|owner| owner.name());
        for name in ["s@k.snap", "s@v7.3.arm64.snap", "s.snap", "s.x86_64.snap"] {
            assert_eq!(owner(name).as_deref(), Some(name));
        }
        assert_eq!(owner("s@k.snap.new"), None);
        let owner = Owner::of(Path::new("s@v7.3.arm64.snap")).unwrap();
        assert_eq!(
            (owner.kernel.as_deref(), owner.arch),
            (Some("v7.3"), Some(Arch::Arm64))
        );
    }

    #[test]
    fn a_name_of_a_file_that_yaml_would_misread_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let owner = Owner::of(Path::new("s@k.snap")).unwrap();
        let odd = dir.path().join("my: own #1/s.yaml");
        let file = SnapshotFile::owned(dir.path(), &owner, &odd);
        file.accept("a\n").unwrap();
        let source = source_of(file.path()).unwrap();
        assert_eq!(source.as_deref(), Some(Path::new("my: own #1/s.yaml")));
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
