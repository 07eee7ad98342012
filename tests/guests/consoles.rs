// SPDX-License-Identifier: MIT OR Apache-2.0
//! The consoles of runs that share a guest: each record has its own run's part.

use std::fs;

use livepatch_lab::report::read::read_dir;
use livepatch_lab::report::results::State;
use livepatch_lab::verdict::Outcome;

use crate::common::Project;

const PASSES: &str = "version: 1\nsummary: It passes.\ntargets:\n  shop: { functions: { price: 10 } }\n\
    steps:\n  - load: shop\n  - unload: shop\n";
const WARNS: &str = "version: 1\nsummary: It warns.\ntargets:\n  shop: { functions: { price: 10 } }\n\
    livepatches:\n  fix:\n    patches: { shop: { price: 11 } }\n    callbacks:\n      shop:\n        \
    post_patch: { body: 'WARN(1, \"provoked\");' }\n\
    steps:\n  - load: shop\n  - load: fix\n  - disable: fix\n  - unload: [fix, shop]\n";

#[test]
fn a_passed_runs_console_has_no_splat_of_the_next_run_in_its_guest() {
    let project = Project::new();
    // Runs that are known to be short start late: nobody has played these before.
    let name = |first: &str| format!("{first}-{}", std::process::id());
    fs::create_dir_all(project.path("scenarios")).unwrap();
    for (first, text) in [
        ("a-passes", PASSES),
        ("b-passes", PASSES),
        ("c-warns", WARNS),
    ] {
        let file = format!("scenarios/{}.yaml", name(first));
        fs::write(project.path(&file), text).unwrap();
    }
    // A guest waits for no modules: with all of them in the cache, one plays the three runs.
    let warns = format!("scenarios/{}.yaml", name("c-warns"));
    project.lab(&["run", &warns, "--kernel=mainline"]);
    let output = project.lab(&[
        "run",
        "scenarios",
        "--kernel=mainline",
        "--arch=x86_64",
        "--jobs=1",
        "--accept",
        "--output=results",
    ]);
    assert_eq!(output.code, 1, "{}", output.stdout);
    let results = read_dir(&project.path("results")).unwrap();
    let records = results.runs.iter().map(|run| {
        let State::Finished(finished) = &run.state else {
            panic!("{} did not finish", run.run);
        };
        let record = finished.record.rsplit('/').next().unwrap();
        (finished.verdict.outcome, record.to_owned())
    });
    let records: Vec<_> = records.collect();
    let outcomes: Vec<_> = records.iter().map(|(outcome, _)| *outcome).collect();
    let wanted = [Outcome::Passed, Outcome::Passed, Outcome::Splat];
    assert_eq!(outcomes, wanted, "{}", output.stdout);
    let read = |record: usize, file: &str| {
        let folder = project.path("results/runs").join(&records[record].1);
        fs::read_to_string(folder.join(file)).unwrap()
    };
    let consoles = [0, 1, 2].map(|record| read(record, "console.log"));
    let place = format!("../{}/whole-console.log", records[0].1);
    let goes_on = format!("lab: its guest played other runs then: {place}\n");
    let part = "lab: this run's part of its guest's console, from byte ";
    for (console, first, last) in [
        (&consoles[0], false, false),
        (&consoles[1], true, false),
        (&consoles[2], true, true),
    ] {
        assert_eq!(console.starts_with(part), first, "{console}");
        assert_eq!(console.contains("Linux version"), !first, "{console}");
        assert_eq!(console.ends_with(&goes_on), !last, "{console}");
        assert_eq!(console.contains("WARNING: "), last, "{console}");
        let line = console.lines().next().unwrap();
        assert!(!first || line.ends_with(&place), "{line}");
    }
    let whole = read(0, "whole-console.log");
    assert!(
        whole.contains("Linux version") && whole.contains("WARNING: "),
        "{whole}"
    );
}
