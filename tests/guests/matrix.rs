// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real kernels in real guests: the project's scenarios, and each verdict provoked on purpose.
//!
//! The first test to come installs what is missing and builds the kernels; a missing tool fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::lab_env;
use crate::common::{self, Project, ROOT, assert_contains};
use crate::kunit::{kernel_tree, kunit_accepts};
use crate::real::{CI, built, kthreadd};
use livepatch_lab::arch::Arch;
use livepatch_lab::event::RunId;
use livepatch_lab::report::read::read_dir;
use livepatch_lab::report::results::{Results, RunResult};
use livepatch_lab::verdict::Outcome;

/// How many runs ended in a way, of those that `of` picks.
fn count(results: &Results, outcome: Outcome, of: impl Fn(&RunResult) -> bool) -> usize {
    let ended = |run: &&RunResult| run.verdict().is_some_and(|v| v.outcome == outcome) && of(run);
    results.runs.iter().filter(ended).count()
}

/// The scenarios of runs.
fn names_of<'a>(runs: impl Iterator<Item = &'a RunId>) -> BTreeSet<String> {
    runs.map(|run| run.scenario.clone()).collect()
}

#[test]
fn the_nightly_matrix_holds_and_every_report_says_so() {
    built();
    let names = |folder: &str, ending: &str| -> Vec<String> {
        let entries = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ending)).collect()
    };
    let upstream = names("scenarios/upstream", ".yaml").len();
    let scenarios = names("scenarios", ".yaml").len() + upstream;
    // The table of verdicts in the document must be what comes out.
    let document = fs::read_to_string(Path::new(ROOT).join("docs/replace-tags.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    fs::write(file("table"), &document).unwrap();
    let mut args = ["run", "--profile", "nightly", "--output"]
        .map(str::to_owned)
        .to_vec();
    args.push(file("results"));
    for format in ["table", "junit", "ktap", "github"] {
        args.extend(["--report".to_owned(), format!("{format}={}", file(format))]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let output = lab_env(ROOT.as_ref(), &args, &CI);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);

    // Each of R1 to R7 shows on tags-rfc, R1 in three ways; R6 is klp-build's, which arm64 lacks.
    let claims = |name: &&String| {
        let text = fs::read_to_string(Path::new(ROOT).join("scenarios").join(name)).unwrap();
        text.contains("\nexpect_failure:")
    };
    let claimed = names("scenarios", ".yaml");
    let claimed = claimed.iter().filter(claims);
    let claimed: BTreeSet<_> = claimed
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    assert!(claimed.len() >= 9, "{claimed:?}");
    let results = read_dir(file("results").as_ref()).unwrap();
    let total = results.runs.len() + results.skipped.len();
    assert_eq!(total, scenarios * 3 * 2 * 2, "{}", output.stdout);
    for arch in Arch::ALL {
        let on = |kernel: &'static str| {
            let of = move |run: &RunId| run.kernel == kernel && run.arch == arch;
            let runs = results.runs.iter().map(|run| &run.run);
            let runs = runs.filter(|run| of(run));
            names_of(runs)
        };
        let ended = |outcome| {
            let ended = move |run: &&RunResult| {
                run.run.arch == arch && run.verdict().is_some_and(|v| v.outcome == outcome)
            };
            names_of(results.runs.iter().filter(ended).map(|run| &run.run))
        };
        // What a scenario claims to fail fails there, and nothing else does.
        let claimed: BTreeSet<_> = on("tags-rfc").intersection(&claimed).cloned().collect();
        assert_eq!(ended(Outcome::ExpectedFailure), claimed, "{arch}");
        // arm64 has neither klp-build nor kprobes on ftrace.
        let lacking: &[&str] = match arch {
            Arch::X86_64 => &[],
            Arch::Arm64 => &[
                "klp-build-options",
                "klp-build-tags",
                "upstream-kprobe-with-post-handler",
                "upstream-kprobe-without-post-handler",
            ],
        };
        let on_tags = |run: &&RunId| run.kernel == "tags" && run.arch == arch;
        // What needs two CPUs is left out with one.
        let skipped = results.skipped.iter();
        let skipped = skipped.filter(|skipped| !skipped.reason.contains("CPUs (scenario)"));
        let skipped = names_of(skipped.map(|skipped| &skipped.run).filter(on_tags));
        assert!(skipped.iter().eq(lacking), "{arch}: {skipped:?}");
    }
    let failing = count(&results, Outcome::ExpectedFailure, |_| true);
    let passed = count(&results, Outcome::Passed, |_| true);
    assert_eq!(passed + failing, results.runs.len(), "{}", output.stdout);
    for defect in ["R1", "R2", "R3", "R4", "R5", "R6", "R7"] {
        assert_contains(&output.stdout, &[&format!("  {defect}: ")]);
    }
    // Both behave the same, but for the names of system calls.
    let mut differ = names("snapshots", ".arm64.snap");
    differ.sort();
    assert_eq!(
        differ,
        [
            "upstream-livepatch-atomic-replace.arm64.snap",
            "upstream-syscall-getpid.arm64.snap",
            "upstream-sysfs-stack-order.arm64.snap",
        ]
    );
    assert!(
        results
            .ended
            .is_some_and(|ended| ended.guests > 1 && ended.memory_mib > 0)
    );

    let parsed = kunit_accepts(&kernel_tree(), file("ktap").as_ref());
    assert!(parsed.ok, "{}", parsed.output);
    let counts = parsed.counts;
    assert_eq!(
        (counts.failed, counts.crashed, counts.errors),
        (0, 0, 0),
        "{}",
        parsed.output
    );
    assert_eq!(counts.skipped, results.skipped.len() as u64);
    assert_eq!(junit_cases(&file("junit"), None), total);
    assert_eq!(junit_cases(&file("junit"), Some("error")), 0);
    assert_contains(
        &fs::read_to_string(file("github")).unwrap(),
        &[&format!("{passed} passed"), "| tagged-replace |"],
    );
    let merged = lab_env(ROOT.as_ref(), &["report", "merge", &file("results")], &CI);
    let tally = format!(
        "{passed} passed, {failing} expected failure, {} skipped",
        results.skipped.len()
    );
    assert_eq!(merged.code, 0, "{}", merged.stderr);
    assert_contains(&merged.stdout, &[&tally]);
    assert_contains(&output.stdout, &[&tally]);
    let written = fs::read_to_string(file("table")).unwrap();
    assert!(
        written == document,
        "docs/replace-tags.md is out of date: write its table with lab run --report table=FILE\n\
         {written}"
    );
}

/// The test cases in a JUnit file, or those that have a `child`.
fn junit_cases(file: &str, child: Option<&str>) -> usize {
    let text = fs::read_to_string(file).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let cases = document
        .descendants()
        .filter(|node| node.has_tag_name("testcase"));
    let has = |case: &roxmltree::Node<'_, '_>| {
        child.is_none_or(|child| case.children().any(|node| node.has_tag_name(child)))
    };
    cases.filter(has).count()
}

#[test]
fn a_killed_lab_leaves_reports_that_tell_and_is_resumed() {
    let project = Project::new();
    for name in ["builtin-cmdline", "legacy-replace", "sympos"] {
        project.copy(&format!("scenarios/{name}.yaml"));
    }
    for entry in fs::read_dir(Path::new(ROOT).join("snapshots")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(
            entry.path(),
            project.path("snapshots").join(entry.file_name()),
        )
        .unwrap();
    }
    let [junit, ktap] = ["junit", "ktap"].map(|name| project.path(name).display().to_string());
    let (to_junit, to_ktap) = (format!("junit={junit}"), format!("ktap={ktap}"));
    let select = [
        "run",
        "scenarios",
        "--kernel",
        "mainline",
        "--arch",
        "x86_64,arm64",
    ];
    let reports = ["--report", &to_junit, "--report", &to_ktap];
    let args = [
        &select[..],
        &["--jobs", "1", "--output", "results"],
        &reports[..],
    ]
    .concat();
    let mut lab = project.spawn(&args);
    let started = Instant::now();
    let finished = || {
        let results = read_dir(&project.path("results"));
        results.map_or(0, |results| {
            results.runs.iter().filter(|run| run.is_settled()).count()
        })
    };
    while finished() == 0 && started.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(50));
    }
    common::signal(lab.id(), "KILL");
    lab.wait().unwrap();
    let done = finished();
    assert!((1..6).contains(&done), "{done}");

    assert_eq!(junit_cases(&junit, None), 6);
    assert_eq!(junit_cases(&junit, Some("error")), 6 - done);
    let parsed = kunit_accepts(&kernel_tree(), ktap.as_ref());
    assert!(
        !parsed.ok && parsed.counts.crashed == (6 - done) as u64,
        "{}",
        parsed.output
    );
    let merged = project.lab(&["report", "merge", "results"]);
    assert_eq!(merged.code, 3, "{}", merged.stdout);
    assert_contains(&merged.stdout, &[&format!("{} without a result", 6 - done)]);

    let resumed = project.lab(&[&select[..], &["--resume", "results"], &reports[..]].concat());
    assert_eq!(resumed.code, 0, "{}", resumed.stdout);
    let left = format!("{done} runs have a verdict already, {} are left", 6 - done);
    assert_contains(&resumed.stderr, &[&left]);
    assert_contains(&resumed.stdout, &["6 passed"]);
    assert_eq!(junit_cases(&junit, Some("error")), 0);
    assert!(kunit_accepts(&kernel_tree(), ktap.as_ref()).ok);
    let merged = project.lab(&["report", "merge", "results"]);
    assert_eq!(merged.code, 0, "{}", merged.stdout);
    let again = project.lab(&[&select[..], &["--resume", "results"]].concat());
    assert_contains(
        &again.stderr,
        &["6 runs have a verdict already, 0 are left"],
    );
}

