// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults in a guest: what a kernel and its programs can do wrong, provoked by livepatches.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use livepatch_lab::arch::Arch;
use livepatch_lab::error::Blame;
use livepatch_lab::report::read::read_dir;
use livepatch_lab::report::results::{RunResult, State};
use livepatch_lab::verdict::Outcome;
use livepatch_lab::verdict::SplatKind;

use crate::sandbox::{ROOT, Sandbox};

/// A fault, and what must come of it.
pub struct Fault {
    /// The name of the scenario in `scenarios/` that provokes it.
    pub scenario: &'static str,
    /// What happens in the guest.
    pub what: &'static str,
    pub outcome: Outcome,
    pub kind: Option<SplatKind>,
    pub blame: Option<Blame>,
    pub code: u8,
    /// What the first reason says.
    reason: &'static str,
    /// Titles of what shows it.
    pub evidence: &'static [&'static str],
}

const SAID: &str = "what the kernel said";
const TAIL: &str = "the console's last lines";
const QEMU: &str = "QEMU's command line";
const CPUS: &str = "where its CPUs are";
const SYSRQ: &str = "blocked tasks and the stacks of all CPUs (SysRq w, l)";
const STUCK: &[&str] = &[CPUS, SYSRQ, SAID, TAIL, QEMU];

const fn splat(
    scenario: &'static str,
    what: &'static str,
    kind: SplatKind,
    reason: &'static str,
) -> Fault {
    Fault {
        scenario,
        what,
        outcome: Outcome::Splat,
        kind: Some(kind),
        blame: Some(Blame::Kernel),
        code: 1,
        reason,
        evidence: &[SAID, QEMU],
    }
}

const fn stuck(
    scenario: &'static str,
    what: &'static str,
    kind: SplatKind,
    reason: &'static str,
) -> Fault {
    let mut fault = splat(scenario, what, kind, reason);
    fault.evidence = STUCK;
    fault
}

const fn panic(scenario: &'static str, what: &'static str) -> Fault {
    let mut fault = splat(
        scenario,
        what,
        SplatKind::Panic,
        "Kernel panic - not syncing: provoked",
    );
    fault.outcome = Outcome::Panicked;
    fault
}

const fn gone(
    scenario: &'static str,
    what: &'static str,
    outcome: Outcome,
    reason: &'static str,
) -> Fault {
    let mut fault = splat(scenario, what, SplatKind::Panic, reason);
    fault.outcome = outcome;
    fault.kind = None;
    fault.evidence = &[TAIL, QEMU];
    fault
}

const fn passes(scenario: &'static str, what: &'static str) -> Fault {
    let mut fault = gone(scenario, what, Outcome::Passed, "");
    fault.blame = None;
    fault.code = 0;
    fault.evidence = &[];
    fault
}

