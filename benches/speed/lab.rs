// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab` from outside: its commands, their events, and what its records say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::Result;
use crate::process::{self, Finished};

/// A lab that works in a project, with the user's cache or another one.
#[derive(Debug, Clone, Copy)]
pub struct Lab<'a> {
    pub project: &'a Path,
    pub cache: Option<&'a Path>,
}

/// A `lab run` that has ended as expected.
pub struct Played {
    pub finished: Finished,
    pub events: Events,
    /// Its records.
    results: TempDir,
}

/// The events of a command, in their order.
pub struct Events(Vec<Value>);

impl<'a> Lab<'a> {
    /// The lab of a project, with the user's cache.
    pub fn of(project: &'a Path) -> Self {
        Self {
            project,
            cache: None,
        }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        // Under CI=true no snapshot of a generated scenario would be accepted.
        command
            .args(args)
            .current_dir(self.project)
            .env_remove("CI")
            .env_remove("LAB_PROJECT");
        if let Some(cache) = self.cache {
            command.env("LAB_CACHE_DIR", cache);
        }
        command
    }

    /// `lab run ARGS`.
    pub fn run(&self, args: &[&str]) -> Result<Played> {
        self.watched_run(args, |_| {}, |_| {})
    }

    /// `lab run ARGS`: `change` changes the command, and `look` looks at the process.
    pub fn watched_run(
        &self,
        args: &[&str],
        change: impl FnOnce(&mut Command),
        look: impl FnMut(u32) + Send,
    ) -> Result<Played> {
        let results = tempfile::tempdir()?;
        let mut command = self.command(&[&["run"], args].concat());
        command.arg("--output").arg(results.path());
        change(&mut command);
        let finished = process::run(&mut command, look)?;
        let events = Events::read(results.path())?;
        Ok(Played {
            finished,
            events,
            results,
        })
    }

    /// The tree of a kernel that is built if need be; its objects are in `build`.
    pub fn tree(&self, kernel: &str) -> Result<PathBuf> {
        let said = process::run(&mut self.command(&["build", "kernel", kernel]), |_| {})?.said;
        let line = said.lines().last().unwrap_or_default();
        let boot_file = Path::new(line.rsplit(' ').next().unwrap_or_default());
        let tree = boot_file.ancestors().find(|dir| dir.ends_with("tree"));
        let tree =
            tree.ok_or_else(|| format!("`lab build kernel {kernel}` names no tree: {said}"))?;
        Ok(tree.to_owned())
    }
}

impl Played {
    /// The folder of the record that an event names.
    pub fn record(&self, event: &Value) -> Result<PathBuf> {
        let name = event["record"]
            .as_str()
            .ok_or("the event names no record")?;
        // It is relative to where lab was started, if it is below.
        let name = Path::new(name).file_name().unwrap_or_default();
        Ok(self.results.path().join("runs").join(name))
    }

    /// The record of the only run.
    pub fn only_record(&self) -> Result<PathBuf> {
        self.record(self.events.first("run-started")?)
    }
}

impl Events {
    fn read(results: &Path) -> Result<Self> {
        let mut events = Vec::new();
        for entry in fs::read_dir(results)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                let text = fs::read_to_string(path)?;
                let parsed: serde_json::Result<Vec<_>> =
                    text.lines().map(serde_json::from_str).collect();
                events.extend(parsed?);
            }
        }
        Ok(Self(events))
    }

    /// The events of a kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |event| event["kind"] == kind)
    }

    pub fn first<'a>(&'a self, kind: &'a str) -> Result<&'a Value> {
        let first = self.of(kind).next();
        first.ok_or_else(|| format!("there is no event `{kind}`").into())
    }

    pub fn last<'a>(&'a self, kind: &'a str) -> Result<&'a Value> {
        let last = self.of(kind).last();
        last.ok_or_else(|| format!("there is no event `{kind}`").into())
    }

    /// Seconds until each guest could be logged into; not those that had played another run before.
    pub fn ready(&self) -> Vec<f64> {
        let new = self.of("booted").filter(|event| event["after"].is_null());
        let ms = new.filter_map(|event| event["ready_ms"].as_f64());
        ms.map(|ms| ms / 1000.0).collect()
    }

    /// How guests were executed.
    pub fn accel(&self) -> Option<&str> {
        self.of("booted").find_map(|event| event["accel"].as_str())
    }

    /// Start and end of each phase that does something with `what`.
    pub fn phases(&self, what: impl Fn(&str) -> bool) -> Result<Vec<(f64, f64)>> {
        let of = self.of("phase-started");
        let of = of.filter(|event| event["what"].as_str().is_some_and(&what));
        let phase = |started: &Value| {
            let mut ends = self.of("phase-finished");
            let end = ends.find(|event| event["id"] == started["id"]);
            Ok((
                seconds(started)?,
                seconds(end.ok_or("a phase has no end")?)?,
            ))
        };
        of.map(phase).collect()
    }
}

/// From the first start to the last end of phases, in seconds.
pub fn span(phases: &[(f64, f64)]) -> f64 {
    let start = phases.iter().map(|phase| phase.0).min_by(f64::total_cmp);
    let end = phases.iter().map(|phase| phase.1).max_by(f64::total_cmp);
    start.zip(end).map_or(0.0, |(start, end)| end - start)
}

/// When an event happened, in seconds since 1970.
pub fn seconds(event: &Value) -> Result<f64> {
    let time: Timestamp = event["time"]
        .as_str()
        .ok_or("an event has no time")?
        .parse()?;
    Ok(since_1970(time))
}

pub fn since_1970(time: Timestamp) -> f64 {
    time.as_second() as f64 + f64::from(time.subsec_nanosecond()) / 1e9
}