#[test]
fn what_passes_at_the_second_attempt_is_flaky() {
    let project = Project::new();
    project.copy("scenarios/builtin-cmdline.yaml");
    project.copy("snapshots/builtin-cmdline.snap");
    // A QEMU that fails the first time it shall run a guest.
    let real = common::find_tool("qemu-system-aarch64");
    fs::create_dir(project.path("bin")).unwrap();
    let wrapper = project.path("bin/qemu-system-aarch64");
    let once = project.path("once");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" != --version ] && mkdir '{}' 2>/dev/null; then\n\
         echo broken >&2; exit 1\nfi\nexec {} \"$@\"\n",
        once.display(),
        real.display()
    );
    fs::write(&wrapper, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&wrapper, executable).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", project.path("bin").display());
    let args = [
        "run",
        "scenarios",
        "--kernel",
        "mainline",
        "--arch",
        "arm64",
    ];
    let args = [
        &args,
        &["--accel", "tcg", "--output", "results", "--retries", "1"][..],
    ]
    .concat();
    let output = project.lab_with(&args, &[("PATH", &path)]);
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert_contains(
        &output.stdout,
        &["flaky  builtin-cmdline", "attempt 1 of 2: ", "1 flaky in "],
    );
    assert!(!output.stdout.contains("passed  "), "{}", output.stdout);
    let results = read_dir(&project.path("results")).unwrap();
    assert_eq!(results.runs[0].failed_attempts.len(), 1);
    assert_eq!(
        fs::read_dir(project.path("results/runs")).unwrap().count(),
        3,
        "and `latest`"
    );
}

