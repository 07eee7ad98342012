// SPDX-License-Identifier: MIT OR Apache-2.0
//! A scenario in the form of others: as a test of the kernel's own selftests. Pure.
//!
//! Everything that the scenario says is in the test, or the export fails: a test that claims less
//! than its scenario would pass where the scenario does not.

mod expect;
mod library;
mod modules;
mod script;

use std::collections::BTreeSet;

use crate::module::generate::SourceFile;
use crate::scenario::{Capability, Code, Scenario};

/// Something in a scenario that the other form cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inexpressible {
    /// The line of the step, from 1; `None` if it is not in a step.
    pub line: Option<usize>,
    /// What it is, and why.
    pub what: String,
}

/// The scenario as a folder in the style of `tools/testing/selftests/livepatch`: a script that
/// stands beside that folder's `functions.sh`, and `test_modules/`. Names have a folder in front.
///
/// # Errors
///
/// Everything that such a script cannot do or check.
pub fn kselftest(scenario: &Scenario) -> Result<Vec<SourceFile>, Vec<Inexpressible>> {
    let mut problems = foreign_modules(scenario);
    if scenario
        .requires
        .capabilities
        .contains(&Capability::KlpBuild)
    {
        problems.push(Inexpressible {
            line: None,
            what: "`requires: { capabilities: [klp-build] }`: a test cannot know whether there \
                   is a klp-build"
                .to_owned(),
        });
    }
    problems.extend(masked_lines(scenario));
    let script = script::render(scenario, &mut problems);
    let mut files = vec![script];
    files.extend(modules::files(scenario));
    let mut seen = BTreeSet::new();
    for file in &files {
        if !seen.insert(&file.name) {
            problems.push(Inexpressible {
                line: None,
                what: format!("{} would be written twice: rename the module", file.name),
            });
        }
    }
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(problems)
    }
}

/// Steps whose `whole_log` has what a mask covers: dmesg masks nothing.
fn masked_lines(scenario: &Scenario) -> impl Iterator<Item = Inexpressible> + '_ {
    let is_masked = |line: &String| {
        let shown = format!("log {line}");
        scenario.mask.iter().any(|mask| shown.contains(&mask.text))
    };
    let steps = scenario.steps.iter().filter(move |step| {
        let whole = step
            .expect
            .as_ref()
            .and_then(|expect| expect.whole_log.as_ref());
        whole.is_some_and(|lines| lines.iter().any(is_masked))
    });
    steps.map(|step| Inexpressible {
        line: Some(step.line),
        what: "`whole_log` has a line that `mask:` covers, and a script masks nothing".to_owned(),
    })
}

/// The modules whose source the lab does not have, at the step that first loads them.
fn foreign_modules(scenario: &Scenario) -> Vec<Inexpressible> {
    let line = |name: &str| {
        let mut steps = scenario.steps.iter();
        let first = steps.find(|step| step.action.effects().loads == Some(name));
        first.map(|step| step.line)
    };
    const KSELFTEST: &str = "is one of the kernel's own selftests";
    const PREBUILT: &str = "was built elsewhere";
    let targets = scenario.targets.iter().filter(|t| !t.is_generated());
    let targets = targets.map(|target| match target.ko {
        Some(_) => (&target.name, PREBUILT),
        None => (&target.name, KSELFTEST),
    });
    let livepatches = scenario.livepatches.iter().filter_map(|livepatch| {
        let whose = match livepatch.code {
            Code::Generated(_) => return None,
            Code::KlpBuild { .. } => "is made by klp-build",
            Code::Kselftest => KSELFTEST,
            Code::Prebuilt { .. } => PREBUILT,
        };
        Some((&livepatch.name, whose))
    });
    targets
        .chain(livepatches)
        .map(|(name, whose)| Inexpressible {
            line: line(name),
            what: format!(
                "module `{name}` {whose}: only modules that the lab generates can go along"
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests;
