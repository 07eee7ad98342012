// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab export`: what bash makes of an exported scenario, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::Project;

const SCENARIO: &str = r#"version: 1
summary: What /proc says.
steps:
  - { read: /proc/version, contains: Linux }
  - { read: /proc/no-such-file, errno: ENOENT }
  - { stat: /proc/version, rights: "-r--r--r--" }
  - { stat: /proc/no-such-file, errno: ENOENT }
  - { wait: /proc/version, exists: true }
  - { wait: /proc/no-such-file, absent: true, timeout: 200ms }
  - { stat: /proc/version, rights: "-rwxrwxrwx", requires: { file: /proc/no-such-file } }
"#;

/// As much of upstream's functions.sh as such a scenario needs.
const FUNCTIONS: &str = r#"export LC_ALL=C
MAX_RETRIES=600
function log() { :; }
function setup_config() { :; }
function start_test() { echo -n "TEST: $1 ... "; }
function die() { echo "ERROR: $1" >&2; exit 1; }
function loop_until() {
	local cmd="$*"
	local i=0
	while true; do
		eval "$cmd" && return 0
		[[ $((i++)) -eq $MAX_RETRIES ]] && return 1
		sleep .1
	done
}
"#;

/// A log in which the kernel says something for each file that is read, and programs have lines, too.
const LOGGED: &str = r#"
LOG=$(mktemp)
trap 'rm $LOG' EXIT
function log() { echo "user  :notice: [    1.000000] $1" >> "$LOG"; }
function dmesg() { [[ "$*" == "--decode" ]] && command cat "$LOG"; }
function cat() {
	command cat "$@" || return
	printf '%s\n' "kern  :info  : [    2.000000] oom: adjusted for $1" "its second line" \
		"kern  :notice: [    2.000001] livepatch: signaling remaining tasks" \
		"kern  :notice: [    2.000002] [    T1] livepatch: 'x': patching complete" >> "$LOG"
}
"#;

/// Exports a scenario with a step more, and plays it. Its exit status and output.
fn play(more: &str) -> (Option<i32>, String) {
    play_beside(FUNCTIONS, more)
}

/// The same, beside a functions.sh.
fn play_beside(functions: &str, more: &str) -> (Option<i32>, String) {
    let project = Project::new();
    project.write("scenarios/x.yaml", &format!("{SCENARIO}{more}"));
    let args = ["export", "scenarios/x.yaml", "--format", "kselftest"];
    let output = project.lab(&args);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stdout, "wrote 2 files to kselftest-x\n");
    project.write("kselftest-x/functions.sh", functions);
    let script = project.path("kselftest-x/test-x.sh");
    let rights = fs::metadata(&script).unwrap().permissions();
    assert_eq!(rights.mode() & 0o777, 0o755);
    let output = Command::new(script).output().unwrap();
    assert!(
        output.stderr.is_empty() || output.status.code() == Some(1),
        "{output:?}"
    );
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_script_whose_scenario_holds_says_ok() {
    let (code, said) = play("");
    assert_eq!(said, "TEST: What /proc says. ... ok\n");
    assert_eq!(code, Some(0));
}

