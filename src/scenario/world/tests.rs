// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of a world whose steps did not all go as they are written. What is known before
//! anything boots: `tests/fast/scenario_errors/story.rs`.

use super::{Went, World};
use crate::scenario::parse;
use crate::step::Fails;
use crate::yaml::Source;

use Went::{AsWritten, Otherwise, Skipped};

/// What is wrong with the last step, after the others went like this.
fn last(steps: &str, went: &[Went]) -> Vec<(String, Fails)> {
    let text = format!(
        "version: 1\nsummary: x\ntargets: {{ shop: {{ functions: {{ price: 1 }} }} }}\nlivepatches:\n  \
         v1: {{ patches: {{ shop: {{ price: 2 }} }} }}\n  v2: {{ patches: {{ shop: {{ price: 3 }} }} }}\n  \
         all: {{ replace: true, patches: {{ shop: {{ price: 4 }} }} }}\n\
         steps:\n{steps}"
    );
    let source = Source::new("x.yaml", text);
    let scenario =
        parse("x", &source).unwrap_or_else(|errors| panic!("{}", errors.render(&source, false)));
    let mut world = World::of(&scenario.targets, &scenario.livepatches, None);
    assert_eq!(scenario.steps.len(), went.len() + 1);
    for (step, went) in scenario.steps.iter().zip(went) {
        world.after(step, *went);
    }
    let mistakes = world.before(scenario.steps.last().unwrap());
    let told = mistakes
        .iter()
        .map(|mistake| (mistake.told(), mistake.fails));
    told.collect()
}

fn one(what: &str, fails: Fails) -> Vec<(String, Fails)> {
    vec![(what.to_owned(), fails)]
}

#[test]
fn a_step_that_was_left_out_did_nothing() {
    let steps = "  - load: shop\n  - hold: shop.price\n";
    assert_eq!(last(steps, &[AsWritten]), []);
    let missing = one("shop is not loaded", Fails::With(2));
    assert_eq!(last(steps, &[Skipped]), missing);
}

#[test]
fn what_follows_from_a_failure_is_no_mistake() {
    for steps in [
        "  - load: shop\n  - hold: shop.price\n",
        "  - load: v1\n  - disable: v1\n",
        "  - load: v1\n  - unload: v1\n",
        "  - load: v1\n  - load: v1\n",
    ] {
        assert_eq!(last(steps, &[Otherwise]), [], "{steps}");
    }
    let steps = "  - load: v1\n  - disable: v1\n  - disable: v1\n";
    let disabled = "v1 is not enabled (disabled or replaced in step 2)";
    assert_eq!(
        last(steps, &[AsWritten, AsWritten]),
        one(disabled, Fails::With(2))
    );
    assert_eq!(last(steps, &[AsWritten, Otherwise]), []);
}

#[test]
fn only_one_livepatch_can_be_in_transition() {
    let steps = "  - load: shop\n  - hold: shop.price\n  - { load: v1, transition: held }\n";
    let busy = one("v1 is in transition (begun in step 3)", Fails::With(16));
    let before = [AsWritten; 3];
    assert_eq!(last(&format!("{steps}  - load: v2\n"), &before), busy);
    assert_eq!(last(&format!("{steps}  - disable: v1\n"), &before), []);
    let other = [AsWritten, AsWritten, Skipped];
    assert_eq!(
        last(&format!("{steps}  - load: v2\n"), &other),
        one("step 2 holds shop.price, which v2 changes", Fails::Stalls)
    );
}

#[test]
fn what_a_forced_transition_removed_is_never_unloaded() {
    let steps = "  - load: shop\n  - load: v1\n  - hold: shop.price\n  \
                 - { disable: v1, transition: held }\n  - force: v1\n  - unload: v1\n";
    let what = "a forced transition has removed v1, which keeps its module (step 5)";
    assert_eq!(last(steps, &[AsWritten; 5]), one(what, Fails::With(11)));
}

#[test]
fn an_errno_that_must_come_does_not_make_another_one_the_kernels() {
    let steps = "  - load: v1\n  - { load: v1, errno: EINVAL }\n";
    let twice = one("v1 is loaded already (step 1)", Fails::With(17));
    assert_eq!(last(steps, &[AsWritten]), twice);
}

#[test]
fn what_is_replaced_stays_away_whatever_is_written() {
    let steps = "  - load: v1\n  - load: all\n  \
                 - { write: /sys/kernel/livepatch/all/enabled, data: \"0\" }\n  - disable: v1\n";
    let what = "v1 is not enabled (disabled or replaced in step 2)";
    assert_eq!(last(steps, &[AsWritten; 3]), one(what, Fails::With(2)));
    let steps = steps.replace("disable: v1", "disable: all");
    assert_eq!(last(&steps, &[AsWritten; 3]), []);
}

#[test]
fn what_a_kernel_does_to_livepatches_of_other_tags_is_no_mistake() {
    let before = |text: &str, step: &str| {
        let source = Source::new("x.yaml", text);
        let scenario = parse("x", &source).unwrap();
        let mut world = World::of(
            &scenario.targets,
            &scenario.livepatches,
            scenario.requires.replace,
        );
        let is_it = |it: &&crate::scenario::Step| it.action.label() != step;
        for step in scenario.steps.iter().take_while(is_it) {
            world.after(step, AsWritten);
        }
        let step = scenario.steps.iter().find(|it| !is_it(it)).unwrap();
        (
            world.before(step).len(),
            world.held_and_changed("vendor-v2").len(),
        )
    };
    // R3: a forced transition pins the modules of all.
    let force = include_str!("../../../scenarios/tagged-force.yaml");
    assert_eq!(before(force, "unload storage").0, 0);
    // Of the livepatch that it replaces, it does.
    assert_eq!(before(force, "load vendor-v2").1, 1);
    // R1: tasks in functions of other tags hold the transition up.
    let neighbour = include_str!("../../../scenarios/tagged-busy-neighbour.yaml");
    assert_eq!(before(neighbour, "load vendor-v2"), (0, 0));
}
