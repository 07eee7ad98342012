// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results as KTAP, the kernel's test protocol (Documentation/dev-tools/ktap.rst), written as
//! they come: a run is a test, its steps are subtests.
//!
//! What the kernel's parser (tools/testing/kunit/kunit_parser.py) makes of it, and what follows:
//!
//! - A run that is never finished is missing; the plan line lets the parser notice.
//! - It counts the innermost tests. So a run that fails although all of its steps hold has a last
//!   subtest `verdict` that does not, and a step that fails as expected is `ok … # XFAIL`.
//! - Of directives it knows SKIP alone; XFAIL, TIMEOUT and ERROR are for people and other parsers.
//! - It says nothing about why something passed. So that flaky runs stay visible, they have a
//!   subtest that is called so.
//! - A line anywhere that holds one of a few words of the kernel's ends the input: [`defused`].

use std::collections::BTreeSet;
use std::fmt::Write;

use super::results::{Finished, Results, RunResult, State, StepResult};
use super::text::{evidence, one_line};
use crate::event::{Event, RunId};
use crate::verdict::{Outcome, Verdict};

/// What was written so far.
#[derive(Debug, Default)]
pub struct Ktap {
    /// Whether the version and the plan were.
    begun: bool,
    /// The runs that were.
    written: BTreeSet<RunId>,
}

/// The results that there are, as one document.
pub fn render(results: &Results) -> String {
    Ktap::default().begin(results)
}

impl Ktap {
    /// What to append for an event, which `results` has taken in already.
    pub fn event(&mut self, event: &Event, results: &Results) -> String {
        match event {
            Event::Planned { .. } if !self.begun => self.begin(results),
            Event::RunFinished { run, .. } | Event::NotRun { run, .. } if self.begun => results
                .get(run)
                .map_or_else(String::new, |run| self.run(run)),
            _ => String::new(),
        }
    }

    /// The plan, what is skipped, and the runs that have ended already, such as those of a lab
    /// before this one.
    fn begin(&mut self, results: &Results) -> String {
        self.begun = true;
        let count = results.runs.len() + results.skipped.len();
        let mut text = format!("KTAP version 1\n1..{count}\n");
        for skip in &results.skipped {
            text += &self.result("ok", &skip.run, &directive("SKIP", &skip.reason));
        }
        for run in &results.runs {
            text += &self.run(run);
        }
        text
    }

    fn run(&mut self, run: &RunResult) -> String {
        match &run.state {
            _ if self.written.contains(&run.run) => String::new(),
            State::Planned | State::Running => String::new(),
            State::NotRun(reason) => {
                let why = directive("SKIP", &format!("not run: {reason}"));
                self.result("ok", &run.run, &why)
            }
            State::Finished(finished) => {
                let mut text = subtests(run, finished);
                text += &diagnostics(finished);
                let verdict = &finished.verdict;
                let status = if verdict.is_as_expected() {
                    "ok"
                } else {
                    "not ok"
                };
                text + &self.result(status, &run.run, &verdict_directive(verdict))
            }
        }
    }

    fn result(&mut self, status: &str, run: &RunId, directive: &str) -> String {
        self.written.insert(run.clone());
        let number = self.written.len();
        format!("{status} {number} {}{directive}\n", name(&run.name()))
    }
}

/// The nested document of a run's steps; empty if it did not come to a step.
fn subtests(run: &RunResult, finished: &Finished) -> String {
    let verdict = &finished.verdict;
    if run.steps.is_empty() {
        return String::new();
    }
    let mut results = Vec::new();
    for step in &run.steps {
        results.push(step_result(step, verdict));
    }
    if let Some(result) = verdict_result(run, verdict) {
        results.push(result);
    }
    let mut text = format!(
        "    KTAP version 1\n    # Subtest: {}\n    1..{}\n",
        name(&run.run.name()),
        results.len()
    );
    for (index, result) in results.iter().enumerate() {
        for line in &result.diagnostics {
            let _ = writeln!(text, "    # {}", defused(line));
        }
        let number = index + 1;
        let (status, name, directive) = (result.status, &result.name, &result.directive);
        let _ = writeln!(text, "    {status} {number} {name}{directive}");
    }
    text
}

