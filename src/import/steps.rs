// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which step a command is. Pure.

use super::shell::Command;
use crate::klp::errno_of;
use crate::scenario::{Errno, is_data, is_function_name, is_kernel_path, is_module_name, is_param};
use crate::visible::is_hidden;

/// Where livepatches are in sysfs.
const LIVEPATCH: &str = "/sys/kernel/livepatch/";
/// What functions.sh of the kernel's selftests turns on.
const DEBUG: [&str; 2] = ["file kernel/livepatch/* +p", "func klp_try_switch_task -p"];
/// The sysctl that turns ftrace off.
const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Steps of the scenario.
    Steps(Vec<Step>),
    /// Nothing: the lab does it by itself, or has no need of it.
    Needless,
    /// A case of the selftests begins.
    Test(String),
    /// The log that a case must give.
    Log(String),
    /// It is not understood, and why.
    Unknown(&'static str),
}

/// A step, as far as the command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Load {
        module: String,
        params: Vec<(String, String)>,
        /// Whether the function that loads it knows it for a livepatch, or for none.
        livepatch: Option<bool>,
        /// Whether its transition may stay open.
        nowait: bool,
        fails: bool,
        errno: Option<Errno>,
    },
    Disable(String, Option<Errno>),
    Force(String, Option<Errno>),
    Unload(Vec<String>, Option<Errno>),
    Read {
        path: String,
        equals: Option<String>,
        contains: Option<String>,
        errno: Option<Errno>,
    },
    Write {
        path: String,
        data: String,
        errno: Option<Errno>,
    },
    Stat(String, String),
    Trace(Option<String>),
    Traced(Vec<String>),
    Debug(Vec<String>),
}

impl Step {
    /// Says that the step fails; whether such a step can.
    pub(super) fn fail(&mut self, with: Errno) -> bool {
        match self {
            Self::Load { errno, .. }
            | Self::Disable(_, errno)
            | Self::Force(_, errno)
            | Self::Unload(_, errno)
            | Self::Write { errno, .. } => *errno = Some(with),
            Self::Read {
                equals: None,
                contains: None,
                errno,
                ..
            } => *errno = Some(with),
            _ => return false,
        }
        true
    }
}

/// The errno that a line of a tool's output means.
pub(super) fn failure(line: &str) -> Option<Errno> {
    let tools = [
        "insmod:",
        "modprobe:",
        "rmmod:",
        "cat:",
        "tee:",
        "bash:",
        "-bash:",
        "sh:",
        "-sh:",
        "zsh:",
        "echo:",
        "sysctl:",
    ];
    if !tools.iter().any(|tool| line.starts_with(tool)) && !line.contains(": write error: ") {
        return None;
    }
    if line.contains("is in use") {
        return Errno::from_name("EAGAIN");
    }
    if line.ends_with("is not currently loaded") {
        return Some(Errno::ENOENT);
    }
    let words = line.rsplit(": ").next()?.trim().trim_end_matches('.');
    errno_of(words, line.contains("insert"))
}

/// What a command comes to.
pub(super) fn understood(command: &Command) -> Act {
    let arguments = command.arguments();
    let all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (command.name(), &all[..]) {
        ("insmod" | "kpatch" | "modprobe" | "rmmod", _) => module_tool(command.name(), &all),
        ("load_mod", [module, params @ ..]) => load(module, params, Some(false), false, false),
        ("load_lp", [module, params @ ..]) => load(module, params, Some(true), false, false),
        ("load_lp_nowait", [module, params @ ..]) => load(module, params, Some(true), true, false),
        ("load_failing_mod", [module, params @ ..]) => load(module, params, None, false, true),
        ("disable_lp", [module]) => livepatch(module, |module| Step::Disable(module, None)),
        ("unload_lp" | "unload_mod", [module]) => unload(&[module]),
        ("set_dynamic_debug" | "setup_config", []) => debug(&DEBUG),
        ("set_pre_patch_ret", [module, value]) => write(
            &format!("/sys/module/{module}/parameters/pre_patch_ret"),
            value,
        ),
        ("set_ftrace_enabled", ["--fail", value]) => {
            let mut act = write(FTRACE, value);
            if let Act::Steps(steps) = &mut act
                && let (Some(step), Some(busy)) = (steps.first_mut(), Errno::from_name("EBUSY"))
            {
                step.fail(busy);
            }
            act
        }
        ("set_ftrace_enabled", [value]) => write(FTRACE, value),
        ("check_sysfs_value", [module, path, value]) => {
            read(&format!("{LIVEPATCH}{module}/{path}"), Some(value), None)
        }
        ("check_sysfs_rights", [module, path, rights]) => stat(module, path, rights),
        ("trace_function", [function]) if is_function_name(function) => {
            Act::Steps(vec![Step::Trace(Some((*function).to_owned()))])
        }
        ("cleanup_tracing", []) => Act::Steps(vec![Step::Trace(None)]),
        ("check_traced_functions", [_, ..]) if all.iter().all(|name| is_function_name(name)) => {
            let mut functions = arguments.to_vec();
            functions.sort();
            functions.dedup();
            Act::Steps(vec![Step::Traced(functions), Step::Trace(None)])
        }
        ("start_test", [test]) => Act::Test((*test).to_owned()),
        ("check_result", [log]) => Act::Log((*log).to_owned()),
        // What `if [[ "$(cat FILE)" != TEXT ]]` is made into.
        ("[[", ["cat", path, "!=", text]) => read(path, Some(text), None),
        ("[[", ["cat", path, "==", _]) => read(path, None, None),
        ("sysctl", _) => sysctl(&all),
        ("echo", _) => match &command.output {
            Some(path) => write(path, &echoed(&all)),
            None => Act::Needless,
        },
        ("printf", [text]) if !text.contains('%') => match &command.output {
            Some(path) => write(path, text.trim_end_matches("\\n")),
            None => Act::Needless,
        },
        ("cat" | "head" | "tail", _) => reads(&all),
        ("grep" | "egrep" | "fgrep", _) => grep(&all),
        _ if is_needless(command.name()) => Act::Needless,
        _ => Act::Unknown("the lab knows no such command"),
    }
}

