// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own KTAP parser, `tools/testing/kunit/kunit.py parse`, as the judge of ours.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the parser counts, of the innermost tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    /// Missing ones, too.
    pub crashed: u64,
    pub skipped: u64,
    /// What it objects to: wrong numbers, missing lines.
    pub errors: u64,
}

/// A file as the parser understands it.
#[derive(Debug)]
pub struct Parsed {
    pub counts: Counts,
    /// Tests without subtests at the top, and tests with: name, then PASS, FAIL, SKIP or ERROR;
    /// subtests as `parent/name`.
    pub tests: Vec<(String, String)>,
    /// What the parser shows.
    pub output: String,
    /// Whether it takes the whole for passed.
    pub ok: bool,
}

impl Parsed {
    /// The status of a test without subtests, or of the subtest `parent/name`.
    pub fn status(&self, name: &str) -> Option<&str> {
        let test = self.tests.iter().find(|(test, _)| test == name);
        test.map(|(_, status)| status.as_str())
    }
}

/// A kernel's source tree with the parser: LAB_KERNEL_TREE, else one of those that the lab fetched,
/// and fetches for this if need be.
pub fn kernel_tree() -> PathBuf {
    if let Some(tree) = std::env::var_os("LAB_KERNEL_TREE") {
        return PathBuf::from(tree);
    }
    let cache = std::env::var_os("LAB_CACHE_DIR").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/livepatch-lab"),
        PathBuf::from,
    );
    let sources = cache.join("sources");
    let trees = std::fs::read_dir(&sources).into_iter().flatten().flatten();
    let mut trees: Vec<_> = trees.map(|entry| entry.path()).collect();
    trees.sort();
    if let Some(tree) = trees.into_iter().find(|tree| parser(tree).is_file()) {
        return tree;
    }
    let args = ["build", "kernel", "mainline"];
    let output = crate::common::lab_env(env!("CARGO_MANIFEST_DIR").as_ref(), &args, &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    kernel_tree()
}

fn parser(tree: &Path) -> PathBuf {
    tree.join("tools/testing/kunit/kunit.py")
}

/// Has `file` parsed; `tree` is a kernel's source tree.
pub fn kunit_accepts(tree: &Path, file: &Path) -> Parsed {
    // The kernel's build needs python3-minimal only; the parser uses more of the library.
    crate::real::install(&[("python3", "/usr/share/doc/python3/copyright")]);
    let json = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("python3")
        // The tree belongs to the lab's cache, where nothing may be added.
        .arg("-B")
        .arg(parser(tree))
        .arg("parse")
        .arg(format!("--json={}", json.path().display()))
        .arg(std::path::absolute(file).unwrap())
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "kunit.py: {stderr}");
    let json = std::fs::read_to_string(json.path()).unwrap();
    let group: serde_json::Value = serde_json::from_str(&json).expect("kunit.py writes JSON");
    let count = |name: &str| group["misc"][name].as_u64().unwrap();
    let mut tests = Vec::new();
    collect(&group, "", &mut tests);
    Parsed {
        counts: Counts {
            passed: count("passed"),
            failed: count("failed"),
            crashed: count("crashed"),
            skipped: count("skipped"),
            errors: count("errors"),
        },
        tests,
        output: text,
        ok: output.status.success(),
    }
}

fn collect(group: &serde_json::Value, parent: &str, tests: &mut Vec<(String, String)>) {
    for case in group["test_cases"].as_array().unwrap() {
        let name = format!("{parent}{}", case["name"].as_str().unwrap());
        tests.push((name, case["status"].as_str().unwrap().to_owned()));
    }
    for group in group["sub_groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        collect(group, &format!("{parent}{name}/"), tests);
    }
}
