// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults in a guest: what a kernel and its programs can do wrong, provoked by livepatches.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use livepatch_lab::arch::Arch;
use livepatch_lab::report::paint::{Color, Paint};
use livepatch_lab::report::read::read_dir;
use livepatch_lab::report::results::{RunResult, State};
use livepatch_lab::report::screen::Screen;
use livepatch_lab::report::verdict;
use livepatch_lab::verdict::Outcome;

use crate::common::{Project, ROOT};
use crate::faults::guest::{BOOT_FAULTS, DEBUG_FAULTS, FAULTS, Fault};

#[test]
#[ignore = "builds a kernel with lockdep and KASAN for each architecture: nightly"]
fn a_debug_kernel_finds_more() {
    let project = Project::new();
    let scenarios = Path::new(ROOT).join("tests/faults/debug");
    let output = project.lab(&[
        "run",
        &scenarios.display().to_string(),
        "--kernel=debug",
        "--arch=x86_64,arm64",
        "--output=results",
    ]);
    assert_eq!(output.code, 1, "{}", output.stdout);
    let results = read_dir(&project.path("results")).unwrap();
    assert_eq!(results.runs.len(), 2 * DEBUG_FAULTS.len());
    let wrong = |run| difference(&DEBUG_FAULTS, run);
    let wrong: Vec<_> = results.runs.iter().filter_map(wrong).collect();
    assert_eq!(wrong, [""; 0], "{}", output.stdout);
}

#[test]
fn every_fault_in_a_guest_has_its_verdict() {
    let scenarios = Path::new(ROOT).join("tests/faults/scenarios");
    let names: BTreeSet<_> = fs::read_dir(&scenarios)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(
        names.iter().eq(FAULTS
            .iter()
            .map(|fault| fault.scenario)
            .collect::<BTreeSet<_>>())
    );

    let project = Project::new();
    let output = project.lab(&[
        "run",
        &scenarios.display().to_string(),
        "--kernel=mainline",
        "--arch=x86_64,arm64",
        "--output=results",
        "--accept",
        "--dump-on-panic",
    ]);
    // The worst of all: sshd-killed, big-module and stale-int3.
    assert_eq!(output.code, 3, "{}", output.stdout);
    let results = read_dir(&project.path("results")).unwrap();
    assert_eq!(
        results.runs.len(),
        2 * FAULTS.len() - 2,
        "{}",
        output.stdout
    );
    let wrong: Vec<_> = results
        .runs
        .iter()
        .filter_map(|run| difference(&FAULTS, run))
        .collect();
    assert_eq!(wrong, [""; 0], "{}", output.stdout);
    for run in results
        .runs
        .iter()
        .filter(|run| run.run.scenario == "panic")
    {
        let record = project.path("results/runs").join(record(run));
        let memory = fs::File::open(record.join("memory.elf")).unwrap();
        assert!(memory.metadata().unwrap().len() > 256 << 20, "{}", run.run);
    }
    // What QEMU broke was tried once more.
    for run in results
        .runs
        .iter()
        .filter(|run| run.run.scenario == "stale-int3")
    {
        assert_eq!(run.failed_attempts.len(), 1, "{}", run.run);
    }
    let note = "QEMU executed a translation that was out of date 2 times: ";
    assert!(output.stderr.contains(note), "{}", output.stderr);
    let long = results.runs.iter().filter_map(longer_than_a_screen);
    assert_eq!(long.collect::<Vec<_>>(), [""; 0]);
    // What a larger guest would help is said so.
    for (scenario, option) in [("out-of-memory", "--memory"), ("silence", "--cpus 2")] {
        let of = results
            .runs
            .iter()
            .filter(|run| run.run.scenario == scenario);
        for run in of {
            let help = run.verdict().and_then(|verdict| verdict.help.clone());
            assert!(help.unwrap().contains(option), "{}", run.run);
        }
    }
    forensics(
        results
            .runs
            .iter()
            .find(|run| run.run.scenario == "stalled-transition")
            .unwrap(),
    );
    assert_eq!(project.guests(), [""; 0]);
}

#[test]
fn every_fault_at_boot_has_its_verdict() {
    let mut wrong = Vec::new();
    for (fault, init) in &BOOT_FAULTS {
        let project = with_init(init);
        project.copy("scenarios/builtin-cmdline.yaml");
        let args = [
            "run",
            "scenarios",
            "--kernel=mainline",
            "--arch=x86_64,arm64",
            "--timeout=40s",
            "--output=results",
        ];
        let output = project.lab(&args);
        assert_eq!(output.code, i32::from(fault.code), "{}", output.stdout);
        let results = read_dir(&project.path("results")).unwrap();
        assert_eq!(results.runs.len(), 2);
        wrong.extend(results.runs.iter().filter_map(|run| compare(fault, run)));
        let panicked = fault.outcome == Outcome::Panicked;
        assert_eq!(output.stdout.contains("last words"), panicked);
        assert_eq!(project.guests(), [""; 0]);
    }
    assert_eq!(wrong, [""; 0]);
}