#[test]
fn fail_fast_starts_nothing_more() {
    let project = Project::new();
    // Its modules are in no cache: else it would start while those of the other are built.
    let price = std::process::id();
    let sound = format!(
        "version: 1\nsummary: x\ntargets: {{ shop: {{ functions: {{ price: {price} }} }} }}\n\
         steps:\n  - load: shop\n"
    );
    fs::write(project.path("scenarios/sound.yaml"), sound).unwrap();
    let broken = "version: 1\nsummary: x\nlivepatches:\n  broken:\n    patches:\n      vmlinux:\n        \
        kthreadd:\n          signature: int kthreadd(void *unused)\n          body: return x;\n\
        steps:\n  - load: broken\n";
    fs::write(project.path("scenarios/a-broken.yaml"), broken).unwrap();
    let args = [
        "run",
        "scenarios",
        "--kernel",
        "mainline",
        "--fail-fast",
        "--jobs",
        "1",
    ];
    let output = project.lab(&args);
    assert_eq!(output.code, 3, "{}", output.stdout);
    let left = "1 not run (--fail-fast, after a-broken on mainline";
    assert_contains(&output.stdout, &["could not run  a-broken", left]);
}

#[test]
fn a_run_that_takes_too_long_says_what_it_was_doing() {
    let project = Project::new();
    let text = kthreadd("  - load: culprit\n    timeout: 10m");
    let output = project.run_text(&text, "arm64", &["--timeout", "20s"]);
    assert_eq!(output.code, 1, "{}", output.stdout);
    let reason = "during step 1 (load culprit): the run took longer than --timeout 20s";
    let task = "kthreadd, pid 2, sleeping, patch_state 0";
    assert_contains(
        &output.stdout,
        &["timed out  culprit", "[limit]", reason, task, "kthreadd+0x"],
    );
    // What it waits for is known, and --timeout is not what would help.
    let next = "next: kthreadd sleeps in kthreadd, which changes: ";
    let stalled = "culprit is being enabled; tasks that have not switched to patch_state 1: 1 of ";
    assert_contains(&output.stdout, &[next, stalled]);
}

