// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an author can get wrong in a step, as data.

use crate::klp::FunctionRef;

/// Something that an author got wrong: the kernel cannot do what a step says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong: "shop is not loaded".
    pub what: String,
    /// The step that made it so, from 1, and what it did: "unloaded".
    pub since: Option<(usize, &'static str)>,
    /// What would be right.
    pub help: String,
    /// What of the step is meant.
    pub subject: Subject,
    /// How it shows.
    pub fails: Fails,
    /// Whether it is one on every kernel, so that nothing needs to boot.
    pub is_certain: bool,
}

/// A part of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// What it does.
    Action,
    /// An item of what it does, from 0.
    Item(usize),
    /// A function that it expects to answer.
    Call(FunctionRef),
}

/// How a mistake shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fails {
    /// The step fails with this errno.
    With(i32),
    /// A transition does not end.
    Stalls,
    /// A transition ends that must not.
    Completes,
    /// It is seen in what came of the step, and nothing else.
    Seen,
}

impl Mistake {
    /// A mistake in what a step does.
    pub(crate) fn new(what: String, fails: Fails, help: impl Into<String>) -> Self {
        Self {
            what,
            since: None,
            help: help.into(),
            subject: Subject::Action,
            fails,
            is_certain: true,
        }
    }

    /// The step that made it so, and what it did; 0 if none did.
    #[must_use]
    pub(crate) fn since(mut self, step: usize, did: &'static str) -> Self {
        self.since = (step > 0).then_some((step, did));
        self
    }

    /// It is none on some kernel that may come.
    #[must_use]
    pub(crate) fn uncertain(mut self) -> Self {
        self.is_certain = false;
        self
    }

    /// It is about a part of the step.
    #[must_use]
    pub(crate) fn of(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// "fix is loaded already (step 2)".
    #[must_use]
    pub fn told(&self) -> String {
        match self.since {
            // What is held is said with its step.
            Some(_) if self.fails == Fails::Stalls => self.what.clone(),
            Some((step, did)) if self.what.contains(&format!(" {did}")) => {
                format!("{} (step {step})", self.what)
            }
            Some((step, did)) => format!("{} ({did} in step {step})", self.what),
            None => self.what.clone(),
        }
    }
}
