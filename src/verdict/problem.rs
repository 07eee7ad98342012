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
