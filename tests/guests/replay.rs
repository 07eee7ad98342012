// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was recorded happens again, to the last instruction, whatever became of the run; and with
//! anything else than it was recorded with it is refused.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;

use livepatch_lab::replay::Recording;

use crate::common::{Output, Project, assert_contains};
use crate::real::{culprit, install};

/// Two steps with a transition; the second does not answer as it is expected to.
const FAILS: &str = "\
version: 1
summary: x
targets: { shop: { functions: { price: 10 } } }
livepatches: { v1: { patches: { shop: { price: 11 } } } }
steps:
  - load: shop
  - load: v1
    expect: { calls: { shop.price: 12 } }
";

/// The folder of the latest record.
fn latest(project: &Project) -> PathBuf {
    fs::canonicalize(project.path(".lab/runs/latest")).unwrap()
}

fn recording(project: &Project) -> Recording {
    Recording::read(&latest(project)).unwrap()
}

/// Replays the latest run, and what that says of its end.
fn replay(project: &Project, more: &[&str]) -> Output {
    let output = project.lab(&[&["replay"], more].concat());
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    output
}

/// Replays the latest run to its end, which is the recorded one.
fn replays_the_same(project: &Project, end: &str) -> Output {
    let recording = recording(project);
    let output = replay(project, &[]);
    let said = format!(
        "replayed {}: ended{end} after the same {} instructions, with the same console byte for byte",
        recording.run, recording.icount
    );
    assert_contains(&output.stderr, &[&said]);
    // All of it was shown.
    let console = project.record("console.log").replace("\r\n", "\n");
    assert_eq!(output.stdout, console);
    output
}

#[test]
fn a_run_that_fails_is_recorded_and_replayed_to_its_end_or_to_a_step() {
    let project = Project::new();
    for arch in ["arm64", "x86_64"] {
        let output = project.run_text(FAILS, arch, &["--record"]);
        assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
        assert_contains(&output.stdout, &["shop.price answers 11, not 12"]);
        assert_contains(
            &output.stderr,
            &["has one emulated CPU", "; `lab replay .lab/runs/"],
        );
        assert!(!latest(&project).join("replay.bin.part").exists());
        let output = replays_the_same(&project, "");
        assert_contains(&output.stdout, &["lab: ready", "'v1': patching complete"]);
    }

    let recording = recording(&project);
    let labels: Vec<_> = recording.steps.iter().map(|mark| &*mark.label).collect();
    assert_eq!(labels, ["load shop", "load v1"]);
    let second = recording.steps[1].icount;
    assert!(recording.steps[0].icount < second && second < recording.icount);
    let output = replay(&project, &["--to-step=2"]);
    let said = format!(
        "{second} of {} instructions, step 2 (load v1)",
        recording.icount
    );
    assert_contains(&output.stderr, &[&said]);
    assert!(output.stdout.contains("lab: ready") && !output.stdout.contains("'v1'"));

    is_refused_with_anything_else(&project, &recording);
    looks_the_same_to_gdb(&project, second);
    assert_eq!(project.guests(), [""; 0]);
}

/// With another QEMU, another machine, another kernel or a damaged log nothing is started.
fn is_refused_with_anything_else(project: &Project, recording: &Recording) {
    let manifest = latest(project).join("replay.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let kernel = project.path("vmlinux");
    let mut changed = fs::read(&recording.kernel.path).unwrap();
    changed.push(0);
    fs::write(&kernel, changed).unwrap();
    let log = latest(project).join("replay.bin");
    let bytes = fs::read(&log).unwrap();
    let refused = |change: &dyn Fn(&mut Recording), says: &[&str]| {
        let mut other = recording.clone();
        change(&mut other);
        fs::write(&manifest, serde_json::to_string(&other).unwrap()).unwrap();
        let output = project.lab(&["replay"]);
        assert_eq!(output.code, 3, "{}", output.stderr);
        assert_contains(&output.stderr, says);
        assert_eq!(output.stdout, "");
    };
    refused(
        &|other| other.qemu = "QEMU emulator version 8.2.1".into(),
        &[
            "made with another QEMU",
            "recorded:  QEMU emulator version 8.2.1",
            "next: ",
        ],
    );
    refused(
        &|other| other.machine = other.machine.replace("256M", "512M"),
        &["this lab makes another machine"],
    );
    refused(
        &|other| other.kernel.path.clone_from(&kernel),
        &["the kernel is not what was recorded: "],
    );
    fs::remove_file(&kernel).unwrap();
    refused(
        &|other| other.kernel.path.clone_from(&kernel),
        &[
            "the recorded kernel is gone: ",
            "`lab build kernel mainline --arch x86_64`",
        ],
    );
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&log, damaged).unwrap();
    refused(&|_| {}, &["the log is not what was recorded: "]);
    fs::write(&log, bytes).unwrap();
    fs::write(&manifest, text).unwrap();
}

