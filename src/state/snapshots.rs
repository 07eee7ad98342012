// SPDX-License-Identifier: MIT OR Apache-2.0
//! The snapshots of a whole command: which file a run is held against, and which file gets what it
//! observed.
//!
//! Several runs share one file: those on other architectures, those with other numbers of CPUs, and
//! under `snapshot: shared` those on other kernels. They may disagree, and they end in any order. So what was observed is kept until
//! the command ends, and each newcomer may move what was written before: an architecture that
//! behaves otherwise gets a file of its own, and no run overwrites what another one observed.
//!
//! A kernel without a snapshot of its own is held against that of a kernel it is based on. What it
//! does otherwise goes to its own file; a run whose expectations do not hold leaves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::snapshot::{Comparison, Owner, SnapshotFile, Subject, read};
use crate::arch::Arch;
use crate::error::{Error, IoContext, Result};
use crate::event::RunId;

/// What to do with a snapshot that is missing or differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotPolicy {
    /// Write `.snap.new` for a review.
    Review,
    /// Take what was observed.
    Accept,
    /// Write nothing (`CI=true`).
    ReadOnly,
    /// Write nothing, and ask nobody for a review: the snapshot came in a bundle.
    Fixed,
    /// Compare with none: states are in the run's record only.
    Ignore,
}

/// The snapshots of one command.
#[derive(Debug)]
pub struct Snapshots {
    project: PathBuf,
    policy: SnapshotPolicy,
    groups: Mutex<BTreeMap<PathBuf, Group>>,
}

/// How a run stands to its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Against what was accepted before this command.
    pub comparison: Comparison,
    /// What was observed is accepted now.
    pub accepted: bool,
    /// The file it was held against, or could be from now on, relative to the project.
    pub name: String,
    /// The kernel whose snapshot that is, if its own has none.
    pub base: Option<String>,
}

/// The runs that share a file.
#[derive(Debug, Default)]
struct Group {
    /// What was accepted when the first of them came.
    before: Option<String>,
    /// The same, of architectures with a file of their own.
    own_before: BTreeMap<Arch, String>,
    /// What architectures are held against for which the kernel has no snapshot.
    inherited: BTreeMap<Arch, Inherited>,
    seen: BTreeMap<Arch, Seen>,
    /// What this command has written so far: for all (`None`), or for an architecture.
    written: BTreeMap<Option<Arch>, Seen>,
}

/// The snapshot of a kernel that another is based on.
#[derive(Debug)]
struct Inherited {
    base: String,
    /// Relative to the project.
    name: String,
    text: String,
}

/// Who has observed something: a kernel, with a number of CPUs if one was chosen. Those of one
/// architecture have no files of their own.
type Player = (String, Option<u16>);

fn player(run: &RunId) -> Player {
    (run.kernel.clone(), run.cpus)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    by: Player,
    text: String,
    accept: bool,
}

impl Snapshots {
    /// The snapshots of a project.
    pub fn new(project: PathBuf, policy: SnapshotPolicy) -> Self {
        Self {
            project,
            policy,
            groups: Mutex::default(),
        }
    }

    /// What to do with those that differ.
    pub fn policy(&self) -> SnapshotPolicy {
        self.policy
    }

    /// Holds what a run observed against its snapshot, and keeps it as the policy says.
    /// `acceptable`: its expectations hold.
    ///
    /// # Errors
    ///
    /// A snapshot file is broken or cannot be written.
    pub fn observe(
        &self,
        subject: &Subject<'_>,
        observed: &str,
        acceptable: bool,
    ) -> Result<Standing> {
        let shared = SnapshotFile::of(&self.project, subject);
        let (run, observed) = (subject.run, observed.trim_end());
        let mut groups = self
            .groups
            .lock()
            .map_err(|_| Error::lab("a run failed inside"))?;
        let group = match groups.entry(shared.path().to_path_buf()) {
            std::collections::btree_map::Entry::Occupied(group) => group.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Group::read(&self.project, &shared, subject.bases)?)
            }
        };
        let slot = group.own_before.contains_key(&run.arch).then_some(run.arch);
        let file = slot.map_or_else(|| shared.clone(), |arch| shared.for_arch(arch));
        let mut standing = group.compare(run, observed);
        if standing.name.is_empty() {
            let name = file.path().strip_prefix(&self.project);
            standing.name = name.unwrap_or(file.path()).display().to_string();
        }
        if !matches!(self.policy, SnapshotPolicy::Review | SnapshotPolicy::Accept) {
            return Ok(standing);
        }
        // What is as it was accepted shows that the file is right for its architecture, whatever else
        // went wrong: then it is no place for another one.
        let same = standing.comparison == Comparison::Same;
        if (acceptable || same) && !group.has_anothers(run, observed) {
            standing.accepted = acceptable && self.policy == SnapshotPolicy::Accept;
            let seen = Seen {
                by: player(run),
                text: observed.to_owned(),
                accept: standing.accepted,
            };
            group.seen.insert(run.arch, seen);
            group.write(&shared)?;
        }
        // What an earlier command left for a review is settled, or of another kernel or scenario than
        // this one, whose expectations do not hold.
        if (same || !acceptable) && !group.written.contains_key(&slot) {
            file.remove_pending()?;
        }
        Ok(standing)
    }
}

