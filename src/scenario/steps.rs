// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second half of a scenario: its steps and what they refer to.
//!
//! Whether a step can succeed is not judged here. To load a module twice, or to disable what was
//! never loaded, may be the very point of a scenario. Only which functions are held is followed,
//! because the lab itself holds them.

use std::collections::HashMap;

use super::definitions::{NONE, text, texts};
use super::held::Held;
use super::model::{Action, FunctionRef, Hammer, Livepatch, Step, Target, Transition, WaitUntil};
use super::references::{References, lenient_function};
use super::{Errno, expect};
use crate::yaml::{Diagnostic, Diagnostics, Node, Source, Span, did_you_mean};

/// The steps of a scenario.
pub(super) fn read(
    root: &Node,
    source: &Source,
    targets: &[Target],
    livepatches: &[Livepatch],
    diagnostics: &mut Diagnostics,
) -> Vec<Step> {
    let steps = root.get("steps").map_or(&[][..], Node::items);
    unique_names(steps, diagnostics);
    let mut reader = Reader {
        references: References {
            targets,
            livepatches,
            diagnostics,
        },
        held: Held::default(),
        spawned: Vec::new(),
    };
    steps
        .iter()
        .map(|node| Step {
            line: source.line(node.span.start),
            name: text(node, "name"),
            action: reader.action(node),
            expect: node
                .get("expect")
                .map(|node| expect::read(node, &mut reader.references)),
            timeout: node.get("timeout").and_then(Node::as_duration),
            requires: node.get("requires").and_then(|node| text(node, "file")),
        })
        .collect()
}

fn unique_names(steps: &[Node], diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for node in steps.iter().filter_map(|step| step.get("name")) {
        if let Some(name) = node.as_str()
            && let Some(first) = seen.insert(name, node.span)
        {
            let message = format!("two steps are called `{name}`");
            let diagnostic = Diagnostic::new(node.span, message)
                .label("again here")
                .related(first, "first here");
            diagnostics.push(diagnostic);
        }
    }
}

struct Reader<'a> {
    references: References<'a>,
    held: Held,
    /// The names of processes so far.
    spawned: Vec<String>,
}

