// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports held against the kernel's KTAP parser.
//!
//! tests/events.jsonl is a stream with every outcome and every kind of event.

use std::path::PathBuf;

use crate::kunit::{Counts, kernel_tree, kunit_accepts};
use livepatch_lab::event::{Event, RunId, Stamped};
use livepatch_lab::report::ktap::{self, Ktap};
use livepatch_lab::report::results::Results;

const EVENTS: &str = include_str!("../events.jsonl");

fn events() -> Vec<Stamped> {
    EVENTS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What is written while the events of `keep` come.
fn ktap(keep: impl Fn(&Stamped) -> bool) -> (tempfile::TempDir, PathBuf) {
    let (mut ktap, mut results, mut text) = (Ktap::default(), Results::default(), String::new());
    for stamped in events().into_iter().filter(keep) {
        results.event(&stamped);
        text += &ktap.event(&stamped.event, &results);
    }
    written(&text)
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.ktap");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn the_kernels_parser_takes_every_outcome_for_what_it_is() {
    // Two runs never end. Nothing else may be missing, or be out of place.
    let never_ends = ["never-starts", "never-ends"];
    let (_dir, path) = ktap(|_| true);
    let parsed = kunit_accepts(&kernel_tree(), &path);
    let expected = [
        ("passes@tags.x86_64/load pricing-v1", "PASS"),
        ("passes@tags.arm64/load shop", "PASS"),
        ("fails@tags.x86_64/load shop", "PASS"),
        ("fails@tags.x86_64/load pricing-v1", "FAIL"),
        ("differs@tags.x86_64/verdict", "FAIL"),
        ("panics@tags.x86_64/load pricing-v1", "FAIL"),
        ("splats@tags.x86_64/verdict", "FAIL"),
        ("hangs@tags.x86_64/load shop", "FAIL"),
        ("stalls@tags.x86_64/load shop", "FAIL"),
        ("cannot-run@tags.x86_64", "FAIL"),
        ("is-cancelled@tags.x86_64/load shop", "FAIL"),
        ("is-flaky@tags.x86_64/flaky (failed attempts: 1)", "PASS"),
        ("mended@tags.x86_64/verdict", "FAIL"),
        ("takes-long@tags.x86_64/load shop", "FAIL"),
        ("is-new@tags.x86_64/verdict", "FAIL"),
        ("known@rfc.x86_64/load shop", "PASS"),
        ("fails-fast@tags.x86_64", "SKIP"),
        ("passes@mainline.x86_64", "SKIP"),
    ];
    for (name, status) in expected {
        assert_eq!(
            parsed.status(name),
            Some(status),
            "{name}: {}",
            parsed.output
        );
    }
    let counts = Counts {
        passed: 13,
        failed: 11,
        crashed: never_ends.len() as u64,
        skipped: 3,
        errors: never_ends.len() as u64,
    };
    assert_eq!(parsed.counts, counts, "{}", parsed.output);
    assert!(!parsed.ok);
    // The problem is shown below its step, and what a run's console says does not end the input.
    let problem = "# problem: shop.stock answers 21, not 20";
    assert!(parsed.output.contains(problem), "{}", parsed.output);
}

#[test]
fn the_kernels_parser_takes_a_plan_that_holds_for_passed() {
    let good = ["passes", "known", "is-flaky"];
    let of = |run: &RunId| good.contains(&run.scenario.as_str());
    let mut results = Results::default();
    for mut stamped in events() {
        if let Event::Planned { runs, .. } = &mut stamped.event {
            runs.retain(of);
        }
        match &stamped.event {
            Event::Planned { .. } => results.event(&stamped),
            Event::RunStarted { run, .. }
            | Event::StepStarted { run, .. }
            | Event::StepFinished { run, .. }
            | Event::AttemptFailed { run, .. }
            | Event::RunFinished { run, .. }
                if of(run) =>
            {
                results.event(&stamped);
            }
            _ => {}
        }
    }
    let (_dir, path) = written(&ktap::render(&results));
    let parsed = kunit_accepts(&kernel_tree(), &path);
    assert!(parsed.ok, "{}", parsed.output);
    let Counts {
        failed,
        crashed,
        errors,
        ..
    } = parsed.counts;
    assert_eq!((failed, crashed, errors), (0, 0, 0), "{}", parsed.output);
}

#[test]
fn the_kernels_parser_misses_what_a_killed_lab_did_not_write() {
    let (_dir, path) = ktap(|stamped| matches!(stamped.event, Event::Planned { .. }));
    let parsed = kunit_accepts(&kernel_tree(), &path);
    assert!(!parsed.ok);
    assert_eq!(
        (parsed.counts.crashed, parsed.counts.skipped),
        (18, 2),
        "{}",
        parsed.output
    );
}

#[test]
fn the_kernels_parser_is_not_misled_by_what_a_guest_writes() {
    let hostile = "x\nok 2 forged\u{85}ok 3 forged\u{2028}1..9\u{c}KTAP version 1\n\
                   # Subtest: y\nreboot: System halted # SKIP\u{1b}[2J";
    let mut results = Results::default();
    for mut stamped in events() {
        if let Event::RunFinished { verdict, .. } | Event::AttemptFailed { verdict, .. } =
            &mut stamped.event
        {
            verdict.reasons.insert(0, hostile.to_owned());
            *verdict = verdict.clone().with(hostile, hostile).help(hostile);
        }
        if let Event::StepFinished { problems, .. } = &mut stamped.event {
            for problem in problems {
                problem.push_str(hostile);
            }
        }
        results.event(&stamped);
    }
    let (_dir, path) = written(&ktap::render(&results));
    let parsed = kunit_accepts(&kernel_tree(), &path);
    let counts = Counts {
        passed: 13,
        failed: 11,
        crashed: 2,
        skipped: 3,
        errors: 2,
    };
    assert_eq!(parsed.counts, counts, "{}", parsed.output);
}
