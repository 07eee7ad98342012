// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels: one that is unchanged, one's own tree with another line.

use crate::lab::Lab;
use crate::process;
use crate::project::{Project, large_tempdir};
use crate::row::{Goal, Row, Unit};
use crate::tree;
use crate::{Bench, Result};

/// A kernel of the checkout.
const KERNEL: &str = "mainline";
/// At most this long may it take to know that nothing has changed.
const KNOWN: Goal = Goal::AtMost(50.0);

/// The whole command, which starts, reads the definition, finds the source and asks the compiler
/// for its version.
pub fn measure_unchanged(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let lab = Lab::of(bench.root);
    lab.tree(KERNEL)?;
    let mut row = Row::new(
        "unchanged",
        "kernel unchanged",
        "",
        Unit::Milliseconds,
        KNOWN,
    );
    for _ in 0..bench.rounds {
        row.measured.push(1000.0 * build(&lab, KERNEL)?);
    }
    Ok(vec![row])
}

/// One's own tree, in a cache of its own: known to be unchanged, and with another line. Set against
/// that are the same line and make in a copy that is built in place.
pub fn measure_edit(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let (dir, project) = (large_tempdir()?, Project::new(bench.root)?);
    let (own, plain) = (dir.path().join("own"), dir.path().join("plain"));
    let cache = dir.path().join("cache");
    let built = Lab::of(bench.root).tree(KERNEL)?;
    tree::copy_source(&built, &own)?;
    tree::copy(&built, &plain)?;
    let definition = format!(
        "# SPDX-License-Identifier: MIT OR Apache-2.0\nversion: 1\nsummary: One's own tree.\n\
         extends: {KERNEL}\nsource: {{ path: {} }}\n",
        own.display()
    );
    project.kernel("own", &definition)?;
    let lab = Lab {
        project: project.path(),
        cache: Some(&cache),
    };
    build(&lab, "own")?;
    process::time(&mut tree::make(&plain, &tree::KERNEL))?;
    let mut known = Row::new("edit", "own tree unchanged", "", Unit::Milliseconds, KNOWN);
    let goal = Goal::Ratio(1.15);
    let mut line = Row::new(
        "edit",
        "one line of core.c",
        "make there",
        Unit::Seconds,
        goal,
    );
    for round in 0..bench.rounds {
        known.measured.push(1000.0 * build(&lab, "own")?);
        tree::edit(&own, round)?;
        tree::edit(&plain, round)?;
        let ours = build(&lab, "own")?;
        line.pair(ours, process::time(&mut tree::make(&plain, &tree::KERNEL))?);
    }
    Ok(vec![known, line])
}

/// `lab build kernel NAME`.
pub fn build(lab: &Lab<'_>, kernel: &str) -> Result<f64> {
    process::time(&mut lab.command(&["build", "kernel", kernel]))
}
