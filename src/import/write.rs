// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was understood of a report, as a scenario's file. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::steps::Step;
use super::{Entry, Imported, Placed, Prebuilt, Reader, Request};
use crate::report::text::one_line;
use crate::scenario::{Errno, kernel_module_name};
use crate::visible::is_hidden;

/// How the kernel's own test modules are called.
const KSELFTEST: &str = "test_klp_";
/// Those of them that are livepatches.
const LIVEPATCHES: [&str; 9] = [
    "test_klp_atomic_replace",
    "test_klp_callbacks_demo",
    "test_klp_callbacks_demo2",
    "test_klp_livepatch",
    "test_klp_mod_patch",
    "test_klp_state",
    "test_klp_state2",
    "test_klp_state3",
    "test_klp_syscall",
];
/// The test module that can keep a transition open, and where it is then.
const BUSY: (&str, &str) = ("test_klp_callbacks_busy", "busymod_work_func");
/// Columns of a line that is quoted in a comment.
const QUOTED_MAX: usize = 90;
/// Names that YAML takes for something else.
const NO_NAMES: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// A module of the report.
struct Module {
    /// As it is first written.
    name: String,
    is_livepatch: bool,
    kind: ModuleKind,
}

enum ModuleKind {
    Kselftest,
    Prebuilt(String),
    StandIn,
}

/// The scenario's file, and what is to be said of it.
pub(super) fn imported(request: &Request<'_>, reader: Reader) -> Imported {
    let modules = modules(&reader.entries, request.files);
    let mut unknown = Vec::new();
    let mut steps = String::new();
    let mut busy = false;
    for entry in reader.entries {
        match entry {
            Entry::Test(title) => {
                let _ = writeln!(steps, "  # TEST: {title}");
            }
            Entry::Unknown(line) => {
                let mut text: String = line.text.chars().take(QUOTED_MAX).collect();
                if text.len() < line.text.len() {
                    text += " …";
                }
                let (number, why) = (line.line, line.why);
                let _ = writeln!(
                    steps,
                    "  # line {number}, not understood ({why}):\n  #   {text}"
                );
                unknown.push(line);
            }
            Entry::Step(placed) => {
                if let Step::Load { module, params, .. } = &placed.step
                    && kernel_module_name(module) == BUSY.0
                {
                    busy = params.iter().any(|(name, value)| {
                        name == "block_transition" && ["Y", "y", "1"].contains(&&**value)
                    });
                }
                step(&placed, &modules, busy, &mut steps);
            }
        }
    }
    let named = |wanted: fn(&ModuleKind) -> bool| {
        let all = modules.values().filter(|module| wanted(&module.kind));
        all.map(|module| module.name.clone()).collect::<Vec<_>>()
    };
    let stand_ins = named(|kind| matches!(kind, ModuleKind::StandIn));
    let used = named(|kind| matches!(kind, ModuleKind::Prebuilt(_)));
    let tests: Vec<_> = reader.tests.clone();
    let title = request
        .test
        .and_then(|part| tests.iter().find(|t| t.contains(part)));
    let summary = match (&tests[..], title) {
        (_, Some(title)) => title.clone(),
        ([title], None) => title.clone(),
        _ => format!("What {} tells.", request.from),
    };
    let mut yaml = format!(
        "# Imported from {} by `lab import`; not understood: {} of {} lines.\n\
         version: 1\nsummary: {}\n",
        one_line(request.from),
        unknown.len(),
        reader.lines,
        quoted(&summary),
    );
    definitions(&modules, &mut yaml);
    let _ = write!(yaml, "\nsteps:\n{steps}");
    Imported {
        yaml,
        lines: reader.lines,
        unknown,
        stand_ins,
        used: used.iter().map(|name| kernel_module_name(name)).collect(),
        tests,
    }
}

