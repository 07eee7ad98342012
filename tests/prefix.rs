// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs that begin with the same steps: one plays them, the others go on as forks of its guest, and
//! nothing that is observed tells the two apart.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::Output;
use livepatch_lab::event::{Event, Forked, RunId};
use livepatch_lab::verdict::{Outcome, Verdict};
use sandbox::{Sandbox, assert_contains, events};

const MODULES: &str = "\
version: 1
summary: x
targets: { shop: { functions: { price: 10, stock: 20 } } }
livepatches:
  pricing: { patches: { shop: { price: 11 } } }
  stocking: { patches: { shop: { stock: 21 } } }
";
/// Two transitions.
const BEGINNING: &str = "  - load: shop\n  - load: pricing\n";

/// A run as its events tell it.
#[derive(Default)]
struct Told {
    /// The records of its attempts.
    records: Vec<String>,
    /// Where the guest of each attempt went on.
    forked: Vec<Option<Forked>>,
    /// The problems of the steps of its first attempt.
    problems: Vec<Vec<String>>,
    verdict: Option<Verdict>,
}

impl Told {
    fn verdict(&self) -> &Verdict {
        self.verdict.as_ref().unwrap()
    }
}

/// Runs all scenarios, `jobs` guests at a time.
fn run(sandbox: &Sandbox, jobs: usize, more: &[&str]) -> (Output, BTreeMap<RunId, Told>) {
    let results = tempfile::tempdir_in(sandbox.0.path()).unwrap();
    let folder = results.path().display().to_string();
    let jobs = format!("--jobs={jobs}");
    let args = ["run", "scenarios", "--kernel=mainline", &jobs];
    let output = sandbox.lab(&[&args, &["--output", &folder][..], more].concat());
    let mut runs = BTreeMap::<RunId, Told>::new();
    for event in events(results.path()) {
        match event {
            Event::RunStarted { run, record, .. } => {
                runs.entry(run).or_default().records.push(record);
            }
            Event::Booted { run, forked, .. } => {
                runs.entry(run).or_default().forked.push(forked);
            }
            Event::StepFinished { run, problems, .. } => {
                let run = runs.entry(run).or_default();
                if run.records.len() == 1 {
                    run.problems.push(problems);
                }
            }
            Event::RunFinished { run, verdict, .. } => {
                runs.entry(run).or_default().verdict = Some(verdict);
            }
            _ => {}
        }
    }
    // The records are needed further on.
    let _ = results.keep();
    (output, runs)
}

fn in_record(sandbox: &Sandbox, record: &str, name: &str) -> String {
    fs::read_to_string(sandbox.path(record).join(name)).unwrap()
}

/// Three endings of one beginning, of which one is not as expected; and one that is not content
/// with the beginning.
fn write_endings(sandbox: &Sandbox) {
    let stocking = "  - load: stocking\n";
    let endings = [
        (
            "goes-back",
            format!(
                "{stocking}  - disable: stocking\n    expect: {{ calls: {{ shop.price: 11, \
                 shop.stock: 20 }} }}\n  - unload: stocking\n"
            ),
        ),
        (
            "stays",
            format!(
                "{stocking}  - call: shop.stock\n    expect: {{ livepatches: [pricing, stocking] }}\n"
            ),
        ),
        (
            "wrong-ending",
            format!(
                "{stocking}  - disable: stocking\n    expect: {{ calls: {{ shop.stock: 99 }} }}\n"
            ),
        ),
        (
            "wrong-beginning",
            "  - load: stocking\n    expect: { calls: { shop.price: 98 } }\n  - call: shop.price\n"
                .to_owned(),
        ),
    ];
    for (name, ending) in endings {
        let text = format!("{MODULES}steps:\n{BEGINNING}{ending}");
        fs::write(sandbox.path(&format!("scenarios/{name}.yaml")), text).unwrap();
    }
}

