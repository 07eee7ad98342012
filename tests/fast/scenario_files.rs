// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenarios that come with the lab, and what a scenario becomes when it is read.

use std::fs;
use std::path::Path;

use livepatch_lab::scenario::{
    Action, Callback, Code, Errno, Expect, Generated, NewFunction, Replace, Scenario,
    SnapshotScope, Snippet, State, Symbol, Transition, check, oddities, parse, schema,
};
use livepatch_lab::step::{KlpBuild, Load, Wait, WaitUntil, Write};
use livepatch_lab::yaml::Source;

fn read(text: &str) -> Scenario {
    let source = Source::new("test.yaml", text);
    parse("test", &source).unwrap_or_else(|errors| panic!("{}", errors.render(&source, false)))
}

fn generated(scenario: &Scenario, livepatch: usize) -> &Generated {
    let code = scenario.livepatches[livepatch].generated();
    code.expect("the lab generates this livepatch")
}

#[test]
fn every_scenario_of_the_lab_is_right() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = Source::new(path.to_str().unwrap(), fs::read_to_string(&path).unwrap());
        if let Err(errors) = parse(name, &source) {
            panic!("{}", errors.render(&source, false));
        }
        assert!(
            source.text.starts_with("# SPDX-License-Identifier: "),
            "{name}"
        );
        count += 1;
    }
    assert!(count >= 24, "only {count} scenarios");
}

#[test]
fn every_action_has_a_label_and_a_line() {
    let scenario = read(
        "version: 1
summary: All actions.
targets: { shop: { functions: { price: 10 } } }
livepatches: { pricing-v1: { patches: { shop: { price: 11 } } } }
steps:
  - load: shop
    params: { mode: fast, level: '3' }
  - { load: pricing-v1, errno: EINVAL, timeout: 500ms }
  - disable: pricing-v1
  - unload: [pricing-v1, shop]

  - { call: shop.price, returns: -1 }
  - { read: /proc/cmdline, contains: x }
  - { wait: /sys/kernel/livepatch/x/transition, equals: '0' }
  - expect: { calls: { shop.price: 10 } }
  - hold: shop.price
  - { load: pricing-v1, transition: held }
  - { reverse: pricing-v1, errno: EBUSY }
  - { force: pricing-v1, errno: EINVAL }
  - release: shop.price
  - { write: /sys/kernel/livepatch/x/enabled, data: '0', errno: ENOENT }
  - { read: /proc/x, errno: ENOENT }
",
    );
    let steps: Vec<_> = scenario
        .steps
        .iter()
        .map(|s| (s.line, s.action.label()))
        .collect();
    let steps: Vec<_> = steps
        .iter()
        .map(|(line, label)| (*line, label.as_str()))
        .collect();
    assert_eq!(
        steps,
        [
            (6, "load shop"),
            (8, "load pricing-v1"),
            (9, "disable pricing-v1"),
            (10, "unload pricing-v1, shop"),
            (12, "call shop.price"),
            (13, "read /proc/cmdline"),
            (14, "wait for /sys/kernel/livepatch/x/transition"),
            (15, "expect"),
            (16, "hold shop.price"),
            (17, "load pricing-v1"),
            (18, "reverse pricing-v1"),
            (19, "force pricing-v1"),
            (20, "release shop.price"),
            (21, "write /sys/kernel/livepatch/x/enabled"),
            (22, "read /proc/x"),
        ]
    );
    let Action::Load(Load { params, .. }) = &scenario.steps[0].action else {
        panic!()
    };
    let params: Vec<_> = params
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(params, [("mode", "fast"), ("level", "3")]);
    assert_eq!(
        scenario.steps[1].action.errno().map(|errno| errno.number()),
        Some(22)
    );
    assert_eq!(scenario.steps[1].timeout.map(|t| t.as_millis()), Some(500));
    let Action::Wait(Wait { until, .. }) = &scenario.steps[6].action else {
        panic!()
    };
    assert_eq!(*until, WaitUntil::Equals("0".to_owned()));
    let errnos = scenario.steps[8..].iter().map(|step| step.action.errno());
    let errnos: Vec<_> = errnos.map(|errno| errno.map(Errno::name)).collect();
    assert_eq!(
        errnos,
        [
            None,
            None,
            Some("EBUSY"),
            Some("EINVAL"),
            None,
            Some("ENOENT"),
            Some("ENOENT"),
        ]
    );
    let Action::Write(Write { data, .. }) = &scenario.steps[13].action else {
        panic!()
    };
    assert_eq!(data, "0");
}