impl Reader<'_> {
    fn action(&mut self, node: &Node) -> Action {
        let errno = node.get("errno").and_then(Node::as_str);
        let errno = errno.and_then(Errno::from_name);
        if let Some(module) = node.get("load") {
            let module = self.references.module(module);
            Action::Load {
                transition: self.transition(node, Some(&module)),
                module,
                params: self.params(node),
                errno,
            }
        } else if let Some(livepatch) = node.get("disable") {
            Action::Disable {
                livepatch: self.references.livepatch_node(livepatch),
                errno,
                transition: self.transition(node, None),
            }
        } else if let Some(livepatch) = node.get("reverse") {
            Action::Reverse {
                livepatch: self.references.livepatch_node(livepatch),
                errno,
                transition: self.transition(node, None),
            }
        } else if let Some(livepatch) = node.get("force") {
            Action::Force {
                livepatch: self.references.livepatch_node(livepatch),
                errno,
            }
        } else if let Some(modules) = node.get("unload") {
            let modules = modules.one_or_many().iter();
            let modules = modules.map(|module| self.references.module(module));
            Action::Unload {
                modules: modules.collect(),
                errno,
            }
        } else if let Some(function) = node.get("hold") {
            Action::Hold {
                function: self.held_function(function, Held::hold),
            }
        } else if let Some(function) = node.get("release") {
            Action::Release {
                function: self.held_function(function, Held::release),
            }
        } else if let Some(function) = node.get("call") {
            let written = function.as_str().unwrap_or_default();
            let known = self.references.function(written, function.span);
            Action::Call {
                function: known.unwrap_or_else(|| lenient_function(written)),
                returns: node.get("returns").and_then(Node::as_int),
            }
        } else if let Some(processes) = node.get("spawn") {
            Action::Spawn {
                name: self.spawn(processes),
                hammer: Hammer::Getpid,
                count: node.get("count").and_then(Node::as_int),
            }
        } else if let Some(processes) = node.get("kill") {
            let name = processes.as_str().unwrap_or_default();
            self.spawned_before(name, processes.span);
            Action::Kill {
                name: name.to_owned(),
            }
        } else if let Some(function) = text(node, "trace") {
            Action::Trace {
                function: Some(function).filter(|function| function != NONE),
            }
        } else if let Some(queries) = node.get("dynamic-debug") {
            Action::DynamicDebug {
                queries: texts(Some(queries)),
            }
        } else if let Some(options) = node.get("klp-build") {
            let text = |node: &Node| node.as_str().map(str::to_owned);
            Action::KlpBuild {
                options: options.one_or_many().iter().filter_map(text).collect(),
                rejects: node.get("rejects").and_then(text),
            }
        } else {
            file_action(node, errno)
        }
    }

    /// What must become of the transition of a step, which loads `loaded` if it loads anything.
    fn transition(&mut self, node: &Node, loaded: Option<&str>) -> Transition {
        let targets = self.references.targets;
        let target = loaded.filter(|loaded| targets.iter().any(|target| target.name == *loaded));
        let Some(outcome) = node
            .get("transition")
            .filter(|outcome| outcome.as_str() == Some("held"))
        else {
            return match target {
                Some(_) => Transition::None,
                None => Transition::Completes,
            };
        };
        let held_in = text(node, "held_in");
        let diagnostic = match target {
            Some(target) => {
                let message = format!("target `{target}` has no transition");
                let note = "only livepatches have one";
                Some(Diagnostic::new(outcome.span, message).note(note))
            }
            None if held_in.is_some() => None,
            None => self.held.transition(outcome.span),
        };
        if let Some(diagnostic) = diagnostic {
            self.references.report(diagnostic);
        }
        held_in.map_or(Transition::Held, Transition::HeldIn)
    }

    fn spawn(&mut self, node: &Node) -> String {
        let name = node.as_str().unwrap_or_default().to_owned();
        if self.spawned.contains(&name) {
            let message = format!("there are processes called `{name}` already");
            self.references
                .report(Diagnostic::new(node.span, message).label("again here"));
        }
        self.spawned.push(name.clone());
        name
    }

    fn spawned_before(&mut self, name: &str, span: Span) {
        if self.spawned.iter().any(|spawned| spawned == name) {
            return;
        }
        let known = self.spawned.iter().map(String::as_str);
        let help = did_you_mean(name, "those spawned before it", known)
            .unwrap_or_else(|| format!("add a step `spawn: {name}` before it"));
        let message = format!("no processes are called `{name}` here");
        self.references
            .report(Diagnostic::new(span, message).help(help));
    }

    /// The parameters of a `load`; those with `${NAME.pids}` in them refer to a `spawn`.
    fn params(&mut self, node: &Node) -> Vec<(String, String)> {
        let mut params = Vec::new();
        for (key, value) in node.entries_of("params") {
            let Some(text) = value.as_str() else {
                continue;
            };
            if let Some(name) = spawned_pids(text) {
                self.spawned_before(name, value.span);
            }
            params.push((key.name.clone(), text.to_owned()));
        }
        params
    }

    /// The function of a `hold` or a `release`, which `follow` keeps account of.
    fn held_function(
        &mut self,
        node: &Node,
        follow: fn(&mut Held, Option<&FunctionRef>, Span) -> Option<Diagnostic>,
    ) -> FunctionRef {
        let written = node.as_str().unwrap_or_default();
        let known = self.references.function(written, node.span);
        if let Some(diagnostic) = follow(&mut self.held, known.as_ref(), node.span) {
            self.references.report(diagnostic);
        }
        known.unwrap_or_else(|| lenient_function(written))
    }
}

/// What a step does with a file, or that it does nothing.
fn file_action(node: &Node, errno: Option<Errno>) -> Action {
    if let Some(path) = text(node, "read") {
        Action::Read {
            path,
            equals: text(node, "equals"),
            contains: text(node, "contains"),
            errno,
        }
    } else if let Some(path) = text(node, "write") {
        Action::Write {
            path,
            data: text(node, "data").unwrap_or_default(),
            errno,
        }
    } else if let Some(path) = text(node, "stat") {
        Action::Stat {
            path,
            rights: text(node, "rights"),
            errno,
        }
    } else if let Some(path) = text(node, "wait") {
        let until = match text(node, "equals") {
            Some(text) => WaitUntil::Equals(text),
            None if node.get("absent").is_some() => WaitUntil::Absent,
            None => WaitUntil::Exists,
        };
        Action::Wait { path, until }
    } else {
        Action::Expect
    }
}

/// The name in a value that is `${NAME.pids}`.
pub(crate) fn spawned_pids(value: &str) -> Option<&str> {
    value.strip_prefix("${")?.strip_suffix(".pids}")
}
