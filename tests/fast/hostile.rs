// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz targets on a stable toolchain: over the kept corpus, and over a bounded number of
//! mutations of it that are the same each time.

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Mutations of each target: as many as go into this time, and never fewer than the least.
const MUTATIONS: u32 = 20_000;
const LEAST: u32 = 300;
const TIME: Duration = Duration::from_secs(4);
/// One input may not take longer: what is quadratic shows here.
const EACH: Duration = Duration::from_secs(5);

/// The inputs of a target: its corpus, and what the project has of the kind.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let kept = format!("fuzz/corpus/{target}");
    let ours = match target {
        "scenario" => &["scenarios", "tests/faults/scenarios"][..],
        "console" => &["tests/faults/splats"],
        "snapshot" => &["snapshots"],
        _ => &[],
    };
    let mut inputs = Vec::new();
    for folder in ours.iter().copied().chain([&*kept]) {
        let entries = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let files = files.iter().filter(|path| path.is_file());
        inputs.extend(files.map(|path| fs::read(path).unwrap()));
    }
    assert!(inputs.len() >= 3, "{target} has no corpus");
    inputs
}

/// Marsaglia's xorshift64: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// What parsers trip over.
const TOKENS: [&str; 24] = [
    "\0",
    "\n",
    "\t",
    "\r\n",
    "\u{1b}[2J",
    "\u{202e}",
    "{",
    "[",
    "\"",
    "- ",
    ": ",
    "&a ",
    "*a",
    "<<: *a",
    "4294967296",
    "-1",
    "99999999999999999999",
    "---\n",
    "[    1.000000] ",
    "BUG: ",
    "\\u001b[2J",
    "\r",
    "../",
    "$(id)",
];

fn mutate(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = inputs[random.below(inputs.len())].clone();
    data.truncate(64 << 10);
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 => data.truncate(at),
            1 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                let token = TOKENS[random.below(TOKENS.len())];
                data.splice(at..at, token.bytes());
            }
            3 => {
                let end = (at + random.below(64)).min(data.len());
                let part = data[at..end].repeat(1 + random.below(20));
                data.splice(at..at, part);
            }
            4 => {
                let end = (at + random.below(64)).min(data.len());
                data.drain(at..end);
            }
            _ => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                let end = (from + random.below(256)).min(other.len());
                data.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
    data
}

fn stands(name: &str) {
    let target = targets::named(name);
    let inputs = corpus(name);
    let try_one = |data: &[u8]| {
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| target(data)));
        if result.is_err() || started.elapsed() > EACH {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.crash"));
            fs::write(&file, data).unwrap();
            let taken = started.elapsed();
            panic!("{name} does not stand {} ({taken:.1?})", file.display());
        }
    };
    let started = Instant::now();
    inputs.iter().for_each(|input| try_one(input));
    let mut random = Random(0x6c61_6221);
    let (mut tried, mut seen) = (0, HashSet::new());
    while tried < LEAST || tried < MUTATIONS && started.elapsed() < TIME {
        let input = mutate(&inputs, &mut random);
        try_one(&input);
        tried += 1;
        if !inputs.contains(&input) {
            seen.insert(input);
        }
    }
    // A mutation can leave an input as it is. Most must be inputs that the target has not seen.
    let new = seen.len();
    assert!(
        new >= tried as usize / 2,
        "{name}: {new} new inputs of {tried}"
    );
}

#[test]
fn scenarios_of_strangers() {
    stands("scenario");
}

#[test]
fn consoles_of_guests() {
    stands("console");
}

#[test]
fn states_of_guests() {
    stands("state");
}

#[test]
fn snapshots_of_strangers() {
    stands("snapshot");
}

#[test]
fn lines_of_qemu() {
    stands("qmp");
}

#[test]
fn event_files_of_strangers() {
    stands("events");
}

#[test]
fn archives_of_strangers() {
    stands("archive");
}

#[test]
fn bundles_of_strangers() {
    stands("bundle");
}

#[test]
fn modules_of_strangers() {
    stands("module");
}

#[test]
fn reports_of_strangers() {
    stands("report");
}

/// A target that nobody runs finds nothing.
#[test]
fn each_target_is_fuzzed_at_night() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let names = targets::TARGETS.map(|(name, _)| name);
    let matrix = format!("target: [{}]", names.join(", "));
    assert!(read(".github/workflows/nightly.yml").contains(&matrix));
    let manifest = read("fuzz/Cargo.toml");
    let binaries: Vec<_> = manifest
        .lines()
        .filter_map(|line| {
            line.strip_prefix("path = \"fuzz_targets/")?
                .strip_suffix(".rs\"")
        })
        .collect();
    assert_eq!(binaries, names);
}
