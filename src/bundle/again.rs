// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a run of a bundle ended in the manner that was recorded. Pure.

use std::fmt::Write;

use crate::runner::manner::Manner;
use crate::verdict::Outcome;
use crate::visible::visible;

/// What became of it, time after time.
#[derive(Debug, Clone)]
pub struct Again {
    recorded: Manner,
    came: Vec<(Manner, bool)>,
}

impl Again {
    /// Before the first time.
    pub fn new(recorded: Manner) -> Self {
        Self {
            recorded,
            came: Vec::new(),
        }
    }

    /// Whether all that went wrong is that the states differ from the snapshot, or have none. Then the
    /// manner does not say in what they differ.
    pub fn is_about_states(&self) -> bool {
        let Manner {
            outcome,
            failing,
            splat,
            code: _,
        } = &self.recorded;
        match outcome {
            // There was no snapshot, and is none here.
            Outcome::New => true,
            outcome => *outcome == Outcome::Failed && failing.is_none() && splat.is_none(),
        }
    }

    /// Takes in how it ended once, and whether its states were those of the record.
    pub fn add(&mut self, manner: Manner, same_states: bool) {
        let is_same = match self.recorded.outcome {
            // It is not tried again here: how it ends is how its first attempt did, or well.
            Outcome::Flaky => {
                manner.is_at_the_same(&self.recorded) && manner.outcome != Outcome::Passed
            }
            _ => manner.is_same(&self.recorded) && (same_states || !self.is_about_states()),
        };
        self.came.push((manner, is_same));
    }

    /// How often it ended in the same way.
    pub fn same(&self) -> usize {
        self.came.iter().filter(|(_, is_same)| *is_same).count()
    }

    /// Whether nothing but the lab, the host or a limit kept it from ending in the same way.
    pub fn could_not_run(&self) -> bool {
        let unknown = |(manner, _): &(Manner, bool)| {
            matches!(manner.outcome, Outcome::Infra | Outcome::TimedOut)
        };
        self.same() == 0 && self.came.iter().any(unknown)
    }

    /// What became of it, in words.
    pub fn text(&self) -> String {
        let (same, of) = (self.same(), self.came.len());
        let failed = !matches!(
            self.recorded.outcome,
            Outcome::Passed | Outcome::ExpectedFailure | Outcome::New
        );
        let how = match (failed, same) {
            (true, 0) => "the failure did not come back in the same way",
            (true, _) => "the failure came back in the same way",
            (false, 0) => "it did not end as recorded",
            (false, _) => "it ended as recorded",
        };
        let times = if of == 1 { "time" } else { "times" };
        let mut text = format!("{how}: {same} of {of} {times}\n");
        let _ = writeln!(text, "  recorded: {}", visible(&self.recorded.to_string()));
        let mut others: Vec<(String, usize)> = Vec::new();
        for (manner, _) in self.came.iter().filter(|(_, is_same)| !is_same) {
            let how = match manner.is_same(&self.recorded) {
                true => format!("{manner}, but with other states"),
                false => manner.to_string(),
            };
            match others.iter_mut().find(|(other, _)| *other == how) {
                Some((_, count)) => *count += 1,
                None => others.push((how, 1)),
            }
        }
        for (how, count) in others {
            let times = if count == 1 { "time" } else { "times" };
            let _ = writeln!(text, "  {count} {times} instead: {}", visible(&how));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Failing;

    fn manner(outcome: Outcome, problem: Option<&str>) -> Manner {
        let failing = |problem: &str| Failing {
            step: 5,
            label: "load pricing-v2".into(),
            problem: problem.into(),
        };
        Manner {
            outcome,
            failing: problem.map(failing),
            splat: None,
            code: None,
        }
    }

    #[test]
    fn it_is_counted_what_came_back_in_the_same_way() {
        let recorded = manner(Outcome::Failed, Some("shop.stock answers 20, not 21"));
        let mut again = Again::new(recorded.clone());
        again.add(recorded.clone(), false);
        again.add(manner(Outcome::Passed, None), true);
        again.add(manner(Outcome::Failed, Some("shop.stock answers 19")), true);
        again.add(manner(Outcome::Passed, None), true);
        assert_eq!(again.same(), 1);
        insta::assert_snapshot!(again.text(), @r"
        the failure came back in the same way: 1 of 4 times
          recorded: failed at step 5 (load pricing-v2): shop.stock answers 20, not 21
          2 times instead: passed
          1 time instead: failed at step 5 (load pricing-v2): shop.stock answers 19
        ");
    }

    #[test]
    fn states_count_where_they_are_what_failed() {
        let recorded = manner(Outcome::Failed, None);
        let mut again = Again::new(recorded.clone());
        assert!(again.is_about_states());
        again.add(recorded.clone(), false);
        insta::assert_snapshot!(again.text(), @r"
        the failure did not come back in the same way: 0 of 1 time
          recorded: failed
          1 time instead: failed, but with other states
        ");
        again.add(recorded, true);
        assert_eq!(again.same(), 1);
    }

    #[test]
    fn a_run_that_was_new_is_new_again_if_its_states_are_the_same() {
        let recorded = manner(Outcome::New, None);
        let mut again = Again::new(recorded.clone());
        assert!(again.is_about_states());
        again.add(recorded.clone(), false);
        assert_eq!(again.same(), 0);
        again.add(recorded, true);
        assert!(again.text().starts_with("it ended as recorded: 1 of 2"));
    }

    #[test]
    fn a_flaky_runs_failure_is_that_of_its_first_attempt() {
        let mut again = Again::new(manner(Outcome::Flaky, Some("x")));
        again.add(manner(Outcome::Passed, None), true);
        assert_eq!(again.same(), 0);
        again.add(manner(Outcome::Failed, Some("x")), true);
        assert_eq!(again.same(), 1);
    }

    #[test]
    fn a_run_that_could_not_be_played_is_no_answer() {
        let recorded = manner(Outcome::Failed, Some("x"));
        for outcome in [Outcome::Infra, Outcome::TimedOut] {
            let mut again = Again::new(recorded.clone());
            again.add(manner(outcome, None), true);
            assert!(again.could_not_run());
            again.add(recorded.clone(), true);
            assert!(!again.could_not_run());
        }
        // One that met its limit may do so again.
        let mut again = Again::new(manner(Outcome::TimedOut, Some("x")));
        again.add(manner(Outcome::TimedOut, Some("x")), true);
        assert_eq!((again.same(), again.could_not_run()), (1, false));
    }
}
