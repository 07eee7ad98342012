// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole matrix against what is possible: no faster than the CPU time of its guests on all
//! cores, nor than its longest run alone. Waits of guests overlap, so they count for nothing else.

use crate::host::cores;
use crate::lab::Lab;
use crate::project::find_scenario;
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result};

/// The number of CPUs of each guest, and the seconds that the matrix may take with it.
const CPUS: [(&str, f64); 2] = [("1", 70.0), ("2", 120.0)];

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (cpus, most) in CPUS {
        rows.extend(measure_with(bench, cpus, most)?);
    }
    Ok(rows)
}

fn measure_with(bench: &Bench<'_>, cpus: &str, most: f64) -> Result<[Row; 2]> {
    let lab = Lab::of(bench.root);
    let args = ["--profile", "nightly", "--cpus", cpus];
    lab.run(&args)?;
    let what = format!(
        "the whole matrix, {cpus} CPU{}",
        if cpus == "1" { "" } else { "s" }
    );
    let row = |against, goal| Row::new("matrix", &what, against, Unit::Seconds, goal);
    let mut whole = row("", Goal::AtMost(most));
    let mut part = row("the possible", Goal::Times(0.8));
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
        let alone = ["--kernel", kernel, "--arch", arch, "--cpus", cpus];
        let alone = lab.run(&[&[&*file], &alone[..]].concat())?;
        let alone = alone.finished.seconds;
        let cpu = played.finished.cpu() / cores() as f64;
        bounds.push(if cpu > alone { "CPU time" } else { name }.to_owned());
        whole.measured.push(played.finished.seconds);
        part.pair(played.finished.seconds, cpu.max(alone));
    }
    bounds.sort();
    bounds.dedup();
    Ok([
        whole,
        part.noted(format!("bounded by {}", bounds.join(", "))),
    ])
}
