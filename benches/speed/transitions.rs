// SPDX-License-Identifier: MIT OR Apache-2.0
//! How soon the lab notices that a transition has ended.
//!
//! The guest's log says when it ended, by the guest's clock; events say when the step began and
//! ended, by the host's. A `disable` is a transition as soon as its request is in the guest: so the
//! host's clock is ahead of the guest's by (begin of the step - begin of the transition), and by a
//! request's way. The median of these differences aligns the clocks: a lag is then too long by the
//! way of a usual request. The shortest way would be too good: the guest's log stands still while a
//! tick of its clock is late, so that a transition can seem to begin before its step.

use std::fs;

use crate::lab::{Events, Lab, seconds};
use crate::project::{Project, scenario};
use crate::row::{Goal, Row, Spread, Unit};
use crate::{Bench, Result};

/// How often the livepatch is loaded and disabled in a round.
const TIMES: usize = 4;
/// How far the clocks may be apart after that.
const APART: f64 = 0.020;

/// A transition in the log, in seconds of the guest's clock.
#[derive(Debug, Clone, Copy)]
pub struct InLog {
    pub begin: f64,
    pub end: f64,
}

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let project = Project::new(bench.root)?;
    project.scenario("short", &scenario(TIMES, 10))?;
    let lab = Lab::of(project.path());
    let args = ["scenarios/short.yaml", "--accept"];
    lab.run(&args)?;
    let goal = Goal::AtMost(20.0);
    let row = |name| Row::new("transitions", name, "", Unit::Milliseconds, goal);
    let mut loads = row("end seen, loading");
    let mut disables = row("end seen, disabling");
    for _ in 0..bench.rounds {
        let played = lab.run(&args)?;
        let log = fs::read_to_string(played.only_record()?.join("kernel.log"))?;
        for (label, lag) in lags(&played.events, &in_log(&log))? {
            let row = if label.starts_with("load ") {
                &mut loads
            } else {
                &mut disables
            };
            row.measured.push(1000.0 * lag);
        }
    }
    Ok(vec![loads, disables])
}

/// The steps with a transition, and how long after its end each of them ended, without the state
/// that is read then.
fn lags(events: &Events, log: &[InLog]) -> Result<Vec<(String, f64)>> {
    let mut steps = Vec::new();
    let mut reading = Vec::new();
    for (started, finished) in events.of("step-started").zip(events.of("step-finished")) {
        let label = started["label"].as_str().unwrap_or_default();
        let step = (label, seconds(started)?, seconds(finished)?);
        match label {
            "load fix" | "disable fix" => steps.push(step),
            // Such a step reads the state, and nothing else.
            label if label.starts_with("expect") => reading.push(step.2 - step.1),
            _ => {}
        }
    }
    if steps.len() != log.len() || steps.is_empty() {
        let (steps, log) = (steps.len(), log.len());
        return Err(format!("{steps} steps have {log} transitions in the log").into());
    }
    let reading = Spread::of(&reading)
        .ok_or("no step only reads the state")?
        .median;
    let pairs = || steps.iter().zip(log);
    let disables = pairs().filter(|((label, ..), _)| label.starts_with("disable "));
    let ahead: Vec<f64> = disables
        .map(|((_, begin, _), log)| begin - log.begin)
        .collect();
    let ahead = Spread::of(&ahead).ok_or("no step disables")?.median;
    let lag = |((label, _, end), log): (&(&str, f64, f64), &InLog)| {
        ((*label).to_owned(), end - (log.end + ahead) - reading)
    };
    let lags: Vec<_> = pairs().map(lag).collect();
    // No step ends before its transition.
    match lags.iter().find(|(_, lag)| *lag + reading < -APART) {
        Some((label, lag)) => {
            Err(format!("the clocks differ: {label} was noticed in {lag} s").into())
        }
        None => Ok(lags),
    }
}

/// The transitions of a record's kernel.log: `[ 1.017537] livepatch: 'x': initializing … transition`
/// until `… complete`.
pub fn in_log(log: &str) -> Vec<InLog> {
    let (mut all, mut begun) = (Vec::new(), None);
    for line in log.lines() {
        let Some((stamp, text)) = line.trim_start_matches('[').split_once("] livepatch: '") else {
            continue;
        };
        let Ok(at) = stamp.trim().parse::<f64>() else {
            continue;
        };
        if text.contains(": initializing ") {
            begun = Some(at);
        } else if text.trim_end().ends_with("patching complete")
            && let Some(begin) = begun.take()
        {
            all.push(InLog { begin, end: at });
        }
    }
    all
}
