// SPDX-License-Identifier: MIT OR Apache-2.0
//! What judges: of an attempt, what the scenario says of its kernel, the expectations and the
//! snapshot; of a guest, what its kernel said and what became of it.

mod guest;
mod problems;
mod states;

use super::attempt::{Attempt, Played};
use crate::error::Result;
use crate::scenario::ExpectedFailure;
use crate::state::SnapshotPolicy;
use crate::state::diff;
use crate::state::observed::run_text;
use crate::state::snapshot::{Comparison, Subject, file_of};
use crate::verdict::{Failing, Outcome, Verdict};
pub use guest::{as_executed, of_gone, of_splat};
pub(super) use guest::{of_limit, of_silent_splat, with_earlier};
pub(super) use problems::is_known;
use problems::of_problems;
use states::of_states;

impl Attempt<'_> {
    /// Where the run failed.
    pub(in crate::runner) fn failing(
        &self,
        verdict: &Verdict,
        played: &Played,
        booted: bool,
    ) -> Option<Failing> {
        let steps = &self.of.scenario.steps;
        if let Some(first) = played.problems.first() {
            return Some(Failing {
                step: first.step,
                label: first.label.clone(),
                problem: first.what.clone(),
            });
        }
        if matches!(
            verdict.outcome,
            Outcome::Passed
                | Outcome::New
                | Outcome::UnexpectedlyPassed
                | Outcome::Failed
                | Outcome::Cancelled
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
    pub(in crate::runner) fn allowed(&self) -> Vec<&str> {
        let all = self.of.scenario.allow_splats.iter();
        all.map(|splat| splat.title.as_str()).collect()
    }

    /// What the scenario says of this kernel.
    pub(in crate::runner) fn expected_failures(&self) -> Vec<&ExpectedFailure> {
        let all = self.of.scenario.expect_failure.iter();
        all.filter(|failure| failure.kernels.contains(&self.of.run.kernel))
            .collect()
    }

    /// A stalled transition ends a run early, and may be a known defect all the same.
    pub(in crate::runner) fn known(&self, verdict: Verdict, played: &Played) -> Verdict {
        if verdict.outcome != Outcome::StalledTransition {
            return verdict;
        }
        let known = of_problems(&played.problems, &self.expected_failures());
        match known.outcome {
            Outcome::ExpectedFailure => known,
            _ => verdict,
        }
    }

    /// The verdict on a run that reached its end: expectations first, then the snapshot.
    pub(in crate::runner) fn judge(&self, played: &Played) -> Result<Verdict> {
        let observed = run_text(&played.states);
        self.record.write("observed.txt", &observed)?;
        let mut verdict = of_problems(&played.problems, &self.expected_failures());
        let snapshots = &self.of.options.snapshots;
        if snapshots.policy() == SnapshotPolicy::Ignore {
            return Ok(verdict);
        }
        // What breaks an expectation is not accepted unseen.
        let acceptable = verdict.is_as_expected();
        let confirmed = acceptable && self.is_confirmed(&observed);
        let subject = Subject {
            run: &self.of.run,
            file: &file_of(&self.of.scenario),
            scope: self.of.scenario.snapshot,
            bases: &self.of.bases,
        };
        let standing = snapshots.observe(&subject, &observed, confirmed)?;
        let accepted = match &standing.comparison {
            Comparison::Same => None,
            Comparison::Missing => Some(""),
            Comparison::Different(accepted) => {
                self.record.write("accepted.txt", accepted)?;
                Some(&**accepted)
            }
        };
        if let Some(accepted) = accepted {
            let difference = diff::render(accepted, &observed);
            self.record.write("diff.txt", &difference)?;
        }
        let is_first = standing.comparison == Comparison::Missing && !verdict.is_as_expected();
        if let Some(first) = played.problems.first().filter(|_| is_first) {
            // All states of a first run would bury what went wrong in it.
            let (_, state) = &played.states[first.step - 1];
            let title = format!("the state after step {}", first.step);
            verdict = verdict.with(&title, &state.text());
        }
        let kernel = &self.of.run.kernel;
        Ok(of_states(
            verdict,
            &standing,
            snapshots.policy(),
            kernel,
            &observed,
        ))
    }
}
