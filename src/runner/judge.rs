// SPDX-License-Identifier: MIT OR Apache-2.0
//! What judges: of an attempt, what the scenario says of its kernel, the expectations and the
//! snapshot; of a guest, what its kernel said and what became of it.

use super::attempt::{Attempt, Played};
use super::next;
use crate::error::{Blame, Error, Result};
use crate::scenario::ExpectedFailure;
use crate::state::observed::run_text;
use crate::state::older::{changed_steps, titles};
use crate::state::snapshot::{Comparison, Subject, file_of};
use crate::state::snapshots::Standing;
use crate::state::{SnapshotPolicy, diff};
use crate::verdict::evidence::{CONSOLE, SAID, STATES_DIFFER};
use crate::verdict::{Complaint, Evidence, Failing, Outcome, Problem, SplatKind, Verdict};
use crate::vm::Accel;
use crate::vm::accel::describe;
use crate::vm::console::Console;
use crate::vm::emulator;
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
/// goes wrong afterwards is its consequence. So is what goes wrong after any other problem: the first
/// one says who is to blame.
pub(super) fn of_problems(problems: &[Problem], expected: &[&ExpectedFailure]) -> Verdict {
    let lines = || problems.iter().map(Problem::to_string);
    if expected.is_empty() {
        let mut verdict = Verdict::passed();
        if let Some(first) = problems.first() {
            verdict = Verdict::against(Outcome::Failed, first.blame, "");
            verdict.reasons = lines().collect();
            verdict.help.clone_from(&first.help);
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
        let is_other = |problem: &&Problem| !expected.iter().any(|it| is_known(problem, it));
        let first = problems.iter().find(is_other).unwrap_or(&problems[0]);
        let mut verdict = Verdict::against(Outcome::Failed, first.blame, "");
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
    verdict
        .help(next::about(splat.kind, splat.fatal))
        .with(&format!("{SAID} ({})", splat.kind), &splat.text)
}

/// The verdict after what executed the guest: an `int3` that memory does not have is no fault of the
/// kernel's if an emulator met it, with several CPUs.
pub fn as_executed(mut verdict: Verdict, accel: Accel, cpus: u16) -> Verdict {
    if accel != Accel::Tcg || cpus < 2 {
        return verdict;
    }
    let said = |piece: &&Evidence| piece.title.starts_with(SAID);
    let text = verdict.evidence.iter().find(said);
    let Some(bytes) = text.and_then(|said| emulator::stale_int3(&said.text)) else {
        return verdict;
    };
    verdict.outcome = Outcome::Infra;
    verdict.blame = Some(Blame::Host);
    verdict.exit_code = Error::host("").exit_code();
    let why = format!(
        "QEMU made this: there is no int3 in memory before RIP ({bytes}), so a CPU executed a \
         translation that is out of date"
    );
    verdict.reasons.insert(verdict.reasons.len().min(1), why);
    verdict.help(
        "a run that meets it is tried again once by itself. With one CPU (--cpus 1), or under KVM, it does \
         not happen",
    )
}

/// A guest that was silent when `--timeout` was met: that it would not have gone on is not known.
pub(super) fn of_limit(mut verdict: Verdict) -> Verdict {
    if verdict.outcome == Outcome::Hung && verdict.splat.is_none() {
        verdict.outcome = Outcome::TimedOut;
        verdict.blame = Some(Blame::Limit);
        verdict.help = None;
    }
    verdict
}

/// The verdict on a run that ended early, with what was not as expected before.
pub(super) fn with_earlier(mut verdict: Verdict, problems: &[Problem]) -> Verdict {
    if verdict.is_as_expected() || verdict.outcome == Outcome::Cancelled {
        return verdict;
    }
    let is_said = |problem: &&Problem| {
        let mut reasons = verdict.reasons.iter();
        reasons.any(|reason| reason.contains(&problem.what))
    };
    let earlier: Vec<_> = problems.iter().filter(|it| !is_said(it)).collect();
    let shown = earlier.iter().take(EARLIER_MAX);
    let mut lines: Vec<_> = shown
        .map(|problem| format!("before that, {problem}"))
        .collect();
    if let Some(more @ 1..) = earlier.len().checked_sub(EARLIER_MAX) {
        lines.push(format!(
            "and {more} more problems before that: verdict.json has them"
        ));
    }
    verdict.reasons.extend(lines);
    verdict
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
/// Problems of earlier steps that are shown.
const EARLIER_MAX: usize = 5;

/// What became of a guest, read from its console first: a panic explains a silence. Splats
/// whose title has one of the `allowed` parts in it explain nothing.
pub fn of_gone(gone: &Gone, during: &str, console: &Console, allowed: &[&str]) -> Verdict {
    let reason = format!("{during}: {}", describe(gone));
    let splat = console.splat(allowed);
    // A kernel that gets no time takes that for a stall of its own.
    let splat = splat.filter(|it| !it.kind.is_stall() || !matches!(gone, Gone::Starved(_)));
    let mut verdict = match (splat, gone) {
        (Some(splat), _) => of_splat(&splat, during),
        (None, Gone::Panicked) => {
            Verdict::against(Outcome::Panicked, Blame::Kernel, reason).help(next::PANIC)
        }
        (None, Gone::Reset(_)) => {
            Verdict::against(Outcome::Reset, Blame::Kernel, reason).help(next::RESET)
        }
        (None, Gone::Silent(_)) => {
            Verdict::against(Outcome::Hung, Blame::Kernel, reason).help(next::SILENCE)
        }
        (None, Gone::Flooded) => {
            Verdict::against(Outcome::Flooded, Blame::Kernel, reason).help(next::FLOOD)
        }
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
    verdict.with(CONSOLE, &console.tail(25))
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
                blame: Blame::Kernel,
                help: None,
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
    fn the_first_problem_says_who_is_to_blame() {
        let problem = |step, blame, help: Option<&str>| Problem {
            step,
            line: 9,
            label: "load pricing-v2".into(),
            what: format!("failed at {step}"),
            blame,
            help: help.map(str::to_owned),
        };
        let file = problem(2, Blame::File, Some("unload it"));
        let kernel = problem(3, Blame::Kernel, None);
        let verdict = of_problems(&[file.clone(), kernel.clone()], &[]);
        assert_eq!(verdict.blame, Some(Blame::File));
        assert_eq!(verdict.help.as_deref(), Some("unload it"));
        let verdict = of_problems(&[kernel, problem(4, Blame::File, Some("x"))], &[]);
        assert_eq!((verdict.blame, verdict.help), (Some(Blame::Kernel), None));
        // What was expected is nobody's fault.
        let known = ExpectedFailure {
            kernels: vec!["k".into()],
            step: 1,
            failure: "failed at 1".into(),
            reason: "R1".into(),
        };
        let missing = ExpectedFailure {
            step: 5,
            failure: "failed at 5".into(),
            ..known.clone()
        };
        let problems = [problem(1, Blame::Kernel, None), file];
        let verdict = of_problems(&problems, &[&known, &missing]);
        assert_eq!(
            (verdict.outcome, verdict.blame),
            (Outcome::Failed, Some(Blame::File))
        );
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
    fn whatever_was_lost_or_said_has_a_next_step() {
        use SplatKind::*;
        for kind in [
            Panic,
            Oops,
            Bug,
            Warning,
            Lockdep,
            Sanitizer,
            Lockup,
            HungTask,
            RcuStall,
            OutOfMemory,
            LostMessages,
        ] {
            let splat = Splat {
                kind,
                title: "x".into(),
                code: None,
                fatal: kind == Panic,
                settled: true,
                text: "x".into(),
            };
            assert!(of_splat(&splat, "step 2").help.is_some(), "{kind}");
        }
        let (_dir, console) = console("[    1.0] fine\n");
        for gone in [
            Gone::Panicked,
            Gone::Reset("guest-reset".into()),
            Gone::Qemu("x".into()),
            Gone::Lost("x".into()),
            Gone::Silent("x".into()),
            Gone::Starved("x".into()),
            Gone::Flooded,
        ] {
            let verdict = of_gone(&gone, "step 2", &console, &[]);
            assert!(verdict.help.is_some(), "{gone:?}");
        }
    }

    #[test]
    fn a_limit_makes_no_kernel_guilty() {
        let silent = Gone::Silent("the run took longer than --timeout 20s\nQEMU had 9 s".into());
        let (_dir, fine) = console("[    1.0] fine\n");
        let verdict = of_limit(of_gone(&silent, "during step 2 (load x)", &fine, &[]));
        let found = (verdict.outcome, verdict.blame, verdict.exit_code);
        assert_eq!(found, (Outcome::TimedOut, Some(Blame::Limit), 1));
        // What the guest has said against itself stands, and so does what the host did.
        for (text, gone, outcome, blame) in [
            (
                "[    1.0] Kernel panic - not syncing: provoked\n",
                &silent,
                Outcome::Panicked,
                Blame::Kernel,
            ),
            (
                "[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [init:1]\n",
                &silent,
                Outcome::Splat,
                Blame::Kernel,
            ),
            (
                "[    1.0] fine\n",
                &Gone::Starved("x".into()),
                Outcome::Infra,
                Blame::Host,
            ),
        ] {
            let (_dir, console) = console(text);
            let verdict = of_limit(of_gone(gone, "during step 2 (load x)", &console, &[]));
            assert_eq!(
                (verdict.outcome, verdict.blame),
                (outcome, Some(blame)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_oops_that_the_emulator_made_is_the_hosts() {
        let of = |text: &str| {
            let (_dir, console) = console(text.split_once('\n').unwrap().1);
            of_splat(&console.splat(&[]).unwrap(), "step 3 (trace shop.price)")
        };
        let stale = of(include_str!(
            "../../tests/faults/splats/written/int3-stale.txt"
        ));
        assert_eq!(stale.blame, Some(Blame::Kernel));
        assert!(!stale.is_emulators());
        // On a real CPU it is the kernel's.
        for (accel, cpus) in [(Accel::Kvm, 2), (Accel::Tcg, 1)] {
            assert_eq!(as_executed(stale.clone(), accel, cpus), stale);
        }
        let emulated = as_executed(stale, Accel::Tcg, 2);
        let found = (emulated.outcome, emulated.blame, emulated.exit_code);
        assert_eq!(found, (Outcome::Infra, Some(Blame::Host), 3));
        assert!(emulated.is_emulators() && !emulated.evidence.is_empty());
        insta::assert_snapshot!(emulated.reasons.join("\n"), @r"
        step 3 (trace shop.price): Oops: int3: 0000 [#1] SMP NOPTI in crate_update
        QEMU made this: there is no int3 in memory before RIP (0f <1f> 44 00 00), so a CPU executed a translation that is out of date
        ");
        let real = of(include_str!(
            "../../tests/faults/splats/written/int3-real.txt"
        ));
        assert_eq!(as_executed(real.clone(), Accel::Tcg, 2), real);
    }

    #[test]
    fn what_went_wrong_before_a_guest_was_lost_is_kept() {
        let problem = |step| Problem {
            step,
            line: 9 + step,
            label: "read x".into(),
            what: format!("it holds {step}"),
            blame: Blame::Kernel,
            help: None,
        };
        let (_dir, console) = console("[    1.0] fine\n");
        let hung = of_gone(&Gone::Silent("no answer".into()), "step 4", &console, &[]);
        let verdict = with_earlier(hung.clone(), &[problem(2), problem(3)]);
        assert_eq!(
            verdict.reasons,
            [
                "step 4: no answer",
                "before that, step 2 (line 11, read x): it holds 2",
                "before that, step 3 (line 12, read x): it holds 3",
            ]
        );
        // Once each, and not without end.
        assert_eq!(
            with_earlier(verdict.clone(), &[problem(2), problem(3)]),
            verdict
        );
        let many: Vec<_> = (1..=9).map(problem).collect();
        let reasons = with_earlier(hung, &many).reasons;
        assert_eq!(reasons.len(), 1 + EARLIER_MAX + 1);
        assert!(reasons.last().unwrap().starts_with("and 4 more problems"));
    }

    #[test]
    fn silence_without_a_word_on_the_console_is_a_hang() {
        let (_dir, console) = console("[    1.0] fine\n");
        let verdict = of_gone(&Gone::Silent("no answer".into()), "step 2", &console, &[]);
        assert_eq!((verdict.outcome, verdict.exit_code), (Outcome::Hung, 1));
        assert_eq!(verdict.evidence[0].text, "[    1.0] fine");
    }
}
