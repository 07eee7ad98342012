// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tagged scenarios, 500 times and more: no run may end otherwise than the first time, and
//! nothing may stay behind.
//!
//!     cargo bench --bench soak [-- RUNS] [OPTIONS OF LAB RUN]
//!
//! With `--cold` each run boots its guest, several at once on each CPU: that is how boots that stand
//! still on a busy host are found. `--cpus 2` gives each guest two CPUs.
//!
//! One lab plays a round: each scenario several times, under other names. Prints a line for each
//! round and writes `target/soak.json`. It fails at a run that is not as expected or flaky, at a
//! process, a file or a cache entry that is left, and if memory or open files grow in a round. Nothing
//! else may use the cache meanwhile.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs, unless the command line has a number.
const RUNS: usize = 500;
/// How often a scenario is there.
const COPIES: usize = 5;
/// What lab may keep in memory of a run that is over, in KiB: its verdict, for the reports.
const KEPT: f64 = 16.0;

/// What lab holds at a moment.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Runs that are over.
    runs: usize,
    /// Resident memory in KiB.
    memory: u64,
    /// Open files, those of guests that run included.
    files: usize,
}

/// What lab held in the second and in the fourth fifth of a round.
struct Round {
    /// Median resident memory in KiB.
    memory: [u64; 2],
    /// The most open files.
    files: [usize; 2],
}

fn main() -> Result<()> {
    // `--bench` is Cargo's own.
    let mut options: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let wanted = match options.first().and_then(|arg| arg.parse().ok()) {
        Some(wanted) => {
            options.remove(0);
            wanted
        }
        None => RUNS,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (project, tmp) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let each = furnish(root, project.path())?;
    let started = Instant::now();
    let mut rounds: Vec<Round> = Vec::new();
    let mut entries = Vec::new();
    let mut runs = 0;
    // The first one builds.
    while runs < wanted || rounds.len() < 2 {
        let begun = Instant::now();
        let round = play(project.path(), tmp.path(), each, &options)?;
        runs += each;
        entries.push(cached()?);
        println!(
            "{runs:>5} runs, {:>6.1} s, {:?} KiB, {:?} open files, {} cache entries",
            begun.elapsed().as_secs_f64(),
            round.memory,
            round.files,
            entries[rounds.len()]
        );
        rounds.push(round);
    }
    let (first, last) = (&rounds[0], &rounds[rounds.len() - 1]);
    let seconds = started.elapsed().as_secs_f64();
    let json = format!(
        "{{\"runs\": {runs}, \"flaky\": 0, \"seconds\": {seconds:.1}, \"first_round_kib\": {:?}, \
         \"last_round_kib\": {:?}, \"open_files\": {:?}, \"cache_entries\": {entries:?}}}\n",
        first.memory, last.memory, last.files
    );
    fs::create_dir_all(root.join("target"))?;
    fs::write(root.join("target/soak.json"), &json)?;
    print!("{json}");
    if last.memory[1] as f64 > last.memory[0] as f64 + KEPT * each as f64 {
        return Err("lab's memory grows".into());
    }
    if last.files[1] > last.files[0] + last.files[0] / 4 {
        return Err("lab's open files grow".into());
    }
    if entries[0] != entries[entries.len() - 1] {
        return Err("the cache grows, or another lab has used it".into());
    }
    Ok(())
}

/// Fills a project with copies of the tagged scenarios and their snapshots. Returns how many runs
/// that gives on two architectures.
fn furnish(root: &Path, project: &Path) -> Result<usize> {
    for folder in ["kernels", "images"] {
        symlink(root.join(folder), project.join(folder))?;
    }
    for folder in ["scenarios", "snapshots"] {
        fs::create_dir(project.join(folder))?;
    }
    let tagged = |folder: &str| -> Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("tagged-") && !path.is_dir() {
                found.push((name.into_owned(), path));
            }
        }
        found.sort();
        Ok(found)
    };
    let scenarios = tagged("scenarios")?;
    let snapshots = tagged("snapshots")?;
    for copy in 1..=COPIES {
        for (name, path) in &scenarios {
            let name = name.replace(".yaml", &format!("-{copy}.yaml"));
            fs::copy(path, project.join("scenarios").join(name))?;
        }
        for (name, path) in &snapshots {
            let name = name.replace('@', &format!("-{copy}@"));
            fs::copy(path, project.join("snapshots").join(name))?;
        }
    }
    Ok(2 * COPIES * scenarios.len())
}

/// Plays all scenarios to the kernel `tags`, with a look at lab every 200 ms.
fn play(project: &Path, tmp: &Path, runs: usize, options: &[String]) -> Result<Round> {
    let results = tempfile::tempdir()?;
    let file = results.path().join("stdout");
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["run", "scenarios", "--kernel", "tags"])
        .args(options)
        .args(["--arch", "x86_64,arm64", "--output"])
        .arg(results.path())
        .current_dir(project)
        .env("TMPDIR", tmp)
        .env("CI", "true")
        .stdout(fs::File::create(&file)?)
        .stderr(Stdio::null())
        .spawn()?;
    let mut samples = Vec::new();
    let status = loop {
        if let Some(status) = lab.try_wait()? {
            break status;
        }
        let said = fs::read_to_string(&file)?;
        let open = fs::read_dir(format!("/proc/{}/fd", lab.id()));
        samples.push(Held {
            runs: said.lines().filter(|l| l.starts_with("passed ")).count(),
            memory: resident(lab.id()),
            files: open.map_or(0, Iterator::count),
        });
        std::thread::sleep(Duration::from_millis(200));
    };
    let said = fs::read_to_string(&file)?;
    if !status.success() || !is_clean(&said, runs) {
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
    // While it starts and while it ends it has less to do.
    let part = |from: usize, to: usize| {
        let held = samples
            .iter()
            .filter(move |held| (from * runs / 5..to * runs / 5).contains(&held.runs));
        let files = held.clone().map(|held| held.files).max();
        (
            median(held.map(|held| held.memory)),
            files.unwrap_or_default(),
        )
    };
    let (first, last) = (part(1, 2), part(3, 4));
    Ok(Round {
        memory: [first.0, last.0],
        files: [first.1, last.1],
    })
}

/// Whether the last line but notes says that all runs have passed: `10 passed, 2 skipped in 3.4 s`.
/// What needs another number of CPUs is skipped.
fn is_clean(said: &str, runs: usize) -> bool {
    let summary = said
        .lines()
        .find(|line| line.contains(" passed") && line.contains(" in "));
    let summary = summary
        .and_then(|line| line.split_once(" in "))
        .unwrap_or_default()
        .0;
    let mut counted = 0;
    for part in summary.split(", ") {
        let Some((number, "passed" | "skipped")) = part.split_once(' ') else {
            return false;
        };
        counted += number.parse::<usize>().unwrap_or_default();
    }
    counted == runs
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
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
