// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows at the bottom of a terminal that say what is under way, below all that has been said.
//!
//! No row is as wide as the terminal: one that is breaks when the terminal itself writes `^C` behind
//! it, and what was above stays there for ever.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::screen::{cut, size};
use crate::event::RunId;

/// Columns that are left free: `^C`, and the cursor.
const FREE: usize = 3;
/// Columns that a row has at the least.
const LEAST: usize = 8;
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
pub struct Rows {
    rows: Vec<Row>,
    /// What draws: a bar for each row that is shown.
    bars: MultiProgress,
    drawn: Vec<ProgressBar>,
    /// Whether people type on the terminal.
    hidden: bool,
}

impl Rows {
    /// Rows for standard error, if that is a terminal whose cursor can be moved.
    pub fn of_terminal() -> Option<Self> {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let is_terminal = !dumb && size(std::io::stderr()).is_some();
        is_terminal.then(|| Self::on(ProgressDrawTarget::term_like(Box::new(Narrow::default()))))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        Self {
            rows: Vec::new(),
            bars: MultiProgress::with_draw_target(target),
            drawn: Vec::new(),
            hidden: false,
        }
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
        self.tick();
    }

    /// Draws nothing from now on, or draws again.
    pub fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
        self.tick();
    }

    /// Lets something be written above the rows.
    pub fn above(&mut self, write: impl FnOnce()) {
        self.bars.suspend(write);
        self.tick();
    }

    /// Draws what has changed.
    pub fn tick(&mut self) {
        let (columns, rows) = size(std::io::stderr()).unwrap_or((80, 24));
        let texts = self.texts(Instant::now(), columns, rows);
        for bar in self.drawn.drain(texts.len().min(self.drawn.len())..) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        for (index, text) in texts.into_iter().enumerate() {
            match self.drawn.get(index) {
                Some(bar) if bar.message() == text => {}
                Some(bar) => bar.set_message(text),
                None => {
                    let bar = ProgressBar::new_spinner()
                        .with_style(style())
                        .with_message(text);
                    let bar = self.bars.add(bar);
                    bar.tick();
                    self.drawn.push(bar);
                }
            }
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
        let width = columns.saturating_sub(FREE).max(LEAST);
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

/// A row's text, which has all of it.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Standard error, said to be narrower than it is. What draws fills each row up to the width and relies
/// on the terminal for the next one: here, the next row begins where that width is reached.
#[derive(Debug, Default)]
struct Narrow {
    /// Columns of this row that have been written.
    column: AtomicUsize,
}

impl Narrow {
    fn emit(text: &str) -> io::Result<()> {
        io::stderr().lock().write_all(text.as_bytes())
    }

    /// Moves the cursor, by a CSI sequence with this final character.
    fn step(n: usize, to: char) -> io::Result<()> {
        match n {
            0 => Ok(()),
            n => Self::emit(&format!("\u{1b}[{n}{to}")),
        }
    }

    fn begin_row(&self, how: &str) -> io::Result<()> {
        self.column.store(0, Ordering::Relaxed);
        Self::emit(how)
    }
}

impl TermLike for Narrow {
    fn width(&self) -> u16 {
        let columns = size(io::stderr()).map_or(80, |(columns, _)| columns);
        u16::try_from(columns.saturating_sub(FREE).max(LEAST)).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        let rows = size(io::stderr()).map_or(24, |(_, rows)| rows);
        u16::try_from(rows).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        Self::step(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        Self::step(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        Self::step(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        Self::step(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.begin_row("\r\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        if text == "\r" {
            return self.begin_row(text);
        }
        if self.column.load(Ordering::Relaxed) >= usize::from(self.width()) {
            self.begin_row("\r\n")?;
        }
        self.column
            .fetch_add(text.chars().count(), Ordering::Relaxed);
        Self::emit(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.begin_row("\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::run;

    #[test]
    fn rows_are_in_order_and_never_as_wide_as_the_terminal() {
        let mut rows = Rows::on(ProgressDrawTarget::hidden());
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
}
