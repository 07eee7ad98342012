// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which run starts next and in which guest, how often it is tried, and which attempt counts: a state
//! machine that is given what happened and returns what to do. It waits for nothing and does nothing
//! itself, so that its tests need no guest.
//!
//! Of the runs that are prepared, the longest starts first. A guest that is as it was after its boot
//! plays the next run of its kind; a new one is booted only while more runs wait than guests are
//! about to be free. What fails in a guest that others have used is tried once more in its own, and what
//! the emulator broke once more as well; that attempt counts as none.

use std::collections::BTreeMap;

/// The place of a run among all runs.
pub(super) type RunIndex = usize;

/// The number of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GuestNumber(usize);

/// What bounds a schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Guests at the same time, at least one.
    pub(super) jobs: usize,
    /// Attempts at a run, at least one.
    pub(super) attempts: u32,
    /// Whether no run starts after one that did not end as expected.
    pub(super) fail_fast: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As expected.
    AsExpected,
    /// A state differs. In a guest that others have used, that may be their doing.
    Differs,
    /// The kernel complained, the guest was lost, or the lab could not go on. An own guest would
    /// prove nothing.
    Broken,
    /// The emulator broke the guest, which says nothing about the run.
    Emulator,
    /// Not as expected, and every further attempt would say the same: there is no snapshot yet, or the
    /// scenario's file or its snapshot is to blame.
    Settled,
    /// It was cancelled before it began.
    NotBegun,
}

/// What happened. `K` is what guests must have in common so that one can play the runs of another.
#[derive(Debug)]
pub(super) enum Input<K> {
    /// A run can start.
    Prepared {
        /// The run.
        run: RunIndex,
        /// The kind of guest that it needs.
        kind: K,
        /// Whether its guest may be handed on after it.
        shares: bool,
        /// The milliseconds that it is expected to take.
        expected: u64,
    },
    /// A run cannot start; why is its verdict.
    NotPrepared {
        /// The run.
        run: RunIndex,
    },
    /// All runs have been prepared, or will never be.
    AllPrepared,
    /// The guest of a run is as it was after its boot. To be answered by [`Action::Answer`].
    GuestFree {
        /// The run.
        run: RunIndex,
    },
    /// An attempt at a run ended.
    AttemptEnded {
        /// The run.
        run: RunIndex,
        /// How.
        end: End,
        /// Whether its guest is still there: it was to be handed on.
        guest: bool,
    },
    /// The user pressed Ctrl-C.
    Cancelled,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Begin an attempt.
    Start {
        /// At this run.
        run: RunIndex,
        /// Its number, from 1.
        attempt: u32,
        /// In this guest.
        guest: GuestNumber,
        /// Whether the guest is a new one.
        new: bool,
    },
    /// Let the run end, and its guest with it unless that is handed on.
    Answer {
        /// The run.
        run: RunIndex,
        /// Whether the guest is kept for another run.
        hand_on: bool,
    },
    /// Stop a guest that was kept.
    Stop(GuestNumber),
    /// Record that the last attempt failed; another one follows.
    FailAttempt {
        /// At this run.
        run: RunIndex,
        /// Whether it counts as one.
        counts: bool,
    },
    /// Give the verdict on a run.
    Finish {
        /// The run.
        run: RunIndex,
        /// The attempt to show, from 1, or 0 if there was none. If it is not the last one, the run
        /// is flaky.
        shown: u32,
        /// How many attempts there were that count.
        attempts: u32,
    },
    /// Say that a run is left out.
    NotRun {
        /// The run.
        run: RunIndex,
        /// The run that did not end as expected.
        after: RunIndex,
    },
    /// Prepare no further run.
    CancelBuilds,
}

/// A run that is prepared.
#[derive(Debug)]
struct Waiting<K> {
    run: RunIndex,
    kind: K,
    shares: bool,
    expected: u64,
}

