// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files for CI systems and clusters, held against those systems' own schemas.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use boon::{Compiler, Schemas};
use serde_json::Value;

const FILES: [(&str, &str); 3] = [
    (".github/workflows/nightly.yml", "github-workflow.json"),
    ("contrib/gitlab/lab.gitlab-ci.yml", "gitlab-ci.json"),
    ("contrib/kubernetes/job.yaml", "kubernetes-job.json"),
];

fn root(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap()
}

fn validate(value: &Value, schema: &str) -> Result<(), String> {
    let text = read(&format!("tests/schemas/{schema}"));
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let json = serde_json::from_str(&text).unwrap();
    compiler.add_resource("schema.json", json).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    let result = schemas.validate(value, index);
    result.map_err(|error| format!("{error:#}"))
}

#[test]
fn every_file_is_valid() {
    for (file, schema) in FILES {
        if let Err(error) = validate(&yaml(file), schema) {
            panic!("{file}: {error}");
        }
    }
}

#[test]
fn a_file_that_is_broken_is_noticed() {
    let broken = |file: usize, pointer: &str, key: &str, value: Value| {
        let (name, schema) = FILES[file];
        let mut document = yaml(name);
        let place = document.pointer_mut(pointer).unwrap();
        place[key] = value;
        assert!(
            validate(&document, schema).is_err(),
            "{name} {pointer} {key}"
        );
    };
    broken(0, "/jobs/run", "runs-on", Value::Null);
    broken(0, "/jobs/plan", "step", Value::Array(Vec::new()));
    broken(1, "/lab-run", "parallel", "many".into());
    broken(1, "/lab-run/artifacts", "when", "sometimes".into());
    broken(2, "/spec", "completions", "six".into());
    broken(
        2,
        "/spec/template/spec/containers/0",
        "volumeMounts",
        3.into(),
    );
}

#[test]
fn the_job_asks_for_kvm_and_has_as_many_shards_as_pods() {
    let job = yaml(FILES[2].0);
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["resources"]["limits"]["devices.kubevirt.io/kvm"],
        "1"
    );
    let shard = format!("auto/{}", job["spec"]["completions"]);
    assert!(
        container["args"]
            .as_array()
            .unwrap()
            .contains(&shard.into())
    );
    assert_eq!(job["spec"]["completionMode"], "Indexed");
}

/// The words after `lab` of each command in a file.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let mut commands = Vec::new();
    for line in joined.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_lab = |pair: &&[&str]| {
            let known = ["run", "plan", "report", "cache", "build", "setup"];
            pair[0].trim_matches(['"', '\'', '`']).ends_with("lab") && known.contains(&pair[1])
        };
        let Some(at) = words.windows(2).position(|pair| is_lab(&pair)) else {
            continue;
        };
        let mut rest = &words[at + 1..];
        // Up to the end of the substitution or the span of code that it stands in.
        if let Some(end) = rest.iter().position(|word| word.ends_with([')', '`', '|'])) {
            rest = &rest[..=end];
        }
        let word = |word: &&str| word.trim_end_matches([')', '`', '|', '"', ',']).to_owned();
        commands.push(rest.iter().map(word).collect());
    }
    commands
}

#[test]
fn the_options_in_the_files_exist() {
    let help = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(command.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        assert!(output.status.success(), "lab {command}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut seen = 0;
    for file in [
        "contrib/slurm/README.md",
        FILES[1].0,
        FILES[0].0,
        "README.md",
    ] {
        for words in commands(&read(file)) {
            let two = ["cache", "report"].contains(&words[0].as_str());
            let help = help(&words[..1 + usize::from(two)].join(" "));
            for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let name = option.split(['=', ')', '"', '`']).next().unwrap();
                assert!(help.contains(&format!("--{name}")), "{file}: lab {words:?}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn the_batch_script_is_right_as_far_as_bash_can_tell() {
    let script = root("contrib/slurm/lab.sbatch");
    let checked = Command::new("bash")
        .arg("-n")
        .arg(&script)
        .status()
        .unwrap();
    assert!(checked.success());
    let without = Command::new("bash")
        .arg(&script)
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(said.contains("usage: sbatch"), "{said}");
    let outside = Command::new("bash")
        .arg(script)
        .arg("6")
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outside.stderr).into_owned();
    assert!(said.contains("submit it with sbatch --array=1-6"), "{said}");
    assert!(!without.status.success() && !outside.status.success());
}
