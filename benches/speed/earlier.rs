// SPDX-License-Identifier: MIT OR Apache-2.0
//! All scenarios on one kernel, against an earlier commit of the lab: `--earlier DIR` names a checkout
//! of it, in which `cargo build --release` was run. Both play what both have, in turn, with warm
//! caches. Scenarios whose modules klp-build makes are left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::Lab;
use crate::process;
use crate::row::{Goal, Row, Unit};
use crate::{Bench, Result};

const KERNEL: [&str; 2] = ["--kernel", "tags"];

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let earlier = bench.earlier.as_deref();
    let earlier =
        earlier.ok_or("the group `earlier` needs --earlier DIR, a checkout that is built")?;
    let (mut files, folder) = (Vec::new(), Path::new("scenarios"));
    collect(&bench.root.join(folder), folder, earlier, &mut files)?;
    let files: Vec<_> = files.iter().filter_map(|file| file.to_str()).collect();
    let lab = Lab::of(bench.root);
    let args = [&files[..], &KERNEL[..]].concat();
    let then = || -> Result<f64> {
        let results = tempfile::tempdir()?;
        let mut command = Command::new(earlier.join("target/release/lab"));
        command
            .arg("run")
            .args(&args)
            .arg("--output")
            .arg(results.path());
        command
            .current_dir(earlier)
            .env_remove("CI")
            .env_remove("LAB_PROJECT");
        process::time(&mut command)
    };
    // Builds and templates are not what is measured.
    lab.run(&args)?;
    then()?;
    let against = "an earlier commit";
    let goal = Goal::Times(4.0);
    let mut row = Row::new(
        "earlier",
        "all scenarios on tags",
        against,
        Unit::Seconds,
        goal,
    );
    for _ in 0..bench.rounds {
        row.pair(lab.run(&args)?.finished.seconds, then()?);
    }
    Ok(vec![row])
}

/// The scenarios that both checkouts have and that need no klp-build.
fn collect(dir: &Path, name: &Path, earlier: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        if path.is_dir() {
            collect(&path, &name, earlier, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
            && earlier.join(&name).exists()
            && !fs::read_to_string(&path)?.contains("klp-build:")
        {
            files.push(name);
        }
    }
    files.sort();
    Ok(())
}
