// SPDX-License-Identifier: MIT OR Apache-2.0
//! A row of the table: what was measured, what it is set against, and whether the goal is met.

use serde::{Deserialize, Serialize};

/// What numbers are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "MB")]
    Megabytes,
    #[serde(rename = "calls")]
    Calls,
}

/// What a row has to show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Measured / set against is at most this.
    Ratio(f64),
    /// Set against / measured is at least this: so many times faster, or this part of what is
    /// possible.
    Times(f64),
    /// What is measured is at most this by itself.
    AtMost(f64),
    /// Measured / set against is only shown.
    Shown,
}

/// Measured, and set against the same machine's limit in the same round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The group that measures it; see `--list`.
    pub group: String,
    /// The stretch.
    pub name: String,
    /// What it is set against; empty if the goal stands by itself.
    pub against: String,
    pub unit: Unit,
    pub goal: Goal,
    /// A value for each round.
    pub measured: Vec<f64>,
    /// The limit of each round; empty if the goal stands by itself.
    pub limit: Vec<f64>,
    /// What is to be known about this measurement, such as why there is none.
    pub note: String,
    /// When, and of which commit; `table.rs` fills it in.
    #[serde(default)]
    pub taken: String,
    #[serde(default)]
    pub commit: String,
}

impl Row {
    /// A row without values.
    pub fn new(group: &str, name: &str, against: &str, unit: Unit, goal: Goal) -> Self {
        Self {
            group: group.to_owned(),
            name: name.to_owned(),
            against: against.to_owned(),
            unit,
            goal,
            measured: Vec::new(),
            limit: Vec::new(),
            note: String::new(),
            taken: String::new(),
            commit: String::new(),
        }
    }

    /// A round's value and its limit.
    pub fn pair(&mut self, measured: f64, limit: f64) {
        self.measured.push(measured);
        self.limit.push(limit);
    }

    /// The row with a note.
    pub fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// What the goal speaks of, a value for each round.
    pub fn judged(&self) -> Vec<f64> {
        let pairs = self.measured.iter().zip(&self.limit);
        match self.goal {
            Goal::AtMost(_) => self.measured.clone(),
            Goal::Ratio(_) | Goal::Shown => pairs.map(|(value, limit)| value / limit).collect(),
            Goal::Times(_) => pairs.map(|(value, limit)| limit / value).collect(),
        }
    }

    /// Whether the median meets the goal; `None` if nothing was measured or nothing is asked.
    pub fn is_met(&self) -> Option<bool> {
        let median = Spread::of(&self.judged())?.median;
        match self.goal {
            Goal::Ratio(most) | Goal::AtMost(most) => Some(median <= most),
            Goal::Times(least) => Some(median >= least),
            Goal::Shown => None,
        }
    }
}

/// Median and range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: median(&values)?,
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

/// The median of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper)),
    }
}
