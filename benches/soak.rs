// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tagged scenarios, 500 times and more: no run may end otherwise than the first time, and
//! nothing may stay behind.
//!
//!     cargo bench --bench soak [-- RUNS]
//!
//! Prints a line for each round and writes `target/soak.json`. It fails at the first run that is
//! not as expected or flaky, at a process or a temporary file that is left, and if memory grows.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs, unless the command line has a number.
const RUNS: usize = 500;
/// How much more memory lab may take in the last round than in the first.
const GROWTH: f64 = 1.1;

/// What a round left.
struct Round {
    runs: usize,
    /// lab's peak resident memory in KiB.
    memory: u64,
    /// Entries in the cache's folders.
    cached: usize,
}

fn main() -> Result<()> {
    let wanted = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let wanted = wanted.unwrap_or(RUNS);
    let tmp = tempfile::tempdir()?;
    // Builds are not what is looked at.
    round(tmp.path())?;
    let started = Instant::now();
    let mut rounds: Vec<Round> = Vec::new();
    let mut runs = 0;
    while runs < wanted {
        let begun = Instant::now();
        let round = round(tmp.path())?;
        runs += round.runs;
        println!(
            "{runs:>5} runs, {:>6.1} s, {:>6} KiB, {} cache entries",
            begun.elapsed().as_secs_f64(),
            round.memory,
            round.cached
        );
        rounds.push(round);
    }
    let (first, last) = (&rounds[0], &rounds[rounds.len() - 1]);
    let seconds = started.elapsed().as_secs_f64();
    let json = format!(
        "{{\"runs\": {runs}, \"flaky\": 0, \"seconds\": {seconds:.1}, \"first_kib\": {}, \
         \"last_kib\": {}, \"cache_entries\": [{}, {}]}}\n",
        first.memory, last.memory, first.cached, last.cached
    );
    fs::write(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak.json"),
        &json,
    )?;
    print!("{json}");
    if last.memory as f64 > first.memory as f64 * GROWTH {
        return Err("lab's memory grows".into());
    }
    if last.cached != first.cached {
        return Err("the cache grows".into());
    }
    Ok(())
}

fn round(tmp: &Path) -> Result<Round> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let results = tempfile::tempdir()?;
    let mut scenarios: Vec<_> = fs::read_dir(root.join("scenarios"))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("tagged-") && name.ends_with(".yaml")
        })
        .collect();
    scenarios.sort();
    let runs = 2 * scenarios.len();
    let stdout = fs::File::create(results.path().join("stdout"))?;
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("run")
        .args(&scenarios)
        .args(["--kernel", "tags", "--arch", "x86_64,arm64", "--output"])
        .arg(results.path())
        .current_dir(root)
        .env("TMPDIR", tmp)
        .env("CI", "true")
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()?;
    let mut memory = 0;
    let status = loop {
        memory = memory.max(peak(lab.id()));
        if let Some(status) = lab.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = fs::read_to_string(results.path().join("stdout"))?;
    let whole = format!("\n{runs} passed in ");
    if !status.success() || !said.contains(&whole) {
        let kept = results.keep();
        return Err(format!("{status}, the records are in {}:\n{said}", kept.display()).into());
    }
    let left: Vec<_> = fs::read_dir(tmp)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    if !left.is_empty() {
        return Err(format!("files are left: {left:?}").into());
    }
    let guests = guests(results.path());
    if guests > 0 {
        return Err(format!("{guests} guests are left").into());
    }
    Ok(Round {
        runs,
        memory,
        cached: cached()?,
    })
}

/// The most resident memory that a process has had so far, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// QEMUs whose console is below a folder.
fn guests(results: &Path) -> usize {
    let results = results.display().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(&results))
        .count()
}

/// Entries in the cache.
fn cached() -> Result<usize> {
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["cache", "list"])
        .output()?;
    Ok(String::from_utf8(output.stdout)?.lines().count())
}
