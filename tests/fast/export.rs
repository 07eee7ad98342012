// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the lab's scenarios can be exported, and what bash says of their scripts.

use std::fs;
use std::path::Path;
use std::process::Command;

use livepatch_lab::export::kselftest;
use livepatch_lab::scenario::{Scenario, parse};
use livepatch_lab::yaml::Source;

/// The scenarios of the lab's own folder, by name.
fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.is_file()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = Source::new(path.to_str().unwrap(), fs::read_to_string(path).unwrap());
        parse(name, &source).unwrap_or_else(|errors| panic!("{}", errors.render(&source, false)))
    };
    files.iter().map(read).collect()
}

#[test]
fn the_labs_scenarios_are_exported_or_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut exported, mut refused) = (Vec::new(), String::new());
    for scenario in scenarios() {
        let files = match kselftest(&scenario) {
            Ok(files) => files,
            Err(problems) => {
                for problem in problems {
                    let line = problem.line.unwrap_or(0);
                    refused += &format!("{}:{line}: {}\n", scenario.name, problem.what);
                }
                continue;
            }
        };
        let script = folder.path().join(&files[0].name);
        fs::write(&script, &files[0].text).unwrap();
        let output = Command::new("bash")
            .arg("-n")
            .arg(&script)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{}: {said}",
            scenario.name
        );
        for file in &files {
            let first = file.text.lines().take(2).collect::<String>();
            assert!(
                first.contains("SPDX-License-Identifier: GPL-2.0-only"),
                "{}",
                file.name
            );
        }
        exported.push(scenario.name);
    }
    let tagged = exported.iter().filter(|name| name.starts_with("tagged-"));
    assert!(tagged.count() >= 17 && exported.len() >= 24, "{exported:?}");
    let on_the_host = "klp-build runs on the machine that builds, not in the test";
    let options = [11, 12, 13, 14, 15, 18, 21, 24, 27]
        .map(|line| format!("klp-build-options:{line}: {on_the_host}\n"))
        .concat();
    let tags = [
        (16, "cmdline-v1"),
        (24, "version-hotfix"),
        (31, "cmdline-v2"),
    ]
    .map(|(line, name)| {
        format!(
            "klp-build-tags:{line}: module `{name}` is made by klp-build: only modules that \
                 the lab generates can go along\n"
        )
    })
    .concat();
    assert_eq!(refused, options + &tags);
}
