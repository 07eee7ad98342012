// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports, all made from the one stream of events.

pub mod files;
pub mod github;
pub mod human;
pub mod junit;
pub mod ktap;
pub mod paint;
pub mod read;
pub mod results;
mod rows;
pub mod screen;

/// A line for standard output. A reader that has gone (`lab … | head`, a terminal that was closed)
/// does not end the work.
pub fn to_stdout(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line for standard error; see [`to_stdout`].
pub fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod sample;
pub mod table;
pub mod text;
mod trace;
pub mod verdict;

use std::io::Write;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::error::Result;
use crate::event::Stamped;
use files::{Files, ReportFile};
use human::Human;
use results::Results;

/// How often what is under way is drawn on a terminal.
const TICK: Duration = Duration::from_millis(100);

/// Where events go.
pub struct Reports {
    human: Human,
    files: Vec<ReportFile>,
    results: Results,
}

impl Reports {
    /// A report for people, and those into files.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn new(human: Human, files: Files) -> Result<Self> {
        Ok(Self {
            human,
            files: files.open()?,
            results: Results::default(),
        })
    }

    /// Begins with what an earlier command found out.
    #[must_use]
    pub fn resume(mut self, earlier: Results) -> Self {
        self.results = earlier;
        self
    }

    /// Consumes the stream until its last sender is gone.
    pub fn spawn(mut self, mut events: UnboundedReceiver<Stamped>) -> JoinHandle<Result<()>> {
        tokio::spawn(async move {
            let mut result = Ok(());
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    stamped = events.recv() => match stamped {
                        Some(stamped) => result = result.and(self.event(&stamped)),
                        None => break,
                    },
                    _ = ticks.tick(), if self.human.is_drawn() => self.human.tick(),
                }
            }
            self.human.finish(&self.results);
            result
        })
    }

    /// Hands on an event. A file that cannot be written gets no further ones: a hole in a report is
    /// worse than its end.
    fn event(&mut self, stamped: &Stamped) -> Result<()> {
        self.results.event(stamped);
        self.human.event(&stamped.event, &self.results);
        let mut result = Ok(());
        let results = &self.results;
        self.files.retain_mut(|file| {
            let written = file.event(stamped, results);
            let goes_on = written.is_ok();
            if let (true, Err(error)) = (result.is_ok(), written) {
                result = Err(error);
            }
            goes_on
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Events};
    use crate::report::files::Format;
    use crate::report::paint::Color;

    #[tokio::test]
    async fn a_file_that_cannot_be_written_stops_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut files = Files::default();
        files.add(Format::Ktap, "/dev/full".into());
        files.add(Format::Jsonl, path.clone());
        let (events, receiver) = Events::channel();
        let spawned = Reports::new(Human::new(Color::Never), files)
            .unwrap()
            .spawn(receiver);
        for stamped in sample::events() {
            if !matches!(
                stamped.event,
                Event::PhaseFinished { .. } | Event::Note { .. }
            ) {
                events.send(stamped.event);
            }
        }
        drop(events);
        let error = spawned.await.unwrap().unwrap_err();
        assert!(error.what.starts_with("cannot write /dev/full"), "{error}");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), sample::events().len() - 2);
    }
}
