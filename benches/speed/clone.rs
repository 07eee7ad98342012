// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a clone to the first verdict: the README's command in a fresh clone of the commit, with an
//! empty target folder and an empty cache. The host's packages are there already.

use std::process::Command;

use crate::process;
use crate::project::large_tempdir;
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result};

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let row = |name, goal| Row::new("clone", name, "", Unit::Seconds, goal);
    let mut all = row("clone to first verdict", Goal::AtMost(480.0));
    let mut cargo = row("cargo's part of it", Goal::AtMost(168.0));
    for _ in 0..bench.rounds {
        let dir = large_tempdir()?;
        let checkout = dir.path().join("checkout");
        let mut clone = Command::new("git");
        clone
            .arg("clone")
            .arg("--quiet")
            .arg(bench.root)
            .arg(&checkout);
        let cloned = process::time(&mut clone)?;
        let in_checkout = |args: &[&str]| {
            let mut command = Command::new("cargo");
            command.args(args).current_dir(&checkout);
            command.env("LAB_CACHE_DIR", dir.path().join("cache"));
            for name in ["CARGO_TARGET_DIR", "LAB_PROJECT", "CI"] {
                command.env_remove(name);
            }
            command
        };
        // `cargo run` does the same; in two commands each has its time.
        let compiled = process::time(&mut in_checkout(&["build", "--release"]))?;
        let run = [
            "run",
            "--release",
            "--",
            "run",
            "--setup",
            "scenarios/tagged-replace.yaml",
        ];
        let run = process::time(&mut in_checkout(&run))?;
        eprintln!("  cargo {compiled:.1} s, lab {run:.1} s");
        all.measured.push(cloned + compiled + run);
        cargo.measured.push(compiled);
    }
    Ok(vec![all, cargo])
}
