// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict on an attempt: what the scenario says of its kernel, the expectations, the snapshot.

use super::run::{Attempt, Played};
use super::steps;
use super::verdict::{Failing, Outcome, Verdict};
use crate::error::{Blame, Result};
use crate::scenario::ExpectedFailure;
use crate::state::observed::run_text;
use crate::state::snapshot::Comparison;
use crate::state::{SnapshotPolicy, diff};

impl Attempt<'_> {
    /// Where the run failed.
    pub(super) fn failing(
        &self,
        verdict: &Verdict,
        played: &Played,
        booted: bool,
    ) -> Option<Failing> {
        let steps = &self.of.scenario.steps;
        if let Some((number, problem)) = played.problems.first() {
            let step = &steps[number - 1];
            let at = steps::at(step, *number) + ": ";
            return Some(Failing {
                step: *number,
                label: step.action.label(),
                problem: problem.strip_prefix(&at).unwrap_or(problem).to_owned(),
            });
        }
        if matches!(
            verdict.outcome,
            Outcome::Passed | Outcome::UnexpectedlyPassed | Outcome::Failed | Outcome::Cancelled
        ) {
            return None;
        }
        let (step, label) = match (booted, steps.get(played.states.len())) {
            (false, _) => (0, "booting".to_owned()),
            (true, Some(step)) => (played.states.len() + 1, step.action.label()),
            (true, None) => (steps.len() + 1, "after the last step".to_owned()),
        };
        Some(Failing {
            step,
            label,
            problem: String::new(),
        })
    }

    /// Parts of the titles of splats that the scenario allows.
    pub(super) fn allowed(&self) -> Vec<&str> {
        let all = self.of.scenario.allow_splats.iter();
        all.map(|splat| splat.title.as_str()).collect()
    }

    /// What the scenario says of this kernel.
    pub(super) fn expected_failures(&self) -> Vec<&ExpectedFailure> {
        let all = self.of.scenario.expect_failure.iter();
        all.filter(|failure| failure.kernels.contains(&self.of.run.kernel))
            .collect()
    }

    /// A stalled transition ends a run early, and may be a known defect all the same.
    pub(super) fn known(&self, verdict: Verdict, played: &Played) -> Verdict {
        if verdict.outcome != Outcome::StalledTransition {
            return verdict;
        }
        let known = Verdict::of_problems(&played.problems, &self.expected_failures());
        match known.outcome {
            Outcome::ExpectedFailure => known,
            _ => verdict,
        }
    }

    /// The verdict on a run that reached its end: expectations first, then the snapshot.
    pub(super) fn judge(&self, played: &Played) -> Result<Verdict> {
        let observed = run_text(&played.states);
        self.record.write("observed.txt", &observed)?;
        let mut verdict = Verdict::of_problems(&played.problems, &self.expected_failures());
        let snapshots = &self.of.options.snapshots;
        if snapshots.policy() == SnapshotPolicy::Ignore {
            return Ok(verdict);
        }
        // What breaks an expectation is not accepted unseen.
        let (scope, acceptable) = (self.of.scenario.snapshot, verdict.is_as_expected());
        let standing = snapshots.observe(&self.of.run, scope, &observed, acceptable)?;
        let accepted = match &standing.comparison {
            Comparison::Same => return Ok(verdict),
            Comparison::Missing => "",
            Comparison::Different(accepted) => accepted,
        };
        if let Comparison::Different(accepted) = &standing.comparison {
            self.record.write("accepted.txt", accepted)?;
        }
        let difference = diff::render(accepted, &observed);
        self.record.write("diff.txt", &difference)?;
        if standing.accepted {
            return Ok(verdict);
        }
        // All states of a first run would bury what went wrong in it.
        if let (Comparison::Missing, Some((number, _))) =
            (&standing.comparison, played.problems.first())
            && !acceptable
        {
            let (_, state) = &played.states[number - 1];
            let title = format!("the state after step {number}");
            let verdict = verdict.with(&title, &state.text());
            return Ok(verdict.help("the states after all steps are in the record: observed.txt"));
        }
        let name = standing.name;
        let (blame, reason) = match standing.comparison {
            Comparison::Missing => (Blame::File, format!("there is no snapshot {name} yet")),
            _ => (Blame::Kernel, format!("the states differ from {name}")),
        };
        if verdict.is_as_expected() {
            verdict = Verdict::against(Outcome::Failed, blame, reason);
        } else {
            verdict.reasons.push(reason);
        }
        verdict = verdict.with("states by step (- accepted, + observed)", &difference);
        Ok(verdict.help(match snapshots.policy() {
            SnapshotPolicy::Fixed => "what was observed is in the record: observed.txt",
            SnapshotPolicy::ReadOnly => "run it without CI=true, then `lab review`",
            _ => "if what was observed is right: `lab review` (or `cargo insta review`)",
        }))
    }
}
