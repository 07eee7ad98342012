// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each kind of step is in bash. An `Err` says what a script cannot do.

use std::time::Duration;

use super::errors::{insmod, strerror};
use super::quote::Command;
use crate::scenario::{
    Action, Errno, Step, Transition, WaitUntil, kernel_module_name, spawned_pids,
};

/// How often `loop_until` of functions.sh looks each second.
const TRIES_PER_SECOND: u128 = 10;
/// Where pr_debug() messages are turned on and off.
const DYNAMIC_DEBUG: &str = "/sys/kernel/debug/dynamic_debug/control";

/// The calls that perform the step's action.
pub(super) fn commands(step: &Step) -> Result<Vec<Command>, String> {
    if let Some(file) = &step.requires {
        own_process(file)?;
    }
    let limit = step.timeout;
    let mut commands = Vec::new();
    match &step.action {
        Action::Load {
            module,
            params,
            errno,
            transition,
        } => {
            let expected = errno.map_or("", insmod);
            let mut words = vec![expected.to_owned(), kernel_module_name(module)];
            for (name, value) in params {
                if spawned_pids(value).is_some() {
                    return Err(format!(
                        "the parameter `{name}` wants the pids of a `spawn`"
                    ));
                }
                words.push(format!("{name}={value}"));
            }
            commands.push(Command::new("lab_load", words));
            commands.extend(follow(*errno, transition, limit));
        }
        Action::Disable {
            livepatch,
            errno,
            transition,
        } => {
            commands.push(write(*errno, &attribute(livepatch, "enabled"), "0"));
            commands.extend(follow(*errno, transition, limit));
        }
        Action::Reverse {
            livepatch,
            errno,
            transition,
        } => {
            let words = [expected(*errno), &kernel_module_name(livepatch)];
            commands.push(Command::new("lab_reverse", words));
            commands.extend(follow(*errno, transition, limit));
        }
        Action::Force { livepatch, errno } => {
            commands.push(write(*errno, &attribute(livepatch, "force"), "1"));
            commands.extend(follow(*errno, &Transition::Completes, limit));
        }
        Action::Unload { modules, errno } => {
            for module in modules {
                let words = [expected(*errno), &kernel_module_name(module)];
                commands.push(Command::new("lab_unload", words));
            }
        }
        Action::Hold { function } => {
            let symbol = function.symbol.to_string();
            commands.push(Command::new("lab_hold", [&function.object, &symbol]));
        }
        Action::Release { function } => {
            let symbol = function.symbol.to_string();
            commands.push(Command::new("lab_release", [&function.object, &symbol]));
            commands.extend(follow(None, &Transition::Completes, limit));
        }
        Action::Call { function, returns } => {
            let returns = returns.map(|value| value.to_string()).unwrap_or_default();
            let symbol = function.symbol.to_string();
            let words = [&returns, &function.object, &symbol];
            commands.push(Command::new("lab_call", words));
        }
        Action::Read {
            path,
            equals,
            contains,
            errno,
        } => {
            own_process(path)?;
            if let Some(text) = equals {
                let words = [path, &without_newline(text)?];
                commands.push(Command::new("lab_read_equals", words));
            }
            if let Some(text) = contains {
                commands.push(Command::new("lab_read_contains", [path, no_nul(text)?]));
            }
            if commands.is_empty() || errno.is_some() {
                commands.push(Command::new("lab_read", [expected(*errno), path]));
            }
        }
        Action::Write { path, data, errno } => {
            own_process(path)?;
            commands.push(write(*errno, path, data));
        }
        Action::Wait { path, until } => {
            own_process(path)?;
            let (function, words) = match until {
                WaitUntil::Equals(text) => (
                    "lab_wait_equals",
                    vec![path.clone(), without_newline(text)?],
                ),
                WaitUntil::Exists => ("lab_wait_exists", vec![path.clone()]),
                WaitUntil::Absent => ("lab_wait_absent", vec![path.clone()]),
            };
            commands.push(Command::new(within(limit, function), words));
        }
        Action::Stat {
            path,
            rights,
            errno,
        } => {
            own_process(path)?;
            let rights = rights.as_deref().unwrap_or_default();
            commands.push(Command::new("lab_stat", [expected(*errno), path, rights]));
        }
        Action::Spawn { .. } | Action::Kill { .. } => {
            return Err("bash has no process that does nothing but a system call".to_owned());
        }
        Action::Trace { function } => {
            let function = function.as_deref().unwrap_or_default();
            commands.push(Command::new("lab_trace", [function]));
        }
        Action::DynamicDebug { queries } => {
            for query in queries {
                commands.push(write(None, DYNAMIC_DEBUG, no_nul(query)?));
            }
        }
        Action::KlpBuild { .. } => {
            return Err("klp-build runs on the machine that builds, not in the test".to_owned());
        }
        Action::Expect => {}
    }
    Ok(commands)
}

/// What comes after an action that may start a transition. One that must fail starts none.
fn follow(
    errno: Option<Errno>,
    transition: &Transition,
    limit: Option<Duration>,
) -> Option<Command> {
    if errno.is_some() {
        return None;
    }
    let held_in = match transition {
        Transition::None => return None,
        Transition::Completes => return Some(Command::bare(within(limit, "lab_settle"))),
        Transition::Held => "",
        Transition::HeldIn(function) => function,
    };
    Some(Command::new(within(limit, "lab_held"), [held_in]))
}

/// A function that waits, with the step's own limit if it has one.
fn within(limit: Option<Duration>, function: &str) -> String {
    match limit {
        None => function.to_owned(),
        Some(limit) => {
            let tries = (limit.as_millis() * TRIES_PER_SECOND).div_ceil(1000).max(1);
            format!("MAX_RETRIES={tries} {function}")
        }
    }
}

fn expected(errno: Option<Errno>) -> &'static str {
    errno.map_or("", strerror)
}

fn write(errno: Option<Errno>, path: &str, data: &str) -> Command {
    Command::new("lab_write", [expected(errno), path, data])
}

/// An attribute of a livepatch in sysfs.
fn attribute(livepatch: &str, name: &str) -> String {
    let module = kernel_module_name(livepatch);
    format!("/sys/kernel/livepatch/{module}/{name}")
}

/// The lab's files of its own process are those of an agent that waits for the next step. In a
/// script they are those of a tool that comes and goes.
fn own_process(path: &str) -> Result<(), String> {
    let own = ["/proc/self/", "/proc/thread-self/"];
    if own.iter().any(|folder| path.starts_with(folder)) {
        return Err(format!("{path} is not the same process in a script"));
    }
    Ok(())
}

/// Bash has no text with a NUL.
fn no_nul(text: &str) -> Result<&str, String> {
    if text.contains('\0') {
        return Err("bash cannot hold a text with a NUL".to_owned());
    }
    Ok(text)
}

/// What a file must hold but for a final newline.
fn without_newline(text: &str) -> Result<String, String> {
    let text = no_nul(text)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.ends_with('\n') {
        return Err("bash drops all of the newlines at a text's end".to_owned());
    }
    Ok(text.to_owned())
}
