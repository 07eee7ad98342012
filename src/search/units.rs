// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of a scenario can be left out, in the order in which it is tried. Pure.

use std::collections::BTreeSet;

use super::cut::{Part, Path};
use crate::scenario::{Action, Code, Scenario, Step, kernel_module_name};
use crate::step::{Effects, Place};
use crate::yaml::{Node, Value};

/// Parts that are left out together.
pub type Unit = Vec<Path>;

/// A kind of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// What comes after the failure, and what earlier steps expect, which nobody acts upon.
    Bystanders,
    /// What the failing step expects besides.
    Expectations,
    /// All steps that have to do with one module or one held function, and each step.
    Steps,
    /// Whole livepatches and targets.
    Modules,
    /// What livepatches consist of.
    Livepatches,
    /// The functions of targets.
    Functions,
    /// What steps say besides their action.
    Details,
}

impl Stage {
    /// The stages that come once.
    pub const FIRST: [Self; 2] = [Self::Bystanders, Self::Expectations];
    /// Those that come again as long as something goes.
    pub const AGAIN: [Self; 5] = [
        Self::Steps,
        Self::Modules,
        Self::Livepatches,
        Self::Functions,
        Self::Details,
    ];

    /// In a line of progress.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bystanders => "what comes after it, and what earlier steps expect",
            Self::Expectations => "what else the failing step expects",
            Self::Steps => "steps",
            Self::Modules => "livepatches and targets",
            Self::Livepatches => "what is in livepatches",
            Self::Functions => "functions of targets",
            Self::Details => "details of steps",
        }
    }

    /// What can be left out in this stage. `failing` is the number of the failing step from 1, which
    /// may be one before the first or after the last.
    pub fn units(self, root: &Node, scenario: &Scenario, failing: usize) -> Vec<Unit> {
        let mut units = match self {
            Self::Bystanders => bystanders(scenario, failing),
            Self::Expectations => expectations(root, failing),
            Self::Steps => steps(scenario, failing),
            Self::Modules => ["targets", "livepatches"]
                .into_iter()
                .flat_map(|kind| children(root, &[key(kind)]))
                .map(|path| vec![path])
                .collect(),
            Self::Livepatches => livepatches(root),
            Self::Functions => functions(root),
            Self::Details => details(root),
        };
        units.retain(|unit| !unit.is_empty());
        units
    }
}

fn key(name: &str) -> Part {
    Part::Key(name.to_owned())
}

/// What is known not to matter: the marks of a scenario that is one of many.
pub fn marks(root: &Node) -> Unit {
    let marks = ["expect_failure", "original", "snapshot"];
    let marks = marks.into_iter().filter(|mark| root.get(mark).is_some());
    marks.map(|mark| vec![key(mark)]).collect()
}

/// The way to a step.
fn step(index: usize) -> Path {
    vec![key("steps"), Part::Item(index)]
}

fn below(path: &[Part], part: Part) -> Path {
    let mut path = path.to_vec();
    path.push(part);
    path
}

/// The entries of a mapping, or the items of a list.
fn children(root: &Node, path: &[Part]) -> Vec<Path> {
    let node = path.iter().try_fold(root, |node, part| match part {
        Part::Item(index) => node.items().get(*index),
        Part::Key(key) => node.get(key),
    });
    let parts: Vec<Part> = match node.map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(name, _)| key(&name.name)).collect(),
        Some(Value::Seq(items)) => (0..items.len()).map(Part::Item).collect(),
        _ => Vec::new(),
    };
    parts.into_iter().map(|part| below(path, part)).collect()
}

/// A path and all that are below it, to a depth.
fn tree(root: &Node, path: &[Part], depth: usize) -> Vec<Path> {
    let mut paths = Vec::new();
    for path in children(root, path) {
        if depth > 1 {
            paths.extend(tree(root, &path, depth - 1));
        }
        paths.push(path);
    }
    paths
}

fn bystanders(scenario: &Scenario, failing: usize) -> Vec<Unit> {
    let count = scenario.steps.len();
    let after = if failing == 0 {
        count
    } else {
        failing.min(count)
    };
    let mut units = vec![(after..count).map(step).collect()];
    for (index, each) in scenario.steps.iter().enumerate().take(after) {
        if each.expect.is_some() && index + 1 != failing {
            units.push(vec![match each.action.effects().place {
                Place::Nowhere => step(index),
                Place::Guest | Place::Host => below(&step(index), key("expect")),
            }]);
        }
    }
    units
}