/// A result line without its number, and the lines before it.
struct SubtestResult {
    status: &'static str,
    name: String,
    directive: String,
    diagnostics: Vec<String>,
}

fn step_result(step: &StepResult, verdict: &Verdict) -> SubtestResult {
    let holds = step.ms.is_some() && step.problems.is_empty();
    let mut problems = step.problems.clone();
    if step.ms.is_none() {
        problems.push("the step did not end".to_owned());
    }
    let (status, directive) = match (holds, verdict.is_as_expected()) {
        (true, _) => ("ok", String::new()),
        (false, true) => ("ok", directive("XFAIL", &problems[0])),
        (false, false) => ("not ok", keyword(verdict.outcome).to_owned()),
    };
    let problem = |problem: &String| format!("problem: {}", one_line(problem));
    SubtestResult {
        status,
        name: name(&step.label),
        directive,
        diagnostics: problems.iter().map(problem).collect(),
    }
}

/// What the steps do not show.
fn verdict_result(run: &RunResult, verdict: &Verdict) -> Option<SubtestResult> {
    let holds = |step: &StepResult| step.ms.is_some() && step.problems.is_empty();
    let result = |status, name: String, directive| SubtestResult {
        status,
        name,
        directive,
        diagnostics: Vec::new(),
    };
    if verdict.outcome == Outcome::Flaky {
        let attempts = run.failed_attempts.len().max(1);
        return Some(result(
            "ok",
            format!("flaky (failed attempts: {attempts})"),
            String::new(),
        ));
    }
    if !verdict.is_as_expected() && run.steps.iter().all(holds) {
        let directive = keyword(verdict.outcome).to_owned();
        return Some(result("not ok", "verdict".to_owned(), directive));
    }
    None
}

/// All that the verdict says, and where the record is. No line can be taken for a header of
/// subtests (`# Subtest: …`): each begins with a word of the lab's or with more spaces.
fn diagnostics(finished: &Finished) -> String {
    let verdict = &finished.verdict;
    let mut lines = Vec::new();
    for reason in &verdict.reasons {
        lines.push(format!("{}: {}", verdict.outcome.name(), one_line(reason)));
    }
    for piece in &verdict.evidence {
        lines.push(format!("evidence: {}", one_line(&piece.title)));
        let text = evidence(piece);
        lines.extend(text.lines().map(|line| format!("  {line}")));
    }
    if let Some(help) = &verdict.help {
        lines.push(format!("next: {}", one_line(help)));
    }
    lines.push(format!(
        "took {} ms, record: {}",
        finished.ms,
        one_line(&finished.record)
    ));
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "# {}", defused(&line));
    }
    text
}

fn verdict_directive(verdict: &Verdict) -> String {
    let reason = verdict.reasons.first().map_or("", String::as_str);
    match verdict.outcome {
        Outcome::Passed => String::new(),
        Outcome::Flaky => directive("flaky", reason),
        Outcome::ExpectedFailure => directive("XFAIL", reason),
        outcome => match keyword(outcome) {
            "" => String::new(),
            keyword => format!("{keyword} {}", description(reason)),
        },
    }
}

/// The directive of an outcome that is not as expected.
fn keyword(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hung | Outcome::StalledTransition | Outcome::TimedOut => " # TIMEOUT",
        Outcome::Infra | Outcome::Cancelled => " # ERROR",
        _ => "",
    }
}

fn directive(keyword: &str, text: &str) -> String {
    format!(" # {keyword} {}", description(text))
        .trim_end()
        .to_owned()
}