#[test]
fn a_script_says_what_does_not_hold_and_stops_there() {
    let broken = |step: &str| {
        let (code, said) = play(&format!("  - {step}\n  - {{ read: /proc/gone }}\n"));
        assert_eq!(code, Some(1));
        let said = said.strip_prefix("TEST: What /proc says. ... not ok\n\n");
        said.unwrap().to_owned()
    };
    let seen = [
        broken("{ stat: /proc/version, rights: \"-rw-r--r--\" }"),
        broken("{ read: /proc/version, errno: EINVAL }"),
        broken("{ read: /proc/sys, errno: ENOENT }"),
        broken("{ read: /proc/none, equals: '' }"),
        broken("{ wait: /proc/version, absent: true, timeout: 100ms }"),
        broken("{ read: /proc/sys/kernel/ostype, equals: \"Linux, no\" }"),
    ];
    let seen = seen.concat();
    let seen = seen.lines().filter(|line| !line.contains("Linux version"));
    insta::assert_snapshot!(seen.collect::<Vec<_>>().join("\n"), @r"
    line 11: stat /proc/version
    - expected: rights of /proc/version: -rw-r--r--
    + seen: -r--r--r--

    line 11: read /proc/version
    - expected: read /proc/version: Invalid argument
    + seen: success

    line 11: read /proc/sys
    - expected: read /proc/sys: No such file or directory
    + seen: cat: /proc/sys: Is a directory

    line 11: read /proc/none
    - expected: read /proc/none: success
    + seen: cat: /proc/none: No such file or directory

    line 11: wait for /proc/version
    - expected: /proc/version is gone
    + seen: it is still there

    line 11: read /proc/sys/kernel/ostype
    - expected: /proc/sys/kernel/ostype: Linux, no
    + seen: Linux
    ");
}

#[test]
fn a_script_looks_at_all_that_the_kernel_said_in_the_step() {
    let read = |expect: &str| {
        let functions = format!("{FUNCTIONS}{LOGGED}");
        let read = "read: /proc/sys/kernel/ostype";
        // What the first step says is not the second one's.
        let steps = format!("  - read: /proc/version\n  - {{ {read}, expect: {{ {expect} }} }}\n");
        let (code, said) = play_beside(&functions, &steps);
        let (_, problem) = said.split_once("\n- expected: ").unwrap_or_default();
        (
            code == Some(0),
            problem.lines().next().unwrap_or_default().to_owned(),
        )
    };
    let holds = (true, String::new());
    let all = "'oom: adjusted', its second line, 'livepatch: signaling', patching complete";
    assert_eq!(read(&format!("log: [{all}]")), holds);
    assert_eq!(read("whole_log: [\"'x': patching complete\"]"), holds);
    assert_eq!(
        read("not_in_log: [/proc/version, lab step, ostype in, user]"),
        holds
    );
    for part in [
        "oom: adjusted for /proc/sys/kernel/ostype",
        "second line",
        "signaling",
    ] {
        let fails = (false, format!("no log line with: {part}"));
        assert_eq!(read(&format!("not_in_log: [\"{part}\"]")), fails);
    }
    let order = (false, "a log line with (in this order): oom".to_owned());
    assert_eq!(read("log: [patching complete, oom]"), order);
    let marks = (
        false,
        "a log line with (in this order): lab step".to_owned(),
    );
    assert_eq!(read("log: [lab step]"), marks);
}

#[test]
fn a_refused_scenario_leaves_nothing_behind() {
    let project = Project::new();
    let text = "version: 1\nsummary: x\nsteps:\n  - klp-build: --no-replace\n";
    project.write("scenarios/x.yaml", text);
    let args = ["export", "scenarios/x.yaml", "--format", "kselftest"];
    let output = project.lab(&args);
    assert_eq!(output.code, 2);
    insta::assert_snapshot!(output.stderr, @r"
    error: scenarios/x.yaml cannot be exported as a kselftest
      scenarios/x.yaml:4: klp-build runs on the machine that builds, not in the test
    next: nothing is left out of an export: change these steps, or export another scenario
    ");
    assert!(!project.path("kselftest-x").exists());
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let project = Project::new();
    project.write("scenarios/x.yaml", SCENARIO);
    project.write("mine/notes", "");
    let args = [
        "export",
        "scenarios/x.yaml",
        "--format",
        "kselftest",
        "--output",
        "mine",
    ];
    let output = project.lab(&args);
    assert_eq!(output.code, 2);
    insta::assert_snapshot!(output.stderr, @r"
    error: mine is not empty
    next: remove it, or name another --output
    ");
    assert!(!project.path("mine/test-x.sh").exists());
}
