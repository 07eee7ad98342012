// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a transition has come, by the kernel's log. Pure.
//!
//! sysfs does not say it: `enabled` is still 0 while the `pre_patch` callbacks of a load run, and still 1 while
//! the `pre_unpatch` callbacks do (`kernel/livepatch/core.c: __klp_enable_patch()`, `__klp_disable_patch()`).
//! The debug messages of `kernel/livepatch/transition.c` do.

use std::fmt;

/// How far a transition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the first task can switch.
    Begins,
    /// Tasks switch.
    Switches,
    /// All tasks have switched.
    Ends,
}

/// A transition that the kernel has begun, and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The livepatch's module.
    pub module: String,
    /// Whether it leads to the patched state.
    pub patches: bool,
    /// How far it has come.
    pub phase: Phase,
    /// The callback that was called last in this phase, and the object that it is of:
    /// `pre_patch`, `shop`.
    pub callback: Option<(String, String)>,
}

/// The callbacks of a livepatch: `include/linux/livepatch.h: struct klp_callbacks`.
const CALLBACKS: [&str; 4] = ["pre_patch", "post_patch", "pre_unpatch", "post_unpatch"];

impl Transition {
    /// The transition that is open at the end of a log, if its debug messages are on.
    pub fn open(log: &str) -> Option<Self> {
        let mut open: Option<Self> = None;
        for line in log.lines() {
            let line = line.split_once("] ").map_or(line, |(_, message)| message);
            match said(line) {
                Some((module, words)) => open = after(open, module, words),
                None => {
                    if let Some(open) = &mut open
                        && let Some(callback) = callback(line, &open.module)
                    {
                        open.callback = Some(callback);
                    }
                }
            }
        }
        open
    }

    /// The callback that has not returned.
    pub fn stuck_in(&self) -> Option<&(String, String)> {
        self.callback
            .as_ref()
            .filter(|_| self.phase != Phase::Switches)
    }
}

/// `being enabled: its pre_patch callback of shop has not returned`, or while tasks switch `being enabled`.
impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(doing(self.patches))?;
        match (self.stuck_in(), self.phase) {
            (Some((kind, object)), _) => {
                write!(f, ": its {kind} callback of {object} has not returned")
            }
            (None, Phase::Begins) => f.write_str(": no task has been asked to switch yet"),
            (None, Phase::Switches) => Ok(()),
            (None, Phase::Ends) => f.write_str(": all tasks have switched, and it does not end"),
        }
    }
}

/// What a transition does to its livepatch.
pub fn doing(patches: bool) -> &'static str {
    match patches {
        true => "being enabled",
        false => "being disabled",
    }
}

/// `livepatch: 'fix': starting patching transition`: the module, and what is said of it.
fn said(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix("livepatch: '")?.split_once("': ")
}

/// What a message of the livepatch core makes of what is open.
fn after(open: Option<Transition>, module: &str, words: &str) -> Option<Transition> {
    let patches = match words.split(' ').nth(1) {
        Some("patching") => true,
        Some("unpatching") => false,
        _ if matches!(words, "patching complete" | "unpatching complete") => return None,
        _ => return open,
    };
    let phase = match words.split(' ').next() {
        Some("initializing") => Phase::Begins,
        Some("starting") => Phase::Switches,
        Some("completing") => Phase::Ends,
        _ => return open,
    };
    Some(Transition {
        module: module.to_owned(),
        patches,
        phase,
        callback: None,
    })
}

/// `fix: pre_patch: shop`, as modules of the lab say it, and `…: pre_patch_callback: vmlinux`, as those of
/// the kernel's selftests do.
fn callback(message: &str, module: &str) -> Option<(String, String)> {
    let rest = message.strip_prefix(module)?.strip_prefix(": ")?;
    let (kind, object) = rest.split_once(": ")?;
    let kind = kind.strip_suffix("_callback").unwrap_or(kind);
    let object = object.split(' ').next()?;
    CALLBACKS
        .contains(&kind)
        .then(|| (kind.to_owned(), object.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(lines: &[&str]) -> Option<String> {
        let line = |line: &&str| format!("[    1.423795] {line}\n");
        let log: String = lines.iter().map(line).collect();
        Transition::open(&log).map(|it| format!("{} is {it}", it.module))
    }

    const LOAD: [&str; 7] = [
        "livepatch: enabling patch 'fix'",
        "livepatch: 'fix': initializing patching transition",
        "fix: pre_patch: shop",
        "livepatch: 'fix': starting patching transition",
        "livepatch: 'fix': completing patching transition",
        "fix: post_patch: shop",
        "livepatch: 'fix': patching complete",
    ];

    #[test]
    fn a_load_is_said_to_be_where_it_is() {
        let upto = |count: usize| open(&LOAD[..count]).unwrap_or_default();
        assert_eq!(upto(1), "");
        assert_eq!(
            upto(2),
            "fix is being enabled: no task has been asked to switch yet"
        );
        assert_eq!(
            upto(3),
            "fix is being enabled: its pre_patch callback of shop has not returned"
        );
        assert_eq!(upto(4), "fix is being enabled");
        assert_eq!(
            upto(5),
            "fix is being enabled: all tasks have switched, and it does not end"
        );
        assert_eq!(
            upto(6),
            "fix is being enabled: its post_patch callback of shop has not returned"
        );
        assert_eq!(upto(7), "");
    }

    #[test]
    fn so_are_a_disable_and_a_reversal() {
        let disable = [
            "livepatch: 'fix': patching complete",
            "livepatch: 'fix': initializing unpatching transition",
            "fix: pre_unpatch_callback: shop -> [MODULE_STATE_LIVE] Normal state",
        ];
        assert_eq!(
            open(&disable).unwrap(),
            "fix is being disabled: its pre_unpatch callback of shop has not returned"
        );
        let reversed = [
            "livepatch: 'fix': starting patching transition",
            "livepatch: klp_try_switch_task: x:7 is running",
            "livepatch: 'fix': reversing transition from patching to unpatching",
            "livepatch: 'fix': starting unpatching transition",
            "other: pre_patch: shop",
            "livepatch: signaling remaining tasks",
        ];
        assert_eq!(open(&reversed).unwrap(), "fix is being disabled");
    }
}
