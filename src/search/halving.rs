// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the first of a row of things that is new, by halves. Pure.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// What is known of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is as the first one.
    Old,
    /// It is as the last one.
    New,
    /// It cannot be said.
    Skip,
}

/// A search in a row whose ends are known.
#[derive(Debug, Clone)]
pub struct Halving {
    old: usize,
    new: usize,
    skipped: BTreeSet<usize>,
}

impl Halving {
    /// `old` comes before `new`.
    #[must_use]
    pub fn new(old: usize, new: usize) -> Self {
        Self {
            old,
            new: new.max(old + 1),
            skipped: BTreeSet::new(),
        }
    }

    /// What to look at next: what is closest to the middle and was not skipped. `None` when nothing
    /// is left to find out.
    #[must_use]
    pub fn next(&self) -> Option<usize> {
        let middle = usize::midpoint(self.old, self.new);
        let open = (self.old + 1..self.new).filter(|at| !self.skipped.contains(at));
        open.min_by_key(|at| at.abs_diff(middle))
    }

    /// Takes in what was found out.
    pub fn answer(&mut self, at: usize, answer: Answer) {
        match answer {
            Answer::Old => self.old = self.old.max(at),
            Answer::New => self.new = self.new.min(at),
            Answer::Skip => drop(self.skipped.insert(at)),
        }
    }

    /// Those that may be the first new one: one, unless others next to it were skipped.
    #[must_use]
    pub fn first_new(&self) -> RangeInclusive<usize> {
        self.old + 1..=self.new
    }

    /// How many more answers it takes, about.
    #[must_use]
    pub fn steps_left(&self) -> u32 {
        (self.new - self.old).ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a row in which `first` is the first new one.
    fn search(last: usize, first: usize, skips: &[usize]) -> (RangeInclusive<usize>, usize) {
        let mut halving = Halving::new(0, last);
        let mut asked = 0;
        while let Some(at) = halving.next() {
            asked += 1;
            assert!(asked <= last, "it ends");
            halving.answer(
                at,
                match at {
                    at if skips.contains(&at) => Answer::Skip,
                    at if at < first => Answer::Old,
                    _ => Answer::New,
                },
            );
        }
        (halving.first_new(), asked)
    }

    #[test]
    fn the_first_new_one_is_found_in_few_steps() {
        for last in 1..40 {
            for first in 1..=last {
                let (found, asked) = search(last, first, &[]);
                assert_eq!(found, first..=first, "of {last}");
                assert!(asked <= last.ilog2() as usize + 1, "{asked} of {last}");
            }
        }
    }

    #[test]
    fn what_is_skipped_beside_it_may_be_it_as_well() {
        assert_eq!(search(12, 5, &[6, 9]).0, 5..=5);
        assert_eq!(search(12, 5, &[4]).0, 4..=5);
        assert_eq!(search(12, 5, &[5]).0, 5..=6);
        assert_eq!(search(12, 5, &[3, 4, 5, 6]).0, 3..=7);
        assert_eq!(search(4, 2, &[1, 2, 3]).0, 1..=4);
    }
}
