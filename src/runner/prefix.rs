// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which runs begin with the same steps, and where it pays to play those only once.
//!
//! What pays is a prefix that waits: a transition takes about a second, nearly all of it spent
//! waiting for the kernel's retry, while other steps are a round trip each.

use std::time::Duration;

use crate::scenario::{Scenario, Step, Target, Transition};
use crate::step::Lasting;

/// What a step takes that waits for a transition, and what any other one takes.
const TRANSITION: Duration = Duration::from_secs(1);
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// What it takes to keep a guest, the copy of its memory included, and to start a fork of it.
const KEEP: Duration = Duration::from_millis(200);
const FORK: Duration = Duration::from_millis(300);
/// How many times as much as it costs a group must save.
const MARGIN: u32 = 2;

/// Runs that begin with the same steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Their places among the runs; the first one plays the steps.
    pub(super) runs: Vec<usize>,
    /// How many steps.
    pub(super) steps: usize,
}

/// Groups runs of one kernel on one architecture by what they play, so that as much time is saved
/// as possible, the best group first. Each run is in one group at most.
pub(super) fn groups(scenarios: &[&Scenario]) -> Vec<Group> {
    let mut free: Vec<usize> = (0..scenarios.len()).collect();
    let mut groups = Vec::new();
    while let Some(group) = best(scenarios, &free) {
        free.retain(|run| !group.runs.contains(run));
        groups.push(group);
    }
    groups
}

/// The group of `free` runs that saves the most.
fn best(scenarios: &[&Scenario], free: &[usize]) -> Option<Group> {
    let mut best: Option<(Duration, Group)> = None;
    for (at, &first) in free.iter().enumerate() {
        let common = |&run: &usize| (run, common(scenarios[first], scenarios[run]));
        let common: Vec<_> = free[at..].iter().map(common).collect();
        let mut cost = Duration::ZERO;
        for steps in 1..=scenarios[first].steps.len() {
            cost += cost_of(&scenarios[first].steps[steps - 1]);
            let shared = common.iter().filter(|(_, common)| *common >= steps);
            let runs: Vec<_> = shared.map(|&(run, _)| run).collect();
            let Some(saved) = saved(runs.len(), cost) else {
                continue;
            };
            if best.as_ref().is_none_or(|(most, _)| saved > *most) {
                best = Some((saved, Group { runs, steps }));
            }
        }
    }
    best.map(|(_, group)| group)
}

/// What `runs` runs save that share a prefix of this `cost`; `None` if that does not pay clearly.
fn saved(runs: usize, cost: Duration) -> Option<Duration> {
    let runs = u32::try_from(runs).ok()?;
    let saved = cost * runs.checked_sub(1)?;
    let overhead = KEEP + FORK * runs;
    (saved > overhead * MARGIN).then(|| saved - overhead)
}

/// What a step takes.
fn cost_of(step: &Step) -> Duration {
    let effects = step.action.effects();
    let transition = effects.transition.filter(|it| **it != Transition::None);
    match transition.is_some() && effects.errno.is_none() {
        true => TRANSITION,
        false => ROUND_TRIP,
    }
}

/// How many steps two scenarios begin with that do the same to a guest. What must be so afterwards
/// is each one's own matter.
fn common(a: &Scenario, b: &Scenario) -> usize {
    let excluded = |scenario: &Scenario| {
        // A splat in the prefix would be one run's own and another one's fault.
        !scenario.allow_splats.is_empty() || scenario.uses_klp_build()
    };
    if excluded(a) || excluded(b) {
        return 0;
    }
    let both = a.steps.iter().zip(&b.steps);
    both.take_while(|(x, y)| same(a, x, b, y)).count()
}

fn same(a: &Scenario, x: &Step, b: &Scenario, y: &Step) -> bool {
    (&x.action, &x.requires, x.timeout) == (&y.action, &y.requires, y.timeout)
        // Spawned processes are the agent's, which ends before the guest is kept.
        && !matches!(x.action.effects().begins, Some(Lasting::Spawned(_)))
        && x.action.effects().loads.is_none_or(|module| is_same_module(a, b, module))
}

