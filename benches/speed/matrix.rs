// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole matrix against what is possible: no faster than the CPU time of its guests on all
//! cores, nor than its longest run alone. Waits of guests overlap, so they count for nothing else.

use crate::host::cores;
use crate::lab::Lab;
use crate::project::find_scenario;
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result};

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let lab = Lab::of(bench.root);
    let args = ["--profile", "nightly"];
    lab.run(&args)?;
    let goal = Goal::Times(0.8);
    let mut row = Row::new(
        "matrix",
        "the whole matrix",
        "the possible",
        Unit::Seconds,
        goal,
    );
    let mut bounds = Vec::new();
    for _ in 0..bench.rounds {
        let played = lab.run(&args)?;
        let runs = played.events.of("run-finished");
        let longest = runs.max_by_key(|event| event["ms"].as_u64());
        let run = &longest.ok_or("nothing was played")?["run"];
        let text = |field: &str| run[field].as_str().ok_or("a run has no name");
        let (name, kernel, arch) = (text("scenario")?, text("kernel")?, text("arch")?);
        let file = find_scenario(&bench.root.join("scenarios"), name)?;
        let file = file.ok_or_else(|| format!("the scenario {name} has no file"))?;
        let file = file.display().to_string();
        let alone = lab.run(&[&file, "--kernel", kernel, "--arch", arch])?;
        let alone = alone.finished.seconds;
        let cpu = played.finished.children_cpu / cores() as f64;
        bounds.push(if cpu > alone { "CPU time" } else { name }.to_owned());
        row.pair(played.finished.seconds, cpu.max(alone));
    }
    bounds.sort();
    bounds.dedup();
    Ok(vec![row.noted(format!("bounded by {}", bounds.join(", ")))])
}
