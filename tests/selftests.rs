// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own livepatch selftests, played for real, beside the scenarios that express them;
//! and guests that play more than one run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Output, lab_env};
use livepatch_lab::event::{Event, Stamped};
use livepatch_lab::report::read::read_dir;
use livepatch_lab::report::results::{Results, RunResult};
use livepatch_lab::verdict::{Evidence, Outcome};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CI: [(&str, &str); 1] = [("CI", "true")];

/// A project with the real kernels and images, and scenarios and snapshots of its own. Its
/// scenarios have names that were never used: nobody knows how long any of them takes, so the first
/// to be ready is the first to run.
struct Sandbox(tempfile::TempDir, String);

impl Sandbox {
    fn new() -> Self {
        common::set_up();
        let dir = tempfile::tempdir().unwrap();
        for folder in ["kernels", "images"] {
            symlink(Path::new(ROOT).join(folder), dir.path().join(folder)).unwrap();
        }
        for folder in ["scenarios", "snapshots"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self(dir, format!("-{}", now.as_nanos()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn scenario(&self, name: &str, steps: &str) {
        let text = format!("version: 1\nsummary: x\nsteps:\n{steps}");
        let file = format!("scenarios/{name}{}.yaml", self.1);
        fs::write(self.path(&file), text).unwrap();
    }

    /// Runs all scenarios on mainline, one after the other, each observation accepted.
    fn run(&self, more: &[&str]) -> (Output, Results) {
        let args = [
            "run",
            "scenarios",
            "--kernel",
            "mainline",
            "--jobs",
            "1",
            "--accept",
            "--output",
            "results",
        ];
        let output = lab_env(self.0.path(), &[&args, more].concat(), &[]);
        (output, read_dir(&self.path("results")).unwrap())
    }

    /// Which run a guest had played just before a run, if it was not booted for it.
    fn after(&self, scenario: &str) -> Option<String> {
        let scenario = format!("{scenario}{}", self.1);
        let files = fs::read_dir(self.path("results")).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        let events = files.find(|path| path.extension().is_some_and(|e| e == "jsonl"));
        let text = fs::read_to_string(events.unwrap()).unwrap();
        let booted = text.lines().rev().find_map(|line| {
            match serde_json::from_str::<Stamped>(line).unwrap().event {
                Event::Booted { run, after, .. } if run.scenario == scenario => Some(after),
                _ => None,
            }
        });
        let before = booted.unwrap().map(|run| run.scenario);
        before.map(|name| name.strip_suffix(&self.1).unwrap().to_owned())
    }

    fn result<'a>(&self, results: &'a Results, scenario: &str) -> &'a RunResult {
        let scenario = format!("{scenario}{}", self.1);
        let mut runs = results.runs.iter();
        runs.find(|run| run.run.scenario == scenario).unwrap()
    }
}

#[test]
fn the_originals_and_their_scenarios_agree_on_both_architectures() {
    common::set_up();
    let dir = tempfile::tempdir().unwrap();
    let ktap = dir.path().join("results.ktap");
    let report = format!("ktap={}", ktap.display());
    let archs = "x86_64,arm64";
    let args = [
        "selftests",
        "--compare",
        "--kernel",
        "mainline",
        "--arch",
        archs,
    ];
    let args = [&args[..], &["--report", &report]].concat();
    let output = lab_env(ROOT.as_ref(), &args, &CI);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(output.stdout.matches("they agree on 32 of 32").count(), 2);
    // arm64 has no kprobes on ftrace: upstream's script skips its two cases, and so does the lab.
    let ktap = fs::read_to_string(ktap).unwrap();
    let of = |mark: &str| ktap.lines().filter(|line| line.contains(mark)).count();
    assert_eq!(of("test-kprobe.sh: "), 4, "{ktap}");
    assert_eq!(of("# SKIP"), 4, "{ktap}");
    assert_eq!(of("not ok"), 0, "{ktap}");
}

#[test]
fn a_script_of_ones_own_says_what_it_says() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("mine");
    fs::create_dir_all(folder.join("test_modules")).unwrap();
    let script = "#!/bin/bash\n. $(dirname $0)/functions.sh\nsetup_config\n\
                  start_test \"a module comes and goes\"\nload_mod test_mine\n\
                  unload_mod test_mine\ncheck_result \"% insmod test_modules/test_mine.ko\n\
                  % rmmod test_mine\"\n";
    // The filter of check_result() wants `test_klp` or `livepatch:` in a line.
    let script = script.replace("test_mine", "test_klp_mine");
    let failing = "start_test \"a claim that does not hold\"\nlog \"livepatch: no\"\n\
                   check_result \"livepatch: yes\"\n\
                   start_test \"hidden\"\ncheck_result \"\"\n";
    fs::write(folder.join("test-mine.sh"), format!("{script}{failing}")).unwrap();
    // What a failed script leaves behind is no matter of the next one.
    let next = script.replace("comes and goes", "comes again");
    fs::write(folder.join("test-next.sh"), next).unwrap();
    let module = "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n\
                  static int __init mine_init(void) { return 0; }\nmodule_init(mine_init);\n\
                  static void __exit mine_exit(void) { }\nmodule_exit(mine_exit);\n\
                  MODULE_DESCRIPTION(\"x\");\n";
    fs::write(folder.join("test_modules/test_klp_mine.c"), module).unwrap();
    fs::write(
        folder.join("test_modules/Makefile"),
        "obj-m += test_klp_mine.o\n",
    )
    .unwrap();

    let args = [
        "selftests",
        "--from",
        "mine",
        "--kernel",
        "mainline",
        "--report",
        "ktap=r.ktap",
    ];
    let output = lab_env(sandbox.0.path(), &args, &CI);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    let ktap = fs::read_to_string(sandbox.path("r.ktap")).unwrap();
    let says = |start: &str, test: &str| {
        let is = |line: &str| line.starts_with(start) && line.contains(test);
        assert!(
            ktap.lines().any(is),
            "{start} {test}:\n{ktap}\n{}",
            output.stdout
        );
    };
    says("ok", "a module comes and goes");
    says("not ok", "a claim that does not hold");
    says("ok", "comes again");
    says("ok", "hidden@mainline.x86_64 # SKIP");
    assert!(
        output.stdout.contains("-livepatch: yes"),
        "{}",
        output.stdout
    );
}

/// Exports scenarios, each into a folder of its own, and plays all of them on a kernel.
fn export_and_play(sandbox: &Sandbox, kernel: &str, scenarios: &[&str]) -> (Output, Results) {
    let mut args = ["selftests", "--kernel", kernel, "--report", "jsonl=r.jsonl"]
        .map(str::to_owned)
        .to_vec();
    for name in scenarios {
        let file = format!("{ROOT}/scenarios/{name}.yaml");
        let export = ["export", &file, "--format", "kselftest", "--output", name];
        let output = lab_env(sandbox.0.path(), &export, &CI);
        assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
        args.extend(["--from".to_owned(), (*name).to_owned()]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let output = lab_env(sandbox.0.path(), &args, &CI);
    (output, read_dir(sandbox.0.path()).unwrap())
}

#[test]
fn exported_scenarios_say_the_same_without_the_lab() {
    let scenarios = [
        "legacy-replace",
        "sympos-nops",
        "tagged-callbacks",
        "tagged-coexist",
        "tagged-conflict",
        "tagged-force",
        "tagged-late-target",
        "tagged-replace",
        "tagged-reverse",
        "tagged-state-ownership",
        "tagged-transition-window",
        "tagged-u32-max",
    ];
    let sandbox = Sandbox::new();
    let (output, results) = export_and_play(&sandbox, "tags", &scenarios);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let passed = |run: &&RunResult| run.verdict().is_some_and(|v| v.outcome == Outcome::Passed);
    assert_eq!(results.runs.iter().filter(passed).count(), scenarios.len());
}

#[test]
fn an_exported_scenario_shows_the_rfcs_defect_as_well() {
    let sandbox = Sandbox::new();
    let window = ["tagged-transition-window"];
    let (output, results) = export_and_play(&sandbox, "tags-rfc", &window);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    let verdict = results.runs[0].verdict().unwrap();
    let said = &verdict.evidence[0].text;
    // R1: the hotfix of another tag is off during the vendor's transition.
    assert!(
        said.contains("expected: shop.stock returns: 21\n+ seen: 20"),
        "{said}"
    );
}

#[test]
fn a_guest_that_is_as_it_was_plays_the_next_run() {
    let sandbox = Sandbox::new();
    sandbox.scenario("a", "  - read: /proc/sys/kernel/ostype\n");
    sandbox.scenario("b", "  - dynamic-debug: \"file kernel/livepatch/* +p\"\n");
    sandbox.scenario(
        "c",
        "  - { write: /sys/kernel/tracing/tracing_on, data: \"0\" }\n",
    );
    sandbox.scenario("d", "  - read: /proc/sys/kernel/ostype\n");
    let (output, results) = sandbox.run(&[]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(results.runs.len(), 4);
    assert_eq!(sandbox.after("a"), None);
    assert_eq!(sandbox.after("b").as_deref(), Some("a"));
    // Messages are put back; what cannot be put back ends the guest.
    assert_eq!(sandbox.after("c").as_deref(), Some("b"));
    assert_eq!(sandbox.after("d"), None);
    // A later record has what the console said meanwhile, and how the guest was started.
    let record = sandbox.result(&results, "b");
    let livepatch_lab::report::results::State::Finished(finished) = &record.state else {
        panic!("{record:?}");
    };
    let record = sandbox.0.path().join(&finished.record);
    let script = fs::read_to_string(record.join("qemu.sh")).unwrap();
    assert!(
        script.contains("had played 1 runs before, the last one a-"),
        "{script}"
    );
    assert!(record.join("console.log").is_file());
}

#[test]
fn cold_boots_a_guest_for_each_run() {
    let sandbox = Sandbox::new();
    sandbox.scenario("a", "  - read: /proc/sys/kernel/ostype\n");
    sandbox.scenario("b", "  - read: /proc/sys/kernel/ostype\n");
    let (output, _) = sandbox.run(&["--cold"]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_eq!((sandbox.after("a"), sandbox.after("b")), (None, None));
}

#[test]
fn what_fails_only_in_a_used_guest_is_flaky_and_never_a_pass() {
    let sandbox = Sandbox::new();
    let hostname = "/proc/sys/kernel/hostname";
    // A guest that a step has written to is not shared: here a livepatch does it.
    sandbox.scenario(
        "a",
        "  - load: culprit\n  - read: /proc/cmdline\n  - disable: culprit\n  - unload: culprit\n\
         livepatches:\n  culprit:\n    patches:\n      vmlinux:\n        cmdline_proc_show:\n          \
         signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
         include: [linux/seq_file.h, linux/utsname.h]\n          body: |\n            \
         strscpy(init_uts_ns.name.nodename, \"changed\");\n            return 0;\n",
    );
    sandbox.scenario(
        "b",
        &format!("  - {{ read: {hostname}, equals: (none) }}\n"),
    );
    // A run that has no module to wait for would come first: now all are there, and the longer one is.
    sandbox.run(&[]);
    let (output, results) = sandbox.run(&[]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let b = sandbox.result(&results, "b");
    let verdict = b.verdict().unwrap();
    assert_eq!(verdict.outcome, Outcome::Flaky, "{verdict:?}");
    let before = |e: &&Evidence| e.title == "the guest had played before";
    let before = verdict.evidence.iter().find(before).unwrap();
    assert_eq!(before.text, format!("a{}", sandbox.1));
    assert_eq!(sandbox.after("b"), None);
}

#[test]
fn a_complaint_in_a_used_guest_is_not_tried_away() {
    let sandbox = Sandbox::new();
    sandbox.scenario("a", "  - read: /proc/sys/kernel/ostype\n");
    sandbox.scenario("b", "  - { write: /proc/sysrq-trigger, data: c }\n");
    let (output, results) = sandbox.run(&[]);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    let b = sandbox.result(&results, "b");
    assert_eq!(b.verdict().unwrap().outcome, Outcome::Panicked, "{b:?}");
    assert!(b.failed_attempts.is_empty(), "{b:?}");
    assert_eq!(sandbox.after("b").as_deref(), Some("a"));
    assert_eq!(
        sandbox.result(&results, "a").verdict().unwrap().outcome,
        Outcome::Passed
    );
}

#[test]
fn what_the_originals_notice_in_a_broken_kernel_the_scenarios_notice_as_well() {
    common::set_up();
    let args = ["selftests", "--compare", "--kernel", "mutant-stack-order"];
    let output = lab_env(ROOT.as_ref(), &args, &CI);
    let said = format!("{}\n{}", output.stdout, output.stderr);
    assert_eq!(output.code, 1, "{said}");
    // The words of a case: what its original says, and what its scenario says.
    let words = |case: &str| {
        let row = output.stdout.lines().find_map(|line| {
            let row = line.get(2..)?.strip_prefix("test-")?.strip_prefix(case)?;
            Some(row.trim().to_owned())
        });
        row.unwrap_or_else(|| panic!("no row of {case}: {said}"))
    };
    let squeezed = |case: &str| words(case).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        squeezed("sysfs.sh: sysfs test  "),
        "NOT OK NOT OK",
        "{said}"
    );
    // The script ends there. Its last case is about nothing but the broken attribute.
    assert_eq!(
        squeezed("sysfs.sh: sysfs test stack_order value"),
        "- NOT OK"
    );
    // A state shows what no original of livepatching itself looks at.
    assert_eq!(
        squeezed("livepatch.sh: basic function patching"),
        "ok NOT OK"
    );
    // The defect is in nothing that these do.
    assert_eq!(
        squeezed("shadow-vars.sh: basic shadow variable API"),
        "ok ok"
    );
}

#[test]
fn the_page_of_mutations_has_every_broken_kernel_and_all_are_noticed() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/mutations.md")).unwrap();
    let kernels = fs::read_dir(Path::new(ROOT).join("kernels")).unwrap();
    let names = kernels.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mutants = names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned));
    let mutants: Vec<_> = mutants.filter(|name| name.starts_with("mutant-")).collect();
    assert!(mutants.len() >= 4, "{mutants:?}");
    for mutant in mutants {
        let row = format!("| `{mutant}` |");
        let row = page.lines().find(|line| line.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("{mutant} is not in docs/mutations.md"));
        // | defect | originals | scenarios |
        let scenarios = row.split('|').nth(3).unwrap().trim();
        assert!(scenarios.parse::<u32>().unwrap() > 0, "{row}");
    }
}