fn expectations(root: &Node, failing: usize) -> Vec<Unit> {
    let Some(index) = failing.checked_sub(1) else {
        return Vec::new();
    };
    let expect = below(&step(index), key("expect"));
    let mut paths = vec![];
    for path in children(root, &expect) {
        let divisible = [
            "calls",
            "tags",
            "stack_order",
            "patched",
            "log",
            "not_in_log",
        ];
        if divisible.iter().any(|name| path.last() == Some(&key(name))) {
            let parts = children(root, &path);
            paths.extend(parts.into_iter().map(|path| vec![path]));
        } else {
            paths.push(vec![path]);
        }
    }
    paths
}

/// All that has to do with one thing goes together: a function that nobody releases would keep the
/// transitions after it open. The failing step stays.
fn steps(scenario: &Scenario, failing: usize) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut add = |unit: Unit| {
        if !unit.is_empty() && !units.contains(&unit) {
            units.push(unit);
        }
    };
    let others = || {
        let steps = scenario.steps.iter().enumerate();
        steps.filter(move |(index, _)| index + 1 != failing)
    };
    let livepatches = scenario.livepatches.iter().map(|livepatch| &livepatch.name);
    let targets = scenario.targets.iter().map(|target| &target.name);
    for module in livepatches.chain(targets) {
        add(others()
            .flat_map(|(index, each)| of_module(index, each, module))
            .collect());
    }
    let things = scenario.steps.iter().filter_map(|each| thing(&each.action));
    for one in things.collect::<BTreeSet<_>>() {
        let of_it = others().filter(|(_, each)| thing(&each.action).as_ref() == Some(&one));
        add(of_it.map(|(index, _)| step(index)).collect());
    }
    // The last first: what a step has done, later ones undo.
    for (index, each) in others().collect::<Vec<_>>().into_iter().rev() {
        add(vec![step(index)]);
        for (_, item) in unloaded(index, &each.action) {
            add(vec![item]);
        }
    }
    units
}

/// The modules that a step unloads, each with the way to it, if there are several.
fn unloaded(index: usize, action: &Action) -> Vec<(&str, Path)> {
    let modules = action.effects().unloads;
    let Some(name) = action.key().filter(|_| modules.len() > 1) else {
        return Vec::new();
    };
    let list = below(&step(index), key(name));
    let modules = modules.iter().enumerate();
    modules
        .map(|(item, module)| (module.as_str(), below(&list, Part::Item(item))))
        .collect()
}

/// What of a step has to do with a module.
fn of_module(index: usize, each: &Step, module: &str) -> Vec<Path> {
    let several = unloaded(index, &each.action);
    if !several.is_empty() {
        let of_it = several.into_iter().filter(|(name, _)| *name == module);
        return of_it.map(|(_, path)| path).collect();
    }
    let is_in = |path: &str| {
        let name = kernel_module_name(module);
        path.split('/').any(|part| part == name)
    };
    let Effects {
        loads,
        unloads,
        switches,
        function,
        file,
        place: _,
        errno: _,
        transition: _,
        begins: _,
        ends: _,
        changes: _,
    } = each.action.effects();
    let whole = loads == Some(module)
        || switches == Some(module)
        || unloads.iter().any(|name| name == module)
        || function.is_some_and(|function| function.object == module)
        || file.is_some_and(is_in);
    if whole { vec![step(index)] } else { Vec::new() }
}

/// What begins with one step and ends with another.
fn thing(action: &Action) -> Option<String> {
    let Effects { begins, ends, .. } = action.effects();
    begins.or(ends).map(|lasting| lasting.to_string())
}

fn livepatches(root: &Node) -> Vec<Unit> {
    let mut units = Vec::new();
    for livepatch in children(root, &[key("livepatches")]) {
        for part in ["patches", "callbacks", "states", "include", "preamble"] {
            let path = below(&livepatch, key(part));
            let parts = match part {
                // Functions of objects, callbacks of objects.
                "patches" | "callbacks" => tree(root, &path, 2),
                _ => children(root, &path),
            };
            units.extend(parts.into_iter().map(|path| vec![path]));
            units.push(vec![path]);
        }
    }
    let exists = |unit: &Unit| {
        let (last, way) = unit[0].split_last().unwrap_or((&Part::Item(0), &[]));
        children(root, way)
            .iter()
            .any(|path| path.last() == Some(last))
    };
    units.retain(exists);
    units
}

