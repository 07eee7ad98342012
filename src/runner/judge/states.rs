// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict on states that were held against a snapshot.

use crate::error::Blame;
use crate::state::older::{changed_steps, titles};
use crate::state::snapshot::Comparison;
use crate::state::snapshots::Standing;
use crate::state::{SnapshotPolicy, diff};
use crate::verdict::evidence::STATES_DIFFER;
use crate::verdict::{Outcome, Verdict};

/// The verdict on a run whose states were held against a snapshot, given that on its expectations.
pub(super) fn of_states(
    mut verdict: Verdict,
    standing: &Standing,
    policy: SnapshotPolicy,
    kernel: &str,
    observed: &str,
) -> Verdict {
    verdict.snapshot_of.clone_from(&standing.base);
    if standing.accepted {
        return verdict;
    }
    let acceptable = verdict.is_as_expected();
    let name = &standing.name;
    match &standing.comparison {
        Comparison::Same => return verdict,
        Comparison::Missing if acceptable => return new(&verdict, standing, policy, observed),
        Comparison::Missing => {}
        Comparison::Different(accepted) => {
            let changes = changed_steps(accepted, observed);
            let none = match standing.base {
                Some(_) => format!("; {kernel} has none of its own"),
                None => String::new(),
            };
            let (blame, reasons) = match &changes[..] {
                [] => (
                    Blame::Kernel,
                    vec![format!("the states differ from {name}{none}")],
                ),
                changes => (Blame::File, of_older_text(name, changes)),
            };
            if acceptable {
                verdict = Verdict {
                    snapshot_of: verdict.snapshot_of,
                    ..Verdict::against(Outcome::Failed, blame, "")
                };
            }
            verdict.reasons.extend(reasons);
            // The first step that differs is the cause of most that come after it.
            let difference = diff::render(accepted, observed);
            verdict = verdict.with(STATES_DIFFER, &diff::beginning(&difference, LINES_SHOWN));
            if acceptable {
                let help = what_next(policy, standing.base.as_ref().map(|_| kernel));
                return verdict.help(help);
            }
        }
    }
    if verdict.help.is_none() {
        verdict = verdict.help("the states after all steps are in the record: observed.txt");
    }
    verdict
}

/// The verdict on a run that is as expected, and whose states nobody has reviewed.
fn new(verdict: &Verdict, standing: &Standing, policy: SnapshotPolicy, observed: &str) -> Verdict {
    let how = match (verdict.outcome, titles(observed).len()) {
        (Outcome::ExpectedFailure, _) => "it fails as expected".to_owned(),
        (_, 1) => "its step is as expected".to_owned(),
        (_, steps) => format!("all {steps} steps as expected"),
    };
    let reason = format!("{how}; there is no snapshot {} yet", standing.name);
    let mut new = Verdict::new(Outcome::New, None, reason, 1);
    new.reasons.extend(verdict.reasons.iter().cloned());
    new.help(match policy {
        SnapshotPolicy::Review => "`lab review` shows the states and accepts them".to_owned(),
        _ => what_next(policy, None),
    })
}

/// What to do about states that are not those of the snapshot. `kernel`: the one that would get a
/// snapshot of its own.
fn what_next(policy: SnapshotPolicy, kernel: Option<&str>) -> String {
    match (policy, kernel) {
        (SnapshotPolicy::Fixed, _) => "what was observed is in the record: observed.txt".to_owned(),
        (SnapshotPolicy::ReadOnly, _) => "run it without CI=true, then `lab review`".to_owned(),
        (_, None) => {
            "if what was observed is right: `lab review` (or `cargo insta review`)".to_owned()
        }
        (_, Some(kernel)) => {
            format!("if that is right for {kernel}: `lab review` gives it a snapshot of its own")
        }
    }
}

/// So many lines of a difference are shown, so that a report fits a screen.
const LINES_SHOWN: usize = 30;
/// So many changes of a text are named.
const CHANGES_SHOWN: usize = 3;

