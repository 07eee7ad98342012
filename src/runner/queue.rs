// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runs that are prepared and wait for a guest: a new one, or one that has played others and
//! is as it was after its boot. Or they wait for another run, to go on as forks of its guest.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::run::Guesting;
use super::share::{Group, Kept, Share};
use crate::vm::Accel;

/// What guests must have in common so that one can play the runs of the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    boot_file: PathBuf,
    initramfs: PathBuf,
    accel: &'static str,
}

impl Kind {
    /// The kind of guest that a run needs.
    pub(super) fn of(run: &Guesting) -> Self {
        let accel: Accel = run.accel;
        Self {
            boot_file: run.boot_file.clone(),
            initramfs: run.image.initramfs.clone(),
            accel: accel.name(),
        }
    }
}

/// A run with the milliseconds that it is expected to take.
struct Waiting {
    expected: u64,
    run: Guesting,
}

/// The runs that wait, the longest to be taken first. The guests' tasks and whoever starts them
/// share it.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Whether there are more that can start.
    more: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// What has become of the leaders of groups, by the groups' numbers.
    decided: BTreeMap<usize, Decided>,
}

/// What has become of a leader.
struct Decided {
    /// Its guest, if it was kept.
    kept: Option<Arc<Kept>>,
    /// How many of its followers do not know.
    followers: usize,
}

impl Queue {
    pub(super) fn push(&self, expected: u64, run: Guesting) {
        let mut state = self.lock();
        state.waiting.push(Waiting { expected, run });
        state.tell_followers();
    }

    /// Says what has become of a group's leader: its followers start, as forks of what was kept or
    /// by themselves.
    pub(super) fn decide(&self, group: Group, kept: Option<Arc<Kept>>) {
        let followers = group.followers;
        let mut state = self.lock();
        let decided = Decided { kept, followers };
        state.decided.insert(group.number, decided);
        state.tell_followers();
        self.more.notify_one();
    }

    /// Resolves when runs can start that could not before.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }

    /// Takes the longest run for a guest that is free.
    pub(super) fn take(&self, kind: &Kind) -> Option<Guesting> {
        self.take_if(|run| matches!(run.share, Share::Nothing) && Kind::of(run) == *kind)
    }

    /// Takes the longest run that a new guest shall be booted for. `sharing` says how many guests
    /// of a kind are about to be free: a run waits for one of those while there are as many of
    /// them as runs that wait. A leader and its forks cannot be played in one of those.
    pub(super) fn take_for_boot(&self, sharing: &BTreeMap<Kind, usize>) -> Option<Guesting> {
        let mut waiting = BTreeMap::<Kind, usize>::new();
        for Waiting { run, .. } in &self.lock().waiting {
            if matches!(run.share, Share::Nothing) {
                *waiting.entry(Kind::of(run)).or_default() += 1;
            }
        }
        self.take_if(|run| match run.share {
            Share::Nothing => {
                let kind = Kind::of(run);
                waiting.get(&kind) > sharing.get(&kind)
            }
            Share::Leads(_) | Share::Forks(_) => true,
            Share::Follows(_) => false,
        })
    }

    /// Lets nothing start any more.
    pub(super) fn clear(&self) {
        self.lock().waiting.clear();
    }

    fn take_if(&self, fits: impl Fn(&Guesting) -> bool) -> Option<Guesting> {
        let waiting = &mut self.lock().waiting;
        let fitting = waiting.iter().enumerate().filter(|(_, w)| fits(&w.run));
        // The first of the longest, hence reversed.
        let fitting: Vec<_> = fitting.map(|(at, w)| (at, w.expected)).collect();
        let longest = fitting
            .into_iter()
            .rev()
            .max_by_key(|&(_, expected)| expected);
        longest.map(|(at, _)| waiting.remove(at).run)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A list of runs is whole after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells those that wait for a leader what has become of it. What was kept goes with the last
    /// that was told.
    fn tell_followers(&mut self) {
        for Waiting { run, .. } in &mut self.waiting {
            if let Share::Follows(number) = run.share
                && let Some(decided) = self.decided.get_mut(&number)
            {
                run.share = decided.kept.clone().map_or(Share::Nothing, Share::Forks);
                decided.followers = decided.followers.saturating_sub(1);
            }
        }
        for decided in self.decided.values_mut() {
            if decided.followers == 0 {
                decided.kept = None;
            }
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} runs wait", self.lock().waiting.len())
    }
}
