// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verdicts: how a run ended, who is to blame, and the evidence.

use serde::{Deserialize, Serialize};

use crate::error::{Blame, Error};
use crate::report::text::ends;
use crate::scenario::ExpectedFailure;
use crate::vm::accel::describe;
use crate::vm::args::MEMORY_MIB;
use crate::vm::console::Console;
use crate::vm::machine::Gone;
use crate::vm::splat::{Kind, Splat};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything as expected.
    Passed,
    /// As expected, but not at the first attempt.
    Flaky,
    /// An expectation or the snapshot does not hold.
    Failed,
    /// An expectation does not hold, just as the scenario says of this kernel.
    ExpectedFailure,
    /// Everything as expected, although the scenario says that it fails on this kernel.
    UnexpectedlyPassed,
    /// The guest's kernel panicked.
    Panicked,
    /// The guest's kernel complained: a warning, an oops, a lockup.
    Splat,
    /// The guest's machine was reset or switched itself off.
    Reset,
    /// The guest stopped answering.
    Hung,
    /// The guest wrote more to its console than anybody can read.
    Flooded,
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
            Outcome::Flaky => "flaky",
            Outcome::Failed => "failed",
            Outcome::ExpectedFailure => "expected failure",
            Outcome::UnexpectedlyPassed => "unexpectedly passed",
            Outcome::Panicked => "panicked",
            Outcome::Splat => "splat",
            Outcome::Reset => "reset",
            Outcome::Hung => "hung",
            Outcome::Flooded => "flooded",
            Outcome::StalledTransition => "stalled transition",
            Outcome::Infra => "could not run",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// A titled piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub title: String,
    /// Its lines.
    pub text: String,
}

