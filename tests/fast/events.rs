// SPDX-License-Identifier: MIT OR Apache-2.0
//! docs/events.md held against the events: every kind, field and outcome.
//!
//! tests/events.jsonl is a stream with every outcome and every kind of event.

use std::collections::BTreeSet;

use livepatch_lab::event::{Event, Stamped};

const EVENTS: &str = include_str!("../events.jsonl");
const DOC: &str = include_str!("../../docs/events.md");

fn events() -> Vec<Stamped> {
    EVENTS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The name of an event's kind. A kind that is added does not compile here until it has a name,
/// and `every_kind_is_documented` fails until it has an example.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Started { .. } => "started",
        Event::PhaseStarted { .. } => "phase-started",
        Event::PhaseProgress { .. } => "phase-progress",
        Event::PhaseFinished { .. } => "phase-finished",
        Event::Note { .. } => "note",
        Event::Planned { .. } => "planned",
        Event::RunStarted { .. } => "run-started",
        Event::Booted { .. } => "booted",
        Event::StepStarted { .. } => "step-started",
        Event::StepFinished { .. } => "step-finished",
        Event::Paused { .. } => "paused",
        Event::Resumed { .. } => "resumed",
        Event::AttemptFailed { .. } => "attempt-failed",
        Event::RunFinished { .. } => "run-finished",
        Event::NotRun { .. } => "not-run",
        Event::Ended { .. } => "ended",
        Event::Unknown => "unknown",
    }
}

const KINDS: usize = 16;

/// The sections of docs/events.md on kinds: heading and text.
fn sections() -> Vec<(&'static str, &'static str)> {
    let sections = DOC.split("\n### `").skip(1);
    sections
        .map(|section| section.split_once("`\n").unwrap())
        .collect()
}

#[test]
fn every_kind_is_documented() {
    let found: BTreeSet<_> = events()
        .iter()
        .map(|stamped| kind(&stamped.event))
        .collect();
    assert_eq!(found.len(), KINDS, "tests/events.jsonl has every kind");
    let documented: Vec<_> = sections().iter().map(|(name, _)| *name).collect();
    assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), found);
    assert_eq!(documented.len(), KINDS);
}

#[test]
fn every_example_is_what_the_lab_writes_and_has_its_fields_explained() {
    for (name, text) in sections() {
        let (_, rest) = text.split_once("```json\n").expect(name);
        let (example, _) = rest.split_once("\n```").expect(name);
        let stamped: Stamped = serde_json::from_str(example).expect(name);
        assert_eq!(kind(&stamped.event), name);
        // A field that is new, gone or renamed shows here.
        assert_eq!(serde_json::to_string(&stamped).unwrap(), example);
        let serde_json::Value::Object(fields) = serde_json::from_str(example).unwrap() else {
            panic!("{name} is no object");
        };
        for field in fields
            .keys()
            .filter(|key| !["time", "kind"].contains(&key.as_str()))
        {
            assert!(text.contains(&format!("| `{field}` |")), "{name}: {field}");
        }
    }
}

#[test]
fn every_outcome_is_documented_and_in_the_sample() {
    let verdicts = events()
        .into_iter()
        .filter_map(|stamped| match stamped.event {
            Event::RunFinished { verdict, .. } => Some(verdict.outcome),
            _ => None,
        });
    let outcomes: BTreeSet<_> = verdicts.collect();
    assert_eq!(outcomes.len(), 13);
    for outcome in outcomes {
        let name = serde_json::to_value(outcome).unwrap();
        let row = format!("| `{}` |", name.as_str().unwrap());
        assert!(DOC.contains(&row), "{row}");
    }
}
