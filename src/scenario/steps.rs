// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second half of a scenario: its steps and what they refer to.
//!
//! Whether a step can succeed is not judged here. To load a module twice, or to disable what was
//! never loaded, may be the very point of a scenario. Only which functions are held is followed,
//! because the lab itself holds them.

use std::collections::HashMap;

use super::definitions::text;
use super::held::Held;
use super::model::{Action, FunctionRef, Livepatch, Step, Target, Transition, WaitUntil};
use super::references::{References, lenient_function};
use super::{Errno, expect};
use crate::yaml::{Diagnostic, Diagnostics, Node, Source, Span};

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
                params: params(node),
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
        let Some(outcome) = node
            .get("transition")
            .filter(|outcome| outcome.as_str() == Some("held"))
        else {
            return Transition::Completes;
        };
        let targets = self.references.targets;
        let target = loaded.filter(|loaded| targets.iter().any(|target| target.name == *loaded));
        let diagnostic = match target {
            Some(target) => {
                let message = format!("target `{target}` has no transition");
                let note = "only livepatches have one";
                Some(Diagnostic::new(outcome.span, message).note(note))
            }
            None => self.held.transition(outcome.span),
        };
        if let Some(diagnostic) = diagnostic {
            self.references.report(diagnostic);
        }
        Transition::Held
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

fn params(node: &Node) -> Vec<(String, String)> {
    let entries = node.entries_of("params").iter();
    entries
        .filter_map(|(name, value)| Some((name.name.clone(), value.as_str()?.to_owned())))
        .collect()
}