/// What needs no step: what only shows something, what the lab observes after each step, and
/// waiting, which steps do by themselves.
fn is_needless(name: &str) -> bool {
    [
        ".",
        ":",
        "cd",
        "clear",
        "date",
        "die",
        "dmesg",
        "exit",
        "hostname",
        "id",
        "is_root",
        "journalctl",
        "log",
        "loop_until",
        "ls",
        "lsmod",
        "modinfo",
        "pwd",
        "return",
        "set",
        "skip",
        "sleep",
        "source",
        "sync",
        "test",
        "trap",
        "true",
        "uname",
        "unset",
        "wait",
        "whoami",
    ]
    .contains(&name)
}

fn module_tool(tool: &str, words: &[&str]) -> Act {
    match (tool, words) {
        ("insmod", [module, params @ ..]) => load(module, params, None, false, false),
        ("modprobe", ["-r" | "--remove", modules @ ..]) => unload(modules),
        ("modprobe", ["-v" | "-q", rest @ ..]) => module_tool(tool, rest),
        ("modprobe", [module, params @ ..]) if !module.starts_with('-') => {
            load(module, params, None, false, false)
        }
        ("rmmod", ["-v" | "-s", rest @ ..]) => module_tool(tool, rest),
        ("rmmod", modules) if !modules.iter().any(|word| word.starts_with('-')) => unload(modules),
        ("kpatch", ["load", module]) => load(module, &[], Some(true), false, false),
        ("kpatch", ["unload", module]) => match (
            livepatch(module, |module| Step::Disable(module, None)),
            unload(&[module]),
        ) {
            (Act::Steps(mut disable), Act::Steps(unload)) => {
                disable.extend(unload);
                Act::Steps(disable)
            }
            (unknown, _) => unknown,
        },
        _ => Act::Unknown("the lab knows no such options"),
    }
}

/// The module that a path or a name means.
fn module(word: &str) -> Result<String, Act> {
    let file = word.rsplit('/').next().unwrap_or_default();
    let file = [".xz", ".zst", ".gz"]
        .iter()
        .find_map(|ending| file.strip_suffix(ending))
        .unwrap_or(file);
    let name = file.strip_suffix(".ko").unwrap_or(file);
    if is_module_name(name) {
        return Ok(name.to_owned());
    }
    Err(Act::Unknown(
        "a module's name has lower-case letters, digits, `-` and `_`, and 40 at most",
    ))
}

fn load(word: &str, params: &[&str], livepatch: Option<bool>, nowait: bool, fails: bool) -> Act {
    let module = match module(word) {
        Ok(module) => module,
        Err(act) => return act,
    };
    let param = |word: &&str| {
        let (name, value) = word.split_once('=')?;
        is_param(name, value).then(|| (name.to_owned(), value.to_owned()))
    };
    let all: Option<Vec<(String, String)>> = params.iter().map(param).collect();
    let Some(all) = all else {
        return Act::Unknown("a parameter is written NAME=VALUE, without white space and quotes");
    };
    // The kernel sets them one after the other: the last one stays.
    let mut params: Vec<(String, String)> = Vec::new();
    for (name, value) in all {
        params.retain(|(known, _)| *known != name);
        params.push((name, value));
    }
    Act::Steps(vec![Step::Load {
        module,
        params,
        livepatch,
        nowait,
        fails,
        errno: None,
    }])
}

