// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of lab itself while many guests run.

use crate::lab::Lab;
use crate::process::{guests, memory};
use crate::project::{LONG, Project, scenario};
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result};

const GUESTS: usize = 16;

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let project = Project::new(bench.root)?;
    for copy in 0..GUESTS {
        // So long that the first guest still runs when the last one has booted.
        project.scenario(&format!("copy-{copy:02}"), &scenario(20, 10))?;
    }
    let jobs = GUESTS.to_string();
    let lab = Lab::of(project.path());
    let name = format!("lab with {GUESTS} guests");
    let mut row = Row::new("memory", &name, "", Unit::Megabytes, Goal::AtMost(60.0));
    let mut fewest = usize::MAX;
    for _ in 0..bench.rounds {
        let (mut most, mut together) = (0, 0);
        let look = |lab: u32| {
            together = together.max(guests(lab).len());
            most = most.max(memory(lab, "status", &["VmHWM:"]).unwrap_or_default());
        };
        // Cold: a guest for each run.
        let args = ["scenarios", "--jobs", &jobs, "--cold", "--accept"];
        lab.watched_run(&[&args, &LONG[..]].concat(), |_| {}, look)?;
        row.measured.push(most as f64 / 1e6);
        fewest = fewest.min(together);
    }
    let note = match fewest {
        GUESTS.. => String::new(),
        _ => format!("only {fewest} guests ran at the same time"),
    };
    Ok(vec![row.noted(note)])
}
