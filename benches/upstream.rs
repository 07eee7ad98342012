// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 32 cases of the kernel's own livepatch selftests, as scenarios, against the originals: the
//! same kernel, the same machine, the same accelerator, one after the other in the same minutes.
//!
//!     cargo bench --bench upstream
//!
//! Prints a table and writes `target/upstream.json`. The originals' time is that of the scripts
//! alone, without the boot of their guest; the scenarios' is that of the whole command.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const KERNEL: &str = "mainline";
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lab = |args: &[&str]| -> Result<(f64, String), Box<dyn std::error::Error>> {
        let started = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(args)
            .args(["--kernel", KERNEL])
            .current_dir(root)
            .output()?;
        let taken = started.elapsed().as_secs_f64();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("`lab {}` has to pass first:\n{said}", args.join(" ")).into());
        }
        Ok((taken, String::from_utf8(output.stdout)?))
    };
    // Builds are not what is measured.
    lab(&["run", "scenarios/upstream"])?;
    let (mut scripts, mut scenarios, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (_, said) = lab(&["selftests"])?;
        let script = script_time(&said).ok_or("`lab selftests` does not say what it took")?;
        let (scenario, _) = lab(&["run", "scenarios/upstream"])?;
        println!(
            "originals {script:.1} s, scenarios {scenario:.1} s: {:.3}",
            scenario / script
        );
        scripts.push(script);
        scenarios.push(scenario);
        ratios.push(scenario / script);
    }
    let (scripts, scenarios, ratio) = (median(scripts), median(scenarios), median(ratios));
    println!("{:<44}{scripts:>8.1} s", "the kernel's own scripts");
    println!("{:<44}{scenarios:>8.1} s", "lab run scenarios/upstream");
    println!(
        "{:<44}{ratio:>8.3}",
        "scenarios / originals (the goal is 0.25)"
    );
    let json = format!(
        "{{\"originals_s\": {scripts:.1}, \"scenarios_s\": {scenarios:.1}, \"ratio\": \
         {ratio:.3}, \"rounds\": {ROUNDS}}}\n"
    );
    fs::create_dir_all(root.join("target"))?;
    fs::write(root.join("target/upstream.json"), json)?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `selftests took 106.9 s on mainline (x86_64)`.
fn script_time(said: &str) -> Option<f64> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("selftests took "))?;
    line.split(' ').next()?.parse().ok()
}
