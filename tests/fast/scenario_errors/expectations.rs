// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is expected after a step.

use super::{with_namesakes, with_steps};

#[test]
fn unknown_names_in_an_expectation() {
    insta::assert_snapshot!(with_steps(
        "  - expect:
      livepatches: [pricing-v2]
      calls: { shop.pric: 1, shpo.price: 1, price: 1 }
      tags: { shop: 1 }
      modules: [sohp]
      patched: { pricing-v1: { vmlinux: true } }
"
    ));
}

#[test]
fn an_empty_expectation() {
    insta::assert_snapshot!(with_steps(
        "  - expect: {}
"
    ));
}

#[test]
fn the_place_in_the_stack_counts_from_one() {
    insta::assert_snapshot!(with_steps(
        "  - expect: { stack_order: { pricing-v1: 0, pricing-v2: 1, shop: 1 } }
"
    ));
}

#[test]
fn an_unknown_livepatch_in_transition() {
    insta::assert_snapshot!(with_steps(
        "  - expect: { transition: pricing-v2 }
  - expect: { transition: nonee }
  - expect: { transition: shop }
  - expect: { transition: None }
  - expect: { transition: ~ }
"
    ));
}

#[test]
fn unknown_enabled_functions() {
    insta::assert_snapshot!(with_namesakes(
        "  - expect:
      enabled_functions:
        - my-shop.price
        - my_shop.price
        - my_shop.pric
        - my-shop.stock,1
        - cmdline_proc_show
        - fix.price
        - vmlinux.f
        - vmlinux.f
"
    ));
}

#[test]
fn log_lines() {
    insta::assert_snapshot!(with_steps(
        "  - expect: { log: [], not_in_log: \" \" }
  - expect: { log: [\"a\\nb\"], not_in_log: [a, a] }
"
    ));
}

#[test]
fn an_object_that_is_neither_patched_nor_called_back() {
    insta::assert_snapshot!(with_namesakes(
        "  - expect: { patched: { fix: { vmlinux: true, kvm_intel: true }, built: { any: true } } }
"
    ));
}

#[test]
fn a_text_that_no_line_of_the_log_can_have() {
    let long = "x".repeat(1025);
    insta::assert_snapshot!(
        with_steps(&format!(
            "  - expect:
      log:
        - \"[    1.017537] livepatch: enabling patch 'pricing_v1'\"
  - expect:
      whole_log:
        - \"livepatch: 'pricing_v1': patching complete\"
        - signaling remaining tasks
        - \"klp_try_switch_task: swapper/0:0 is running\"
        - \"pricing_v1: loading out-of-tree module taints kernel.\"
  - expect: {{ not_in_log: {long} }}
"
        ))
        .replace(&long, "xxx…")
    );
}

#[test]
fn a_text_that_must_be_in_the_log_and_must_not() {
    insta::assert_snapshot!(with_steps(
        "  - expect: { log: \"'pricing_v1': patching complete\", not_in_log: [patching, failed] }
  - expect: { whole_log: [\"shop: sold out\"], not_in_log: sold }
"
    ));
}