/// That a snapshot has other steps than its scenario, line by line.
fn of_older_text(name: &str, changes: &[String]) -> Vec<String> {
    let mut lines = vec![format!("{name} is of an older text of this scenario:")];
    lines.extend(changes.iter().take(CHANGES_SHOWN).cloned());
    if let more @ 1.. = changes.len().saturating_sub(CHANGES_SHOWN) {
        lines.push(format!("and {more} more steps"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVED: &str = "step 1: load shop\n  call shop.price: 10\nstep 2: load v1\n  a\n";

    fn held(comparison: Comparison, base: Option<&str>) -> Standing {
        let kernel = base.unwrap_or("mine");
        Standing {
            comparison,
            accepted: false,
            name: format!("snapshots/s@{kernel}.snap"),
            base: base.map(str::to_owned),
        }
    }

    fn judged(verdict: Verdict, standing: &Standing, policy: SnapshotPolicy) -> Verdict {
        of_states(verdict, standing, policy, "mine", OBSERVED)
    }

    #[test]
    fn a_run_without_a_snapshot_is_new_and_shows_no_states() {
        let missing = held(Comparison::Missing, None);
        let verdict = judged(Verdict::passed(), &missing, SnapshotPolicy::Review);
        let found = (verdict.outcome, verdict.blame, verdict.exit_code);
        assert_eq!(found, (Outcome::New, None, 1));
        assert_eq!(
            verdict.reasons,
            ["all 2 steps as expected; there is no snapshot snapshots/s@mine.snap yet"]
        );
        assert_eq!(verdict.evidence, []);
        assert!(verdict.help.unwrap().contains("`lab review`"));
        let ci = judged(Verdict::passed(), &missing, SnapshotPolicy::ReadOnly);
        assert!(ci.help.unwrap().contains("without CI=true"));
        let known = Verdict::new(Outcome::ExpectedFailure, None, "R1".into(), 0);
        let known = judged(known, &missing, SnapshotPolicy::Review);
        assert_eq!(known.outcome, Outcome::New);
        assert!(known.reasons[0].starts_with("it fails as expected; ") && known.reasons[1] == "R1");
    }

    #[test]
    fn what_breaks_an_expectation_is_not_for_a_review() {
        let different = Comparison::Different(OBSERVED.replace("10", "11"));
        for comparison in [Comparison::Missing, different] {
            let failed = Verdict::against(Outcome::Failed, Blame::Kernel, "step 1: x");
            let standing = held(comparison, None);
            let verdict = judged(failed, &standing, SnapshotPolicy::Review);
            assert_eq!(verdict.reasons[0], "step 1: x");
            let help = verdict.help.unwrap();
            assert!(
                !help.contains("review") && help.contains("observed.txt"),
                "{help}"
            );
        }
    }

    #[test]
    fn a_kernel_is_told_whose_snapshot_it_was_held_against() {
        let same = held(Comparison::Same, Some("tags"));
        let verdict = judged(Verdict::passed(), &same, SnapshotPolicy::Review);
        assert_eq!(verdict.outcome, Outcome::Passed);
        assert_eq!(verdict.snapshot_of.as_deref(), Some("tags"));
        let differs = Comparison::Different(OBSERVED.replace("10", "11"));
        let differs = held(differs, Some("tags"));
        let verdict = judged(Verdict::passed(), &differs, SnapshotPolicy::Review);
        let found = (verdict.outcome, verdict.blame);
        assert_eq!(found, (Outcome::Failed, Some(Blame::Kernel)));
        assert_eq!(
            verdict.reasons,
            ["the states differ from snapshots/s@tags.snap; mine has none of its own"]
        );
        assert_eq!(verdict.snapshot_of.as_deref(), Some("tags"));
        assert!(verdict.help.unwrap().contains("a snapshot of its own"));
    }

    #[test]
    fn a_snapshot_of_an_older_text_is_the_files_fault_and_not_the_kernels() {
        let older = Comparison::Different(OBSERVED.replace("load v1", "load v0"));
        let verdict = judged(
            Verdict::passed(),
            &held(older, None),
            SnapshotPolicy::Review,
        );
        let found = (verdict.outcome, verdict.blame);
        assert_eq!(found, (Outcome::Failed, Some(Blame::File)));
        assert_eq!(
            verdict.reasons,
            [
                "snapshots/s@mine.snap is of an older text of this scenario:",
                "step 2 was `load v0`, is `load v1`"
            ]
        );
        assert!(verdict.help.unwrap().contains("`lab review`"));
    }
}
