// SPDX-License-Identifier: MIT OR Apache-2.0
//! What steps refer to: targets, livepatches, their functions and objects.
//!
//! A name that cannot be one was reported by `check`; here it passes.

use super::lower::NONE;
use super::model::{Code, FunctionRef, Livepatch, Target};
use super::names::{self, kernel_module_name, lenient_symbol};
use super::{shape, targets};
use crate::yaml::{Diagnostic, Diagnostics, Key, Node, Span, did_you_mean, known_names};

/// Looks up names, and reports those that are not known.
pub(crate) struct References<'a> {
    pub(crate) targets: &'a [Target],
    pub(crate) livepatches: &'a [Livepatch],
    pub(crate) diagnostics: &'a mut Diagnostics,
}

impl<'a> References<'a> {
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn target_names(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        self.targets.iter().map(|target| target.name.as_str())
    }

    fn livepatch_names(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let livepatches = self.livepatches.iter();
        livepatches.map(|livepatch| livepatch.name.as_str())
    }

    /// A target or a livepatch.
    pub(crate) fn module(&mut self, node: &Node) -> String {
        let Some(name) = node.as_str() else {
            return String::new();
        };
        let known = self.livepatch_names().chain(self.target_names());
        if is_module_name(name) && !known.clone().any(|known| known == name) {
            let message = format!("unknown livepatch or target `{name}`");
            let help = did_you_mean(name, "known livepatches and targets", known);
            self.report(Diagnostic::new(node.span, message).maybe_help(help));
        }
        name.to_owned()
    }

    /// A livepatch, as a value.
    pub(crate) fn livepatch_node(&mut self, node: &Node) -> String {
        node.as_str()
            .map(|name| self.livepatch(name, node.span))
            .unwrap_or_default()
    }

    /// A livepatch.
    pub(crate) fn livepatch(&mut self, name: &str, span: Span) -> String {
        self.livepatch_among(name, span, self.livepatch_names());
        name.to_owned()
    }

    /// A livepatch, or the word that stands for none.
    pub(crate) fn livepatch_or_none(&mut self, node: &Node) -> Option<String> {
        let name = node.as_str().filter(|name| *name != NONE)?;
        let known = self.livepatch_names().chain([NONE]);
        self.livepatch_among(name, node.span, known);
        Some(name.to_owned())
    }

    fn livepatch_among(
        &mut self,
        name: &str,
        span: Span,
        known: impl Iterator<Item = &'a str> + Clone,
    ) {
        if is_module_name(name) && !known.clone().any(|known| known == name) {
            let diagnostic = if self.target_names().any(|target| target == name) {
                Diagnostic::new(span, format!("`{name}` is a target, not a livepatch"))
            } else {
                Diagnostic::new(span, format!("unknown livepatch `{name}`"))
            };
            let help = did_you_mean(name, "known livepatches", known);
            self.report(diagnostic.maybe_help(help));
        }
    }

    /// A function of a target, spelt exactly as there; `None` if it is not known.
    pub(crate) fn function(&mut self, written: &str, span: Span) -> Option<FunctionRef> {
        if !shape::FUNCTION_REF.lexis.accepts(written) {
            return None;
        }
        let function = lenient_function(written);
        let known = self.target_names();
        let target = &function.object;
        let Some(target) = self.targets.iter().find(|known| known.name == *target) else {
            let message = format!("unknown target `{target}`");
            let help = did_you_mean(target, "known targets", known);
            let note = "only functions of targets can be called";
            self.report(Diagnostic::new(span, message).note(note).maybe_help(help));
            return None;
        };
        match unknown_function(target, &function) {
            None => Some(function),
            Some((message, help)) => {
                self.report(Diagnostic::new(span, message).maybe_help(help));
                None
            }
        }
    }

