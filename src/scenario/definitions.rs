// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first half of a scenario: what it requires, its targets and its livepatches.

use std::collections::HashMap;

use super::model::{Capability, Mask, Original, Requires, SnapshotScope};
use crate::klp::names::is_kbuilds_own;
use crate::klp::{
    Livepatch, NONE, ReplaceCapability, Target, VMLINUX, kernel_module_name, read_livepatches,
    read_targets, text,
};
use crate::yaml::{Diagnostic, Diagnostics, Node, Source, Span};

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
    let wanted = node.get("capabilities").map_or(&[][..], Node::items);
    let named = |capability: &Capability| {
        let name = Some(capability.name());
        wanted.iter().any(|wanted| wanted.as_str() == name)
    };
    Requires {
        replace,
        arch,
        capabilities: Capability::ALL.into_iter().filter(named).collect(),
    }
}

/// The `original` of a scenario.
pub(super) fn original(root: &Node) -> Option<Original> {
    let node = root.get("original")?;
    Some(Original {
        script: text(node, "script")?,
        test: text(node, "test")?,
    })
}

/// The `snapshot` of a scenario.
pub(super) fn snapshot(root: &Node) -> SnapshotScope {
    match root.get("snapshot").and_then(Node::as_str) {
        Some("shared") => SnapshotScope::Shared,
        _ => SnapshotScope::PerKernel,
    }
}

/// The `mask` of a scenario.
pub(super) fn masks(root: &Node) -> Vec<Mask> {
    let entries = root.get("mask").map_or(&[][..], Node::items);
    let mask = |node: &Node| Mask {
        text: text(node, "text").unwrap_or_default(),
        reason: text(node, "reason").unwrap_or_default(),
    };
    entries.iter().map(mask).collect()
}

/// The targets and the livepatches of a scenario.
pub(super) fn read(
    root: &Node,
    source: &Source,
    requires: &Requires,
    diagnostics: &mut Diagnostics,
) -> (Vec<Target>, Vec<Livepatch>) {
    module_names(root, diagnostics);
    let targets = read_targets(root, diagnostics);
    let livepatches = read_livepatches(root, source, requires.replace, &targets, diagnostics);
    (targets, livepatches)
}

/// Targets and livepatches are all modules, so they share one name space. Some names in it have a
/// meaning of their own.
fn module_names(root: &Node, diagnostics: &mut Diagnostics) {
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
        if is_kbuilds_own(&module) {
            let message = format!("a module cannot be called `{module}`");
            let diagnostic = Diagnostic::new(key.span, message)
                .note("the kernel's build system has a list of this name");
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
    if let Some((key, _)) = root.get("livepatches").and_then(|node| node.entry(NONE)) {
        let diagnostic = Diagnostic::new(key.span, "a livepatch cannot be called `none`")
            .note("as the `transition` of an expectation, `none` means no livepatch");
        diagnostics.push(diagnostic);
    }
}

/// The most of each part of a scenario, far beyond what people write: each livepatch is compiled,
/// and the guest may say a mebibyte after each step.
const MOST: [(&str, usize); 5] = [
    ("targets", 50),
    ("livepatches", 100),
    ("steps", 300),
    ("expect_failure", 100),
    ("mask", 50),
];

/// Reports the parts of a scenario that are too many.
pub(super) fn limits(root: &Node, diagnostics: &mut Diagnostics) {
    for (part, most) in MOST {
        let Some((key, node)) = root.entry(part) else {
            continue;
        };
        let count = node.items().len().max(node.entries().len());
        if count > most {
            let message = format!("`{part}` has {count} entries; {most} are the most");
            let diagnostic = Diagnostic::new(key.span, message)
                .help("split it into several scenarios, each in its own file");
            diagnostics.push(diagnostic);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::parse;
    use crate::yaml::Source;

    /// The message of the first error, if there is one.
    fn error(rest: &str) -> Option<String> {
        let source = Source::new("x.yaml", format!("version: 1\nsummary: x\n{rest}"));
        let errors = parse("x", &source).err()?;
        errors.iter().next().map(|error| error.message.clone())
    }

    #[test]
    fn a_scenario_is_no_longer_than_people_write() {
        let steps = |count: usize| format!("steps:\n{}", "  - read: /proc/version\n".repeat(count));
        assert_eq!(error(&steps(300)), None);
        let long = error(&steps(301)).unwrap();
        assert_eq!(long, "`steps` has 301 entries; 300 are the most");
        let livepatches = (0..101).map(|number| format!("  l{number}: kselftest\n"));
        let livepatches: String = livepatches.collect();
        let many = error(&format!("livepatches:\n{livepatches}{}", steps(1))).unwrap();
        assert_eq!(many, "`livepatches` has 101 entries; 100 are the most");
    }

    #[test]
    fn no_module_is_a_list_of_kbuild() {
        for name in ["obj", "ccflags"] {
            let text = format!("targets: {{ {name}: kselftest }}\nsteps: [load: {name}]\n");
            let message = error(&text).unwrap();
            assert_eq!(message, format!("a module cannot be called `{name}`"));
        }
    }
}
