// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was not as expected in a step.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Blame;

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
    /// Who has to act.
    #[serde(default = "kernel", skip_serializing_if = "is_kernel")]
    pub blame: Blame,
    /// What to do about it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What was not as expected, unless something else is known.
fn kernel() -> Blame {
    Blame::Kernel
}

fn is_kernel(blame: &Blame) -> bool {
    *blame == Blame::Kernel
}

/// `step 4 (line 12, load pricing-v2): shop.stock answers 20, not 21`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            line,
            label,
            what,
            ..
        } = self;
        write!(f, "step {step} (line {line}, {label}): {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Outcome, Verdict};

    #[test]
    fn a_verdict_is_read_back_with_its_problems_and_without() {
        let problem = Problem {
            step: 4,
            line: 12,
            label: "load pricing-v2".into(),
            what: "shop.stock answers 20, not 21".into(),
            blame: Blame::Kernel,
            help: None,
        };
        let text = serde_json::to_string(&problem).unwrap();
        assert!(!text.contains("blame") && !text.contains("help"), "{text}");
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
        let of_file = Problem {
            blame: Blame::File,
            help: Some("add a step".into()),
            ..problem.clone()
        };
        let text = serde_json::to_string(&of_file).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), of_file);
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
