// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file as a whole: YAML, keys, values, limits.

use livepatch_lab::scenario::parse;
use livepatch_lab::yaml::Source;

use super::{errors, with_livepatches, with_steps};

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
fn a_machine_that_no_guest_is() {
    let all = "version: 1\nsummary: x\nmachine:\n  cpus: 65\n  memory: 100M\n  append: slub_debug=FZ \
               panic=1\nsteps:\n  - read: /proc/cmdline\n";
    insta::assert_snapshot!(errors(all));
    let types = "version: 1\nsummary: x\nmachine: { cpus: two, memory: 512, append: 1, cpu: 1 }\n\
                 steps:\n  - read: /proc/cmdline\n";
    insta::assert_snapshot!(errors(types));
}

#[test]
fn words_that_leave_their_line() {
    for odd in ["\"a\\nb\"", "\"a\\0b\"", "'a\"b'", "\"a'b\"", "a;b", "a$b"] {
        let text = format!(
            "version: 1\nsummary: x\nmachine: {{ append: {odd} }}\nsteps:\n  - read: /proc/cmdline\n"
        );
        assert!(
            errors(&text).contains("is no part of a word of the command line"),
            "{odd}"
        );
    }
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
fn unknown_requirements() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nrequires: { replace: tag, arch: [x86_64, aarch64] }\ntargets: { shop: { functions: { price: 10 } } }\nlivepatches: { fix: { patches: { shop: { price: 11 } } } }\nsteps: [load: fix]\n"
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
fn an_unknown_snapshot_scope() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nsnapshot: share\nlivepatches: { fix: { klp-build: fix.patch } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn a_file_name_that_is_no_scenario_name() {
    let text = include_str!("../../../scenarios/builtin-cmdline.yaml");
    let source = Source::new("Built In.yaml", text);
    let errors = parse("Built In", &source).unwrap_err();
    insta::assert_snapshot!(errors.render(&source, false));
}

#[test]
fn numbers_that_are_none() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: 007
targets:
  shop: { functions: { a: \"11\", b: 011, c: 1.0, d: 1e3, e: 0.5, f: -09, g: ten } }
steps:
  - { call: shop.a, returns: \"11\" }
  - { wait: /proc/x, exists: \"true\" }
"
    ));
}

#[test]
fn a_comma_with_spaces_or_in_a_list() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: x
targets: { shop: { functions: { \"stock,1\": 20, \"stock,2\": 21 } } }
livepatches:
  a: { patches: { shop: { stock ,2: 20 } } }
  b: { patches: { shop: { stock, 2: 20 } } }
  c: { patches: { shop: { stock,1: 20, stock,2: 22, tax,1: 3 } } }
steps:
  - expect: { enabled_functions: [shop.stock,2] }
"
    ));
}

#[test]
fn a_tab_is_shown_where_it_is() {
    insta::assert_snapshot!(errors(
        "version: 1\nsteps:\n  - load: shop\n\t- load: shop\n"
    ));
    insta::assert_snapshot!(errors(
        "version: 1\nsteps:\n  - load: shop\n    expect:\n\t  modules: [shop]\n"
    ));
}

#[test]
fn commands_that_are_no_steps() {
    insta::assert_snapshot!(with_steps(
        "  - insmod: shop
  - modprobe: shop
  - rmmod: shop
  - cat: /proc/cmdline
  - echo: \"1\"
  - sleep: 3
  - { load: shop, error: EEXIST }
  - { load: shop, errno: eexist }
  - { assert: { modules: [] } }
"
    ));
}
