// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was not as expected in a step.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that was not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The step, from 1.
    pub step: usize,
    /// The step's line in the scenario's file, from 1.
    pub line: usize,
    /// What the step does: `load pricing-v1`.
    pub label: String,
    /// What was not as expected: `shop.stock answers 20, not 21`.
    pub what: String,
}

/// `step 4 (line 12, load pricing-v2): shop.stock answers 20, not 21`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            line,
            label,
            what,
        } = self;
        write!(f, "step {step} (line {line}, {label}): {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Blame;
    use crate::verdict::{Outcome, Verdict};

    #[test]
    fn a_verdict_is_read_back_with_its_problems_and_without() {
        let problem = Problem {
            step: 4,
            line: 12,
            label: "load pricing-v2".into(),
            what: "shop.stock answers 20, not 21".into(),
        };
        let words = problem.to_string();
        assert_eq!(
            words,
            "step 4 (line 12, load pricing-v2): shop.stock answers 20, not 21"
        );
        let mut verdict = Verdict::against(Outcome::Failed, Blame::Kernel, words);
        let old = serde_json::to_string(&verdict).unwrap();
        assert!(!old.contains("problems"), "{old}");
        assert_eq!(serde_json::from_str::<Verdict>(&old).unwrap(), verdict);
        verdict.problems.push(problem);
        let new = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&new).unwrap(), verdict);
    }
}
