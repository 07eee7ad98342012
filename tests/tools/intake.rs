// SPDX-License-Identifier: MIT OR Apache-2.0
//! New scenarios, files that are no modules, reports without commands: what needs no guest.

use std::fs;

use crate::common::{Project, assert_contains};

#[test]
fn a_new_scenario_has_no_mistakes_and_is_never_written_over() {
    let project = Project::new();
    for args in [&["new", "first"][..], &["new", "second", "--tags"]] {
        let output = project.lab(args);
        assert_eq!((output.code, &*output.stderr), (0, ""), "{args:?}");
        assert_contains(&output.stdout, &["lab check", "lab run", "lab review"]);
    }
    let output = project.lab(&["check", "scenarios"]);
    assert_eq!(
        output.stdout, "2 scenarios, no mistakes\n",
        "{}",
        output.stderr
    );
    project.write("scenarios/first.yaml", "mine");
    let output = project.lab(&["new", "first"]);
    assert_eq!(output.code, 2);
    assert_contains(
        &output.stderr,
        &["first.yaml is there already", "choose another name"],
    );
    let mine = fs::read_to_string(project.path("scenarios/first.yaml")).unwrap();
    assert_eq!(mine, "mine");
    for name in ["First", "../x", "a b", ""] {
        let output = project.lab(&["new", name]);
        assert_eq!(output.code, 2, "{name:?}");
        assert_contains(&output.stderr, &["is not the name of a scenario"]);
    }
    let shown = project.lab(&["new", "third", "-o", "-"]);
    assert!(shown.stdout.contains("\nsteps:\n") && !project.path("scenarios/third.yaml").exists());
}

#[test]
fn files_that_are_no_modules_are_mistakes_of_the_scenario() {
    let project = Project::new();
    let write = |ko: &str| {
        let text = format!(
            "version: 1\nsummary: x\nlivepatches: {{ fix: {{ ko: {ko} }} }}\nsteps: [load: fix]\n"
        );
        project.write("scenarios/x.yaml", &text);
        let output = project.lab(&["check", "scenarios/x.yaml"]);
        assert_eq!(output.code, 2, "{}", output.stdout);
        output.stderr
    };
    insta::assert_snapshot!(write("gone.ko"), @r"
    error: there is no scenarios/gone.ko, which is to be `fix`
    next: paths after `ko:` are relative to the scenario's folder
    ");
    project.write("scenarios/text.ko", "not a module");
    insta::assert_snapshot!(write("text.ko"), @r"
    error: scenarios/text.ko is no ELF file
    next: name the `.ko` that was built for the guest
    ");
}

#[test]
fn a_report_without_commands_is_refused() {
    let project = Project::new();
    let output = project.lab_input(&["import", "-"], "It does not work.\nPlease fix it!\n");
    assert_eq!(output.code, 2);
    insta::assert_snapshot!(output.stderr, @r"
    error: standard input holds no command that the lab understands
    next: it looks for insmod, rmmod, writes to /sys and the functions of selftests
    ");
    // What was loaded before the report begins is not known.
    let output = project.lab_input(&["import", "-", "-o", "-"], "# rmmod a\n# insmod a.ko\n");
    assert_eq!(output.code, 0);
    let says = [
        "steps that cannot work, to be mended before a run:\n  line ",
        ": a is not loaded: add a step `load: a` before it, or `errno: ENOENT` if it must fail\n",
    ];
    assert_contains(&output.stderr, &says);
    // From standard input to standard output, and what it says beside it.
    let args = ["import", "-", "-o", "-"];
    let output = project.lab_input(&args, "# insmod a.ko\n# frobnicate a\nfrobnicate b\n");
    assert_eq!(output.code, 0);
    assert_contains(
        &output.stdout,
        &["  - load: a   # line 1\n", "# line 3, not understood"],
    );
    assert_contains(
        &output.stderr,
        &["not understood: 1 of 2 lines", "line 3: frobnicate b"],
    );
}
