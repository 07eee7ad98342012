// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real kernels in real guests: the project's scenarios, and each verdict provoked on purpose.
//!
//! The first test to come installs what is missing and builds the kernels; a missing tool fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Output, lab_env};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Under CI=true no snapshot is ever written: the tests cannot accept their own results.
const CI: [(&str, &str); 1] = [("CI", "true")];

/// Builds everything once.
fn built() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        common::set_up();
        for args in [
            &["build", "kernel", "mainline", "tags-rfc", "tags"][..],
            &["build", "image", "default"],
        ] {
            let output = lab_env(ROOT.as_ref(), args, &CI);
            assert_eq!(output.code, 0, "{args:?}\n{}", output.stderr);
        }
    });
}

/// A project with the real kernels and image, and scenarios and snapshots of its own.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        built();
        let dir = tempfile::tempdir().unwrap();
        for folder in ["kernels", "images"] {
            symlink(Path::new(ROOT).join(folder), dir.path().join(folder)).unwrap();
        }
        for folder in ["scenarios", "snapshots"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn copy(&self, name: &str) {
        fs::copy(Path::new(ROOT).join(name), self.path(name)).unwrap();
    }

    fn lab(&self, args: &[&str]) -> Output {
        lab_env(self.0.path(), args, &[])
    }

    /// Runs a scenario on mainline that patches one function of vmlinux, then reads a file.
    fn run_vmlinux(&self, patch: &str, steps: &str) -> Output {
        let text = format!(
            "version: 1\nsummary: x\nlivepatches:\n  culprit:\n    patches:\n      vmlinux:\n\
             {patch}\nsteps:\n{steps}\n"
        );
        fs::write(self.path("scenarios/culprit.yaml"), text).unwrap();
        self.lab(&["run", "scenarios/culprit.yaml", "--kernel", "mainline"])
    }

    /// The same, with a body for `cmdline_proc_show`.
    fn run_cmdline(&self, body: &str) -> Output {
        let patch = format!(
            "        cmdline_proc_show:\n          \
             signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
             include: [linux/seq_file.h]\n          body: |\n            {body}\n            \
             return 0;"
        );
        self.run_vmlinux(&patch, "  - load: culprit\n  - read: /proc/cmdline")
    }

    /// The command lines of this sandbox's living QEMUs, known by their console files.
    fn guests(&self) -> Vec<String> {
        let console = self.path(".lab").to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let line = |entry: fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ")
        };
        let ours = |line: &String| line.starts_with("qemu-system") && line.contains(&console);
        entries.map(line).filter(ours).collect()
    }

    fn record(&self, name: &str) -> String {
        fs::read_to_string(self.path(".lab/runs/latest").join(name)).unwrap()
    }
}

fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

