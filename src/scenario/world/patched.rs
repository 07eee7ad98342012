// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which functions a livepatch changes, which livepatches it replaces, and so what keeps its transition
//! open. `None` is always: that is not known.

use super::{Known, Open, Version, World};
use crate::klp::{
    Callback, Code, Errno, FunctionRef, Livepatch, Replace, ReplaceCapability, Symbol, Target,
    VMLINUX,
};

/// Whether a target has a function at all; which one is meant is another question.
fn has(target: &Target, symbol: &Symbol) -> bool {
    let mut functions = target.functions.iter();
    functions.any(|function| function.symbol.name == symbol.name)
}

impl World {
    pub(super) fn livepatch(&self, name: &str) -> Option<&Livepatch> {
        self.livepatches.iter().find(|known| known.name == name)
    }

    /// Whether a livepatch has a version of its own of a target's function.
    pub(super) fn patches(&self, livepatch: &str, function: &FunctionRef) -> Option<bool> {
        let generated = match &self.livepatch(livepatch)?.code {
            Code::Generated(generated) => generated,
            // It is made from the kernel's source, which has no targets.
            Code::KlpBuild { .. } => return Some(false),
            Code::Kselftest | Code::Prebuilt { .. } => return None,
        };
        let target = self
            .targets
            .iter()
            .find(|target| target.name == function.object)?;
        let wanted = &function.symbol;
        let namesakes = target.functions.iter();
        let namesakes = namesakes.filter(|known| known.symbol.name == wanted.name);
        let is_only = namesakes.count() == 1;
        let objects = generated.objects.iter();
        let mut symbols = objects
            .filter(|object| object.object == function.object)
            .flat_map(|object| &object.functions)
            .map(|function| &function.symbol);
        let same = |symbol: &&Symbol| {
            symbol.name == wanted.name && (is_only || symbol.sympos == wanted.sympos)
        };
        Some(symbols.any(|symbol| same(&symbol)))
    }

    /// A livepatch, an object and an errno: if a module is loaded, so that these two meet, the callback
    /// before the object is patched fails (`kernel/livepatch/core.c: klp_module_coming()`).
    pub(super) fn refusing(&self, module: &str) -> Option<(&str, &str, Errno)> {
        for livepatch in &self.livepatches {
            let callbacks = livepatch.generated().map_or(&[][..], |it| &it.callbacks);
            for callbacks in callbacks {
                let object = &callbacks.object;
                if let Some(Callback::Fail(errno)) = callbacks.pre_patch
                    && self.meet(livepatch, object, module)
                {
                    return Some((&livepatch.name, object, errno));
                }
            }
        }
        None
    }

    /// A livepatch, a target and a function of which the target has none, if these two meet when a
    /// module is loaded (`kernel/livepatch/core.c: klp_find_object_symbol()`).
    pub(super) fn lacking(&self, module: &str) -> Option<(&str, &str, &Symbol)> {
        for livepatch in &self.livepatches {
            let objects = livepatch.generated().map_or(&[][..], |it| &it.objects);
            for object in objects {
                let mut targets = self.targets.iter();
                let Some(target) = targets.find(|it| it.name == object.object) else {
                    continue;
                };
                if !target.is_generated() || !self.meet(livepatch, &target.name, module) {
                    continue;
                }
                let mut symbols = object.functions.iter().map(|function| &function.symbol);
                if let Some(symbol) = symbols.find(|symbol| !has(target, symbol)) {
                    return Some((&livepatch.name, &target.name, symbol));
                }
            }
        }
        None
    }

    /// Whether a livepatch and an object of it are there together for certain, once a module that is
    /// either of them has been loaded.
    fn meet(&self, livepatch: &Livepatch, object: &str, module: &str) -> bool {
        let is = |known: Option<&Known>| matches!(known, Some(Known::Yes(_)));
        let is_there = object == VMLINUX || is(self.loaded.get(object));
        livepatch.name == module && is_there
            || object == module && is(self.enabled.get(&livepatch.name))
    }

