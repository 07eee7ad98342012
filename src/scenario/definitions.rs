// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first half of a scenario: what it requires, its targets and its livepatches.
//!
//! Lowering is lenient: what `check` has already complained about is left out or defaulted, and
//! the result is thrown away. That way one run finds all errors of a file.

use std::collections::HashMap;

use super::model::{
    Livepatch, NewFunction, PatchedFunction, PatchedObject, Replace, ReplaceCapability, Requires,
    Target, TargetFunction, VMLINUX,
};
use super::names::{declares, kernel_module_name};
use crate::yaml::{Diagnostic, Diagnostics, Key, Node, Span, did_you_mean, suggest};

/// The `requires` of a scenario.
pub(super) fn requires(root: &Node) -> Requires {
    let Some(node) = root.get("requires") else {
        return Requires::default();
    };
    let replace = match node.get("replace").and_then(Node::as_str) {
        Some("bool") => Some(ReplaceCapability::Bool),
        Some("tags") => Some(ReplaceCapability::Tags),
        _ => None,
    };
    let arches = node.get("arch").map_or(&[][..], Node::one_or_many);
    let arch = arches
        .iter()
        .filter_map(|arch| arch.as_str()?.parse().ok())
        .collect();
    Requires { replace, arch }
}

/// The targets and the livepatches of a scenario.
pub(super) fn read(
    root: &Node,
    requires: &Requires,
    diagnostics: &mut Diagnostics,
) -> (Vec<Target>, Vec<Livepatch>) {
    unique_modules(root, diagnostics);
    let targets: Vec<_> = root.entries_of("targets").iter().map(target).collect();
    let mut reader = Reader {
        root,
        targets: &targets,
        requires,
        diagnostics,
    };
    let livepatches = root
        .entries_of("livepatches")
        .iter()
        .map(|entry| reader.livepatch(entry))
        .collect();
    (targets, livepatches)
}

/// Targets and livepatches are all modules, so they share one name space.
fn unique_modules(root: &Node, diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<String, (&str, Span)> = HashMap::new();
    for (key, _) in root
        .entries_of("targets")
        .iter()
        .chain(root.entries_of("livepatches"))
    {
        let module = kernel_module_name(&key.name);
        if module == VMLINUX {
            let diagnostic = Diagnostic::new(key.span, "a module cannot be called `vmlinux`")
                .note("as an object of a livepatch, `vmlinux` is the kernel itself");
            diagnostics.push(diagnostic);
        }
        if let Some((name, first)) = seen.insert(module.clone(), (&key.name, key.span)) {
            let message = if name == key.name {
                format!("`{name}` is both a target and a livepatch")
            } else {
                format!("`{name}` and `{}` are the same module", key.name)
            };
            let diagnostic = Diagnostic::new(key.span, message)
                .label("again here")
                .related(first, "first here")
                .note(format!("to the kernel, both are `{module}`"));
            diagnostics.push(diagnostic);
        }
    }
}

fn target((key, node): &(Key, Node)) -> Target {
    let functions = node
        .entries_of("functions")
        .iter()
        .map(|(name, returns)| TargetFunction {
            name: name.name.clone(),
            returns: returns.as_int().unwrap_or_default(),
        });
    Target {
        name: key.name.clone(),
        functions: functions.collect(),
    }
}

