// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes of a scenario's author are the scenario's, also where only a guest shows them.

use std::fs;
use std::path::Path;

use livepatch_lab::report::read::read_dir;

use super::guest::difference;
use crate::common::{Project, ROOT};
use crate::faults::mistakes::MISTAKES;

#[test]
fn the_authors_mistakes_are_not_the_kernels() {
    let scenarios = Path::new(ROOT).join("tests/faults/mistakes");
    assert_eq!(fs::read_dir(&scenarios).unwrap().count(), MISTAKES.len());
    let project = Project::new();
    let output = project.lab(&[
        "run",
        &scenarios.display().to_string(),
        "--kernel=mainline",
        "--output=results",
        "--accept",
    ]);
    assert_eq!(output.code, 1, "{}", output.stdout);
    let results = read_dir(&project.path("results")).unwrap();
    assert_eq!(results.runs.len(), MISTAKES.len(), "{}", output.stdout);
    let wrong = results
        .runs
        .iter()
        .filter_map(|run| difference(&MISTAKES, run));
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "{}", output.stdout);
    // What to do is the author's, not that of a missing snapshot.
    for run in &results.runs {
        let verdict = run.verdict().unwrap();
        if run.run.scenario == "loaded-twice" {
            let help = verdict.help.as_deref().unwrap();
            assert!(
                help.starts_with("add a step `unload: shop` before it"),
                "{help}"
            );
        }
    }
    let note = "the kernel did not say \"WARNING: culprit.c\", which `allow_splats` allows";
    assert!(output.stdout.contains(note) || output.stderr.contains(note));
}