/// The modules of the steps, by what the kernel calls them.
fn modules(entries: &[Entry], files: &BTreeMap<String, Prebuilt>) -> BTreeMap<String, Module> {
    let mut names: Vec<(&str, bool)> = Vec::new();
    for entry in entries {
        let Entry::Step(placed) = entry else { continue };
        match &placed.step {
            Step::Load {
                module, livepatch, ..
            } => names.push((module, livepatch.unwrap_or(false))),
            Step::Disable(livepatch, _) | Step::Force(livepatch, _) => {
                names.push((livepatch, true))
            }
            Step::Unload(modules, _) => names.extend(modules.iter().map(|name| (&**name, false))),
            _ => {}
        }
    }
    // A file below a livepatch's folder says that it is one, and no more.
    let paths: BTreeSet<&str> = entries.iter().filter_map(livepatch_of_path).collect();
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    for (name, is_livepatch) in names {
        let key = kernel_module_name(name);
        let is_livepatch = is_livepatch || paths.contains(&*key);
        let module = modules.entry(key.clone()).or_insert_with(|| Module {
            name: name.to_owned(),
            is_livepatch: LIVEPATCHES.contains(&&*key),
            kind: match files.get(&key) {
                Some(file) => ModuleKind::Prebuilt(file.ko.clone()),
                None if key.starts_with(KSELFTEST) => ModuleKind::Kselftest,
                None => ModuleKind::StandIn,
            },
        });
        module.is_livepatch |= is_livepatch;
        // The file itself knows better than the report.
        if let Some(file) = files.get(&key) {
            module.is_livepatch = file.is_livepatch;
        }
    }
    modules
}

/// The livepatch whose file in sysfs a step uses.
fn livepatch_of_path(entry: &Entry) -> Option<&str> {
    let Entry::Step(placed) = entry else {
        return None;
    };
    let (Step::Read { path, .. } | Step::Write { path, .. } | Step::Stat(path, _)) = &placed.step
    else {
        return None;
    };
    path.strip_prefix("/sys/kernel/livepatch/")?
        .split('/')
        .next()
}

