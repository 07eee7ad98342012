// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an author can get wrong, step by step, and how that shows when it is played.

use super::{Known, Open, World};
use crate::klp::FunctionRef;
use crate::step::{Action, Effects, Expect, Fails, Lasting, Mistake, Step, Subject, Transition};

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

impl World {
    /// What is wrong with a step, whose errno is left out of account.
    #[must_use]
    pub fn before(&self, step: &Step) -> Vec<Mistake> {
        let effects = step.action.effects();
        let mut mistakes = Vec::new();
        mistakes.extend(self.loads(&effects));
        for (index, module) in effects.unloads.iter().enumerate() {
            let mistake = self.unloads(module);
            mistakes.extend(mistake.map(|mistake| mistake.of(Subject::Item(index))));
        }
        let of_target = |function: &FunctionRef| self.has_no_target(&function.object, "");
        mistakes.extend(effects.function.and_then(of_target));
        mistakes.extend(self.switches(&step.action, &effects));
        mistakes.extend(self.kills(&effects));
        if mistakes.is_empty() {
            mistakes.extend(self.transition(&step.action, &effects));
        }
        mistakes
    }

    /// What is wrong with the calls that a step expects to be answered, once it has happened.
    #[must_use]
    pub fn expected(&self, expect: &Expect) -> Vec<Mistake> {
        let functions = expect.calls.iter().map(|(function, _)| function);
        let missing = |function: &FunctionRef| {
            let mistake = self.has_no_target(&function.object, ", or leave out the call")?;
            Some(Mistake {
                fails: Fails::Seen,
                ..mistake.of(Subject::Call(function.clone()))
            })
        };
        functions.filter_map(missing).collect()
    }

    fn is_missing(&self, module: &str) -> Option<Mistake> {
        self.has_no_target(module, ", or `errno: ENOENT` if it must fail")
    }

    /// `or` is what else would be right than to load the module.
    fn has_no_target(&self, module: &str, or: &str) -> Option<Mistake> {
        let Some(Known::No(since)) = self.loaded.get(module) else {
            return None;
        };
        let help = format!("add a step `load: {module}` before it{or}");
        let what = format!("{module} is not loaded");
        Some(Mistake::new(what, Fails::With(ENOENT), help).since(*since, "unloaded"))
    }

    fn loads(&self, effects: &Effects<'_>) -> Option<Mistake> {
        let module = effects.loads?;
        if let Some(Known::Yes(since)) = self.loaded.get(module) {
            let help = format!(
                "add a step `unload: {module}` before it, or `errno: EEXIST` if it must fail"
            );
            let what = format!("{module} is loaded already");
            return Some(Mistake::new(what, Fails::With(EEXIST), help).since(*since, "loaded"));
        }
        let mut targets = self.targets.iter();
        if let Some(errno) = targets.find(|it| it.name == *module).and_then(|it| it.init) {
            let what = format!("the init of {module} fails with {errno}");
            let help = format!("add `errno: {errno}`: it must fail");
            return Some(Mistake::new(what, Fails::With(errno.number()), help));
        }
        if let Some((livepatch, object, errno)) = self.refusing(module) {
            let what = format!("pre_patch of {livepatch} for {object} fails with {errno}");
            let help = format!("add `errno: {errno}`: it must fail");
            return Some(Mistake::new(what, Fails::With(errno.number()), help));
        }
        if let Some((livepatch, target, symbol)) = self.lacking(module) {
            let what = format!("{livepatch} patches {symbol}, which {target} lacks");
            let help = "add `errno: EINVAL`: the kernel must refuse it";
            return Some(Mistake::new(what, Fails::With(EINVAL), help));
        }
        match self.enabled.contains_key(module) {
            true => self.is_busy(None),
            false => None,
        }
    }

    /// Only one livepatch can be in transition. Kernels might learn otherwise.
    fn is_busy(&self, but: Option<&str>) -> Option<Mistake> {
        let Open::Yes {
            livepatch, since, ..
        } = &self.open
        else {
            return None;
        };
        (but != Some(livepatch)).then(|| {
            let what = format!("{livepatch} is in transition");
            let help = "let that end before it (`release:`, `reverse:` or `force:`), or add \
                        `errno: EBUSY` if it must fail";
            let mistake = Mistake::new(what, Fails::With(EBUSY), help);
            mistake.since(*since, "begun").uncertain()
        })
    }

