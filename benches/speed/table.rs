// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows in `target/speed.json`, and as a markdown table between two marks of
//! `docs/performance.md`.
//!
//! Groups can be measured one after the other: the file and the document keep the rows of the groups
//! that were not measured this time, each with its commit. The document gets what was measured now and
//! nothing else of the file, which may be older than the document is.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Result;
use crate::host::Host;
use crate::row::{Goal, Row, Spread, Unit};

const JSON: &str = "target/speed.json";
const DOCS: &str = "docs/performance.md";
const BEGIN: &str = "<!-- speed: begin -->";
const END: &str = "<!-- speed: end -->";

/// The columns. `judged` is what the goal speaks of: the ratio of each round, or the value itself;
/// `n` says how many there are.
const HEADER: [&str; COLUMNS] = [
    "stretch",
    "set against",
    "median",
    "judged",
    "n",
    "goal",
    "met",
];
const COLUMNS: usize = 7;

/// What is in the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    host: Host,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(host: Host, mut rows: Vec<Row>) -> Self {
        for row in &mut rows {
            row.taken = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
            row.commit.clone_from(&host.commit);
        }
        Self { host, rows }
    }

    /// These rows and, of the groups that were not measured now, those in the file. In the order
    /// of `groups`.
    pub fn with_earlier(self, root: &Path, groups: &[&str]) -> Self {
        let text = fs::read(root.join(JSON)).unwrap_or_default();
        let earlier = serde_json::from_slice::<Self>(&text);
        let earlier = earlier.map(|table| table.rows).unwrap_or_default();
        let place = |group: &str| groups.iter().position(|name| *name == group);
        let now = |group: &str| self.rows.iter().any(|row| row.group == group);
        let mut rows: Vec<Row> = earlier.into_iter().filter(|row| !now(&row.group)).collect();
        rows.extend(self.rows.iter().cloned());
        rows.retain(|row| place(&row.group).is_some());
        rows.sort_by_key(|row| place(&row.group));
        Self {
            host: self.host,
            rows,
        }
    }

    /// Writes the file: the rows, and what follows from them for whoever reads it.
    pub fn write(&self, root: &Path) -> Result<()> {
        let mut table = serde_json::to_value(self)?;
        let values = table["rows"].as_array_mut().into_iter().flatten();
        for (value, row) in values.zip(&self.rows) {
            let map = value.as_object_mut().ok_or("a row is no object")?;
            map.insert("judged".to_owned(), spread(&row.judged()));
            map.insert("measured_spread".to_owned(), spread(&row.measured));
            map.insert("limit_spread".to_owned(), spread(&row.limit));
            map.insert("met".to_owned(), json!(row.is_met()));
        }
        let file = root.join(JSON);
        // Cargo may have its own folder elsewhere.
        fs::create_dir_all(root.join("target"))?;
        fs::write(file, serde_json::to_string_pretty(&table)? + "\n")?;
        Ok(())
    }

    /// Puts the table into the document, whose other rows stay.
    pub fn update_docs(&self, root: &Path) -> Result<()> {
        let path = root.join(DOCS);
        let text = fs::read_to_string(&path)?;
        let marks = "docs/performance.md has not both marks";
        let (before, rest) = text.split_once(BEGIN).ok_or(marks)?;
        let (published, after) = rest.split_once(END).ok_or(marks)?;
        let mut lines = published_lines(published)?;
        for new in self.rows.iter().map(Line::of) {
            match lines.iter_mut().find(|line| line.title() == new.title()) {
                Some(line) => *line = new,
                None => lines.push(new),
            }
        }
        let table = markdown(&self.host, &lines);
        fs::write(path, format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))?;
        Ok(())
    }

    /// The hardware, the table, and the notes below it.
    pub fn markdown(&self) -> String {
        let lines: Vec<_> = self.rows.iter().map(Line::of).collect();
        markdown(&self.host, &lines)
    }
}

/// A row as it is shown.
struct Line {
    cells: [String; COLUMNS],
    note: String,
    commit: String,
}

impl Line {
    fn of(row: &Row) -> Self {
        Self {
            cells: cells(row),
            note: row.note.clone(),
            commit: row.commit.clone(),
        }
    }

    /// Its name, for a sentence.
    fn title(&self) -> String {
        let [name, against, ..] = &self.cells;
        match against.is_empty() {
            true => name.clone(),
            false => format!("{name} / {against}"),
        }
    }
}

