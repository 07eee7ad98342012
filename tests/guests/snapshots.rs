// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run is held against, from a scenario's first run on: new, reviewed, of an older text, and
//! the snapshots of a kernel that another one is based on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{Output, Project, ROOT, assert_contains, assert_is};
use crate::faults::snapshots::{OLDER, UNREVIEWED};

const TEXT: &str = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\nsteps:\n  \
                    - load: shop\n  - read: /proc/sys/kernel/ostype\n  - unload: shop\n";

/// A project with a kernel `mine` that is `tags` under another name, and that extends it.
fn with_mine() -> Project {
    let project = Project::new();
    fs::remove_file(project.path("kernels")).unwrap();
    fs::create_dir(project.path("kernels")).unwrap();
    for entry in fs::read_dir(Path::new(ROOT).join("kernels")).unwrap() {
        let entry = entry.unwrap();
        symlink(
            entry.path(),
            project.path("kernels").join(entry.file_name()),
        )
        .unwrap();
    }
    let mine = "version: 1\nsummary: Mine.\nextends: tags\n";
    project.write("kernels/mine.yaml", mine);
    project.copy("scenarios/tagged-replace.yaml");
    project.copy("snapshots/tagged-replace@tags.snap");
    project
}

fn run(project: &Project, kernel: &str) -> Output {
    let kernel = format!("--kernel={kernel}");
    project.lab(&["run", "scenarios", "--arch=x86_64", &kernel, "--retries=2"])
}

fn snapshots(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.path("snapshots")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_first_run_is_new_and_played_once_and_its_states_are_for_a_review() {
    let project = Project::new();
    project.write("scenarios/first.yaml", TEXT);
    let output = run(&project, "mainline");
    assert_is(&UNREVIEWED, &output);
    let says = "all 3 steps as expected; there is no snapshot snapshots/first@mainline.snap yet";
    assert_contains(
        &output.stdout,
        &["new  first on mainline (x86_64)", says, "1 new in"],
    );
    assert!(output.stdout.lines().count() < 8, "{}", output.stdout);
    assert!(!output.stderr.contains("again"), "{}", output.stderr);
    let review = project.lab(&["review", "--accept-all"]);
    assert_contains(&review.stdout, &["+ step 1: load shop", "1 accepted"]);
    assert_eq!(run(&project, "mainline").code, 0);

    // An author's change is no kernel's.
    let changed = TEXT.replace("ostype", "osrelease");
    project.write("scenarios/first.yaml", &changed);
    let output = run(&project, "mainline");
    assert_is(&OLDER, &output);
    let changed = "step 2 was `read /proc/sys/kernel/ostype`, is `read /proc/sys/kernel/osrelease`";
    let says = "snapshots/first@mainline.snap is of an older text of this scenario:";
    assert_contains(&output.stdout, &["failed  first", "[file]", says, changed]);
    assert!(!output.stderr.contains("again"), "{}", output.stderr);
}

#[test]
fn a_run_whose_expectations_fail_leaves_nothing_for_a_review() {
    let project = Project::new();
    let wrong = TEXT.replace(
        "  - load: shop\n",
        "  - load: shop\n    expect: { calls: { shop.price: 11 } }\n",
    );
    project.write("scenarios/first.yaml", &wrong);
    let output = project.lab(&["run", "scenarios", "--arch=x86_64", "--kernel=mainline"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert_contains(
        &output.stdout,
        &["shop.price answers 10, not 11", "observed.txt"],
    );
    assert_eq!(snapshots(&project), [""; 0]);
    assert_eq!(project.lab(&["review"]).stdout, "nothing to review\n");
}

#[test]
fn a_kernel_is_held_against_the_snapshots_of_the_one_that_it_extends() {
    let project = with_mine();
    let output = run(&project, "mine");
    assert_eq!(output.code, 0, "{output:?}");
    let line = output.stdout.lines().next().unwrap();
    assert!(line.ends_with(" s (snapshot of tags)"), "{line}");
    assert_eq!(snapshots(&project), ["tagged-replace@tags.snap"]);

    // As if mine did otherwise than tags.
    let name = "snapshots/tagged-replace@tags.snap";
    let text = fs::read_to_string(project.path(name)).unwrap();
    let other = text.replacen("call shop.price: 12", "call shop.price: 99", 1);
    assert_ne!(other, text);
    project.write(name, &other);
    let output = project.lab(&["run", "scenarios", "--arch=x86_64", "--kernel=mine"]);
    assert_eq!(output.code, 1, "{output:?}");
    let says = format!("the states differ from {name}; mine has none of its own");
    let diff = "-   call shop.price: 99\n    +   call shop.price: 12";
    assert_contains(&output.stdout, &[&says, diff, "a snapshot of its own"]);
    let bundled = project.lab(&["bundle", "latest", "-o", "report.tar.zst"]);
    assert_eq!(bundled.code, 0, "{bundled:?}");
    let review = project.lab(&["review", "--accept-all"]);
    assert_contains(
        &review.stdout,
        &["new; it was held against tagged-replace@tags.snap"],
    );
    assert_eq!(
        snapshots(&project),
        ["tagged-replace@mine.snap", "tagged-replace@tags.snap"]
    );
    let output = run(&project, "mine");
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!output.stdout.contains("snapshot of"), "{output:?}");

    // What it was held against travels, under the name of the only kernel that is there.
    let args = ["repro", "report.tar.zst", "--as-shipped", "--yes"];
    let again = project.lab(&args);
    assert_eq!(again.code, 0, "{again:?}");
    let came_back = "the failure came back in the same way: 1 of 1 time";
    assert_contains(&again.stdout, &["+   call shop.price: 12", came_back]);
}
