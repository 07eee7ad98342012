// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports and what becomes of them. Whatever comes out is a scenario without mistakes.

use std::collections::BTreeMap;

use super::{Imported, Prebuilt, Request, import};
use crate::scenario::{Scenario, parse};
use crate::yaml::Source;

fn with_files(text: &str, test: Option<&str>, files: &[(&str, bool)]) -> Imported {
    let file = |(name, is_livepatch): &(&str, bool)| {
        let ko = format!("x/{name}.ko");
        let is_livepatch = *is_livepatch;
        ((*name).to_owned(), Prebuilt { ko, is_livepatch })
    };
    let files: BTreeMap<_, _> = files.iter().map(file).collect();
    let request = Request {
        text,
        from: "report.txt",
        test,
        files: &files,
    };
    let imported = import(&request).unwrap();
    scenario(&imported);
    imported
}

fn imported(text: &str) -> Imported {
    with_files(text, None, &[])
}

fn scenario(imported: &Imported) -> Scenario {
    let source = Source::new("x.yaml", imported.yaml.clone());
    let parsed = parse("x", &source);
    parsed.unwrap_or_else(|errors| panic!("{}\n{}", imported.yaml, errors.render(&source, false)))
}

const REPORT: &str = "\
Hi,

on 6.12.3 I see this. Steps:

# insmod ./shop.ko
# insmod ./vendor-v1.ko debug=1
[   31.337000] livepatch: enabling patch 'vendor_v1'
root@vm:~# cat /sys/kernel/livepatch/vendor_v1/transition
$ sudo insmod vendor-v1.ko
insmod: ERROR: could not insert module vendor-v1.ko: File exists
$ while [ $(cat /sys/kernel/livepatch/vendor_v1/transition) = 1 ]; do sleep 1; done
$ ./reproducer &
$ sleep 3
$ echo 0 | sudo tee /sys/kernel/livepatch/vendor_v1/enabled
$ sudo rmmod vendor-v1 && sudo rmmod shop
[   60.000001] WARNING: CPU: 1 PID: 77 at kernel/livepatch/core.c:1
";

#[test]
fn a_report_of_commands_becomes_steps_and_comments() {
    let imported = imported(REPORT);
    insta::assert_snapshot!(imported.yaml);
    assert_eq!(imported.stand_ins, ["shop", "vendor-v1"]);
}

#[test]
fn files_say_what_a_module_is() {
    let imported = with_files(REPORT, None, &[("shop", false), ("vendor_v1", true)]);
    let scenario = scenario(&imported);
    let files: Vec<_> = scenario
        .prebuilt()
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(files, ["shop", "vendor-v1"]);
    assert_eq!(imported.used, ["shop", "vendor_v1"]);
    assert!(imported.stand_ins.is_empty());
}

const SCRIPT: &str = r#"#!/bin/bash
. $(dirname $0)/functions.sh
MOD_LIVEPATCH=test_klp_livepatch
setup_config

# - load a livepatch

start_test "basic function patching"

load_lp $MOD_LIVEPATCH

if [[ "$(cat /proc/cmdline)" != "$MOD_LIVEPATCH: this has been live patched" ]] ; then
	echo -e "FAIL\n\n"
	die "livepatch kselftest(s) failed"
fi

disable_lp $MOD_LIVEPATCH
unload_lp $MOD_LIVEPATCH

check_result "% insmod test_modules/$MOD_LIVEPATCH.ko
livepatch: enabling patch '$MOD_LIVEPATCH'
% echo 0 > $SYSFS_KLP_DIR/$MOD_LIVEPATCH/enabled
livepatch: '$MOD_LIVEPATCH': unpatching complete
% rmmod $MOD_LIVEPATCH"

start_test "a refusal"
load_failing_mod test_klp_callbacks_demo pre_patch_ret=-19
check_result "% insmod test_modules/test_klp_callbacks_demo.ko pre_patch_ret=-19
test_klp_callbacks_demo: pre_patch_callback: vmlinux
livepatch: failed to enable patch 'test_klp_callbacks_demo'
insmod: ERROR: could not insert module test_modules/test_klp_callbacks_demo.ko: No such device"

exit 0
"#;

#[test]
fn a_script_of_the_selftests_keeps_what_its_log_must_hold() {
    let imported = imported(SCRIPT);
    insta::assert_snapshot!(imported.yaml);
    assert_eq!(imported.tests, ["basic function patching", "a refusal"]);
}

