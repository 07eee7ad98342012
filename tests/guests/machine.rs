// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest is as large as it is said to be; and what was chosen comes back with its bundle.

use std::fs;

use crate::common::{Project, assert_contains, lab_env};

/// What the guest has of what was chosen, for the snapshot.
const SCENARIO: &str = "\
version: 1
summary: x
machine: { append: lab.scenario=1 }
steps:
  - read: /proc/cmdline
  - read: /sys/devices/system/cpu/online
  - read: /proc/meminfo
";

/// `MemTotal` of a state, in KiB.
fn total_kib(states: &str) -> u64 {
    let (_, rest) = states.split_once("MemTotal:").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_guest_is_as_large_as_it_is_said_to_be() {
    let project = Project::new();
    let size = ["--cpus=2", "--memory=384M", "--append=lab.test=1"];
    let output = project.run_text(SCENARIO, "x86_64", &size);
    // There is no snapshot of it.
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    assert_contains(&output.stdout, &["culprit on mainline (x86_64, 2 CPUs)"]);
    let states = project.record("observed.txt");
    assert_contains(&states, &["lab.scenario=1 lab.test=1", "0-1"]);
    let total = total_kib(&states);
    assert!((300 << 10..384 << 10).contains(&total), "{total}");
    assert_contains(&project.record("qemu.sh"), &["-smp 2,sockets=2", "-m 384M"]);
    let folder = fs::canonicalize(project.path(".lab/runs/latest")).unwrap();
    assert!(folder.to_str().unwrap().ends_with("-mainline-x86_64-2cpus"));

    // A bundle has it all, and says so.
    let output = project.lab(&["bundle", "latest", "-o", "report.tar.zst"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let elsewhere = tempfile::tempdir().unwrap();
    let bundle = project.path("report.tar.zst").display().to_string();
    let repro = |more: &[&str]| {
        let args = [&["repro", &bundle], more].concat();
        lab_env(elsewhere.path(), &args, &[])
    };
    let output = repro(&["--as-shipped", "--yes"]);
    assert_contains(
        &output.stdout,
        &[
            "culprit on mainline (x86_64, 2 CPUs)",
            "guest     2 CPUs, 384M of memory, lab.scenario=1 lab.test=1",
        ],
    );
    let record = elsewhere.path().join(".lab/runs/latest");
    let states = fs::read_to_string(record.join("observed.txt")).unwrap();
    assert_contains(&states, &["lab.scenario=1 lab.test=1", "0-1"]);
    assert_eq!(states.matches("lab.scenario=1").count(), 1, "{states}");
    assert!((300 << 10..384 << 10).contains(&total_kib(&states)));
    let output = repro(&["--unpack", "unpacked"]);
    assert_contains(
        &output.stdout,
        &["--cpus 2 --memory 384M --append 'lab.test=1'"],
    );
}

#[test]
fn a_kernel_that_cannot_start_so_many_cpus_is_not_booted() {
    let project = Project::new();
    let output = project.run_text(SCENARIO, "x86_64", &["--cpus=9"]);
    assert_eq!(output.code, 3, "{}\n{}", output.stdout, output.stderr);
    assert_contains(
        &output.stdout,
        &["the kernel starts 8 CPUs at most, and the guest has 9 CPUs"],
    );
}
