// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that was set back: all that the lab has made is dated in the future.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::{self, Output, Project};
use crate::stages::{is_through, text};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A build system like the kernel's, as far as times matter: objects depend on sources, and the
/// release comes from a copy of the configuration that is only made anew if that is later.
const MAKEFILE: &str = r#"
vmlinux: $(O)/vmlinux
modules:
	touch $(O)/Module.symvers
allnoconfig:
	grep -v GONE $(KCONFIG_ALLCONFIG) > $(O)/.config
kernelrelease:
	@sed -n 's/^CONFIG_LOCALVERSION="\(.*\)"/7.0.0\1/p' $(O)/auto.conf
$(O)/auto.conf: $(O)/.config
	cp $< $@
$(O)/core.o: kernel/livepatch/core.c
	@echo '  CC      core.o'
	cp $< $@
$(O)/fork.o: kernel/fork.c
	@echo '  CC      fork.o'
	cp $< $@
$(O)/vmlinux: $(O)/core.o $(O)/fork.o $(O)/auto.conf
	[ ! -e broken ]
	cat $^ > $@
"#;

/// A project with a real make.
fn project() -> Project {
    let project = Project::new();
    project.remove_tool("make");
    symlink(common::find_tool("make"), project.path("bin/make")).unwrap();
    project.write("linux/Makefile", MAKEFILE);
    project.write("linux/kernel/fork.c", "fork\n");
    project.write("linux/kernel/livepatch/core.c", "core\n");
    date(&project.path("linux"), |time| time - DAY);
    project
}

fn build(project: &Project) -> Output {
    let output = project.lab(&["build", "kernel", "fake"]);
    assert_eq!(output.code, 0, "{output:?}");
    output
}

/// The file that a build says it has made.
fn vmlinux(output: &Output) -> String {
    text(Path::new(
        output.stdout.trim_end().rsplit(' ').next().unwrap(),
    ))
}

/// Dates the objects of all kernels a day later: the clock was set back since they were made.
fn date_objects(project: &Project) {
    for kernel in fs::read_dir(project.cache().join("kernels"))
        .unwrap()
        .flatten()
    {
        let build = kernel.path().join("tree/build");
        if build.exists() {
            date(&build, |time| time + DAY);
        }
    }
}

/// Changes the times of all files of a folder.
fn date(dir: &Path, to: impl Fn(SystemTime) -> SystemTime + Copy) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            date(&entry.path(), to);
        }
        if !kind.is_symlink() {
            let file = File::open(entry.path()).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            file.set_modified(to(time)).unwrap();
        }
    }
}

#[test]
fn what_changes_is_built_anew() {
    let project = project();
    let first = build(&project);
    assert!(first.stderr.contains("(2 objects)"), "{first:?}");
    assert!(vmlinux(&first).starts_with("core\nfork\n"));
    date_objects(&project);
    project.write("linux/kernel/livepatch/core.c", "changed\n");
    let second = build(&project);
    assert!(
        vmlinux(&second).starts_with("changed\nfork\n"),
        "{}",
        vmlinux(&second)
    );
    assert!(second.stderr.contains("(1 objects)"), "{second:?}");
    assert!(second.stderr.contains("objects shared"), "{second:?}");
    // Each kernel's release is its own: modules of another one must not load.
    let kernels = fs::read_dir(project.cache().join("kernels"))
        .unwrap()
        .flatten();
    let manifests = kernels.map(|entry| text(&entry.path().join("kernel.json")));
    let mut releases: Vec<_> = manifests
        .filter(|manifest| !manifest.is_empty())
        .map(|manifest| {
            let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
            let field = |name: &str| manifest[name].as_str().unwrap().to_owned();
            assert_eq!(
                field("release"),
                format!("7.0.0-lab-{}", &field("key")[..12])
            );
            field("release")
        })
        .collect();
    releases.dedup();
    assert_eq!(releases.len(), 2);
    // A third one may take objects of both.
    project.write("linux/kernel/fork.c", "forked\n");
    let third = build(&project);
    assert!(
        vmlinux(&third).starts_with("changed\nforked\n"),
        "{}",
        vmlinux(&third)
    );
}

#[test]
fn an_interrupted_build_goes_on() {
    let project = project();
    build(&project);
    project.write("linux/kernel/livepatch/core.c", "changed\n");
    project.write("linux/broken", "");
    assert_eq!(project.lab(&["build", "kernel", "fake"]).code, 3);
    date_objects(&project);
    let work = fs::read_dir(project.cache().join("kernels"))
        .unwrap()
        .flatten();
    let mut work = work.filter(|entry| entry.file_name().to_string_lossy().starts_with("work-"));
    fs::remove_file(work.next().unwrap().path().join("tree/broken")).unwrap();
    // The same kernel: its source is what it was.
    let resumed = build(&project);
    assert!(
        vmlinux(&resumed).starts_with("changed\nfork\n"),
        "{}",
        vmlinux(&resumed)
    );
}

#[test]
fn the_cache_ages_from_now_on() {
    let project = Project::with_stages();
    let run = ["run", "scenarios", "--kernel=tarball", "--accel=tcg"];
    assert!(is_through(&project.lab(&run)));
    let before = project.entries();
    let prune = |args: &[&str]| {
        let output = project.lab(&[&["cache", "prune"], args].concat());
        assert_eq!(output.code, 0, "{output:?}");
    };
    date(&project.cache(), |time| time + 400 * DAY);
    prune(&["--unused-for=1h"]);
    assert_eq!(project.entries(), before);
    let latest = |dir: &Path| {
        let used = fs::metadata(dir.join(".used")).or_else(|_| fs::metadata(dir));
        used.unwrap().modified().unwrap()
    };
    for entry in &before {
        assert!(
            latest(&project.cache().join(entry)) <= SystemTime::now(),
            "{entry}"
        );
    }
    // What is there is used, and what is not used goes.
    let again = project.lab(&run);
    assert!(
        is_through(&again) && !again.stderr.contains("built kernel"),
        "{again:?}"
    );
    prune(&["--unused-for=0h"]);
    assert_eq!(project.entries(), [""; 0]);
    assert!(is_through(&project.lab(&run)));
}

#[test]
fn the_latest_record_is_the_last_one() {
    let project = Project::with_stages();
    let run = ["run", "scenarios", "--kernel=fake", "--accel=tcg"];
    assert!(is_through(&project.lab(&run)));
    let runs = project.path(".lab/runs");
    let latest = || fs::read_link(runs.join("latest")).unwrap();
    let name = latest().display().to_string();
    let future = format!("2999{}", &name[4..]);
    fs::rename(runs.join(&name), runs.join(&future)).unwrap();
    fs::remove_file(runs.join("latest")).unwrap();
    symlink(&future, runs.join("latest")).unwrap();
    date(&runs, |time| time + 400 * DAY);
    assert!(is_through(&project.lab(&run)));
    assert_ne!(latest(), Path::new(&future));
    assert!(runs.join("latest/verdict.json").exists());
    assert!(runs.join(&future).join("verdict.json").exists());
}
