// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C, once and twice, while a real guest boots, plays a step or is in a transition.

use std::fs;

use super::host::{assert_well, project, qemu, stalled};
use crate::common::{self, Project, assert_is, ended, signal, wait_for};
use crate::faults::interrupts::HANGUP;
use crate::real::{culprit, kthreadd};

#[test]
fn the_terminal_goes_away_during_a_transition() {
    let project = project();
    let lab = stalled(&project, &[]);
    signal(lab.id(), "HUP");
    assert_is(&HANGUP, &ended(lab));
    assert_well_again(&project);
}

/// A real guest, interrupted as soon as `there` holds of its console.
fn interrupt_guest(scenario: &str, more: &[&str], there: impl Fn(&str) -> bool, twice: bool) {
    let project = project();
    fs::write(project.path("scenarios/held.yaml"), scenario).unwrap();
    let args = [
        "run",
        "scenarios/held.yaml",
        "--kernel=mainline",
        "--accel=tcg",
    ];
    let lab = project.spawn(&[&args, more].concat());
    let record = project.path(".lab/runs/latest");
    wait_for(|| there(&read(&record.join("console.log"))));
    let guest = qemu(&project);
    if twice {
        // It cannot end in good order.
        signal(guest, "STOP");
        signal(lab.id(), "INT");
        wait_for(|| read(&record.join("qmp.log")).contains("\"quit\""));
    }
    signal(lab.id(), "INT");
    let output = ended(lab);
    assert_eq!(output.code, 130, "{output:?}");
    assert!(common::is_gone(guest));
    if !twice {
        assert!(read(&record.join("verdict.json")).contains("cancelled"));
    }
    assert_well_again(&project);
}

fn assert_well_again(project: &Project) {
    fs::remove_file(project.path("scenarios/held.yaml")).unwrap();
    assert_well(project);
}

#[test]
fn while_a_real_guest_boots() {
    let booting =
        |console: &str| console.contains("Linux version") && !console.contains("lab: ready");
    let scenario = kthreadd("  - load: culprit\n    timeout: 10m");
    interrupt_guest(&scenario, &["--cold"], booting, false);
    interrupt_guest(&scenario, &["--cold"], booting, true);
}

#[test]
fn in_a_step_of_a_real_guest() {
    let scenario = culprit(
        "        cmdline_proc_show:\n          signature: int cmdline_proc_show(struct seq_file *m, \
         void *v)\n          include: [linux/seq_file.h, linux/delay.h]\n          body: |\n            \
         pr_info(\"the step is here\\n\");\n            msleep(600000);\n            return 0;",
        "  - load: culprit\n  - read: /proc/cmdline\n    timeout: 20m",
    );
    let reading = |console: &str| console.contains("the step is here");
    interrupt_guest(&scenario, &[], reading, false);
    interrupt_guest(&scenario, &[], reading, true);
}

#[test]
fn in_a_transition_of_a_real_guest() {
    let scenario = kthreadd("  - load: culprit\n    timeout: 10m");
    let patching = |console: &str| console.contains("starting patching transition");
    interrupt_guest(&scenario, &[], patching, false);
    interrupt_guest(&scenario, &[], patching, true);
}

/// The text of a file, or nothing.
fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
