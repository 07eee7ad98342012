// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that come from a warm template: when they are ready, and the memory that each takes
//! besides what all of them share.

use std::collections::BTreeMap;

use crate::boot::{ARCHS, boot, ready, short_project};
use crate::lab::Lab;
use crate::process::{guests, memory};
use crate::project::{LONG, Project, scenario};
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result};

/// Guests at the same time, at most, whose memory is looked at.
const GUESTS: usize = 4;

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let project = short_project(bench, &ARCHS)?;
    let mut rows = Vec::new();
    for arch in ARCHS {
        let name = format!("warm fork, {arch}");
        let mut row = Row::new("fork", &name, "", Unit::Seconds, Goal::AtMost(0.2));
        for _ in 0..bench.rounds {
            row.measured.push(ready(&boot(&project, arch, &[])?)?);
        }
        rows.push(row);
    }
    rows.push(measure_memory(bench)?);
    Ok(rows)
}

/// The pages that a QEMU has to itself, at the most, while several of the same kind run: those of
/// the template's file are shared, and do not grow with the guests.
fn measure_memory(bench: &Bench<'_>) -> Result<Row> {
    let project = Project::new(bench.root)?;
    // A guest that has played one run plays another one, so there are fewer guests than runs.
    for copy in 0..2 * GUESTS {
        project.scenario(&format!("copy-{copy}"), &scenario(3, 10))?;
    }
    let jobs = GUESTS.to_string();
    let args = [&["scenarios", "--jobs", &jobs, "--accept"], &LONG[..]].concat();
    let lab = Lab::of(project.path());
    lab.run(&args)?;
    let goal = Goal::AtMost(100.0);
    let mut row = Row::new("fork", "memory of a guest", "", Unit::Megabytes, goal);
    for _ in 0..bench.rounds {
        let mut most: BTreeMap<u32, u64> = BTreeMap::new();
        let look = |lab: u32| {
            for guest in guests(lab) {
                let own = ["Private_Clean:", "Private_Dirty:"];
                let bytes = memory(guest, "smaps_rollup", &own).unwrap_or_default();
                let most = most.entry(guest).or_default();
                *most = (*most).max(bytes);
            }
        };
        lab.watched_run(&args, |_| {}, look)?;
        row.measured
            .extend(most.into_values().map(|bytes| bytes as f64 / 1e6));
    }
    Ok(row)
}
