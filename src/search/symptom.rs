// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a failure does, beside its words.

use std::collections::BTreeMap;

use super::compare::states;
use crate::runner::run::Ended;

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
        Self::between(
            &failing.problem,
            [before, after].map(|state| state.map_or("", String::as_str)),
        )
    }

    fn between(problem: &str, states: [&str; 2]) -> Self {
        let [before, after] = states.map(calls);
        let named = before.keys().chain(after.keys());
        let named = named.filter(|function| problem.split(' ').any(|word| word == **function));
        let both = |function: &&str| {
            let answer =
                |calls: &BTreeMap<&str, &str>| calls.get(function).map(|it| (*it).to_owned());
            ((*function).to_owned(), [answer(&before), answer(&after)])
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

/// What the functions of a state answer.
fn calls(state: &str) -> BTreeMap<&str, &str> {
    let calls = state
        .lines()
        .filter_map(|line| line.trim().strip_prefix("call "));
    calls.filter_map(|call| call.split_once(": ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_was_never_patched_has_another_symptom() {
        let problem = "shop.stock answers 20, not 21";
        let of = |before, after| Symptom::between(problem, [before, after]);
        let original = of(
            "  call shop.price: 11\n  call shop.stock: 21\n",
            "  call shop.price: 12\n  call shop.stock: 20\n",
        );
        let smaller = of("  call shop.stock: 21\n", "  call shop.stock: 20\n");
        let another = of("  call shop.stock: 20\n", "  call shop.stock: 20\n");
        let at_once = of("", "  call shop.stock: 20\n");
        assert!(original.is_in(&smaller) && !original.is_in(&another));
        assert!(!original.is_in(&at_once));
        // Where nothing changed, there is nothing to compare.
        assert!(another.is_in(&original) && another.is_in(&Symptom::default()));
    }
}
