// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab inspect`: what a module is that somebody else has built, and what a kernel says to it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::context::Context;
use crate::error::Result;
use crate::kernel::{self, Definition};
use crate::ko::klp::KlpSymbol;
use crate::module::prebuilt::{self, Finding, KernelFacts, Ko, findings};

pub const EXAMPLES: &str = "\
Examples:
  lab inspect report/livepatch-fix.ko                     what it is, what it patches, what it wants
  lab inspect report/*.ko --kernel mainline               and what this kernel would refuse of it

Exit status: 0, or 3 if the kernel would refuse one of them.";

/// Names on a line before it is cut.
const NAMES_MAX: usize = 40;
/// Columns of a line.
const WIDTH: usize = 100;

/// Arguments of `lab inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Modules, beside each other: what one exports the others may use.
    #[arg(required = true, value_name = "MODULE.ko")]
    files: Vec<PathBuf>,
    /// Check them against this kernel, which is built if it is not in the cache.
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
}

impl InspectArgs {
    /// Whether a kernel is needed, and so a project.
    pub fn needs_project(&self) -> bool {
        self.kernel.is_some()
    }
}

/// Describes modules.
pub fn describe(args: &InspectArgs) -> Result<(String, Vec<Ko>)> {
    let mut text = String::new();
    let mut modules = Vec::new();
    for path in &args.files {
        let (ko, _) = prebuilt::read(path)?;
        if !modules.is_empty() {
            text.push('\n');
        }
        text += &description(&ko, &name(path));
        modules.push(ko);
    }
    Ok((text, modules))
}

/// Holds modules against the kernel that the command line names.
pub async fn compare(ctx: &Context, args: &InspectArgs, modules: &[Ko]) -> Result<(u8, String)> {
    let Some(kernel) = &args.kernel else {
        return Ok((0, String::new()));
    };
    let definition = Definition::read(&ctx.project, kernel)?;
    let all: Vec<&Ko> = modules.iter().collect();
    let mut facts = BTreeMap::new();
    let mut text = String::new();
    let mut code = 0;
    for (path, ko) in args.files.iter().zip(modules) {
        let facts = match facts.entry(ko.arch) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let built = kernel::build::build(ctx, &definition, ko.arch, false).await?;
                let _ = write!(text, "\non {kernel} {}, {}:\n", ko.arch, built.release);
                place.insert(KernelFacts::of(&built, ko.arch)?)
            }
        };
        let found = findings(ko, &name(path), facts, ko.arch, &all);
        if !found.is_empty() {
            code = 3;
        }
        text += &verdict(&name(path), &found);
    }
    Ok((code, text))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What a module is, in a few lines.
fn description(ko: &Ko, file: &str) -> String {
    let kind = match ko.is_livepatch() {
        true => "a livepatch",
        false => "a module",
    };
    let mut text = format!("{file}: {kind} for {}\n", ko.arch);
    let mut row = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {label:<12}{value}");
        }
    };
    row("name", &ko.name);
    for key in ["vermagic", "license", "depends", "srcversion"] {
        row(key, ko.info(key).unwrap_or_default().trim_end());
    }
    row("signed", if ko.is_signed { "yes" } else { "no" });
    if let Some(patch) = &ko.patch {
        let replace = match patch.replace {
            None => "set when it is loaded".to_owned(),
            Some(0) => "0 (false: replaces nothing)".to_owned(),
            Some(1) => "1 (true, or replace tag 1)".to_owned(),
            Some(tag) => format!("{tag} (a replace tag)"),
        };
        row("replace", &replace);
        for object in &patch.objects {
            let functions = object.functions.iter().map(ToString::to_string);
            row("patches", &format!("{}: {}", object.name, list(functions)));
        }
    } else if ko.is_livepatch() {
        row("patches", "not in its data: it says so when it is loaded");
    }
    let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for symbol in &ko.klp_symbols {
        match symbol {
            KlpSymbol::Of { object, symbol } => {
                wanted.entry(object).or_default().push(symbol.to_string());
            }
            KlpSymbol::Malformed(text) => row("klp symbol", &format!("unreadable: {text}")),
        }
    }
    for (object, symbols) in wanted {
        row(
            "klp symbols",
            &format!("{object}: {}", list(symbols.into_iter())),
        );
    }
    row("exports", &list(ko.exports.iter().cloned()));
    row("wants", &list(ko.undefined.iter().cloned()));
    text
}

/// Names on one line, as many as there is room for.
fn list(names: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = names.collect();
    let mut text = String::new();
    for (index, name) in all.iter().enumerate() {
        let full = index == NAMES_MAX || text.len() + name.len() + 30 > WIDTH;
        if full && index > 0 {
            let _ = write!(text, " and {} more", all.len() - index);
            break;
        }
        if index > 0 {
            text += ", ";
        }
        text += name;
    }
    text
}

/// What the kernel says to a module.
fn verdict(file: &str, found: &[Finding]) -> String {
    if found.is_empty() {
        return format!("  {file} fits, as far as can be known before it is loaded\n");
    }
    let mut text = String::new();
    for finding in found {
        let _ = writeln!(text, "  {}", finding.what);
        for line in &finding.details {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "    next: {}", finding.help);
    }
    text
}
