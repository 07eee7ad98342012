// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verdicts: how a run ended, who is to blame, and the evidence.

use serde::Serialize;

use crate::error::{Blame, Error};
use crate::vm::accel::describe;
use crate::vm::console::Console;
use crate::vm::machine::Gone;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything as expected.
    Passed,
    /// An expectation or the snapshot does not hold.
    Failed,
    /// The guest's kernel panicked.
    Panicked,
    /// The guest's kernel complained: a warning, an oops.
    Splat,
    /// The guest stopped answering.
    Hung,
    /// A transition did not end in time.
    StalledTransition,
    /// The lab could not get as far as a verdict on the kernel.
    Infra,
    /// The user pressed Ctrl-C.
    Cancelled,
}

impl Outcome {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Panicked => "panicked",
            Outcome::Splat => "splat",
            Outcome::Hung => "hung",
            Outcome::StalledTransition => "stalled transition",
            Outcome::Infra => "could not run",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// A titled piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What it is.
    pub title: String,
    /// Its lines.
    pub text: String,
}

/// How a run ended, with all that a report needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Who is to blame.
    pub blame: Option<Blame>,
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

    /// A verdict on the kernel under test or the scenario.
    pub fn against(outcome: Outcome, blame: Blame, reason: impl Into<String>) -> Self {
        Self::new(outcome, Some(blame), reason.into(), 1)
    }

    fn new(outcome: Outcome, blame: Option<Blame>, reason: String, exit_code: u8) -> Self {
        let reasons = if reason.is_empty() {
            Vec::new()
        } else {
            vec![reason]
        };
        Self {
            outcome,
            blame,
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

    /// What became of a guest, read from its console first: a panic explains a silence.
    pub fn of_gone(gone: &Gone, during: &str, console: &Console) -> Self {
        let splat = console.splat();
        let (outcome, reason) = match (&splat, gone) {
            (Some(splat), _) if splat.fatal => (Outcome::Panicked, splat.title.clone()),
            (_, Gone::Panicked) => (Outcome::Panicked, describe(gone)),
            (Some(splat), _) => (Outcome::Splat, splat.title.clone()),
            (None, _) => (Outcome::Hung, describe(gone)),
        };
        let mut verdict = Self::against(outcome, Blame::Kernel, format!("{during}: {reason}"));
        if let Some(splat) = splat {
            verdict = verdict.with("what the kernel said", &splat.text);
        }
        verdict.with("the console's last lines", &console.tail(25))
    }

    /// Adds evidence, unless it is empty.
    #[must_use]
    pub fn with(mut self, title: &str, text: &str) -> Self {
        if !text.trim().is_empty() {
            let text = text.trim_end().to_owned();
            self.evidence.push(Evidence {
                title: title.to_owned(),
                text,
            });
        }
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> (tempfile::TempDir, Console) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, text).unwrap();
        (dir, Console::new(path))
    }

    #[test]
    fn a_lost_connection_is_a_panic_if_the_console_says_so() {
        let text = "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n";
        let (_dir, console) = console(text);
        let verdict = Verdict::of_gone(&Gone::Silent("no answer".into()), "step 2", &console);
        assert_eq!(verdict.outcome, Outcome::Panicked);
        assert!(verdict.reasons[0].contains("Attempted to kill init"));
    }

    #[test]
    fn silence_without_a_word_on_the_console_is_a_hang() {
        let (_dir, console) = console("[    1.0] fine\n");
        let verdict = Verdict::of_gone(&Gone::Silent("no answer".into()), "step 2", &console);
        assert_eq!((verdict.outcome, verdict.exit_code), (Outcome::Hung, 1));
        assert_eq!(verdict.evidence[0].text, "[    1.0] fine");
    }
}
