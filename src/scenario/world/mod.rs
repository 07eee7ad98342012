// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is so while a scenario is played, as far as its steps say: what is loaded, enabled, held and in
//! transition. Pure.
//!
//! One account serves two: before anything boots, it finds the steps that cannot work on any kernel
//! (`story.rs`); while a guest plays, it tells a step that its author got wrong from one that
//! the kernel got wrong. So what is not certain is unknown, and of that nothing is said.

mod mistakes;
mod patched;

use std::collections::{BTreeMap, BTreeSet};

use crate::klp::{Code, FunctionRef, Livepatch, ReplaceCapability, Target};
use crate::step::{Action, Lasting, Step, Transition};

/// Whether something is so, and since which step, from 1; 0 is before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    No(usize),
    Yes(usize),
    Unknown,
}

/// Which version of a function is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    /// The target's own.
    Original,
    /// That of a livepatch.
    Of(String),
    Unknown,
}

/// A function that a step holds.
#[derive(Debug, Clone)]
struct Held {
    since: usize,
    /// The version in which its task sits.
    version: Version,
}

/// The transition.
#[derive(Debug, Clone, Default)]
enum Open {
    /// There is none.
    #[default]
    No,
    /// There may be one.
    Unknown,
    /// There is one.
    Yes {
        livepatch: String,
        since: usize,
        /// Whether the livepatch is to be enabled.
        on: bool,
        /// What keeps it open; `None` if that is not known.
        holders: Option<Vec<FunctionRef>>,
    },
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// As it is written.
    AsWritten,
    /// It was left out.
    Skipped,
    /// Nobody knows, or not as it is written.
    Otherwise,
}

/// The account.
#[derive(Debug, Clone, Default)]
pub struct World {
    targets: Vec<Target>,
    livepatches: Vec<Livepatch>,
    /// What the kernel's `klp_patch.replace` is, if the scenario says so.
    replace: Option<ReplaceCapability>,
    /// How many steps there were.
    steps: usize,
    loaded: BTreeMap<String, Known>,
    enabled: BTreeMap<String, Known>,
    /// Those that are enabled for certain, the oldest first.
    stack: Vec<String>,
    /// Livepatches that a forced transition has removed, which keeps their modules.
    pinned: BTreeMap<String, usize>,
    /// Processes, by their name; those that are not here have not been spawned.
    running: BTreeMap<String, Known>,
    held: BTreeMap<FunctionRef, Held>,
    /// Whether something may be held beside these, or not.
    may_hold: bool,
    open: Open,
}

impl World {
    /// The world before the first step of a scenario.
    #[must_use]
    pub fn of(
        targets: &[Target],
        livepatches: &[Livepatch],
        replace: Option<ReplaceCapability>,
    ) -> Self {
        let livepatch_names = livepatches.iter().map(|livepatch| &livepatch.name);
        let names = targets.iter().map(|target| &target.name);
        let no = |name: &String| (name.clone(), Known::No(0));
        Self {
            targets: targets.to_vec(),
            livepatches: livepatches.to_vec(),
            replace,
            loaded: names.chain(livepatch_names.clone()).map(no).collect(),
            enabled: livepatch_names.map(no).collect(),
            ..Self::default()
        }
    }

    /// The functions that are held, each with its step.
    pub fn held(&self) -> impl Iterator<Item = (&FunctionRef, usize)> {
        self.held
            .iter()
            .map(|(function, held)| (function, held.since))
    }

    /// The held functions that a livepatch changes for certain, each with its step.
    pub fn held_and_changed(&self, livepatch: &str) -> Vec<(&FunctionRef, usize)> {
        let changes = |function: &FunctionRef| self.changes(livepatch, function) == Some(true);
        self.held()
            .filter(|(function, _)| changes(function))
            .collect()
    }

    /// Takes account of the next step.
    pub fn after(&mut self, step: &Step, went: Went) {
        self.steps += 1;
        match went {
            Went::Skipped => {}
            Went::Otherwise => self.may_have(step),
            // What must fail, and has failed, does nothing.
            Went::AsWritten if step.action.errno().is_some() => {}
            Went::AsWritten => self.has(step),
        }
    }