#[test]
fn a_defect_that_does_not_show_is_a_failure() {
    let project = Project::new();
    project.copy("scenarios/tagged-u32-max.yaml");
    let path = project.path("scenarios/tagged-u32-max.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("kernel: tags-rfc", "kernel: tags")).unwrap();
    let output = project.lab(&["run", "scenarios", "--kernel", "tags"]);
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
    let project = Project::new();
    // The task sits in another function than the one that is patched.
    let text = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10, stock: 20 } } }\n\
        livepatches: { v1: { patches: { shop: { price: 11 } } } }\nsteps:\n  - load: shop\n  \
        - { hold: shop.stock, requires: { file: /proc/version } }\n  - load: v1\n    \
        transition: held\n  - release: shop.stock\n";
    fs::write(project.path("scenarios/loose.yaml"), text).unwrap();
    let output = project.lab(&["run", "scenarios", "--kernel", "mainline"]);
    assert_eq!(output.code, 1);
    let reason = "load v1): nothing that is held keeps v1 in transition: the transition completed, \
                  although a function is held";
    assert_contains(
        &output.stdout,
        &["failed  loose on mainline", "[file]", reason],
    );
}

#[test]
fn a_second_run_builds_nothing() {
    let project = Project::new();
    project.copy("scenarios/tagged-replace.yaml");
    project.copy("snapshots/tagged-replace@tags.snap");
    assert_eq!(project.lab(&["run", "scenarios"]).code, 0);
    let again = project.lab(&["run", "scenarios"]);
    assert_eq!(again.code, 0);
    for verb in ["built", "fetched", "prepared", "unpacked"] {
        assert!(!again.stderr.contains(verb), "{}", again.stderr);
    }
}

#[test]
fn a_tampered_snapshot_exits_1_with_a_diff_by_step() {
    let project = Project::new();
    project.copy("scenarios/tagged-replace.yaml");
    let name = "snapshots/tagged-replace@tags.snap";
    let text = fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let tampered = text.replacen("call shop.price: 12", "call shop.price: 99", 1);
    assert_ne!(tampered, text);
    fs::write(project.path(name), &tampered).unwrap();
    let output = project.lab(&["run", "scenarios"]);
    assert_eq!(output.code, 1);
    assert_contains(
        &output.stdout,
        &[
            "step 4: load pricing-v2\n    -   call shop.price: 99\n    +   call shop.price: 12",
            "next: if what was observed is right: `lab review`",
        ],
    );
    assert_eq!(
        fs::read_to_string(project.path(name)).unwrap(),
        tampered,
        "not overwritten"
    );
    assert!(
        project
            .path("snapshots/tagged-replace@tags.snap.new")
            .exists()
    );
}

#[test]
fn without_a_snapshot_a_run_is_new_and_under_ci_nothing_is_written() {
    let project = Project::new();
    project.copy("scenarios/builtin-cmdline.yaml");
    let args = ["run", "scenarios", "--kernel", "mainline"];
    let output = project.lab_with(&args, &CI);
    assert_eq!(output.code, 1);
    assert_contains(
        &output.stdout,
        &[
            "new  builtin-cmdline on mainline",
            "there is no snapshot snapshots/builtin-cmdline.snap yet",
            "without CI=true",
        ],
    );
    assert_eq!(fs::read_dir(project.path("snapshots")).unwrap().count(), 0);
}

