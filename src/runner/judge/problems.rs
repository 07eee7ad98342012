// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict on what was not as a scenario expects.

use crate::error::Blame;
use crate::scenario::ExpectedFailure;
use crate::verdict::{Outcome, Problem, Verdict};

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
pub(in crate::runner) fn is_known(problem: &Problem, failure: &ExpectedFailure) -> bool {
    problem.step == failure.step && problem.what.contains(&failure.failure)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
