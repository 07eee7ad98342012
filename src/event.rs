// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one stream of events that every report is made from.
//!
//! Whoever does work sends; `report/` alone receives. An event is serialised as one JSON object
//! with a `kind`; fields are only ever added.

use serde::Serialize;
use tokio::sync::mpsc;

use crate::arch::Arch;
use crate::runner::verdict::Verdict;

/// The identity of one run: a scenario on a kernel on an architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunId {
    /// The scenario's name.
    pub scenario: String,
    /// The kernel's name.
    pub kernel: String,
    /// The guest's architecture.
    pub arch: Arch,
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {} ({})", self.scenario, self.kernel, self.arch)
    }
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
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
    },
    /// Something the user should know, such as why KVM is not used.
    Note {
        /// One line.
        message: String,
    },
    /// What is going to run.
    Planned {
        /// Number of runs.
        runs: usize,
        /// What is left out, with the reason.
        skipped: Vec<(RunId, String)>,
    },
    /// A run begins.
    RunStarted {
        /// The run.
        run: RunId,
        /// Its record's folder.
        record: String,
    },
    /// The guest answers.
    Booted {
        /// The run.
        run: RunId,
        /// `kvm` or `tcg`.
        accel: String,
        /// Milliseconds from QEMU's start to the agent's first answer.
        ms: u64,
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
    /// A step ended.
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
    /// A run ended.
    RunFinished {
        /// The run.
        run: RunId,
        /// How.
        verdict: Verdict,
        /// Milliseconds.
        ms: u64,
        /// Its record's folder.
        record: String,
    },
}

/// An event with its time.
#[derive(Debug, Clone, Serialize)]
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
        self.finish(result.into(), true);
    }

    fn finish(&mut self, result: String, ok: bool) {
        self.finished = true;
        let ms = millis(self.started.elapsed());
        self.events.send(Event::PhaseFinished {
            id: self.id,
            result,
            ms,
            ok,
        });
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if !self.finished {
            self.finish(format!("failed: {}", self.what), false);
        }
    }
}

/// A duration in whole milliseconds.
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
