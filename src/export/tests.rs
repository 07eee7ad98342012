// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exports as they are read by people, and what is refused.

use super::*;
use crate::yaml::Source;

fn scenario(text: &str) -> Scenario {
    let source = Source::new("x.yaml", text);
    let scenario = crate::scenario::parse("everything", &source);
    scenario
        .map_err(|errors| errors.render(&source, false))
        .unwrap()
}

/// Every step and expectation that bash can do, and text that wants to be more than text.
const EVERYTHING: &str = r#"
version: 1
summary: It's "all" of `it`, $HOME and \n too.
requires: { replace: tags, arch: [x86_64, arm64], capabilities: [kprobes-on-ftrace] }
targets:
  shop: { functions: { "price,1": 10, "price,2": 20, stock: 30 } }
livepatches:
  pricing-v1: { tag: 1, patches: { shop: { stock: 31 } } }
  pricing-v2: { tag: 4294967295, patches: { shop: { stock: 32 } } }
steps:
  - load: shop
    params: { mode: "a$(id)" }
    expect:
      livepatches: []
      modules: [shop]
      calls: { "shop.price,2": 20, shop.stock: -30 }
      transition: none
      enabled_functions: []
      whole_log: []
  - hold: shop.stock
  - load: pricing-v1
    transition: held
    timeout: 2500ms
    expect:
      transition: pricing-v1
      tags: { pricing-v1: 1 }
      patched: { pricing-v1: { shop: true } }
      stack_order: { pricing-v1: 1 }
      enabled_functions: [shop.stock, vmlinux.cmdline_proc_show]
      log: [enabling patch 'pricing_v1', "starting patching transition"]
      not_in_log: [patching complete]
  - load: pricing-v2
    transition: held
    held_in: do_nanosleep
  - { load: pricing-v2, errno: EINVAL }
  - { load: pricing-v2, errno: EBUSY }
  - { reverse: pricing-v1, timeout: 20s }
  - { reverse: pricing-v1, errno: EPERM }
  - { disable: pricing-v1, timeout: 1ms }
  - { disable: pricing-v1, errno: ENOENT }
  - force: pricing-v1
  - { force: pricing-v1, errno: EINVAL }
  - release: shop.stock
  - { unload: [pricing-v1, shop], errno: EAGAIN }
  - unload: pricing-v1
  - { call: "shop.price,1", returns: 10 }
  - call: shop.stock
  - read: /proc/version
  - { read: /proc/cmdline, equals: "it's $(here)" }
  - { read: /proc/cmdline, contains: "a\nb\\" }
  - { read: /proc/nothing, errno: ENOENT }
  - { write: /sys/kernel/livepatch/x/enabled, data: "a 'b' $c", errno: EINVAL }
  - { wait: /proc/version, equals: x, timeout: 3s }
  - { wait: /proc/version, exists: true }
  - { wait: /proc/version, absent: true }
  - { stat: /proc/version, rights: "-r--r--r--" }
  - { stat: /proc/nothing, errno: ENOENT }
  - trace: cmdline_proc_show
  - expect: { traced: [b, a] }
  - trace: none
  - dynamic-debug: [file kernel/livepatch/core.c +p, "func a -p"]
  - stat: /sys/kernel/livepatch/x/stack_order
    rights: "-r--r--r--"
    requires: { file: /sys/kernel/livepatch/x/stack_order }
    expect: { livepatches: [pricing-v1, pricing-v2] }
"#;

#[test]
fn a_script_says_everything_that_its_scenario_says() {
    let files = kselftest(&scenario(EVERYTHING)).unwrap();
    assert_eq!(files[0].name, "test-everything.sh");
    let (_, steps) = files[0].text.split_once("\nsetup_config\n").unwrap();
    insta::assert_snapshot!(steps);
}

#[test]
fn a_script_is_whole_by_itself() {
    let yaml =
        "version: 1\nsummary: A read.\nsteps:\n  - { read: /proc/version, contains: Linux }\n";
    let files = kselftest(&scenario(yaml)).unwrap();
    insta::assert_snapshot!(files[0].text);
}

#[test]
fn the_modules_have_a_makefile_and_say_what_the_kernel_has() {
    let files = kselftest(&scenario(EVERYTHING)).unwrap();
    let names: Vec<_> = files.iter().map(|file| &*file.name).collect();
    let shown = [
        "test_modules/Makefile",
        "test_modules/lab_has_replace_tags.c",
    ];
    let texts = files.iter().filter(|file| shown.contains(&&*file.name));
    let texts: String = texts
        .map(|file| format!("\n==> {} <==\n{}", file.name, file.text))
        .collect();
    insta::assert_snapshot!(format!("{}\n{texts}", names.join("\n")));
}

#[test]
fn a_bool_is_required_by_the_same_module() {
    let yaml =
        "version: 1\nsummary: x\nrequires: { replace: bool }\nsteps:\n  - read: /proc/version\n";
    let files = kselftest(&scenario(yaml)).unwrap();
    let line =
        "lab_probe lab_has_replace_tags && skip \"klp_patch.replace is no bool in this kernel\"";
    assert!(files[0].text.contains(line));
}

#[test]
fn what_a_script_cannot_do_is_refused() {
    let yaml = r#"
version: 1
summary: x
requires: { capabilities: [klp-build] }
targets: { test_klp_mod_target: kselftest }
livepatches:
  test_klp_livepatch: kselftest
  vendor: { klp-build: a.patch }
  lab-has-replace-tags: { patches: { vmlinux: { f: { signature: int f(void), body: return 0; } } } }
steps:
  - { spawn: hammers, hammer: getpid }
  - load: vendor
  - load: test_klp_livepatch
    params: { klp_pids: "${hammers.pids}" }
  - load: test_klp_mod_target
  - kill: hammers
  - klp-build: --no-replace
  - { read: /proc/self/stat, contains: x }
  - { read: /proc/version, contains: "a\0b" }
  - { wait: /proc/version, equals: "a\n\n" }
  - expect:
      log: ['a\b', é]
      not_in_log: [à]
  - expect: { whole_log: [ü] }
  - expect: { log: [klp_try_switch_task] }
  - expect: { whole_log: ["vendor: at *"] }
  - stat: /proc/version
    rights: "-r--r--r--"
    requires: { file: /proc/thread-self/comm }
mask: [{ text: "vendor: at *", reason: an address }]
"#;
    let problems = kselftest(&scenario(yaml)).unwrap_err();
    let lines = problems.iter().map(|problem| match problem.line {
        Some(line) => format!("{line}: {}\n", problem.what),
        None => format!("{}\n", problem.what),
    });
    insta::assert_snapshot!(lines.collect::<String>());
}