/// Some end as others do.
pub const FAULTS: [Fault; 22] = [
    splat(
        "warn",
        "WARN() in a patched function",
        SplatKind::Warning,
        "): WARNING: culprit.c:",
    ),
    passes("warn-allowed", "the same, allowed by the scenario"),
    gone(
        "tainted",
        "a warning that the console does not show",
        Outcome::Splat,
        "the kernel is tainted (W: a warning), and does not say why",
    ),
    splat(
        "oops",
        "a write to a bad address",
        SplatKind::Oops,
        "NULL pointer dereference",
    ),
    splat("bug", "BUG()", SplatKind::Oops, "kernel BUG at culprit.c:"),
    splat(
        "atomic",
        "sleeping in atomic context",
        SplatKind::Bug,
        "BUG: scheduling while atomic: lab-agent/",
    ),
    panic("panic", "a panic in a step"),
    panic("late-panic", "a panic right after the last step"),
    stuck(
        "hung-task",
        "a task that sleeps for ever",
        SplatKind::HungTask,
        "INFO: task lab-agent:",
    ),
    stuck(
        "soft-lockup",
        "a CPU that never schedules",
        SplatKind::Lockup,
        "watchdog: BUG: soft lockup - CPU#",
    ),
    stuck(
        "rcu-stall",
        "a grace period that cannot end",
        SplatKind::RcuStall,
        "rcu: INFO: rcu_sched ",
    ),
    {
        let mut fault = gone(
            "silence",
            "no CPU takes interrupts",
            Outcome::Hung,
            "no answer to `read /proc/cmdline` within ",
        );
        fault.evidence = &[CPUS, TAIL, QEMU];
        fault
    },
    gone(
        "triple-fault",
        "a triple fault",
        Outcome::Reset,
        "went down by itself (guest-reset)",
    ),
    gone(
        "silent-reset",
        "a reset without a word",
        Outcome::Reset,
        "went down by itself (guest-reset)",
    ),
    {
        let mut fault = splat(
            "out-of-memory",
            "all memory is taken",
            SplatKind::OutOfMemory,
            "Out of memory: Killed process",
        );
        fault.blame = Some(Blame::Guest);
        fault
    },
    {
        let mut fault = gone(
            "full-disk",
            "the guest's disk is full",
            Outcome::Failed,
            "the guest's disk is full: reading /proc/cmdline failed: ENOSPC",
        );
        fault.blame = Some(Blame::Guest);
        fault.evidence = &[];
        fault
    },
    {
        let mut fault = gone(
            "big-module",
            "a module that the guest's disk has no room for",
            Outcome::Infra,
            "copying culprit into the guest: ENOSPC",
        );
        fault.blame = Some(Blame::Guest);
        fault.code = 3;
        fault.evidence = &[QEMU];
        fault
    },
    {
        let mut fault = gone(
            "sshd-killed",
            "the ssh servers are killed",
            Outcome::Infra,
            "the connection to the guest was lost",
        );
        fault.blame = Some(Blame::Guest);
        fault.code = 3;
        fault
    },
    {
        let mut fault = splat(
            "flood",
            "100 MB on the console",
            SplatKind::LostMessages,
            " printk messages dropped **",
        );
        fault.outcome = Outcome::Flooded;
        fault
    },
    {
        let mut fault = gone(
            "stalled-transition",
            "a transition that never ends",
            Outcome::StalledTransition,
            "the transition of culprit did not end in 3s",
        );
        fault.evidence = &[
            "the transition",
            SYSRQ,
            "the console's last lines before that",
            QEMU,
        ];
        fault
    },
    {
        let mut fault = gone(
            "load-errno",
            "a livepatch that the kernel refuses",
            Outcome::Failed,
            "loading culprit failed: EINVAL",
        );
        fault.evidence = &[];
        fault
    },
    passes("clock-jump", "the clock jumps to 1970 and to 2100"),
];

/// On the kernel `debug`, which finds them. The scenarios are in `debug/`.
pub const DEBUG_FAULTS: [Fault; 4] = [
    splat(
        "lock-order",
        "locks in both orders",
        SplatKind::Lockdep,
        "WARNING: possible circular locking dependency detected",
    ),
    splat(
        "bad-access",
        "a write behind what was allocated",
        SplatKind::Sanitizer,
        "BUG: KASAN: slab-out-of-bounds in lab_new_0_cmdline_proc_show",
    ),
    splat(
        "bad-index",
        "an index behind the end of an array",
        SplatKind::Sanitizer,
        "UBSAN: array-index-out-of-bounds in culprit.c:",
    ),
    splat(
        "bad-context",
        "sleeping where it is not allowed",
        SplatKind::Bug,
        "BUG: sleeping function called from invalid context at culprit.c:",
    ),
];

/// Before the first step, by inits that do no more than this.
pub const BOOT_FAULTS: [(Fault, &str); 3] = [
    (
        {
            let mut fault = panic("", "a panic at boot");
            fault.reason = "booting: Kernel panic - not syncing: Attempted to kill init!";
            fault
        },
        // A terminal sends in its own time.
        "echo last words\n/bin/busybox sleep 1\nexit 3",
    ),
    (
        {
            let mut fault = gone(
                "",
                "a boot that does not end",
                Outcome::Hung,
                "booting: the run took longer than --timeout",
            );
            fault.evidence = &[CPUS, TAIL, QEMU];
            fault
        },
        "while :; do /bin/busybox sleep 60; done",
    ),
    (
        {
            let mut fault = gone(
                "",
                "the ssh server does not start",
                Outcome::Infra,
                "booting: its ssh server did not start",
            );
            fault.blame = Some(Blame::Guest);
            fault.code = 3;
            fault
        },
        "echo 'lab: waiting for an identity'\nread identity\n\
         echo 'lab: dropbear did not start'\nwhile :; do /bin/busybox sleep 60; done",
    ),
];

