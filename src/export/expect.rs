// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each expectation is in bash, in the order in which the lab checks them.

use crate::scenario::{Expect, kernel_module_name};
use crate::step::bash::Command;

/// The calls that check everything in `expect`. An `Err` says what cannot be checked.
pub(super) fn commands(expect: &Expect) -> Vec<Result<Vec<Command>, String>> {
    // Those that are left out are sysfs' and debugfs': `state` has them.
    let Expect {
        livepatches: _,
        calls: _,
        tags: _,
        modules: _,
        patched: _,
        stack_order: _,
        transition: _,
        enabled_functions: _,
        log: lines,
        whole_log,
        not_in_log,
        traced,
    } = expect;
    let mut parts = vec![Ok(state(expect))];
    let logs = [
        ("lab_log", (!lines.is_empty()).then_some(lines)),
        ("lab_whole_log", whole_log.as_ref()),
    ];
    for (function, lines) in logs {
        parts.extend(lines.map(|lines| log(function, lines)));
    }
    if let Some(traced) = traced {
        let mut traced = traced.clone();
        traced.sort_unstable();
        parts.push(Ok(vec![Command::new("lab_traced", traced)]));
    }
    if !not_in_log.is_empty() {
        parts.push(log("lab_not_in_log", not_in_log));
    }
    parts
}

/// What sysfs, debugfs and tracefs show.
fn state(expect: &Expect) -> Vec<Command> {
    let Expect {
        livepatches,
        calls,
        tags,
        modules,
        patched,
        stack_order,
        transition,
        enabled_functions,
        log: _,
        whole_log: _,
        not_in_log: _,
        traced: _,
    } = expect;
    let mut commands = Vec::new();
    let attribute = |livepatch: &str, name: &str, value: String| {
        let module = kernel_module_name(livepatch);
        Command::new("lab_attribute", [&*module, name, &*value])
    };
    if let Some(livepatches) = livepatches {
        let names = livepatches.iter().map(|name| kernel_module_name(name));
        commands.push(Command::new("lab_livepatches", names));
    }
    for (function, returns) in calls {
        let (returns, symbol) = (returns.to_string(), function.symbol.to_string());
        let words = [&returns, &function.object, &symbol];
        commands.push(Command::new("lab_call", words));
    }
    for (livepatch, tag) in tags {
        commands.push(attribute(livepatch, "replace", tag.to_string()));
    }
    if let Some(modules) = modules {
        let mut names: Vec<_> = modules
            .iter()
            .map(|name| kernel_module_name(name))
            .collect();
        names.sort_unstable();
        commands.push(Command::new("lab_modules", names));
    }
    for (livepatch, object, patched) in patched {
        let path = format!("{}/patched", kernel_module_name(object));
        let patched = u8::from(*patched).to_string();
        commands.push(attribute(livepatch, &path, patched));
    }
    for (livepatch, order) in stack_order {
        commands.push(attribute(livepatch, "stack_order", order.to_string()));
    }
    if let Some(livepatch) = transition {
        let name = livepatch.as_deref().map(kernel_module_name);
        let name = name.unwrap_or_else(|| "none".to_owned());
        commands.push(Command::new("lab_transition", [name]));
    }
    if let Some(functions) = enabled_functions {
        let mut names: Vec<_> = functions
            .iter()
            .map(|f| format!("{}.{}", kernel_module_name(&f.object), f.symbol))
            .collect();
        names.sort_unstable();
        commands.push(Command::new("lab_enabled_functions", names));
    }
    commands
}

/// Whose debug messages the lab turns on, and `set_dynamic_debug` of functions.sh off.
const UNSAID: &str = "klp_try_switch_task";

/// A check of log lines. dmesg(1) shows a backslash and what is not ASCII in other ways than the
/// kernel's own file, which the lab reads.
fn log(function: &str, lines: &[String]) -> Result<Vec<Command>, String> {
    if function == "lab_log" && lines.iter().any(|line| line.contains(UNSAID)) {
        return Err(format!(
            "`setup_config` of functions.sh turns messages of {UNSAID} off"
        ));
    }
    let is_plain = |c: char| (c == ' ' || c.is_ascii_graphic()) && c != '\\';
    match lines.iter().find(|line| !line.chars().all(is_plain)) {
        Some(line) => Err(format!("dmesg does not show {line:?} as it is in the log")),
        None => Ok(vec![Command::new(function, lines)]),
    }
}
