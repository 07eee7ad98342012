// SPDX-License-Identifier: MIT OR Apache-2.0
//! The option `-t` that `tags` gives the kernel's klp-build, without a build; and what comes of source
//! patches of which a real klp-build makes nothing.
//!
//! The first test to come installs what is missing and builds the kernel; a missing tool fails.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::{Output, Project, ROOT, assert_contains, lab_env};
use crate::real::set_up;

const SCRIPT: &str = "scripts/livepatch/klp-build";

/// The source tree of kernel `tags`. klp-build is for x86_64, so no other kernel will do.
fn built() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let args = ["build", "kernel", "tags", "--arch", "x86_64", "--setup"];
        let output = lab_env(ROOT.as_ref(), &args, &[("CI", "true")]);
        assert_eq!(output.code, 0, "{}", output.stderr);
        // `tags x86_64 …/tree/build/vmlinux`
        let vmlinux = output.stdout.trim_end().rsplit(' ').next().unwrap();
        PathBuf::from(vmlinux).ancestors().nth(2).unwrap().into()
    };
    // Also when it is built: the next test is of another group.
    set_up();
    BUILT.get_or_init(build).clone()
}

/// A folder with nothing but klp-build where a tree has it: the cache stays as it is.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        let script = scratch.0.path().join(SCRIPT);
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        fs::copy(built().join(SCRIPT), script).unwrap();
        scratch
    }

    /// Runs klp-build with `args` and one patch, which does not exist.
    fn klp_build(&self, args: &[&str]) -> Output {
        let started = Instant::now();
        let output = Command::new("bash")
            .arg(SCRIPT)
            .args(args)
            .arg("no-such.patch")
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{args:?}");
        assert!(self.is_untouched(), "{args:?}");
        Output {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Nothing but `scripts` is there: no `klp-tmp`, above all.
    fn is_untouched(&self) -> bool {
        let names = |folder: &str| {
            let entries = fs::read_dir(self.0.path().join(folder)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name());
            names.collect::<Vec<_>>()
        };
        names("") == ["scripts"]
            && names("scripts") == ["livepatch"]
            && names("scripts/livepatch") == ["klp-build"]
    }
}

#[test]
fn a_tag_that_is_no_u32_is_refused_at_once() {
    let scratch = Scratch::new();
    for tag in ["abc", "-1", "4294967296", "", "1 2", "0x1", "01", "+1"] {
        for args in [&["-t", tag][..], &[&format!("--replace-tag={tag}")]] {
            let output = scratch.klp_build(args);
            assert_ne!(output.code, 0, "{args:?}");
            let error = format!("error: klp-build: invalid replace tag '{tag}'");
            assert!(output.stderr.contains(&error), "{}", output.stderr);
            assert!(!output.stderr.contains("no-such.patch"));
        }
    }
}

#[test]
fn a_tag_and_no_replace_contradict_each_other_in_either_order() {
    let scratch = Scratch::new();
    for args in [["-t", "1", "--no-replace"], ["--no-replace", "-t", "1"]] {
        let output = scratch.klp_build(&args);
        assert_ne!(output.code, 0);
        for option in ["--no-replace", "--replace-tag"] {
            assert!(output.stderr.contains(option), "{}", output.stderr);
        }
    }
}

#[test]
fn every_u32_is_a_tag() {
    let scratch = Scratch::new();
    for tag in ["0", "1", "4294967295"] {
        let output = scratch.klp_build(&["-t", tag]);
        assert_ne!(output.code, 0);
        assert_eq!(
            output.stderr.trim_end(),
            "error: klp-build: no-such.patch doesn't exist"
        );
    }
}

/// A project whose scenario has a livepatch from this source patch.
fn with_patch(patch: &str) -> Project {
    let project = Project::new();
    project.write("scenarios/fix.patch", patch);
    project.write(
        "scenarios/fix.yaml",
        "version: 1\nsummary: x\nrequires: { replace: tags }\n\
         livepatches: { fix: { tag: 1, klp-build: fix.patch } }\nsteps:\n  - load: fix\n",
    );
    project
}

const RUN: [&str; 5] = [
    "run",
    "scenarios/fix.yaml",
    "--kernel=tags",
    "--arch=x86_64",
    "--accel=tcg",
];

/// klp-build says "objtool klp diff failed" and a line of its script.
#[test]
fn what_objtool_refuses_is_the_headline() {
    let project = with_patch(
        "--- a/init/version.c\n+++ b/init/version.c\n@@ -36,7 +36,7 @@\n \
         early_param(\"hostname\", early_hostname);\n \n const char linux_proc_banner[] =\n\
         -\t\"%s version %s\"\n+\t\"%s verzion %s\"\n \
         \t\" (\" LINUX_COMPILE_BY \"@\" LINUX_COMPILE_HOST \")\"\n \
         \t\" (\" LINUX_COMPILER \") %s\\n\";\n \n",
    );
    let output = project.lab(&RUN);
    assert_eq!(output.code, 3, "{output:?}");
    assert_contains(
        &output.stdout,
        &[
            "[module build]\n  livepatch fix does not build: changed data: linux_proc_banner\n",
            "the whole output is in the record: klp-build/fix.log",
        ],
    );
    assert_contains(
        &project.record("klp-build/fix.log"),
        &["vmlinux.o: error: objtool: changed data: linux_proc_banner"],
    );
}

/// klp-build says "no changes detected", and nothing if another file of the patch is built.
#[test]
fn a_file_that_the_kernel_is_built_without_is_named_with_its_option() {
    let project = with_patch(
        "--- a/net/ipv6/ping.c\n+++ b/net/ipv6/ping.c\n@@ -1 +1 @@\n-x\n+y\n\
         --- a/kernel/sched/rt.c\n+++ b/kernel/sched/rt.c\n@@ -1 +1 @@\n-x\n+y\n\
         --- a/fs/xfs/libxfs/xfs_ag.c\n+++ b/fs/xfs/libxfs/xfs_ag.c\n@@ -1 +1 @@\n-x\n+y\n",
    );
    let output = project.lab(&RUN);
    assert_eq!(output.code, 2, "{output:?}");
    assert_contains(
        &output.stdout,
        &[
            "[file]\n  livepatch fix: this kernel is built without 2 of the 3 files of its patches\n",
            "    fs/xfs/libxfs/xfs_ag.c (needs CONFIG_XFS_FS)\n    net/ipv6/ping.c (needs CONFIG_IPV6)\n",
        ],
    );
}

#[test]
fn the_kernel_has_no_jump_tables() {
    // Those of functions in .init.text are in .rodata, so that klp-build refuses to patch any function
    // that refers to it: `can't patch or reference init code/data`.
    let command = built().join("build/kernel/.sys.o.cmd");
    let command = fs::read_to_string(&command).unwrap();
    let flags: Vec<_> = command.split_whitespace().collect();
    for flag in ["-fno-jump-tables", "-fcf-protection=branch"] {
        assert!(
            flags.contains(&flag),
            "{flag}: {:?}",
            command.lines().next()
        );
    }
}
