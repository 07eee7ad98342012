// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runs that are prepared and wait for a guest: a new one, or one that has played others and
//! is as it was after its boot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::run::Guesting;
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
    waiting: Mutex<Vec<Waiting>>,
}

impl Queue {
    pub(super) fn push(&self, expected: u64, run: Guesting) {
        self.lock().push(Waiting { expected, run });
    }

    /// Takes the longest run for a guest that is free.
    pub(super) fn take(&self, kind: &Kind) -> Option<Guesting> {
        self.take_if(|run| Kind::of(run) == *kind)
    }

    /// Takes the longest run that a new guest shall be booted for. `sharing` says how many guests
    /// of a kind are about to be free: a run waits for one of those while there are as many of
    /// them as runs that wait.
    pub(super) fn take_for_boot(&self, sharing: &BTreeMap<Kind, usize>) -> Option<Guesting> {
        let mut waiting = BTreeMap::<Kind, usize>::new();
        for Waiting { run, .. } in &*self.lock() {
            *waiting.entry(Kind::of(run)).or_default() += 1;
        }
        self.take_if(|run| {
            let kind = Kind::of(run);
            waiting.get(&kind) > sharing.get(&kind)
        })
    }

    /// Lets nothing start any more.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn take_if(&self, fits: impl Fn(&Guesting) -> bool) -> Option<Guesting> {
        let mut waiting = self.lock();
        let fitting = waiting.iter().enumerate().filter(|(_, w)| fits(&w.run));
        // The first of the longest, hence reversed.
        let fitting: Vec<_> = fitting.map(|(at, w)| (at, w.expected)).collect();
        let longest = fitting
            .into_iter()
            .rev()
            .max_by_key(|&(_, expected)| expected);
        longest.map(|(at, _)| waiting.remove(at).run)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        // A list of runs is whole after a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} runs wait", self.lock().len())
    }
}