/// `targets:` and `livepatches:`.
fn definitions(modules: &BTreeMap<String, Module>, yaml: &mut String) {
    let (livepatches, targets): (Vec<&Module>, Vec<&Module>) =
        modules.values().partition(|module| module.is_livepatch);
    let stand_in = targets
        .iter()
        .find(|module| matches!(module.kind, ModuleKind::StandIn));
    if modules
        .values()
        .any(|module| matches!(module.kind, ModuleKind::StandIn))
    {
        *yaml += "\n# Stand-ins: of these modules only the names are known. Put their files beside this\n\
                  # one and write `{ ko: NAME.ko }`, or say what they do (docs/scenarios.md).";
    }
    if !targets.is_empty() {
        *yaml += "\ntargets:\n";
    }
    for module in &targets {
        let name = scalar(&module.name);
        let _ = match &module.kind {
            ModuleKind::Kselftest => writeln!(yaml, "  {name}: kselftest"),
            ModuleKind::Prebuilt(ko) => writeln!(yaml, "  {name}: {{ ko: {} }}", quoted(ko)),
            ModuleKind::StandIn => {
                writeln!(yaml, "  {name}: {{ functions: {{ stand_in: 0 }} }}")
            }
        };
    }
    if !livepatches.is_empty() {
        if targets.is_empty() {
            yaml.push('\n');
        }
        *yaml += "livepatches:\n";
    }
    for (number, module) in (1..).zip(&livepatches) {
        let name = scalar(&module.name);
        let _ = match (&module.kind, stand_in) {
            (ModuleKind::Kselftest, _) => writeln!(yaml, "  {name}: kselftest"),
            (ModuleKind::Prebuilt(ko), _) => writeln!(yaml, "  {name}: {{ ko: {} }}", quoted(ko)),
            (ModuleKind::StandIn, Some(target)) => {
                let target = scalar(&target.name);
                writeln!(
                    yaml,
                    "  {name}: {{ patches: {{ {target}: {{ stand_in: {number} }} }} }}"
                )
            }
            (ModuleKind::StandIn, None) => writeln!(
                yaml,
                "  {name}:\n    patches:\n      vmlinux:\n        cmdline_proc_show:\n          \
                 signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
                 include: [linux/seq_file.h]\n          body: |\n            \
                 seq_puts(m, \"{}\\n\");\n            return 0;",
                module.name
            ),
        };
    }
}

/// A step.
fn step(placed: &Placed, modules: &BTreeMap<String, Module>, busy: bool, yaml: &mut String) {
    let name = |name: &str| {
        let known = modules.get(&kernel_module_name(name));
        scalar(known.map_or(name, |module| &module.name))
    };
    let mut more: Vec<String> = Vec::new();
    let mut fails = |errno: &Option<Errno>| {
        more.extend(errno.map(|errno| format!("errno: {errno}")));
    };
    let action = match &placed.step {
        Step::Load {
            module,
            params,
            nowait,
            fails,
            errno,
            ..
        } => {
            if !params.is_empty() {
                let param = |(name, value): &(String, String)| format!("{name}: {}", quoted(value));
                let params: Vec<_> = params.iter().map(param).collect();
                more.push(format!("params: {{ {} }}", params.join(", ")));
            }
            match (errno, fails) {
                (Some(errno), _) => more.push(format!("errno: {errno}")),
                (None, true) => {
                    more.push("errno: EINVAL   # a guess: the report does not say".into())
                }
                (None, false) if *nowait && busy => {
                    more.push(format!("transition: held\n    held_in: {}", BUSY.1));
                }
                (None, false) => {}
            }
            format!("load: {}", name(module))
        }
        Step::Disable(livepatch, errno) => {
            fails(errno);
            format!("disable: {}", name(livepatch))
        }
        Step::Force(livepatch, errno) => {
            fails(errno);
            format!("force: {}", name(livepatch))
        }
        Step::Unload(modules, errno) => {
            fails(errno);
            match &modules[..] {
                [module] => format!("unload: {}", name(module)),
                all => {
                    let all: Vec<_> = all.iter().map(|module| name(module)).collect();
                    format!("unload: [{}]", all.join(", "))
                }
            }
        }
        Step::Read {
            path,
            equals,
            contains,
            errno,
        } => {
            fails(errno);
            more.extend(
                equals
                    .iter()
                    .map(|text| format!("equals: {}", quoted(text))),
            );
            more.extend(
                contains
                    .iter()
                    .map(|text| format!("contains: {}", quoted(text))),
            );
            format!("read: {}", quoted(path))
        }
        Step::Write { path, data, errno } => {
            more.push(format!("data: {}", quoted(data)));
            more.extend(errno.map(|errno| format!("errno: {errno}")));
            format!("write: {}", quoted(path))
        }
        Step::Stat(path, rights) => {
            more.push(format!("rights: {}", quoted(rights)));
            format!("stat: {}", quoted(path))
        }
        Step::Trace(function) => format!("trace: {}", function.as_deref().unwrap_or("none")),
        Step::Traced(functions) => format!("expect: {{ traced: [{}] }}", functions.join(", ")),
        Step::Debug(queries) => {
            let queries: Vec<_> = queries.iter().map(|query| quoted(query)).collect();
            match &queries[..] {
                [query] => format!("dynamic-debug: {query}"),
                all => format!("dynamic-debug: [{}]", all.join(", ")),
            }
        }
    };
    let _ = writeln!(yaml, "  - {action}   # line {}", placed.line);
    for line in more {
        let _ = writeln!(yaml, "    {line}");
    }
    if !placed.log.is_empty() {
        *yaml += "    expect:\n      log:\n";
        for line in &placed.log {
            let _ = writeln!(yaml, "        - {}", quoted(line));
        }
    }
}

/// A module's name as YAML takes it for a name.
fn scalar(name: &str) -> String {
    match NO_NAMES.contains(&name) {
        true => quoted(name),
        false => name.to_owned(),
    }
}

/// A text in double quotes, in which JSON and YAML are the same but for what nobody sees.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        match u32::from(c) {
            code if is_hidden(c) && code <= 0xffff => {
                let _ = write!(out, "\\u{code:04x}");
            }
            code if is_hidden(c) => {
                let _ = write!(out, "\\U{code:08x}");
            }
            _ => out.push(c),
        }
    }
    out
}
