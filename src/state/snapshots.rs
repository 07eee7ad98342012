// SPDX-License-Identifier: MIT OR Apache-2.0
//! The snapshots of a whole command: which file a run is held against, and which file gets what it
//! observed.
//!
//! Several runs share one file: those on other architectures, those with other numbers of CPUs, and
//! under `snapshot: shared` those on other kernels. They may disagree, and they end in any order. So what was observed is kept until
//! the command ends, and each newcomer may move what was written before: an architecture that
//! behaves otherwise gets a file of its own, and no run overwrites what another one observed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use super::snapshot::{Comparison, SnapshotFile, read};
use crate::arch::Arch;
use crate::error::{Error, IoContext, Result};
use crate::event::RunId;
use crate::scenario::SnapshotScope;

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
    /// The file it was held against, relative to the project.
    pub name: String,
}

/// The runs that share a file.
#[derive(Debug, Default)]
struct Group {
    /// What was accepted when the first of them came.
    before: Option<String>,
    /// The same, of architectures with a file of their own.
    own_before: BTreeMap<Arch, String>,
    seen: BTreeMap<Arch, Seen>,
    /// What this command has written so far: for all (`None`), or for an architecture.
    written: BTreeMap<Option<Arch>, Seen>,
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
        run: &RunId,
        scope: SnapshotScope,
        observed: &str,
        acceptable: bool,
    ) -> Result<Standing> {
        let shared = SnapshotFile::of(&self.project, run, scope);
        let observed = observed.trim_end();
        let mut groups = self
            .groups
            .lock()
            .map_err(|_| Error::lab("a run failed inside"))?;
        let group = match groups.entry(shared.path().to_path_buf()) {
            std::collections::btree_map::Entry::Occupied(group) => group.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Group::read(&shared)?)
            }
        };
        let own = group.own_before.contains_key(&run.arch);
        let file = if own {
            shared.for_arch(run.arch)
        } else {
            shared.clone()
        };
        let name = file.path().strip_prefix(&self.project);
        let name = name.unwrap_or(file.path()).display().to_string();
        let comparison = group.compare(run, observed);
        let mut accepted = false;
        let writes = matches!(self.policy, SnapshotPolicy::Review | SnapshotPolicy::Accept);
        if writes && !group.has_anothers(run, observed) {
            accepted = self.policy == SnapshotPolicy::Accept && acceptable;
            let seen = Seen {
                by: player(run),
                text: observed.to_owned(),
                accept: accepted,
            };
            group.seen.insert(run.arch, seen);
            group.write(&shared)?;
            // What an earlier command left for a review is settled.
            let slot = own.then_some(run.arch);
            if comparison == Comparison::Same && !group.written.contains_key(&slot) {
                file.remove_pending()?;
            }
        }
        Ok(Standing {
            comparison,
            accepted,
            name,
        })
    }
}

impl Group {
    fn read(shared: &SnapshotFile) -> Result<Self> {
        let mut group = Self {
            before: read_trimmed(shared)?,
            ..Self::default()
        };
        for arch in Arch::ALL {
            if let Some(text) = read_trimmed(&shared.for_arch(arch))? {
                group.own_before.insert(arch, text);
            }
        }
        Ok(group)
    }

    fn compare(&self, run: &RunId, observed: &str) -> Comparison {
        let before = self.own_before.get(&run.arch).or(self.before.as_ref());
        // Another number of CPUs, and under `snapshot: shared` another kernel, is held against the
        // first one of the command, too.
        let first = self.seen.get(&run.arch);
        let first = first.filter(|first| first.by != player(run) && first.accept);
        match first.map(|first| &first.text).or(before) {
            None => Comparison::Missing,
            Some(text) if text == observed => Comparison::Same,
            Some(text) => Comparison::Different(text.clone()),
        }
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
        let as_before = |seen: &Seen| self.before.as_ref() == Some(&seen.text);
        let confirmed = self
            .seen
            .iter()
            .any(|(arch, seen)| of_all(arch) && as_before(seen));
        for (&arch, seen) in &self.seen {
            if let Some(before) = self.own_before.get(&arch) {
                if *before != seen.text {
                    slots.insert(Some(arch), seen.clone());
                }
                continue;
            }
            if as_before(seen) {
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

fn read_trimmed(file: &SnapshotFile) -> Result<Option<String>> {
    Ok(read(file.path())?.map(|text| text.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use Arch::{Arm64, X86_64};
    use SnapshotPolicy::{Accept, ReadOnly, Review};

    struct Desk(tempfile::TempDir);

    impl Desk {
        fn new(accepted: &[(&str, &str)]) -> Self {
            let desk = Self(tempfile::tempdir().unwrap());
            let snapshots = Snapshots::new(desk.0.path().into(), Accept);
            for (name, text) in accepted {
                let (kernel, arch) = name.split_once('.').unwrap_or((name, ""));
                let file = SnapshotFile::of(&snapshots.project, &run(kernel, X86_64), PER_KERNEL);
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

    fn observe(snapshots: &Snapshots, arch: Arch, text: &str) -> Comparison {
        let standing = snapshots.observe(&run("k", arch), PER_KERNEL, text, true);
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
            snapshots.observe(&run, SnapshotScope::Shared, text, true)
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
                    let standing = snapshots.observe(&of(cpus), PER_KERNEL, text, true);
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
                    let standing = again.observe(&of(order[1]), PER_KERNEL, "b", true);
                    assert_eq!(standing.unwrap().comparison, against);
                }
            }
        }
    }

    #[test]
    fn what_breaks_an_expectation_waits_for_a_review() {
        let desk = Desk::new(&[("k", "a")]);
        let run = run("k", X86_64);
        let snapshots = desk.snapshots(Accept);
        let standing = snapshots.observe(&run, PER_KERNEL, "b", false).unwrap();
        assert!(!standing.accepted);
        assert_eq!(desk.files(), ["s@k.snap.new: b", "s@k.snap: a"]);
    }
}