/// The lines that [`markdown`] wrote.
fn published_lines(text: &str) -> Result<Vec<Line>> {
    let with = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let commit = with("- commit: ").ok_or("docs/performance.md names no commit")?;
    let table = text.lines().filter_map(|line| line.strip_prefix('|'));
    let mut lines = Vec::new();
    for line in table.skip(2) {
        let line = line.trim_end().strip_suffix('|').unwrap_or(line);
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        let cells = cells
            .try_into()
            .map_err(|_| format!("docs/performance.md: this is no row: |{line}|"))?;
        lines.push(Line {
            cells,
            note: String::new(),
            commit: commit.to_owned(),
        });
    }
    for line in &mut lines {
        let title = line.title();
        line.note = with(&format!("- *{title}*: "))
            .unwrap_or_default()
            .to_owned();
        let taken = text.lines().filter_map(|line| line.strip_prefix("- At "));
        let mut taken = taken.filter_map(|line| line.trim_end_matches('.').split_once(": "));
        if let Some((commit, _)) =
            taken.find(|(_, titles)| titles.split("; ").any(|other| other == title))
        {
            commit.clone_into(&mut line.commit);
        }
    }
    Ok(lines)
}

fn markdown(host: &Host, lines: &[Line]) -> String {
    let mut text = host.markdown();
    text.push('\n');
    let header = HEADER.map(str::to_owned);
    let table: Vec<_> = std::iter::once(&header)
        .chain(lines.iter().map(|line| &line.cells))
        .collect();
    let width = |column: usize| {
        let cells = table.iter().map(|cells| cells[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for (number, cells) in table.iter().enumerate() {
        let cells: [String; COLUMNS] =
            std::array::from_fn(|column| format!("{:1$}", cells[column], widths[column]));
        text += &format!("| {} |\n", cells.join(" | "));
        if number == 0 {
            let rules = widths.map(|width| "-".repeat(width));
            text += &format!("| {} |\n", rules.join(" | "));
        }
    }
    let noted: Vec<_> = lines
        .iter()
        .filter(|line| !line.note.is_empty())
        .map(|line| format!("- *{}*: {}\n", line.title(), line.note))
        .collect();
    if !noted.is_empty() {
        text.push('\n');
        text += &noted.concat();
    }
    let mut commits: Vec<_> = lines.iter().map(|line| &line.commit).collect();
    commits.sort();
    commits.dedup();
    if commits.iter().any(|commit| **commit != host.commit) {
        let of = |commit: &&String| {
            let lines = lines.iter().filter(|line| line.commit == **commit);
            let names: Vec<_> = lines.map(Line::title).collect();
            format!("- At {commit}: {}.\n", names.join("; "))
        };
        text.push('\n');
        text += &commits.iter().map(of).collect::<String>();
    }
    text
}

fn spread(values: &[f64]) -> Value {
    json!(Spread::of(values))
}

/// A row in a line, for whoever waits for the rest.
pub fn line(row: &Row) -> String {
    let line = Line::of(row);
    let [_, _, medians, judged, ..] = &line.cells;
    format!("{}: {medians}; {judged}", line.title())
}

fn cells(row: &Row) -> [String; COLUMNS] {
    let unit = row.unit.text();
    let median = |values: &[f64]| Spread::of(values).map(|spread| digits(spread.median));
    let medians = match (median(&row.measured), median(&row.limit)) {
        (Some(measured), Some(limit)) => format!("{measured} / {limit} {unit}"),
        (Some(measured), None) => format!("{measured} {unit}"),
        (None, _) => "not measured".to_owned(),
    };
    let judged = Spread::of(&row.judged()).map_or_else(String::new, |spread| {
        let [median, min, max] = [spread.median, spread.min, spread.max].map(digits);
        format!("{median} ({min}..{max})")
    });
    let goal = match row.goal {
        Goal::Ratio(most) => format!("<= {most} x"),
        Goal::Times(least) => format!(">= {least} x"),
        Goal::AtMost(most) => format!("<= {most} {unit}"),
        Goal::Shown => String::new(),
    };
    let met = match row.is_met() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let values = match row.judged().len() {
        0 => String::new(),
        values => values.to_string(),
    };
    let (name, against) = (row.name.clone(), row.against.clone());
    [name, against, medians, judged, values, goal, met.to_owned()]
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::Megabytes => "MB",
            Unit::Calls => "calls",
        }
    }
}
