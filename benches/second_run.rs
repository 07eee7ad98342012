// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far is a run with warm caches from what it cannot do without: booting the same kernel
//! with nothing but QEMU, and the kernel's own transitions?
//!
//!     cargo bench --bench second_run
//!
//! Prints a table and writes `target/second_run.json`. Each row is set against numbers of the
//! same machine in the same minutes; absolute times mean little elsewhere.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SCENARIO: &str = "scenarios/tagged-replace.yaml";
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lab = env!("CARGO_BIN_EXE_lab");
    let run = || {
        Command::new(lab)
            .args(["run", SCENARIO])
            .current_dir(root)
            .output()
    };
    if !run()?.status.success() {
        return Err(format!("`lab run {SCENARIO}` has to pass first").into());
    }
    let (mut wholes, mut boots, mut transitions) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        run()?;
        wholes.push(started.elapsed().as_secs_f64());
        let record = root.join(".lab/runs/latest");
        transitions.push(transition_time(&fs::read_to_string(
            record.join("console.log"),
        )?));
        boots.push(bare_boot(&record)?);
    }
    let (whole, boot, transition) = (median(wholes), median(boots), median(transitions));
    let rest = whole - boot - transition;
    println!("{:<44}{:>8.2} s", "bare QEMU boot of the same kernel", boot);
    println!(
        "{:<44}{:>8.2} s",
        "the kernel's own transitions", transition
    );
    println!("{:<44}{:>8.2} s", "lab run, warm caches", whole);
    println!("{:<44}{:>8.2} s", "what the lab adds", rest);
    println!(
        "{:<44}{:>8.2}",
        "lab run / (boot + transitions)",
        whole / (boot + transition)
    );
    let json = format!(
        "{{\"boot_s\": {boot:.3}, \"transitions_s\": {transition:.3}, \"run_s\": {whole:.3}, \
         \"rounds\": {ROUNDS}}}\n"
    );
    fs::write(root.join("target/second_run.json"), json)?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The time between `initializing … transition` and `… complete` in the guest's log, in all.
fn transition_time(console: &str) -> f64 {
    let (mut total, mut begun) = (0.0, None);
    for line in console.lines().filter(|line| line.contains("livepatch: '")) {
        let stamp = line
            .trim_start_matches('[')
            .split(']')
            .next()
            .unwrap_or_default();
        let Ok(at) = stamp.trim().parse::<f64>() else {
            continue;
        };
        if line.contains(": initializing ") {
            begun = Some(at);
        } else if line.trim_end().ends_with("patching complete") {
            total += begun.take().map_or(0.0, |begun| at - begun);
        }
    }
    total
}

/// Boots the record's machine without the lab until its init has run: no keys, so dropbear says
/// that it did not start, which is the init's last line.
fn bare_boot(record: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let script = fs::read_to_string(record.join("qemu.sh"))?;
    let image = script
        .lines()
        .find_map(|line| line.strip_prefix("# image: "));
    let image = image.ok_or("qemu.sh names no image")?;
    let command = script.lines().last().ok_or("qemu.sh is empty")?;
    let dir = std::env::temp_dir().join(format!("lab-bench-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let console: PathBuf = dir.join("console");
    let _ = fs::remove_file(&console);
    let mut words = Vec::new();
    let mut rest = shell_words(command).into_iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-S" => {}
            "-qmp" => drop(rest.next()),
            "-serial" => {
                drop(rest.next());
                words.extend(["-serial".into(), format!("file:{}", console.display())]);
            }
            "-initrd" => {
                drop(rest.next());
                words.extend(["-initrd".into(), image.to_owned()]);
            }
            _ => words.push(word),
        }
    }
    let started = Instant::now();
    let mut qemu = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .spawn()?;
    let said =
        |text: &str| fs::read_to_string(&console).is_ok_and(|console| console.contains(text));
    while !said("lab: dropbear did not start") && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = started.elapsed().as_secs_f64();
    qemu.kill()?;
    qemu.wait()?;
    fs::remove_dir_all(dir)?;
    Ok(took)
}

/// Splits a command line that quotes with `'` only, as the lab writes it.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