impl Group {
    fn read(project: &Path, shared: &SnapshotFile, bases: &[String]) -> Result<Self> {
        let mut group = Self {
            before: read_trimmed(shared.path())?,
            ..Self::default()
        };
        for arch in Arch::ALL {
            let own = shared.for_arch(arch);
            if let Some(text) = read_trimmed(own.path())? {
                group.own_before.insert(arch, text);
                continue;
            }
            let owner = Owner::of(own.path()).filter(|_| group.before.is_none());
            let Some((base, path)) = owner.and_then(|owner| owner.inherited(project, bases)) else {
                continue;
            };
            if let Some(text) = read_trimmed(&project.join(&path))? {
                let name = path.display().to_string();
                group.inherited.insert(arch, Inherited { base, name, text });
            }
        }
        Ok(group)
    }

    /// How what a run observed stands to what was accepted. The name is empty if that is its own
    /// snapshot.
    fn compare(&self, run: &RunId, observed: &str) -> Standing {
        // Another number of CPUs, and under `snapshot: shared` another kernel, is held against the
        // first one of the command, too.
        let first = self.seen.get(&run.arch);
        let first = first.filter(|first| first.by != player(run) && first.accept);
        let inherited = self.inherited.get(&run.arch).filter(|_| first.is_none());
        let comparison = match first.map(|first| &*first.text).or(self.before(run.arch)) {
            None => Comparison::Missing,
            Some(text) if text == observed => Comparison::Same,
            Some(text) => Comparison::Different(text.to_owned()),
        };
        Standing {
            comparison,
            accepted: false,
            name: inherited.map_or_else(String::new, |inherited| inherited.name.clone()),
            base: inherited.map(|inherited| inherited.base.clone()),
        }
    }

    /// What was accepted of an architecture before this command.
    fn before(&self, arch: Arch) -> Option<&str> {
        let own = self.own_before.get(&arch).or(self.before.as_ref());
        let inherited = self.inherited.get(&arch).map(|inherited| &inherited.text);
        own.or(inherited).map(String::as_str)
    }

    /// Whether another kernel, or the same with another number of CPUs, observed something else on
    /// the same architecture: only the first one is kept, for there is one file.
    fn has_anothers(&self, run: &RunId, observed: &str) -> bool {
        let other = |seen: &Seen| seen.by != player(run) && seen.text != observed;
        self.seen.get(&run.arch).is_some_and(other)
    }

    /// Which file gets what: for all (`None`), or for an architecture. What is as it was before
    /// gets none.
    fn assign(&self) -> BTreeMap<Option<Arch>, Seen> {
        let mut slots = BTreeMap::new();
        let of_all = |arch: &Arch| !self.own_before.contains_key(arch);
        let as_before = |arch: Arch, seen: &Seen| self.before(arch) == Some(&*seen.text);
        let confirmed = self
            .seen
            .iter()
            .any(|(arch, seen)| of_all(arch) && as_before(*arch, seen));
        for (&arch, seen) in &self.seen {
            if let Some(before) = self.own_before.get(&arch) {
                if *before != seen.text {
                    slots.insert(Some(arch), seen.clone());
                }
                continue;
            }
            if as_before(arch, seen) {
                continue;
            }
            let same = slots
                .get(&None)
                .is_none_or(|first: &Seen| first.text == seen.text);
            if confirmed || !same {
                slots.insert(Some(arch), seen.clone());
            } else {
                slots.entry(None).or_insert_with(|| seen.clone());
            }
        }
        slots
    }

