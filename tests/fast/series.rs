// SPDX-License-Identifier: MIT OR Apache-2.0
//! The patch series of `kernels/patches/`: what a subsystem's maintainer checks first.

use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The patches of all series.
pub fn patches() -> Vec<PathBuf> {
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
fn every_patch_says_why_and_is_signed_off() {
    for patch in patches() {
        let text = std::fs::read_to_string(&patch).unwrap();
        let (message, _) = text.split_once("\n---\n").unwrap();
        let subject = message.split_once("\nSubject: [PATCH").unwrap().1;
        let subject = subject.split_once("] ").unwrap().1;
        assert!(
            subject.starts_with("livepatch") || subject.starts_with("Documentation: livepatch: "),
            "{subject}"
        );
        assert!(message.contains("\nSigned-off-by: "), "{}", patch.display());
        assert!(message.lines().count() > 8, "{}", patch.display());
    }
}

#[test]
fn every_mutant_is_a_kernel_with_one_defect_that_nobody_gets_unasked() {
    let kernels = Path::new(ROOT).join("kernels");
    let mut mutants = 0;
    for folder in entries(&kernels.join("patches")) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("mutant-") {
            continue;
        }
        mutants += 1;
        let definition = std::fs::read_to_string(kernels.join(format!("{name}.yaml"))).unwrap();
        assert!(
            definition.ends_with(&format!("\nextends: mainline\npatches: patches/{name}\n")),
            "{definition}"
        );
        assert!(!definition.contains("default:"), "{definition}");
        let patches = entries(&folder);
        assert_eq!(patches.len(), 1, "{patches:?}");
        let patch = std::fs::read_to_string(patches.first().unwrap()).unwrap();
        assert!(
            patch.contains(
                "\nThis is a deliberate defect, for testing tests. It must never be merged.\n"
            ),
            "{name}"
        );
    }
    assert!(mutants >= 6, "{mutants}");
}

#[test]
fn the_page_of_mutations_has_every_broken_kernel_and_all_are_noticed() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/mutations.md")).unwrap();
    let kernels = std::fs::read_dir(Path::new(ROOT).join("kernels")).unwrap();
    let names = kernels.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mutants = names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned));
    let mutants: Vec<_> = mutants.filter(|name| name.starts_with("mutant-")).collect();
    assert!(mutants.len() >= 4, "{mutants:?}");
    for mutant in mutants {
        let row = format!("| `{mutant}` |");
        let row = page.lines().find(|line| line.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("{mutant} is not in docs/mutations.md"));
        // | defect | originals | scenarios |
        let scenarios = row.split('|').nth(3).unwrap().trim();
        assert!(scenarios.parse::<u32>().unwrap() > 0, "{row}");
    }
}
