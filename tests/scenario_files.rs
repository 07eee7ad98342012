// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenarios that come with the lab, and what a scenario becomes when it is read.

use std::fs;
use std::path::Path;

use livepatch_lab::scenario::{Action, NewFunction, Replace, Scenario, WaitUntil, parse, schema};
use livepatch_lab::yaml::Source;

fn read(text: &str) -> Scenario {
    let source = Source::new("test.yaml", text);
    parse("test", &source).unwrap_or_else(|errors| panic!("{}", errors.render(&source, false)))
}

#[test]
fn every_scenario_of_the_lab_is_right() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
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
    assert!(count >= 7, "only {count} scenarios");
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
        ]
    );
    let Action::Load { params, .. } = &scenario.steps[0].action else {
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
    let Action::Wait { until, .. } = &scenario.steps[6].action else {
        panic!()
    };
    assert_eq!(*until, WaitUntil::Equals("0".to_owned()));
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
    assert_eq!(scenario.livepatches[0].objects[0].object, "my-shop");
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
    let function = &scenario.livepatches[0].objects[0].functions[0];
    assert_eq!(
        function.new,
        NewFunction::C {
            signature: "int show(struct seq_file *m)".to_owned(),
            include: vec!["linux/seq_file.h".to_owned()],
            body: "seq_puts(m, \"x\\n\");\nreturn 0;\n".to_owned(),
        }
    );
}

#[test]
fn the_schema_says_what_the_checker_says() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&schema()).unwrap());
}
