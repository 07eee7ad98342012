// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels: one that is unchanged, one's own tree with another line, another variant of a source.

use livepatch_lab::cache::Cache;

use crate::lab::Lab;
use crate::process;
use crate::project::{Project, large_tempdir};
use crate::row::{Goal, Row, Unit};
use crate::tree;
use crate::{Bench, Result};

/// A kernel of the checkout, and another variant of its source.
const FIRST: &str = "mainline";
const SECOND: &str = "tags";
/// At most this long may it take to know that nothing has changed.
const KNOWN: Goal = Goal::AtMost(50.0);

/// The whole command, which starts, reads the definition, finds the source and asks the compiler
/// for its version.
pub fn measure_unchanged(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let lab = Lab::of(bench.root);
    lab.tree(SECOND)?;
    let mut row = Row::new(
        "unchanged",
        "kernel unchanged",
        "",
        Unit::Milliseconds,
        KNOWN,
    );
    for _ in 0..bench.rounds {
        row.measured.push(1000.0 * build(&lab, SECOND)?);
    }
    Ok(vec![row])
}

/// One's own tree, in a cache of its own: known to be unchanged, and with another line. Set against
/// that are the same line and make in a copy that is built in place.
pub fn measure_edit(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let (dir, project) = (large_tempdir()?, Project::new(bench.root)?);
    let (own, plain) = (dir.path().join("own"), dir.path().join("plain"));
    let cache = dir.path().join("cache");
    let built = Lab::of(bench.root).tree(FIRST)?;
    tree::copy_source(&built, &own)?;
    tree::copy(&built, &plain)?;
    let definition = format!(
        "# SPDX-License-Identifier: MIT OR Apache-2.0\nversion: 1\nsummary: One's own tree.\n\
         extends: {FIRST}\nsource: {{ path: {} }}\n",
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

/// Another variant after the first one, which is built in full: they differ by a few patches. In a
/// cache that has the source and no kernel.
pub fn measure_variant(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let goal = Goal::Ratio(0.25);
    let mut row = Row::new(
        "variant",
        "second variant",
        "a full build",
        Unit::Seconds,
        goal,
    );
    Lab::of(bench.root).tree(FIRST)?;
    for _ in 0..bench.rounds {
        let cache = large_tempdir()?;
        // Copied, since links do not go from one file system to another.
        let sources = Cache::from_env()?.dir().join("sources");
        tree::copy(&sources, &cache.path().join("sources"))?;
        let lab = Lab {
            project: bench.root,
            cache: Some(cache.path()),
        };
        let full = build(&lab, FIRST)?;
        row.pair(build(&lab, SECOND)?, full);
    }
    Ok(vec![row])
}

/// `lab build kernel NAME`.
fn build(lab: &Lab<'_>, kernel: &str) -> Result<f64> {
    process::time(&mut lab.command(&["build", "kernel", kernel]))
}
