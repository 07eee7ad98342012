// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users see when a scenario file is wrong: one fact per test.

use livepatch_lab::scenario::parse;
use livepatch_lab::yaml::Source;

/// The diagnostics of a broken file.
fn errors(text: &str) -> String {
    let source = Source::new("scenarios/test.yaml", text);
    match parse("test", &source) {
        Ok(scenario) => panic!("nothing is wrong with {scenario:?}"),
        Err(errors) => errors.render(&source, false),
    }
}

/// A file that is right up to its steps.
fn with_steps(steps: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
targets: {{ shop: {{ functions: {{ price: 10, stock: 20 }} }} }}
livepatches: {{ pricing-v1: {{ patches: {{ shop: {{ price: 11 }} }} }} }}
steps:
{steps}"
    ))
}

/// A file that is right but for its livepatches.
fn with_livepatches(livepatches: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
requires: {{ replace: tags }}
targets: {{ shop: {{ functions: {{ price: 10, stock: 20 }} }} }}
livepatches:
{livepatches}steps:
  - load: shop
"
    ))
}

#[test]
fn an_empty_file() {
    insta::assert_snapshot!(errors(""));
}

#[test]
fn a_file_of_comments_only() {
    insta::assert_snapshot!(errors("# nothing yet\n"));
}

#[test]
fn a_file_that_is_no_mapping() {
    insta::assert_snapshot!(errors("- load: shop\n"));
}

#[test]
fn no_version() {
    insta::assert_snapshot!(errors("summary: x\nsteps: []\n"));
}

#[test]
fn another_version_is_the_only_error() {
    insta::assert_snapshot!(errors("version: 2\nsteps: 7\nnonsense: x\n"));
}

#[test]
fn a_version_that_is_no_number() {
    insta::assert_snapshot!(errors("version: one\n"));
}

#[test]
fn tabs_as_indentation() {
    insta::assert_snapshot!(errors("version: 1\nsteps:\n\t- load: shop\n"));
}

#[test]
fn an_unclosed_bracket() {
    insta::assert_snapshot!(errors("version: 1\nsteps: [load: shop\nsummary: x\n"));
}

#[test]
fn an_unclosed_quote() {
    insta::assert_snapshot!(errors("version: 1\nsummary: \"never ends\nsteps: []\n"));
}

#[test]
fn an_alias_without_anchor() {
    insta::assert_snapshot!(errors("version: 1\nsummary: *text\n"));
}

#[test]
fn a_merge_key() {
    insta::assert_snapshot!(errors("version: 1\na: &a { b: 1 }\nc: { <<: *a }\n"));
}

#[test]
fn a_second_document() {
    insta::assert_snapshot!(errors("version: 1\n---\nversion: 1\n"));
}

#[test]
fn a_mapping_as_a_key() {
    insta::assert_snapshot!(errors("version: 1\n? { a: b }\n: c\n"));
}

#[test]
fn a_null_key() {
    insta::assert_snapshot!(errors("version: 1\n~: c\n"));
}

#[test]
fn duplicate_keys_are_all_reported() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nsummary: y\ntargets:\n  shop: { functions: { price: 1, price: 2 } }\n"
    ));
}

#[test]
fn a_file_that_is_too_large() {
    insta::assert_snapshot!(errors(&format!(
        "version: 1\nsummary: {}\n",
        "x".repeat(1 << 20)
    )));
}

#[test]
fn a_file_that_is_nested_too_deeply() {
    insta::assert_snapshot!(errors(&format!(
        "version: 1\nsteps: {}{}\n",
        "[".repeat(100),
        "]".repeat(100)
    )));
}

#[test]
fn a_file_with_too_many_values() {
    insta::assert_snapshot!(errors(&format!(
        "version: 1\nsteps: [{}]\n",
        "1,\n".repeat(20_000)
    )));
}

#[test]
fn aliases_that_nest_too_deeply() {
    let mut text = "version: 1\na0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn a_byte_order_mark_and_carriage_returns() {
    insta::assert_snapshot!(errors("\u{feff}version: 1\r\nsummary: é\r\nstesp: []\r\n"));
}

#[test]
fn an_alias_bomb() {
    let mut text = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let alias = format!("*a{}, ", level - 1).repeat(9);
        text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn an_unknown_key_with_a_neighbour() {
    insta::assert_snapshot!(with_steps(
        "  - load: shop
    expct: { modules: [shop] }
"
    ));
}

#[test]
fn an_unknown_key_without_a_neighbour() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { colour: red, patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn missing_keys() {
    insta::assert_snapshot!(errors("version: 1\ntargets: {}\n"));
}

#[test]
fn a_value_of_the_wrong_type() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { replace: yes, patches: [shop] }
"
    ));
}

