// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab setup`: says which host packages are missing or too old, and why, asks, installs.

use std::io::IsTerminal;

use super::ask::ask;
use crate::arch::{Arch, HostPackage};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::host;
use crate::report::to_stderr;

/// Installs what is missing or too old for guests of `archs`.
pub async fn setup(ctx: &Context, archs: &[Arch], yes: bool) -> Result<()> {
    install(ctx, &host::needed(archs), yes).await
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
