// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent saw, as a value; and its text in snapshots.
//!
//! Normalised means: no addresses, pids, times, and no order that the kernel does not promise.
//! Modules are shown by the scenario's names.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::scenario::{Scenario, kernel_module_name};
use crate::step::{taints, varies};
use crate::visible::visible;

/// The modules of the guest's own devices, which are loaded before anything where a distribution's
/// kernel does not have them built in (`kernel/early.rs`). They are there all the time.
const DEVICES: [&str; 12] = [
    "failover",
    "net_failover",
    "pvpanic",
    "pvpanic_pci",
    "rng_core",
    "virtio",
    "virtio_net",
    "virtio_pci",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_ring",
    "virtio_rng",
];

/// The scenario's names of kernel modules: `pricing_v1` → `pricing-v1`.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// The names of a scenario's modules.
    pub fn of(scenario: &Scenario) -> Self {
        let targets = scenario.targets.iter().map(|target| &target.name);
        let all = targets.chain(scenario.livepatches.iter().map(|livepatch| &livepatch.name));
        Self(
            all.map(|name| (kernel_module_name(name), name.clone()))
                .collect(),
        )
    }

    /// Whether the scenario has a kernel module.
    fn has(&self, module: &str) -> bool {
        self.0.contains_key(module)
    }

    /// The scenario's name of a kernel module.
    pub fn of_module(&self, module: &str) -> String {
        self.0
            .get(module)
            .cloned()
            .unwrap_or_else(|| module.to_owned())
    }
}

/// The state after a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// What the step itself found out: an errno, what a file held.
    pub result: Option<String>,
    /// Livepatches in stack order.
    pub livepatches: Vec<Livepatch>,
    /// Loaded modules and their reference counts.
    pub modules: BTreeMap<String, String>,
    /// `shop.price` → what it answered.
    pub calls: BTreeMap<String, String>,
    /// Functions with a livepatch's ftrace handler: `shop.price`.
    pub handlers: Vec<String>,
    /// The functions that ftrace's function tracer has seen, while it is on.
    pub traced: Vec<String>,
    /// The lines of livepatches and of the scenario's modules in the kernel log since the last
    /// step, but for those that vary. Expectations see all lines: [`StepLog`](super::StepLog).
    pub log: Vec<String>,
}

/// A directory in `/sys/kernel/livepatch`. Attributes are as they read; `-` if absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Livepatch {
    /// The scenario's name.
    pub name: String,
    /// `enabled`.
    pub enabled: String,
    /// `transition`.
    pub transition: String,
    /// `replace`: the tag, or the bool.
    pub replace: String,
    /// `stack_order`.
    pub stack_order: String,
    /// Its objects, by name.
    pub objects: Vec<Object>,
}

/// An object of a livepatch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// `vmlinux` or a module.
    pub name: String,
    /// `patched`.
    pub patched: String,
    /// Its functions: `price,1`.
    pub functions: Vec<String>,
}

/// Bytes of a line that is not understood that are shown.
const UNKNOWN_MAX: usize = 200;

/// A line of the agent that is no part of its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLine(String);

/// The line as it can be shown, and no more of it than fits into a message.
impl std::fmt::Display for UnknownLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.0[..self.0.floor_char_boundary(UNKNOWN_MAX)];
        let more = if start.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        let shown = visible(&start.replace('\t', " "));
        write!(f, "the agent's state has an unknown line: `{shown}{more}`")
    }
}

