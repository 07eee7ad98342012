// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan before anything is built: profiles, shards, skips, and the forms for CI engines.

use std::collections::BTreeSet;

use crate::common::{Output, Project, assert_is};
use crate::faults::snapshots::NOWHERE;

/// Four scenarios, two kernels: one has tags, klp-build is on x86_64 only.
fn project() -> Project {
    let project = Project::new();
    let scenario = |name: &str, requires: &str| {
        let text = format!(
            "version: 1\nsummary: x\n{requires}targets: {{ shop: {{ functions: {{ price: 10 }} }} \
             }}\nsteps:\n  - load: shop\n"
        );
        project.write(&format!("scenarios/{name}.yaml"), &text);
    };
    scenario("any", "");
    scenario("other", "");
    scenario("tagged", "requires: { replace: tags }\n");
    scenario(
        "probes",
        "requires: { capabilities: [kprobes-on-ftrace] }\n",
    );
    let kernel = "version: 1\nsummary: x\nextends: fake\ncapabilities:\n  replace: tags\n  \
                  kprobes-on-ftrace: [x86_64]\n";
    project.write("kernels/tags.yaml", kernel);
    project
}

fn plan(project: &Project, args: &[&str]) -> Output {
    let both = ["plan", "scenarios", "--arch", "x86_64,arm64"];
    let output = project.lab(&[&both, args].concat());
    assert_eq!(output.code, 0, "{output:?}");
    output
}

