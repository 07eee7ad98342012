// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one stream of events that every report is made from; docs/events.md describes it.
//!
//! Whoever does work sends; `report/` alone receives. An event is one JSON object with a `kind`;
//! within a version, fields and kinds are only ever added.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::arch::Arch;
use crate::size;
use crate::verdict::Verdict;

/// The version of the stream, which its first event carries.
pub const VERSION: u32 = 1;

/// The identity of one run: a scenario on a kernel on an architecture, with a number of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId {
    /// The scenario's name.
    pub scenario: String,
    /// The kernel's name.
    pub kernel: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// How many CPUs the guest has, if another number was chosen than it has by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u16>,
}

impl RunId {
    /// Its name for machines: `tagged-replace@tags.x86_64`, `tagged-replace@tags.x86_64.2cpus`.
    pub fn name(&self) -> String {
        format!("{}@{}.{}", self.scenario, self.kernel, self.machine_name())
    }

    /// What kind of guest it has, for machines: `x86_64`, `x86_64.2cpus`.
    pub fn machine_name(&self) -> String {
        match self.cpus {
            None => self.arch.to_string(),
            Some(cpus) => format!("{}.{cpus}cpus", self.arch),
        }
    }

    /// What kind of guest it has: `x86_64`, `x86_64, 2 CPUs`.
    pub fn machine(&self) -> String {
        match self.cpus {
            None => self.arch.to_string(),
            Some(cpus) => format!("{}, {}", self.arch, size::cpus(cpus)),
        }
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} on {} ({})",
            self.scenario,
            self.kernel,
            self.machine()
        )
    }
}

/// A run that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The run.
    pub run: RunId,
    /// Why.
    pub reason: String,
}

/// A way into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What it leads to: `shell`, `gdb`.
    pub name: String,
    /// The command.
    pub command: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// The lab begins. The first event of a stream.
    Started {
        /// [`VERSION`].
        version: u32,
        /// The lab's own version.
        lab: String,
        /// Its arguments.
        command: Vec<String>,
    },
    /// A piece of preparation begins: a fetch, a build.
    PhaseStarted {
        /// Which one; its other events carry the same number.
        id: u64,
        /// What is being done: `build kernel tags x86_64`.
        what: String,
    },
    /// A phase got on. Not every step of it is reported.
    PhaseProgress {
        /// The phase.
        id: u64,
        /// Units done.
        done: u64,
        /// Units in all, when known.
        total: Option<u64>,
        /// What is at hand, such as the file being compiled.
        detail: String,
    },
    /// A phase ended.
    PhaseFinished {
        /// The phase.
        id: u64,
        /// What was done, for people: `built kernel tags x86_64 (7.3.4)`.
        result: String,
        /// Milliseconds since it started.
        ms: u64,
        /// Whether it worked.
        ok: bool,
        /// The kernel that was built, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        built: Option<String>,
    },
    /// Something the user should know, such as why KVM is not used.
    Note {
        /// One line.
        message: String,
    },
    /// What is going to run.
    Planned {
        /// The runs.
        runs: Vec<RunId>,
        /// What is left out, with the reason.
        skipped: Vec<Skipped>,
        /// The runs that belong to other shards, for whoever joins the shards' results.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        elsewhere: Vec<RunId>,
        /// Guests at the same time, at most.
        jobs: usize,
        /// Whether a scenario that is skipped everywhere fails the command.
        #[serde(default, skip_serializing_if = "is_false")]
        every_scenario: bool,
    },
    /// An attempt at a run begins: its guest is started.
    RunStarted {
        /// The run.
        run: RunId,
        /// Which attempt, from 1.
        attempt: u32,
        /// Its record's folder.
        record: String,
    },
    /// The guest answers.
    Booted {
        /// The run.
        run: RunId,
        /// `kvm` or `tcg`.
        accel: String,
        /// Milliseconds from QEMU's start until the guest could be logged into, if it was started
        /// for this run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ready_ms: Option<u64>,
        /// Milliseconds from QEMU's start to the agent's first answer.
        ms: u64,
        /// The run that the guest has played just before, if it was not booted for this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<RunId>,
    },
    /// A step begins.
    StepStarted {
        /// The run.
        run: RunId,
        /// The step, from 1.
        step: usize,
        /// Steps in all.
        of: usize,
        /// What it does: `load pricing-v1`.
        label: String,
    },
    /// A step ended. The step at which a guest is lost has no such event.
    StepFinished {
        /// The run.
        run: RunId,
        /// The step, from 1.
        step: usize,
        /// Milliseconds.
        ms: u64,
        /// What was not as expected.
        problems: Vec<String>,
    },
    /// A run stops with its guest alive, until somebody tells it to go on.
    Paused {
        /// The run.
        run: RunId,
        /// The step that was played last, from 1; 0 before the first.
        step: usize,
        /// Steps in all.
        of: usize,
        /// The same in words: `after step 2 of 5 (load pricing-v1)`.
        at: String,
        /// Why: `--pause-at 2`, or what is not as expected.
        why: String,
        /// How to enter the guest, and how to go on.
        enter: Vec<Way>,
        /// Its record's folder.
        record: String,
    },
    /// A run goes on.
    Resumed {
        /// The run.
        run: RunId,
        /// Milliseconds that it was paused.
        ms: u64,
        /// Why: `Enter`, `lab continue`.
        why: String,
    },
    /// An attempt did not end as expected, and another one follows.
    AttemptFailed {
        /// The run.
        run: RunId,
        /// Which attempt, from 1.
        attempt: u32,
        /// How it ended.
        verdict: Verdict,
        /// Milliseconds.
        ms: u64,
        /// Its record's folder.
        record: String,
    },
    /// A run ended.
    RunFinished {
        /// The run.
        run: RunId,
        /// How.
        verdict: Verdict,
        /// Milliseconds of its last attempt.
        ms: u64,
        /// The folder of the record to look at.
        record: String,
    },
    /// A run will not be started after all.
    NotRun {
        /// The run.
        run: RunId,
        /// Why: `--fail-fast`.
        reason: String,
    },
    /// Every guest has ended.
    Ended {
        /// Milliseconds since the plan was made.
        ms: u64,
        /// The most guests that ran at the same time.
        guests: usize,
        /// The most memory in MiB that they and the lab took together at one time.
        memory_mib: u64,
    },
    /// A kind of a later lab.
    #[serde(other)]
    Unknown,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// RFC 3339, UTC.
    pub time: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// The sending end of the stream. Sending never waits and never fails: once nobody listens, the