impl Observed {
    /// Reads the agent's `state` reply. A line without an end is the rest of a reply that was too long.
    ///
    /// # Errors
    ///
    /// A line is of no known kind, or stands where its kind has no meaning.
    pub fn parse(dump: &str, names: &Names) -> std::result::Result<Self, UnknownLine> {
        let mut state = Self::default();
        let whole = dump.rfind('\n').map_or("", |end| &dump[..=end]);
        for line in whole.lines() {
            let unknown = || UnknownLine(line.to_owned());
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["livepatch", name, enabled, transition, replace, stack_order] => {
                    state.livepatches.push(Livepatch {
                        name: names.of_module(name),
                        enabled: enabled.to_owned(),
                        transition: transition.to_owned(),
                        replace: replace.to_owned(),
                        stack_order: stack_order.to_owned(),
                        objects: Vec::new(),
                    });
                }
                ["object", name, patched] => {
                    let livepatch = state.livepatches.last_mut().ok_or_else(unknown)?;
                    livepatch.objects.push(Object {
                        name: names.of_module(name),
                        patched: patched.to_owned(),
                        functions: Vec::new(),
                    });
                }
                ["function", name] => {
                    let livepatch = state.livepatches.last_mut();
                    let object = livepatch.and_then(|l| l.objects.last_mut());
                    let object = object.ok_or_else(unknown)?;
                    object.functions.push(name.to_owned());
                }
                ["module", line] => {
                    let mut words = line.split(' ');
                    let (Some(name), Some(references)) = (words.next(), words.nth(1)) else {
                        return Err(unknown());
                    };
                    if names.has(name) || !DEVICES.contains(&name) {
                        state
                            .modules
                            .insert(names.of_module(name), references.to_owned());
                    }
                }
                ["call", target, function, answer] => {
                    let function = format!("{}.{function}", names.of_module(target));
                    state.calls.insert(function, answer.to_owned());
                }
                ["ftrace", line, ..] => state.handlers.extend(patched_function(line, names)),
                ["traced", function] => state.traced.push(function.to_owned()),
                // An agent of protocol 1 says `log`, without the number and the time.
                ["kmsg", _, ref text @ ..] | ["log", ref text @ ..] => {
                    state.log.extend(log_line(&text.join("\t"), names));
                }
                ["log-lost", ..] => state.log.push("(lines lost)".to_owned()),
                // Of the guest, not of its state: see `state::witness`.
                ["tainted" | "disk", _] => {}
                _ => return Err(unknown()),
            }
        }
        // Without stack_order (before 6.14) by name, so that the order is at least stable.
        state.livepatches.sort_by_key(|livepatch| {
            (
                livepatch.stack_order.parse::<u64>().unwrap_or(u64::MAX),
                livepatch.name.clone(),
            )
        });
        state.handlers.sort();
        state.traced.sort();
        Ok(state)
    }

    /// The livepatches that are enabled, in stack order.
    pub fn enabled(&self) -> Vec<&str> {
        let enabled = self
            .livepatches
            .iter()
            .filter(|livepatch| livepatch.enabled == "1");
        enabled.map(|livepatch| livepatch.name.as_str()).collect()
    }

    /// The livepatch that is in transition.
    pub fn in_transition(&self) -> Option<&str> {
        let mut livepatches = self.livepatches.iter();
        livepatches
            .find(|livepatch| livepatch.transition == "1")
            .map(|livepatch| livepatch.name.as_str())
    }

    /// The livepatch with this name.
    pub fn livepatch(&self, name: &str) -> Option<&Livepatch> {
        self.livepatches
            .iter()
            .find(|livepatch| livepatch.name == name)
    }

    /// The state in a snapshot, indented by two spaces.
    pub fn text(&self) -> String {
        self.lines()
            .lines()
            .map(|line| format!("  {line}\n"))
            .collect()
    }

    /// The lines of the state, without the indentation.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        if let Some(result) = &self.result {
            let _ = writeln!(text, "result: {}", result.replace('\n', "\n  "));
        }
        for livepatch in &self.livepatches {
            let _ = writeln!(
                text,
                "livepatch {}: enabled {}, transition {}, replace {}, stack_order {}",
                livepatch.name,
                livepatch.enabled,
                livepatch.transition,
                livepatch.replace,
                livepatch.stack_order
            );
            for object in &livepatch.objects {
                let functions = object.functions.join(" ");
                let patched = &object.patched;
                let _ = writeln!(text, "  {}: patched {patched}: {functions}", object.name);
            }
        }
        for (module, references) in &self.modules {
            let _ = writeln!(text, "module {module}: {references} references");
        }
        for (function, answer) in &self.calls {
            let _ = writeln!(text, "call {function}: {answer}");
        }
        for function in &self.handlers {
            let _ = writeln!(text, "handler on {function}");
        }
        for function in &self.traced {
            let _ = writeln!(text, "traced {function}");
        }
        for line in &self.log {
            let _ = writeln!(text, "log {line}");
        }
        // It is shown on terminals, and line ends of another kind would not be read back.
        visible(&text)
    }
}

/// A line of ftrace's `enabled_functions`: `price [shop] (1) R I …klp_ftrace_handler…`.
fn patched_function(line: &str, names: &Names) -> Option<String> {
    let mut words = line.split_whitespace();
    let function = words.next()?;
    let module = words
        .next()?
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'));
    Some(format!(
        "{}.{function}",
        module.map_or("vmlinux".to_owned(), |m| names.of_module(m))
    ))
}

/// A line of the kernel log that livepatching or one of the scenario's modules wrote. Not if it
/// speaks of a task, of time that has passed, or of what the first module of its kind taints.
fn log_line(text: &str, names: &Names) -> Option<String> {
    if let Some(line) = text.strip_prefix("livepatch: ") {
        return (!varies(line)).then(|| line.to_owned());
    }
    let (module, line) = text.split_once(": ")?;
    (names.has(module) && !taints(line)).then(|| text.to_owned())
}

