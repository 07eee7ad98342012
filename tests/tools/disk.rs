// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk that becomes full, at every stage of a build and of a run.
//!
//! A command runs on a disk of next to no space, and again on one with a little more, until it
//! succeeds: so the disk becomes full in each stage in turn. Each time the command says so, and the
//! next one on the same disk, which has room by then, makes what an undisturbed one makes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Output, Project, assert_is};
use crate::faults::Fault;
use crate::faults::disk::*;
use crate::stages::{is_through, text};

/// The script of a rung: a disk with so much space left, lab, more space, lab, what there is.
const RUNG: &str = r#"
disk=$1 ready=$2 size=$3 bin=$4 out=$5
shift 5
mount -t tmpfs -o size=64m none "$disk" || exit 9
if [ -n "$ready" ]; then cp -a "$ready/." "$disk/" || exit 9; fi
used=$(df -k --output=used "$disk" | tail -n 1)
mount -o remount,size=$((used + size))k "$disk" || exit 9
run() { (PATH=$bin; exec "$@" < /dev/null > "$out/stdout" 2> "$out/stderr"); code=$?; }
list() { (cd "$disk" && find . -type f | grep -v -e /locks/ -e /accel/ -e /times/ -e '/[.]compared$' | sort | xargs -r sha256sum); }
run "$@"
cp "$out/stdout" "$out/first.stdout"; cp "$out/stderr" "$out/first.stderr"; echo $code > "$out/first.code"
list > "$out/first.list"
mount -o remount,size=64m "$disk" || exit 9
run "$@"
echo $code > "$out/code"
list > "$out/list"
"#;

/// A disk that becomes full.
struct Ladder<'a> {
    project: &'a Project,
    /// Where it is mounted.
    disk: &'a Path,
    /// What is on it beforehand.
    ready: Option<&'a Path>,
    /// Its size grows by so many KiB.
    step: usize,
    args: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    /// The faults that must be met, each with what its output must hold.
    faults: &'a [(&'a Fault, &'a str)],
}

