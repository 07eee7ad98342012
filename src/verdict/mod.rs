// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verdicts: how a run ended, who is to blame, and the evidence. Data alone: the runner judges.

pub mod evidence;
mod outcome;
mod problem;
mod splat;

use serde::{Deserialize, Serialize};

use crate::error::{Blame, Error};
use evidence::ends;

pub use evidence::Evidence;
pub use outcome::Outcome;
pub use problem::Problem;
pub use splat::SplatKind;

/// What a kernel complained of, for programs: the evidence has its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// What it is about.
    pub kind: SplatKind,
    /// Its first line, and the code that it is about.
    pub title: String,
    /// The function that it is about, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Where a run failed, and what was not as expected there, for programs: the reasons have both in
/// words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The step, from 1; 0 while the guest boots, and one more than there are after the last step.
    pub step: usize,
    /// What the step does: `load pricing-v1`.
    pub label: String,
    /// The first thing that was not as expected; empty if the guest was lost in the step.
    pub problem: String,
}

/// How a run ended, with all that a report needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Who is to blame.
    pub blame: Option<Blame>,
    /// The kernel's complaint that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splat: Option<Complaint>,
    /// Where it failed, unless only its states differ from the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// What was not as expected, step by step, for programs: the reasons have it in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// The kernel whose snapshot its states were held against, if its own kernel has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_of: Option<String>,
    /// What happened, line by line; empty if it passed.
    pub reasons: Vec<String>,
    /// What shows it.
    pub evidence: Vec<Evidence>,
    /// What to do next.
    pub help: Option<String>,
    /// The exit code that this verdict asks for.
    pub exit_code: u8,
}

impl Verdict {
    /// Everything as expected.
    pub fn passed() -> Self {
        Self::new(Outcome::Passed, None, String::new(), 0)
    }

    /// Whether the guest may have more to say of what it does than it did.
    pub fn is_stuck(&self) -> bool {
        let kind = self.splat.as_ref().map(|splat| splat.kind);
        match self.outcome {
            Outcome::Hung | Outcome::TimedOut => true,
            Outcome::Splat => kind.is_some_and(SplatKind::is_stall),
            _ => false,
        }
    }

    /// Whether the emulator made what the kernel complains of. Nothing else of the host's has the
    /// kernel's words.
    pub fn is_emulators(&self) -> bool {
        self.outcome == Outcome::Infra && self.splat.is_some()
    }

    /// Whether it ended as the scenario says, at whichever attempt: exit code 0.
    pub fn is_as_expected(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Passed | Outcome::ExpectedFailure | Outcome::Flaky
        )
    }

    /// The verdict on a run that ended as expected after attempts that did not: what the first of
    /// them showed is kept, for a run that passes now and then is no pass.
    #[must_use]
    pub fn flaky(first: &Self, attempts: u32) -> Self {
        let mut flaky = first.clone();
        flaky.outcome = Outcome::Flaky;
        flaky.exit_code = 0;
        let attempt = |reason: &String| format!("attempt 1 of {attempts}: {reason}");
        flaky.reasons = first.reasons.iter().map(attempt).collect();
        let how = match first.outcome {
            Outcome::UnexpectedlyPassed => "passed unexpectedly",
            outcome => outcome.name(),
        };
        let next = match first.outcome {
            Outcome::TimedOut => "it needs more time than --timeout now and then",
            _ => "look for a race before it is trusted",
        };
        flaky.help = Some(format!(
            "attempt 1 of {attempts} {how}, the last one passed: {next}"
        ));
        flaky
    }

    /// A verdict on the kernel under test or the scenario.
    pub fn against(outcome: Outcome, blame: Blame, reason: impl Into<String>) -> Self {
        Self::new(outcome, Some(blame), reason.into(), 1)
    }

    /// A verdict with one reason, or none if it is empty.
    pub fn new(outcome: Outcome, blame: Option<Blame>, reason: String, exit_code: u8) -> Self {
        let reasons = if reason.is_empty() {
            Vec::new()
        } else {
            vec![reason]
        };
        Self {
            outcome,
            blame,
            splat: None,
            failing: None,
            problems: Vec::new(),
            snapshot_of: None,
            reasons,
            evidence: Vec::new(),
            help: None,
            exit_code,
        }
    }

    /// The lab could not get as far as a verdict.
    pub fn infra(error: &Error) -> Self {
        let outcome = match error.blame {
            Blame::Interrupted => Outcome::Cancelled,
            _ => Outcome::Infra,
        };
        let reason = error.what.clone();
        let mut verdict = Self::new(outcome, Some(error.blame), reason, error.exit_code());
        verdict.help.clone_from(&error.help);
        verdict.with("details", &error.evidence.join("\n"))
    }

    /// Somebody has entered the guest in place of the rest: that is no verdict on the kernel.
    pub fn left(at: &str) -> Self {
        let reason = format!("{at}, a visitor entered its guest, which then ended");
        Self::new(Outcome::Cancelled, None, reason, 0)
    }

    /// Adds evidence, unless it is empty. Of a long one its middle is left out: an event is one line,
    /// which has to be read back, and the record has all of it.
    #[must_use]
    pub fn with(mut self, title: &str, text: &str) -> Self {
        if !text.trim().is_empty() {
            let text = ends(text.trim_end().to_owned());
            self.evidence.push(Evidence {
                title: title.to_owned(),
                text,
            });
        }
        self
    }

    /// Adds what to do next, unless that is known already.
    #[must_use]
    pub fn or_help(self, help: impl Into<String>) -> Self {
        match self.help {
            Some(_) => self,
            None => self.help(help),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
