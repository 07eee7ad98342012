// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files for GitHub, GitLab, Kubernetes and Slurm: valid by the engines' own schemas, and in
//! agreement with themselves. What lab does with them is tested elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

const GITHUB: &str = ".github/workflows/nightly.yml";
const GITLAB: &str = "contrib/gitlab/lab.gitlab-ci.yml";
const KUBERNETES: &str = "contrib/kubernetes/job.yaml";
const SLURM: &str = "contrib/slurm/lab.sbatch";
const FILES: [&str; 6] = [
    GITHUB,
    GITLAB,
    KUBERNETES,
    "contrib/kubernetes/README.md",
    SLURM,
    "contrib/slurm/README.md",
];

fn root(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(root(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap()
}

struct Schema(Schemas, SchemaIndex);

impl Schema {
    fn new(name: &str) -> Self {
        let text = read(&format!("tests/schemas/{name}.json"));
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        // Never fetched: a name has to be absolute, and this one cannot exist.
        let url = format!("https://lab.invalid/{name}.json");
        let schema = serde_json::from_str(&text).unwrap();
        compiler.add_resource(&url, schema).unwrap();
        let index = compiler.compile(&url, &mut schemas).unwrap();
        Self(schemas, index)
    }

    /// What is wrong with a value; empty if nothing is.
    fn mistakes(&self, value: &Value) -> String {
        match self.0.validate(value, self.1) {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// The file is valid, and each change makes it invalid.
    fn holds(&self, file: &str, changes: &[(&str, &str, Option<Value>)]) {
        let good = yaml(file);
        assert_eq!(self.mistakes(&good), "", "{file}");
        for (at, key, new) in changes {
            let mut bad = good.clone();
            let map = bad.pointer_mut(at).and_then(Value::as_object_mut);
            let map = map.unwrap_or_else(|| panic!("{file} has no mapping {at:?}"));
            match new {
                Some(new) => drop(map.insert((*key).to_owned(), new.clone())),
                None => assert!(map.remove(*key).is_some(), "{file}: no {key} at {at:?}"),
            }
            let mistakes = self.mistakes(&bad);
            assert_ne!(mistakes, "", "{file}: {at}/{key} {new:?} is taken as valid");
        }
    }
}

#[test]
fn the_github_workflow_is_valid() {
    let schema = Schema::new("github-workflow");
    schema.holds(
        GITHUB,
        &[
            ("", "on", None),
            ("", "jobs", None),
            ("", "job", Some(json!({}))),
            ("/permissions", "contents", Some(json!("reed"))),
            ("/jobs/run", "runs-on", None),
            ("/jobs/run/strategy", "fail_fast", Some(json!(false))),
            ("/jobs/run/steps/0", "use", Some(json!("x@v1"))),
        ],
    );
}

#[test]
fn the_gitlab_pipeline_is_valid() {
    let schema = Schema::new("gitlab-ci");
    schema.holds(
        GITLAB,
        &[
            ("/lab-run", "parallel", Some(json!("six"))),
            ("/lab-run", "script", Some(json!({ "run": "lab" }))),
            ("/lab-run", "scripts", Some(json!(["lab"]))),
            ("/lab-run/cache", "paths", Some(json!(".cache/lab"))),
            ("/lab-run/artifacts/reports", "junit", Some(json!(1))),
            ("/lab-report/rules/0", "when", Some(json!("ever"))),
        ],
    );
}

#[test]
fn the_kubernetes_job_is_valid() {
    let schema = Schema::new("kubernetes-job");
    let container = "/spec/template/spec/containers/0";
    schema.holds(
        KUBERNETES,
        &[
            ("", "kind", Some(json!("CronJob"))),
            ("", "apiVersion", Some(json!("batch/v2"))),
            ("/spec", "template", None),
            ("/spec", "completionsMode", Some(json!("Indexed"))),
            ("/spec", "completions", Some(json!("six"))),
            (container, "name", None),
            (&format!("{container}/resources"), "limit", Some(json!({}))),
            (
                &format!("{container}/securityContext"),
                "privileged",
                Some(json!("no")),
            ),
        ],
    );
}

#[test]
fn the_key_on_is_no_bool() {
    let workflow = yaml(GITHUB);
    assert!(workflow["on"]["schedule"].is_array());
    assert_eq!(workflow.get("true"), None);
}

#[test]
fn github_jobs_may_little_and_end() {
    let workflow = yaml(GITHUB);
    assert_eq!(workflow["permissions"], json!({ "contents": "read" }));
    assert_eq!(
        workflow["jobs"]["run"]["strategy"]["fail-fast"],
        json!(false)
    );
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        assert_eq!(job.get("permissions"), None, "{name}");
        assert!(job["timeout-minutes"].is_u64(), "{name}");
        for step in job["steps"].as_array().unwrap() {
            if let Some(uses) = step.get("uses") {
                let uses = uses.as_str().unwrap();
                let version = uses
                    .split_once("@v")
                    .map(|(_, version)| version.parse::<u32>());
                assert!(
                    matches!(version, Some(Ok(_))),
                    "{uses} has no major version"
                );
            }
            // What is pasted into a script is run; a variable is not.
            let run = step["run"].as_str().unwrap_or_default();
            assert!(!run.contains("${{"), "{name}: {run}");
        }
    }
}

#[test]
fn the_number_of_kubernetes_shards_is_one_number() {
    let job = yaml(KUBERNETES);
    assert_eq!(job["spec"]["completionMode"], "Indexed");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let shards = format!("auto/{}", job["spec"]["completions"]);
    let args = container["args"].as_array().unwrap();
    assert!(args.contains(&json!(shards)), "{args:?} have no {shards}");
    // podFailurePolicy names a container and wants pods that are not restarted in place.
    assert_eq!(job["spec"]["template"]["spec"]["restartPolicy"], "Never");
    for rule in job["spec"]["podFailurePolicy"]["rules"].as_array().unwrap() {
        if let Some(codes) = rule.get("onExitCodes") {
            assert_eq!(codes["containerName"], container["name"]);
        }
    }
}

#[test]
fn the_slurm_script_is_bash_with_its_options_in_time() {
    let output = Command::new("bash").arg("-n").arg(root(SLURM)).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    // sbatch reads no option after the first command.
    let text = read(SLURM);
    let is_comment = |line: &&str| line.starts_with('#') || line.is_empty();
    let commands = text.lines().skip_while(is_comment);
    let late: Vec<_> = commands
        .filter(|line| line.starts_with("#SBATCH"))
        .collect();
    assert_eq!(late, [""; 0]);
    assert!(
        text.lines()
            .any(|line| line.starts_with("#SBATCH --array=1-"))
    );
}

#[test]
fn the_slurm_script_becomes_lab() {
    let dir = tempfile::tempdir().unwrap();
    let lab = dir.path().join("lab");
    fs::write(&lab, "#!/bin/sh\necho \"$$ $CI $*\"\n").unwrap();
    fs::set_permissions(&lab, fs::Permissions::from_mode(0o755)).unwrap();
    let script = || {
        let mut command = Command::new("bash");
        command.current_dir(dir.path()).arg(root(SLURM));
        for name in ["RESULTS", "LAB_CACHE_ARCHIVE", "SLURM_ARRAY_TASK_ID"] {
            command.env_remove(name);
        }
        command.env("LAB", &lab);
        command
    };
    let mut task = script();
    task.args(["6", "--profile", "a b"])
        .env("SLURM_ARRAY_TASK_ID", "3");
    let task = task.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let pid = task.id();
    let output = task.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!("{pid} true run --shard auto/6 --resume results --profile a b\n");
    assert_eq!(said, expected);
    assert!(dir.path().join("results").is_dir());

    let mut import = script();
    import
        .arg("6")
        .env("SLURM_ARRAY_TASK_ID", "3")
        .env("LAB_CACHE_ARCHIVE", "k.tar");
    let said = String::from_utf8(import.output().unwrap().stdout).unwrap();
    assert!(said.contains(" cache import k.tar\n"), "{said}");

    // Neither without the number of shards nor outside of an array.
    let mut alone = script();
    alone.env("SLURM_ARRAY_TASK_ID", "3");
    assert!(!alone.output().unwrap().status.success());
    assert!(!script().arg("6").output().unwrap().status.success());
}

/// Names that look like a host's, except the two domains that Kubernetes puts before names.
fn hosts(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let words = text
        .split(|c| !is_part(c))
        .map(|word| word.trim_matches('.'));
    words
        .filter(|word| {
            let top = word.rsplit_once('.').map_or("", |(_, top)| top);
            ["com", "dev", "io", "net", "org"].contains(&top)
                && !word.ends_with("kubevirt.io")
                && !word.ends_with("kubernetes.io")
        })
        .collect()
}

#[test]
fn no_file_names_a_host() {
    // Packages and images come from where the machine's own configuration says.
    assert_eq!(
        hosts("image: images.example.io/lab:1"),
        ["images.example.io"]
    );
    assert_eq!(hosts("see https://example.org."), ["example.org"]);
    for file in FILES {
        assert_eq!(hosts(&read(file)), [""; 0], "{file}");
    }
}

#[test]
fn every_file_has_a_licence() {
    for file in FILES {
        let text = read(file);
        let mut lines = text.lines().take(2);
        let tag = "SPDX-License-Identifier: MIT OR Apache-2.0";
        assert!(lines.any(|line| line.contains(tag)), "{file}");
    }
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
    for file in ["contrib/slurm/README.md", GITLAB, GITHUB, "README.md"] {
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
