// SPDX-License-Identifier: MIT OR Apache-2.0
//! The targets of a scenario, and how their functions are told apart.

use std::collections::{BTreeMap, HashMap};

use super::errno::Errno;
use super::lower::text;
use super::model::{Symbol, Target, TargetFunction};
use super::names::{kernel_module_name, lenient_symbol, symbol};
use crate::yaml::{Diagnostic, Diagnostics, Key, Node, Span};

/// The targets of a scenario.
pub(crate) fn read(root: &Node, diagnostics: &mut Diagnostics) -> Vec<Target> {
    root.entries_of("targets")
        .iter()
        .map(|entry| target(entry, diagnostics))
        .collect()
}

/// The target that an object is, if it is one: `my_shop` is the target `my-shop`.
pub(super) fn find<'a>(targets: &'a [Target], object: &str) -> Option<&'a Target> {
    let module = kernel_module_name(object);
    targets
        .iter()
        .find(|target| kernel_module_name(&target.name) == module)
}

/// The functions of a target that have this name in C.
pub(super) fn functions_named<'a>(target: &'a Target, name: &str) -> Vec<&'a Symbol> {
    let symbols = target.functions.iter().map(|function| &function.symbol);
    symbols.filter(|symbol| symbol.name == name).collect()
}

/// Functions of the same name in C.
#[derive(Default)]
struct Namesakes {
    functions: Vec<(TargetFunction, Span)>,
    /// One of them is written in a way that was reported, so their positions cannot be judged.
    malformed: bool,
}

fn target((key, node): &(Key, Node), diagnostics: &mut Diagnostics) -> Target {
    let mut groups: Vec<Namesakes> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (written, returns) in node.entries_of("functions") {
        let function = TargetFunction {
            symbol: lenient_symbol(&written.name),
            returns: returns.as_int().unwrap_or_default(),
        };
        let place = *places
            .entry(function.symbol.name.clone())
            .or_insert(groups.len());
        if place == groups.len() {
            groups.push(Namesakes::default());
        }
        groups[place].malformed |= symbol(&written.name).is_none();
        groups[place].functions.push((function, written.span));
    }
    for group in &mut groups {
        if !group.malformed {
            positions(&key.name, &group.functions, diagnostics);
        }
        group
            .functions
            .sort_by_key(|(function, _)| function.symbol.sympos);
    }
    let functions = groups.into_iter().flat_map(|group| group.functions);
    Target {
        name: key.name.clone(),
        is_kselftest: node.as_str().is_some(),
        ko: text(node, "ko"),
        functions: functions.map(|(function, _)| function).collect(),
        init: node
            .get("init")
            .and_then(Node::as_str)
            .and_then(Errno::from_name),
    }
}

/// One function of a name has no position; several have those from 1, without gaps.
fn positions(target: &str, namesakes: &[(TargetFunction, Span)], diagnostics: &mut Diagnostics) {
    if let [(TargetFunction { symbol, .. }, span)] = namesakes {
        if symbol.sympos > 0 {
            let message = format!("`{symbol}` is the only `{}` of `{target}`", symbol.name);
            let diagnostic = Diagnostic::new(*span, message)
                .note("a single function needs no position")
                .help(instead_of_single(symbol));
            diagnostics.push(diagnostic);
        }
        return;
    }
    let name = namesakes
        .first()
        .map_or("", |(function, _)| function.symbol.name.as_str());
    let mut taken: BTreeMap<u32, Span> = BTreeMap::new();
    let mut plain = None;
    for (function, span) in namesakes {
        match function.symbol.sympos {
            0 => plain = Some(*span),
            sympos => {
                taken.insert(sympos, *span);
            }
        }
    }
    if let Some(plain) = plain {
        let message = format!("`{name}` needs a position, for `{target}` has several `{name}`");
        let mut diagnostic = Diagnostic::new(plain, message);
        if let Some(other) = taken.values().next() {
            diagnostic = diagnostic.related(*other, "another one");
        }
        let free = (1..)
            .find(|sympos| !taken.contains_key(sympos))
            .unwrap_or_default();
        diagnostics.push(diagnostic.help(format!("write `{name},{free}`")));
        taken.insert(free, plain);
    }
    let mut before = 0;
    for (sympos, span) in taken {
        let wanted = before + 1;
        if sympos > wanted {
            let message = format!("there is no `{name},{wanted}` before `{name},{sympos}`");
            let diagnostic = Diagnostic::new(span, message)
                .note("functions of the same name are counted from 1, without gaps");
            diagnostics.push(diagnostic);
        }
        before = sympos;
    }
}

/// What to write instead of a position that a single function has.
fn instead_of_single(Symbol { name, sympos }: &Symbol) -> String {
    match sympos {
        0 | 1 => format!("write `{name}`"),
        2 => format!("write `{name}`, or add `{name},1`"),
        _ => format!(
            "write `{name}`, or add `{name},1` to `{name},{}`",
            sympos - 1
        ),
    }
}
