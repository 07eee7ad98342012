// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdicts as a Markdown table, scenario × kernel, kept up to date within a document.
//!
//! It holds nothing that differs from run to run, so that a test can tell whether a document is
//! still true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::cache::write_atomically;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::{Event, RunId};
use crate::runner::verdict::{Outcome, Verdict};

const BEGIN: &str = "<!-- lab: verdicts -->";
const END: &str = "<!-- lab: end of verdicts -->";

/// A table in the making, and the document that it belongs to.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    cells: BTreeMap<String, BTreeMap<String, String>>,
    columns: BTreeSet<String>,
    failures: BTreeMap<String, Vec<String>>,
}

impl Table {
    /// A table for the document at `path`, which must have a place for it.
    ///
    /// # Errors
    ///
    /// The file is not there, or its two marks are not.
    pub fn new(path: &Path) -> Result<Self> {
        replace(&read(path)?, path, "")?;
        Ok(Self {
            path: path.to_path_buf(),
            cells: BTreeMap::new(),
            columns: BTreeSet::new(),
            failures: BTreeMap::new(),
        })
    }

    /// Takes in an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Planned { skipped, .. } => {
                for skip in skipped {
                    self.cell(&skip.run, "skipped".to_owned());
                }
            }
            Event::RunFinished { run, verdict, .. } => self.verdict(run, verdict),
            _ => {}
        }
    }

    fn verdict(&mut self, run: &RunId, verdict: &Verdict) {
        self.cell(run, verdict.outcome.name().to_owned());
        if verdict.outcome == Outcome::ExpectedFailure {
            let name = format!("`{}` on `{}`", run.scenario, column(run));
            self.failures.insert(name, verdict.reasons.clone());
        }
    }

    fn cell(&mut self, run: &RunId, text: String) {
        let column = column(run);
        self.columns.insert(column.clone());
        let row = self.cells.entry(run.scenario.clone()).or_default();
        row.insert(column, text);
    }

    /// Writes the table to its place in the document.
    pub fn finish(&self) -> Result<()> {
        let text = replace(&read(&self.path)?, &self.path, &self.text())?;
        write_atomically(&self.path, text.as_bytes())
    }

    fn text(&self) -> String {
        let mut text = "| scenario |".to_owned();
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        let _ = write!(text, "\n|---|{}\n", "---|".repeat(self.columns.len()));
        for (scenario, row) in &self.cells {
            let _ = write!(text, "| {scenario} |");
            for column in &self.columns {
                let cell = row.get(column).map_or("", String::as_str);
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        for (run, reasons) in &self.failures {
            let _ = write!(text, "\n{run} fails as expected:\n\n");
            for reason in reasons {
                let _ = writeln!(text, "- {reason}");
            }
        }
        text
    }
}

/// Kernels alone on x86_64, where most run; with the architecture elsewhere.
fn column(run: &RunId) -> String {
    match run.arch {
        crate::arch::Arch::X86_64 => run.kernel.clone(),
        arch => format!("{} ({arch})", run.kernel),
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).at("read", path)
}

/// The document with `table` between its marks.
fn replace(document: &str, path: &Path, table: &str) -> Result<String> {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        let what = format!("{} has no place for the verdicts", path.display());
        return Err(Error::new(Blame::Usage, what).help(format!(
            "put the lines `{BEGIN}` and `{END}` where they shall be"
        )));
    };
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::event::Skipped;

    fn run(kernel: &str) -> RunId {
        RunId {
            scenario: "window".into(),
            kernel: kernel.into(),
            arch: Arch::X86_64,
        }
    }

    #[test]
    fn the_table_takes_its_place_in_the_document() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("doc.md");
        std::fs::write(&path, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        let mut table = Table::new(&path).unwrap();
        table.event(&Event::Planned {
            runs: Vec::new(),
            skipped: vec![Skipped {
                run: run("mainline"),
                reason: "no tags".into(),
            }],
            jobs: 1,
        });
        let mut failure = Verdict::passed();
        failure.outcome = Outcome::ExpectedFailure;
        failure.reasons = vec!["R1: nops".into(), "step 5: stock answers 20".into()];
        table.verdict(&run("rfc"), &failure);
        table.verdict(&run("tags"), &Verdict::passed());
        table.finish().unwrap();
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap(), @r"
        before
        <!-- lab: verdicts -->

        | scenario | mainline | rfc | tags |
        |---|---|---|---|
        | window | skipped | expected failure | passed |

        `window` on `rfc` fails as expected:

        - R1: nops
        - step 5: stock answers 20

        <!-- lab: end of verdicts -->
        after
        ");
    }

    #[test]
    fn a_document_without_a_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("doc.md");
        std::fs::write(&path, "text").unwrap();
        let error = Table::new(&path).unwrap_err();
        assert_eq!(error.blame, Blame::Usage);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
    }
}
