// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows at the bottom of a terminal that say what is under way, below all that has been said.
//!
//! No row is as wide as the terminal: one that is breaks when the terminal itself writes `^C` behind
//! it, and what was above stays there for ever.

use std::io::Write;
use std::time::{Duration, Instant};

use super::screen::{cut, size};
use crate::event::RunId;

/// Columns that are left free: `^C`, and the cursor.
const FREE: usize = 3;
/// Columns of a bar.
const BAR: usize = 20;
/// Characters of what is at hand in a phase.
const DETAIL: usize = 40;

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A phase.
    Phase(u64),
    /// A run.
    Run(RunId),
    /// All runs, below the others.
    Whole,
}

/// How far something is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, if that is known.
    pub total: Option<u64>,
    /// What is at hand.
    pub detail: String,
}

struct Row {
    key: Key,
    since: Instant,
    text: String,
    progress: Progress,
}

/// The rows, and what of them is on the terminal.
#[derive(Default)]
pub struct Rows {
    rows: Vec<Row>,
    /// The rows as they were drawn.
    drawn: Vec<String>,
    /// Whether people type on the terminal.
    hidden: bool,
}

impl Rows {
    /// Rows for standard error, if that is a terminal whose cursor can be moved.
    pub fn of_terminal() -> Option<Self> {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        (!dumb && size(std::io::stderr()).is_some()).then(Self::default)
    }

    /// Adds a row, or changes its text.
    pub fn set(&mut self, key: Key, text: impl Into<String>) {
        let text = text.into();
        if let Some(row) = self.rows.iter_mut().find(|row| row.key == key) {
            row.text = text;
            return;
        }
        let rank = |key: &Key| match key {
            Key::Phase(_) => 0,
            Key::Run(_) => 1,
            Key::Whole => 2,
        };
        let at = self
            .rows
            .partition_point(|row| rank(&row.key) <= rank(&key));
        let (since, progress) = (Instant::now(), Progress::default());
        self.rows.insert(
            at,
            Row {
                key,
                since,
                text,
                progress,
            },
        );
    }

    /// Says how far a row's matter is.
    pub fn progress(&mut self, key: &Key, progress: Progress) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.key == *key) {
            row.progress = progress;
        }
    }

    /// Takes a row away.
    pub fn remove(&mut self, key: &Key) {
        self.rows.retain(|row| row.key != *key);
    }

    /// Takes all rows away.
    pub fn end(&mut self) {
        self.rows.clear();
        self.above(|| {});
    }

    /// Draws nothing from now on, or draws again.
    pub fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
        self.tick();
    }

    /// Lets something be written above the rows.
    pub fn above(&mut self, write: impl FnOnce()) {
        let columns = size(std::io::stderr()).map_or(80, |(columns, _)| columns);
        emit(&erase(&self.drawn, columns));
        self.drawn.clear();
        write();
        self.tick();
    }

    /// Draws what has changed.
    pub fn tick(&mut self) {
        let (columns, rows) = size(std::io::stderr()).unwrap_or((80, 24));
        let new = self.texts(Instant::now(), columns, rows);
        if new != self.drawn {
            emit(&(erase(&self.drawn, columns) + &new.join("\r\n")));
            self.drawn = new;
        }
    }

    /// What the rows say now, on a terminal of this size: at most half of its rows.
    fn texts(&self, now: Instant, columns: usize, rows: usize) -> Vec<String> {
        if self.hidden {
            return Vec::new();
        }
        let (most, last) = ((rows / 2).max(2), self.rows.last());
        let whole = last.filter(|row| row.key == Key::Whole);
        let others = &self.rows[..self.rows.len() - usize::from(whole.is_some())];
        let room = most - usize::from(whole.is_some());
        let shown = others.iter().take(room).chain(whole);
        let width = columns.saturating_sub(FREE).max(8);
        shown.map(|row| cut(&row.text(now), width)).collect()
    }
}

impl Row {
    /// `   3 s  build kernel tags x86_64  [####                ] 231/1133 kernel/fork.o`
    fn text(&self, now: Instant) -> String {
        let (
            since,
            Progress {
                done,
                total,
                detail,
            },
        ) = (now - self.since, &self.progress);
        let mut text = format!("{:>6}  {}", elapsed(since), self.text);
        let detail: String = detail.chars().take(DETAIL).collect();
        if let Some(total) = total {
            let total = (*total).max(*done).max(1);
            let full = usize::try_from(*done * BAR as u64 / total)
                .unwrap_or(BAR)
                .min(BAR);
            text += &format!("  [{:BAR$}] {done}/{total}", "#".repeat(full));
        } else if *done > 0 {
            text += &format!("  {done}");
        }
        if !detail.is_empty() {
            text += &format!(" {detail}");
        }
        text
    }
}

/// `59 s`, `12 min`.
fn elapsed(since: Duration) -> String {
    match since.as_secs() {
        seconds @ 0..600 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// What takes rows from the terminal again, with the cursor at the end of the last one. A terminal
/// that has become narrower has broken them.
fn erase(drawn: &[String], columns: usize) -> String {
    let height = |row: &String| row.chars().count().div_ceil(columns.max(1)).max(1);
    match drawn.iter().map(height).sum::<usize>() {
        0 => String::new(),
        1 => "\r\u{1b}[J".to_owned(),
        rows => format!("\r\u{1b}[{}A\u{1b}[J", rows - 1),
    }
}

fn emit(text: &str) {
    if !text.is_empty() {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::run;

    #[test]
    fn rows_are_in_order_and_never_as_wide_as_the_terminal() {
        let mut rows = Rows::default();
        rows.set(Key::Whole, "[####] 3/8 done");
        for name in ["a", "b", "c"] {
            rows.set(Key::Run(run(name)), format!("{name}: {}", "x".repeat(200)));
        }
        rows.set(Key::Phase(1), "build kernel tags");
        rows.set(Key::Run(run("a")), "a: boots");
        let detail = "kernel/fork.o".to_owned();
        let progress = Progress {
            done: 5,
            total: Some(10),
            detail,
        };
        rows.progress(&Key::Phase(1), progress);
        let now = Instant::now() + Duration::from_secs(2);
        let texts = rows.texts(now, 80, 24);
        assert_eq!(
            texts[0],
            "   2 s  build kernel tags  [##########          ] 5/10 kernel/fork.o"
        );
        assert_eq!((texts[1].as_str(), texts.len()), ("   2 s  a: boots", 5));
        assert!(texts[4].ends_with("3/8 done"));
        assert!(
            texts.iter().all(|text| text.chars().count() <= 77),
            "{texts:?}"
        );
        // On a small one the last row stays.
        let few = rows.texts(now, 80, 6);
        assert!(few.len() == 3 && few[2].ends_with("3/8 done"), "{few:?}");
        rows.remove(&Key::Run(run("a")));
        assert_eq!(rows.texts(now, 80, 24).len(), 4);
        rows.hidden = true;
        assert_eq!(rows.texts(now, 80, 24), [""; 0]);
    }

    #[test]
    fn what_was_drawn_is_erased_also_where_it_was_broken() {
        let drawn = ["x".repeat(77), "y".to_owned()];
        assert_eq!(erase(&drawn, 80), "\r\u{1b}[1A\u{1b}[J");
        assert_eq!(erase(&drawn, 40), "\r\u{1b}[2A\u{1b}[J");
        assert_eq!(
            (erase(&drawn[1..], 80).as_str(), erase(&[], 80).as_str()),
            ("\r\u{1b}[J", "")
        );
    }
}
