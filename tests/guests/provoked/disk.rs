// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk that becomes full while a guest runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::host::{RUN, assert_well, project, with_mounts};
use crate::common::{ROOT, assert_is};
use crate::faults::disk::{GUEST, MEMORY};

#[test]
fn of_the_record_of_a_guest() {
    let project = project();
    fs::create_dir(project.path("results")).unwrap();
    // Full from the start; of the console; of QMP's log; of the states.
    for size in ["8k", "20k", "28k", "40k"] {
        let mount = format!("mount -t tmpfs -o size={size} none results");
        let args = [&RUN[..], &["--output=results"]].concat();
        let started = Instant::now();
        assert_is(&GUEST, &with_mounts(project.dir(), &mount, &args, &[]));
        // Nobody waits for a console that nothing can be written to: a boot may take 90 s.
        assert!(started.elapsed() < Duration::from_secs(60), "{size}");
    }
    assert_well(&project);
}

#[test]
fn of_the_memory_of_a_guest() {
    let project = project();
    for dir in ["results", "panics"] {
        fs::create_dir(project.path(dir)).unwrap();
    }
    let scenario = Path::new(ROOT).join("tests/faults/scenarios/panic.yaml");
    fs::copy(scenario, project.path("panics/panic.yaml")).unwrap();
    let args = [
        "run",
        "panics",
        "--kernel=mainline",
        "--accel=tcg",
        "--dump-on-panic",
        "--output=results",
    ];
    // The half that was written makes place for the verdict.
    let mount = "mount -t tmpfs -o size=16m none results";
    let output = with_mounts(project.dir(), mount, &args, &[]);
    assert_is(&MEMORY, &output);
    assert_well(&project);
}