/// What a kernel complained of, for programs: the evidence has its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// What it is about.
    pub kind: Kind,
    /// Its first line.
    pub title: String,
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

    /// The verdict on the problems of all steps, each with its step from 1, given what the
    /// scenario says of this kernel.
    ///
    /// A known defect must show: at its step, in its way, and nothing may go wrong before. What
    /// goes wrong afterwards is its consequence.
    pub fn of_problems(problems: &[(usize, String)], expected: &[&ExpectedFailure]) -> Self {
        let lines = || problems.iter().map(|(_, problem)| problem.clone());
        if expected.is_empty() {
            let mut verdict = Self::passed();
            if !problems.is_empty() {
                verdict = Self::against(Outcome::Failed, Blame::Kernel, "");
                verdict.reasons = lines().collect();
            }
            return verdict;
        }
        let reason = |failure: &ExpectedFailure| {
            format!("expected at step {}: {:?}", failure.step, failure.failure)
        };
        if problems.is_empty() {
            let mut verdict = Self::against(Outcome::UnexpectedlyPassed, Blame::File, "");
            verdict.reasons = expected.iter().map(|failure| reason(failure)).collect();
            return verdict.help(
                "if the kernel was mended, remove it from `expect_failure`; else the scenario \
                 does not show the defect any more",
            );
        }
        let shows = |failure: &ExpectedFailure| {
            let found = |(step, problem): &&(usize, String)| {
                *step == failure.step && problem.contains(&failure.failure)
            };
            problems.iter().find(found)
        };
        let first = problems[0].0;
        let known = expected.iter().any(|failure| failure.step == first);
        let missing: Vec<_> = expected.iter().filter(|f| shows(f).is_none()).collect();
        if !known || !missing.is_empty() {
            let mut verdict = Self::against(Outcome::Failed, Blame::Kernel, "");
            verdict.reasons = lines().collect();
            let missing = missing.iter().map(|failure| reason(failure));
            verdict.reasons.extend(missing);
            return verdict.help("it fails here, but not as its `expect_failure` says");
        }
        let mut verdict = Self::new(Outcome::ExpectedFailure, None, String::new(), 0);
        for failure in expected {
            verdict.reasons.push(failure.reason.clone());
            verdict
                .reasons
                .extend(shows(failure).map(|(_, problem)| problem.clone()));
        }
        verdict
    }

    /// Whether the guest may have more to say of what it does than it did.
    pub fn is_stuck(&self) -> bool {
        let kind = self.splat.as_ref().map(|splat| splat.kind);
        match self.outcome {
            Outcome::Hung => true,
            Outcome::Splat => {
                matches!(kind, Some(Kind::Lockup | Kind::HungTask | Kind::RcuStall))
            }
            _ => false,
        }
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
        flaky.help = Some(format!(
            "attempt 1 of {attempts} {}, the last one passed: look for a race before it is trusted",
            match first.outcome {
                Outcome::UnexpectedlyPassed => "passed unexpectedly",
                outcome => outcome.name(),
            }
        ));
        flaky
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
            splat: None,
            failing: None,
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
        let reason = format!("{at}, somebody entered its guest, which then ended");
        Self::new(Outcome::Cancelled, None, reason, 0)
    }

    /// The kernel complained.
    pub fn of_splat(splat: &Splat, during: &str) -> Self {
        let outcome = match splat.kind {
            _ if splat.fatal => Outcome::Panicked,
            Kind::LostMessages => Outcome::Flooded,
            _ => Outcome::Splat,
        };
        let blame = match splat.kind {
            Kind::OutOfMemory => Blame::Guest,
            _ => Blame::Kernel,
        };
        let mut verdict = Self::against(outcome, blame, format!("{during}: {}", splat.title));
        verdict.splat = Some(Complaint {
            kind: splat.kind,
            title: splat.title.clone(),
        });
        if blame == Blame::Guest {
            verdict = verdict.help(format!(
                "the guest has {MEMORY_MIB} MiB: a step or a livepatch asks for more"
            ));
        }
        verdict.with(
            &format!("what the kernel said ({})", splat.kind),
            &splat.text,
        )
    }

    /// What became of a guest, read from its console first: a panic explains a silence. Splats
    /// whose title has one of the `allowed` parts in it explain nothing.
    pub fn of_gone(gone: &Gone, during: &str, console: &Console, allowed: &[&str]) -> Self {
        let reason = format!("{during}: {}", describe(gone));
        let verdict = match (console.splat(allowed), gone) {
            (Some(splat), _) => Self::of_splat(&splat, during),
            (None, Gone::Panicked) => Self::against(Outcome::Panicked, Blame::Kernel, reason),
            (None, Gone::Reset(_)) => Self::against(Outcome::Reset, Blame::Kernel, reason)
                .help("a triple fault, or a call that resets the machine, leaves no word behind"),
            (None, Gone::Silent(_)) => Self::against(Outcome::Hung, Blame::Kernel, reason),
            (None, Gone::Flooded) => Self::against(Outcome::Flooded, Blame::Kernel, reason)
                .help("the record's console.log begins with what came before the flood"),
            (None, Gone::Qemu(_)) => Self::infra(&Error::host(reason).help(
                "the guest did not do this: look for who ended or stopped QEMU (out of memory? \
                 dmesg says so)",
            )),
            (None, Gone::Lost(_)) => Self::infra(&Error::new(Blame::Guest, reason).help(
                "the guest's kernel goes on and has not complained; its ssh server or the lab's \
                 agent has ended",
            )),
        };
        verdict.with("the console's last lines", &console.tail(25))
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

    fn outcome(problems: &[(usize, &str)], expected: &[(usize, &str)]) -> (Outcome, u8) {
        let problems: Vec<_> = problems
            .iter()
            .map(|(n, p)| (*n, (*p).to_owned()))
            .collect();
        let failure = |(step, failure): &(usize, &str)| ExpectedFailure {
            kernels: vec!["k".into()],
            step: *step,
            failure: (*failure).to_owned(),
            reason: "R1".into(),
        };
        let expected: Vec<_> = expected.iter().map(failure).collect();
        let verdict = Verdict::of_problems(&problems, &expected.iter().collect::<Vec<_>>());
        (verdict.outcome, verdict.exit_code)
    }

    #[test]
    fn a_known_defect_must_show_at_its_step_and_in_its_way() {
        let known = [(3, "stock is 20")];
        assert_eq!(
            outcome(&[(3, "step 3: stock is 20"), (5, "later")], &known),
            (Outcome::ExpectedFailure, 0)
        );
        assert_eq!(outcome(&[], &known), (Outcome::UnexpectedlyPassed, 1));
        for otherwise in [
            &[(3, "price is 10")][..],
            &[(4, "stock is 20")],
            &[(2, "before"), (3, "stock is 20")],
        ] {
            assert_eq!(outcome(otherwise, &known), (Outcome::Failed, 1));
        }
        let two = [(3, "stock is 20"), (5, "price is 10")];
        assert_eq!(outcome(&[(3, "stock is 20")], &two), (Outcome::Failed, 1));
    }

    #[test]
    fn without_known_defects_every_problem_fails_the_run() {
        assert_eq!(outcome(&[], &[]), (Outcome::Passed, 0));
        assert_eq!(outcome(&[(1, "x")], &[]), (Outcome::Failed, 1));
    }

    #[test]
    fn a_lost_connection_is_a_panic_if_the_console_says_so() {
        let text = "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n";
        let (_dir, console) = console(text);
        let verdict = Verdict::of_gone(&Gone::Silent("no answer".into()), "step 2", &console, &[]);
        assert_eq!(verdict.outcome, Outcome::Panicked);
        assert!(verdict.reasons[0].contains("Attempted to kill init"));
    }

    #[test]
    fn silence_without_a_word_on_the_console_is_a_hang() {
        let (_dir, console) = console("[    1.0] fine\n");
        let verdict = Verdict::of_gone(&Gone::Silent("no answer".into()), "step 2", &console, &[]);
        assert_eq!((verdict.outcome, verdict.exit_code), (Outcome::Hung, 1));
        assert_eq!(verdict.evidence[0].text, "[    1.0] fine");
    }
}