/// The description of a test.
fn name(text: &str) -> String {
    match description(text) {
        empty if empty.is_empty() => "unnamed".to_owned(),
        name => name,
    }
}

/// Text in a result line. A description must not hold `#`, and a directive's text no second
/// directive.
fn description(text: &str) -> String {
    defused(&one_line(text).replace('#', "\\u{23}"))
}

/// `line` without the words at which the parser takes its input for ended, because they end the
/// log of a kernel: here they are quoted from a guest's console. A second space is enough.
fn defused(line: &str) -> String {
    const ENDS: [(&str, &str); 3] = [
        ("List of all partitions:", "List of all  partitions:"),
        (
            "Kernel panic - not syncing: VFS:",
            "Kernel panic - not syncing:  VFS:",
        ),
        ("reboot: System halted", "reboot:  System halted"),
    ];
    let defuse = |line: String, (end, other): &(&str, &str)| line.replace(end, other);
    ENDS.iter().fold(line.to_owned(), defuse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_outcome_has_its_place() {
        insta::assert_snapshot!(render(&sample::results()));
    }

    #[test]
    fn what_is_written_as_it_comes_is_the_document() {
        let mut results = Results::default();
        let mut ktap = Ktap::default();
        let mut text = String::new();
        for stamped in sample::events() {
            results.event(&stamped);
            text += &ktap.event(&stamped.event, &results);
        }
        let sorted = |text: &str| {
            // Runs end in another order than that of the plan, and their numbers with it.
            let without_number = |line: &str| match line.split_once("ok ") {
                Some((before, rest)) if !line.starts_with([' ', '#']) => {
                    format!(
                        "{before}ok {}",
                        rest.trim_start_matches(|c: char| c.is_ascii_digit())
                    )
                }
                _ => line.to_owned(),
            };
            let mut lines: Vec<String> = text.lines().map(without_number).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&text), sorted(&render(&results)));
    }

    #[test]
    fn runs_of_an_earlier_lab_come_with_the_plan_and_only_once() {
        let mut results = sample::results();
        let pending: Vec<RunId> = results.without_verdict().map(|r| r.run.clone()).collect();
        let mut ktap = Ktap::default();
        let planned = Event::Planned {
            runs: pending.clone(),
            skipped: Vec::new(),
            elsewhere: Vec::new(),
            jobs: 1,
            every_scenario: false,
        };
        results.event(&sample::stamped(planned.clone()));
        let first = ktap.event(&planned, &results);
        assert!(first.starts_with("KTAP version 1\n1.."));
        for run in pending {
            let event = Event::NotRun {
                run,
                reason: "--fail-fast".into(),
            };
            results.event(&sample::stamped(event.clone()));
            assert!(
                ktap.event(&event, &results)
                    .contains("# SKIP not run: --fail-fast")
            );
            assert_eq!(ktap.event(&event, &results), "");
        }
        assert_eq!(
            ktap.written.len(),
            results.runs.len() + results.skipped.len()
        );
    }

    #[test]
    fn what_a_guest_writes_cannot_state_a_result() {
        let hostile = "x\nok 7 forged\u{85}ok 8 forged\u{2028}1..9\rnot ok 1\x0bKTAP version 1\n\
                       # Subtest: x\nSubtest: y\n[1.0] reboot: System halted # SKIP\u{1b}[2J";
        let text = render(&sample::with_text_everywhere(hostile));
        for line in text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{b}']) {
            let line = line.trim_start();
            let is_ours = line.is_empty() || line == "KTAP version 1" || line.starts_with("1..");
            let result = line.starts_with("ok ") || line.starts_with("not ok ");
            assert!(is_ours || result || line.starts_with("# "), "{line:?}");
            assert!(!line.contains("reboot: System halted"), "{line:?}");
            assert!(!result || line.matches('#').count() <= 1, "{line:?}");
        }
        assert_eq!(text.matches("\n1..").count(), 1);
    }
}
