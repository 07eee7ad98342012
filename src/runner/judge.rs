// SPDX-License-Identifier: MIT OR Apache-2.0
//! What judges: of an attempt, what the scenario says of its kernel, the expectations and the
//! snapshot; of a guest, what its kernel said and what became of it.

use super::attempt::{Attempt, Played};
use crate::error::{Blame, Error, Result};
use crate::scenario::ExpectedFailure;
use crate::state::observed::run_text;
use crate::state::older::{changed_steps, titles};
use crate::state::snapshot::{Comparison, Subject, file_of};
use crate::state::snapshots::Standing;
use crate::state::{SnapshotPolicy, diff};
use crate::verdict::evidence::STATES_DIFFER;
use crate::verdict::{Complaint, Failing, Outcome, Problem, SplatKind, Verdict};
use crate::vm::accel::describe;
use crate::vm::console::Console;
use crate::vm::machine::Gone;
use crate::vm::splat::Splat;

impl Attempt<'_> {
    /// Where the run failed.
    pub(super) fn failing(
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
        let known = of_problems(&played.problems, &self.expected_failures());
        match known.outcome {
            Outcome::ExpectedFailure => known,
            _ => verdict,
        }
    }

    /// The verdict on a run that reached its end: expectations first, then the snapshot.
    pub(super) fn judge(&self, played: &Played) -> Result<Verdict> {
        let observed = run_text(&played.states);
        self.record.write("observed.txt", &observed)?;
        let mut verdict = of_problems(&played.problems, &self.expected_failures());
        let snapshots = &self.of.options.snapshots;
        if snapshots.policy() == SnapshotPolicy::Ignore {
            return Ok(verdict);
        }
        // What breaks an expectation is not accepted unseen.
        let acceptable = verdict.is_as_expected();
        let subject = Subject {
            run: &self.of.run,
            file: &file_of(&self.of.scenario),
            scope: self.of.scenario.snapshot,
            bases: &self.of.bases,
        };
        let standing = snapshots.observe(&subject, &observed, acceptable)?;
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

/// The verdict on a run whose states were held against a snapshot, given that on its expectations.
fn of_states(
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

/// The verdict on the problems of all steps, given what the scenario says of this kernel.
///
/// A known defect must show: at its step, in its way, and nothing may go wrong before. What
/// goes wrong afterwards is its consequence.
pub(super) fn of_problems(problems: &[Problem], expected: &[&ExpectedFailure]) -> Verdict {
    let lines = || problems.iter().map(Problem::to_string);
    if expected.is_empty() {
        let mut verdict = Verdict::passed();
        if !problems.is_empty() {
            verdict = Verdict::against(Outcome::Failed, Blame::Kernel, "");
            verdict.reasons = lines().collect();
        }
        return verdict;
    }
    let reason = |failure: &ExpectedFailure| {
        format!("expected at step {}: {:?}", failure.step, failure.failure)
    };
    if problems.is_empty() {
        let mut verdict = Verdict::against(Outcome::UnexpectedlyPassed, Blame::File, "");
        verdict.reasons = expected.iter().map(|failure| reason(failure)).collect();
        return verdict.help(
            "if the kernel was fixed, remove it from `expect_failure`; otherwise the scenario no \
             longer shows the defect",
        );
    }
    let shows = |failure: &ExpectedFailure| problems.iter().find(|it| is_known(it, failure));
    let first = problems[0].step;
    let known = expected.iter().any(|failure| failure.step == first);
    let missing: Vec<_> = expected.iter().filter(|f| shows(f).is_none()).collect();
    if !known || !missing.is_empty() {
        let mut verdict = Verdict::against(Outcome::Failed, Blame::Kernel, "");
        verdict.reasons = lines().collect();
        let missing = missing.iter().map(|failure| reason(failure));
        verdict.reasons.extend(missing);
        return verdict.help("it fails here, but not as `expect_failure` describes");
    }
    let mut verdict = Verdict::new(Outcome::ExpectedFailure, None, String::new(), 0);
    for failure in expected {
        verdict.reasons.push(failure.reason.clone());
        verdict
            .reasons
            .extend(shows(failure).map(Problem::to_string));
    }
    verdict
}

/// Whether a problem is the failure that a scenario expects. The step's label is not searched: it
/// would accept any failure of the step.
pub(super) fn is_known(problem: &Problem, failure: &ExpectedFailure) -> bool {
    problem.step == failure.step && problem.what.contains(&failure.failure)
}

/// The kernel complained.
pub fn of_splat(splat: &Splat, during: &str) -> Verdict {
    let outcome = match splat.kind {
        _ if splat.fatal => Outcome::Panicked,
        SplatKind::LostMessages => Outcome::Flooded,
        _ => Outcome::Splat,
    };
    let blame = match splat.kind {
        SplatKind::OutOfMemory => Blame::Guest,
        _ => Blame::Kernel,
    };
    let mut verdict = Verdict::against(outcome, blame, format!("{during}: {}", splat.title));
    verdict.splat = Some(Complaint {
        kind: splat.kind,
        title: splat.title.clone(),
        code: splat.code.clone(),
    });
    if blame == Blame::Guest {
        verdict = verdict.help(MORE_MEMORY);
    }
    verdict.with(
        &format!("what the kernel said ({})", splat.kind),
        &splat.text,
    )
}

/// A guest has fallen silent, and its memory has the kernel's complaint, which its console has not.
pub(super) fn of_silent_splat(silence: Verdict, splat: &Splat) -> Verdict {
    let mut verdict = of_splat(splat, NOT_WRITTEN);
    verdict.reasons.extend(silence.reasons);
    verdict.evidence.extend(silence.evidence);
    verdict
}

/// Where a complaint is that nobody has written to the console.
const NOT_WRITTEN: &str = "in the kernel's log, not on its console";
/// What to do with a guest that had too little memory.
const MORE_MEMORY: &str =
    "a step or a livepatch needs more memory: --memory 1G, or `machine: { memory: 1G }`";

/// What became of a guest, read from its console first: a panic explains a silence. Splats
/// whose title has one of the `allowed` parts in it explain nothing.
pub fn of_gone(gone: &Gone, during: &str, console: &Console, allowed: &[&str]) -> Verdict {
    let reason = format!("{during}: {}", describe(gone));
    let splat = console.splat(allowed);
    // A kernel that gets no time takes that for a stall of its own.
    let splat = splat.filter(|it| !it.kind.is_stall() || !matches!(gone, Gone::Starved(_)));
    let mut verdict = match (splat, gone) {
        (Some(splat), _) => of_splat(&splat, during),
        (None, Gone::Panicked) => Verdict::against(Outcome::Panicked, Blame::Kernel, reason),
        (None, Gone::Reset(_)) => Verdict::against(Outcome::Reset, Blame::Kernel, reason)
            .help("a triple fault, or a call that resets the machine, leaves no message"),
        (None, Gone::Silent(_)) => Verdict::against(Outcome::Hung, Blame::Kernel, reason),
        (None, Gone::Flooded) => Verdict::against(Outcome::Flooded, Blame::Kernel, reason)
            .help("the record's console.log begins with the messages before the flood"),
        (None, Gone::Qemu(_)) => Verdict::infra(&Error::host(reason).help(
            "the guest did not cause this: find out what ended or stopped QEMU (out of memory? \
                 see dmesg)",
        )),
        (None, Gone::Starved(_)) => Verdict::infra(&Error::host(reason).help(
            "the guest did not cause this: run fewer guests at once (--jobs 1), or on a host with time",
        )),
        (None, Gone::Lost(_)) => Verdict::infra(&Error::new(Blame::Guest, reason).help(
            "the guest's kernel is alive without a splat; its ssh server or the lab's agent has ended",
        )),
    };
    let lines = verdict.reasons.iter().flat_map(|reason| reason.lines());
    verdict.reasons = lines.map(str::to_owned).collect();
    verdict.with("the console's last lines", &console.tail(25))
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
            .map(|&(step, what)| Problem {
                step,
                line: 9,
                label: "load pricing-v2".into(),
                what: what.into(),
            })
            .collect();
        let failure = |(step, failure): &(usize, &str)| ExpectedFailure {
            kernels: vec!["k".into()],
            step: *step,
            failure: (*failure).to_owned(),
            reason: "R1".into(),
        };
        let expected: Vec<_> = expected.iter().map(failure).collect();
        let verdict = of_problems(&problems, &expected.iter().collect::<Vec<_>>());
        (verdict.outcome, verdict.exit_code)
    }

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

    #[test]
    fn a_known_defect_must_show_at_its_step_and_in_its_way() {
        let known = [(3, "stock is 20")];
        assert_eq!(
            outcome(&[(3, "so stock is 20"), (5, "later")], &known),
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
    fn what_a_step_does_is_not_how_it_fails() {
        let problems = [(3, "shop.stock answers 20, not 21")];
        for label in ["pricing-v2", "load", "step 3", "line 9"] {
            let (outcome, _) = outcome(&problems, &[(3, label)]);
            assert_eq!(outcome, Outcome::Failed, "{label}");
        }
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
        let verdict = of_gone(&Gone::Silent("no answer".into()), "step 2", &console, &[]);
        assert_eq!(verdict.outcome, Outcome::Panicked);
        assert!(verdict.reasons[0].contains("Attempted to kill init"));
    }

    #[test]
    fn a_host_without_time_is_to_blame_also_for_stalls() {
        let starved = Gone::Starved("no answer\nQEMU had 0.1 s".into());
        let stall = "[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [init:1]\n";
        for text in ["[    1.0] fine\n", stall] {
            let (_dir, console) = console(text);
            let verdict = of_gone(&starved, "step 2", &console, &[]);
            let found = (verdict.outcome, verdict.blame, verdict.exit_code);
            assert_eq!(found, (Outcome::Infra, Some(Blame::Host), 3));
            assert_eq!(
                verdict.reasons,
                ["step 2: no answer", "QEMU had 0.1 s"],
                "one line each"
            );
            assert!(verdict.help.unwrap().contains("--jobs 1"));
            let silent = Gone::Silent("no answer".into());
            let verdict = of_gone(&silent, "step 2", &console, &[]);
            assert_eq!(verdict.blame, Some(Blame::Kernel));
        }
        let (_dir, console) = console("[    1.0] BUG: kernel NULL pointer dereference\n");
        let verdict = of_gone(&starved, "step 2", &console, &[]);
        assert_eq!(verdict.blame, Some(Blame::Kernel));
    }

    #[test]
    fn silence_without_a_word_on_the_console_is_a_hang() {
        let (_dir, console) = console("[    1.0] fine\n");
        let verdict = of_gone(&Gone::Silent("no answer".into()), "step 2", &console, &[]);
        assert_eq!((verdict.outcome, verdict.exit_code), (Outcome::Hung, 1));
        assert_eq!(verdict.evidence[0].text, "[    1.0] fine");
    }
}