#[test]
fn forks_in_the_middle_observe_the_same_as_guests_of_their_own() {
    let sandbox = Sandbox::new();
    write_endings(&sandbox);
    let arches = ["--arch", "x86_64,arm64"];
    let (_, cold) = run(
        &sandbox,
        2,
        &[&arches[..], &["--cold", "--accept"]].concat(),
    );
    assert_eq!(cold.len(), 8);
    let observed: BTreeMap<_, _> = cold
        .iter()
        .map(|(run, told)| {
            assert_eq!(told.forked, [None]);
            (run, in_record(&sandbox, &told.records[0], "observed.txt"))
        })
        .collect();

    let (output, warm) = run(&sandbox, 2, &arches);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(
        warm.keys().collect::<Vec<_>>(),
        cold.keys().collect::<Vec<_>>()
    );
    for (run, told) in &warm {
        for record in &told.records {
            let now = in_record(&sandbox, record, "observed.txt");
            assert_eq!(now, observed[run], "{run}");
        }
        // What fails in a fork fails in a guest of its own as well.
        let fails = run.scenario.starts_with("wrong");
        assert_eq!(told.records.len(), if fails { 2 } else { 1 }, "{run}");
        let outcome = if fails {
            Outcome::Failed
        } else {
            Outcome::Passed
        };
        assert_eq!(told.verdict().outcome, outcome, "{run}");
        let cold = cold[run].verdict();
        assert_eq!(told.verdict().reasons, cold.reasons, "{run}");
        assert_eq!(told.verdict().outcome, cold.outcome, "{run}");
        let at = told.problems.iter().position(|step| !step.is_empty());
        let expected = match run.scenario.as_str() {
            "wrong-ending" => Some(3),
            "wrong-beginning" => Some(2),
            _ => None,
        };
        assert_eq!(at, expected, "{run}: {:?}", told.problems);
    }
    for arch in ["x86_64", "arm64"] {
        let of_arch = warm.iter().filter(|(run, _)| run.arch.to_string() == arch);
        let of_arch: Vec<_> = of_arch.collect();
        // One has played three steps for the three others.
        let (leaders, followers): (Vec<_>, Vec<_>) = of_arch
            .into_iter()
            .partition(|(_, told)| told.forked[0].is_none());
        assert_eq!((leaders.len(), followers.len()), (1, 3), "{arch}");
        let (leader, _) = leaders[0];
        for (run, told) in followers {
            let forked = told.forked[0].as_ref().unwrap();
            assert_eq!((&forked.run, forked.steps), (leader, 3), "{run}");
            // Its console is whole.
            let console = in_record(&sandbox, &told.records[0], "console.log");
            for livepatch in ["pricing", "stocking"] {
                let complete = format!("livepatch: '{livepatch}': patching complete");
                assert_eq!(console.matches(&complete).count(), 1, "{run}\n{console}");
            }
            let script = in_record(&sandbox, &told.records[0], "qemu.sh");
            assert_contains(
                &script,
                &["goes on after the first 3 steps of", "mem-path="],
            );
            // What was kept is gone.
            let (_, rest) = script.split_once("mem-path=").unwrap();
            let (memory, _) = rest.split_once(",share=off").unwrap();
            assert!(!Path::new(memory).parent().unwrap().exists(), "{memory}");
            // A second attempt has a guest of its own.
            assert!(told.forked[1..].iter().all(Option::is_none), "{run}");
        }
    }
    assert_eq!(sandbox.guests(), [""; 0]);
}

#[test]
fn a_beginning_that_goes_wrong_is_played_by_each_for_itself() {
    let sandbox = Sandbox::new();
    for (name, ending) in [
        ("a", "shop.price"),
        ("b", "shop.stock"),
        ("c", "shop.price"),
    ] {
        let text = format!(
            "{MODULES}steps:\n{BEGINNING}  - call: shop.price\n    returns: 97\n  \
             - load: stocking\n  - call: {ending}\n  - disable: {}\n",
            if name == "a" { "pricing" } else { "stocking" }
        );
        fs::write(sandbox.path(&format!("scenarios/{name}.yaml")), text).unwrap();
    }
    let (output, runs) = run(&sandbox, 1, &["--arch=x86_64"]);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(runs.len(), 3);
    for (run, told) in &runs {
        assert_eq!(told.forked, [None], "{run}");
        assert_eq!(told.verdict().outcome, Outcome::Failed, "{run}");
        assert_contains(&told.verdict().reasons[0], &["step 3 (", "not 97"]);
    }

    let (output, runs) = run(&sandbox, 1, &["--arch=x86_64", "--fail-fast"]);
    assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(runs.len(), 1);
    assert_contains(&output.stdout, &["2 not run"]);
    assert_eq!(sandbox.guests(), [""; 0]);
}