#[test]
#[ignore = "builds a kernel with lockdep and KASAN for each architecture: nightly"]
fn a_debug_kernel_finds_more() {
    let sandbox = Sandbox::new();
    let scenarios = Path::new(ROOT).join("tests/faults/debug");
    let output = sandbox.lab(&[
        "run",
        &scenarios.display().to_string(),
        "--kernel=debug",
        "--arch=x86_64,arm64",
        "--output=results",
    ]);
    assert_eq!(output.code, 1, "{}", output.stdout);
    let results = read_dir(&sandbox.path("results")).unwrap();
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

    let sandbox = Sandbox::new();
    let output = sandbox.lab(&[
        "run",
        &scenarios.display().to_string(),
        "--kernel=mainline",
        "--arch=x86_64,arm64",
        "--output=results",
        "--accept",
        "--dump-on-panic",
    ]);
    // The worst of all: sshd-killed and big-module.
    assert_eq!(output.code, 3, "{}", output.stdout);
    let results = read_dir(&sandbox.path("results")).unwrap();
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
        let record = sandbox.path("results/runs").join(record(run));
        let memory = fs::File::open(record.join("memory.elf")).unwrap();
        assert!(memory.metadata().unwrap().len() > 256 << 20, "{}", run.run);
    }
    forensics(
        results
            .runs
            .iter()
            .find(|run| run.run.scenario == "stalled-transition")
            .unwrap(),
    );
    assert_eq!(sandbox.guests(), [""; 0]);
}

#[test]
fn every_fault_at_boot_has_its_verdict() {
    let mut wrong = Vec::new();
    for (fault, init) in &BOOT_FAULTS {
        let sandbox = with_init(init);
        sandbox.copy("scenarios/builtin-cmdline.yaml");
        let args = [
            "run",
            "scenarios",
            "--kernel=mainline",
            "--arch=x86_64,arm64",
            "--timeout=40s",
            "--output=results",
        ];
        let output = sandbox.lab(&args);
        assert_eq!(output.code, i32::from(fault.code), "{}", output.stdout);
        let results = read_dir(&sandbox.path("results")).unwrap();
        assert_eq!(results.runs.len(), 2);
        wrong.extend(results.runs.iter().filter_map(|run| compare(fault, run)));
        let panicked = fault.outcome == Outcome::Panicked;
        assert_eq!(output.stdout.contains("last words"), panicked);
        assert_eq!(sandbox.guests(), [""; 0]);
    }
    assert_eq!(wrong, [""; 0]);
}

/// A sandbox whose guests have another init.
fn with_init(init: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::remove_file(sandbox.path("images")).unwrap();
    fs::create_dir_all(sandbox.path("images/guest")).unwrap();
    for entry in fs::read_dir(Path::new(ROOT).join("images")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let image = fs::read_to_string(&path).unwrap();
            assert!(image.contains("init: guest/init.c\n"));
            let image = image.replace("guest/init.c", "guest/init");
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::write(sandbox.path("images").join(name), image).unwrap();
        }
    }
    sandbox.copy("images/guest/agent.c");
    let init = format!("#!/bin/busybox sh\n{init}\n");
    fs::write(sandbox.path("images/guest/init"), init).unwrap();
    sandbox
}

#[test]
fn selftests_that_do_not_boot_say_where_the_cpus_are() {
    let sandbox = with_init("while :; do /bin/busybox sleep 60; done");
    let output = sandbox.lab(&["selftests", "--kernel=mainline"]);
    assert_eq!(output.code, 3, "{}\n{}", output.stdout, output.stderr);
    let said = &output.stderr;
    assert!(said.contains("the guest did not finish booting"), "{said}");
    assert!(said.contains("where its CPUs are:"), "{said}");
    assert!(said.contains("CPU 1 at "), "{said}");
    assert_eq!(sandbox.guests(), [""; 0]);
}

/// The name of a run's record.
fn record(run: &RunResult) -> &str {
    let State::Finished(finished) = &run.state else {
        panic!("{} did not finish", run.run);
    };
    finished.record.rsplit('/').next().unwrap()
}

/// What is not as the table says.
fn difference(table: &[Fault], run: &RunResult) -> Option<String> {
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
    let right = found == wanted && reason.contains(fault.reason) && all;
    (!right).then(|| {
        format!(
            "{}: {found:?}, not {wanted:?}: {reason}: {titles:?}",
            run.run
        )
    })
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
