// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdicts as a Markdown table, scenario × kernel, kept up to date within a document.
//!
//! It holds nothing that differs from run to run, so that a test can tell whether a document is
//! still true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::results::{Results, RunResult, State};
use super::text::one_line;
use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::event::RunId;
use crate::size;
use crate::verdict::{Outcome, Verdict};

const BEGIN: &str = "<!-- lab: verdicts -->";
const END: &str = "<!-- lab: end of verdicts -->";

/// The table, and what fails as expected.
pub fn render(results: &Results) -> String {
    let mut text = grid(results, |cell| state(cell).to_owned());
    let mut failures = BTreeSet::new();
    for run in &results.runs {
        let is_expected = |verdict: &&Verdict| verdict.outcome == Outcome::ExpectedFailure;
        if let Some(verdict) = run.verdict().filter(is_expected) {
            let name = format!("`{}` on `{}`", run.run.scenario, column(&run.run));
            failures.insert((name, &verdict.reasons));
        }
    }
    for (run, reasons) in failures {
        let _ = write!(text, "\n{run} fails as expected:\n\n");
        for reason in reasons {
            let _ = writeln!(text, "- {}", one_line(reason));
        }
    }
    text
}

/// The document with `table` between its marks; `path` is for the error.
///
/// # Errors
///
/// The document has no such marks.
pub fn replace(document: &str, path: &Path, table: &str) -> Result<String> {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        let what = format!("{} has no place for the verdicts", path.display());
        return Err(Error::new(Blame::Usage, what).help(format!(
            "put the lines `{BEGIN}` and `{END}` where the table belongs"
        )));
    };
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// One cell: a run of the plan, or one that was left out of it.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// A run.
    Run(&'a RunResult),
    /// Left out.
    Skipped,
}

/// What a cell says in words.
pub fn state(cell: Cell<'_>) -> &'static str {
    match cell {
        Cell::Skipped => "skipped",
        Cell::Run(run) => match &run.state {
            State::Planned | State::Running => "no result",
            State::NotRun(_) => "not run",
            State::Finished(finished) => finished.verdict.outcome.name(),
        },
    }
}

/// The runs of one scenario on one kernel and architecture: what is shown of each number of CPUs.
#[derive(Default)]
struct Group {
    shown: BTreeMap<Option<u16>, String>,
    skipped: BTreeMap<Option<u16>, String>,
}

impl Group {
    /// What all have in common is said once. What is left out with one number of CPUs, and played
    /// with another, was played.
    fn text(&self) -> String {
        let shown = match self.shown.is_empty() {
            true => &self.skipped,
            false => &self.shown,
        };
        let distinct: BTreeSet<_> = shown.values().collect();
        if let [text] = &distinct.into_iter().collect::<Vec<_>>()[..] {
            return (*text).clone();
        }
        let cell = |(cpus, text): (&Option<u16>, &String)| match cpus {
            None => text.clone(),
            Some(cpus) => format!("{text} ({})", size::cpus(*cpus)),
        };
        shown.iter().map(cell).collect::<Vec<_>>().join(", ")
    }
}

/// A Markdown table, scenario × kernel and architecture, whose cells `show` fills. Runs with several
/// numbers of CPUs share a cell.
pub fn grid(results: &Results, show: impl Fn(Cell<'_>) -> String) -> String {
    let mut columns = BTreeSet::new();
    let mut rows = BTreeMap::<String, BTreeMap<String, Group>>::new();
    let mut put = |run: &RunId, cell: Cell<'_>| {
        let column = escape(&column(run));
        columns.insert(column.clone());
        let row = rows.entry(escape(&run.scenario)).or_default();
        let group = row.entry(column).or_default();
        let texts = match cell {
            Cell::Skipped => &mut group.skipped,
            Cell::Run(_) => &mut group.shown,
        };
        texts.insert(run.cpus, show(cell));
    };
    for skip in &results.skipped {
        put(&skip.run, Cell::Skipped);
    }
    for run in &results.runs {
        put(&run.run, Cell::Run(run));
    }
    let mut text = "| scenario |".to_owned();
    for column in &columns {
        let _ = write!(text, " {column} |");
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(columns.len()));
    for (scenario, row) in &rows {
        let _ = write!(text, "| {scenario} |");
        for column in &columns {
            let cell = row.get(column).map_or_else(String::new, Group::text);
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

/// `text` on one line, so that Markdown shows it as it is, in a table and outside.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            // Not with a backslash, which would stay within HTML.
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Kernels alone on the architecture where most run; with the architecture elsewhere.
fn column(run: &RunId) -> String {
    match run.arch == Arch::USUAL {
        true => run.kernel.clone(),
        false => format!("{} ({})", run.kernel, run.arch),
    }
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
    fn numbers_of_cpus_share_a_cell_and_are_named_where_they_differ() {
        let group = |shown: &[(Option<u16>, &str)], skipped: &[Option<u16>]| {
            let shown = shown.iter().map(|(cpus, text)| (*cpus, (*text).to_owned()));
            let skipped = skipped.iter().map(|cpus| (*cpus, "skipped".to_owned()));
            let group = Group {
                shown: shown.collect(),
                skipped: skipped.collect(),
            };
            group.text()
        };
        let two = Some(2);
        assert_eq!(group(&[(None, "passed"), (two, "passed")], &[]), "passed");
        let differ = group(&[(None, "passed"), (two, "failed")], &[]);
        assert_eq!(differ, "passed, failed (2 CPUs)");
        assert_eq!(group(&[(None, "passed")], &[Some(1)]), "passed");
        assert_eq!(group(&[], &[None, two]), "skipped");
    }

    #[test]
    fn the_table_takes_its_place_in_the_document() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        insta::assert_snapshot!(replace(&document, Path::new("doc.md"), "| new |").unwrap(), @r"
        before
        <!-- lab: verdicts -->

        | new |
        <!-- lab: end of verdicts -->
        after
        ");
    }

    #[test]
    fn a_document_without_a_place_is_an_error() {
        let error = replace("text", Path::new("doc.md"), "").unwrap_err();
        assert_eq!(error.blame, Blame::Usage);
        assert_eq!(error.what, "doc.md has no place for the verdicts");
    }

    #[test]
    fn a_cell_cannot_end_its_row() {
        assert_eq!(escape("a|b\nc<d>`e`"), "a\\|b c&lt;d&gt;\\`e\\`");
    }
}