#[test]
fn a_key_without_a_value() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches:
"
    ));
}

#[test]
fn a_number_where_text_is_wanted() {
    insta::assert_snapshot!(with_steps(
        "  - read: /proc/cmdline
    equals: 0
"
    ));
}

#[test]
fn a_negative_tag() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { tag: -1, patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn a_tag_that_is_too_large() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { tag: 4294967296, patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn tag_and_replace() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    tag: 1
    replace: true
    patches: { shop: { price: 11 } }
"
    ));
}

#[test]
fn a_tag_that_is_not_required() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nrequires: { replace: bool }\ntargets: { shop: { functions: { price: 10 } } }\nlivepatches: { fix: { tag: 1, patches: { shop: { price: 11 } } } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn unknown_requirements() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nrequires: { replace: tag, arch: [x86_64, aarch64] }\ntargets: { shop: { functions: { price: 10 } } }\nlivepatches: { fix: { patches: { shop: { price: 11 } } } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn empty_patches() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: {} }
  fix-too: { patches: { shop: {} } }
"
    ));
}

#[test]
fn no_steps() {
    insta::assert_snapshot!(with_steps(
        "  []
"
    ));
}

#[test]
fn module_names() {
    insta::assert_snapshot!(with_livepatches(
        "  Fix: { patches: { shop: { price: 11 } } }
  \"fix\\t1\": { patches: { shop: { price: 11 } } }
  a-name-that-goes-on-for-more-than-40-chars: { patches: { shop: { price: 11 } } }
  vmlinux: { patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn names_that_are_the_same_module() {
    insta::assert_snapshot!(with_livepatches(
        "  stock-fix: { patches: { shop: { price: 11 } } }
  stock_fix: { patches: { shop: { price: 11 } } }
  shop: { patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn function_names() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\ntargets: { shop: { functions: { while: 10, 1st: 1, a-b: 2, init_module: 3 } } }\nlivepatches: { fix: { patches: { shop: { while: 11 } } } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn a_patched_function_that_the_target_does_not_have() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: { shop: { pirce: 11, inventory: 3 } } }
"
    ));
}

#[test]
fn a_return_value_for_a_function_of_vmlinux() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: { vmlinux: { cmdline_proc_show: 1 } } }
"
    ));
}

#[test]
fn a_return_value_for_a_misspelt_target() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: { shpo: { price: 1 } } }
"
    ));
}

#[test]
fn an_object_that_is_patched_twice() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches:
      kvm-intel: { f: { signature: int f(void), body: return 0; } }
      kvm_intel: { g: { signature: int g(void), body: return 0; } }
"
    ));
}

#[test]
fn a_signature_of_another_function() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches:
      vmlinux:
        cmdline_proc_show:
          signature: int cmdline_show(struct seq_file *m, void *v)
          body: return 0;
"
    ));
}

#[test]
fn a_function_in_c_that_is_incomplete() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches:
      vmlinux:
        f:
          signature: int f(void);
          include: [<linux/seq_file.h>]
"
    ));
}

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
fn five_errors_of_five_kinds_are_all_reported() {
    insta::assert_snapshot!(with_steps(
        "  - load: pricing-v2
  - laod: shop
  - load: shop
    timeout: soon
  - call: shop.tax
    returns: ten
"
    ));
}

#[test]
fn escape_sequences_do_not_reach_the_terminal() {
    insta::assert_snapshot!(with_steps(
        "  - load: \"\\e[31mred\"
"
    ));
}

/// A file that is right but for the functions of its target, in block style.
fn with_functions(functions: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
targets:
  shop:
    functions:
{functions}livepatches: {{ fix: {{ patches: {{ vmlinux: {{ f: {{ signature: int f(void), body: return 0; }} }} }} }} }}
steps:
  - load: shop
"
    ))
}

