// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab review`: what waits, what belongs to no scenario any more, and how it asks.

use std::fs;

use crate::common::Project;
use crate::common::terminal::Terminal;

const SCENARIO: &str = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\n\
                        steps:\n  - load: shop\n";

fn snapshot(text: &str) -> String {
    format!("---\nsource: scenarios/a.yaml\nexpression: e\n---\n{text}\n")
}

/// A project with scenarios `a` and `b`, each of which has something to review.
fn project() -> Project {
    let project = Project::new();
    for name in ["a", "b"] {
        project.write(&format!("scenarios/{name}.yaml"), SCENARIO);
    }
    let (old, new) = ("step 1: x\n  call f: 1", "step 1: x\n  call f: 2");
    project.write("snapshots/a@k.snap", &snapshot(old));
    project.write("snapshots/a@k.snap.new", &snapshot(new));
    project.write(
        "snapshots/b@k.snap.new",
        &snapshot("step 1: y\n  call g: 3"),
    );
    project
}

#[test]
fn review_accepts_and_rejects_and_says_what_was_done() {
    let project = project();
    let output = project.lab_input(&["review"], "a\nr\n");
    assert_eq!(output.code, 0, "{output:?}");
    let difference = "a@k.snap (1 of 2)\n  step 1: x\n-   call f: 1\n+   call f: 2\n";
    assert!(output.stdout.starts_with(difference), "{}", output.stdout);
    let new = "b@k.snap (2 of 2)\nnew: there is none yet\n+ step 1: y\n+   call g: 3\n";
    assert!(output.stdout.contains(new), "{}", output.stdout);
    assert!(
        output.stdout.ends_with("\n1 accepted, 1 rejected\n"),
        "{}",
        output.stdout
    );
    let accepted = fs::read_to_string(project.path("snapshots/a@k.snap")).unwrap();
    assert!(accepted.contains("call f: 2"));
    assert!(!project.path("snapshots/b@k.snap").exists());
    assert_eq!(project.lab(&["review"]).stdout, "nothing to review\n");
}

#[test]
fn what_is_skipped_is_left_and_so_is_what_comes_after_the_end() {
    for (keys, code, says) in [
        ("s\na\n", 1, "1 accepted, 1 left\n"),
        ("q\n", 1, "2 left\n"),
        ("r\n", 1, "1 rejected, 1 left\n"),
    ] {
        let project = project();
        let output = project.lab_input(&["review"], keys);
        assert_eq!(output.code, code, "{output:?}");
        assert_eq!(
            output.stdout.lines().last(),
            says.lines().next(),
            "{output:?}"
        );
    }
    let project = project();
    let output = project.lab(&["review", "--accept-all"]);
    assert_eq!(
        (output.code, output.stdout.lines().last()),
        (0, Some("2 accepted"))
    );
}

#[test]
fn a_question_is_there_before_its_answer() {
    let project = project();
    let mut terminal = Terminal::new(&project, &["review"]);
    for keys in ["a\n", "r\n"] {
        terminal.expect("[a]ccept, [r]eject, [s]kip, [q]uit? ");
        terminal.type_in(keys);
    }
    terminal.expect("1 accepted, 1 rejected");
    assert_eq!(terminal.status(), Some(0));
}

#[test]
fn ctrl_c_ends_a_review_with_a_word_about_what_was_done() {
    let project = project();
    let mut terminal = Terminal::new(&project, &["review"]);
    terminal.expect("[q]uit? ");
    terminal.type_in("a\n");
    terminal.expect("[q]uit? ");
    terminal.type_in("\u{3}");
    terminal.expect("1 accepted, 1 left");
    assert_eq!(terminal.status(), Some(130));
}

#[test]
fn a_long_difference_goes_through_a_pager_on_a_terminal_only() {
    let project = project();
    let long: String = (0..60).map(|n| format!("\n  call f{n}: 1")).collect();
    project.write(
        "snapshots/b@k.snap.new",
        &snapshot(&format!("step 1: y{long}")),
    );
    // Its rows are forty.
    project.script("less", "echo \"PAGED ${LESS}\"; cat");
    let mut terminal = Terminal::new(&project, &["review"]);
    terminal.expect("call f: 2");
    terminal.expect("[q]uit? ");
    terminal.type_in("s\n");
    terminal.expect("PAGED FRX");
    terminal.expect("call f59: 1");
    terminal.expect("[q]uit? ");
    terminal.type_in("q\n");
    assert_eq!(terminal.status(), Some(1));
    let piped = project.lab_input(&["review"], "q\n");
    assert!(!piped.stdout.contains("PAGED"), "{}", piped.stdout);
    // Without one, there is no pager.
    project.remove_tool("less");
    let mut terminal = Terminal::new(&project, &["review"]);
    terminal.expect("[q]uit? ");
    terminal.type_in("s\n");
    terminal.expect("call f59: 1");
    terminal.expect("[q]uit? ");
    terminal.type_in("q\n");
    assert_eq!(terminal.status(), Some(1));
}