    /// Whether a livepatch, once its transition has completed, has replaced another one. Which tags replace
    /// which others is what kernels differ in.
    pub(super) fn replaces(&self, newest: &str, other: &str) -> Option<bool> {
        let (newest, other) = (self.livepatch(newest)?, self.livepatch(other)?);
        let replace = |livepatch: &Livepatch| match livepatch.code {
            Code::Kselftest | Code::Prebuilt { .. } => None,
            Code::Generated(_) | Code::KlpBuild { .. } => Some(livepatch.replace),
        };
        match (replace(newest)?, replace(other)) {
            (Replace::Flag(false) | Replace::Tag(0), _) => Some(false),
            (Replace::Flag(true), _) if self.replace == Some(ReplaceCapability::Bool) => Some(true),
            // To a system of bools, tags make no difference.
            (Replace::Flag(true), Some(Replace::Flag(_))) => Some(true),
            (Replace::Tag(tag), Some(Replace::Tag(other))) if tag == other => Some(true),
            _ => None,
        }
    }

    /// The version of a function that is called now.
    pub(super) fn version(&self, function: &FunctionRef) -> Version {
        let unsure = self.enabled.iter().any(|(name, known)| {
            *known == Known::Unknown && self.patches(name, function) != Some(false)
        });
        if unsure || !matches!(self.open, Open::No) {
            return Version::Unknown;
        }
        for name in self.stack.iter().rev() {
            match self.patches(name, function) {
                Some(true) => return Version::Of(name.clone()),
                Some(false) => {}
                None => return Version::Unknown,
            }
        }
        Version::Original
    }

    /// The held functions that keep a transition of a livepatch open, which would begin now
    /// (`kernel/livepatch/transition.c: klp_check_stack_func()`).
    pub(super) fn holders(&self, livepatch: &str, on: bool) -> Option<Vec<FunctionRef>> {
        let mut holders = Vec::new();
        for (function, held) in &self.held {
            // A task may be in no version but the one that goes.
            let goes = if on {
                match self.changes(livepatch, function)? {
                    true => self.version(function),
                    false => continue,
                }
            } else {
                match self.patches(livepatch, function)? {
                    true => Version::Of(livepatch.to_owned()),
                    false => continue,
                }
            };
            if goes == Version::Unknown || held.version == Version::Unknown {
                return None;
            }
            if goes == held.version {
                holders.push(function.clone());
            }
        }
        Some(holders)
    }

    /// Whether the transition of a livepatch is about functions of the lab's targets alone. Any other one may
    /// be on the stack of a task that is held.
    pub(super) fn changes_targets_only(&self, livepatch: &str) -> bool {
        let mut involved = self.livepatches.iter().filter(|it| {
            it.name == livepatch || !matches!(self.enabled.get(&it.name), Some(Known::No(_)))
        });
        let is_target = |object: &str| {
            let mut targets = self.targets.iter();
            targets.any(|target| target.name == object && target.is_generated())
        };
        involved.all(|it| {
            let generated = it.generated();
            generated.is_some_and(|it| it.objects.iter().all(|it| is_target(&it.object)))
        })
    }

    /// Whether a livepatch that is enabled now changes a function: it has a version of its own, or takes
    /// away that of one that it replaces.
    pub(super) fn changes(&self, livepatch: &str, function: &FunctionRef) -> Option<bool> {
        if self.patches(livepatch, function)? {
            return Some(true);
        }
        for (other, known) in &self.enabled {
            if other == livepatch || matches!(known, Known::No(_)) {
                continue;
            }
            if self.patches(other, function) != Some(false)
                && self.replaces(livepatch, other) != Some(false)
            {
                let certain = *known != Known::Unknown
                    && self.patches(other, function).is_some()
                    && self.replaces(livepatch, other).is_some();
                return certain.then_some(true);
            }
        }
        Some(false)
    }
}
