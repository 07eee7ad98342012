// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the lab shows of real runs: their verdicts as events (`verdicts.jsonl`), and the screens of a
//! terminal. `docs/screens.md` is made of both.
//!
//! `verdicts.jsonl` has the last events of runs of `tests/faults/scenarios/` on `tags`, and of a copy of
//! `scenarios/tagged-replace.yaml` that has no snapshot (`my-first`), with the folders of nobody.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;

use livepatch_lab::event::{Event, RunId, Stamped};
use livepatch_lab::report::human;
use livepatch_lab::report::paint::{Color, Paint};
use livepatch_lab::report::results::Results;
use livepatch_lab::report::screen::Screen;
use livepatch_lab::verdict::Verdict;

/// The sizes of terminals that are tried: columns and rows.
pub const SIZES: [(u16, u16); 2] = [(80, 24), (100, 30)];

const VERDICTS: &str = include_str!("verdicts.jsonl");

/// The last event of each run.
pub fn recorded() -> Vec<Stamped> {
    let lines = VERDICTS.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The last event of a run on x86_64.
pub fn run(scenario: &str) -> Stamped {
    let of = |stamped: &Stamped| {
        let (run, _) = verdict(stamped);
        run.scenario == scenario && run.arch.name() == "x86_64"
    };
    recorded().into_iter().find(of).unwrap()
}

/// The run and the verdict of its last event.
pub fn verdict(stamped: &Stamped) -> (&RunId, &Verdict) {
    let Event::RunFinished { run, verdict, .. } = &stamped.event else {
        panic!("{stamped:?}");
    };
    (run, verdict)
}

/// What is shown of these events.
pub fn shown(events: &[Stamped], screen: Screen) -> String {
    let mut results = Results::default();
    events.iter().for_each(|stamped| results.event(stamped));
    human::whole(&results, screen, Paint::stdout(Color::Never))
}

/// A terminal of this size.
pub fn terminal((columns, rows): (u16, u16)) -> Screen {
    Screen::of(columns.into(), rows.into())
}

/// Holds a file against what it should be; the new one is then in the folder of temporary files.
pub fn hold(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::fs::read_to_string(&path).unwrap_or_default() != text {
        let name = path.file_name().unwrap();
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&new, text).unwrap();
        let folder = Path::new(file).parent().unwrap().display();
        panic!("{file} is out of date: cp {} {folder}/", new.display());
    }
}
