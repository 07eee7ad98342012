// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios: the stories that the lab plays to a kernel, read from YAML.
//!
//! [`parse`] checks a file against the tables in `shape`, lowers it to the [`Scenario`] model and
//! checks what refers to what. Every error of a file is reported at once; a `Scenario` that exists
//! is right, as far as that can be known without a kernel. In particular, no name or path in it has
//! white space, and neither these nor data have control characters, which the line protocol with a
//! guest relies on. What gets to the host's programs (names of modules and of source patches,
//! options of klp-build) is nothing that a shell or make would expand.

mod definitions;
mod failures;
mod model;
mod shape;
mod story;
mod world;

pub use crate::klp::{
    Callback, Callbacks, Code, Errno, FunctionRef, Generated, Livepatch, NewFunction,
    PatchedFunction, PatchedObject, Replace, ReplaceCapability, Snippet, State, Symbol, Target,
    TargetFunction, VMLINUX, kernel_module_name,
};
pub use crate::step::{Action, Expect, Step, Transition};
pub use model::{
    AllowedSplat, Capability, ExpectedFailure, Mask, Original, Requires, Scenario, SnapshotScope,
};
pub use world::{Went, World};

pub(crate) use crate::klp::names::{
    is_data, is_function_name, is_kernel_path, is_rights, is_scenario_name,
};
pub(crate) use crate::klp::shape::is_module_name;
pub(crate) use crate::step::is_param;

use model::VERSION;
use std::path::Path;

use crate::klp::{names, text};
use crate::size::Needs;
use crate::step;
use crate::yaml::{self, Diagnostic, Diagnostics, Node, Source, Span};

/// Reads a scenario. `name` is the file's name without its extension.
///
/// # Errors
///
/// Everything that is wrong with the file, in its order; the one exception is a version that is
/// not known, about which nothing else can be said.
pub fn parse(name: &str, source: &Source) -> Result<Scenario, Diagnostics> {
    read(name, source).map(|(_, scenario)| scenario)
}

/// Reads a scenario, and follows its steps: each must be able to work. A file that is no author's own,
/// an imported report for example, can be read by [`parse`] all the same.
///
/// # Errors
///
/// Those of [`parse`]; if there are none, the steps that cannot work on any kernel.
pub fn check(name: &str, source: &Source) -> Result<Scenario, Diagnostics> {
    let (root, scenario) = read(name, source)?;
    let mistakes = story::mistakes(&root, &scenario);
    match mistakes.is_empty() {
        true => Ok(scenario),
        false => Err(mistakes),
    }
}

/// What is odd in a scenario that [`check`] accepts, but not wrong.
#[must_use]
pub fn oddities(name: &str, source: &Source) -> Diagnostics {
    read(name, source).map_or_else(
        |_| Diagnostics::new(),
        |(root, scenario)| story::oddities(&root, &scenario),
    )
}

fn read(name: &str, source: &Source) -> Result<(Node, Scenario), Diagnostics> {
    let root = yaml::parse(source)?;
    yaml::require_version(&root, "a scenario", VERSION)?;

    let mut diagnostics = Diagnostics::new();
    if !names::is_scenario_name(name) {
        let message = format!("`{name}` is not the name of a scenario");
        let help = "name the file with lower-case letters, digits and `-`";
        diagnostics.push(Diagnostic::new(Span::default(), message).help(help));
    }
    yaml::check(shape::SCENARIO, &root, &mut diagnostics);
    definitions::limits(&root, &mut diagnostics);
    let requires = definitions::requires(&root);
    let (targets, livepatches) = definitions::read(&root, source, &requires, &mut diagnostics);
    let steps = step::read(&root, source, &targets, &livepatches, &mut diagnostics);
    let expect_failure = failures::read(&root, &steps, &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let scenario = Scenario {
        name: name.to_owned(),
        folder: Path::new(&source.path)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default(),
        summary: text(&root, "summary").unwrap_or_default(),
        original: definitions::original(&root),
        requires,
        machine: Needs::of(root.get("machine")),
        targets,
        livepatches,
        steps,
        expect_failure,
        allow_splats: failures::allowed_splats(&root),
        mask: definitions::masks(&root),
        snapshot: definitions::snapshot(&root),
    };
    Ok((root, scenario))
}

/// The JSON schema of scenario files, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    yaml::json_schema(
        shape::SCENARIO,
        "Livepatch scenario",
        "urn:livepatch-lab:scenario:1",
    )
}
