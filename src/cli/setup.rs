// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab setup`: says which host packages are missing or too old, and why, asks, installs.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use super::ask::ask;
use crate::arch::{Arch, HostPackage};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::host;
use crate::plan::Plan;
use crate::report::to_stderr;
use crate::scenario::Scenario;

/// Installs what is missing or too old for whatever may come with guests of `archs`.
pub async fn setup(ctx: &Context, archs: &[Arch], yes: bool) -> Result<()> {
    install(ctx, &host::everything(archs), yes).await
}

/// What the host needs to play these runs, if there are any: klp-build's packages are for those that
/// use it.
pub fn needed<'a>(runs: impl IntoIterator<Item = (Arch, &'a Scenario)>) -> Vec<HostPackage> {
    // Whether some run uses klp-build, by architecture.
    let mut archs = BTreeMap::new();
    for (arch, scenario) in runs {
        *archs.entry(arch).or_insert(false) |= scenario.uses_klp_build();
    }
    if archs.is_empty() {
        return Vec::new();
    }
    let mut list = host::needed(&archs.keys().copied().collect::<Vec<_>>());
    let users = archs.into_iter().filter(|(_, uses)| *uses);
    list.extend(users.flat_map(|(arch, _)| host::klp_build(arch)));
    list
}

/// The same, for a plan.
pub fn needed_for(plan: &Plan<'_>) -> Vec<HostPackage> {
    needed(plan.runs.iter().map(|run| (run.arch, run.scenario)))
}

/// Installs what is missing or too old of these packages.
pub async fn install(ctx: &Context, needed: &[HostPackage], yes: bool) -> Result<()> {
    let mut missing = host::missing(needed);
    let outdated = host::outdated(ctx, needed).await?;
    missing.extend(outdated.iter().map(|(package, _)| *package));
    if missing.is_empty() {
        ctx.events.note("every host package is there");
        return Ok(());
    }
    to_stderr("These host packages will be installed with apt-get:");
    for package in &missing {
        to_stderr(&format!("  {}", host::describe(package)));
    }
    if !yes && std::io::stdin().is_terminal() {
        let answer = ask(ctx, "Go on? [Y/n]").await?;
        if !matches!(answer.as_deref(), Some("" | "y" | "yes")) {
            return Err(Error::host("the packages were not installed")
                .help("answer with y, say --yes, or install them yourself"));
        }
    }
    host::install(ctx, &missing).await?;
    host::require_packages(needed)
}