/// Whether what is called `name` in both scenarios has the same code. The lab generates it from
/// the definition, and from whether what it patches is a target.
fn is_same_module(a: &Scenario, b: &Scenario, name: &str) -> bool {
    let livepatch = a.livepatch(name);
    let generated = livepatch.and_then(|livepatch| livepatch.generated());
    let mut objects = generated.iter().flat_map(|generated| &generated.objects);
    // A file is only known by its path.
    let prebuilt = a.prebuilt().any(|(prebuilt, _)| prebuilt == name);
    (!prebuilt || a.folder == b.folder)
        && a.target(name) == b.target(name)
        && livepatch == b.livepatch(name)
        && objects.all(|patched| {
            let is_target =
                |of: &Scenario| of.target(&patched.object).is_some_and(Target::is_generated);
            is_target(a) == is_target(b)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Source;

    /// A scenario with two livepatches, `v1` and `v2`, and these steps.
    fn scenario(steps: &str) -> Scenario {
        of(
            "targets: { shop: { functions: { price: 10 } } }\n\
            livepatches:\n  v1: { patches: { shop: { price: 11 } } }\n  \
            v2: { patches: { shop: { price: 12 } } }\n",
            steps,
        )
    }

    fn of(modules: &str, steps: &str) -> Scenario {
        let steps: String = steps.split("; ").map(|s| format!("  - {s}\n")).collect();
        let text = format!("version: 1\nsummary: x\n{modules}steps:\n{steps}");
        let parsed = crate::scenario::parse("x", &Source::new("x.yaml", text.clone()));
        parsed.unwrap_or_else(|errors| panic!("{text}\n{errors:?}"))
    }

    fn groups_of(scenarios: &[Scenario]) -> Vec<(Vec<usize>, usize)> {
        let groups = groups(&scenarios.iter().collect::<Vec<_>>());
        let both = groups.into_iter().map(|group| (group.runs, group.steps));
        both.collect()
    }

    const TWO: &str = "load: shop; load: v1; load: v2";

    #[test]
    fn endings_of_one_beginning_are_a_group() {
        let all = [
            scenario(&format!("{TWO}; disable: v2")),
            scenario("load: shop; load: v2"),
            scenario(&format!("{TWO}; disable: v1")),
            scenario(TWO),
        ];
        assert_eq!(groups_of(&all), [(vec![0, 2, 3], 3)]);
    }

    #[test]
    fn a_prefix_that_hardly_waits_does_not_pay() {
        let no_transition = "load: shop; call: shop.price; load: v1";
        let one = |ending: &str| scenario(&format!("{no_transition}; {ending}"));
        // One second for one of two: less than twice what it costs.
        assert_eq!(groups_of(&[one("disable: v1"), one("load: v2")]), []);
        // Three seconds for three of four.
        let four = [
            one("disable: v1"),
            one("load: v2"),
            one("call: shop.price"),
            one("unload: v1"),
        ];
        assert_eq!(groups_of(&four), [(vec![0, 1, 2, 3], 3)]);
        let fails = "{ load: v1, errno: EINVAL }";
        let steps = format!("load: shop; {fails}; {fails}; {fails}; expect: {{ livepatches: [] }}");
        assert_eq!(groups_of(&vec![scenario(&steps); 4]), []);
    }

    #[test]
    fn the_best_groups_come_first_and_each_run_is_in_one() {
        // Four share two transitions; two of them share four, which saves less.
        let long = format!("{TWO}; disable: v2; load: v2");
        let all = [
            scenario(&format!("{long}; call: shop.price")),
            scenario(&long),
            scenario(&format!("{TWO}; call: shop.price")),
            scenario(&format!("{TWO}; disable: v1")),
        ];
        assert_eq!(groups_of(&all), [(vec![0, 1, 2, 3], 3)]);
        // With two for each, the four transitions save more than the two.
        let other = "load: shop; load: v2; load: v1";
        let all = [
            scenario(&format!("{other}; call: shop.price")),
            scenario(&format!("{long}; call: shop.price")),
            scenario(&long),
            scenario(&format!("{other}; disable: v2")),
        ];
        assert_eq!(groups_of(&all), [(vec![1, 2], 5), (vec![0, 3], 3)]);
    }

    #[test]
    fn what_must_be_so_may_differ_and_what_is_done_may_not() {
        let with = |step: &str| scenario(&format!("load: shop; {step}; load: v2; disable: v2"));
        let plain = with("load: v1");
        let expects = with("{ load: v1, expect: { livepatches: [v1] } }");
        let is_shared = |other: &Scenario| common(&plain, other) > 1;
        assert!(is_shared(&plain) && is_shared(&expects));
        for step in [
            "{ load: v1, timeout: 9s }",
            "{ load: v1, requires: { file: /proc/x } }",
            "{ load: v1, errno: EINVAL }",
            "load: v2",
        ] {
            assert!(!is_shared(&with(step)), "{step}");
        }
    }

    #[test]
    fn modules_of_one_name_may_differ() {
        let modules = |price: i32, target: &str| {
            format!(
                "targets: {{ {target}: {{ functions: {{ price: 10 }} }}, other: {{ functions: {{ \
                 stock: 1 }} }} }}\nlivepatches:\n  v1: {{ patches: {{ shop: {{ price: {price} }} }} }}\n"
            )
        };
        let steps = "load: other; load: v1; disable: v1";
        let one = of(&modules(11, "shop"), steps);
        assert_eq!(common(&one, &of(&modules(11, "shop"), steps)), 3);
        assert_eq!(common(&one, &of(&modules(12, "shop"), steps)), 1);
    }

    #[test]
    fn what_cannot_be_forked_is_not() {
        let spawns = scenario("load: shop; { spawn: busy, hammer: getpid }; load: v1; load: v2");
        assert_eq!(common(&spawns, &spawns), 1);
        let mut splats = scenario(TWO);
        splats.allow_splats.push(crate::scenario::AllowedSplat {
            title: "WARNING".to_owned(),
            reason: String::new(),
        });
        assert_eq!(common(&scenario(TWO), &splats), 0);
        let klp_build = scenario("load: shop; klp-build: [--help]");
        assert_eq!(common(&klp_build, &klp_build), 0);
    }
}
