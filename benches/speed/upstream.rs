// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 32 cases of the kernel's own livepatch selftests, as scenarios, against the originals: the
//! same kernel, the same machine, the same accelerator, one after the other in the same minutes.
//!
//! The originals' time is that of the scripts alone, without the boot of their guest; the scenarios'
//! is that of the whole command.

use crate::lab::Lab;
use crate::process;
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result};

const KERNEL: [&str; 2] = ["--kernel", "mainline"];

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let lab = Lab::of(bench.root);
    let scenarios = [&["scenarios/upstream"], &KERNEL[..]].concat();
    // Builds are not what is measured.
    lab.run(&scenarios)?;
    let goal = Goal::Ratio(0.06);
    let against = "the originals";
    let mut row = Row::new("upstream", "upstream's cases", against, Unit::Seconds, goal);
    for _ in 0..bench.rounds {
        let mut originals = lab.command(&[&["selftests"], &KERNEL[..]].concat());
        let said = process::run(&mut originals, |_| {})?.said;
        let scripts = script_time(&said).ok_or("`lab selftests` does not say what it took")?;
        row.pair(lab.run(&scenarios)?.finished.seconds, scripts);
    }
    Ok(vec![row])
}

/// `selftests took 106.9 s on mainline (x86_64)`.
fn script_time(said: &str) -> Option<f64> {
    let mut lines = said.lines();
    let line = lines.find_map(|line| line.strip_prefix("selftests took "))?;
    line.split(' ').next()?.parse().ok()
}
