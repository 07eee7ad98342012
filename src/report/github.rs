// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results as Markdown for the step summary of GitHub Actions: a table, then what needs a look.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::results::{Finished, Results, RunResult, State};
use super::table::{Cell, escape, grid, state};
use super::text::{count, evidence, one_line, seconds};
use crate::event::RunId;
use crate::plan;
use crate::verdict::evidence::STATES_DIFFER;
use crate::verdict::{Outcome, Verdict};

/// GitHub takes no longer summary of a step.
pub const SUMMARY_MAX: usize = 1024 * 1024;

/// The most bytes of one section beside the failures: table, flaky, expected, skipped, missing.
const SECTION_MAX: usize = SUMMARY_MAX / 8;

/// The document, of at most `limit` bytes: failures are left out from the end, with a line that
/// says so.
pub fn render(results: &Results, limit: usize) -> String {
    let mut head = format!("## lab: {}\n", headline(results));
    let table = grid(results, cell);
    if results.runs.is_empty() && results.skipped.is_empty() {
        head += "\nNothing was planned: the lab has not come so far, or failed before.\n";
    } else if table.len() <= SECTION_MAX {
        let _ = write!(head, "\n{table}");
    } else {
        head += "\n*The table is too long for this page.*\n";
    }
    head += &section("No result", &missing(results));
    let mut tail = section("Flaky", &flaky(results));
    tail += &section("Failed as expected", &expected(results));
    tail += &section("Skipped", &skipped(results));
    // The line about what is left out takes less than this.
    let room = limit.saturating_sub(head.len() + tail.len() + 256);
    let text = head + &failures(results, room) + &tail;
    text[..text.floor_char_boundary(limit)].to_owned()
}

/// `1 passed, 2 failed, 1 without a result, 3 skipped in 12.3 s`.
fn headline(results: &Results) -> String {
    let outcome = |(outcome, count): (Outcome, usize)| format!("{count} {}", outcome.name());
    let mut parts: Vec<String> = results.tally().into_iter().map(outcome).collect();
    let not_run = |run: &&RunResult| matches!(run.state, State::NotRun(_));
    let not_run = results.without_verdict().filter(not_run).count();
    let missing = results.without_verdict().count() - not_run;
    for (count, what) in [
        (missing, "without a result"),
        (not_run, "not run"),
        (results.skipped.len(), "skipped"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if parts.is_empty() {
        return "no runs".to_owned();
    }
    let took = match results.ended {
        Some(ended) => format!(" in {}", seconds(ended.ms)),
        None => String::new(),
    };
    parts.join(", ") + &took
}

fn cell(cell: Cell<'_>) -> String {
    let word = state(cell);
    let mark = match cell {
        Cell::Skipped => return word.to_owned(),
        Cell::Run(run) => match run.verdict() {
            Some(verdict) => mark(verdict.outcome),
            None if matches!(run.state, State::NotRun(_)) => return word.to_owned(),
            None => "❔",
        },
    };
    format!("{mark} {word}")
}

fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed | Outcome::ExpectedFailure => "✅",
        Outcome::Flaky => "⚠️",
        Outcome::New => "🆕",
        Outcome::Infra | Outcome::Cancelled | Outcome::TimedOut => "❔",
        _ => "❌",
    }
}

/// A section of list entries, as many as there is room for.
fn section(title: &str, entries: &[String]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut text = format!("\n### {title}\n\n");
    for (index, entry) in entries.iter().enumerate() {
        if text.len() + entry.len() > SECTION_MAX {
            let _ = writeln!(text, "- … and {} more", entries.len() - index);
            break;
        }
        let _ = writeln!(text, "- {entry}");
    }
    text
}

fn with_verdict(results: &Results) -> impl Iterator<Item = (&RunResult, &Finished)> {
    results.runs.iter().filter_map(|run| match &run.state {
        State::Finished(finished) => Some((run, &**finished)),
        _ => None,
    })
}

/// Every run that did not end as expected, as far as there is room.
fn failures(results: &Results, room: usize) -> String {
    let is_bad = |(_, finished): &(&RunResult, &Finished)| !finished.verdict.is_as_expected();
    let bad: Vec<_> = with_verdict(results).filter(is_bad).collect();
    if bad.is_empty() {
        return String::new();
    }
    let mut text = "\n### Not as expected\n".to_owned();
    for (index, (run, finished)) in bad.iter().enumerate() {
        let failure = failure(run, finished);
        if text.len() + failure.len() > room {
            let left = count(bad.len() - index, "more run");
            let _ = write!(
                text,
                "\n*{left} did not end as expected: too much for this page, see the table and the \
                 records.*\n"
            );
            break;
        }
        text += &failure;
    }
    text
}

fn failure(run: &RunResult, finished: &Finished) -> String {
    let verdict = &finished.verdict;
    let mut text = format!(
        "\n<details><summary>{} <b>{}</b>, {}: {}</summary>\n\n",
        mark(verdict.outcome),
        html(&run.run.to_string()),
        verdict.outcome.name(),
        html(first_reason(verdict))
    );
    for reason in &verdict.reasons {
        let _ = writeln!(text, "- {}", escape(reason));
    }
    for attempt in &run.failed_attempts {
        let how = attempt.verdict.outcome.name();
        let reason = escape(first_reason(&attempt.verdict));
        let _ = writeln!(text, "- earlier attempt {how}: {reason}");
    }
    for piece in &verdict.evidence {
        let is_diff = piece.title == STATES_DIFFER;
        let language = if is_diff { "diff" } else { "text" };
        let _ = write!(text, "\n{}:\n\n", escape(&piece.title));
        text += &fenced(&evidence(piece), language);
    }
    if let Some(help) = &verdict.help {
        let _ = write!(text, "\nNext: {}\n", escape(help));
    }
    let _ = write!(text, "\nRecord: {}\n\n</details>\n", code(&finished.record));
    text
}