    fn unloads(&self, module: &str) -> Option<Mistake> {
        let missing = self.is_missing(module);
        if missing.is_some() {
            return missing;
        }
        let in_use = |what, help| Mistake::new(what, Fails::With(EAGAIN), help);
        let of_target = |(function, _): &(&FunctionRef, usize)| function.object == *module;
        if let Some((function, since)) = self.held().find(of_target) {
            let what = format!("{function} is held");
            let help = format!(
                "add a step `release: {function}` before it, or `errno: EAGAIN` if it must fail"
            );
            return Some(in_use(what, help).since(since, "held"));
        }
        if let Some(since) = self.pinned.get(module) {
            let what = format!("a forced transition has removed {module}, which keeps its module");
            let help = "leave it out, or add `errno: EAGAIN` if it must fail".to_owned();
            return Some(in_use(what, help).since(*since, "forced").uncertain());
        }
        match (self.enabled.get(module), &self.open) {
            (Some(Known::Yes(since)), Open::No) => {
                let what = format!("{module} is enabled");
                let help = format!(
                    "add a step `disable: {module}` before it, or `errno: EAGAIN` if it must fail"
                );
                Some(in_use(what, help).since(*since, "enabled"))
            }
            _ => None,
        }
    }

    fn switches(&self, action: &Action, effects: &Effects<'_>) -> Option<Mistake> {
        let livepatch = effects.switches?;
        if let Some(missing) = self.is_missing(livepatch) {
            return Some(missing);
        }
        if let Some(Known::No(since)) = self.enabled.get(livepatch)
            && matches!(self.loaded.get(livepatch), Some(Known::Yes(_)))
        {
            let what = format!("{livepatch} is not enabled");
            let help = "leave it out, or add `errno: ENOENT` if it must fail";
            let mistake = Mistake::new(what, Fails::With(ENOENT), help);
            return Some(mistake.since(*since, "disabled or replaced"));
        }
        if !matches!(action, Action::Force(_)) {
            return self.is_busy(Some(livepatch));
        }
        let other = match &self.open {
            Open::No => None,
            Open::Yes { livepatch: of, .. } if of != livepatch => Some(of),
            Open::Yes { .. } | Open::Unknown => return None,
        };
        let what = match other {
            None => "no transition is open".to_owned(),
            Some(other) => format!("{other} is in transition, not {livepatch}"),
        };
        let help = "a transition is open after a step with `transition: held`; add `errno: EINVAL` \
                    if it must fail";
        Some(Mistake::new(what, Fails::With(EINVAL), help))
    }

    fn kills(&self, effects: &Effects<'_>) -> Option<Mistake> {
        let Some(Lasting::Spawned(name)) = effects.ends else {
            return None;
        };
        let since = match self.running.get(name) {
            None => 0,
            Some(Known::No(since)) => *since,
            Some(Known::Yes(_) | Known::Unknown) => return None,
        };
        let what = format!("{name} are not running");
        let help = format!("leave it out, or add a step `spawn:` of {name} before it");
        Some(Mistake::new(what, Fails::With(ESRCH), help).since(since, "killed"))
    }

    /// What keeps a transition open that must end, or lets one end that must stay open.
    fn transition(&self, action: &Action, effects: &Effects<'_>) -> Option<Mistake> {
        let transition = effects.transition?;
        if self.may_hold || matches!(action, Action::Force(_)) {
            return None;
        }
        let released = match effects.ends {
            Some(Lasting::Held(function)) => Some(function),
            _ => None,
        };
        let livepatch = effects.loads.or(effects.switches);
        let (livepatch, holders) = match (released, livepatch, &self.open) {
            (
                Some(released),
                _,
                Open::Yes {
                    livepatch,
                    holders: Some(holders),
                    ..
                },
            ) => {
                let left = holders.iter().filter(|holder| *holder != released);
                (livepatch.as_str(), left.cloned().collect())
            }
            (Some(_), _, Open::No) if *transition == Transition::Held => {
                let help = "leave out `transition: held`";
                let what = "no transition is open".to_owned();
                return Some(Mistake::new(what, Fails::Completes, help));
            }
            (None, Some(livepatch), Open::No) if self.enabled.contains_key(livepatch) => {
                // What is enabled and gets reversed gets disabled.
                (livepatch, self.holders(livepatch, effects.loads.is_some())?)
            }
            _ => return None,
        };
        match (transition, holders.first()) {
            (Transition::Completes, Some(function)) => {
                let since = self.held.get(function).map_or(0, |held| held.since);
                let what = format!("step {since} holds {function}, which {livepatch} changes");
                let help = match released {
                    Some(_) => format!("`transition: held`, or `release: {function}` before it"),
                    None => format!("`transition: held`, or release {function} first"),
                };
                Some(Mistake::new(what, Fails::Stalls, help).since(since, "held"))
            }
            (Transition::Held, None) if self.changes_targets_only(livepatch) => {
                let what = format!("nothing that is held keeps {livepatch} in transition");
                let help = "leave out `transition: held`, or hold a function that it changes";
                Some(Mistake::new(what, Fails::Completes, help))
            }
            _ => None,
        }
    }
}
