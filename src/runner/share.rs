// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs have of each other that begin with the same steps: one plays them, its guest is kept,
//! and the others are forks of that. Which ones these are is found out by `prefix.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prefix;
use super::queue::Queue;
use crate::event::RunId;
use crate::plan::Run;
use crate::step::Performed;
use crate::vm::template::Template;

/// What a run shares with others.
#[derive(Debug, Clone, Default)]
pub(super) enum Share {
    /// Nothing; or what was to be shared could not be.
    #[default]
    Nothing,
    /// It plays the first steps, and its guest is kept after them.
    Leads(Group),
    /// It waits for the one in this group that does.
    Follows(usize),
    /// It goes on where that one's guest was kept.
    Forks(Arc<Kept>),
}

/// Runs that begin with the same steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// Its number.
    pub(super) number: usize,
    /// How many steps.
    pub(super) steps: usize,
    /// How many runs follow the first one.
    pub(super) followers: usize,
}

/// A guest that was kept in the middle of a run.
#[derive(Debug)]
pub(super) struct Kept {
    /// The guest.
    pub(super) template: Template,
    /// The run.
    pub(super) by: RunId,
    /// What came of the steps so far.
    pub(super) steps: Vec<Taken>,
}

/// `3 steps of tagged-replace on tags (x86_64)`.
impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} steps of {}", self.steps.len(), self.by)
    }
}

/// What came of a step, before anybody has compared it with anything.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    /// What was done.
    pub(super) done: Performed,
    /// The state after it, in the agent's words.
    pub(super) dump: String,
    /// Milliseconds that it took.
    pub(super) ms: u64,
}

/// How many runs there must be for each guest at the same time. With fewer, hardly a run waits for
/// a guest, and one that waited for another run instead would only end later.
const RUNS_PER_GUEST: usize = 2;

/// Who shares what.
pub(super) fn plan(runs: &[Run<'_>], jobs: usize) -> BTreeMap<RunId, Share> {
    let mut shares = BTreeMap::new();
    if runs.len() < RUNS_PER_GUEST * jobs {
        return shares;
    }
    let mut number = 0;
    for runs in runs.chunk_by(|a, b| (&a.kernel.name, a.arch) == (&b.kernel.name, b.arch)) {
        let scenarios: Vec<_> = runs.iter().map(|run| run.scenario).collect();
        for group in prefix::groups(&scenarios) {
            number += 1;
            let (leader, followers) = (group.runs[0], &group.runs[1..]);
            let leads = Share::Leads(Group {
                number,
                steps: group.steps,
                followers: followers.len(),
            });
            shares.insert(runs[leader].id(), leads);
            let follow = |&run: &usize| (runs[run].id(), Share::Follows(number));
            shares.extend(followers.iter().map(follow));
        }
    }
    shares
}

/// A leader's promise to say what becomes of its followers, which is also kept when it ends in any
/// other way: they play by themselves then.
pub(super) struct Promise<'a> {
    queue: &'a Queue,
    group: Group,
    kept: Option<Arc<Kept>>,
}

impl<'a> Promise<'a> {
    /// The promise of a run that leads.
    pub(super) fn of(share: &Share, queue: &'a Queue) -> Option<Self> {
        let Share::Leads(group) = *share else {
            return None;
        };
        Some(Self {
            queue,
            group,
            kept: None,
        })
    }

    /// Lets the followers go on from there.
    pub(super) fn keep(mut self, kept: Kept) {
        self.kept = Some(Arc::new(kept));
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.queue.decide(self.group, self.kept.take());
    }
}
