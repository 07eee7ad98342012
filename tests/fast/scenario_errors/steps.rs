// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps: what they do and to whom.

use super::{with_namesakes, with_steps};

#[test]
fn an_unknown_livepatch() {
    insta::assert_snapshot!(with_steps(
        "  - load: pricing-v3
  - disable: pricing_v1
  - unload: [shop, inventory]
"
    ));
}

#[test]
fn a_target_cannot_be_disabled() {
    insta::assert_snapshot!(with_steps(
        "  - disable: shop
"
    ));
}

#[test]
fn an_unknown_function_is_called() {
    insta::assert_snapshot!(with_steps(
        "  - call: shop.tax
"
    ));
}

#[test]
fn two_actions_in_a_step() {
    insta::assert_snapshot!(with_steps(
        "  - load: shop
    disable: pricing-v1
"
    ));
}

#[test]
fn a_step_without_an_action() {
    insta::assert_snapshot!(with_steps(
        "  - timeout: 3s
"
    ));
}

#[test]
fn a_step_that_is_no_mapping() {
    insta::assert_snapshot!(with_steps(
        "  - load shop
"
    ));
}

#[test]
fn keys_that_need_another_one() {
    insta::assert_snapshot!(with_steps(
        "  - disable: pricing-v1
    params: { a: b }
  - call: shop.price
    errno: EINVAL
  - wait: /proc/cmdline
  - wait: /proc/cmdline
    exists: true
    absent: true
  - wait: /proc/cmdline
    exists: false
"
    ));
}

#[test]
fn errnos_are_names() {
    insta::assert_snapshot!(with_steps(
        "  - load: shop
    errno: -22
  - load: shop
    errno: EINVALID
"
    ));
}

#[test]
fn paths_outside_the_kernels_file_systems() {
    insta::assert_snapshot!(with_steps(
        "  - read: /etc/passwd
  - read: proc/cmdline
  - read: /proc/../etc/passwd
  - wait: \"/proc/a\\nb\"
    exists: true
"
    ));
}

#[test]
fn parameters_without_white_space() {
    insta::assert_snapshot!(with_steps(
        "  - load: shop
    params: { \"a b\": c, mode: very fast, level: 3 }
"
    ));
}

#[test]
fn a_duration_without_a_unit() {
    insta::assert_snapshot!(with_steps(
        "  - load: shop
    timeout: 30
  - load: shop
    timeout: 0s
"
    ));
}

#[test]
fn a_name_that_stands_twice_in_a_list() {
    insta::assert_snapshot!(with_steps(
        "  - unload: [shop, shop]
"
    ));
}

#[test]
fn functions_are_called_as_they_are_spelt() {
    insta::assert_snapshot!(with_namesakes(
        "  - call: my-shop.price,1
  - call: my-shop.stock
  - hold: my-shop.stock,3
  - expect: { calls: { my-shop.stok: 1, \"my-shop.price,x\": 1 } }
"
    ));
}

#[test]
fn names_of_steps() {
    insta::assert_snapshot!(with_steps(
        "  - { name: same, load: shop }
  - { name: same, load: pricing-v1 }
  - { name: In The Window, disable: pricing-v1 }
  - name: nothing-happens
"
    ));
}

#[test]
fn transitions_that_nobody_starts() {
    insta::assert_snapshot!(with_steps(
        "  - { unload: shop, transition: completes }
  - { load: pricing-v1, errno: EINVAL, transition: completes }
  - { load: pricing-v1, transition: complete }
"
    ));
}

#[test]
fn a_target_has_no_transition() {
    insta::assert_snapshot!(with_steps(
        "  - { load: shop, transition: held }
"
    ));
}

#[test]
fn a_transition_is_held_by_nothing() {
    insta::assert_snapshot!(with_steps(
        "  - { load: pricing-v1, transition: held }
  - hold: shop.price
  - release: shop.price
  - { disable: pricing-v1, transition: held }
"
    ));
}

#[test]
fn a_function_that_is_held_twice() {
    insta::assert_snapshot!(with_steps(
        "  - hold: shop.price
  - hold: shop.stock
  - hold: shop.price
"
    ));
}

#[test]
fn a_function_that_is_released_but_not_held() {
    insta::assert_snapshot!(with_steps(
        "  - release: shop.stock
  - hold: shop.price
  - release: shop.stock
  - release: shop.price
  - release: shop.price
  - release: shop.price
"
    ));
}

#[test]
fn a_function_that_is_released_while_another_is_held() {
    insta::assert_snapshot!(with_steps(
        "  - hold: shop.price
  - release: shop.stock
"
    ));
}

#[test]
fn a_misspelt_function_is_the_only_error_about_what_is_held() {
    insta::assert_snapshot!(with_steps(
        "  - hold: shop.pirce
  - { load: pricing-v1, transition: held }
  - release: shop.price
"
    ));
}

#[test]
fn livepatches_that_cannot_be_forced_or_reversed() {
    insta::assert_snapshot!(with_steps(
        "  - force: shop
  - reverse: pricing-v2
"
    ));
}

#[test]
fn data_and_write_go_together() {
    insta::assert_snapshot!(with_steps(
        "  - write: /sys/kernel/livepatch/pricing_v1/enabled
  - { read: /proc/cmdline, data: \"1\" }
  - { write: /etc/passwd, data: \"1\" }
"
    ));
}

#[test]
fn data_that_does_not_fit_into_a_line() {
    let long = "x".repeat(4097);
    insta::assert_snapshot!(with_steps(&format!(
        "  - {{ write: /proc/x, data: 1 }}
  - {{ write: /proc/x, data: \"a\\tb\" }}
  - {{ write: /proc/x, data: \"1\\n\" }}
  - {{ write: /proc/x, data: \"\\0\" }}
  - {{ write: /proc/x, data: {long} }}
"
    )));
}

#[test]
fn a_failed_read_has_no_content() {
    insta::assert_snapshot!(with_steps(
        "  - { read: /proc/x, errno: ENOENT, equals: x }
  - { read: /proc/x, contains: x, errno: ENOENT }
"
    ));
}

#[test]
fn processes_that_nobody_spawned() {
    insta::assert_snapshot!(with_steps(
        "  - { load: shop, params: { pids: \"${hamers.pids}\" } }
  - kill: hammers
  - { spawn: hammers, hammer: getpid }
  - { load: shop, params: { pids: \"${hamers.pids}\" } }
  - { spawn: hammers, hammer: getpid }
"
    ));
}

#[test]
fn new_steps_that_are_incomplete() {
    insta::assert_snapshot!(with_steps(
        "  - stat: /proc/cmdline
  - { stat: /proc/cmdline, rights: rw }
  - { stat: /proc/cmdline, rights: \"-r--r--r--\", errno: ENOENT }
  - spawn: hammers
  - { load: pricing-v1, held_in: busy }
  - { trace: 1st, hammer: getpid }
  - dynamic-debug: []
  - { expect: { livepatches: [] }, requires: { file: stack_order } }
"
    ));
}
