// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first run ever, with an empty cache, against what nobody gets around: the kernel's source has
//! to come and be unpacked, and make has to build it.

use std::fs;

use crate::lab::{Lab, span};
use crate::process;
use crate::project::large_tempdir;
use crate::row::{Goal, Row, Unit};
use crate::tree;
use crate::{Bench, Result};

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let goal = Goal::Ratio(1.10);
    let mut row = Row::new(
        "first",
        "first run ever",
        "download, make",
        Unit::Seconds,
        goal,
    );
    for _ in 0..bench.rounds {
        let dir = large_tempdir()?;
        let cache = dir.path().join("cache");
        let lab = Lab {
            project: bench.root,
            cache: Some(&cache),
        };
        let played = lab.run(&["scenarios/tagged-replace.yaml"])?;
        let is_source = |what: &str| {
            let comes = what.starts_with("fetch ") || what.starts_with("unpack ");
            comes && what.contains("linux")
        };
        let source: f64 = played
            .events
            .phases(is_source)?
            .iter()
            .map(|one| span(&[*one]))
            .sum();
        // The same tree and config, built by make alone.
        let (built, plain) = (lab.tree("tags")?, dir.path().join("plain"));
        tree::copy_source(&built, &plain)?;
        fs::create_dir(plain.join("build"))?;
        fs::copy(built.join("build/.config"), plain.join("build/.config"))?;
        let make = process::time(&mut tree::make(&plain, &tree::KERNEL))?;
        row.pair(played.finished.seconds, source + make);
    }
    Ok(vec![row])
}
