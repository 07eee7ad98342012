// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a failure does, beside its words.

use std::collections::BTreeMap;

use super::compare::states;
use crate::runner::run::Ended;
use crate::state::Observed;

/// What the failing step did to the functions that its problem names: what they answered before it, and
/// after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symptom(BTreeMap<String, [Option<String>; 2]>);

impl Symptom {
    /// That of a run's failure, from its record.
    pub fn of(ended: &Ended) -> Self {
        let Some(failing) = &ended.verdict.failing else {
            return Self::default();
        };
        let states = states(&ended.record, failing.step);
        let before = failing.step.checked_sub(2).and_then(|at| states.get(at));
        let after = failing.step.checked_sub(1).and_then(|at| states.get(at));
        Self::between(&failing.problem, [before, after])
    }

    fn between(problem: &str, states: [Option<&Observed>; 2]) -> Self {
        let calls = || states.into_iter().flatten().map(|state| &state.calls);
        let named = calls().flat_map(BTreeMap::keys);
        let named = named.filter(|function| problem.split(' ').any(|word| word == *function));
        let both = |function: &String| {
            let answers = states.map(|state| state?.calls.get(function).cloned());
            (function.clone(), answers)
        };
        Self(named.map(both).collect())
    }

    /// Whether another failure has it as well. A function that the step did not change may have any
    /// past.
    pub fn is_in(&self, other: &Self) -> bool {
        let mut changed = self.0.iter().filter(|(_, [before, after])| before != after);
        changed.all(|(function, both)| other.0.get(function) == Some(both))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_was_never_patched_has_another_symptom() {
        let problem = "shop.stock answers 20, not 21";
        let of = |before: &[(&str, &str)], after: &[(&str, &str)]| {
            let state = |calls: &[(&str, &str)]| {
                let call = |&(name, answer): &(&str, &str)| (format!("shop.{name}"), answer.into());
                Observed {
                    calls: calls.iter().map(call).collect(),
                    ..Observed::default()
                }
            };
            let [before, after] = [before, after].map(state);
            Symptom::between(problem, [Some(&before), Some(&after)])
        };
        let original = of(
            &[("price", "11"), ("stock", "21")],
            &[("price", "12"), ("stock", "20")],
        );
        let smaller = of(&[("stock", "21")], &[("stock", "20")]);
        let another = of(&[("stock", "20")], &[("stock", "20")]);
        let at_once = of(&[], &[("stock", "20")]);
        assert!(original.is_in(&smaller) && !original.is_in(&another));
        assert!(!original.is_in(&at_once));
        // Where nothing changed, there is nothing to compare.
        assert!(another.is_in(&original) && another.is_in(&Symptom::default()));
    }
}