struct Reader<'a> {
    root: &'a Node,
    targets: &'a [Target],
    requires: &'a Requires,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Reader<'a> {
    fn livepatch(&mut self, (key, node): &(Key, Node)) -> Livepatch {
        let replace = match node.entry("tag") {
            Some((tag_key, tag)) => {
                self.tags_are_required(tag_key);
                Replace::Tag(tag.as_int().unwrap_or_default())
            }
            None => Replace::Flag(
                node.get("replace")
                    .and_then(Node::as_bool)
                    .unwrap_or_default(),
            ),
        };
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut objects = Vec::new();
        for (object, functions) in node.entries_of("patches") {
            if let Some(first) = seen.insert(kernel_module_name(&object.name), object.span) {
                let diagnostic =
                    Diagnostic::new(object.span, "this object is patched twice in one livepatch")
                        .label("again here")
                        .related(first, "first here")
                        .note("to the kernel, `-` and `_` in a module's name are the same");
                self.diagnostics.push(diagnostic);
            }
            let functions = functions.entries().iter();
            objects.push(PatchedObject {
                object: self
                    .target(object)
                    .map_or(&object.name, |target| &target.name)
                    .clone(),
                functions: functions
                    .map(|function| self.function(object, function))
                    .collect(),
            });
        }
        Livepatch {
            name: key.name.clone(),
            replace,
            objects,
        }
    }

    /// A kernel without tags cannot even build such a livepatch.
    fn tags_are_required(&mut self, tag: &Key) {
        if self.requires.replace == Some(ReplaceCapability::Tags) {
            return;
        }
        let mut diagnostic = Diagnostic::new(tag.span, "`tag` needs a kernel with replace tags")
            .help("add `requires: { replace: tags }` to the scenario");
        if let Some(replace) = self
            .root
            .get("requires")
            .and_then(|node| node.get("replace"))
        {
            diagnostic = diagnostic.related(replace.span, "the scenario asks for this kernel");
        }
        self.diagnostics.push(diagnostic);
    }

    /// The target that an object is, if it is one: `my_shop` is the target `my-shop`.
    fn target(&self, object: &Key) -> Option<&'a Target> {
        let module = kernel_module_name(&object.name);
        self.targets
            .iter()
            .find(|target| kernel_module_name(&target.name) == module)
    }

    fn function(&mut self, object: &Key, (key, node): &(Key, Node)) -> PatchedFunction {
        let target = self.target(object);
        if let Some(target) = target {
            let known = target
                .functions
                .iter()
                .map(|function| function.name.as_str());
            if !known.clone().any(|name| name == key.name) {
                let message = format!("target `{}` has no function `{}`", target.name, key.name);
                let help = did_you_mean(&key.name, "its functions", known);
                self.diagnostics
                    .push(Diagnostic::new(key.span, message).maybe_help(help));
            }
        }
        let new = if let Some(returns) = node.as_int() {
            if target.is_none() {
                self.value_of_unknown_function(object, key, node);
            }
            NewFunction::Returns(returns)
        } else {
            self.c_function(key, node)
        };
        PatchedFunction {
            name: key.name.clone(),
            new,
        }
    }

    fn value_of_unknown_function(&mut self, object: &Key, key: &Key, node: &Node) {
        let targets = self.targets.iter().map(|target| target.name.as_str());
        let help = match suggest(&object.name, targets) {
            Some(meant) => format!(
                "did you mean target `{meant}` instead of `{}`?",
                object.name
            ),
            None => "write `{ signature: ..., body: ... }`".to_owned(),
        };
        let message = format!(
            "`{}` of `{}` needs a signature and a body",
            key.name, object.name
        );
        let diagnostic = Diagnostic::new(node.span, message)
            .label("a return value is not enough")
            .note("only functions of generated targets are known to be `int name(void)`")
            .help(help);
        self.diagnostics.push(diagnostic);
    }

    fn c_function(&mut self, key: &Key, node: &Node) -> NewFunction {
        let text = |name| {
            node.get(name)
                .and_then(Node::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if let Some(signature) = node.get("signature")
            && let Some(text) = signature.as_str()
            && !declares(text, &key.name)
        {
            let message = format!("this signature does not declare `{}`", key.name);
            let diagnostic = Diagnostic::new(signature.span, message)
                .related(key.span, "the function that is patched")
                .help(format!("`{}(` must occur in it", key.name));
            self.diagnostics.push(diagnostic);
        }
        let headers = node.get("include").map_or(&[][..], Node::one_or_many);
        let include = headers
            .iter()
            .filter_map(|header| header.as_str().map(str::to_owned));
        NewFunction::C {
            signature: text("signature"),
            include: include.collect(),
            body: text("body"),
        }
    }
}
