// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules that were built elsewhere: what is in them, and whether they fit a kernel.
//!
//! They are held against the kernel before anything boots, because the kernel's own answer is an
//! errno and nothing else. The very bytes that were checked are those that are loaded: they are
//! copied into the cache, under their sum.

pub mod fit;
pub mod kernel;

use std::fs;
use std::path::Path;

use super::{CACHE, Module};
use crate::arch::Arch;
use crate::cache::KeyBuilder;
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::kernel::BuiltKernel;
use crate::scenario::{Scenario, kernel_module_name};

pub use crate::ko::{Ko, read};
pub use fit::{Finding, findings};
pub use kernel::KernelFacts;

/// Counts up when the way modules are taken changes.
const RECIPE: &str = "prebuilt-1";

/// Reads the file of a scenario's module: it must be the module that it stands for.
fn read_as(path: &Path, name: &str, scenario: &Scenario) -> Result<(Ko, Vec<u8>)> {
    let (ko, data) = read(path)?;
    let refuse = |what: String, help: String| {
        let what = format!("{} {what}", path.display());
        Err(Error::new(Blame::File, what).help(help))
    };
    if kernel_module_name(&ko.name) != kernel_module_name(name) {
        let what = format!("is the module `{}`, not `{name}`", ko.name);
        let help = format!("call it `{}` in {}", ko.name, scenario.name);
        return refuse(what, help);
    }
    match (scenario.livepatch(name).is_some(), ko.is_livepatch()) {
        (true, false) => refuse(
            "is no livepatch".to_owned(),
            format!("move `{name}` to `targets:`"),
        ),
        (false, true) => refuse(
            "is a livepatch".to_owned(),
            format!("move `{name}` to `livepatches:`"),
        ),
        _ => Ok((ko, data)),
    }
}

/// Looks whether the prebuilt modules of a scenario are there, and what they are said to be.
///
/// # Errors
///
/// `File` if one is not.
pub fn check(scenario: &Scenario) -> Result<()> {
    for (name, path) in scenario.prebuilt() {
        if !path.exists() {
            let what = format!("there is no {}, which is to be `{name}`", path.display());
            return Err(Error::new(Blame::File, what)
                .help("paths after `ko:` are relative to the scenario's folder"));
        }
        read_as(&path, name, scenario)?;
    }
    Ok(())
}

/// Takes the prebuilt modules of a scenario, if they fit `kernel` or are meant not to. `built` are
/// its other modules.
///
/// # Errors
///
/// `ModuleBuild` with what the kernel would refuse.
pub async fn take(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    scenario: &Scenario,
    built: &[Module],
) -> Result<Vec<Module>> {
    let mut files = Vec::new();
    for (name, path) in scenario.prebuilt() {
        let (ko, data) = read_as(&path, name, scenario)?;
        files.push((name, path, ko, data));
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let facts = KernelFacts::of(kernel, arch)?;
    let mut others = Vec::new();
    for module in built {
        others.push(read(&module.path)?.0);
    }
    let all: Vec<&Ko> = others
        .iter()
        .chain(files.iter().map(|file| &file.2))
        .collect();
    let mut found = Vec::new();
    for (_, path, ko, _) in &files {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        found.extend(findings(ko, &file, &facts, arch, &all));
    }
    found.retain(|finding| !finding.is_expected(scenario));
    if let Some(error) = refusal(&found) {
        return Err(error);
    }
    let mut modules = Vec::new();
    for (name, _, _, data) in &files {
        modules.push(keep(ctx, name, data).await?);
    }
    Ok(modules)
}

/// What the kernel would refuse, as an error.
fn refusal(findings: &[Finding]) -> Option<Error> {
    let (first, rest) = findings.split_first()?;
    let mut error = Error::new(Blame::ModuleBuild, &*first.what).help(&*first.help);
    error.evidence.extend(first.details.iter().cloned());
    for finding in rest {
        error.evidence.push(finding.what.clone());
        let details = finding.details.iter();
        error
            .evidence
            .extend(details.map(|line| format!("  {line}")));
    }
    Some(error)
}

/// Copies a module into the cache.
async fn keep(ctx: &Context, name: &str, data: &[u8]) -> Result<Module> {
    let file = format!("{}.ko", kernel_module_name(name));
    let mut key = KeyBuilder::new(RECIPE);
    key.part("name", file.as_bytes()).part("file", data);
    let write = async |stage: &Path| {
        let path = stage.join(&file);
        fs::write(&path, data).at("write", &path)?;
        Ok(vec![file.clone()])
    };
    let entry = ctx.entry(CACHE, &key.finish())?.get_or_make(write).await?;
    Ok(Module {
        name: name.to_owned(),
        path: entry.join(file),
    })
}

#[cfg(test)]
mod tests;
