// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first run ever, with an empty cache, against what nobody gets around: the kernel's source has
//! to come and be unpacked, and make has to build it. Then another variant of that source, which is
//! built again in full where nothing is shared.

use std::fs;

use crate::kernel;
use crate::lab::{Lab, span};
use crate::process;
use crate::project::large_tempdir;
use crate::row::{Goal, Row, Unit};
use crate::tree;
use crate::{Bench, Result};

/// The scenario's kernel, and another variant: they differ by a few patches.
const KERNEL: &str = "tags";
const VARIANT: &str = "mainline";

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let row = |what, against, goal| Row::new("first", what, against, Unit::Seconds, goal);
    let mut first = row("first run ever", "download, make", Goal::Ratio(1.10));
    let mut variant = row("second variant", "a full build", Goal::Ratio(0.25));
    for round in 1..=bench.rounds {
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
        let another = kernel::build(&lab, VARIANT)?;
        // The same tree and config, built by make alone.
        let (built, plain) = (lab.tree(KERNEL)?, dir.path().join("plain"));
        tree::copy_source(&built, &plain)?;
        fs::create_dir(plain.join("build"))?;
        fs::copy(built.join("build/.config"), plain.join("build/.config"))?;
        let make = process::time(&mut tree::make(&plain, &tree::KERNEL))?;
        let ever = played.finished.seconds;
        eprintln!(
            "  round {round}: {ever:.1} s, source {source:.1} s, make {make:.1} s, another variant {another:.1} s"
        );
        first.pair(ever, source + make);
        variant.pair(another, make);
    }
    Ok(vec![first, variant])
}
