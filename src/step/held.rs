// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which functions are held, as the steps of a file go.

use std::collections::HashMap;

use crate::klp::FunctionRef;
use crate::yaml::{Diagnostic, Span, did_you_mean};

/// The functions that tasks were told to stay in.
#[derive(Default)]
pub(super) struct Held {
    since: HashMap<FunctionRef, Span>,
    released: HashMap<FunctionRef, Span>,
    last_release: Option<Span>,
    /// A step named a function that is not known, which was reported. What is held from there on
    /// is a guess, and not worth an error.
    unsure: bool,
}

impl Held {
    /// A step holds a function; what is wrong with that.
    pub(super) fn hold(
        &mut self,
        function: Option<&FunctionRef>,
        span: Span,
    ) -> Option<Diagnostic> {
        let Some(function) = function else {
            self.unsure = true;
            return None;
        };
        let first = self.since.insert(function.clone(), span);
        let first = first.filter(|_| !self.unsure)?;
        let message = format!("`{function}` is held already");
        let diagnostic = Diagnostic::new(span, message)
            .label("again here")
            .related(first, "first here")
            .help(format!("add a step `release: {function}` before it"));
        Some(diagnostic)
    }

    /// A step releases a function; what is wrong with that.
    pub(super) fn release(
        &mut self,
        function: Option<&FunctionRef>,
        span: Span,
    ) -> Option<Diagnostic> {
        let Some(function) = function else {
            self.unsure = true;
            return None;
        };
        self.last_release = Some(span);
        let held = self.since.remove(function).is_some();
        let released = self.released.insert(function.clone(), span);
        if held || self.unsure {
            return None;
        }
        let diagnostic = Diagnostic::new(span, format!("`{function}` is not held"));
        if let Some(released) = released {
            return Some(diagnostic.related(released, "released here"));
        }
        let mut held: Vec<_> = self.since.iter().collect();
        held.sort_by_key(|(_, since)| **since);
        let held: Vec<_> = held.iter().map(|(held, _)| held.to_string()).collect();
        let names = held.iter().map(String::as_str);
        let help = did_you_mean(&function.to_string(), "held here", names)
            .unwrap_or_else(|| format!("add a step `hold: {function}` before it"));
        Some(diagnostic.help(help))
    }

    /// A step wants its transition to stay open; what is wrong with that.
    pub(super) fn transition(&self, span: Span) -> Option<Diagnostic> {
        if self.unsure || !self.since.is_empty() {
            return None;
        }
        let diagnostic = Diagnostic::new(span, "nothing is held")
            .note("a transition stays open only for a task in a function that is held")
            .help("add a `hold:` step before it");
        Some(match self.last_release {
            Some(release) => diagnostic.related(release, "the last function is released here"),
            None => diagnostic,
        })
    }
}