impl Ladder<'_> {
    fn climb(&self) {
        fs::create_dir_all(self.disk).unwrap();
        let mut met = BTreeSet::new();
        let mut lists = BTreeSet::new();
        for size in (self.step..4096).step_by(self.step) {
            let (first, second) = self.rung(size);
            assert!(is_through(&second), "{size} KiB, then enough: {second:?}");
            lists.insert(self.finished("list"));
            assert_eq!(lists.len(), 1, "{size} KiB: {lists:?}");
            if is_through(&first) {
                let missing = self
                    .faults
                    .iter()
                    .filter(|(fault, _)| !met.contains(fault.what));
                let missing: Vec<_> = missing.map(|(fault, _)| fault.what).collect();
                assert_eq!(missing, [""; 0], "was not met");
                return;
            }
            let said = format!("{}{}", first.stdout, first.stderr);
            // What is done has been said as well: the last stage is the one that failed.
            let here = self
                .faults
                .iter()
                .rev()
                .find(|(_, mark)| said.contains(mark));
            let (fault, _) = here.unwrap_or(&self.faults[0]);
            assert_is(fault, &first);
            assert!(
                said.contains("next: free some space"),
                "{size} KiB: {first:?}"
            );
            if let Some((fault, _)) = here {
                met.insert(fault.what);
            }
            // What is finished is what an undisturbed command makes, and nothing is half of it.
            let list = self.finished("first.list");
            let whole = lists.first().unwrap();
            let half: Vec<_> = list.difference(whole).collect();
            assert!(half.is_empty(), "{size} KiB: {half:?}");
        }
        panic!("it never succeeds");
    }

    fn rung(&self, size: usize) -> (Output, Output) {
        let out = self.project.path("out");
        fs::create_dir_all(&out).unwrap();
        let status = Command::new("unshare")
            .args(["-rm", "sh", "-c", RUNG, "sh"])
            .arg(self.disk)
            .arg(self.ready.unwrap_or(Path::new("")))
            .arg(size.to_string())
            .arg(self.project.path("bin"))
            .arg(&out)
            .arg(env!("CARGO_BIN_EXE_lab"))
            .args(self.args)
            .current_dir(self.project.path("."))
            .env_remove("CI")
            .env_remove("LAB_PROJECT")
            .env("LAB_CACHE_DIR", self.project.cache())
            .envs(self.environment.iter().copied())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        let output = |prefix: &str| Output {
            code: text(&out.join(format!("{prefix}code")))
                .trim()
                .parse()
                .unwrap(),
            stdout: text(&out.join(format!("{prefix}stdout"))),
            stderr: text(&out.join(format!("{prefix}stderr"))),
        };
        (output("first."), output(""))
    }

    /// Sums and names of what counts as finished. The notes on a build (its log, the number of
    /// objects that it made) are others if it was picked up again; records are kept as they are.
    fn finished(&self, list: &str) -> BTreeSet<String> {
        let list = text(&self.project.path("out").join(list));
        let notes = [
            "/work-",
            "/build.log",
            "/kernel.json",
            "/.used",
            "/objects-",
            "/runs/",
            "/events",
        ];
        let of_entries = |line: &&str| !notes.iter().any(|note| line.contains(note));
        let apt = |line: &&str| !line.contains("/apt/");
        list.lines()
            .filter(of_entries)
            .filter(apt)
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn at_every_stage_of_a_build() {
    let project = Project::with_stages();
    let cache = project.cache();
    Ladder {
        project: &project,
        disk: &cache,
        ready: None,
        step: 12,
        args: &["build", "kernel", "patched"],
        environment: &[],
        faults: &[
            (&SOURCE, "cannot unpack"),
            (&PATCHES, "applying the patches"),
            (&CONFIG, "configuring kernel"),
            (&OBJECTS, "building kernel"),
        ],
    }
    .climb();
    Ladder {
        project: &project,
        disk: &cache,
        ready: None,
        step: 12,
        args: &["build", "image", "default"],
        environment: &[],
        faults: &[
            (&LISTS, "package lists"),
            (&PACKAGES, "cannot fetch"),
            (&IMAGE, "build image"),
        ],
    }
    .climb();
}

#[test]
fn with_a_relative_to_take_objects_from() {
    let project = Project::with_stages();
    let first = project.lab(&["build", "kernel", "fake"]);
    assert_eq!(first.code, 0, "{first:?}");
    let ready = project.path("ready");
    fs::rename(project.cache(), &ready).unwrap();
    let core = "int edited;\n".repeat(2000);
    project.write("linux/kernel/livepatch/core.c", &core);
    let cache = project.cache();
    Ladder {
        project: &project,
        disk: &cache,
        ready: Some(&ready),
        step: 12,
        args: &["build", "kernel", "fake"],
        environment: &[],
        faults: &[(&COPY, "cannot copy"), (&SHARED, "cannot copy the object")],
    }
    .climb();
}

#[test]
fn at_the_modules() {
    let project = built();
    let ready = project.path("ready");
    fs::rename(project.cache(), &ready).unwrap();
    fs::remove_dir_all(ready.join("modules")).unwrap();
    let cache = project.cache();
    Ladder {
        project: &project,
        disk: &cache,
        ready: Some(&ready),
        step: 12,
        args: &["run", "scenarios", "--kernel=fake", "--accel=tcg"],
        environment: &[],
        faults: &[(&MODULES, "building the modules")],
    }
    .climb();
}

#[test]
fn of_the_records() {
    let project = built();
    let results = project.path("results");
    Ladder {
        project: &project,
        disk: &results,
        ready: None,
        step: 4,
        args: &[
            "run",
            "scenarios",
            "--kernel=fake",
            "--accel=tcg",
            "--output=results",
        ],
        environment: &[],
        faults: &[(&RECORDS, "results/runs")],
    }
    .climb();
}

/// What a machine has in TMPDIR are sockets and pipes.
#[test]
fn of_temporary_files_is_no_matter() {
    let project = built();
    let temporary = project.path("temporary");
    let tmpdir = temporary.display().to_string();
    Ladder {
        project: &project,
        disk: &temporary,
        ready: None,
        step: 16,
        args: &["run", "scenarios", "--kernel=fake", "--accel=tcg"],
        environment: &[("TMPDIR", &tmpdir)],
        faults: &[],
    }
    .climb();
}

/// A project in which everything has been built.
fn built() -> Project {
    let project = Project::with_stages();
    let output = project.lab(&["run", "scenarios", "--kernel=fake", "--accel=tcg"]);
    assert!(is_through(&output), "{output:?}");
    project
}