#[test]
fn a_transition_completes_unless_it_is_held() {
    let scenario = read(
        "version: 1
summary: Transitions.
targets: { shop: { functions: { price: 10, stock: 20 } } }
livepatches: { fix: { patches: { shop: { price: 11 } } } }
steps:
  - { load: shop, transition: completes }
  - hold: shop.price
  - hold: shop.stock
  - { load: fix, transition: held }
  - release: shop.stock
  - { reverse: fix, transition: held }
  - { reverse: fix, transition: completes }
  - release: shop.price
  - hold: shop.price
  - { disable: fix, transition: held }
  - disable: fix
",
    );
    let transitions: Vec<_> = scenario
        .steps
        .iter()
        .filter(|step| !matches!(step.action, Action::Release(_)))
        .filter_map(|step| step.action.effects().transition.cloned())
        .collect();
    use Transition::{Completes, Held};
    assert_eq!(
        transitions,
        // A target has no transition.
        [Transition::None, Held, Held, Completes, Held, Completes]
    );
}

#[test]
fn functions_of_one_name_follow_each_other() {
    let scenario = read(
        "version: 1
summary: Namesakes.
targets:
  shop:
    functions:
      stock,2: 21
      price: 10
      stock,1: 20
livepatches:
  fix: { patches: { shop: { stock: 1, \"stock,2\": 2, \"price,1\": 3 } } }
  elsewhere:
    patches:
      vmlinux: { \"show,7\": { signature: int show(void), body: return 0; } }
steps:
  - call: shop.stock,2
  - expect: { calls: { \"shop.stock,1\": 20 }, enabled_functions: [shop.stock] }
",
    );
    let functions = scenario.targets[0].functions.iter();
    let functions: Vec<_> = functions
        .map(|f| (f.symbol.to_string(), f.returns))
        .collect();
    let functions: Vec<_> = functions.iter().map(|(s, r)| (s.as_str(), *r)).collect();
    assert_eq!(functions, [("stock,1", 20), ("stock,2", 21), ("price", 10)]);
    let symbols = |livepatch| -> Vec<(&str, u32)> {
        let functions = generated(&scenario, livepatch).objects[0].functions.iter();
        functions
            .map(|f| (f.symbol.name.as_str(), f.symbol.sympos))
            .collect()
    };
    assert_eq!(symbols(0), [("stock", 0), ("stock", 2), ("price", 1)]);
    assert_eq!(symbols(1), [("show", 7)]);
    assert_eq!(scenario.steps[0].action.label(), "call shop.stock,2");
    let expect = scenario.steps[1].expect.as_ref().unwrap();
    let (function, _) = &expect.calls[0];
    assert_eq!(
        function.symbol,
        Symbol {
            name: "stock".to_owned(),
            sympos: 1
        }
    );
    let traced = &expect.enabled_functions.as_ref().unwrap()[0];
    assert_eq!(traced.to_string(), "shop.stock");
}

#[test]
fn a_livepatch_may_have_states_callbacks_and_code_of_its_own() {
    let scenario = read(
        "version: 1
summary: All of it.
targets: { my-shop: { functions: { price: 10 } } }
livepatches:
  fix:
    patches: { my-shop: { price: 11 } }
    include: linux/slab.h
    preamble: |
      static int seen;
    states: [{ id: 4294967295, version: 0 }, { id: 1, version: 2 }]
    callbacks:
      my_shop: { pre_patch: log, post_patch: { body: seen = 1; } }
      vmlinux: { pre_patch: ENODEV, pre_unpatch: log, post_unpatch: log }
steps: [expect: { patched: { fix: { my_shop: true, vmlinux: false } } }]
",
    );
    let generated = generated(&scenario, 0);
    let headers = |all: &[Snippet]| all.iter().map(|it| it.text.clone()).collect::<Vec<_>>();
    assert_eq!(headers(&generated.include), ["linux/slab.h"]);
    let preamble = generated.preamble.as_ref();
    assert_eq!(preamble.map(|code| &*code.text), Some("static int seen;\n"));
    let state = |id, version| State { id, version };
    assert_eq!(generated.states, [state(u32::MAX, 0), state(1, 2)]);
    let [shop, vmlinux] = &generated.callbacks[..] else {
        panic!()
    };
    assert_eq!(shop.object, "my-shop");
    assert_eq!(shop.pre_patch, Some(Callback::Log));
    let is_code = |callback: &Option<Callback>| matches!(callback, Some(Callback::C(code)) if code.text == "seen = 1;");
    assert!(is_code(&shop.post_patch), "{shop:?}");
    assert_eq!((&shop.pre_unpatch, &shop.post_unpatch), (&None, &None));
    let enodev = Errno::from_name("ENODEV").map(Callback::Fail);
    assert_eq!(vmlinux.object, "vmlinux");
    assert_eq!(vmlinux.pre_patch, enodev);
    assert_eq!(vmlinux.post_unpatch, Some(Callback::Log));
}

#[test]
fn klp_build_makes_a_livepatch_from_source_patches() {
    let scenario = read(
        "version: 1
summary: From source.
requires: { replace: tags }
livepatches:
  one: { tag: 2, klp-build: klp-build-tags/cmdline.patch }
  two: { replace: true, klp-build: [a.patch, b.diff] }
steps: [expect: { patched: { one: { vmlinux: true, any-module: false } } }]
",
    );
    let patches = |livepatch: usize| match &scenario.livepatches[livepatch].code {
        Code::KlpBuild { patches } => patches,
        Code::Generated(_) | Code::Kselftest | Code::Prebuilt { .. } => panic!(),
    };
    assert_eq!(scenario.livepatches[0].replace, Replace::Tag(2));
    assert_eq!(scenario.livepatches[0].generated(), None);
    assert_eq!(*patches(0), ["klp-build-tags/cmdline.patch"]);
    assert_eq!(*patches(1), ["a.patch", "b.diff"]);
}

#[test]
fn all_that_can_be_expected_of_a_transition() {
    let scenario = read(
        "version: 1
summary: Expectations.
targets: { my-shop: { functions: { price: 10 } }, none: { functions: { f: 1 } } }
livepatches: { fix: { patches: { my-shop: { price: 11 } } } }
steps:
  - expect:
      stack_order: { fix: 1 }
      transition: fix
      enabled_functions: [my_shop.price, vmlinux.cmdline_proc_show, kvm.f]
      log: [\"pre_patch: shop\", patching complete]
      not_in_log: post_unpatch
  - expect: { transition: none, enabled_functions: [] }
",
    );
    let [first, second] = &scenario.steps[..] else {
        panic!()
    };
    let first = first.expect.as_ref().unwrap();
    assert_eq!(first.stack_order, [("fix".to_owned(), 1)]);
    assert_eq!(first.transition, Some(Some("fix".to_owned())));
    let functions = first.enabled_functions.iter().flatten();
    let functions: Vec<_> = functions.map(ToString::to_string).collect();
    assert_eq!(
        functions,
        ["my-shop.price", "vmlinux.cmdline_proc_show", "kvm.f"]
    );
    assert_eq!(first.log, ["pre_patch: shop", "patching complete"]);
    assert_eq!(first.not_in_log, ["post_unpatch"]);
    let nothing = Expect {
        transition: Some(None),
        enabled_functions: Some(Vec::new()),
        ..Expect::default()
    };
    assert_eq!(second.expect, Some(nothing));
}

#[test]
fn a_blocks_own_newline_is_not_what_a_file_holds() {
    let scenario = read(
        "version: 1
summary: Newlines.
steps:
  - { read: /proc/x, equals: \"1\" }
  - { read: /proc/x, equals: \"1\\n\" }
  - read: /proc/x
    equals: |
      one
      two
  - read: /proc/x
    equals: |+  # Both of them.
      \"one\"

  - read: /proc/x
    equals: |2-
      one
  - read: /proc/x
    equals: >
      one
      two
  - wait: /proc/x
    equals: |
      'one'
  - wait: /proc/x
    equals:
      \"one\\n\"
",
    );
    let equals = scenario.steps.iter().map(|step| match &step.action {
        Action::Read(read) => read.equals.clone(),
        Action::Wait(Wait {
            until: WaitUntil::Equals(text),
            ..
        }) => Some(text.clone()),
        other => panic!("{other:?}"),
    });
    let equals: Vec<_> = equals.map(Option::unwrap).collect();
    assert_eq!(
        equals,
        [
            "1",
            "1\n",
            "one\ntwo",
            "\"one\"\n",
            "one",
            "one two",
            "'one'",
            "one\n",
        ]
    );
}

#[test]
fn a_splat_can_be_demanded() {
    let scenario = read(
        "version: 1
summary: x
steps: [read: /proc/cmdline]
allow_splats:
  - { title: \"WARNING: a.c\", reason: x, must: true }
  - { title: \"WARNING: b.c\", reason: x }
",
    );
    let must: Vec<_> = scenario.allow_splats.iter().map(|it| it.must).collect();
    assert_eq!(must, [true, false]);
}

#[test]
fn each_of_the_projects_scenarios_can_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("scenarios"), root.join("tests/faults")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            let source = Source::new(path.to_str().unwrap(), fs::read_to_string(&path).unwrap());
            let name = path.file_stem().unwrap().to_str().unwrap();
            check(name, &source).unwrap_or_else(|e| panic!("{}", e.render(&source, false)));
            assert!(oddities(name, &source).is_empty(), "{name}");
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn an_expected_failure_names_its_step() {
    let text = |rest| {
        format!(
            "version: 1
summary: Failures.
livepatches: {{ fix: {{ klp-build: fix.patch }} }}
steps:
  - load: fix
  - {{ name: in-the-window, disable: fix }}
  - {{ name: end, unload: fix }}
{rest}"
        )
    };
    let plain = read(&text(""));
    assert_eq!(plain.snapshot, SnapshotScope::PerKernel);
    assert_eq!(plain.expect_failure, []);
    assert_eq!(plain.steps[0].name, None);
    assert_eq!(plain.steps[1].name.as_deref(), Some("in-the-window"));

    let scenario = read(&text(
        "snapshot: shared
expect_failure:
  - { kernel: tags-rfc, step: in-the-window, failure: answers 20, reason: \"R1: x\" }
  - { kernel: [tags-rfc, old], step: end, failure: EBUSY, reason: y }
",
    ));
    assert_eq!(scenario.snapshot, SnapshotScope::Shared);
    let [first, second] = &scenario.expect_failure[..] else {
        panic!()
    };
    assert_eq!((first.step, second.step), (2, 3));
    assert_eq!(first.kernels, ["tags-rfc"]);
    assert_eq!(first.failure, "answers 20");
    assert_eq!(first.reason, "R1: x");
    assert_eq!(second.kernels, ["tags-rfc", "old"]);
}

#[test]
fn splats_can_be_allowed_by_name() {
    let scenario = read(
        "version: 1
summary: x
targets: { shop: { functions: { price: 10 } } }
steps: [load: shop]
allow_splats:
  - { title: \"WARNING: kernel/livepatch/core.c\", reason: it is refused loudly }
",
    );
    let [allowed] = &scenario.allow_splats[..] else {
        panic!()
    };
    assert_eq!(allowed.title, "WARNING: kernel/livepatch/core.c");
    assert_eq!(allowed.reason, "it is refused loudly");
}

#[test]
fn what_is_not_the_same_twice_can_be_masked() {
    let scenario = read(
        "version: 1
summary: x
targets: { shop: { functions: { price: 10 } } }
steps: [load: shop]
mask:
  - { text: \"log shop: at *\", reason: an address }
",
    );
    let [mask] = &scenario.mask[..] else { panic!() };
    assert_eq!(
        (&*mask.text, &*mask.reason),
        ("log shop: at *", "an address")
    );
}

#[test]
fn a_line_that_varies_can_be_expected() {
    let scenario = read(
        "version: 1
summary: x
livepatches: { tty-fix: { klp-build: fix.patch } }
steps:
  - load: tty-fix
    expect:
      log: [signaling remaining tasks, \"livepatch: 'tty_fix': patching complete\", tty-fix says]
      not_in_log: [\"tty_fix: loading out-of-tree module\", klp_try_switch_task, \"[1.5] ok\"]
",
    );
    let expect = scenario.steps[0].expect.as_ref().unwrap();
    assert_eq!((expect.log.len(), expect.not_in_log.len()), (3, 3));
}

#[test]
fn a_livepatch_is_untagged_unless_it_says_otherwise() {
    let scenario = read(
        "version: 1
summary: Three kinds.
requires: { replace: tags }
targets: { shop: { functions: { price: 10 } } }
livepatches:
  plain: { patches: { shop: { price: 11 } } }
  bool: { replace: true, patches: { shop: { price: 11 } } }
  tagged: { tag: 4294967295, patches: { shop: { price: 11 } } }
steps: [load: plain]
",
    );
    let replace: Vec<_> = scenario.livepatches.iter().map(|l| l.replace).collect();
    assert_eq!(
        replace,
        [
            Replace::Flag(false),
            Replace::Flag(true),
            Replace::Tag(u32::MAX)
        ]
    );
}

#[test]
fn objects_are_called_as_their_targets_are() {
    let scenario = read(
        "version: 1
summary: Two spellings.
targets: { my-shop: { functions: { price: 10 } } }
livepatches: { fix: { patches: { my_shop: { price: 11 } } } }
steps: [expect: { patched: { fix: { my_shop: true } } }]
",
    );
    assert_eq!(generated(&scenario, 0).objects[0].object, "my-shop");
    let patched = &scenario.steps[0].expect.as_ref().unwrap().patched;
    assert_eq!(*patched, [("fix".to_owned(), "my-shop".to_owned(), true)]);
}

#[test]
fn a_c_body_keeps_its_lines() {
    let scenario = read(
        "version: 1
summary: C.
livepatches:
  cmdline:
    patches:
      vmlinux:
        show:
          signature: int show(struct seq_file *m)
          include: linux/seq_file.h
          body: |
            seq_puts(m, \"x\\n\");
            return 0;
steps: [load: cmdline]
",
    );
    let function = &generated(&scenario, 0).objects[0].functions[0];
    let NewFunction::C {
        signature,
        include,
        body,
    } = &function.new
    else {
        panic!("{function:?}")
    };
    assert_eq!(signature.text, "int show(struct seq_file *m)");
    assert_eq!(
        (include[0].line(0), &*include[0].text),
        (9, "linux/seq_file.h")
    );
    assert_eq!(body.text, "seq_puts(m, \"x\\n\");\nreturn 0;\n");
    assert_eq!((signature.line(0), body.line(1)), (8, 12));
}

#[test]
fn the_schema_says_what_the_checker_says() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&schema()).unwrap());
}

#[test]
fn a_step_gives_options_to_klp_build() {
    let scenario = read(
        "version: 1
summary: No livepatch at all.
steps:
  - klp-build: --no-replace
  - { klp-build: [-t, ''], rejects: invalid }
",
    );
    assert!(scenario.uses_klp_build());
    assert_eq!(scenario.steps[1].action.label(), "klp-build -t ''");
    let Action::KlpBuild(KlpBuild { options, rejects }) = &scenario.steps[1].action else {
        panic!()
    };
    assert_eq!(options, &["-t", ""]);
    assert_eq!(rejects.as_deref(), Some("invalid"));
    let Action::KlpBuild(KlpBuild { options, rejects }) = &scenario.steps[0].action else {
        panic!()
    };
    assert_eq!((options.len(), rejects), (1, &None));
}

/// How many cases each script of the kernel's selftests has in 7.3.
const ORIGINALS: [(&str, usize); 8] = [
    ("test-callbacks.sh", 11),
    ("test-ftrace.sh", 3),
    ("test-kprobe.sh", 2),
    ("test-livepatch.sh", 5),
    ("test-shadow-vars.sh", 1),
    ("test-state.sh", 4),
    ("test-syscall.sh", 1),
    ("test-sysfs.sh", 5),
];

#[test]
fn each_case_of_the_kernels_selftests_has_a_scenario() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/upstream");
    let mut cases = std::collections::BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let source = Source::new(path.to_str().unwrap(), fs::read_to_string(&path).unwrap());
        let name = path.file_stem().unwrap().to_str().unwrap();
        let scenario =
            parse(name, &source).unwrap_or_else(|e| panic!("{}", e.render(&source, false)));
        let original = scenario.original.unwrap();
        assert!(
            cases.insert(original),
            "{name} stands for the case of another one"
        );
    }
    for (script, count) in ORIGINALS {
        let of_script = cases.iter().filter(|case| case.script == script);
        assert_eq!(of_script.count(), count, "{script}");
    }
}

#[test]
fn a_scenario_of_the_kernels_own_modules() {
    let scenario = read(
        "version: 1
summary: Not a line of C.
original: { script: test-syscall.sh, test: patch getpid }
targets: { busy: kselftest }
livepatches: { test_klp_syscall: kselftest }
steps:
  - load: busy
  - { spawn: hammers, hammer: getpid, count: 3 }
  - { load: test_klp_syscall, params: { p: \"${hammers.pids}\" }, transition: held, held_in: work }
  - { trace: none, requires: { file: /proc/cmdline } }
",
    );
    assert!(!scenario.has_generated());
    let own: Vec<&str> = scenario.from_kselftest().collect();
    assert_eq!(own, ["busy", "test_klp_syscall"]);
    let transition = |step: usize| match &scenario.steps[step].action {
        Action::Load(Load { transition, .. }) => transition.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(transition(0), Transition::None);
    assert_eq!(transition(2), Transition::HeldIn("work".to_owned()));
    assert_eq!(scenario.steps[3].action.label(), "stop tracing");
    assert_eq!(scenario.steps[3].requires.as_deref(), Some("/proc/cmdline"));
}
