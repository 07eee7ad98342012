// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults around the lab, with fake tools: a host that lacks something, a compiler that crashes, apt
//! that fails, another lab. The next command succeeds.

use std::fs;

use crate::common::{Project, assert_is, ended, wait_for};
use crate::faults::host::{APT, COMPILER, NO_QEMU, TWO_LABS};
use crate::stages::is_through;

#[test]
fn qemu_is_missing() {
    let project = Project::with_stages();
    let qemu = project.path("bin/qemu-system-x86_64");
    let away = project.path("qemu");
    fs::rename(&qemu, &away).unwrap();
    let run = ["run", "scenarios", "--kernel=fake", "--accel=tcg"];
    assert_is(&NO_QEMU, &project.lab(&run));
    assert_eq!(project.entries(), [""; 0]);
    fs::rename(&away, &qemu).unwrap();
    assert!(is_through(&project.lab(&run)));
}

#[test]
fn the_compiler_crashes() {
    let project = Project::new();
    project.make_script("echo 'gcc: internal compiler error: Segmentation fault' >&2; exit 2");
    assert_is(&COMPILER, &project.lab(&["build", "kernel", "fake"]));
    project.make_script("touch build/vmlinux build/Module.symvers");
    assert_eq!(project.lab(&["build", "kernel", "fake"]).code, 0);
}

#[test]
fn apt_fails_half_way() {
    let project = Project::new();
    project.remove_tool("flex");
    project.script("sudo", "shift; exec \"$@\"");
    let install = |what: &str| {
        let body = format!("case \"$*\" in *-y*install*) {what};; esac");
        project.script("apt-get", &body);
        project.lab(&["setup", "--yes"])
    };
    let fetch = install("echo 'E: Failed to fetch flex' >&2; exit 100");
    assert_is(&APT, &fetch);
    let dpkg =
        install("echo \"E: dpkg was interrupted, you must run 'dpkg --configure -a'\"; exit 100");
    assert_is(&APT, &dpkg);
    assert!(
        dpkg.stderr
            .contains("next: run `dpkg --configure -a` as root")
    );
    let flex = project.path("bin/flex").display().to_string();
    let next = install(&format!("printf '#!/bin/sh\\n' > '{flex}'"));
    assert_eq!(next.code, 0, "{next:?}");
}

/// Debian 12 has QEMU 7.2, and a later one in its backports.
#[test]
fn a_qemu_that_is_too_old_is_replaced_from_backports() {
    let project = Project::new();
    let qemu = |version: &str| format!("echo 'QEMU emulator version {version} (Debian)'");
    project.script("qemu-system-x86_64", &qemu("7.2.22"));
    project.script("sudo", "shift; exec \"$@\"");
    project.script("apt-config", "");
    project.script("dpkg", "echo amd64");
    let path = project.path("bin/qemu-system-x86_64").display().to_string();
    let install = |from_backports: &str| {
        let newer = qemu(from_backports);
        let body = format!(
            "case \"$*\" in\n*indextargets*) echo '||http://localhost/debian/';;\n\
             *-backports*-y*install*qemu-system-x86*) \
             printf '%s\\n' '#!/bin/sh' \"{newer}\" > '{path}';;\nesac"
        );
        project.script("apt-get", &body);
        project.lab(&["setup", "--yes"])
    };
    let too_old = install("8.1.5");
    assert_eq!(too_old.code, 3, "{too_old:?}");
    for said in [
        "qemu-system-x86        runs x86_64 guests",
        "is 8.1.5: the lab needs QEMU 8.2",
    ] {
        assert!(too_old.stderr.contains(said), "{too_old:?}");
    }
    let replaced = install("10.0.2");
    assert_eq!(replaced.code, 0, "{replaced:?}");
    assert!(
        replaced
            .stderr
            .contains("the release's own version is too old"),
        "{replaced:?}"
    );
    let again = project.lab(&["setup", "--yes"]);
    assert!(
        again.stderr.contains("every host package is there"),
        "{again:?}"
    );
}

#[test]
fn two_labs_want_one_kernel() {
    let project = Project::new();
    let builds = project.path("builds");
    project.make_script(&format!(
        "echo built >> {}; sleep 2; touch build/vmlinux build/Module.symvers",
        builds.display()
    ));
    let first = project.spawn(&["build", "kernel", "fake"]);
    wait_for(|| builds.exists());
    let second = project.lab(&["build", "kernel", "fake"]);
    assert_is(&TWO_LABS, &second);
    assert_eq!(ended(first).code, 0);
    assert_eq!(fs::read_to_string(&builds).unwrap().lines().count(), 1);
}
