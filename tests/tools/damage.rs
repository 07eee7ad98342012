// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is cached is not what was written: a bit flipped, or an end was lost.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Output, Project};
use crate::faults::damage::*;
use crate::stages::{is_through, text};

const RUN: [&str; 4] = ["run", "scenarios", "--kernel=git", "--accel=tcg"];

/// A project in which everything has been built.
fn built() -> Project {
    let project = Project::with_stages();
    let output = project.lab(&RUN);
    assert!(is_through(&output), "{output:?}");
    project
}

/// The files of a kind of entries that a name ends like.
fn files(project: &Project, kind: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![project.cache().join(kind)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".tmp") {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.path().to_string_lossy().ends_with(ending) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn flip(path: &Path) {
    let mut data = fs::read(path).unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 0x10;
    fs::write(path, data).unwrap();
}

fn truncate(path: &Path) {
    let data = fs::read(path).unwrap();
    fs::write(path, &data[..data.len() / 2]).unwrap();
}

/// Damages a file: the next command makes it as it was and says so, and the one after that finds
/// nothing to complain of.
fn assert_mended(project: &Project, path: &Path, damage: impl Fn(&Path), says: &str) -> Output {
    let whole = fs::read(path).unwrap();
    damage(path);
    assert!(!path.exists() || fs::read(path).unwrap() != whole);
    let mending = project.lab(&RUN);
    assert!(is_through(&mending), "{mending:?}");
    assert!(
        mending.stderr.contains(says),
        "{}: {mending:?}",
        path.display()
    );
    assert_eq!(fs::read(path).unwrap(), whole, "{}", path.display());
    let again = project.lab(&RUN);
    assert!(
        is_through(&again) && !again.stderr.contains("anew"),
        "{again:?}"
    );
    mending
}

#[test]
fn of_kernels() {
    let project = built();
    let vmlinux = &files(&project, "kernels", "build/vmlinux")[0];
    assert_mended(&project, vmlinux, flip, KERNEL.says);
    let manifest = &files(&project, "kernels", "kernel.json")[0];
    assert_mended(&project, manifest, truncate, MANIFEST.says);
}

#[test]
fn of_images() {
    let project = built();
    let initramfs = &files(&project, "images", "initramfs.cpio")[0];
    assert_mended(&project, initramfs, flip, IMAGE.says);
    let packages = &files(&project, "images", ".json")[0];
    assert_mended(&project, packages, truncate, "read package lists");
}

#[test]
fn of_modules() {
    let project = built();
    for module in files(&project, "modules", ".ko") {
        assert_mended(&project, &module, flip, MODULE.says);
        assert_mended(&project, &module, truncate, LOST_MODULE.says);
    }
}

/// Source trees are looked at when a kernel is made of them.
#[test]
fn of_source_trees() {
    let project = built();
    let lose = |path: &Path| fs::remove_file(path).unwrap();
    let kernels = project.cache().join("kernels");
    let forget = |damage: &dyn Fn(&Path)| {
        let files = files(&project, "sources", "kernel/fork.c");
        assert_eq!(files.len(), 1);
        let whole = text(&files[0]);
        fs::remove_dir_all(&kernels).unwrap();
        damage(&files[0]);
        let mending = project.lab(&RUN);
        assert!(is_through(&mending), "{mending:?}");
        assert!(mending.stderr.contains(SOURCE.says), "{mending:?}");
        assert_eq!(text(&files[0]), whole);
        let built = self::files(&project, "kernels", "kernel/fork.c");
        assert_eq!(text(&built[0]), whole);
    };
    forget(&flip);
    forget(&truncate);
    forget(&lose);
    let record = &files(&project, "sources", ".json")[0];
    assert_mended(&project, record, truncate, "fetched main");
}