/// As [`with_steps`], with two functions `stock` and a livepatch that klp-build makes.
fn with_namesakes(steps: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
targets: {{ my-shop: {{ functions: {{ price: 10, \"stock,1\": 20, \"stock,2\": 21 }} }} }}
livepatches:
  fix:
    patches: {{ my-shop: {{ price: 11 }} }}
    callbacks: {{ kvm-intel: {{ pre_patch: log }} }}
  built: {{ klp-build: built.patch }}
steps:
{steps}"
    ))
}

/// A file that is right up to where it is known to fail.
fn with_failures(failures: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
livepatches: {{ fix: {{ klp-build: fix.patch }} }}
steps:
  - {{ name: first, load: fix }}
  - {{ name: second, disable: fix }}
  - unload: fix
expect_failure:
{failures}"
    ))
}

#[test]
fn positions_that_are_none() {
    insta::assert_snapshot!(with_functions(
        "      price,0: 1
      price,01: 1
      price,1000: 1
      stock,1: 1
      stock,two: 1
"
    ));
}

#[test]
fn a_position_of_a_single_function() {
    insta::assert_snapshot!(with_functions(
        "      price,1: 10
      stock,2: 20
      tax,4: 30
"
    ));
}

#[test]
fn a_plain_function_beside_one_with_a_position() {
    insta::assert_snapshot!(with_functions(
        "      price: 10
      price,1: 11
      price,4: 12
"
    ));
}

#[test]
fn positions_with_gaps() {
    insta::assert_snapshot!(with_functions(
        "      price,5: 14
      price,2: 11
      price,3: 12
"
    ));
}

#[test]
fn a_comma_without_quotes() {
    insta::assert_snapshot!(errors(
        "version: 1
targets: { shop: { functions: { stock,1: 20, stock,2: 21 } } }
steps:
  - { call: shop.stock,1, returns: 20 }
"
    ));
}

#[test]
fn positions_of_patched_functions() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: x
targets: { shop: { functions: { price: 10, \"stock,1\": 20, \"stock,2\": 21 } } }
livepatches:
  right: { patches: { shop: { price: 1, \"price,1\": 1, stock: 2, \"stock,2\": 2 } } }
  fix: { patches: { shop: { \"price,2\": 11, \"stock,3\": 22, \"stok,1\": 2 } } }
steps: [load: shop]
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
fn a_livepatch_without_code() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { tag: 1 }
"
    ));
}

#[test]
fn a_livepatch_with_two_sources_of_code() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    klp-build: fix.patch
"
    ));
}

#[test]
fn what_klp_build_does_not_know() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    klp-build: fix.patch
    include: linux/slab.h
    preamble: static int seen;
    states: [{ id: 1, version: 2 }]
    callbacks: { shop: { pre_patch: log } }
"
    ));
}

#[test]
fn a_tag_of_klp_build_that_is_not_required() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nlivepatches: { fix: { tag: 1, klp-build: fix.patch } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn source_patches() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    klp-build:
      - /tmp/fix.patch
      - ../fix.patch
      - a//fix.diff
      - a b.patch
      - \"a\\tb.patch\"
      - fix.c
      - right.patch
      - right.patch
  empty: { klp-build: [] }
"
    ));
}

#[test]
fn an_empty_preamble_and_no_header() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    include: []
    preamble: \" \"
    states: []
    callbacks: {}
    patches: { shop: { price: 11 } }
"
    ));
}

#[test]
fn states() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    states:
      - { id: 0, version: 4294967296 }
      - { id: 1, version: 0 }
      - { id: 1, version: 2 }
      - { id: 3 }
"
    ));
}

#[test]
fn only_pre_patch_can_fail() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    callbacks:
      shop: { pre_patch: ENODEV, post_patch: ENODEV, pre_unpatch: EIO, post_unpatch: EPERM }
"
    ));
}

#[test]
fn callbacks_that_are_none() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    callbacks:
      shop: { pre_patch: EINVALID, post_patch: lgo, pre_unpatch: 1, post_unpatch: { boody: x } }
      kvm: { post-patch: log }
      nfs: {}
"
    ));
}

#[test]
fn callbacks_of_an_object_under_two_spellings() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    callbacks:
      kvm-intel: { pre_patch: log }
      kvm_intel: { pre_patch: log }
"
    ));
}

#[test]
fn a_livepatch_called_none() {
    insta::assert_snapshot!(with_livepatches(
        "  none: { patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn an_unknown_snapshot_scope() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nsnapshot: share\nlivepatches: { fix: { klp-build: fix.patch } }\nsteps: [load: fix]\n"
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
fn a_file_name_that_is_no_scenario_name() {
    let text = include_str!("../scenarios/builtin-cmdline.yaml");
    let source = Source::new("Built In.yaml", text);
    let errors = parse("Built In", &source).unwrap_err();
    insta::assert_snapshot!(errors.render(&source, false));
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

#[test]
fn modules_of_the_kernels_selftests_have_no_content() {
    insta::assert_snapshot!(with_livepatches(
        "  test_klp_livepatch: kselftests
  test_klp_state: 1
"
    ));
}