/// A run on which attempts are made.
#[derive(Debug)]
struct Playing<K> {
    kind: K,
    shares: bool,
    guest: GuestNumber,
    /// Whether other runs were played in the guest before.
    used: bool,
    attempt: u32,
    /// How many attempts it may have.
    attempts: u32,
    /// How many of them the emulator broke, and count as none.
    broken: u32,
    /// The run that goes on in the guest.
    next: Option<Waiting<K>>,
}

/// The runs, on their way.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    limits: Limits,
    /// In the order in which they were prepared.
    queue: Vec<Waiting<K>>,
    playing: BTreeMap<RunIndex, Playing<K>>,
    /// Whether a run has its verdict.
    finished: Vec<bool>,
    guests: usize,
    most: usize,
    all_prepared: bool,
    cancelled: bool,
    /// The run after which no further one starts.
    stopped: Option<RunIndex>,
    /// Whether nothing is left to do.
    over: bool,
}

impl<K: Ord + Clone> Schedule<K> {
    /// For so many runs.
    pub(super) fn new(runs: usize, limits: Limits) -> Self {
        Self {
            limits,
            queue: Vec::new(),
            playing: BTreeMap::new(),
            finished: vec![false; runs],
            guests: 0,
            most: 0,
            all_prepared: false,
            cancelled: false,
            stopped: None,
            over: false,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The most guests that ran at the same time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Takes in what happened; returns what to do, in this order.
    pub(super) fn on(&mut self, happened: Input<K>) -> Vec<Action> {
        let mut actions = Vec::new();
        match happened {
            Input::Prepared {
                run,
                kind,
                shares,
                expected,
            } => self.queue.push(Waiting {
                run,
                kind,
                shares,
                expected,
            }),
            // After a failure it counts as left out.
            Input::NotPrepared { .. } if self.stopped.is_some() => {}
            Input::NotPrepared { run } => {
                self.finish(run, End::Broken, 0, &mut actions);
            }
            Input::AllPrepared => self.all_prepared = true,
            Input::GuestFree { run } => actions.push(self.hand_on(run)),
            Input::AttemptEnded { run, end, guest } => {
                self.attempt_ended(run, end, guest, &mut actions);
            }
            Input::Cancelled => self.cancelled = true,
        }
        if self.starts_none() {
            self.queue.clear();
        }
        self.boot(&mut actions);
        self.end(&mut actions);
        actions
    }

    fn starts_none(&self) -> bool {
        self.cancelled || self.stopped.is_some()
    }

    /// Boots guests for the runs that wait.
    fn boot(&mut self, actions: &mut Vec<Action>) {
        while self.playing.len() < self.limits.jobs.max(1) {
            let Some(waiting) = self.take_for_boot() else {
                return;
            };
            let guest = self.new_guest();
            actions.push(self.start(waiting, guest, false));
        }
    }

    /// Begins the first attempt at a run.
    fn start(&mut self, waiting: Waiting<K>, guest: GuestNumber, used: bool) -> Action {
        let run = waiting.run;
        let playing = Playing {
            kind: waiting.kind,
            shares: waiting.shares,
            guest,
            used,
            attempt: 1,
            attempts: self.limits.attempts.max(1),
            broken: 0,
            next: None,
        };
        self.playing.insert(run, playing);
        self.most = self.most.max(self.playing.len());
        Action::Start {
            run,
            attempt: 1,
            guest,
            new: !used,
        }
    }

    /// Finds the run that goes on in a guest that is free.
    fn hand_on(&mut self, run: RunIndex) -> Action {
        let kind = self.playing.get(&run).map(|playing| playing.kind.clone());
        let next = kind.and_then(|kind| self.take_if(|waiting| waiting.kind == kind));
        let hand_on = next.is_some();
        if let Some(playing) = self.playing.get_mut(&run) {
            playing.next = next;
        }
        Action::Answer { run, hand_on }
    }

    fn attempt_ended(&mut self, run: RunIndex, end: End, kept: bool, actions: &mut Vec<Action>) {
        let Some(mut playing) = self.playing.remove(&run) else {
            return;
        };
        // A kernel that complained has complained.
        if end == End::Differs && playing.used {
            playing.attempts += 1;
        }
        // Once: what it breaks again and again is to be seen.
        let excused = end == End::Emulator && playing.broken == 0;
        if excused {
            playing.attempts += 1;
        }
        let failed = matches!(end, End::Differs | End::Broken | End::Emulator);
        let again = failed && playing.attempt < playing.attempts && !self.cancelled;
        let next = playing.next.take();
        let goes_on = kept && !again && !self.cancelled;
        match next {
            Some(next) if goes_on => {
                actions.push(self.start(next, playing.guest, true));
            }
            next => {
                if kept {
                    actions.push(Action::Stop(playing.guest));
                }
                // It has waited for long enough.
                self.queue.extend(next.map(|next| Waiting {
                    expected: u64::MAX,
                    ..next
                }));
            }
        }
        if again {
            playing.attempt += 1;
            playing.used = false;
            playing.guest = self.new_guest();
            playing.broken += u32::from(excused);
            actions.push(Action::FailAttempt {
                run,
                counts: !excused,
            });
            actions.push(Action::Start {
                run,
                attempt: playing.attempt,
                guest: playing.guest,
                new: true,
            });
            self.playing.insert(run, playing);
        } else {
            self.finish(run, end, playing.attempt - playing.broken, actions);
        }
    }

    /// Gives the verdict on a run after so many attempts.
    fn finish(&mut self, run: RunIndex, end: End, attempts: u32, actions: &mut Vec<Action>) {
        if end == End::NotBegun {
            return;
        }
        let shown = match end {
            // What the first attempt left is what one has to look at.
            End::AsExpected => attempts.min(1),
            _ => attempts,
        };
        self.finished[run] = true;
        actions.push(Action::Finish {
            run,
            shown,
            attempts,
        });
        let failed = end != End::AsExpected && !self.cancelled;
        if failed && self.limits.fail_fast && self.stopped.is_none() {
            self.stopped = Some(run);
            actions.push(Action::CancelBuilds);
        }
    }

    /// Notices that nothing is left to do, and says which runs were left out.
    fn end(&mut self, actions: &mut Vec<Action>) {
        if self.over || !self.all_prepared || !self.playing.is_empty() {
            return;
        }
        self.over = true;
        if let Some(after) = self.stopped {
            let left = (0..self.finished.len()).filter(|&run| !self.finished[run]);
            actions.extend(left.map(|run| Action::NotRun { run, after }));
        }
    }

    /// Takes the longest run that a new guest shall be booted for: a run waits for a guest of its
    /// kind while as many of them are about to be free as runs wait.
    fn take_for_boot(&mut self) -> Option<Waiting<K>> {
        let (mut waiting, mut free) = (BTreeMap::new(), BTreeMap::new());
        for run in &self.queue {
            *waiting.entry(run.kind.clone()).or_insert(0) += 1;
        }
        for playing in self.playing.values().filter(|playing| playing.shares) {
            *free.entry(playing.kind.clone()).or_insert(0) += 1;
        }
        self.take_if(|run| waiting.get(&run.kind) > free.get(&run.kind))
    }

    /// Takes the first of the longest runs that fit.
    fn take_if(&mut self, fits: impl Fn(&Waiting<K>) -> bool) -> Option<Waiting<K>> {
        let fitting = self.queue.iter().enumerate().filter(|(_, run)| fits(run));
        let longest = fitting.rev().max_by_key(|(_, run)| run.expected);
        let at = longest.map(|(at, _)| at)?;
        Some(self.queue.remove(at))
    }

    fn new_guest(&mut self) -> GuestNumber {
        self.guests += 1;
        GuestNumber(self.guests)
    }
}

#[cfg(test)]
mod tests;
