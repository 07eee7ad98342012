// SPDX-License-Identifier: MIT OR Apache-2.0
//! The livepatches of a scenario and what they refer to.

use std::collections::HashMap;

use super::errno::Errno;
use super::lower::{text, texts};
use super::model::{
    Callback, Callbacks, Code, Generated, Livepatch, NewFunction, PatchedFunction, PatchedObject,
    Replace, ReplaceCapability, State, Symbol, Target,
};
use super::names::{declares, kernel_module_name, lenient_symbol, symbol};
use super::snippet::Snippet;
use super::targets;
use crate::yaml::{
    Diagnostic, Diagnostics, Key, Node, Source, Span, did_you_mean, known_names, suggest,
};

/// The livepatches of a scenario that requires this `replace` of kernels.
pub(crate) fn read(
    root: &Node,
    source: &Source,
    requires: Option<ReplaceCapability>,
    targets: &[Target],
    diagnostics: &mut Diagnostics,
) -> Vec<Livepatch> {
    let mut reader = Reader {
        root,
        source,
        targets,
        requires,
        diagnostics,
        livepatch: "",
    };
    root.entries_of("livepatches")
        .iter()
        .map(|entry| reader.livepatch(entry))
        .collect()
}

struct Reader<'a> {
    root: &'a Node,
    source: &'a Source,
    targets: &'a [Target],
    requires: Option<ReplaceCapability>,
    diagnostics: &'a mut Diagnostics,
    /// The livepatch that is read.
    livepatch: &'a str,
}

impl<'a> Reader<'a> {
    fn livepatch(&mut self, (key, node): &'a (Key, Node)) -> Livepatch {
        self.livepatch = &key.name;
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
        // Even beside `klp-build`, where it does not belong, what is wrong in it is found.
        let generated = self.generated(node);
        let code = match (node.get("klp-build"), text(node, "ko")) {
            _ if node.as_str().is_some() => Code::Kselftest,
            (Some(patches), _) => Code::KlpBuild {
                patches: texts(Some(patches)),
            },
            (None, Some(ko)) => Code::Prebuilt { ko },
            (None, None) => Code::Generated(generated),
        };
        Livepatch {
            name: key.name.clone(),
            replace,
            code,
        }
    }

