// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own livepatch selftests, played for real, beside the scenarios that express them;
//! and guests that play more than one run.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use livepatch_lab::event::{Event, Stamped};
use livepatch_lab::report::read::read_dir;
use livepatch_lab::report::results::{Results, RunResult};
use livepatch_lab::verdict::{Evidence, Outcome};

use crate::common::{Output, Project, ROOT, lab_env};
use crate::real::{CI, set_up};

/// A project with the real kernels and images, and scenarios and snapshots of its own. Its
/// scenarios have names that were never used: nobody knows how long any of them takes, so the first
/// to be ready is the first to run.
struct Queue {
    project: Project,
    suffix: String,
}

impl Queue {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            project: Project::new(),
            suffix: format!("-{}", now.as_nanos()),
        }
    }

    fn scenario(&self, name: &str, steps: &str) {
        let text = format!("version: 1\nsummary: x\nsteps:\n{steps}");
        let file = format!("scenarios/{name}{}.yaml", self.suffix);
        fs::write(self.project.path(&file), text).unwrap();
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
        let output = self.project.lab(&[&args, more].concat());
        (output, read_dir(&self.project.path("results")).unwrap())
    }

    /// Which run a guest had played just before a run, if it was not booted for it.
    fn after(&self, scenario: &str) -> Option<String> {
        let scenario = format!("{scenario}{}", self.suffix);
        let files = fs::read_dir(self.project.path("results")).unwrap();
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
        before.map(|name| name.strip_suffix(&self.suffix).unwrap().to_owned())
    }

    fn result<'a>(&self, results: &'a Results, scenario: &str) -> &'a RunResult {
        let scenario = format!("{scenario}{}", self.suffix);
        let mut runs = results.runs.iter();
        runs.find(|run| run.run.scenario == scenario).unwrap()
    }
}

#[test]
fn the_originals_and_their_scenarios_agree_on_both_architectures() {
    set_up();
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
    let project = Project::new();
    let folder = project.path("mine");
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
    let output = project.lab_with(&args, &CI);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    let ktap = fs::read_to_string(project.path("r.ktap")).unwrap();
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
fn export_and_play(project: &Project, kernel: &str, scenarios: &[&str]) -> (Output, Results) {
    let mut args = ["selftests", "--kernel", kernel, "--report", "jsonl=r.jsonl"]
        .map(str::to_owned)
        .to_vec();
    for name in scenarios {
        let file = format!("{ROOT}/scenarios/{name}.yaml");
        let export = ["export", &file, "--format", "kselftest", "--output", name];
        let output = project.lab_with(&export, &CI);
        assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
        args.extend(["--from".to_owned(), (*name).to_owned()]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let output = project.lab_with(&args, &CI);
    (output, read_dir(project.dir()).unwrap())
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
    let project = Project::new();
    let (output, results) = export_and_play(&project, "tags", &scenarios);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let passed = |run: &&RunResult| run.verdict().is_some_and(|v| v.outcome == Outcome::Passed);
    assert_eq!(results.runs.iter().filter(passed).count(), scenarios.len());
}

#[test]
fn an_exported_scenario_shows_the_rfcs_defect_as_well() {
    let project = Project::new();
    let window = ["tagged-transition-window"];
    let (output, results) = export_and_play(&project, "tags-rfc", &window);
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
    let queue = Queue::new();
    queue.scenario("a", "  - read: /proc/sys/kernel/ostype\n");
    queue.scenario("b", "  - dynamic-debug: \"file kernel/livepatch/* +p\"\n");
    queue.scenario(
        "c",
        "  - { write: /sys/kernel/tracing/tracing_on, data: \"0\" }\n",
    );
    queue.scenario("d", "  - read: /proc/sys/kernel/ostype\n");
    let (output, results) = queue.run(&[]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(results.runs.len(), 4);
    assert_eq!(queue.after("a"), None);
    assert_eq!(queue.after("b").as_deref(), Some("a"));
    // Messages are put back; what cannot be put back ends the guest.
    assert_eq!(queue.after("c").as_deref(), Some("b"));
    assert_eq!(queue.after("d"), None);
    // A later record has what the console said meanwhile, and how the guest was started.
    let record = queue.result(&results, "b");
    let livepatch_lab::report::results::State::Finished(finished) = &record.state else {
        panic!("{record:?}");
    };
    let record = queue.project.dir().join(&finished.record);
    let script = fs::read_to_string(record.join("qemu.sh")).unwrap();
    assert!(
        script.contains("had played 1 runs before, the last one a-"),
        "{script}"
    );
    assert!(record.join("console.log").is_file());
}

#[test]
fn cold_boots_a_guest_for_each_run() {
    let queue = Queue::new();
    queue.scenario("a", "  - read: /proc/sys/kernel/ostype\n");
    queue.scenario("b", "  - read: /proc/sys/kernel/ostype\n");
    let (output, _) = queue.run(&["--cold"]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_eq!((queue.after("a"), queue.after("b")), (None, None));
}

#[test]
fn what_fails_only_in_a_used_guest_is_flaky_and_never_a_pass() {
    let queue = Queue::new();
    let hostname = "/proc/sys/kernel/hostname";
    // A guest that a step has written to is not shared: here a livepatch does it.
    queue.scenario(
        "a",
        "  - load: culprit\n  - read: /proc/cmdline\n  - disable: culprit\n  - unload: culprit\n\
         livepatches:\n  culprit:\n    patches:\n      vmlinux:\n        cmdline_proc_show:\n          \
         signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
         include: [linux/seq_file.h, linux/utsname.h]\n          body: |\n            \
         strscpy(init_uts_ns.name.nodename, \"changed\");\n            return 0;\n",
    );
    queue.scenario(
        "b",
        &format!("  - {{ read: {hostname}, equals: (none) }}\n"),
    );
    // A run that has no module to wait for would come first: now all are there, and the longer one is.
    queue.run(&[]);
    let (output, results) = queue.run(&[]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let b = queue.result(&results, "b");
    let verdict = b.verdict().unwrap();
    assert_eq!(verdict.outcome, Outcome::Flaky, "{verdict:?}");
    let before = |e: &&Evidence| e.title == "the guest had played before";
    let before = verdict.evidence.iter().find(before).unwrap();
    assert_eq!(before.text, format!("a{}", queue.suffix));
    assert_eq!(queue.after("b"), None);
}

#[test]
fn a_complaint_in_a_used_guest_is_not_tried_away() {
    let queue = Queue::new();
    queue.scenario("a", "  - read: /proc/sys/kernel/ostype\n");
    queue.scenario("b", "  - { write: /proc/sysrq-trigger, data: c }\n");
    let (output, results) = queue.run(&[]);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    let b = queue.result(&results, "b");
    assert_eq!(b.verdict().unwrap().outcome, Outcome::Panicked, "{b:?}");
    assert!(b.failed_attempts.is_empty(), "{b:?}");
    assert_eq!(queue.after("b").as_deref(), Some("a"));
    assert_eq!(
        queue.result(&results, "a").verdict().unwrap().outcome,
        Outcome::Passed
    );
}

#[test]
fn what_the_originals_notice_in_a_broken_kernel_the_scenarios_notice_as_well() {
    set_up();
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