    /// A function of any object, by its name in C alone; targets are spelt as where they are
    /// defined.
    pub(crate) fn traced_function(&mut self, node: &Node) -> Option<FunctionRef> {
        let (object, name) = node.as_str()?.split_once('.')?;
        if !shape::OBJECT.lexis.accepts(object) || !names::is_function_name(name) {
            return None;
        }
        let mut function = lenient_function(node.as_str()?);
        if let Some(target) = targets::find(self.targets, object) {
            function.object.clone_from(&target.name);
            if target.is_generated() && targets::functions_named(target, name).is_empty() {
                let message = format!("target `{}` has no function `{name}`", target.name);
                let mut names: Vec<_> = target.functions.iter().map(|f| &*f.symbol.name).collect();
                names.dedup();
                let help = did_you_mean(name, "its functions", names);
                self.report(Diagnostic::new(node.span, message).maybe_help(help));
            }
            return Some(function);
        }
        let module = kernel_module_name(object);
        if self
            .livepatch_names()
            .any(|livepatch| kernel_module_name(livepatch) == module)
        {
            let message = format!("`{object}` is a livepatch, not the object that it patches");
            let diagnostic = Diagnostic::new(node.span, message)
                .note("ftrace lists a function under the object that it is patched in");
            let help = known_names("targets", self.target_names());
            self.report(diagnostic.maybe_help(help));
        }
        Some(function)
    }

    /// An object of a livepatch, spelt as there. An unknown livepatch was reported elsewhere.
    pub(crate) fn object(&mut self, livepatch: &str, object: &Key) -> String {
        let Some(livepatch) = self
            .livepatches
            .iter()
            .find(|known| known.name == livepatch)
        else {
            return object.name.clone();
        };
        let generated = match &livepatch.code {
            Code::Generated(generated) => generated,
            // Which objects these patch is not known here.
            Code::KlpBuild { .. } | Code::Kselftest | Code::Prebuilt { .. } => {
                return targets::find(self.targets, &object.name)
                    .map_or(&object.name, |target| &target.name)
                    .clone();
            }
        };
        let patched = generated.objects.iter().map(|patched| &patched.object);
        let called_back = generated
            .callbacks
            .iter()
            .map(|callbacks| &callbacks.object);
        let mut known: Vec<&str> = Vec::new();
        for name in patched.chain(called_back) {
            if !known.contains(&name.as_str()) {
                known.push(name);
            }
        }
        let module = kernel_module_name(&object.name);
        if let Some(name) = known.iter().find(|name| kernel_module_name(name) == module) {
            return (*name).to_owned();
        }
        let (message, what) = if generated.callbacks.is_empty() {
            (
                format!("`{}` does not patch `{}`", livepatch.name, object.name),
                "it patches",
            )
        } else {
            (
                format!(
                    "`{}` neither patches `{}` nor has callbacks for it",
                    livepatch.name, object.name
                ),
                "its objects",
            )
        };
        let help = did_you_mean(&object.name, what, known);
        self.report(Diagnostic::new(object.span, message).maybe_help(help));
        object.name.clone()
    }
}

/// What is wrong with a function of a target that exists, and what would be right.
fn unknown_function(target: &Target, function: &FunctionRef) -> Option<(String, Option<String>)> {
    let symbol = &function.symbol;
    let namesakes = targets::functions_named(target, &symbol.name);
    if namesakes.contains(&symbol) {
        return None;
    }
    if !target.is_generated() {
        let message = format!("the functions of target `{}` are not known", target.name);
        let help = "only those of a target with `functions:` can be called and held".to_owned();
        return Some((message, Some(help)));
    }
    let missing = format!("target `{}` has no function `{symbol}`", target.name);
    Some(match namesakes[..] {
        [] => {
            let functions = target.functions.iter();
            let names: Vec<_> = functions.map(|f| f.symbol.to_string()).collect();
            let names = names.iter().map(String::as_str);
            (
                missing,
                did_you_mean(&symbol.to_string(), "its functions", names),
            )
        }
        [only] => (
            missing,
            Some(format!(
                "it has one `{}`: write `{}.{only}`",
                symbol.name, target.name
            )),
        ),
        _ => {
            let message = match symbol.sympos {
                0 => format!("target `{}` has several functions `{symbol}`", target.name),
                _ => missing,
            };
            let names: Vec<_> = namesakes.iter().map(ToString::to_string).collect();
            let names = names.iter().map(String::as_str);
            (message, known_names("those of this name", names))
        }
    })
}

/// The parts of a text that names a function, whatever is wrong with it.
pub(crate) fn lenient_function(written: &str) -> FunctionRef {
    let (object, function) = written.split_once('.').unwrap_or_default();
    FunctionRef {
        object: object.to_owned(),
        symbol: lenient_symbol(function),
    }
}

/// A name that could be one; of any other, `check` has already said so.
fn is_module_name(name: &str) -> bool {
    shape::MODULE.lexis.accepts(name)
}
