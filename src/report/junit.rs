// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results as JUnit XML, which CI systems show: a suite per kernel, architecture
//! and number of CPUs, a case per run.
//!
//! What is no verdict on the kernel (the lab could not run it, it was cancelled, it has no result)
//! is an `error`; nothing without a verdict is a pass.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use quick_junit::{
    NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestRerun, TestSuite,
};

use super::results::{Finished, Results, RunResult, State};
use super::text::{evidence, one_line};
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::event::{RunId, Skipped};
use crate::verdict::{Outcome, Verdict};

/// The document.
pub fn render(results: &Results) -> Result<String> {
    let mut suites = BTreeMap::<Suite<'_>, (String, Vec<TestCase>)>::new();
    for run in &results.runs {
        of(&mut suites, &run.run).push(case(run));
    }
    for skip in &results.skipped {
        of(&mut suites, &skip.run).push(left_out(skip));
    }
    let mut report = Report::new("lab");
    if let Some(ended) = results.ended {
        report.set_time(Duration::from_millis(ended.ms));
    }
    for (name, cases) in suites.into_values() {
        let mut suite = TestSuite::new(name);
        suite.set_time(cases.iter().filter_map(|case| case.time).sum());
        suite.add_test_cases(cases);
        report.add_test_suite(suite);
    }
    report
        .to_string()
        .map_err(|error| Error::lab(format!("cannot write JUnit XML: {error}")))
}

/// What the runs of a suite have in common.
type Suite<'a> = (&'a str, Arch, Option<u16>);

/// The cases of the suite that a run belongs to.
fn of<'s, 'a>(
    suites: &'s mut BTreeMap<Suite<'a>, (String, Vec<TestCase>)>,
    run: &'a RunId,
) -> &'s mut Vec<TestCase> {
    let name = || format!("{} ({})", one_line(&run.kernel), run.machine());
    let suite = suites.entry((&run.kernel, run.arch, run.cpus));
    &mut suite.or_insert_with(|| (name(), Vec::new())).1
}

fn named(run: &RunId, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(one_line(&run.scenario), status);
    case.set_classname(format!("{}.{}", one_line(&run.kernel), run.machine_name()));
    case
}

fn left_out(skip: &Skipped) -> TestCase {
    named(&skip.run, skipped(&skip.reason))
}

fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(one_line(reason));
    status
}

fn case(run: &RunResult) -> TestCase {
    let status = match &run.state {
        State::Planned => no_result("it was planned but not started"),
        State::Running => no_result("it was started but did not end"),
        State::NotRun(reason) => skipped(&format!("not run: {reason}")),
        State::Finished(finished) => verdict_status(finished, &run.failed_attempts),
    };
    let mut case = named(&run.run, status);
    if let Some(accel) = &run.accel {
        case.add_property(Property::new("accel", one_line(accel)));
    }
    if let State::Finished(finished) = &run.state {
        case.set_time(Duration::from_millis(finished.ms));
        case.add_property(Property::new("record", one_line(&finished.record)));
    }
    if !run.steps.is_empty() {
        case.set_system_out(steps(run));
    }
    case
}

fn no_result(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type("no result");
    status.set_message(format!("no result: {why}"));
    status
}

fn verdict_status(finished: &Finished, failed_attempts: &[Finished]) -> TestCaseStatus {
    let verdict = &finished.verdict;
    let mut status = match verdict.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Flaky => flaky(finished, failed_attempts),
        // As pytest writes a test that fails as it is marked to (xfail).
        Outcome::ExpectedFailure => {
            let mut status = skipped(first_reason(verdict));
            status.set_type("expected-failure");
            status.set_description(full_text(finished));
            status
        }
        outcome => {
            let mut status = TestCaseStatus::non_success(kind(outcome));
            status.set_type(outcome.name());
            status.set_message(one_line(first_reason(verdict)));
            status.set_description(full_text(finished));
            status
        }
    };
    if !verdict.is_as_expected() {
        status.add_reruns(failed_attempts.iter().map(rerun));
    }
    status
}

