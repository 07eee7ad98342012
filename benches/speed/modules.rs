// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules: those of one scenario against an empty one, of an unchanged scenario, and of many
//! scenarios against a make for each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::lab::{Lab, Played, span};
use crate::project::{BorrowedCache, Project, scenario_of_four_modules};
use crate::row::{Goal, Row, Unit};
use crate::tree::make_modules;
use crate::{Bench, Result};

/// Scenarios whose modules are built with one command.
const MANY: usize = 8;

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let project = Project::new(bench.root)?;
    let cache = BorrowedCache::new()?;
    let lab = Lab {
        project: project.path(),
        cache: Some(cache.path()),
    };
    let tree = lab.tree("tags")?;
    let goals = (Goal::Ratio(1.3), Goal::AtMost(0.0), Goal::Times(4.0));
    let name = "modules, 1 scenario";
    let mut one = Row::new("modules", name, "empty module", Unit::Seconds, goals.0);
    let mut none =
        Row::new("modules", "unchanged scenario", "", Unit::Calls, goals.1).noted("calls of make");
    let name = format!("modules, {MANY} scenarios");
    let mut many = Row::new("modules", &name, "make for each", Unit::Seconds, goals.2);
    let make = CountedMake::new()?;
    for round in 0..bench.rounds {
        // Other numbers each time: nothing is in the cache.
        let first = 1000 * (round + 1);
        project.scenario("one", &scenario_of_four_modules(first))?;
        let played = make.run(&lab, &["scenarios/one.yaml", "--accept"])?;
        one.pair(building(&played)?, empty_module(&tree)?);
        let calls = make.calls()?;
        make.run(&lab, &["scenarios/one.yaml"])?;
        none.measured.push((make.calls()? - calls) as f64);
        let paths = write_many(&project, first + 1)?;
        // One guest at a time, so that guests take little from the compilers meanwhile.
        let mut args = vec!["--accept", "--jobs", "1"];
        args.extend(paths.iter().map(String::as_str));
        let played = make.run(&lab, &args)?;
        many.pair(building(&played)?, make_each(&tree, &played)?);
    }
    Ok(vec![one, none, many])
}

/// From the begin to the end of the phases that build modules.
fn building(played: &Played) -> Result<f64> {
    let phases = played.events.phases(|what| what.contains("modules"))?;
    match phases.is_empty() {
        true => Err("no phase builds modules".into()),
        false => Ok(span(&phases)),
    }
}

fn write_many(project: &Project, first: usize) -> Result<Vec<String>> {
    let write = |index: usize| {
        let name = format!("many-{index}");
        project.scenario(&name, &scenario_of_four_modules(first + index))?;
        Ok(format!("scenarios/{name}.yaml"))
    };
    (0..MANY).map(write).collect()
}

/// Builds one module without content.
fn empty_module(tree: &Path) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("Kbuild"), "obj-m += empty.o\n")?;
    let text = "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n";
    fs::write(dir.path().join("empty.c"), text)?;
    make_modules(tree, dir.path())
}

/// Builds the modules of each run by itself, from the sources in its record.
fn make_each(tree: &Path, played: &Played) -> Result<f64> {
    let mut seconds = 0.0;
    for run in played.events.of("run-started") {
        let dir = tempfile::tempdir()?;
        for file in fs::read_dir(played.record(run)?.join("sources"))? {
            let file = file?;
            fs::copy(file.path(), dir.path().join(file.file_name()))?;
        }
        seconds += make_modules(tree, dir.path())?;
    }
    Ok(seconds)
}

/// A make on PATH that counts its calls. The makes that make itself starts are not counted: they go
/// by `$(MAKE)`, which names the real one.
struct CountedMake {
    dir: TempDir,
    calls: PathBuf,
}

impl CountedMake {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path);
        let real =
            folders.find_map(|folder| Some(folder.join("make")).filter(|make| make.is_file()));
        let real = real.ok_or("there is no make")?;
        let (calls, make) = (dir.path().join("calls"), dir.path().join("make"));
        fs::write(&calls, "")?;
        let script = format!(
            "#!/bin/sh\necho call >>'{}'\nexec '{}' \"$@\"\n",
            calls.display(),
            real.display()
        );
        fs::write(&make, script)?;
        fs::set_permissions(&make, fs::Permissions::from_mode(0o755))?;
        Ok(Self { dir, calls })
    }

    fn calls(&self) -> Result<usize> {
        Ok(fs::read_to_string(&self.calls)?.lines().count())
    }

    fn run(&self, lab: &Lab<'_>, args: &[&str]) -> Result<Played> {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.dir.path().display());
        let counted = |command: &mut Command| {
            command.env("PATH", path);
        };
        lab.watched_run(args, counted, |_| {})
    }
}