/// All states of a run as the text of its snapshot.
pub fn run_text(steps: &[(String, Observed)]) -> String {
    let mut text = String::new();
    for (index, (label, state)) in steps.iter().enumerate() {
        let _ = write!(text, "step {}: {label}\n{}", index + 1, state.text());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "livepatch\tstock_hotfix\t1\t0\t2\t2\nobject\tshop\t1\nfunction\tstock,1\n\
        livepatch\tpricing_v1\t1\t0\t4294967295\t1\nobject\tshop\t1\nfunction\tprice,1\n\
        module\tpricing_v1 12288 1 - Live 0x0000000000000000 (OK)\n\
        module\tshop 12288 0 - Live 0x0000000000000000 (O)\n\
        call\tshop\tprice\t11\ncall\tshop\tstock\t21\n\
        ftrace\tstock [shop] (1) R I     \ttramp: 0xffff (klp_ftrace_handler+0x0/0x1f0)\n\
        ftrace\tcmdline_proc_show (1) R I  \ttramp: 0xffff (klp_ftrace_handler+0x0/0x1f0)\n\
        log\tlivepatch: enabling patch 'pricing_v1'\n\
        kmsg\t7,410,1000,-\tlivepatch: klp_try_switch_task: swapper/1:0 is running\n\
        kmsg\t6,411,1000,-\tvirtio_net virtio1 eth0: renamed\n\
        kmsg\t5,412,1000,-\tlivepatch: 'pricing_v1': patching complete\n";

    fn names() -> Names {
        let names = ["shop", "pricing-v1", "stock-hotfix"];
        Names(
            names
                .map(|name| (kernel_module_name(name), name.to_owned()))
                .into(),
        )
    }

    #[test]
    fn the_text_is_free_of_what_differs_between_runs() {
        let state = Observed::parse(DUMP, &names()).unwrap();
        insta::assert_snapshot!(run_text(&[("load pricing-v1".to_owned(), state)]), @r"
        step 1: load pricing-v1
          livepatch pricing-v1: enabled 1, transition 0, replace 4294967295, stack_order 1
            shop: patched 1: price,1
          livepatch stock-hotfix: enabled 1, transition 0, replace 2, stack_order 2
            shop: patched 1: stock,1
          module pricing-v1: 1 references
          module shop: 0 references
          call shop.price: 11
          call shop.stock: 21
          handler on shop.stock
          handler on vmlinux.cmdline_proc_show
          log enabling patch 'pricing_v1'
          log 'pricing_v1': patching complete
        ");
    }

    #[test]
    fn every_line_of_the_agent_is_known() {
        let rest = "tainted\t4096\ndisk\t1000\ntraced\tprice\nlog-lost\t\nlog\ta\tb\nkmsg\t6,1,1,-\ta\tb\n";
        let state = Observed::parse(&format!("{rest}{DUMP}"), &names()).unwrap();
        assert_eq!(state.traced, ["price"]);
        assert_eq!(state.log[0], "(lines lost)");
        assert_eq!(state.modules.len(), 2);
        // The agent's own text has no other kind of line in the functions that make a state.
        let agent = include_str!("../../images/guest/agent.c");
        let (of_state, _) = agent.split_once("static int do_state").unwrap();
        let starts = of_state.split("emit(\"").skip(1);
        let kinds = starts.filter_map(|start| start.split_once("\\t").map(|(kind, _)| kind));
        let kinds: std::collections::BTreeSet<_> = kinds.filter(|kind| !kind.is_empty()).collect();
        let known = [
            "%s",
            "call",
            "disk",
            "function",
            "kmsg",
            "livepatch",
            "log-lost",
            "object",
            "traced",
        ];
        assert_eq!(kinds, known.into());
    }

    #[test]
    fn a_line_that_is_not_known_is_an_error() {
        let unknown = |line: &str| {
            let dump = format!("tainted\t0\n{line}\ndisk\t1\n");
            Observed::parse(&dump, &names()).unwrap_err().to_string()
        };
        let said = unknown("forecast\train\u{1b}[2J");
        assert_eq!(
            said,
            "the agent's state has an unknown line: `forecast rain\\u{1b}[2J`"
        );
        for line in [
            "",
            "livepatch\tpricing_v1\t1",
            "object\tshop\t1",
            "function\tprice,1",
            "module\tshop",
            "call\tshop\tprice",
            "disk",
        ] {
            assert!(unknown(line).contains("unknown line"), "{line}");
        }
        let long = unknown(&"ü".repeat(10_000));
        assert!(long.ends_with("ü…`") && long.len() < 300, "{long}");
    }

    #[test]
    fn the_rest_of_a_reply_that_is_too_long_is_no_line() {
        let state = Observed::parse("traced\ta\nlivepa", &names()).unwrap();
        assert_eq!(state.traced, ["a"]);
    }

    #[test]
    fn enabled_livepatches_come_in_stack_order() {
        let state = Observed::parse(DUMP, &names()).unwrap();
        assert_eq!(state.enabled(), ["pricing-v1", "stock-hotfix"]);
    }

    #[test]
    fn the_text_has_nothing_that_nobody_sees() {
        let mut state = Observed::parse("traced\ta\u{1b}[2J\rb\n", &names()).unwrap();
        state.result = Some("x\r\nstep 2: forged".to_owned());
        assert_eq!(
            state.text(),
            "  result: x\n    step 2: forged\n  traced a\\u{1b}[2J\\u{d}b\n"
        );
    }
}
