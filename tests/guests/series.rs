// SPDX-License-Identifier: MIT OR Apache-2.0
//! The patch series of `kernels/patches/`, as the kernel's own checkpatch sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{ROOT, lab_env};
use crate::real::set_up;

/// The patches of all series.
fn patches() -> Vec<PathBuf> {
    let mut patches = Vec::new();
    for folder in entries(&Path::new(ROOT).join("kernels/patches")) {
        if folder.is_dir() {
            patches.extend(entries(&folder));
        }
    }
    patches
}

/// What is in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn checkpatch_has_nothing_to_say() {
    set_up();
    let output = lab_env(ROOT.as_ref(), &["build", "kernel", "tags"], &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    // `tags x86_64 <tree>/build/vmlinux`
    let boot_file = output.stdout.split_whitespace().last().unwrap();
    let (tree, _) = boot_file.split_once("/build/").unwrap();
    let patches = patches();
    assert!(patches.len() >= 12, "{patches:?}");
    for patch in patches {
        let said = Command::new("perl")
            .args(["scripts/checkpatch.pl", "--strict", "--quiet"])
            .arg(&patch)
            .current_dir(tree)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said, "", "{}", patch.display());
    }
}
