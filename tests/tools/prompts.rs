// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions on the terminal: only an answer is an answer, and Ctrl-C ends the command.

use std::time::{Duration, Instant};

use crate::common::Project;
use crate::common::terminal::Terminal;

/// A project whose host lacks a package, and has an apt-get that installs it.
fn lacking_flex() -> Project {
    let project = Project::new();
    project.remove_tool("flex");
    project.script("sudo", "shift; exec \"$@\"");
    let flex = project.path("bin/flex").display().to_string();
    let body = format!("case \"$*\" in *-y*install*) printf '#!/bin/sh\\n' > '{flex}';; esac");
    project.script("apt-get", &body);
    project
}

/// A `lab setup` that asks.
fn asking(project: &Project) -> Terminal {
    let terminal = Terminal::new(project, &["setup", "--arch", "x86_64"]);
    terminal.expect("flex ");
    terminal.expect("Go on? [Y/n]");
    terminal
}

#[test]
fn the_end_of_input_is_no_answer() {
    let project = lacking_flex();
    let mut terminal = asking(&project);
    terminal.type_in("\u{4}");
    terminal.expect("the packages were not installed");
    terminal.expect("say --yes");
    assert_eq!(terminal.status(), Some(3));
    assert!(!project.path("bin/flex").exists());
}

#[test]
fn a_no_installs_nothing_and_a_yes_does() {
    for (keys, code) in [("n\n", 3), ("y\n", 0), ("\n", 0)] {
        let project = lacking_flex();
        let mut terminal = asking(&project);
        terminal.type_in(keys);
        assert_eq!(terminal.status(), Some(code), "{keys:?}");
        assert_eq!(project.path("bin/flex").exists(), code == 0, "{keys:?}");
    }
}

#[test]
fn ctrl_c_ends_a_command_that_asks() {
    let project = lacking_flex();
    let mut terminal = asking(&project);
    let started = Instant::now();
    terminal.type_in("\u{3}");
    assert_eq!(terminal.status(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(!project.path("bin/flex").exists());
}