#[test]
fn one_case_of_a_script_can_be_had_alone() {
    let imported = with_files(SCRIPT, Some("refusal"), &[]);
    let scenario = scenario(&imported);
    assert_eq!(scenario.summary, "a refusal");
    let labels: Vec<_> = scenario
        .steps
        .iter()
        .map(|step| step.action.label())
        .collect();
    assert_eq!(labels[1..], ["load test_klp_callbacks_demo"]);
    assert!(labels[0].starts_with("dynamic-debug"), "{labels:?}");
}

#[test]
fn a_busy_target_holds_the_transition() {
    let text = "load_mod test_klp_callbacks_busy block_transition=Y\n\
                load_lp_nowait test_klp_callbacks_demo\ndisable_lp test_klp_callbacks_demo\n";
    let yaml = imported(text).yaml;
    assert!(
        yaml.contains("transition: held\n    held_in: busymod_work_func\n"),
        "{yaml}"
    );
}

#[test]
fn what_is_in_other_branches_is_not_done() {
    let text = "if does_sysfs_exist a b; then\n  rmmod a\nelse\n  rmmod b\nfi\n\
                f() {\n  rmmod c\n}\nfor i in 1 2; do\n  rmmod d\ndone\nrmmod e\n";
    let imported = imported(text);
    let scenario = scenario(&imported);
    let labels: Vec<_> = scenario
        .steps
        .iter()
        .map(|step| step.action.label())
        .collect();
    assert_eq!(labels, ["unload a", "unload d", "unload e"]);
    let lines: Vec<_> = imported
        .unknown
        .iter()
        .map(|unknown| unknown.line)
        .collect();
    assert_eq!(lines, [1, 3, 4, 6, 7, 9]);
}

#[test]
fn a_strangers_text_leads_nowhere() {
    let text = "insmod ../../etc/a.ko\ninsmod $(reboot)\nrmmod 'a\u{1b}[2J'\ncat /proc/../etc/passwd\n\
                echo 1 > /etc/x\necho \"a\u{202e}\tb\" > /sys/x\ninsmod a.ko x='\"'\nrmmod true obj\n\
                echo '}\\n- load: x' > /sys/kernel/x\nrmmod true\n";
    let imported = imported(text);
    let scenario = scenario(&imported);
    let labels: Vec<_> = scenario
        .steps
        .iter()
        .map(|step| step.action.label())
        .collect();
    assert_eq!(labels, ["load a", "write /sys/kernel/x", "unload true"]);
    assert_eq!(imported.unknown.len(), 7);
    assert!(!imported.yaml.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn what_nobody_sees_is_written_in_figures() {
    let text = "F=cmdline\nif [[ \"$(cat /proc/$F)\" != \"a\u{202e}\u{e0001}b\" ]]; then\nfi\n";
    let imported = imported(text);
    assert!(
        imported.yaml.contains(r#"equals: "a\u202e\U000e0001b""#),
        "{}",
        imported.yaml
    );
    let scenario = scenario(&imported);
    let crate::step::Action::Read(crate::step::Read { equals, .. }) = &scenario.steps[0].action
    else {
        panic!("{}", imported.yaml);
    };
    assert_eq!(equals.as_deref(), Some("a\u{202e}\u{e0001}b"));
}

#[test]
fn a_text_without_commands_is_no_scenario() {
    let request = Request {
        text: "It does not work.\n",
        from: "x",
        test: None,
        files: &BTreeMap::new(),
    };
    assert_eq!(import(&request), None);
}

/// Whatever is cut out of a report or put into it, what comes of it has no mistakes.
#[test]
fn mangled_reports_give_scenarios_without_mistakes() {
    let text = format!("{REPORT}{SCRIPT}");
    let words: Vec<&str> = text.split_inclusive([' ', '\n', '/', '"']).collect();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let files = BTreeMap::new();
    for _ in 0..300 {
        let mut mangled = words.clone();
        for _ in 0..1 + random(20) {
            let (from, to) = (random(mangled.len()), random(mangled.len()));
            match random(3) {
                0 => drop(mangled.remove(from)),
                1 => mangled.swap(from, to),
                _ => mangled.insert(to, words[random(words.len())]),
            }
        }
        let text = mangled.concat();
        let request = Request {
            text: &text,
            from: "x",
            test: None,
            files: &files,
        };
        if let Some(imported) = import(&request) {
            scenario(&imported);
        }
    }
}