/// A project whose guests have another init.
fn with_init(init: &str) -> Project {
    let project = Project::new();
    fs::remove_file(project.path("images")).unwrap();
    fs::create_dir_all(project.path("images/guest")).unwrap();
    for entry in fs::read_dir(Path::new(ROOT).join("images")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let image = fs::read_to_string(&path).unwrap();
            assert!(image.contains("init: guest/init.c\n"));
            let image = image.replace("guest/init.c", "guest/init");
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::write(project.path("images").join(name), image).unwrap();
        }
    }
    project.copy("images/guest/agent.c");
    let init = format!("#!/bin/busybox sh\n{init}\n");
    fs::write(project.path("images/guest/init"), init).unwrap();
    project
}

#[test]
fn selftests_that_do_not_boot_say_where_the_cpus_are() {
    let project = with_init("while :; do /bin/busybox sleep 60; done");
    let output = project.lab(&["selftests", "--kernel=mainline"]);
    assert_eq!(output.code, 3, "{}\n{}", output.stdout, output.stderr);
    let said = &output.stderr;
    assert!(said.contains("the guest did not finish booting"), "{said}");
    assert!(said.contains("where its CPUs are:"), "{said}");
    assert!(said.contains("CPU 0 at "), "{said}");
    assert_eq!(project.guests(), [""; 0]);
}

/// The name of a run's record.
fn record(run: &RunResult) -> &str {
    let State::Finished(finished) = &run.state else {
        panic!("{} did not finish", run.run);
    };
    finished.record.rsplit('/').next().unwrap()
}

/// What is not as the table says.
pub(super) fn difference(table: &[Fault], run: &RunResult) -> Option<String> {
    let mut faults = table.iter();
    compare(
        faults.find(|fault| fault.scenario == run.run.scenario)?,
        run,
    )
}

fn compare(fault: &Fault, run: &RunResult) -> Option<String> {
    let Some(verdict) = run.verdict() else {
        return Some(format!("{} has no verdict", run.run));
    };
    let found = (
        verdict.outcome,
        verdict.splat.as_ref().map(|splat| splat.kind),
        verdict.blame,
        verdict.exit_code,
    );
    let wanted = (fault.outcome, fault.kind, fault.blame, fault.code);
    let reason = verdict.reasons.first().map_or("", String::as_str);
    let titles: Vec<_> = verdict
        .evidence
        .iter()
        .map(|piece| piece.title.as_str())
        .collect();
    let has = |title: &&str| titles.iter().any(|found| found.starts_with(title));
    let all = fault.evidence.iter().all(has);
    let texts = verdict.evidence.iter().map(|piece| &piece.text);
    let texts: Vec<_> = verdict
        .reasons
        .iter()
        .chain(&verdict.help)
        .chain(texts)
        .collect();
    let is_said = |part: &&&str| texts.iter().any(|text| text.contains(**part));
    let unsaid: Vec<_> = fault.says.iter().filter(|part| !is_said(part)).collect();
    // A failed expectation says by itself what to do.
    let is_next =
        matches!(fault.outcome, Outcome::Passed | Outcome::Failed) || verdict.help.is_some();
    let right = found == wanted && reason.contains(fault.reason) && all;
    (!right || !unsaid.is_empty() || !is_next).then(|| {
        format!(
            "{}: {found:?}, not {wanted:?}: {reason}: {titles:?}; not said: {unsaid:?}; next: {:?}",
            run.run, verdict.help
        )
    })
}

/// The report on a run, if it takes more than thirty rows of a hundred columns with the summary.
fn longer_than_a_screen(run: &RunResult) -> Option<String> {
    let paint = Paint::stdout(Color::Never);
    let verdict = run.verdict()?;
    let text = verdict::text(&run.run, verdict, 1000, "x", Screen::PAGE, paint);
    let row = |line: &str| line.chars().count().div_ceil(100).max(1);
    (text.lines().map(row).sum::<usize>() > 28).then_some(text)
}

/// What the person who debugs a stuck transition needs.
fn forensics(run: &RunResult) {
    let verdict = run.verdict().unwrap();
    let text = &verdict.evidence[0].text;
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with(
            "culprit is being enabled; tasks that have not switched to patch_state 1: 1 of "
        ),
        "{text}"
    );
    assert_eq!(
        lines[1..4],
        [
            "",
            "kthreadd, pid 2, sleeping, patch_state 0",
            "  the kernel: is sleeping on function kthreadd"
        ]
    );
    let frame =
        |line: &&str| line.starts_with("  ▶ kthreadd+0x") && line.ends_with("   kthreadd changes");
    assert_eq!(lines.iter().filter(|line| frame(line)).count(), 1, "{text}");
    assert!(Arch::ALL.contains(&run.run.arch));
}
