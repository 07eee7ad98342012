// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that are right each by itself, but cannot work one after the other; and those that can.

use livepatch_lab::scenario::check;
use livepatch_lab::yaml::Source;

use super::with_story;

#[test]
fn a_module_that_is_loaded_is_not_loaded_again() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - load: shop
  - load: own
  - unload: shop
  - load: shop
  - load: own
"
    ));
}

#[test]
fn nothing_is_done_with_what_is_not_loaded() {
    insta::assert_snapshot!(with_story(
        "  - call: shop.price
  - call: shop.stock
  - disable: v1
  - reverse: v2
  - force: v3
  - load: built
  - disable: built
  - unload: [own, built]
  - unload: built
"
    ));
}

#[test]
fn a_function_of_a_target_that_is_gone() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - unload: shop
  - hold: shop.price
  - release: shop.price
"
    ));
}

#[test]
fn answers_are_not_expected_of_what_is_not_loaded() {
    insta::assert_snapshot!(with_story(
        "  - load: v1
    expect: { calls: { shop.price: 11, shop.stock: 20 } }
  - load: shop
    expect: { calls: { shop.price: 11 } }
  - unload: shop
    expect: { calls: { shop.stock: 20 } }
"
    ));
}

#[test]
fn what_is_in_use_is_not_unloaded() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - load: v1
  - unload: v1
  - hold: shop.stock
  - unload: shop
  - release: shop.stock
"
    ));
}

#[test]
fn what_was_disabled_or_replaced_is_not_disabled() {
    insta::assert_snapshot!(with_story(
        "  - load: v1
  - load: v2
  - disable: v1
  - disable: v2
  - reverse: v2
"
    ));
}

#[test]
fn a_transition_that_is_not_open_is_not_forced() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - load: v1
  - force: v1
  - hold: shop.price
  - { load: v2, transition: held }
  - force: v1
  - force: v2
  - release: shop.price
"
    ));
}

#[test]
fn a_transition_does_not_complete_while_its_function_is_held() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - load: v1
  - hold: shop.price
  - load: v2
  - release: shop.price
"
    ));
    // Its version goes with the livepatch, or with the one that is replaced.
    let disable = "  - load: shop
  - load: v1
  - hold: shop.price
  - disable: v1
  - release: shop.price
";
    assert!(with_story(disable).contains("step 3 holds shop.price, which v1 changes"));
    let replace = "  - load: shop
  - load: v2
  - hold: shop.price
  - load: v3
  - release: shop.price
";
    assert!(with_story(replace).contains("step 3 holds shop.price, which v3 changes"));
}

#[test]
fn a_release_leaves_what_else_is_held() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - load: v2
  - hold: shop.price
  - hold: shop.stock
  - { load: v3, transition: held }
  - release: shop.stock
  - release: shop.price
"
    ));
}

#[test]
fn nothing_holds_the_transition() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - hold: shop.stock
  - { load: v1, transition: held }
  - release: shop.stock
"
    ));
}

#[test]
fn what_is_held_to_the_end_is_odd() {
    insta::assert_snapshot!(with_story(
        "  - load: shop
  - hold: shop.price
  - { load: v1, transition: held }
"
    ));
}

#[test]
fn a_callback_that_fails_refuses_the_module() {
    let check_of = |steps: &str| {
        let text = format!(
            "version: 1
summary: A test.
targets: {{ shop: {{ functions: {{ price: 10 }} }} }}
livepatches:
  early:
    patches: {{ shop: {{ price: 11 }} }}
    callbacks: {{ vmlinux: {{ pre_patch: ENODEV }} }}
  late:
    patches: {{ shop: {{ price: 11 }} }}
    callbacks: {{ shop: {{ pre_patch: ENODEV }} }}
steps:
{steps}"
        );
        let source = Source::new("scenarios/test.yaml", text);
        check("test", &source)
            .map_or_else(|errors| errors.render(&source, false), |_| String::new())
    };
    insta::assert_snapshot!(check_of(
        "  - load: early\n  - load: late\n  - load: shop\n"
    ));
    let right = "  - { load: early, errno: ENODEV }
  - load: late
  - { load: shop, errno: ENODEV }
  - disable: late
  - load: shop
  - unload: late
  - { load: late, errno: ENODEV }
";
    assert_eq!(check_of(right), "");
}

#[test]
fn processes_are_killed_once() {
    insta::assert_snapshot!(with_story(
        "  - { spawn: hammers, hammer: getpid }
  - { spawn: others, hammer: getpid, requires: { file: /proc/x } }
  - kill: hammers
  - kill: others
  - kill: hammers
"
    ));
}

