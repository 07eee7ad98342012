// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose a snapshot is: a scenario's name is that of one file.

use std::path::Path;

use crate::common::{Project, assert_is};
use crate::faults::snapshots::NAMESAKE;

const SCENARIO: &str = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\n\
                        steps:\n  - load: shop\n";

fn snapshot(source: &str) -> String {
    let head = "description: \"livepatch-lab snapshot, format 1\"\nexpression: \"s on fake\"";
    format!("---\nsource: {source}\n{head}\n---\nstep 1: load shop\n")
}

/// What `lab run` says before it builds anything.
fn dry_run(project: &Project, file: &Path) -> crate::common::Output {
    project.lab(&["run", "--dry-run", file.to_str().unwrap()])
}

#[test]
fn a_scenario_elsewhere_with_the_name_of_one_of_the_projects_is_refused() {
    let project = Project::new();
    project.write("scenarios/deep/s.yaml", SCENARIO);
    project.write("elsewhere/s.yaml", SCENARIO);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("s.yaml"), SCENARIO).unwrap();
    for file in [
        project.path("elsewhere/s.yaml"),
        outside.path().join("s.yaml"),
    ] {
        let output = dry_run(&project, &file);
        assert_is(&NAMESAKE, &output);
        for name in [file.to_str().unwrap(), "scenarios/deep/s.yaml"] {
            assert!(output.stderr.contains(name), "{output:?}");
        }
    }
    let own = dry_run(&project, &project.path("scenarios/deep/s.yaml"));
    assert_eq!(own.code, 0, "{own:?}");
    let relative = project.lab(&["run", "--dry-run", "scenarios/../scenarios/deep/s.yaml"]);
    assert_eq!(relative.code, 0, "{relative:?}");
    // One of its name in there is what a shell's glob may give beside it.
    let both = project.lab(&["run", "--dry-run", "scenarios", "elsewhere"]);
    assert_eq!(both.code, 2, "{both:?}");
    assert!(both.stderr.contains("have the same name, `s`"), "{both:?}");
}

#[test]
fn a_snapshot_of_a_file_elsewhere_is_that_files_alone() {
    let project = Project::new();
    for folder in ["one", "other"] {
        project.write(&format!("{folder}/s.yaml"), SCENARIO);
    }
    project.write("snapshots/s@fake.snap", &snapshot("one/s.yaml"));
    assert_eq!(dry_run(&project, &project.path("one/s.yaml")).code, 0);
    let output = dry_run(&project, &project.path("other/s.yaml"));
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("one/s.yaml"), "{output:?}");
    // A scenario that was moved keeps its snapshots, and so do those of earlier labs.
    for source in ["gone/s.yaml", "scenarios/s.yaml"] {
        project.write("snapshots/s@fake.snap", &snapshot(source));
        let output = dry_run(&project, &project.path("other/s.yaml"));
        assert_eq!(output.code, 0, "{output:?}");
    }
}