#[test]
fn the_projects_scenarios_hold_on_every_kernel() {
    built();
    let entries = fs::read_dir(Path::new(ROOT).join("scenarios")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let scenarios = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .count();
    // The table of verdicts in the document must be what comes out.
    let document = fs::read_to_string(Path::new(ROOT).join("docs/replace-tags.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("replace-tags.md");
    fs::write(&copy, &document).unwrap();
    let table = format!("table={}", copy.display());
    let kernels = ["--kernel", "mainline,tags-rfc,tags", "--jobs", "3"];
    let args = [&["run", "scenarios", "--report", &table], &kernels[..]].concat();
    let output = lab_env(ROOT.as_ref(), &args, &CI);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let count = |word: &str| {
        let lines = output.stdout.lines();
        lines.filter(|line| line.starts_with(word)).count()
    };
    // Each of R1 to R7 shows on tags-rfc, R1 in three ways; on tags nothing is skipped, nothing fails.
    let (passed, known) = (count("passed  "), count("expected failure  "));
    let (skipped, on_tags) = (count("skipped  "), output.stdout.lines());
    assert_eq!(passed + known + skipped, 3 * scenarios, "{}", output.stdout);
    assert_eq!(known, 9, "{}", output.stdout);
    let on_tags = on_tags.filter(|line| line.starts_with("passed  ") && line.contains(" on tags "));
    assert_eq!(on_tags.count(), scenarios, "{}", output.stdout);
    for defect in ["R1", "R2", "R3", "R4", "R5", "R6", "R7"] {
        assert_contains(&output.stdout, &[&format!("  {defect}: ")]);
    }
    let written = fs::read_to_string(&copy).unwrap();
    assert!(
        written == document,
        "docs/replace-tags.md is out of date: write its table with lab run --report table=FILE\n\
         {written}"
    );
}

#[test]
fn a_defect_that_does_not_show_is_a_failure() {
    let sandbox = Sandbox::new();
    sandbox.copy("scenarios/tagged-u32-max.yaml");
    let path = sandbox.path("scenarios/tagged-u32-max.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("kernel: tags-rfc", "kernel: tags")).unwrap();
    let output = sandbox.lab(&["run", "scenarios", "--kernel", "tags"]);
    assert_eq!(output.code, 1, "{}", output.stdout);
    assert_contains(
        &output.stdout,
        &[
            "unexpectedly passed  tagged-u32-max on tags",
            "the tag of largest-v1 reads -1",
        ],
    );
}

#[test]
fn a_transition_that_nothing_holds_is_no_held_one() {
    let sandbox = Sandbox::new();
    // The task sits in another function than the one that is patched.
    let text = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10, stock: 20 } } }\n\
        livepatches: { v1: { patches: { shop: { price: 11 } } } }\nsteps:\n  - load: shop\n  \
        - hold: shop.stock\n  - load: v1\n    transition: held\n  - release: shop.stock\n";
    fs::write(sandbox.path("scenarios/loose.yaml"), text).unwrap();
    let output = sandbox.lab(&["run", "scenarios", "--kernel", "mainline"]);
    assert_eq!(output.code, 1);
    let reason = "load v1): the transition completed, although a function is held";
    assert_contains(&output.stdout, &["failed  loose on mainline", reason]);
}

#[test]
fn a_second_run_builds_nothing() {
    let sandbox = Sandbox::new();
    sandbox.copy("scenarios/tagged-replace.yaml");
    sandbox.copy("snapshots/tagged-replace@tags.snap");
    assert_eq!(sandbox.lab(&["run", "scenarios"]).code, 0);
    let again = sandbox.lab(&["run", "scenarios"]);
    assert_eq!(again.code, 0);
    for verb in ["built", "fetched", "prepared", "unpacked"] {
        assert!(!again.stderr.contains(verb), "{}", again.stderr);
    }
}

#[test]
fn a_tampered_snapshot_exits_1_with_a_diff_by_step() {
    let sandbox = Sandbox::new();
    sandbox.copy("scenarios/tagged-replace.yaml");
    let name = "snapshots/tagged-replace@tags.snap";
    let text = fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let tampered = text.replacen("call shop.price: 12", "call shop.price: 99", 1);
    assert_ne!(tampered, text);
    fs::write(sandbox.path(name), &tampered).unwrap();
    let output = sandbox.lab(&["run", "scenarios"]);
    assert_eq!(output.code, 1);
    assert_contains(
        &output.stdout,
        &[
            "step 4: load pricing-v2\n    -   call shop.price: 99\n    +   call shop.price: 12",
            "next: if what was observed is right: `lab review`",
        ],
    );
    assert_eq!(
        fs::read_to_string(sandbox.path(name)).unwrap(),
        tampered,
        "not overwritten"
    );
    assert!(
        sandbox
            .path("snapshots/tagged-replace@tags.snap.new")
            .exists()
    );
}

#[test]
fn a_missing_snapshot_fails_and_under_ci_nothing_is_written() {
    let sandbox = Sandbox::new();
    sandbox.copy("scenarios/builtin-cmdline.yaml");
    let args = ["run", "scenarios", "--kernel", "mainline"];
    let output = lab_env(sandbox.0.path(), &args, &CI);
    assert_eq!(output.code, 1);
    assert_contains(
        &output.stdout,
        &["there is no snapshot snapshots/builtin-cmdline.snap"],
    );
    assert_eq!(fs::read_dir(sandbox.path("snapshots")).unwrap().count(), 0);
}

#[test]
fn an_expectation_that_does_not_hold_is_not_accepted() {
    let sandbox = Sandbox::new();
    let text = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\n\
        livepatches: { v1: { patches: { shop: { price: 11 } } } }\nsteps:\n  - load: shop\n  \
        - load: v1\n    expect: { calls: { shop.price: 12 } }\n";
    fs::write(sandbox.path("scenarios/wrong.yaml"), text).unwrap();
    let output = sandbox.lab(&["run", "scenarios", "--kernel", "mainline", "--accept"]);
    assert_eq!(output.code, 1);
    let reason = "step 2 (line 7, load v1): shop.price answers 11, not 12";
    assert_contains(&output.stdout, &["failed  wrong on mainline", reason]);
    assert!(!sandbox.path("snapshots/wrong@mainline.snap").exists());
}

#[test]
fn a_module_that_does_not_compile_is_the_module_builds_fault() {
    let sandbox = Sandbox::new();
    let output = sandbox.run_cmdline("no_such_function(m);");
    assert_eq!(output.code, 3);
    assert_contains(
        &output.stdout,
        &[
            "could not run  culprit",
            "[module build]",
            "no_such_function",
        ],
    );
    assert!(
        sandbox
            .record("sources/culprit.c")
            .contains("no_such_function(m);")
    );
}

#[test]
fn a_warning_of_the_kernel_fails_the_run() {
    let sandbox = Sandbox::new();
    let output = sandbox.run_cmdline("WARN(1, \"provoked\");");
    assert_eq!(output.code, 1);
    assert_contains(
        &output.stdout,
        &["splat  culprit", "step 2 (read /proc/cmdline): WARNING: "],
    );
    assert_contains(
        &output.stdout,
        &["provoked", "qemu-system-", "record: .lab/runs/"],
    );
}

#[test]
fn a_panic_in_a_step_is_a_panic_and_no_lost_connection() {
    let sandbox = Sandbox::new();
    let output = sandbox.run_cmdline("panic(\"provoked\");");
    assert_eq!(output.code, 1);
    let reason = "step 2 (read /proc/cmdline): Kernel panic - not syncing: provoked";
    assert_contains(&output.stdout, &["panicked  culprit", reason, "[kernel]"]);
}

#[test]
fn a_panic_at_boot_shows_the_console() {
    let sandbox = Sandbox::new();
    fs::remove_file(sandbox.path("images")).unwrap();
    fs::create_dir_all(sandbox.path("images/guest")).unwrap();
    sandbox.copy("images/default.yaml");
    sandbox.copy("images/guest/agent.c");
    fs::write(
        sandbox.path("images/guest/init"),
        "#!/bin/busybox sh\necho last words\nexit 3\n",
    )
    .unwrap();
    sandbox.copy("scenarios/builtin-cmdline.yaml");
    let output = sandbox.lab(&["run", "scenarios", "--kernel", "mainline"]);
    assert_eq!(output.code, 1);
    assert_contains(
        &output.stdout,
        &[
            "panicked  builtin-cmdline",
            "booting: Kernel panic - not syncing",
            "last words",
        ],
    );
}

#[test]
fn a_transition_that_never_ends_names_the_task_and_its_stack() {
    let sandbox = Sandbox::new();
    // kthreadd sleeps in the function that is patched, and never leaves it.
    let patch = "        kthreadd:\n          signature: int kthreadd(void *unused)\n          \
                 body: return 0;";
    let output = sandbox.run_vmlinux(patch, "  - load: culprit\n    timeout: 3s");
    assert_eq!(output.code, 1);
    assert_contains(
        &output.stdout,
        &[
            "stalled transition  culprit",
            "the transition of culprit did not end in 3s",
            "task 2 (kthreadd), patch_state 0",
            "kthreadd+0x",
        ],
    );
}

/// Starts a run in the sandbox and waits for its guest.
fn start_a_guest(sandbox: &Sandbox) -> std::process::Child {
    sandbox.copy("scenarios/builtin-cmdline.yaml");
    let args = ["run", "scenarios", "--kernel", "mainline", "--accel", "tcg"];
    let lab = common::spawn(sandbox.0.path(), &args);
    let started = Instant::now();
    while sandbox.guests().is_empty() && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(sandbox.guests().len(), 1);
    lab
}

#[test]
fn an_interrupted_run_leaves_no_guest_running() {
    let sandbox = Sandbox::new();
    let mut lab = start_a_guest(&sandbox);
    common::signal(lab.id(), "INT");
    assert_eq!(lab.wait().unwrap().code(), Some(130));
    assert_eq!(sandbox.guests(), Vec::<String>::new());
    assert_contains(
        &sandbox.record("verdict.json"),
        &["\"outcome\": \"cancelled\""],
    );
}

#[test]
fn a_killed_lab_leaves_no_guest_running() {
    let sandbox = Sandbox::new();
    let mut lab = start_a_guest(&sandbox);
    common::signal(lab.id(), "KILL");
    lab.wait().unwrap();
    let started = Instant::now();
    while !sandbox.guests().is_empty() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(sandbox.guests(), Vec::<String>::new());
}