fn functions(root: &Node) -> Vec<Unit> {
    let targets = children(root, &[key("targets")]).into_iter();
    let functions = targets.flat_map(|target| children(root, &below(&target, key("functions"))));
    functions.map(|path| vec![path]).collect()
}

fn details(root: &Node) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for path in children(root, &[key("steps")]) {
        let names = ["name", "timeout", "requires", "params"];
        let parts = children(root, &path).into_iter();
        let parts = parts.filter(|path| names.iter().any(|name| path.last() == Some(&key(name))));
        units.extend(parts.map(|path| vec![path]));
    }
    for list in ["allow_splats", "mask"] {
        let entries = children(root, &[key(list)]);
        units.extend(entries.into_iter().map(|path| vec![path]));
    }
    units
}

/// Whether a scenario's folder matters to it: something in it comes from a file beside it.
pub fn needs_folder(scenario: &Scenario) -> bool {
    let mut livepatches = scenario.livepatches.iter();
    livepatches.any(|it| it.generated().is_none() && it.code != Code::Kselftest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use crate::search::cut::without;
    use crate::yaml::{self, Source};

    const TEXT: &str = "\
version: 1
summary: x
requires: { replace: tags }
snapshot: shared
targets:
  shop: { functions: { price: 10, stock: 20 } }
livepatches:
  v1: { tag: 1, patches: { shop: { price: 11 } } }
  v2: { tag: 1, patches: { shop: { price: 12 } }, states: [{ id: 1, version: 1 }] }
steps:
  - load: shop
  - load: v1
    expect: { calls: { shop.price: 11 } }
  - hold: shop.price
  - name: here
    load: v2
    transition: held
    expect: { transition: v2, calls: { shop.price: 12, shop.stock: 20 } }
  - { write: /sys/kernel/livepatch/v1/enabled, data: \"0\" }
  - release: shop.price
  - unload: [v1, shop]
expect_failure:
  - { kernel: k, step: here, failure: f, reason: r }
";

    fn units(stage: Stage, failing: usize) -> Vec<String> {
        let source = Source::new("x.yaml", TEXT);
        let (root, scenario) = (
            yaml::parse(&source).unwrap(),
            scenario::parse("x", &source).unwrap(),
        );
        let shown = |path: &Path| {
            let part = |part: &Part| match part {
                Part::Item(index) => index.to_string(),
                Part::Key(key) => key.clone(),
            };
            path.iter().map(part).collect::<Vec<_>>().join("/")
        };
        let units = stage.units(&root, &scenario, failing);
        units
            .iter()
            .map(|unit| unit.iter().map(shown).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn what_follows_the_failure_goes_together() {
        assert_eq!(
            units(Stage::Bystanders, 4),
            ["steps/4 steps/5 steps/6", "steps/1/expect"]
        );
        assert_eq!(
            units(Stage::Bystanders, 8),
            ["steps/1/expect", "steps/3/expect"]
        );
    }

    #[test]
    fn calls_are_expectations_of_their_own() {
        let expect = "steps/3/expect";
        assert_eq!(
            units(Stage::Expectations, 4),
            ["transition", "calls/shop.price", "calls/shop.stock"]
                .map(|it| format!("{expect}/{it}"))
        );
    }

    #[test]
    fn the_steps_of_a_module_go_together_and_the_failing_one_stays() {
        assert_eq!(
            units(Stage::Steps, 4),
            [
                "steps/1 steps/4 steps/6/unload/0",
                "steps/0 steps/2 steps/5 steps/6/unload/1",
                "steps/2 steps/5",
                "steps/6",
                "steps/6/unload/0",
                "steps/6/unload/1",
                "steps/5",
                "steps/4",
                "steps/2",
                "steps/1",
                "steps/0",
            ]
        );
    }

    #[test]
    fn every_unit_is_there_and_can_be_cut_out() {
        let source = Source::new("x.yaml", TEXT);
        let (root, scenario) = (
            yaml::parse(&source).unwrap(),
            scenario::parse("x", &source).unwrap(),
        );
        for stage in Stage::FIRST.iter().chain(&Stage::AGAIN) {
            for unit in stage.units(&root, &scenario, 4) {
                assert!(without(TEXT, &unit).is_some(), "{stage:?} {unit:?}");
            }
        }
        let text = without(TEXT, &marks(&root)).unwrap();
        assert!(
            !text.contains("expect_failure") && !text.contains("snapshot"),
            "{text}"
        );
    }
}
