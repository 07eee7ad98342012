// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the steps of a scenario can work, one after the other, before anything boots. Pure.
//!
//! Only what no kernel can do is a mistake. A step that must fail (`errno:`) is none, and neither is one
//! that is known to fail on some kernel (`expect_failure:`).

use super::model::Scenario;
use super::world::{Went, World};
use crate::klp::{kernel_module_name, lenient_function};
use crate::step::{Mistake, Step, Subject};
use crate::yaml::{Diagnostic, Diagnostics, Node, Span, Value};

/// The steps that cannot work.
pub(super) fn mistakes(root: &Node, scenario: &Scenario) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let nodes = root.get("steps").map_or(&[][..], Node::items);
    let mut world = before(scenario);
    for (index, (step, node)) in scenario.steps.iter().zip(nodes).enumerate() {
        let may_fail = is_known_to_fail(scenario, index + 1);
        let mut found = Vec::new();
        if step.action.errno().is_none() && !may_fail {
            found = world.before(step);
            found.retain(|mistake| mistake.is_certain);
        }
        let went = match step.requires.is_some() || !found.is_empty() {
            true => Went::Otherwise,
            false => Went::AsWritten,
        };
        world.after(step, went);
        if let Some(expect) = step.expect.as_ref().filter(|_| !may_fail) {
            for mistake in world.expected(expect) {
                if let Subject::Call(function) = &mistake.subject {
                    // Once is enough.
                    world.forget(&function.object);
                }
                found.push(mistake);
            }
        }
        for mistake in found {
            diagnostics.push(diagnostic(&mistake, step, node, nodes, scenario));
        }
        let misnamed = misnamed(step, node, scenario);
        for diagnostic in misnamed
            .into_iter()
            .chain(misnamed_in_log(root, node, scenario))
        {
            diagnostics.push(diagnostic);
        }
    }
    diagnostics
}

/// A file that no kernel has: in sysfs, no module has a `-` in its name. Also where it must not be there,
/// for then nothing is looked at.
fn misnamed(step: &Step, node: &Node, scenario: &Scenario) -> Option<Diagnostic> {
    const FOLDERS: [&str; 2] = ["/sys/kernel/livepatch/", "/sys/module/"];
    let files = step.action.effects().file.into_iter();
    for file in files.chain(step.requires.as_deref()) {
        let name = FOLDERS.iter().find_map(|folder| file.strip_prefix(folder));
        let Some(name) = name.and_then(|rest| rest.split('/').next()) else {
            continue;
        };
        let is_own = scenario.livepatch(name).is_some() || scenario.target(name).is_some();
        if is_own && name.contains('-') {
            let module = kernel_module_name(name);
            let message = format!("to the kernel, {name} is {module}");
            let help = format!("write `{}`", file.replacen(name, &module, 1));
            return Some(Diagnostic::new(span_of(step, node), message).help(help));
        }
    }
    None
}

/// What stays as it is after the last step.
pub(super) fn oddities(root: &Node, scenario: &Scenario) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let nodes = root.get("steps").map_or(&[][..], Node::items);
    let mut world = before(scenario);
    for step in &scenario.steps {
        world.after(step, Went::AsWritten);
    }
    for (function, since) in world.held() {
        let span = span_of_action(scenario, nodes, since);
        let message = format!("{function} is held to the end, and never released");
        let help = format!("add a step `release: {function}`");
        diagnostics.push(Diagnostic::new(span, message).warning().help(help));
    }
    diagnostics
}

/// Lines of a log that the kernel never writes: it quotes a module's name without any `-`.
fn misnamed_in_log(root: &Node, node: &Node, scenario: &Scenario) -> Vec<Diagnostic> {
    let Some(expect) = node.get("expect") else {
        return Vec::new();
    };
    let targets = scenario.targets.iter().map(|target| &target.name);
    let livepatches = scenario.livepatches.iter();
    let names = targets.chain(livepatches.map(|livepatch| &livepatch.name));
    let names: Vec<_> = names.filter(|name| name.contains('-')).collect();
    let lists = ["log", "whole_log", "not_in_log"];
    let lists = lists.into_iter().filter_map(|list| expect.get(list));
    let mut diagnostics = Vec::new();
    for line in lists.flat_map(Node::one_or_many) {
        let text = line.as_str().unwrap_or_default();
        let quoted = |name: &&&String| {
            let name = format!("'{name}'");
            // Code of the scenario's own may write what it likes.
            let own = root.get("livepatches");
            text.contains(&name) && !own.is_some_and(|own| mentions(own, &name))
        };
        if let Some(name) = names.iter().find(quoted) {
            let module = kernel_module_name(name);
            let message = format!("to the kernel, {name} is {module}");
            let help = format!("write `'{module}'`");
            diagnostics.push(Diagnostic::new(line.span, message).help(help));
        }
    }
    diagnostics
}

fn mentions(node: &Node, text: &str) -> bool {
    match &node.value {
        Value::Str(own) => own.contains(text),
        Value::Seq(items) => items.iter().any(|item| mentions(item, text)),
        Value::Map(entries) => entries.iter().any(|(_, value)| mentions(value, text)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
    }
}

fn before(scenario: &Scenario) -> World {
    let (targets, livepatches) = (&scenario.targets, &scenario.livepatches);
    World::of(targets, livepatches, scenario.requires.replace)
}

fn is_known_to_fail(scenario: &Scenario, number: usize) -> bool {
    let mut known = scenario.expect_failure.iter();
    known.any(|failure| failure.step == number)
}

fn diagnostic(
    mistake: &Mistake,
    step: &Step,
    node: &Node,
    nodes: &[Node],
    scenario: &Scenario,
) -> Diagnostic {
    let span = place(mistake, step, node).map_or(node.span, |node| node);
    let diagnostic = Diagnostic::new(span, &mistake.what).help(&mistake.help);
    match mistake.since {
        Some((since, did)) => {
            let since = span_of_action(scenario, nodes, since);
            diagnostic.related(since, format!("{did} here"))
        }
        None => diagnostic,
    }
}

/// Where a mistake stands in its step.
fn place(mistake: &Mistake, step: &Step, node: &Node) -> Option<Span> {
    let action = step.action.key().and_then(|key| node.get(key));
    match &mistake.subject {
        Subject::Action => Some(action?.span),
        Subject::Item(index) => Some(action?.one_or_many().get(*index)?.span),
        Subject::Call(function) => {
            let calls = node.get("expect")?.entries_of("calls");
            let mut keys = calls.iter().map(|(key, _)| key);
            Some(
                keys.find(|key| lenient_function(&key.name) == *function)?
                    .span,
            )
        }
    }
}

/// Where the action of a step stands, counted from 1.
fn span_of_action(scenario: &Scenario, nodes: &[Node], number: usize) -> Span {
    let index = number.saturating_sub(1);
    let (Some(step), Some(node)) = (scenario.steps.get(index), nodes.get(index)) else {
        return Span::default();
    };
    span_of(step, node)
}

fn span_of(step: &Step, node: &Node) -> Span {
    let action = step.action.key().and_then(|key| node.get(key));
    action.map_or(node.span, |action| action.span)
}