#[test]
fn an_expectation_that_does_not_hold_is_not_accepted() {
    let project = Project::new();
    let text = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\n\
        livepatches: { v1: { patches: { shop: { price: 11 } } } }\nsteps:\n  - load: shop\n  \
        - load: v1\n    expect: { calls: { shop.price: 12 } }\n";
    fs::write(project.path("scenarios/wrong.yaml"), text).unwrap();
    let output = project.lab(&["run", "scenarios", "--kernel", "mainline", "--accept"]);
    assert_eq!(output.code, 1);
    let reason = "step 2 (line 7, load v1): shop.price answers 11, not 12";
    assert_contains(&output.stdout, &["failed  wrong on mainline", reason]);
    assert!(!project.path("snapshots/wrong@mainline.snap").exists());
}

#[test]
fn a_module_that_does_not_compile_is_the_module_builds_fault() {
    let project = Project::new();
    let output = project.run_cmdline("no_such_function(m);", "x86_64");
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
        project
            .record("sources/culprit.c")
            .contains("no_such_function(m);")
    );
}

/// All are built by one make, and their modules have the same names.
#[test]
fn modules_that_do_not_build_are_their_own_scenarios_fault() {
    let project = Project::new();
    let scenario = |name: &str, price: u32, livepatch: &str| {
        let text = format!(
            "version: 1\nsummary: x\ntargets: {{ shop: {{ functions: {{ price: {price} }} }} }}\n\
             livepatches: {{ v1: {{ patches: {{ shop: {{ price: 99 }} }}{livepatch} }} }}\n\
             steps:\n  - load: shop\n    expect: {{ calls: {{ shop.price: {price} }} }}\n  \
             - load: v1\n    expect: {{ calls: {{ shop.price: 99 }} }}\n"
        );
        fs::write(project.path(&format!("scenarios/{name}.yaml")), text).unwrap();
    };
    // No other test's: they are not in the cache, also when this one is run again.
    let unique = std::process::id();
    scenario("one", unique, "");
    scenario("other", unique + 1, "");
    scenario("no-c", unique, ", preamble: not C;");
    let callbacks = ", preamble: void nowhere(void);, \
                     callbacks: { shop: { post_patch: { body: nowhere(); } } }";
    scenario("no-symbol", unique, callbacks);
    let output = project.lab(&["run", "scenarios", "--kernel", "mainline", "--accept"]);
    assert_eq!(output.code, 3);
    assert_contains(
        &output.stdout,
        &[
            "passed  one on mainline",
            "passed  other on mainline",
            "building the modules of no-c failed\n  next: ",
            "\n  details:\n    scenarios/no-c.yaml:4: error: ",
            "building the modules of no-symbol failed\n  next: ",
            "\n  details:\n    ERROR: modpost: ",
            "2 passed, 2 could not run",
        ],
    );
}

/// Starts a run in the project and waits for its guest.
fn start_a_guest(project: &Project) -> std::process::Child {
    project.copy("scenarios/builtin-cmdline.yaml");
    let args = ["run", "scenarios", "--kernel", "mainline", "--accel", "tcg"];
    let lab = project.spawn(&args);
    let started = Instant::now();
    while project.guests().is_empty() && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(project.guests().len(), 1);
    lab
}

#[test]
fn an_interrupted_run_leaves_no_guest_running() {
    let project = Project::new();
    let mut lab = start_a_guest(&project);
    common::signal(lab.id(), "INT");
    assert_eq!(lab.wait().unwrap().code(), Some(130));
    assert_eq!(project.guests(), Vec::<String>::new());
    assert_contains(
        &project.record("verdict.json"),
        &["\"outcome\": \"cancelled\""],
    );
}

#[test]
fn a_killed_lab_leaves_no_guest_running() {
    let project = Project::new();
    let mut lab = start_a_guest(&project);
    common::signal(lab.id(), "KILL");
    lab.wait().unwrap();
    let started = Instant::now();
    while !project.guests().is_empty() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(project.guests(), Vec::<String>::new());
}
