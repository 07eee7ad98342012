// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results for the tests of reports: every outcome, from tests/events.jsonl.

use super::results::Results;
use crate::arch::Arch;
use crate::error::Blame;
use crate::event::{Event, RunId, Stamped};
use crate::verdict::{Outcome, Verdict};

/// A stream with every outcome. It is of version 1 and must stay readable.
pub fn events() -> Vec<Stamped> {
    let lines = include_str!("../../tests/events.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What it amounts to.
pub fn results() -> Results {
    of(&events())
}

/// What a stream amounts to.
pub fn of(events: &[Stamped]) -> Results {
    let mut results = Results::default();
    for stamped in events {
        results.event(stamped);
    }
    results
}

/// An event of no particular time.
pub fn stamped(event: Event) -> Stamped {
    Stamped {
        time: "2026-11-24T03:00:00Z".into(),
        event,
    }
}

/// The run of a scenario.
pub fn run(scenario: &str) -> RunId {
    RunId {
        scenario: scenario.into(),
        kernel: "tags".into(),
        arch: Arch::X86_64,
        cpus: None,
    }
}

/// Plans a run.
pub fn plan(results: &mut Results, scenario: &str) {
    results.event(&stamped(Event::Planned {
        runs: vec![run(scenario)],
        skipped: Vec::new(),
        elsewhere: Vec::new(),
        jobs: 1,
        every_scenario: false,
    }));
}

/// Adds a failed run with `text` as its evidence.
pub fn add_failure(results: &mut Results, scenario: &str, text: &str) {
    let verdict = Verdict::against(Outcome::Failed, Blame::Kernel, "step 1: differs");
    results.event(&stamped(Event::RunFinished {
        run: run(scenario),
        verdict: verdict.with("console", text),
        ms: 1000,
        record: ".lab/runs/x".into(),
    }));
}

/// One failed run, with `text` wherever text can be.
pub fn with_text_everywhere(text: &str) -> Results {
    let run = RunId {
        scenario: text.into(),
        kernel: text.into(),
        arch: Arch::X86_64,
        cpus: None,
    };
    let mut verdict = Verdict::against(Outcome::Failed, Blame::Kernel, text)
        .with(text, text)
        .help(text);
    verdict.reasons.push(text.into());
    let events = [
        Event::StepStarted {
            run: run.clone(),
            step: 1,
            of: 1,
            label: text.into(),
        },
        Event::StepFinished {
            run: run.clone(),
            step: 1,
            ms: 5,
            problems: vec![text.into()],
        },
        Event::RunFinished {
            run,
            verdict,
            ms: 10,
            record: text.into(),
        },
    ];
    of(&events.map(stamped))
}