    /// From here on, nothing is said of a module.
    pub fn forget(&mut self, module: &str) {
        self.set_loaded(module, Known::Unknown);
    }

    fn set_loaded(&mut self, module: &str, known: Known) {
        self.loaded.insert(module.to_owned(), known);
    }

    /// The step has worked.
    fn has(&mut self, step: &Step) {
        let now = self.steps;
        let effects = step.action.effects();
        if let Some(module) = effects.loads {
            self.set_loaded(module, Known::Yes(now));
        }
        for module in effects.unloads {
            self.set_loaded(module, Known::No(now));
            if self.enabled.contains_key(module) {
                self.disabled(module);
                self.pinned.remove(module);
            }
        }
        match effects.begins {
            Some(Lasting::Held(function)) => {
                let version = self.version(function);
                let held = Held {
                    since: now,
                    version,
                };
                self.held.insert(function.clone(), held);
            }
            Some(Lasting::Spawned(name)) => {
                self.running.insert(name.to_owned(), Known::Yes(now));
            }
            Some(Lasting::Traced) | None => self.ended(effects.ends),
        }
        if let Some(file) = effects.file
            && matches!(step.action, Action::Write(_))
        {
            self.written(file);
        }
        let livepatch = effects
            .loads
            .filter(|name| self.enabled.contains_key(*name));
        match (livepatch, effects.switches, effects.transition) {
            (Some(livepatch), _, Some(transition)) => self.begins(livepatch, true, transition),
            (_, Some(livepatch), Some(transition)) => {
                self.switched(&step.action, livepatch, transition);
            }
            (None, None, Some(Transition::Completes)) => self.completes(),
            _ => {}
        }
    }

    fn ended(&mut self, ends: Option<Lasting<'_>>) {
        let function = match ends {
            Some(Lasting::Held(function)) => function,
            Some(Lasting::Spawned(name)) => {
                self.running.insert(name.to_owned(), Known::No(self.steps));
                return;
            }
            Some(Lasting::Traced) | None => return,
        };
        self.held.remove(function);
        if let Open::Yes {
            holders: Some(holders),
            ..
        } = &mut self.open
        {
            holders.retain(|holder| holder != function);
        }
    }

    /// A file was written, which may have been an attribute of a livepatch.
    fn written(&mut self, file: &str) {
        if file.starts_with("/sys/kernel/livepatch/") {
            self.unsure_of_livepatches();
        }
        self.may_hold |= file.starts_with("/sys/kernel/debug/lab-");
    }

    /// A livepatch was disabled, reversed or forced.
    fn switched(&mut self, action: &Action, livepatch: &str, transition: &Transition) {
        let on = match (action, &self.open) {
            (Action::Disable(_), _) => Some(false),
            (
                Action::Reverse(_),
                Open::Yes {
                    livepatch: of, on, ..
                },
            ) if of == livepatch => Some(!on),
            (Action::Reverse(_), Open::No) => Some(false),
            (
                Action::Force(_),
                Open::Yes {
                    livepatch: of, on, ..
                },
            ) if of == livepatch => Some(*on),
            _ => None,
        };
        let Some(on) = on else {
            return self.unsure_of_livepatches();
        };
        let before = self.stack.clone();
        self.begins(livepatch, on, transition);
        if matches!(action, Action::Force(_)) {
            let gone = before.iter().filter(|name| !self.stack.contains(name));
            let gone: Vec<_> = gone.cloned().collect();
            // One of another tag is not replaced, or ought not to be.
            let is_gone = |name: &String| matches!(self.enabled.get(name), Some(Known::No(_)));
            let gone: Vec<_> = gone.into_iter().filter(is_gone).collect();
            for name in gone {
                self.pinned.insert(name, self.steps);
            }
        }
    }

