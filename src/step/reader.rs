// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is at hand when a step is read: what it can refer to, and what the steps before it did.
//!
//! Whether a step can succeed is not judged here: `scenario::story` does, with all steps at hand. Only
//! which functions are held is followed, because the lab itself holds them.

use super::details::Transition;
use super::held::Held;
use crate::klp::{FunctionRef, References, lenient_function, text};
use crate::yaml::{Diagnostic, Node, Span, did_you_mean};

/// What is known when a step is read.
pub(super) struct Reader<'a> {
    /// What it can refer to.
    pub(super) references: References<'a>,
    /// Which functions are held.
    pub(super) held: Held,
    /// The names of processes so far.
    pub(super) spawned: Vec<String>,
    /// The text of the file.
    pub(super) text: &'a str,
}

impl Reader<'_> {
    /// What must become of the transition of a step, which loads `loaded` if it loads anything.
    pub(super) fn transition(&mut self, node: &Node, loaded: Option<&str>) -> Transition {
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

    /// Processes that are spawned before the step that names them.
    pub(super) fn spawned_before(&mut self, name: &str, span: Span) {
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

    /// What a file must hold, without the newline at its end. A block (`|`) has one of its own, which
    /// its author has not written.
    pub(super) fn content(&mut self, node: Option<&Node>) -> Option<String> {
        let node = node?;
        let content = node.as_str()?;
        let content = match content.strip_suffix('\n') {
            Some(line) if !is_quoted(node.span.start, self.text) => line,
            _ => content,
        };
        Some(content.to_owned())
    }

    /// A livepatch.
    pub(super) fn livepatch(&mut self, node: Option<&Node>) -> String {
        node.map(|node| self.references.livepatch_node(node))
            .unwrap_or_default()
    }

    /// A function of a target.
    pub(super) fn function(&mut self, node: Option<&Node>) -> FunctionRef {
        let written = node.and_then(Node::as_str).unwrap_or_default();
        let known = node.and_then(|node| self.references.function(written, node.span));
        known.unwrap_or_else(|| lenient_function(written))
    }

    /// The function of a `hold` or a `release`, which `follow` keeps account of.
    pub(super) fn held_function(
        &mut self,
        node: Option<&Node>,
        follow: fn(&mut Held, Option<&FunctionRef>, Span) -> Option<Diagnostic>,
    ) -> FunctionRef {
        let Some(node) = node else {
            return lenient_function("");
        };
        let written = node.as_str().unwrap_or_default();
        let known = self.references.function(written, node.span);
        if let Some(diagnostic) = follow(&mut self.held, known.as_ref(), node.span) {
            self.references.report(diagnostic);
        }
        known.unwrap_or_else(|| lenient_function(written))
    }
}

/// Whether a text with a newline at its end stands in quotes, not in a block: at `start`, where a block
/// may begin with quotes of its own.
fn is_quoted(start: usize, text: &str) -> bool {
    let before = text.get(..start).unwrap_or_default().trim_end();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    let header = line.trim_end_matches(|c: char| "+-".contains(c) || c.is_ascii_digit());
    let is_block = header.ends_with(" |") || header.ends_with(" >");
    !is_block && text[start..].starts_with(['"', '\''])
}
