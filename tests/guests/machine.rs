// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest is as large as it is said to be; and what was chosen comes back with its bundle.

use std::fs;

use crate::common::{Project, assert_contains, lab_env};

/// Passes in a guest with two CPUs and these words, once it has a snapshot.
const SCENARIO: &str = "\
version: 1
summary: x
machine: { append: lab.scenario=1 }
steps:
  - read: /proc/cmdline
    contains: lab.scenario=1 lab.test=1
  - read: /sys/devices/system/cpu/online
    equals: 0-1
";
const SIZE: [&str; 3] = ["--cpus=2", "--memory=384M", "--append=lab.test=1"];

#[test]
fn a_guest_is_as_large_as_it_is_said_to_be() {
    let project = Project::new();
    project.write("scenarios/culprit.yaml", SCENARIO);
    let exec = ["exec", "scenarios/culprit.yaml", "--kernel=mainline"];
    let shell = "busybox nproc; busybox cat /proc/cmdline /proc/meminfo";
    let command = ["--arch=x86_64", "--", "sh", "-c", shell];
    let output = project.lab(&[&exec[..], &SIZE, &command].concat());
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let (cpus, rest) = output.stdout.split_once('\n').unwrap();
    assert_eq!(cpus, "2");
    assert_contains(rest, &[" lab.scenario=1 lab.test=1\n"]);
    let (_, total) = rest.split_once("MemTotal:").unwrap();
    let total: u64 = total.split_whitespace().next().unwrap().parse().unwrap();
    assert!((320 << 10..384 << 10).contains(&total), "{total} KiB");
    assert_contains(&project.record("qemu.sh"), &["-smp 2,sockets=2", "-m 384M"]);
}

#[test]
fn what_was_chosen_comes_back_with_a_bundle() {
    let project = Project::new();
    let output = project.run_text(SCENARIO, "x86_64", &[&SIZE[..], &["--accept"]].concat());
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_contains(
        &output.stdout,
        &["passed  culprit on mainline (x86_64, 2 CPUs)"],
    );
    let folder = fs::canonicalize(project.path(".lab/runs/latest")).unwrap();
    assert!(folder.to_str().unwrap().ends_with("-mainline-x86_64-2cpus"));

    let output = project.lab(&["bundle", "latest", "-o", "report.tar.zst"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let elsewhere = tempfile::tempdir().unwrap();
    let bundle = project.path("report.tar.zst").display().to_string();
    let repro = |more: &[&str]| {
        let args = [&["repro", &bundle], more].concat();
        lab_env(elsewhere.path(), &args, &[])
    };
    let output = repro(&["--as-shipped", "--yes"]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_contains(
        &output.stdout,
        &[
            "passed  culprit on mainline (x86_64, 2 CPUs)",
            "guest     2 CPUs, 384M of memory, lab.scenario=1 lab.test=1",
            "it ended as recorded: 1 of 1 time",
        ],
    );
    let record = elsewhere.path().join(".lab/runs/latest");
    let script = fs::read_to_string(record.join("qemu.sh")).unwrap();
    assert_contains(&script, &["-smp 2,sockets=2", "-m 384M"]);
    let command = script.lines().last().unwrap();
    assert_eq!(command.matches("lab.scenario=1 lab.test=1").count(), 1);
    let output = repro(&["--unpack", "unpacked"]);
    assert_contains(
        &output.stdout,
        &["--cpus 2 --memory 384M --append 'lab.test=1'"],
    );
}

#[test]
fn guests_of_different_sizes_are_not_the_same_guest() {
    let project = Project::new();
    let scenario = |name: &str, machine: &str, online: &str| {
        let text = format!(
            "version: 1\nsummary: x\nmachine: {machine}\nsteps:\n  - read: \
             /sys/devices/system/cpu/online\n    equals: {online:?}\n"
        );
        project.write(&format!("scenarios/{name}.yaml"), &text);
    };
    scenario("a", "{}", "0");
    scenario("b", "{ cpus: 2 }", "0-1");
    scenario("c", "{ append: lab.test=1 }", "0");
    // One after the other: of the same size, they would share a guest.
    let args = ["run", "scenarios", "--kernel=mainline", "--arch=x86_64"];
    let output = project.lab(&[&args[..], &["--jobs=1", "--accept"]].concat());
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_contains(&output.stdout, &["3 passed in "]);
    assert!(!project.record("events.jsonl").contains("\"after\""));
}

#[test]
fn a_kernel_that_cannot_start_so_many_cpus_is_not_booted() {
    let project = Project::new();
    let output = project.run_text(SCENARIO, "x86_64", &["--cpus=9"]);
    assert_eq!(output.code, 2, "{}\n{}", output.stdout, output.stderr);
    assert_contains(
        &output.stdout,
        &["the kernel starts 8 CPUs at most, and the guest has 9 CPUs"],
    );
}