#[test]
fn a_plan_lists_runs_and_skips_with_their_reasons() {
    let project = project();
    insta::assert_snapshot!(plan(&project, &["--kernel", "tags"]).stdout, @r"
    run  any on tags (x86_64)
    run  other on tags (x86_64)
    run  probes on tags (x86_64)
    run  tagged on tags (x86_64)
    run  any on tags (arm64)
    run  other on tags (arm64)
    run  tagged on tags (arm64)
    skipped  probes on tags (arm64): it needs kprobes-on-ftrace, which the kernel does not have on arm64
    7 to run, 1 skipped
    ");
}

#[test]
fn a_scenario_that_is_skipped_everywhere_is_named_and_may_fail_the_command() {
    let project = project();
    let text = plan(&project, &["--kernel", "fake"]).stdout;
    let note = "note  2 scenarios are skipped everywhere: probes, tagged\n4 to run, 4 skipped\n";
    assert!(text.ends_with(note), "{text}");
    let both = plan(&project, &["--kernel", "fake,tags"]).stdout;
    assert!(!both.contains("everywhere"), "{both}");
    // What another shard plays is played.
    for shard in ["1/3", "2/3", "3/3"] {
        let part = plan(&project, &["--kernel=fake,tags", "--shard", shard]).stdout;
        assert!(!part.contains("everywhere"), "{shard}: {part}");
    }
    let profile =
        "version: 1\nprofiles: { x: { summary: x, kernel: fake, every-scenario: true } }\n";
    project.write("lab.yaml", profile);
    let text = plan(&project, &["--profile=x"]).stdout;
    assert!(
        text.contains("probes, tagged, which will fail the command\n"),
        "{text}"
    );
    // Nothing of it has to be built to know that.
    let only = [
        "run",
        "scenarios/tagged.yaml",
        "--kernel=fake",
        "--arch=x86_64",
    ];
    let lenient = project.lab(&only);
    assert_eq!(lenient.code, 0, "{lenient:?}");
    let says = "1 scenario is skipped everywhere: tagged\n1 skipped";
    assert!(
        lenient.stdout.contains(&format!("note  {says}")),
        "{lenient:?}"
    );
    for more in ["--every-scenario", "--profile=x"] {
        let strict = project.lab(&[&only[..], &[more, "--output=results"]].concat());
        assert_is(&NOWHERE, &strict);
        assert!(
            strict.stdout.contains(&format!("failed  {says}")),
            "{strict:?}"
        );
    }
    let merged = project.lab(&["report", "merge", "results"]);
    assert_eq!(merged.code, 1, "{merged:?}");
}

#[test]
fn what_was_new_is_played_again_for_a_review_changes_that() {
    let project = project();
    let run = |scenario: &str| {
        format!("{{\"scenario\":\"{scenario}\",\"kernel\":\"fake\",\"arch\":\"x86_64\"}}")
    };
    let finished = |scenario: &str, outcome: &str, code: u8| {
        format!(
            "{{\"time\":\"2026-11-24T02:00:02Z\",\"kind\":\"run-finished\",\"run\":{},\"verdict\":\
             {{\"outcome\":\"{outcome}\",\"blame\":null,\"reasons\":[],\"evidence\":[],\"help\":null,\
             \"exit_code\":{code}}},\"ms\":1,\"record\":\"{scenario}\"}}\n",
            run(scenario)
        )
    };
    let started = "{\"time\":\"2026-11-24T02:00:01Z\",\"kind\":\"started\",\"version\":1,\
                   \"lab\":\"0.1.0\",\"command\":[]}\n";
    let events = started.to_owned() + &finished("any", "new", 1) + &finished("other", "passed", 0);
    project.write("results/events.jsonl", &events);
    let args = [
        "plan",
        "scenarios",
        "--arch=x86_64",
        "--kernel=fake",
        "--resume=results",
    ];
    let output = project.lab(&args);
    let says = "run  any on fake (x86_64)\npassed already  other on fake (x86_64)\n";
    assert!(output.stdout.starts_with(says), "{output:?}");
}

#[test]
fn a_plan_says_how_large_guests_are_that_are_not_as_usual() {
    let project = project();
    let text = "version: 1\nsummary: x\nmachine: { cpus: 2, append: a.b=1 }\nsteps: [read: /proc/cmdline]\n";
    project.write("scenarios/any.yaml", text);
    let kernel = "version: 1\nsummary: x\nextends: tags\nmachine: { memory: 1G }\n";
    project.write("kernels/kasan.yaml", kernel);
    let plan = |more: &[&str]| {
        let args = [
            "plan",
            "scenarios/any.yaml",
            "scenarios/other.yaml",
            "--arch=x86_64",
        ];
        let output = project.lab(&[&args, more].concat());
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout
    };
    insta::assert_snapshot!(plan(&["--kernel=kasan", "--cpus=1,2"]), @r"
    run  other on kasan (x86_64): 1G of memory
    run  any on kasan (x86_64): 2 CPUs, 1G of memory, a.b=1
    run  other on kasan (x86_64, 2 CPUs): 1G of memory
    skipped  any on kasan (x86_64, 1 CPU): it needs 2 CPUs (scenario), not 1
    3 to run, 1 skipped
    ");
    insta::assert_snapshot!(plan(&["--kernel=tags,kasan", "--memory=512M", "--append=c"]), @r"
    run  any on tags (x86_64): 2 CPUs, 512M of memory, a.b=1 c
    run  other on tags (x86_64): 512M of memory, c
    skipped  any on kasan (x86_64): it needs 1G of memory (kernel), not 512M
    skipped  other on kasan (x86_64): it needs 1G of memory (kernel), not 512M
    2 to run, 2 skipped
    ");
    let dry = [
        "run",
        "scenarios/any.yaml",
        "scenarios/other.yaml",
        "--kernel=tags",
    ];
    let dry = project.lab(&[&dry[..], &["--arch=x86_64", "--record", "--dry-run"]].concat());
    insta::assert_snapshot!(dry.stdout, @r"
    run  other on tags (x86_64)
    skipped  any on tags (x86_64): it has 2 CPUs; a guest that is recorded has one
    note  1 scenario is skipped everywhere: any
    1 to run, 1 skipped
    ");
}

#[test]
fn a_size_that_no_guest_has_is_refused() {
    let project = project();
    for (option, says) in [
        ("--cpus=0", "0 is not in 1..=64"),
        ("--cpus=65", "65 is not in 1..=64"),
        (
            "--memory=512",
            "`512` is not an amount of memory: write 512M or 2G",
        ),
        ("--memory=1M", "a guest has 128M to 64G of memory, not 1M"),
        ("--append=x panic=1", "`panic=1` is the lab's own: "),
        ("--append=x\ny", "is no part of a word of the command line"),
    ] {
        let output = project.lab(&["plan", "scenarios", option]);
        assert_eq!(output.code, 2, "{output:?}");
        assert!(output.stderr.contains(says), "{}", output.stderr);
    }
    let profile =
        "version: 1\nprofiles: { x: { summary: x, memory: 1M, cpus: [0], append: quiet } }\n";
    project.write("lab.yaml", profile);
    let output = project.lab(&["plan", "--profile", "x"]);
    assert_eq!(output.code, 2, "{output:?}");
    for says in [
        "not 1M",
        "a number of CPUs is a number from 1 to 64",
        "`quiet` is the lab's own",
    ] {
        assert!(output.stderr.contains(says), "{}", output.stderr);
    }
}

#[test]
fn a_dry_run_is_the_plan() {
    let project = project();
    let args = ["--kernel", "fake,tags", "--arch", "x86_64"];
    let dry = project.lab(&[&["run", "scenarios", "--dry-run"], &args[..]].concat());
    let plan = project.lab(&[&["plan", "scenarios"], &args[..]].concat());
    assert_eq!((dry.code, &dry.stdout), (0, &plan.stdout));
    assert!(
        dry.stdout.ends_with("6 to run, 2 skipped\n"),
        "{}",
        dry.stdout
    );
    assert!(!project.cache().exists() || project.cache_is_empty());
}

#[test]
fn shards_are_disjoint_and_complete_with_their_skips() {
    let project = project();
    let lines = |args: &[&str]| -> BTreeSet<String> {
        let output = plan(&project, &[&["--kernel", "fake,tags"], args].concat());
        let lines = output.stdout.lines().map(str::to_owned);
        lines.filter(|line| line.contains(" on ")).collect()
    };
    let whole = lines(&[]);
    let parts: Vec<_> = ["1/3", "2/3", "3/3"].map(|n| lines(&["--shard", n])).into();
    assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), whole.len());
    assert_eq!(parts.into_iter().flatten().collect::<BTreeSet<_>>(), whole);
}

#[test]
fn the_matrix_for_github_has_no_element_without_work() {
    let project = project();
    let args = ["--kernel", "tags", "--format", "github"];
    insta::assert_snapshot!(plan(&project, &args).stdout, @r#"{"include":[{"name":"tags x86_64","kernel":"tags","arch":"x86_64","shard":"1/1"},{"name":"tags arm64","kernel":"tags","arch":"arm64","shard":"1/1"}]}"#);
    let many = plan(&project, &[&args[..], &["--shards", "50"]].concat()).stdout;
    assert_eq!(
        many.matches("\"shard\"").count(),
        7,
        "as many as runs: {many}"
    );
}

#[test]
fn the_indices_for_slurm_are_those_with_work() {
    let project = project();
    let args = ["--kernel", "tags", "--format", "slurm", "--shards"];
    assert_eq!(plan(&project, &[&args[..], &["1"]].concat()).stdout, "1\n");
    let indices = plan(&project, &[&args[..], &["2"]].concat()).stdout;
    assert_eq!(indices, "1-2\n");
}

#[test]
fn a_profile_says_what_the_command_line_does_not() {
    let project = project();
    project.write(
        "lab.yaml",
        "version: 1\nprofiles:\n  night:\n    summary: All of it.\n    paths: [scenarios]\n    \
         kernel: [fake, tags]\n    arch: [x86_64, arm64]\n",
    );
    let whole = project.lab(&["plan", "--profile", "night"]);
    assert!(
        whole.stdout.ends_with("11 to run, 5 skipped\n"),
        "{whole:?}"
    );
    let part = project.lab(&["plan", "--profile", "night", "--arch", "arm64"]);
    assert!(part.stdout.ends_with("5 to run, 3 skipped\n"), "{part:?}");
    assert_eq!(
        project.lab(&["list", "profiles"]).stdout,
        "night  All of it.\n"
    );
    let unknown = project.lab(&["run", "--profile", "nigth"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("did you mean `night`?"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn what_the_environment_does_not_say_is_a_usage_error() {
    let project = project();
    let args = ["plan", "scenarios", "--shard", "auto"];
    let output = project.lab(&args);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("SLURM_ARRAY_TASK_ID"),
        "{}",
        output.stderr
    );
    let gitlab = [("CI_NODE_INDEX", "2"), ("CI_NODE_TOTAL", "2")];
    assert_eq!(project.lab_with(&args, &gitlab).code, 0);
}

#[test]
fn the_projects_nightly_profile_covers_every_scenario_kernel_architecture_and_number_of_cpus() {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = crate::common::lab_env(
        root.as_ref(),
        &["plan", "--profile", "nightly", "--format", "json"],
        &[],
    );
    let plan: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let part = |name: &str| plan[name].as_array().unwrap().clone();
    let in_folder = |folder: &str| {
        let entries = std::fs::read_dir(format!("{root}/{folder}")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
            .count()
    };
    let scenarios = in_folder("scenarios") + in_folder("scenarios/upstream");
    let skipped = part("skipped");
    assert_eq!(part("runs").len() + skipped.len(), scenarios * 3 * 2 * 2);
    for skip in skipped {
        let reason = skip["reason"].as_str().unwrap();
        assert!(
            [
                "replace: tags",
                "klp-build",
                "kprobes-on-ftrace",
                "2 CPUs (scenario), not 1"
            ]
            .iter()
            .any(|lack| reason.contains(lack)),
            "{reason}"
        );
    }
}