/// gdb finds the same guest twice, stopped where the second step begins.
fn looks_the_same_to_gdb(project: &Project, second: u64) {
    install(&[("gdb", "/usr/bin/gdb")]);
    let look = || {
        let mut lab = project.spawn(&["replay", "--to-step=2", "--gdb"]);
        let mut lines = BufReader::new(lab.stderr.take().unwrap()).lines();
        let mut next = || lines.next().unwrap().unwrap();
        assert_contains(
            &next(),
            &[&format!("is stopped after {second} instructions")],
        );
        let line = next();
        let (_, target) = line.split_once(" -ex '").unwrap();
        let gdb = Command::new("gdb")
            .args(["-nx", "-batch", "-ex", target.strip_suffix('\'').unwrap()])
            .args(["-ex", "info registers", "-ex", "x/64xb $rsp"])
            // Not `kill`: QEMU may be gone before gdb has its answer, and then gdb says so.
            .args(["-ex", "detach"])
            .output()
            .unwrap();
        let mut rest = String::new();
        for line in lines {
            rest += &line.unwrap();
        }
        assert_contains(&rest, &["gdb detached after"]);
        assert_eq!(lab.wait().unwrap().code(), Some(0));
        String::from_utf8(gdb.stdout).unwrap()
    };
    let first = look();
    assert_contains(&first, &["rip", "rsp"]);
    assert_eq!(first, look());
}

#[test]
fn a_panic_is_recorded_and_happens_again() {
    let project = Project::new();
    for arch in ["x86_64", "arm64"] {
        let patch = "        cmdline_proc_show:\n          \
                     signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
                     include: [linux/seq_file.h]\n          body: |\n            \
                     panic(\"provoked\");\n            return 0;";
        let text = culprit(patch, "  - load: culprit\n  - read: /proc/cmdline");
        let output = project.run_text(&text, arch, &["--record"]);
        assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
        assert_contains(
            &output.stdout,
            &["panicked  culprit on mainline", "provoked"],
        );
        let output = replays_the_same(&project, " in the panic");
        assert_contains(&output.stdout, &["Kernel panic - not syncing: provoked"]);
    }
}

#[test]
fn what_cannot_be_recorded_or_replayed_is_said() {
    let project = Project::new();
    let output = project.run_text(FAILS, "x86_64", &["--record", "--accel=kvm"]);
    assert_eq!(output.code, 2);
    assert_contains(&output.stderr, &["--record does not go with --accel kvm"]);
    let output = project.run_text(FAILS, "x86_64", &["--record", "--cpus=2"]);
    assert_contains(
        &output.stdout,
        &[
            "it has 2 CPUs; a guest that is recorded has one",
            "1 skipped",
        ],
    );
    let output = project.lab(&["replay"]);
    assert_eq!(output.code, 2);
    assert_contains(&output.stderr, &["no run has a record yet"]);
    let record = project.path(".lab/runs/one");
    fs::create_dir_all(&record).unwrap();
    fs::write(record.join("events.jsonl"), "").unwrap();
    let output = project.lab(&["replay", "one"]);
    assert_eq!(output.code, 2);
    assert_contains(
        &output.stderr,
        &["there is no recording in", "`lab run --record …`"],
    );
}