#[test]
fn ctrl_c_in_a_pager_is_the_pagers() {
    let project = project();
    fs::remove_file(project.path("snapshots/a@k.snap.new")).unwrap();
    let long: String = (0..60).map(|n| format!("\n  call f{n}: 1")).collect();
    project.write(
        "snapshots/b@k.snap.new",
        &snapshot(&format!("step 1: y{long}")),
    );
    project.script("less", "trap : INT; cat; echo PAGED; sleep 3; echo LEAVES");
    let mut terminal = Terminal::new(&project, &["review"]);
    terminal.expect("PAGED");
    terminal.type_in("\u{3}");
    terminal.expect("LEAVES");
    terminal.expect("[q]uit? ");
    terminal.type_in("a\n");
    assert_eq!(terminal.status(), Some(0));
}

#[test]
fn a_new_one_is_shown_beside_what_it_was_held_against() {
    let project = project();
    let kernel = "version: 1\nsummary: x\nextends: fake\n";
    project.write("kernels/mine.yaml", kernel);
    let (old, new) = ("step 1: x\n  call f: 1", "step 1: x\n  call f: 2");
    project.write("snapshots/a@fake.snap", &snapshot(old));
    project.write("snapshots/a@mine.snap.new", &snapshot(new));
    let output = project.lab_input(&["review"], "s\na\n");
    let says =
        "a@mine.snap (2 of 3)\nnew; it was held against a@fake.snap\n  step 1: x\n-   call f: 1\n";
    assert!(output.stdout.contains(says), "{}", output.stdout);
    let text = |name: &str| fs::read_to_string(project.path(name)).unwrap();
    assert!(text("snapshots/a@mine.snap").contains("call f: 2"));
    assert!(text("snapshots/a@fake.snap").contains("call f: 1"));
}

#[test]
fn what_kernels_share_is_not_accepted_of_one_of_them_in_silence() {
    let project = project();
    let (old, new) = ("step 1: x\n  call f: 1", "step 1: x\n  call f: 2");
    project.write("snapshots/a.snap", &snapshot(old));
    project.write("snapshots/a.snap.new", &snapshot(new));
    let output = project.lab_input(&["review"], "q\n");
    let says = "a.snap (1 of 3)\nall kernels share it: ";
    assert!(output.stdout.starts_with(says), "{}", output.stdout);
    let rest = project.lab_input(&["review"], "s\nq\n");
    let (_, own) = rest.stdout.split_once("a@k.snap (2 of 3)").unwrap();
    assert!(!own.contains("share"), "{}", rest.stdout);
}

#[test]
fn a_snapshot_of_an_older_text_says_which_steps_changed() {
    let project = project();
    let new = "step 1: z\n  call f: 1\nstep 2: w";
    project.write("snapshots/a@k.snap.new", &snapshot(new));
    let output = project.lab_input(&["review"], "q\n");
    let says = "the accepted one is of an older text of the scenario:\n  step 1 was `x`, is `z`\n  \
                step 2, `w`, is new\n- step 1: x\n+ step 1: z\n";
    assert!(output.stdout.contains(says), "{}", output.stdout);
}

/// A project in which `a` was renamed to `c`.
fn renamed() -> Project {
    let project = Project::new();
    project.write("scenarios/deep/c.yaml", SCENARIO);
    project.write(
        "snapshots/a@k.snap",
        &snapshot("step 1: load shop\n  call f: 1"),
    );
    project
}

#[test]
fn a_snapshot_without_a_scenario_is_moved_to_the_one_that_has_its_steps() {
    let project = renamed();
    let new = snapshot("step 1: load shop\n  call f: 1");
    project.write("snapshots/c@k.snap.new", &new);
    let output = project.lab_input(&["review"], "m\n");
    assert_eq!(output.code, 0, "{output:?}");
    let says = "a@k.snap\nbelongs to scenarios/a.yaml, which is not there\n";
    assert!(output.stdout.starts_with(says), "{}", output.stdout);
    assert!(
        output
            .stdout
            .contains("scenarios/deep/c.yaml has the same steps")
    );
    assert!(output.stdout.contains("[m]ove, [d]elete, [s]kip, [q]uit? "));
    assert!(output.stdout.ends_with("1 moved\n"), "{}", output.stdout);
    let moved = fs::read_to_string(project.path("snapshots/c@k.snap")).unwrap();
    assert!(moved.contains("source: scenarios/deep/c.yaml\n"), "{moved}");
    assert!(moved.contains("expression: \"c on k\"\n") && moved.contains("call f: 1"));
    assert_eq!(fs::read_dir(project.path("snapshots")).unwrap().count(), 1);
}

#[test]
fn a_snapshot_without_a_scenario_is_deleted_only_by_somebody_who_says_so() {
    for (args, keys, gone) in [
        (&["review"][..], "d\n", true),
        (&["review"], "s\n", false),
        (&["review"], "", false),
        (&["review", "--accept-all"], "", false),
        (&["review", "--reject-all"], "", false),
    ] {
        let project = renamed();
        let output = project.lab_input(args, keys);
        assert_eq!(output.code, 0, "{output:?}");
        let there = project.path("snapshots/a@k.snap").exists();
        assert_eq!(there, !gone, "{args:?} {keys:?}");
        let says = if gone {
            "1 deleted\n"
        } else {
            "1 without a scenario\n"
        };
        assert!(output.stdout.ends_with(says), "{}", output.stdout);
    }
    // What lab.yaml names is a scenario wherever it is.
    let project = renamed();
    project.write("more/a.yaml", SCENARIO);
    project.write("lab.yaml", "version: 1\ndefaults: { paths: [more] }\n");
    assert_eq!(project.lab(&["review"]).stdout, "nothing to review\n");
}
