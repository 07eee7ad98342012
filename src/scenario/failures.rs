// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a scenario is known to fail, and what a kernel may complain of.

use std::collections::HashMap;

use super::model::{AllowedSplat, ExpectedFailure};
use crate::klp::{text, texts};
use crate::step::STEP_NAME;
use crate::step::Step;
use crate::yaml::{Diagnostic, Diagnostics, Node, Span, did_you_mean};

/// The `expect_failure` of a scenario.
pub(super) fn read(
    root: &Node,
    steps: &[Step],
    diagnostics: &mut Diagnostics,
) -> Vec<ExpectedFailure> {
    let entries = root.get("expect_failure").map_or(&[][..], Node::items);
    let mut seen = HashMap::new();
    entries
        .iter()
        .enumerate()
        .map(|(entry, node)| {
            once_per_step(node, entry, &mut seen, diagnostics);
            ExpectedFailure {
                kernels: texts(node.get("kernel")),
                step: node
                    .get("step")
                    .and_then(|name| step(name, steps, diagnostics))
                    .unwrap_or_default(),
                failure: text(node, "failure").unwrap_or_default(),
                reason: text(node, "reason").unwrap_or_default(),
            }
        })
        .collect()
}

/// The `allow_splats` of a scenario.
pub(super) fn allowed_splats(root: &Node) -> Vec<AllowedSplat> {
    let entries = root.get("allow_splats").map_or(&[][..], Node::items);
    let allowed = |node: &Node| AllowedSplat {
        title: text(node, "title").unwrap_or_default(),
        reason: text(node, "reason").unwrap_or_default(),
        must: node.get("must").is_some(),
    };
    entries.iter().map(allowed).collect()
}

/// The number of the step with this name, from 1.
fn step(node: &Node, steps: &[Step], diagnostics: &mut Diagnostics) -> Option<usize> {
    let name = node.as_str()?;
    let named = |step: &Step| step.name.as_deref() == Some(name);
    if let Some(index) = steps.iter().position(named) {
        return Some(index + 1);
    }
    // A scenario without any steps has another problem.
    if STEP_NAME.lexis.accepts(name) && !steps.is_empty() {
        let known = steps.iter().filter_map(|step| step.name.as_deref());
        let help = did_you_mean(name, "steps with names", known)
            .unwrap_or_else(|| format!("no step has a name yet: add `name: {name}` to one"));
        let message = format!("no step is called `{name}`");
        diagnostics.push(Diagnostic::new(node.span, message).help(help));
    }
    None
}

/// A kernel fails at a step in one way. Within an entry, `check` looks for repetitions.
fn once_per_step<'a>(
    node: &'a Node,
    entry: usize,
    seen: &mut HashMap<(&'a str, &'a str), (usize, Span)>,
    diagnostics: &mut Diagnostics,
) {
    let Some(step) = node.get("step").and_then(Node::as_str) else {
        return;
    };
    for kernel in node.get("kernel").map_or(&[][..], Node::one_or_many) {
        let Some(name) = kernel.as_str() else {
            continue;
        };
        if let Some((other, first)) = seen.insert((name, step), (entry, kernel.span))
            && other != entry
        {
            let message = format!("`{name}` is to fail at step `{step}` twice");
            let diagnostic = Diagnostic::new(kernel.span, message)
                .label("again here")
                .related(first, "first here");
            diagnostics.push(diagnostic);
        }
    }
}