/// Readers tell a flaky case from a pass by its failed attempts, so there is always one.
fn flaky(finished: &Finished, failed_attempts: &[Finished]) -> TestCaseStatus {
    let mut status = TestCaseStatus::success();
    if failed_attempts.is_empty() {
        status.add_rerun(rerun(finished));
    } else {
        status.add_reruns(failed_attempts.iter().map(rerun));
    }
    status
}

fn rerun(attempt: &Finished) -> TestRerun {
    let outcome = attempt.verdict.outcome;
    let mut rerun = TestRerun::new(kind(outcome));
    rerun.set_type(outcome.name());
    rerun.set_message(one_line(first_reason(&attempt.verdict)));
    rerun.set_time(Duration::from_millis(attempt.ms));
    rerun.set_description(full_text(attempt));
    rerun
}

/// A failure speaks about the kernel or the scenario; an error says that nobody knows.
fn kind(outcome: Outcome) -> NonSuccessKind {
    match outcome.is_settled() {
        false => NonSuccessKind::Error,
        true => NonSuccessKind::Failure,
    }
}

fn first_reason(verdict: &Verdict) -> &str {
    let name = verdict.outcome.name();
    verdict.reasons.first().map_or(name, String::as_str)
}

/// All that the verdict says, and where the record is.
fn full_text(finished: &Finished) -> String {
    let verdict = &finished.verdict;
    let mut text = String::new();
    for reason in &verdict.reasons {
        let _ = writeln!(text, "{}", one_line(reason));
    }
    for piece in &verdict.evidence {
        let _ = write!(text, "\n{}:\n", one_line(&piece.title));
        let _ = writeln!(text, "{}", evidence(piece).trim_end());
    }
    if let Some(help) = &verdict.help {
        let _ = write!(text, "\nnext: {}\n", one_line(help));
    }
    let _ = write!(text, "\nrecord: {}", one_line(&finished.record));
    text
}

fn steps(run: &RunResult) -> String {
    let mut text = String::new();
    for (index, step) in run.steps.iter().enumerate() {
        let took = match step.ms {
            Some(ms) => format!("{ms} ms"),
            None => "did not end".to_owned(),
        };
        let _ = writeln!(text, "{}. {}: {took}", index + 1, one_line(&step.label));
        for problem in &step.problems {
            let _ = writeln!(text, "   {}", one_line(problem));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_outcome_has_its_place() {
        insta::assert_snapshot!(render(&sample::results()).unwrap());
    }

    #[test]
    fn nothing_without_a_verdict_is_a_pass() {
        let mut results = sample::results();
        for run in &mut results.runs {
            run.state = State::Planned;
        }
        let text = render(&results).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        for case in document
            .descendants()
            .filter(|n| n.has_tag_name("testcase"))
        {
            let is_bad = |node: roxmltree::Node<'_, '_>| {
                node.has_tag_name("error") || node.has_tag_name("skipped")
            };
            assert!(case.children().any(is_bad), "{case:?}");
        }
    }

    #[test]
    fn what_a_guest_writes_cannot_break_the_document() {
        let hostile = "]]></failure>\u{1b}]0;x\u{7}\u{0}\u{b}\u{fffe}\u{ffff}\u{85}& <!-- \"'\r\n";
        let results = sample::with_text_everywhere(hostile);
        let text = render(&results).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let failures = document.descendants().filter(|n| n.has_tag_name("failure"));
        let failures: Vec<_> = failures.collect();
        assert_eq!(failures.len(), 1);
        let said = failures[0].text().unwrap();
        assert!(
            said.contains("]]></failure>\\u{1b}]0;x\\u{7}\\u{0}"),
            "{said}"
        );
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn long_evidence_is_cut_with_a_word_about_it() {
        let results = sample::with_text_everywhere(&"x".repeat(1 << 20));
        let text = render(&results).unwrap();
        assert!(text.contains("[cut here: "));
        assert!(text.len() < 512 * 1024, "{}", text.len());
    }

    #[test]
    fn without_a_plan_there_is_an_empty_document() {
        let text = render(&Results::default()).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(document.root_element().attribute("tests"), Some("0"));
    }
}