fn unload(words: &[&str]) -> Act {
    let mut modules = Vec::new();
    for word in words {
        match module(word) {
            Ok(name) if !modules.contains(&name) => modules.push(name),
            Ok(_) => {}
            Err(act) => return act,
        }
    }
    match modules[..] {
        [] => Act::Unknown("it names no module"),
        _ => Act::Steps(vec![Step::Unload(modules, None)]),
    }
}

fn livepatch(word: &str, step: impl Fn(String) -> Step) -> Act {
    match module(word) {
        Ok(module) => Act::Steps(vec![step(module)]),
        Err(act) => act,
    }
}

fn debug(queries: &[&str]) -> Act {
    let queries = queries.iter().map(|query| (*query).to_owned());
    Act::Steps(vec![Step::Debug(queries.collect())])
}

/// What echo(1) says.
fn echoed(words: &[&str]) -> String {
    let flags = words
        .iter()
        .take_while(|word| ["-n", "-e", "-E", "-ne", "-en"].contains(*word));
    words[flags.count()..].join(" ")
}

fn write(path: &str, data: &str) -> Act {
    if path.starts_with("/dev/") && !path.starts_with("/dev/cpu") {
        return Act::Needless;
    }
    let data = data.trim_end_matches('\n');
    if let Some(rest) = path.strip_prefix(LIVEPATCH) {
        match (rest.split_once('/'), data.trim()) {
            (Some((name, "enabled")), "0") => {
                return livepatch(name, |module| Step::Disable(module, None));
            }
            (Some((name, "force")), "1") => {
                return livepatch(name, |module| Step::Force(module, None));
            }
            _ => {}
        }
    }
    if !is_kernel_path(path) {
        return Act::Unknown("it writes a file outside of /proc and /sys");
    }
    if !is_data(data) {
        return Act::Unknown("a step writes one line, without tabs");
    }
    if path.ends_with("/dynamic_debug/control") {
        return debug(&[data]);
    }
    Act::Steps(vec![Step::Write {
        path: path.to_owned(),
        data: data.to_owned(),
        errno: None,
    }])
}

fn read(path: &str, equals: Option<&str>, contains: Option<&str>) -> Act {
    // Whether the kernel has a function: that is asked to skip a case.
    if path == "/proc/kallsyms" {
        return Act::Needless;
    }
    if !is_kernel_path(path) {
        return Act::Unknown("it reads a file outside of /proc, /sys and /dev");
    }
    Act::Steps(vec![Step::Read {
        path: path.to_owned(),
        equals: equals.map(str::to_owned),
        contains: contains.map(str::to_owned),
        errno: None,
    }])
}

fn reads(words: &[&str]) -> Act {
    let mut steps = Vec::new();
    for word in words.iter().filter(|word| word.starts_with('/')) {
        match read(word, None, None) {
            Act::Steps(more) => steps.extend(more),
            other => return other,
        }
    }
    match steps.is_empty() {
        true => Act::Unknown("it names no file by its whole path"),
        false => Act::Steps(steps),
    }
}

/// Only `grep -q` asks whether a text is there; any other only shows it.
fn grep(words: &[&str]) -> Act {
    let (flags, rest): (Vec<&str>, Vec<&str>) = words.iter().partition(|w| w.starts_with('-'));
    let has = |flag: char| flags.iter().any(|flags| flags.contains(flag));
    let [text, path] = rest[..] else {
        return Act::Unknown("it looks into none or several files");
    };
    let is_plain = has('F') || !text.contains(['^', '$', '*', '[', '.', '\\', '|', '+']);
    let is_plain = is_plain && !text.trim().is_empty() && !text.contains(is_hidden);
    let asks = has('q') && !has('v') && !has('i') && is_plain;
    read(path, None, asks.then_some(text))
}

fn stat(module: &str, path: &str, rights: &str) -> Act {
    let path = format!("{LIVEPATCH}{module}/{path}");
    let path = path.trim_end_matches('/');
    if !is_kernel_path(path) || !crate::scenario::is_rights(rights) {
        return Act::Unknown("the path or the rights cannot be in a scenario");
    }
    Act::Steps(vec![Step::Stat(path.to_owned(), rights.to_owned())])
}

fn sysctl(words: &[&str]) -> Act {
    let rest: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let [word] = rest[..] else {
        return Act::Unknown("it sets none or several");
    };
    let key = |key: &str| format!("/proc/sys/{}", key.trim().replace('.', "/"));
    match word.split_once('=') {
        Some((name, value)) => write(&key(name), value.trim()),
        None => read(&key(word), None, None),
    }
}