#[test]
fn a_mistake_that_is_meant_is_none() {
    for steps in [
        // Each says that it must fail.
        "  - { unload: shop, errno: ENOENT }
  - load: shop
  - { load: shop, errno: EEXIST }
  - { disable: v1, errno: ENOENT }
  - load: v1
  - { force: v1, errno: EINVAL }
  - { unload: v1, errno: EAGAIN }
",
        // It may have been left out, or may have done anything.
        "  - { load: shop, requires: { file: /proc/x } }
  - load: shop
  - { unload: shop, requires: { file: /proc/x } }
  - call: shop.price
  - unload: shop
",
        "  - load: shop
  - load: v1
  - { write: /sys/kernel/livepatch/v1/enabled, data: \"0\" }
  - { wait: /sys/kernel/livepatch/v1, absent: true }
  - unload: v1
",
        // A kernel's own module may do anything when it is loaded.
        "  - load: own
  - unload: own
",
        // It is known to fail on some kernel.
        "  - load: shop
  - { name: twice, load: shop }
expect_failure: [{ kernel: k, step: twice, failure: EEXIST, reason: x }]
",
        // A task in an old version holds up nothing that is newer.
        "  - load: shop
  - hold: shop.price
  - { load: v1, transition: held }
  - force: v1
  - load: v2
  - release: shop.price
",
        // Below the top, a version can go.
        "  - load: shop
  - load: v1
  - hold: shop.stock
  - { load: v3, transition: held }
  - { reverse: v3 }
  - disable: v1
  - release: shop.stock
",
        // Who knows what is on the stack of the task.
        "  - load: shop
  - hold: shop.price
  - { load: built, transition: held }
  - release: shop.price
",
        // One after the other.
        "  - load: shop
  - load: v2
  - hold: shop.price
  - hold: shop.stock
  - { load: v3, transition: held }
  - { release: shop.stock, transition: held }
  - release: shop.price
  - unload: v2
  - disable: v3
  - unload: [v3, shop]
  - load: v3
",
    ] {
        assert_eq!(with_story(steps), "", "{steps}");
    }
}

/// A livepatch of a function that its target lacks, and a target whose init fails.
fn with_refusals(steps: &str) -> String {
    let text = format!(
        "version: 1
summary: A test.
targets:
  fuse: {{ functions: {{ open: 1 }} }}
  aesni: {{ functions: {{ crypt: 1 }}, init: ENODEV }}
livepatches:
  fix: {{ replace: false, patches: {{ fuse: {{ flush: 2 }} }} }}
  other: {{ replace: false, patches: {{ aesni: {{ crypt: 2 }} }} }}
steps:
{steps}"
    );
    let source = Source::new("scenarios/test.yaml", text);
    check("test", &source).map_or_else(|errors| errors.render(&source, false), |_| String::new())
}

#[test]
fn a_module_that_the_kernel_refuses_is_not_loaded() {
    // Nothing says that anything is refused.
    let unknown = with_refusals("  - load: fix\n  - load: other\n");
    assert!(
        unknown.contains("error: target `fuse` has no function `flush`"),
        "{unknown}"
    );
    let right = "  - load: fix
  - { load: fuse, errno: EINVAL }
  - disable: fix
  - load: fuse
  - unload: fix
  - { load: fix, errno: EINVAL }
  - { load: aesni, errno: ENODEV }
";
    assert_eq!(with_refusals(right), "");
    insta::assert_snapshot!(with_refusals(
        "  - load: fix
  - { load: fuse, errno: EINVAL }
  - load: fuse
  - disable: fix
  - unload: fix
  - load: aesni
  - load: other
"
    ));
    insta::assert_snapshot!(with_refusals(
        "  - load: fuse
  - load: fix
  - { load: fix, errno: EINVAL }
"
    ));
}

#[test]
fn files_of_modules_that_no_kernel_has() {
    let text = "version: 1
summary: A test.
targets: { my-shop: { functions: { price: 10 } } }
livepatches: { v-1: { patches: { my-shop: { price: 11 } } } }
steps:
  - { read: /sys/kernel/livepatch/v-1/enabled, requires: { file: /proc/x } }
  - { wait: /sys/kernel/livepatch/v-1, absent: true }
  - { stat: /sys/module/my-shop, errno: ENOENT }
  - { load: v-1, requires: { file: /sys/kernel/livepatch/v-1/replace } }
  - { stat: /sys/kernel/livepatch/other-1, errno: ENOENT }
  - expect: { log: [\"enabling patch 'v-1'\", my-shop], not_in_log: \"'v-1': patching\" }
";
    let source = Source::new("scenarios/test.yaml", text);
    let errors = check("test", &source).unwrap_err();
    insta::assert_snapshot!(errors.render(&source, false));
}