/// command is over.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::UnboundedSender<Stamped>,
}

impl Events {
    /// A new stream.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Stamped>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Sends an event, stamped with the time; returns what was sent.
    pub fn send(&self, event: Event) -> Stamped {
        let stamped = Stamped {
            time: jiff::Timestamp::now().to_string(),
            event,
        };
        let _ = self.sender.send(stamped.clone());
        stamped
    }

    /// Tells the user something.
    pub fn note(&self, message: impl Into<String>) {
        self.send(Event::Note {
            message: message.into(),
        });
    }

    /// Begins a phase.
    pub fn phase(&self, what: impl Into<String>) -> Phase {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let what = what.into();
        self.send(Event::PhaseStarted {
            id,
            what: what.clone(),
        });
        Phase {
            events: self.clone(),
            id,
            what,
            started: std::time::Instant::now(),
            reported: None,
            finished: false,
        }
    }
}

/// A phase that is under way. Dropped without [`Phase::done`], it has failed.
#[derive(Debug)]
pub struct Phase {
    events: Events,
    id: u64,
    what: String,
    started: std::time::Instant,
    reported: Option<std::time::Instant>,
    finished: bool,
}

impl Phase {
    /// Reports progress, at most ten times a second.
    pub fn progress(&mut self, done: u64, total: Option<u64>, detail: &str) {
        let now = std::time::Instant::now();
        if self
            .reported
            .is_some_and(|last| now - last < std::time::Duration::from_millis(100))
        {
            return;
        }
        self.reported = Some(now);
        let detail = detail.to_owned();
        self.events.send(Event::PhaseProgress {
            id: self.id,
            done,
            total,
            detail,
        });
    }

    /// Ends the phase well.
    pub fn done(mut self, result: impl Into<String>) {
        self.finish(result.into(), true, None);
    }

    /// Ends the phase in which a kernel was built.
    pub fn built(mut self, kernel: &str, result: impl Into<String>) {
        self.finish(result.into(), true, Some(kernel.to_owned()));
    }

    fn finish(&mut self, result: String, ok: bool, built: Option<String>) {
        self.finished = true;
        let ms = millis(self.started.elapsed());
        self.events.send(Event::PhaseFinished {
            id: self.id,
            result,
            ms,
            ok,
            built,
        });
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if !self.finished {
            self.finish(format!("failed: {}", self.what), false, None);
        }
    }
}

/// A duration in whole milliseconds.
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
