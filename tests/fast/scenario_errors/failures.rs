// SPDX-License-Identifier: MIT OR Apache-2.0
//! Known failures and allowed splats.

use super::{errors, with_failures};

#[test]
fn an_expected_failure_that_is_incomplete() {
    insta::assert_snapshot!(with_failures(
        "  - { kernel: Mainline, step: first, failure: \"\" }
"
    ));
}

#[test]
fn splats_that_are_allowed_are_named_and_explained() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: x
livepatches: { fix: { klp-build: fix.patch } }
steps: [load: fix]
allow_splats:
  - { title: BUG, reason: too short a title allows nearly all }
  - { title: \"WARNING: kernel/livepatch\" }
  - { titel: \"WARNING: kernel/livepatch\", reason: x }
  - WARNING
"
    ));
}

#[test]
fn no_expected_failures() {
    insta::assert_snapshot!(with_failures(
        "  []
"
    ));
}

#[test]
fn an_expected_failure_at_an_unknown_step() {
    insta::assert_snapshot!(with_failures(
        "  - { kernel: a, step: frist, failure: x, reason: y }
  - { kernel: a, step: the-end, failure: x, reason: y }
"
    ));
}

#[test]
fn an_expected_failure_without_any_named_step() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: x
livepatches: { fix: { klp-build: fix.patch } }
steps: [load: fix]
expect_failure: [{ kernel: a, step: first, failure: x, reason: y }]
"
    ));
}

#[test]
fn a_kernel_that_is_to_fail_twice_at_a_step() {
    insta::assert_snapshot!(with_failures(
        "  - { kernel: [a, b], step: first, failure: x, reason: y }
  - { kernel: b, step: second, failure: x, reason: y }
  - { kernel: [c, c, b], step: first, failure: z, reason: y }
"
    ));
}

#[test]
fn masks_say_where_they_are_and_why() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: A test.
targets: { shop: { functions: { price: 10 } } }
steps:
  - load: shop
mask:
  - { text: \"log shop: at *\" }
  - { text: \"*: at 0x1234\", reason: x }
  - { text: \"log shop\", reason: x }
  - { text: \"at *\", reason: x }
  - { text: \"log shop: **\", reason: x }
"
    ));
}
