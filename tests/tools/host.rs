// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults around the lab, with fake tools: a host that lacks something, a compiler that crashes, apt
//! that fails, another lab. The next command succeeds.

use std::fs;

use crate::common::{Output, Project, assert_is, ended, wait_for};
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

/// What only klp-build needs: the package, and what shows that it is there.
const KLP_BUILD: [(&str, &str); 4] = [
    ("patchutils", "bin/recountdiff"),
    ("gawk", "bin/gawk"),
    ("libxxhash-dev", "host/usr/include/xxhash.h"),
    ("ccache", "bin/ccache"),
];

/// A project with a scenario for klp-build and one without, on a host that has nothing of what
/// klp-build needs. Its apt-get puts those of the packages there that it is to install.
fn without_klp_build() -> Project {
    let project = Project::with_stages();
    project.script("sudo", "shift; exec \"$@\"");
    let mut install = String::new();
    for (package, provides) in KLP_BUILD {
        let path = project.path(provides);
        fs::remove_file(&path).unwrap();
        install += &format!(
            "case \"$*\" in *-y*install*{package}*) printf '#!/bin/sh\\n' > '{}';; esac\n",
            path.display()
        );
    }
    // The host's lists: the lab's own commands have a configuration.
    install += "case \"$APT_CONFIG $*\" in ' '*update*) exit;; esac\n";
    project.before("apt-get", &install);
    let (klp, able) = (
        "livepatches: { v1: { klp-build: x.patch } }\nsteps:\n  - load: v1\n",
        "capabilities: { klp-build: [x86_64] }\n",
    );
    project.write("klp/k.yaml", &format!("version: 1\nsummary: x\n{klp}"));
    let patch = "--- a/kernel/fork.c\n+++ b/kernel/fork.c\n@@ -1 +1 @@\n-/* fork */\n+/* k */\n";
    project.write("klp/x.patch", patch);
    project.write(
        "kernels/able.yaml",
        &format!("version: 1\nsummary: x\nextends: fake\n{able}"),
    );
    project
}

/// Which of klp-build's packages a command speaks of.
fn named(output: &Output) -> Vec<&'static str> {
    let names = KLP_BUILD.iter().map(|(name, _)| *name);
    names.filter(|name| output.stderr.contains(name)).collect()
}

/// Which of them are there.
fn installed(project: &Project) -> usize {
    let there = KLP_BUILD
        .iter()
        .filter(|(_, provides)| project.path(provides).exists());
    there.count()
}

#[test]
fn a_run_without_klp_build_asks_for_nothing_of_its() {
    let project = without_klp_build();
    let run = |paths: &[&str], kernel: &str| {
        let options = [kernel, "--arch=x86_64", "--accel=tcg", "--setup", "--yes"];
        project.lab(&[&["run"], paths, &options].concat())
    };
    let plain = run(&["scenarios"], "--kernel=able");
    assert!(is_through(&plain), "{plain:?}");
    assert_eq!(named(&plain), [""; 0], "{plain:?}");
    // A kernel that has no klp-build skips the scenario, so nothing is needed for it.
    let skipped = run(&["scenarios", "klp"], "--kernel=fake");
    assert!(is_through(&skipped), "{skipped:?}");
    assert_eq!(named(&skipped), [""; 0], "{skipped:?}");
    let kernel = project.lab(&[
        "build",
        "kernel",
        "able",
        "--arch=x86_64",
        "--setup",
        "--yes",
    ]);
    assert_eq!((kernel.code, named(&kernel)), (0, vec![]), "{kernel:?}");
    assert_eq!(installed(&project), 0);
}

#[test]
fn a_run_with_klp_build_asks_for_all_of_its_before_it_builds_anything() {
    let project = without_klp_build();
    let all = KLP_BUILD.map(|(name, _)| name);
    let klp = ["klp/k.yaml", "--arch=x86_64", "--kernel=able"];
    let run = [&["run"], &klp[..], &["--accel=tcg"]].concat();
    let compare = ["compare", "klp", "--arch=x86_64", "--kernel=able,fake"];
    for command in [&run[..], &compare] {
        let output = project.lab(command);
        assert_eq!(
            (output.code, named(&output)),
            (3, all.to_vec()),
            "{output:?}"
        );
        assert!(
            output.stderr.contains("host packages are missing"),
            "{output:?}"
        );
        assert_eq!(project.finished_kernels(), 0);
    }
    let with_setup = project.lab(&[&run[..], &["--setup", "--yes"]].concat());
    assert_eq!(named(&with_setup), all, "{with_setup:?}");
    assert_eq!(installed(&project), all.len(), "{with_setup:?}");
    assert_eq!(project.finished_kernels(), 1, "{with_setup:?}");
}

#[test]
fn setup_alone_installs_what_klp_build_needs_too() {
    let project = without_klp_build();
    let arm64 = project.lab(&["setup", "--arch=arm64", "--yes"]);
    assert_eq!((arm64.code, named(&arm64)), (0, vec![]), "{arm64:?}");
    let setup = project.lab(&["setup", "--arch=x86_64", "--yes"]);
    let all = KLP_BUILD.map(|(name, _)| name);
    assert_eq!((setup.code, named(&setup)), (0, all.to_vec()), "{setup:?}");
    assert_eq!(installed(&project), all.len());
}

/// A host that lacks what no run needs is complete.
#[test]
fn an_architecture_without_runs_needs_nothing() {
    let project = Project::with_stages();
    project.remove_tool("qemu-system-aarch64");
    let text = fs::read_to_string(project.path("scenarios/s.yaml")).unwrap();
    let run = ["run", "scenarios", "--arch=x86_64,arm64", "--accel=tcg"];
    let both = project.lab(&run);
    assert_eq!(both.code, 3, "{both:?}");
    assert!(both.stderr.contains("qemu-system-arm "), "{both:?}");
    project.write(
        "scenarios/s.yaml",
        &format!("{text}requires: {{ arch: [x86_64] }}\n"),
    );
    let one = project.lab(&run);
    assert!(is_through(&one), "{one:?}");
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
