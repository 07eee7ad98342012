// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text on a reduced scenario: its size, its header. Pure.

use crate::report::text::{count, one_line};
use crate::runner::manner::Manner;
use crate::scenario::Scenario;

/// The longest description of a failure in a file's comment.
const SHOWN: usize = 300;

/// How much a scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Its steps.
    pub steps: usize,
    /// Its lines that are neither blank nor a comment.
    pub lines: usize,
}

impl Size {
    /// That of a scenario and its text.
    pub fn of(scenario: &Scenario, text: &str) -> Self {
        let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        Self {
            steps: scenario.steps.len(),
            lines: text.lines().filter(says).count(),
        }
    }
}

/// `14 → 4 steps, 51 → 22 lines`.
pub fn sizes([before, now]: [Size; 2]) -> String {
    format!(
        "{} → {}, {} → {}",
        before.steps,
        count(now.steps, "step"),
        before.lines,
        count(now.lines, "line")
    )
}

/// A failure in one line that fits a comment.
pub fn shown(manner: &Manner) -> String {
    let line = one_line(&manner.to_string());
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{} …", &line[..at]),
        None => line,
    }
}
