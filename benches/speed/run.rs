// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab run` with warm caches: the whole of it, against the CPU time that it takes; what it adds
//! before the guest is started and after its last step; and a cold one against a bare boot.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, seconds, since_1970};
use crate::qemu::Bare;
use crate::row::{Goal, Row, Unit};
use crate::transitions;
use crate::{Bench, Result};

const SCENARIO: &str = "scenarios/tagged-replace.yaml";

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let lab = Lab::of(bench.root);
    let mut added = Row::new(
        "run",
        "lab run itself",
        "",
        Unit::Milliseconds,
        Goal::AtMost(150.0),
    );
    let row = |against, goal| Row::new("run", "warm lab run", against, Unit::Seconds, goal);
    let mut warm = row("", Goal::AtMost(1.0));
    let mut busy = row("its CPU time", Goal::Ratio(1.6));
    let against = "boot + waits";
    let mut whole = Row::new("run", "all of lab run", against, Unit::Seconds, Goal::Shown);
    let mut cold = 0;
    while added.measured.len() < bench.rounds {
        let played = lab.run(&[SCENARIO])?;
        // Another lab that uses the cache may have made it forget what this one knew.
        if played.events.of("phase-started").next().is_some() {
            cold += 1;
            if cold > bench.rounds {
                return Err("the caches do not stay warm: does another lab use them?".into());
            }
            continue;
        }
        let (finished, events) = (&played.finished, &played.events);
        let before = seconds(events.first("run-started")?)? - since_1970(finished.started);
        let after = since_1970(finished.ended) - seconds(events.last("step-finished")?)?;
        added.measured.push(1000.0 * (before + after));
        warm.measured.push(finished.seconds);
        busy.pair(finished.seconds, finished.cpu());
    }
    for _ in 0..bench.rounds {
        let played = lab.run(&[SCENARIO, "--cold"])?;
        let record = played.only_record()?;
        let limit = Bare::of(&record)?.boot()? + in_transition(&record)?;
        whole.pair(played.finished.seconds, limit);
    }
    Ok(vec![warm, busy, added, whole])
}

/// The time from the begin to the end of all transitions in the guest's log.
fn in_transition(record: &Path) -> Result<f64> {
    let log = fs::read_to_string(record.join("kernel.log"))?;
    let all = transitions::in_log(&log);
    Ok(all
        .iter()
        .map(|transition| transition.end - transition.begin)
        .sum())
}
