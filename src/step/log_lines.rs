// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts that no line of the kernel's log can have: a step that expects one fails whatever the kernel
//! does, and one that expects its absence passes. That is a mistake in the file. Pure.

use crate::klp::{References, kernel_module_name};
use crate::yaml::{Diagnostic, Lexis, Node};

/// Bytes of the longest message (`kernel/printk/printk.c: PRINTKRB_RECORD_MAX`).
const LINE_MAX: usize = 1024;
/// How lines of livepatching begin; states and snapshots leave it out.
const OF_LIVEPATCHING: &str = "livepatch: ";
/// How lines of livepatching go on that speak of a task, or of time that has passed.
const VARYING: [&str; 2] = ["klp_try_switch_task: ", "signaling remaining tasks"];
/// How lines about a module go on that speak of what the first module of its kind taints.
const TAINTING: [&str; 2] = ["loading out-of-tree module", "tainting kernel with"];

/// Whether a line of livepatching, without [`OF_LIVEPATCHING`], is not the same in every run.
pub(crate) fn varies(line: &str) -> bool {
    VARYING.iter().any(|start| line.starts_with(start))
}

/// Whether a line about a module, without the module's name, depends on what was loaded before.
pub(crate) fn taints(line: &str) -> bool {
    TAINTING.iter().any(|start| line.starts_with(start))
}

/// Reports what cannot be in a log in an expectation, and what must both be there and not.
pub(super) fn check(expect: &Node, references: &mut References) {
    for list in ["log", "whole_log", "not_in_log"] {
        for (item, text) in texts(expect, list) {
            let wrong = of_any(item, text);
            let wrong = wrong.or_else(|| match list {
                "whole_log" => of_whole(item, text, references),
                _ => None,
            });
            if let Some(diagnostic) = wrong {
                references.report(diagnostic);
            }
        }
    }
    for (unwanted, part) in texts(expect, "not_in_log") {
        let wanted = texts(expect, "log").chain(texts(expect, "whole_log"));
        let mut both = wanted.filter(|(_, text)| text.contains(part));
        if let Some((wanted, _)) = both.next() {
            let message = format!("`{part}` must be in the log and must not be there");
            let diagnostic = Diagnostic::new(unwanted.span, message)
                .label("must not occur")
                .related(wanted.span, "must occur");
            references.report(diagnostic);
        }
    }
}

/// The texts of a list, or the one in its place.
fn texts<'a>(expect: &'a Node, list: &str) -> impl Iterator<Item = (&'a Node, &'a str)> + use<'a> {
    let items = expect.get(list).map_or(&[][..], Node::one_or_many).iter();
    let texts = items.filter_map(|item| Some((item, item.as_str()?)));
    // Of any other, `yaml::check` has said that it is no line.
    texts.filter(|(_, text)| Lexis::Line.accepts(text))
}

/// What is wrong with a text that is looked for in any way.
fn of_any(item: &Node, text: &str) -> Option<Diagnostic> {
    let never = |what: &str| Diagnostic::new(item.span, format!("no line of the log {what}"));
    if let Some(rest) = after_time(text) {
        let help = format!("leave the time out: `{rest}`");
        return Some(never("begins with its time").help(help));
    }
    // `\x0a` is one byte.
    let length = text.len().saturating_sub(3 * text.matches("\\x").count());
    if length > LINE_MAX {
        let label = format!("{length} bytes");
        return Some(never("is longer than 1024 bytes").label(label));
    }
    None
}

/// What is wrong with a line among all lines of livepatching and of the scenario's modules.
fn of_whole(item: &Node, text: &str, references: &References) -> Option<Diagnostic> {
    let never = |what: &str| Diagnostic::new(item.span, format!("no line of `whole_log` {what}"));
    if let Some(rest) = text.strip_prefix(OF_LIVEPATCHING) {
        let help = format!("leave `{OF_LIVEPATCHING}` out: `{rest}`");
        return Some(never(&format!("begins with `{OF_LIVEPATCHING}`")).help(help));
    }
    let of_module = |name: &String| {
        let line = text.strip_prefix(&*kernel_module_name(name))?;
        line.strip_prefix(": ").filter(|line| taints(line))
    };
    let targets = references.targets.iter().map(|target| &target.name);
    let livepatches = references
        .livepatches
        .iter()
        .map(|livepatch| &livepatch.name);
    let mut modules = targets.chain(livepatches);
    if varies(text) || modules.any(|name| of_module(name).is_some()) {
        let help = "`log:` and `not_in_log:` see all lines, also those that are not the same in \
                    every run";
        return Some(
            never("says that")
                .note("it is not the same in every run")
                .help(help),
        );
    }
    None
}

/// What follows the time at the beginning of a line, as `dmesg` and the console show it:
/// `[   12.345678] livepatch: …`.
fn after_time(text: &str) -> Option<&str> {
    let (time, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = time.trim_start().split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(seconds) && is_number(micros) && micros.len() == 6).then(|| rest.trim_start())
}
