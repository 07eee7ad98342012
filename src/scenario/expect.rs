// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a step expects, and what that refers to.

use std::collections::HashMap;

use super::definitions::texts;
use super::model::{Expect, FunctionRef};
use super::references::{References, lenient_function};
use crate::yaml::{Diagnostic, Node, Span};

/// The `expect` of a step.
pub(super) fn read(node: &Node, references: &mut References) -> Expect {
    let livepatches = node.get("livepatches").map(|list| {
        let items = list.items().iter();
        items.map(|item| references.livepatch_node(item)).collect()
    });
    let calls = node.entries_of("calls").iter().map(|(key, returns)| {
        let function = references.function(&key.name, key.span);
        (
            function.unwrap_or_else(|| lenient_function(&key.name)),
            returns.as_int().unwrap_or_default(),
        )
    });
    let calls = calls.collect();
    let modules = node.get("modules").map(|list| {
        let items = list.items().iter();
        items.map(|item| references.module(item)).collect()
    });
    let mut patched = Vec::new();
    for (livepatch, objects) in node.entries_of("patched") {
        references.livepatch(&livepatch.name, livepatch.span);
        for (object, truth) in objects.entries() {
            let object = references.object(&livepatch.name, object);
            let truth = truth.as_bool().unwrap_or_default();
            patched.push((livepatch.name.clone(), object, truth));
        }
    }
    Expect {
        livepatches,
        calls,
        tags: numbers(node, "tags", references),
        modules,
        patched,
        stack_order: numbers(node, "stack_order", references),
        transition: node
            .get("transition")
            .map(|livepatch| references.livepatch_or_none(livepatch)),
        enabled_functions: node
            .get("enabled_functions")
            .map(|list| enabled_functions(list, references)),
        log: texts(node.get("log")),
        whole_log: node.get("whole_log").map(|list| texts(Some(list))),
        traced: node.get("traced").map(|list| texts(Some(list))),
        not_in_log: texts(node.get("not_in_log")),
    }
}

/// Livepatches and a number of each.
fn numbers(node: &Node, name: &str, references: &mut References) -> Vec<(String, u32)> {
    let entries = node.entries_of(name).iter();
    entries
        .map(|(key, number)| {
            (
                references.livepatch(&key.name, key.span),
                number.as_int().unwrap_or_default(),
            )
        })
        .collect()
}

fn enabled_functions(list: &Node, references: &mut References) -> Vec<FunctionRef> {
    let mut seen: HashMap<FunctionRef, (&str, Span)> = HashMap::new();
    let mut functions = Vec::new();
    for item in list.items() {
        let (Some(written), Some(function)) = (item.as_str(), references.traced_function(item))
        else {
            continue;
        };
        // If both are spelt the same, `check` has said so.
        if let Some((first, span)) = seen.insert(function.clone(), (written, item.span))
            && first != written
        {
            let message = format!("`{first}` and `{written}` are the same function");
            let diagnostic = Diagnostic::new(item.span, message)
                .label("again here")
                .related(span, "first here")
                .note("to the kernel, `-` and `_` in a module's name are the same");
            references.report(diagnostic);
        }
        functions.push(function);
    }
    functions
}