/// A code block. Its fence is longer than any run of backticks in it.
fn fenced(text: &str, language: &str) -> String {
    let fence = "`".repeat((longest_run(text) + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end())
}

/// Text in code, on one line.
fn code(text: &str) -> String {
    let text = one_line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.contains('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

fn longest_run(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or(0)
}

/// Text within an HTML element: Markdown is not read there.
fn html(text: &str) -> String {
    let text = one_line(text);
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn first_reason(verdict: &Verdict) -> &str {
    let name = verdict.outcome.name();
    verdict.reasons.first().map_or(name, String::as_str)
}

fn missing(results: &Results) -> Vec<String> {
    let missing = results.runs.iter().filter_map(|run| match run.state {
        State::Planned => Some(format!("{}: not started", escape(&run.run.to_string()))),
        State::Running => Some(format!(
            "{}: started, but did not end",
            escape(&run.run.to_string())
        )),
        _ => None,
    });
    missing.collect()
}

fn flaky(results: &Results) -> Vec<String> {
    let flaky = with_verdict(results).filter(|(_, f)| f.verdict.outcome == Outcome::Flaky);
    flaky.map(|(run, finished)| entry(run, finished)).collect()
}

fn expected(results: &Results) -> Vec<String> {
    let is_expected = |(_, finished): &(&RunResult, &Finished)| {
        finished.verdict.outcome == Outcome::ExpectedFailure
    };
    let expected = with_verdict(results).filter(is_expected);
    expected
        .map(|(run, finished)| entry(run, finished))
        .collect()
}

fn entry(run: &RunResult, finished: &Finished) -> String {
    let run = escape(&run.run.to_string());
    let reason = escape(first_reason(&finished.verdict));
    format!("{run}: {reason} (record: {})", code(&finished.record))
}

/// What was left out, by reason, after the scenarios that nothing plays.
fn skipped(results: &Results) -> Vec<String> {
    let nowhere = plan::nowhere_line(&results.played_nowhere());
    let nowhere = nowhere.map(|line| format!("**{}**", escape(&line)));
    let mut reasons = BTreeMap::<String, Vec<&RunId>>::new();
    for skip in &results.skipped {
        reasons
            .entry(skip.reason.clone())
            .or_default()
            .push(&skip.run);
    }
    for run in &results.runs {
        if let State::NotRun(reason) = &run.state {
            reasons
                .entry(format!("not run: {reason}"))
                .or_default()
                .push(&run.run);
        }
    }
    let reasons = reasons
        .iter()
        .map(|(reason, runs)| reason_entry(reason, runs));
    nowhere.into_iter().chain(reasons).collect()
}

fn reason_entry(reason: &str, runs: &[&RunId]) -> String {
    const SHOWN: usize = 8;
    let names = runs.iter().take(SHOWN).map(|run| code(&run.name()));
    let names = names.collect::<Vec<_>>().join(", ");
    let more = match runs.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{}: {}: {names}{more}",
        escape(reason),
        count(runs.len(), "run")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_outcome_has_its_place() {
        insta::assert_snapshot!(render(&sample::results(), SUMMARY_MAX));
    }

    #[test]
    fn what_a_guest_writes_stays_in_its_place() {
        let hostile = "```\n</details><script>\n````` x | y\u{1b}[31m\n# title";
        let text = render(&sample::with_text_everywhere(hostile), SUMMARY_MAX);
        // Besides its own end: in a fence that nothing in it ends, and in the record's code.
        assert_eq!(text.matches("</details>").count(), 3, "{text}");
        let (_, after) = text.split_once("``````text\n").unwrap();
        let (inside, _) = after.split_once("\n``````\n").unwrap();
        assert!(inside.contains("</details><script>"));
        assert!(text.contains("Record: `````` ``` </details>"));
        assert!(!text.contains('\u{1b}'));
        let table: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(table.len(), 2, "{table:?}");
    }

    #[test]
    fn failures_are_left_out_from_the_end() {
        let mut results = Results::default();
        for number in 0..100 {
            let text = format!("{}{number}", "x".repeat(60_000));
            sample::add_failure(&mut results, &format!("s{number}"), &text);
        }
        let text = render(&results, SUMMARY_MAX);
        assert!(text.len() <= SUMMARY_MAX);
        assert!(text.len() > SUMMARY_MAX * 3 / 4, "{}", text.len());
        assert!(text.contains("more runs did not end as expected: too much for this page"));
        assert!(text.contains("<b>s0 on") && !text.contains("<b>s99 on"));
        assert!(text.trim_end().ends_with("records.*"));
    }

    #[test]
    fn a_huge_plan_stays_within_the_limit() {
        let mut results = Results::default();
        for number in 0..5_000 {
            sample::plan(&mut results, &format!("scenario-{number}"));
        }
        let text = render(&results, SUMMARY_MAX);
        assert!(text.len() <= SUMMARY_MAX);
        assert!(text.contains("5000 without a result"));
        assert!(text.contains("The table is too long") && text.contains("more"));
        assert!(render(&results, 1000).len() <= 1000);
    }

    #[test]
    fn without_a_plan_it_says_so() {
        let text = render(&Results::default(), SUMMARY_MAX);
        assert!(text.starts_with("## lab: no runs\n\nNothing was planned"));
    }
}
