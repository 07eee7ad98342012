// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performing a step: what each kind has at hand for it, and what several do in the same way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::details::Transition;
use super::mistake::{Fails, Mistake};
use super::operations::{Answer, Host, Operations, Outcome, Silence, Unsettled};
use crate::error::Error;
use crate::klp::{Errno, FunctionRef, kernel_module_name};

/// How often something is looked at that is waited for.
pub(super) const POLL: Duration = Duration::from_millis(10);
/// There is no transition.
const ENOENT: i32 = 2;
/// A folder is opened like a file.
const EISDIR: i32 = 21;

/// What a step did.
#[derive(Debug, Clone, Default)]
pub struct Performed {
    /// What it found out, for the snapshot: an errno, what a file held.
    pub result: Option<String>,
    /// What was not as the step itself demands.
    pub problems: Vec<String>,
    /// The kernel lacks what the step requires, so it was not performed.
    pub skipped: bool,
    /// A livepatch whose transition did not end in time.
    pub stalled: Option<String>,
    /// The errnos with which it failed, whether or not it had to.
    pub errnos: Vec<i32>,
    /// A transition came to its end that had to stay open.
    pub completed: bool,
    /// Why the scenario's author is to blame for the problems, if the guest's answers alone show it.
    pub mistake: Option<Mistake>,
}

impl Performed {
    /// Whether it went as it did because of a mistake of the author's.
    #[must_use]
    pub fn shows(&self, mistake: &Mistake) -> bool {
        match mistake.fails {
            Fails::With(errno) => self.errnos.contains(&errno),
            Fails::Stalls => self.stalled.is_some(),
            Fails::Completes => self.completed,
            Fails::Seen => true,
        }
    }
}

/// The pids of the processes that a run has spawned, by their name.
pub type Spawned = BTreeMap<String, String>;

/// Why a step could not be performed to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The guest does not answer.
    Guest(Silence),
    /// Something on the host failed.
    Host(Error),
}

impl From<Silence> for Stopped {
    fn from(silence: Silence) -> Self {
        Self::Guest(silence)
    }
}

/// What a step is performed with.
pub(super) struct Stage<'a, G, H> {
    /// The guest.
    pub(super) guest: &'a G,
    /// The host.
    pub(super) host: &'a H,
    /// The processes so far.
    pub(super) spawned: &'a mut Spawned,
    /// How long what is waited for may take.
    pub(super) limit: Duration,
    /// What the step has done so far.
    pub(super) done: Performed,
}

/// The longest time between two looks that counts: an answer takes no longer from a guest that goes
/// on, and one that a debugger has stopped does not do what it is waited for.
const COUNTS: Duration = Duration::from_secs(2);

/// How long something is waited for that a guest shall do.
pub(super) struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            left: limit,
            looked: Instant::now(),
        }
    }

    pub(super) fn is_over(&mut self) -> bool {
        let since = self.looked.elapsed();
        self.looked = Instant::now();
        self.left = self.left.saturating_sub(since.min(COUNTS));
        self.left.is_zero()
    }
}

/// A file of a function's target; see `module/c/target.h`.
pub(super) fn target_file(function: &FunctionRef, name: &str) -> String {
    format!("/sys/kernel/debug/lab-{}/{name}", function.object)
}

/// An attribute of a livepatch in sysfs.
pub(super) fn attribute(livepatch: &str, name: &str) -> String {
    let module = kernel_module_name(livepatch);
    format!("/sys/kernel/livepatch/{module}/{name}")
}

impl<G: Operations, H: Host> Stage<'_, G, H> {
    /// Compares a system call's outcome with what must happen.
    pub(super) fn note(&mut self, outcome: Outcome, wanted: Option<Errno>, doing: &str) {
        if !outcome.is_ok() {
            self.done.result = Some(outcome.to_string());
            self.done.errnos.push(outcome.0);
        }
        match wanted {
            None if !outcome.is_ok() => self
                .done
                .problems
                .push(format!("{doing} failed: {outcome}")),
            Some(errno) if outcome.0 != errno.number() => {
                self.done
                    .problems
                    .push(format!("{doing} gave {outcome}, not {errno}"));
            }
            _ => {}
        }
    }

    /// Waits until the transition is as it must be. What failed has started none; another one
    /// may be held open.
    pub(super) async fn follow(&mut self, outcome: Outcome, transition: &Transition) -> Answer<()> {
        let limit = self.limit;
        if !outcome.is_ok() {
            return Ok(());
        }
        let function = match transition {
            Transition::None => return Ok(()),
            Transition::Completes => return self.settle().await,
            Transition::Held => None,
            Transition::HeldIn(function) => Some(function.as_str()),
        };
        let outcome = self.guest.held(function, limit).await?;
        if outcome.0 == ENOENT {
            let problem = "the transition completed, although a function is held";
            self.done.problems.push(problem.to_owned());
            self.done.completed = true;
        } else if !outcome.is_ok() {
            let problem = format!("not only held tasks keep the transition open for {limit:?}");
            self.done.problems.push(problem);
        }
        Ok(())
    }

    /// A folder cannot be read or written: says so.
    pub(super) fn note_folder(&mut self, outcome: Outcome, path: &str) {
        if outcome.0 == EISDIR {
            let what = format!("{path} is a folder");
            let help = "name a file in it; `stat:` looks at folders, too";
            self.done.mistake = Some(Mistake::new(what, Fails::With(EISDIR), help));
        }
    }

    /// What a file holds is what was wanted but for a newline at its end: says so.
    pub(super) fn note_newline(&mut self, found: &str, wanted: &str) {
        if found != wanted && found == wanted.trim_end_matches('\n') {
            let what = "`equals` leaves out the newline at a file's end".to_owned();
            let help = format!("write `equals: {found:?}`");
            self.done.mistake = Some(Mistake::new(what, Fails::Seen, help));
        }
    }

    /// Waits for the end of every transition, and of what comes after it.
    async fn settle(&mut self) -> Answer<()> {
        match self.guest.settle(self.limit).await? {
            // A forced livepatch keeps its reference: nothing to wait for.
            Ok(()) | Err(Unsettled::Reference(_)) => {}
            Err(Unsettled::Transition(livepatch)) => self.done.stalled = Some(livepatch),
            Err(Unsettled::Free(livepatch)) => {
                self.done
                    .problems
                    .push(format!("{livepatch} is disabled but was not freed"));
            }
        }
        Ok(())
    }
}