    /// A kernel without tags cannot even build such a livepatch.
    fn tags_are_required(&mut self, tag: &Key) {
        if self.requires == Some(ReplaceCapability::Tags) {
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

    fn generated(&mut self, node: &Node) -> Generated {
        let patches = node.entries_of("patches");
        self.unique_objects(patches, "this object is patched twice in one livepatch");
        let mut objects = Vec::new();
        for (object, functions) in patches {
            let functions = functions.entries().iter();
            objects.push(PatchedObject {
                object: self.object(object),
                functions: functions
                    .map(|function| self.function(object, function))
                    .collect(),
            });
        }
        let callbacks = node.entries_of("callbacks");
        self.unique_objects(
            callbacks,
            "this object has callbacks twice in one livepatch",
        );
        let callbacks = callbacks
            .iter()
            .map(|(object, node)| self.callbacks(object, node))
            .collect();
        Generated {
            objects,
            callbacks,
            states: self.states(node),
            include: self.include(node),
            preamble: self.code(node, "preamble"),
        }
    }

    /// A mapping of objects has each of them once, however it is spelt.
    fn unique_objects(&mut self, entries: &[(Key, Node)], message: &str) {
        let mut seen: HashMap<String, Span> = HashMap::new();
        for (object, _) in entries {
            if let Some(first) = seen.insert(kernel_module_name(&object.name), object.span) {
                let diagnostic = Diagnostic::new(object.span, message)
                    .label("again here")
                    .related(first, "first here")
                    .note("to the kernel, `-` and `_` in a module's name are the same");
                self.diagnostics.push(diagnostic);
            }
        }
    }

    /// An object, spelt as its target is, if it is one.
    fn object(&self, object: &Key) -> String {
        targets::find(self.targets, &object.name)
            .map_or(&object.name, |target| &target.name)
            .clone()
    }

    fn function(&mut self, object: &Key, (key, node): &(Key, Node)) -> PatchedFunction {
        let target = targets::find(self.targets, &object.name);
        if let (Some(target), Some(symbol)) = (target, symbol(&key.name))
            && target.is_generated()
        {
            self.function_of_target(target, &symbol, key.span);
        }
        let symbol = lenient_symbol(&key.name);
        let new = if let Some(returns) = node.as_int() {
            if target.is_none_or(|target| !target.is_generated()) {
                self.value_of_unknown_function(object, key, node);
            }
            NewFunction::Returns(returns)
        } else {
            self.c_function(key, &symbol.name, node)
        };
        PatchedFunction { symbol, new }
    }

    /// Whether a step says that the kernel refuses the target or the livepatch: which is loaded later,
    /// and lacks what the other one needs.
    fn must_fail(&self, target: &str) -> bool {
        let steps = self.root.get("steps").map_or(&[][..], Node::items);
        let loaded = |step: &Node| step.get("load")?.as_str().map(str::to_owned);
        steps.iter().any(|step| {
            let is_one = |name: String| name == target || name == self.livepatch;
            step.get("errno").is_some() && loaded(step).is_some_and(is_one)
        })
    }

    /// Without a position, a function may even be ambiguous: that the kernel refuses it can be the
    /// point. A position must be there.
    fn function_of_target(&mut self, target: &Target, symbol: &Symbol, span: Span) {
        let namesakes = targets::functions_named(target, &symbol.name);
        let exists = match symbol.sympos {
            0 => !namesakes.is_empty(),
            // As the kernel counts; or as it is written, if the target's positions have gaps.
            sympos => {
                usize::try_from(sympos).is_ok_and(|sympos| sympos <= namesakes.len())
                    || namesakes.contains(&symbol)
            }
        };
        if exists || self.must_fail(&target.name) {
            return;
        }
        let message = format!("target `{}` has no function `{symbol}`", target.name);
        let help = match namesakes[..] {
            [] => {
                let functions = target.functions.iter().map(|function| &function.symbol);
                let mut names: Vec<_> = functions
                    .map(|known| match symbol.sympos {
                        0 => known.name.clone(),
                        _ => known.to_string(),
                    })
                    .collect();
                names.dedup();
                let names = names.iter().map(String::as_str);
                did_you_mean(&symbol.to_string(), "its functions", names)
            }
            [only] => Some(format!(
                "it has one `{0}`: write `{0}` or `{0},1`",
                only.name
            )),
            _ => {
                let names: Vec<_> = namesakes.iter().map(ToString::to_string).collect();
                known_names("those of this name", names.iter().map(String::as_str))
            }
        };
        self.diagnostics
            .push(Diagnostic::new(span, message).maybe_help(help));
    }

    fn value_of_unknown_function(&mut self, object: &Key, key: &Key, node: &Node) {
        let targets = self.targets.iter().map(|target| target.name.as_str());
        let meant = suggest(&object.name, targets).filter(|meant| *meant != object.name);
        let help = match meant {
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

    fn c_function(&mut self, key: &Key, name: &str, node: &Node) -> NewFunction {
        if let Some(signature) = node.get("signature")
            && let Some(text) = signature.as_str()
            && !declares(text, name)
        {
            let message = format!("this signature does not declare `{name}`");
            let diagnostic = Diagnostic::new(signature.span, message)
                .related(key.span, "the function that is patched")
                .help(format!("`{name}(` must occur in it"));
            self.diagnostics.push(diagnostic);
        }
        NewFunction::C {
            signature: self.code(node, "signature").unwrap_or_default(),
            include: self.include(node),
            body: self.code(node, "body").unwrap_or_default(),
        }
    }

    fn code(&self, node: &Node, key: &str) -> Option<Snippet> {
        Snippet::of(node.get(key)?, self.source)
    }

    /// The headers of a function, or of all.
    fn include(&self, node: &Node) -> Vec<Snippet> {
        let headers = node.get("include").map_or(&[][..], Node::one_or_many);
        let header = |node: &Node| Snippet::of(node, self.source);
        headers.iter().filter_map(header).collect()
    }

    fn states(&mut self, node: &Node) -> Vec<State> {
        let mut seen: HashMap<u32, Span> = HashMap::new();
        let mut states = Vec::new();
        for state in node.get("states").map_or(&[][..], Node::items) {
            let Some(id_node) = state.get("id") else {
                continue;
            };
            let Some(id) = id_node.as_int() else {
                continue;
            };
            if let Some(first) = seen.insert(id, id_node.span) {
                let message = format!("state {id} stands twice in this livepatch");
                let diagnostic = Diagnostic::new(id_node.span, message)
                    .label("again here")
                    .related(first, "first here");
                self.diagnostics.push(diagnostic);
            }
            states.push(State {
                id,
                version: state
                    .get("version")
                    .and_then(Node::as_int)
                    .unwrap_or_default(),
            });
        }
        states
    }

    fn callbacks(&mut self, object: &Key, node: &Node) -> Callbacks {
        let mut callback = |name: &str| self.callback(name, node.get(name)?);
        Callbacks {
            pre_patch: callback("pre_patch"),
            post_patch: callback("post_patch"),
            pre_unpatch: callback("pre_unpatch"),
            post_unpatch: callback("post_unpatch"),
            object: self.object(object),
        }
    }

    fn callback(&mut self, name: &str, node: &Node) -> Option<Callback> {
        let Some(action) = node.as_str() else {
            return self.code(node, "body").map(Callback::C);
        };
        if action == "log" {
            return Some(Callback::Log);
        }
        let errno = Errno::from_name(action)?;
        if name != "pre_patch" {
            let diagnostic = Diagnostic::new(node.span, "only `pre_patch` can fail").note(format!(
                "`{name}` returns void: see struct klp_callbacks in include/linux/livepatch.h"
            ));
            self.diagnostics.push(diagnostic);
        }
        Some(Callback::Fail(errno))
    }
}