    /// Brings the files in line with [`Group::assign`].
    fn write(&mut self, shared: &SnapshotFile) -> Result<()> {
        let slots = self.assign();
        let file = |slot: Option<Arch>| slot.map_or_else(|| shared.clone(), |a| shared.for_arch(a));
        for (slot, seen) in &self.written {
            if slots.get(slot) == Some(seen) {
                continue;
            }
            let file = file(*slot);
            if !seen.accept {
                file.remove_pending()?;
                continue;
            }
            let before = slot.map_or(self.before.as_ref(), |arch| self.own_before.get(&arch));
            match before {
                Some(before) => file.accept(before)?,
                None => fs::remove_file(file.path()).at("remove", file.path())?,
            }
        }
        for (slot, seen) in &slots {
            if self.written.get(slot) == Some(seen) {
                continue;
            }
            if seen.accept {
                file(*slot).accept(&seen.text)?;
            } else {
                file(*slot).write_pending(&seen.text)?;
            }
        }
        self.written = slots;
        Ok(())
    }
}

fn read_trimmed(path: &Path) -> Result<Option<String>> {
    Ok(read(path)?.map(|text| text.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::scenario::SnapshotScope;
    use Arch::{Arm64, X86_64};
    use SnapshotPolicy::{Accept, ReadOnly, Review};

    struct Desk(tempfile::TempDir);

    impl Desk {
        fn new(accepted: &[(&str, &str)]) -> Self {
            let desk = Self(tempfile::tempdir().unwrap());
            let snapshots = Snapshots::new(desk.0.path().into(), Accept);
            for (name, text) in accepted {
                let (kernel, arch) = name.split_once('.').unwrap_or((name, ""));
                let run = run(kernel, X86_64);
                let file = SnapshotFile::of(&snapshots.project, &subject(&run, PER_KERNEL, &[]));
                let file = arch
                    .parse()
                    .map_or(file.clone(), |arch| file.for_arch(arch));
                file.accept(text).unwrap();
            }
            desk
        }

        fn snapshots(&self, policy: SnapshotPolicy) -> Snapshots {
            Snapshots::new(self.0.path().into(), policy)
        }

        /// Every file with the last line of its text.
        fn files(&self) -> Vec<String> {
            let dir = self.0.path().join("snapshots");
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let mut files: Vec<_> = entries
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    let text = fs::read_to_string(entry.path()).unwrap();
                    format!("{name}: {}", text.lines().last().unwrap())
                })
                .collect();
            files.sort();
            files
        }
    }

    const PER_KERNEL: SnapshotScope = SnapshotScope::PerKernel;

    fn run(kernel: &str, arch: Arch) -> RunId {
        RunId {
            scenario: "s".into(),
            kernel: kernel.into(),
            arch,
            cpus: None,
        }
    }

    fn subject<'a>(run: &'a RunId, scope: SnapshotScope, bases: &'a [String]) -> Subject<'a> {
        Subject {
            run,
            file: Path::new("scenarios/s.yaml"),
            scope,
            bases,
        }
    }

    fn observe(snapshots: &Snapshots, arch: Arch, text: &str) -> Comparison {
        let run = run("k", arch);
        let standing = snapshots.observe(&subject(&run, PER_KERNEL, &[]), text, true);
        standing.unwrap().comparison
    }

    #[test]
    fn one_snapshot_serves_architectures_that_behave_the_same() {
        let desk = Desk::new(&[]);
        let snapshots = desk.snapshots(Accept);
        assert_eq!(observe(&snapshots, Arm64, "a"), Comparison::Missing);
        assert_eq!(observe(&snapshots, X86_64, "a\n"), Comparison::Missing);
        assert_eq!(desk.files(), ["s@k.snap: a"]);
        let again = desk.snapshots(ReadOnly);
        assert_eq!(observe(&again, Arm64, "a"), Comparison::Same);
    }

    #[test]
    fn an_architecture_that_differs_gets_its_own_in_whichever_order_they_end() {
        for order in [[(X86_64, "a"), (Arm64, "b")], [(Arm64, "b"), (X86_64, "a")]] {
            let desk = Desk::new(&[("k", "a")]);
            let snapshots = desk.snapshots(Review);
            for (arch, text) in order {
                observe(&snapshots, arch, text);
            }
            assert_eq!(desk.files(), ["s@k.arm64.snap.new: b", "s@k.snap: a"]);
            let snapshots = desk.snapshots(Accept);
            for (arch, text) in order {
                observe(&snapshots, arch, text);
            }
            assert_eq!(desk.files(), ["s@k.arm64.snap: b", "s@k.snap: a"]);
        }
    }

    #[test]
    fn two_new_behaviours_do_not_overwrite_each_other() {
        for order in [[(X86_64, "a"), (Arm64, "b")], [(Arm64, "b"), (X86_64, "a")]] {
            let desk = Desk::new(&[]);
            let snapshots = desk.snapshots(Accept);
            for (arch, text) in order {
                observe(&snapshots, arch, text);
            }
            assert_eq!(desk.files(), ["s@k.arm64.snap: b", "s@k.snap: a"]);
        }
    }

    #[test]
    fn an_own_snapshot_is_what_its_architecture_is_held_against() {
        let desk = Desk::new(&[("k", "a"), ("k.arm64", "b")]);
        let snapshots = desk.snapshots(Review);
        assert_eq!(observe(&snapshots, Arm64, "b"), Comparison::Same);
        let differs = observe(&snapshots, Arm64, "a");
        assert_eq!(differs, Comparison::Different("b".into()));
        assert!(desk.files().contains(&"s@k.arm64.snap.new: a".to_owned()));
    }

    #[test]
    fn kernels_that_share_a_snapshot_must_agree() {
        let desk = Desk::new(&[]);
        let snapshots = desk.snapshots(Accept);
        let observe = |kernel: &str, text: &str| {
            let run = run(kernel, X86_64);
            snapshots.observe(&subject(&run, SnapshotScope::Shared, &[]), text, true)
        };
        assert!(observe("one", "a").unwrap().accepted);
        let two = observe("two", "b").unwrap();
        assert_eq!(two.comparison, Comparison::Different("a".into()));
        assert!(!two.accepted);
        assert_eq!(desk.files(), ["s.snap: a"]);
    }

    #[test]
    fn numbers_of_cpus_that_share_a_snapshot_must_agree() {
        let of = |cpus| RunId {
            cpus,
            ..run("k", X86_64)
        };
        for policy in [Accept, Review] {
            for order in [[None, Some(2)], [Some(2), None]] {
                let desk = Desk::new(&[]);
                let snapshots = desk.snapshots(policy);
                let observe = |cpus, text: &str| {
                    let run = of(cpus);
                    let standing = snapshots.observe(&subject(&run, PER_KERNEL, &[]), text, true);
                    standing.unwrap()
                };
                let accepts = policy == Accept;
                assert_eq!(observe(order[0], "a").accepted, accepts);
                let second = observe(order[1], "b");
                assert!(!second.accepted);
                let against = match policy {
                    Accept => Comparison::Different("a".into()),
                    _ => Comparison::Missing,
                };
                assert_eq!(second.comparison, against);
                let new = if accepts { "" } else { ".new" };
                assert_eq!(desk.files(), [format!("s@k.snap{new}: a")]);
                // What has been accepted holds for the other number as well.
                if accepts {
                    let again = desk.snapshots(ReadOnly);
                    let run = of(order[1]);
                    let standing = again.observe(&subject(&run, PER_KERNEL, &[]), "b", true);
                    assert_eq!(standing.unwrap().comparison, against);
                }
            }
        }
    }

    #[test]
    fn what_breaks_an_expectation_leaves_nothing_that_could_be_accepted() {
        for policy in [Accept, Review] {
            let desk = Desk::new(&[("k", "a")]);
            let run = run("k", X86_64);
            let subject = subject(&run, PER_KERNEL, &[]);
            // What an earlier run left is of another kernel than this one.
            let earlier = desk.snapshots(Review);
            earlier.observe(&subject, "c", true).unwrap();
            assert_eq!(desk.files(), ["s@k.snap.new: c", "s@k.snap: a"]);
            let snapshots = desk.snapshots(policy);
            let standing = snapshots.observe(&subject, "b", false).unwrap();
            assert_eq!(standing.comparison, Comparison::Different("a".into()));
            assert!(!standing.accepted);
            assert_eq!(desk.files(), ["s@k.snap: a"]);
        }
    }

    #[test]
    fn what_is_as_accepted_keeps_its_file_although_its_expectations_fail() {
        for order in [[X86_64, Arm64], [Arm64, X86_64]] {
            let desk = Desk::new(&[("k", "a")]);
            let snapshots = desk.snapshots(Accept);
            for arch in order {
                let (text, acceptable) = match arch {
                    X86_64 => ("a", false),
                    Arm64 => ("b", true),
                };
                let run = run("k", arch);
                let subject = subject(&run, PER_KERNEL, &[]);
                snapshots.observe(&subject, text, acceptable).unwrap();
            }
            assert_eq!(desk.files(), ["s@k.arm64.snap: b", "s@k.snap: a"]);
        }
    }

    #[test]
    fn a_run_that_holds_is_reviewed_whether_or_not_another_one_fails() {
        for order in [[true, false], [false, true]] {
            let desk = Desk::new(&[]);
            let snapshots = desk.snapshots(Review);
            for acceptable in order {
                let run = RunId {
                    cpus: acceptable.then_some(2),
                    ..run("k", X86_64)
                };
                let subject = subject(&run, PER_KERNEL, &[]);
                snapshots.observe(&subject, "a", acceptable).unwrap();
            }
            assert_eq!(desk.files(), ["s@k.snap.new: a"]);
        }
    }

    /// Holds what `mine` does against the snapshots of the kernels it is based on.
    fn observe_mine(snapshots: &Snapshots, arch: Arch, text: &str) -> Standing {
        let (run, bases) = (run("mine", arch), ["near".into(), "far".into()]);
        let subject = subject(&run, PER_KERNEL, &bases);
        snapshots.observe(&subject, text, true).unwrap()
    }

    #[test]
    fn a_kernel_is_held_against_the_snapshot_of_the_nearest_that_it_is_based_on() {
        let desk = Desk::new(&[("far", "a")]);
        let far = observe_mine(&desk.snapshots(Review), X86_64, "a");
        assert_eq!(far.comparison, Comparison::Same);
        assert_eq!(
            (&*far.name, far.base.as_deref()),
            ("snapshots/s@far.snap", Some("far"))
        );
        assert_eq!(desk.files(), ["s@far.snap: a"]);
        let desk = Desk::new(&[("far", "a"), ("near", "b"), ("near.arm64", "c")]);
        let near = observe_mine(&desk.snapshots(Review), X86_64, "a");
        assert_eq!(near.comparison, Comparison::Different("b".into()));
        assert_eq!(near.base.as_deref(), Some("near"));
        let arm = observe_mine(&desk.snapshots(Review), Arm64, "c");
        assert_eq!(arm.comparison, Comparison::Same);
        assert_eq!(arm.name, "snapshots/s@near.arm64.snap");
        let none = observe_mine(&Desk::new(&[]).snapshots(Review), X86_64, "a");
        assert_eq!(none.comparison, Comparison::Missing);
        assert_eq!((&*none.name, none.base), ("snapshots/s@mine.snap", None));
    }

    #[test]
    fn what_a_kernel_does_otherwise_than_its_base_is_its_own_snapshot() {
        let desk = Desk::new(&[("near", "a")]);
        let standing = observe_mine(&desk.snapshots(Accept), X86_64, "b");
        assert_eq!(standing.comparison, Comparison::Different("a".into()));
        assert_eq!(desk.files(), ["s@mine.snap: b", "s@near.snap: a"]);
        let own = observe_mine(&desk.snapshots(Review), X86_64, "a");
        assert_eq!(own.comparison, Comparison::Different("b".into()));
        assert_eq!((&*own.name, own.base), ("snapshots/s@mine.snap", None));
    }

    #[test]
    fn an_architecture_that_is_as_the_base_has_it_is_not_written_again() {
        for order in [[(X86_64, "a"), (Arm64, "b")], [(Arm64, "b"), (X86_64, "a")]] {
            let desk = Desk::new(&[("near", "a")]);
            let snapshots = desk.snapshots(Review);
            for (arch, text) in order {
                observe_mine(&snapshots, arch, text);
            }
            let files = ["s@mine.arm64.snap.new: b", "s@near.snap: a"];
            assert_eq!(desk.files(), files);
        }
    }
}