    /// A livepatch gets into transition, to its end or not.
    fn begins(&mut self, livepatch: &str, on: bool, transition: &Transition) {
        let holders = match (&self.open, transition) {
            (Open::No, Transition::Held) if !self.may_hold => self.holders(livepatch, on),
            _ => None,
        };
        // In sysfs it is enabled as soon as its transition has begun.
        if on && !self.stack.iter().any(|name| name == livepatch) {
            // What others have built may do anything when it is loaded.
            let known = match self.livepatch(livepatch).map(|livepatch| &livepatch.code) {
                Some(Code::Generated(_) | Code::KlpBuild { .. }) => Known::Yes(self.steps),
                _ => Known::Unknown,
            };
            self.enabled.insert(livepatch.to_owned(), known);
        }
        self.open = Open::Yes {
            livepatch: livepatch.to_owned(),
            since: self.steps,
            on,
            holders,
        };
        if *transition == Transition::Completes {
            self.completes();
        }
    }

    /// Whatever is in transition has come to its end.
    fn completes(&mut self) {
        match std::mem::take(&mut self.open) {
            Open::No => {}
            Open::Unknown => {
                self.unsure_of_livepatches();
                self.open = Open::No;
            }
            Open::Yes {
                livepatch,
                on: false,
                ..
            } => self.disabled(&livepatch),
            Open::Yes { livepatch, .. } => {
                let is_enabled = matches!(self.enabled.get(&livepatch), Some(Known::Yes(_)));
                if is_enabled && !self.stack.contains(&livepatch) {
                    self.stack.push(livepatch.clone());
                }
                self.replaced_by(&livepatch);
            }
        }
    }

    fn disabled(&mut self, livepatch: &str) {
        self.stack.retain(|name| name != livepatch);
        self.enabled
            .insert(livepatch.to_owned(), Known::No(self.steps));
    }

    fn replaced_by(&mut self, newest: &str) {
        let others: Vec<_> = self.enabled.keys().cloned().collect();
        for other in others.iter().filter(|other| *other != newest) {
            match (self.enabled[other], self.replaces(newest, other)) {
                (Known::No(_), _) | (_, Some(false)) => {}
                (_, Some(true)) => self.disabled(other),
                (_, None) => {
                    self.stack.retain(|name| name != other);
                    self.enabled.insert(other.clone(), Known::Unknown);
                }
            }
        }
    }

    /// Of all that is enabled, nobody knows whether it stays so. What has been disabled is no more in
    /// sysfs: only when it is loaded again can it be enabled.
    fn unsure_of_livepatches(&mut self) {
        self.stack.clear();
        for known in self.enabled.values_mut() {
            if !matches!(known, Known::No(_)) {
                *known = Known::Unknown;
            }
        }
        self.open = Open::Unknown;
    }

    /// The step may have worked, or a part of it.
    fn may_have(&mut self, step: &Step) {
        let effects = step.action.effects();
        let modules: BTreeSet<&str> = effects
            .loads
            .into_iter()
            .chain(effects.unloads.iter().map(String::as_str))
            .collect();
        for module in &modules {
            self.forget(module);
            if let Some(known) = self.enabled.get_mut(*module) {
                *known = Known::Unknown;
            }
        }
        // What was asked of a module that is not there is said once.
        if let Some(function) = effects.function
            && matches!(self.loaded.get(&function.object), Some(Known::No(_)))
        {
            self.forget(&function.object);
        }
        if let Some(livepatch) = effects.switches {
            self.forget(livepatch);
            self.enabled.insert(livepatch.to_owned(), Known::Unknown);
        }
        let livepatches = modules.iter().any(|name| self.enabled.contains_key(*name));
        if livepatches || effects.switches.is_some() {
            self.unsure_of_livepatches();
        }
        if matches!(effects.begins, Some(Lasting::Held(_))) {
            self.may_hold = true;
        }
        if let Some(Lasting::Spawned(name)) = effects.begins.or(effects.ends) {
            self.running.insert(name.to_owned(), Known::Unknown);
        }
        if let Some(Lasting::Held(_)) = effects.ends {
            self.may_hold = true;
            self.ended(effects.ends);
            self.unsure_of_livepatches();
        }
        if let Some(file) = effects.file
            && matches!(step.action, Action::Write(_))
        {
            self.written(file);
        }
    }
}

#[cfg(test)]
mod tests;
