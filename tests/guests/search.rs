// SPDX-License-Identifier: MIT OR Apache-2.0
//! Searches on real guests: the smallest scenario with a failure, where kernels differ, and which patch or
//! commit makes the difference.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{self, Project, ROOT, assert_contains};

/// The report behind defect R1, as it may come: 14 steps, of which a few matter.
const REPORT: &str = "\
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# My hotfix stops working for a moment when the vendor's livepatch is upgraded.
version: 1
summary: The operator's hotfix must stay in place while the vendor's livepatch is upgraded.
requires: { replace: tags }

targets:
  shop: { functions: { price: 10, stock: 20, tax: 30 } }
  depot: { functions: { shelf: 5 } }

livepatches:
  pricing-v1: { tag: 1, patches: { shop: { price: 11 } } }
  depot-fix:
    tag: 3
    patches: { depot: { shelf: 6 } }
    include: [linux/slab.h]
    callbacks: { depot: { pre_patch: log, post_patch: log } }
  stock-hotfix: { tag: 2, patches: { shop: { stock: 21 } } }
  pricing-v2: { tag: 1, patches: { shop: { price: 12, tax: 32 } } }

steps:
  - load: shop
  - load: depot
  - load: pricing-v1
    expect: { livepatches: [pricing-v1], calls: { shop.price: 11 } }
  - load: depot-fix
    expect: { log: [\"depot_fix: pre_patch: depot\"] }
  # The operator's own.
  - load: stock-hotfix
    expect: { livepatches: [pricing-v1, depot-fix, stock-hotfix] }
  - call: shop.tax
    returns: 30

  # The vendor's upgrade, while somebody sits in the old price.
  - hold: shop.price
  - name: upgrade
    load: pricing-v2
    transition: held
    expect:
      transition: pricing-v2
      livepatches: [pricing-v1, depot-fix, stock-hotfix, pricing-v2]
      calls: { shop.price: 12, shop.stock: 21, depot.shelf: 6 }
  - { write: /sys/kernel/livepatch/stock_hotfix/enabled, data: \"0\", errno: EBUSY }
  - release: shop.price
    expect: { transition: none, calls: { shop.stock: 21 } }
  - disable: stock-hotfix
  - disable: depot-fix
  - disable: pricing-v2
  - unload: [pricing-v1, depot-fix, stock-hotfix, pricing-v2, depot, shop]

expect_failure:
  - kernel: tags-rfc
    step: upgrade
    failure: shop.stock answers 20, not 21
    reason: R1
";

#[test]
fn a_scenario_is_minimised_to_the_steps_that_matter() {
    let project = Project::new();
    fs::write(project.path("scenarios/report.yaml"), REPORT).unwrap();
    let args = [
        "minimize",
        "scenarios/report.yaml",
        "--arch=x86_64",
        "--kernel",
    ];
    let on = |kernel: &str, more: &[&str]| project.lab(&[&args[..], &[kernel], more].concat());

    let output = on("tags", &[]);
    assert_eq!(output.code, 2, "{}\n{}", output.stdout, output.stderr);
    assert_contains(
        &output.stderr,
        &["report passes on tags", "no failure to keep"],
    );

    let output = on("tags-rfc", &[]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let text = fs::read_to_string(project.path("scenarios/report-min.yaml")).unwrap();
    insta::assert_snapshot!(text, @r"
    # SPDX-License-Identifier: MIT OR Apache-2.0
    #
    # Made from report.yaml by `lab minimize`: 14 → 4 steps, 46 → 16 lines.
    # On tags-rfc (x86_64) it ends so:
    #   failed at step 4 (load pricing-v2): shop.stock answers 20, not 21
    #
    # My hotfix stops working for a moment when the vendor's livepatch is upgraded.
    version: 1
    summary: The operator's hotfix must stay in place while the vendor's livepatch is upgraded.
    requires: { replace: tags }

    targets:
      shop: { functions: { price: 10, stock: 20 } }

    livepatches:
      stock-hotfix: { tag: 2, patches: { shop: { stock: 21 } } }
      pricing-v2: { tag: 1, patches: { shop: { price: 12 } } }

    steps:
      - load: shop
      # The operator's own.
      - load: stock-hotfix

      # The vendor's upgrade, while somebody sits in the old price.
      - hold: shop.price
      - load: pricing-v2
        transition: held
        expect:
          calls: { shop.stock: 21 }
    ");
    let problem = "shop.stock answers 20, not 21";
    assert_contains(
        &output.stdout,
        &["scenarios/report-min.yaml: 14 → 4 steps", problem],
    );
    assert_contains(&output.stderr, &["14 → 8 steps", "candidates played"]);

    // It shows the defect where there is one, and nothing where there is none.
    let run = [
        "run",
        "scenarios/report-min.yaml",
        "--arch=x86_64",
        "--accept",
        "--kernel",
    ];
    let fails = project.lab(&[&run[..], &["tags-rfc"]].concat());
    assert_eq!(fails.code, 1, "{}\n{}", fails.stdout, fails.stderr);
    assert_contains(&fails.stdout, &[problem]);
    let passes = project.lab(&[&run[..], &["tags"]].concat());
    assert_eq!(passes.code, 0, "{}\n{}", passes.stdout, passes.stderr);

    // Of hundreds of records, the last that failed is there.
    let searches: Vec<_> = entries(&project.path(".lab/minimize"));
    let kept = entries(searches.last().unwrap());
    let kept: Vec<_> = kept.iter().filter(|path| !path.is_symlink()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let observed = fs::read_to_string(kept[0].join("observed.txt")).unwrap();
    assert_contains(
        &observed,
        &["step 4: load pricing-v2", "call shop.stock: 20"],
    );

    let output = on("tags-rfc", &[]);
    assert_eq!(output.code, 2, "{}\n{}", output.stdout, output.stderr);
    assert_contains(
        &output.stderr,
        &["report-min.yaml is there already", "--force"],
    );
    assert_eq!(project.guests(), [""; 0]);
}

#[test]
fn what_was_found_before_an_interruption_is_written() {
    let project = Project::new();
    fs::write(project.path("scenarios/report.yaml"), REPORT).unwrap();
    let args = [
        "minimize",
        "scenarios/report.yaml",
        "--arch=x86_64",
        "--kernel=tags-rfc",
    ];
    let mut child = project.spawn(&args);
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    for line in stderr.lines() {
        let line = line.unwrap();
        told += &line;
        if line.contains("what earlier steps expect: 14 → 8 steps") {
            common::signal(child.id(), "INT");
        }
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{told}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_contains(
        &stdout,
        &["interrupted: this is the smallest so far", "14 → "],
    );
    let check = project.lab(&["check", "scenarios/report-min.yaml"]);
    assert_eq!(check.code, 0, "{}", check.stderr);
    assert_eq!(project.guests(), [""; 0]);
}

#[test]
fn kernels_are_compared_step_by_step() {
    let project = Project::new();
    for name in ["tagged-transition-window", "builtin-cmdline"] {
        project.copy(&format!("scenarios/{name}.yaml"));
    }
    let args = [
        "compare",
        "--arch=x86_64",
        "--kernel=mainline,tags,tags-rfc",
    ];
    let same = project.lab(&[&args[..], &["scenarios/builtin-cmdline.yaml"]].concat());
    assert_eq!(same.code, 0, "{}\n{}", same.stdout, same.stderr);
    assert_contains(
        &same.stdout,
        &["equal after each step", "1 the same, 0 different"],
    );

    let different = project.lab(&[&args[..], &["scenarios"]].concat());
    assert_eq!(
        different.code, 1,
        "{}\n{}",
        different.stdout, different.stderr
    );
    let (_, window) = different
        .stdout
        .split_once("tagged-transition-window")
        .unwrap();
    let (window, _) = window.split_once("records: ").unwrap();
    insta::assert_snapshot!(window, @r"
     (x86_64)
      tags      passed
      tags-rfc  expected failure: at step 5 (load pricing-v2): shop.stock answers 20, not 21
      mainline  not played: it requires replace: tags, the kernel has bool
      steps 1 to 4: equal
      step 5 (load pricing-v2): different
        tags                        tags-rfc
        …
        livepatch pricing-v2: enabled 1, transition 1, replace 1, stack_order 3
      !   shop: patched 1: price,1    shop: patched 1: price,1 stock,1
        module pricing-v1: 1 references
        …
        call shop.price: 12
      ! call shop.stock: 21         call shop.stock: 20
        handler on shop.price
        …
      they differ after steps 6, 7 as well (--all shows it)

    1 the same, 1 different;
    ");
    assert_eq!(project.guests(), [""; 0]);
}

#[test]
fn the_patch_of_a_series_that_mends_a_defect_is_found() {
    let project = Project::new();
    project.copy("scenarios/tagged-transition-window.yaml");
    let scenario = "scenarios/tagged-transition-window.yaml";
    let args = [
        "bisect",
        scenario,
        "--series",
        "--kernel=tags",
        "--arch=x86_64",
    ];
    let output = project.lab(&[&args[..], &["--first=good", "--bad=3"]].concat());
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_contains(
        &output.stdout,
        &[
            "first good patch: 0004-livepatch-Add-nops-only-for-livepatches-that-get-rep.patch",
            "before it: failed at step 5 (load pricing-v2): shop.stock answers 20, not 21",
            "-   call shop.stock: 20\n+   call shop.stock: 21",
        ],
    );
    let wrong_end = project.lab(&[&args[..], &["--bad=12"]].concat());
    assert_eq!(
        wrong_end.code, 2,
        "{}\n{}",
        wrong_end.stdout, wrong_end.stderr
    );
    assert_contains(
        &wrong_end.stderr,
        &["tags with 12 patches is not bad", "it passes there"],
    );
    assert_eq!(project.guests(), [""; 0]);
}

/// A history on the kernel's source: a commit that breaks livepatching, one that does not build, and some that
/// do neither.
#[test]
#[ignore = "builds seven kernels, which takes minutes"]
fn the_commit_that_breaks_livepatching_is_found() {
    let project = Project::new();
    let linux = project.path("linux");
    let source = pristine_source(&project);
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=Jane Doe",
                "-c",
                "user.email=jane@example.org",
            ])
            .args(["-c", "core.autocrlf=false", "-c", "gc.auto=0"])
            .args(args)
            .current_dir(&linux)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&source)
        .arg(&linux)
        .status()
        .unwrap();
    assert!(copied.success());
    git(&["init", "--quiet"]);
    git(&["add", "--force", "--all"]);
    git(&["commit", "--quiet", "-m", "Linux"]);
    let commit = |subject: &str| {
        git(&["commit", "--quiet", "--all", "-m", subject]);
        git(&["rev-parse", "HEAD"])
    };
    let append = |file: &str, text: &str| {
        let path = linux.join(file);
        let old = fs::read_to_string(&path).unwrap();
        fs::write(path, old + text).unwrap();
    };
    append("kernel/livepatch/patch.c", "\n/* Nothing. */\n");
    commit("livepatch: Add a comment");
    append("kernel/livepatch/state.c", "\n#error it does not build\n");
    commit("livepatch: Break the build");
    append("kernel/livepatch/shadow.c", "\n/* Nothing. */\n");
    let unbuilt = commit("livepatch: Add another comment");
    git(&[
        "checkout",
        "--quiet",
        &format!("{unbuilt}~2"),
        "--",
        "kernel/livepatch/state.c",
    ]);
    commit("livepatch: Mend the build");
    let patch = Path::new(ROOT).join("kernels/patches/mutant-stack-order");
    let patch = entries(&patch).remove(0);
    git(&["apply", &patch.display().to_string()]);
    let culprit = commit("livepatch: Count stack_order from zero");
    append("kernel/livepatch/transition.c", "\n/* Nothing. */\n");
    commit("livepatch: Add a third comment");

    let text = "version: 1\nsummary: x\ntargets:\n  shop: { functions: { price: 10 } }\n\
                livepatches:\n  v1: { patches: { shop: { price: 11 } } }\nsteps:\n  - load: shop\n  \
                - load: v1\n    expect: { stack_order: { v1: 1 } }\n";
    fs::write(project.path("scenarios/order.yaml"), text).unwrap();
    let source = format!("--source=path:{}", linux.display());
    let output = project.lab(&[
        "bisect",
        "scenarios/order.yaml",
        &source,
        "--good=HEAD~6",
        "--bad=HEAD",
        "--kernel=mainline",
        "--arch=x86_64",
    ]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let first = format!("first bad commit: {culprit}\n  livepatch: Count stack_order from zero\n");
    assert_contains(
        &output.stdout,
        &[
            &first,
            "with it: failed at step 2 (load v1): stack_order of v1 is 0, not 1",
            "Jane Doe <jane@example.org>",
            "git bisect replay",
        ],
    );
    assert_eq!(git(&["status", "--short"]), "", "the checkout is as it was");
    assert_eq!(git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(project.guests(), [""; 0]);
}

/// The source in the cache that mainline is built from.
fn pristine_source(project: &Project) -> PathBuf {
    let output = project.lab(&["build", "kernel", "mainline", "--arch", "x86_64"]);
    let boot_file = output.stdout.split_whitespace().last().unwrap();
    let (tree, _) = boot_file.split_once("/build/").unwrap();
    let makefile = |tree: &Path| fs::read_to_string(tree.join("Makefile")).unwrap_or_default();
    let wanted = makefile(tree.as_ref());
    let cache = Path::new(tree).ancestors().nth(3).unwrap();
    let mut sources = entries(&cache.join("sources")).into_iter();
    sources.find(|source| makefile(source) == wanted).unwrap()
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
