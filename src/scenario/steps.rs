// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second half of a scenario: its steps and what they refer to.
//!
//! Whether a step can succeed is not judged here. To load a module twice, or to disable what was
//! never loaded, may be the very point of a scenario.

use super::model::{Action, Expect, FunctionRef, Livepatch, Step, Target, WaitUntil};
use super::{Errno, kernel_module_name, shape};
use crate::yaml::{Diagnostic, Diagnostics, Key, Node, Source, Span, did_you_mean};

/// The steps of a scenario.
pub(super) fn read(
    root: &Node,
    source: &Source,
    targets: &[Target],
    livepatches: &[Livepatch],
    diagnostics: &mut Diagnostics,
) -> Vec<Step> {
    let mut reader = Reader {
        targets,
        livepatches,
        diagnostics,
    };
    let steps = root.get("steps").map_or(&[][..], Node::items).iter();
    steps
        .map(|node| Step {
            line: source.line(node.span.start),
            action: reader.action(node),
            expect: node.get("expect").map(|expect| reader.expect(expect)),
            timeout: node.get("timeout").and_then(Node::as_duration),
        })
        .collect()
}

struct Reader<'a> {
    targets: &'a [Target],
    livepatches: &'a [Livepatch],
    diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn action(&mut self, node: &Node) -> Action {
        let text = |name| node.get(name).and_then(Node::as_str).map(str::to_owned);
        let errno = text("errno").and_then(|name| Errno::from_name(&name));
        if let Some(module) = node.get("load") {
            Action::Load {
                module: self.module(module),
                params: params(node),
                errno,
            }
        } else if let Some(livepatch) = node.get("disable") {
            Action::Disable {
                livepatch: self.livepatch_node(livepatch),
                errno,
            }
        } else if let Some(modules) = node.get("unload") {
            let modules = modules
                .one_or_many()
                .iter()
                .map(|module| self.module(module));
            Action::Unload {
                modules: modules.collect(),
                errno,
            }
        } else if let Some(function) = node.get("call") {
            let function = self.function(function.as_str().unwrap_or_default(), function.span);
            Action::Call {
                function,
                returns: node.get("returns").and_then(Node::as_int),
            }
        } else if let Some(path) = text("read") {
            Action::Read {
                path,
                equals: text("equals"),
                contains: text("contains"),
            }
        } else if let Some(path) = text("wait") {
            let until = match text("equals") {
                Some(text) => WaitUntil::Equals(text),
                None if node.get("absent").is_some() => WaitUntil::Absent,
                None => WaitUntil::Exists,
            };
            Action::Wait { path, until }
        } else {
            Action::Expect
        }
    }

    fn expect(&mut self, node: &Node) -> Expect {
        let livepatches = node.get("livepatches").map(|list| {
            list.items()
                .iter()
                .map(|item| self.livepatch_node(item))
                .collect()
        });
        let calls = node.entries_of("calls").iter().map(|(key, returns)| {
            (
                self.function(&key.name, key.span),
                returns.as_int().unwrap_or_default(),
            )
        });
        let calls = calls.collect();
        let tags = node.entries_of("tags").iter().map(|(key, tag)| {
            (
                self.livepatch(&key.name, key.span),
                tag.as_int().unwrap_or_default(),
            )
        });
        let tags = tags.collect();
        let modules = node
            .get("modules")
            .map(|list| list.items().iter().map(|item| self.module(item)).collect());
        let mut patched = Vec::new();
        for (livepatch, objects) in node.entries_of("patched") {
            self.livepatch(&livepatch.name, livepatch.span);
            for (object, truth) in objects.entries() {
                let object = self.object(&livepatch.name, object);
                let truth = truth.as_bool().unwrap_or_default();
                patched.push((livepatch.name.clone(), object, truth));
            }
        }
        Expect {
            livepatches,
            calls,
            tags,
            modules,
            patched,
        }
    }

    /// A target or a livepatch.
    fn module(&mut self, node: &Node) -> String {
        let Some(name) = node.as_str() else {
            return String::new();
        };
        let livepatches = self
            .livepatches
            .iter()
            .map(|livepatch| livepatch.name.as_str());
        let known = livepatches.chain(self.targets.iter().map(|target| target.name.as_str()));
        if is_module_name(name) && !known.clone().any(|known| known == name) {
            let message = format!("unknown livepatch or target `{name}`");
            let help = did_you_mean(name, "known livepatches and targets", known);
            self.diagnostics
                .push(Diagnostic::new(node.span, message).maybe_help(help));
        }
        name.to_owned()
    }

    fn livepatch_node(&mut self, node: &Node) -> String {
        node.as_str()
            .map(|name| self.livepatch(name, node.span))
            .unwrap_or_default()
    }

    fn livepatch(&mut self, name: &str, span: Span) -> String {
        let known = self
            .livepatches
            .iter()
            .map(|livepatch| livepatch.name.as_str());
        if is_module_name(name) && !known.clone().any(|known| known == name) {
            let diagnostic = if self.targets.iter().any(|target| target.name == name) {
                Diagnostic::new(span, format!("`{name}` is a target, not a livepatch"))
            } else {
                Diagnostic::new(span, format!("unknown livepatch `{name}`"))
            };
            let help = did_you_mean(name, "known livepatches", known);
            self.diagnostics.push(diagnostic.maybe_help(help));
        }
        name.to_owned()
    }

    fn function(&mut self, written: &str, span: Span) -> FunctionRef {
        // Without a dot it is no function at all, which was reported.
        let Some((target, function)) = written.split_once('.') else {
            return FunctionRef {
                target: String::new(),
                function: String::new(),
            };
        };
        let known = self.targets.iter().map(|target| target.name.as_str());
        match self.targets.iter().find(|known| known.name == target) {
            None => {
                let message = format!("unknown target `{target}`");
                let help = did_you_mean(target, "known targets", known);
                let note = "only functions of targets can be called";
                let diagnostic = Diagnostic::new(span, message).note(note).maybe_help(help);
                self.diagnostics.push(diagnostic);
            }
            Some(known) => {
                let functions = known
                    .functions
                    .iter()
                    .map(|function| function.name.as_str());
                if !functions.clone().any(|name| name == function) {
                    let message = format!("target `{target}` has no function `{function}`");
                    let help = did_you_mean(function, "its functions", functions);
                    self.diagnostics
                        .push(Diagnostic::new(span, message).maybe_help(help));
                }
            }
        }
        FunctionRef {
            target: target.to_owned(),
            function: function.to_owned(),
        }
    }

    /// An object of a livepatch, spelt as there. An unknown livepatch was reported elsewhere.
    fn object(&mut self, livepatch: &str, object: &Key) -> String {
        let Some(livepatch) = self
            .livepatches
            .iter()
            .find(|known| known.name == livepatch)
        else {
            return object.name.clone();
        };
        let known = livepatch
            .objects
            .iter()
            .map(|patched| patched.object.as_str());
        let module = kernel_module_name(&object.name);
        if let Some(name) = known
            .clone()
            .find(|name| kernel_module_name(name) == module)
        {
            return name.to_owned();
        }
        let message = format!("`{}` does not patch `{}`", livepatch.name, object.name);
        let help = did_you_mean(&object.name, "it patches", known);
        self.diagnostics
            .push(Diagnostic::new(object.span, message).maybe_help(help));
        object.name.clone()
    }
}

/// A name that could be one; of any other, `check` has already said so.
fn is_module_name(name: &str) -> bool {
    shape::MODULE.lexis.accepts(name)
}

fn params(node: &Node) -> Vec<(String, String)> {
    let entries = node.entries_of("params").iter();
    entries
        .filter_map(|(name, value)| Some((name.name.clone(), value.as_str()?.to_owned())))
        .collect()
}
