// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which way a run ended.

use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything as expected.
    Passed,
    /// As expected, but not at the first attempt.
    Flaky,
    /// Everything as expected, but nobody has reviewed the states: there is no snapshot yet.
    New,
    /// An expectation or the snapshot does not hold.
    Failed,
    /// An expectation does not hold, just as the scenario says of this kernel.
    ExpectedFailure,
    /// Everything as expected, although the scenario says that it fails on this kernel.
    UnexpectedlyPassed,
    /// The guest's kernel panicked.
    Panicked,
    /// The guest's kernel complained: a warning, an oops, a lockup.
    Splat,
    /// The guest's machine was reset or switched itself off.
    Reset,
    /// The guest stopped answering.
    Hung,
    /// The guest wrote more to its console than anybody can read.
    Flooded,
    /// A transition did not end in time.
    StalledTransition,
    /// The run met `--timeout`.
    TimedOut,
    /// The lab could not get as far as a verdict on the kernel.
    Infra,
    /// The user pressed Ctrl-C.
    Cancelled,
}

impl Outcome {
    /// Whether it is a verdict on the kernel or the scenario: not on the lab, and not on how long a
    /// run may take.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Infra | Self::Cancelled | Self::TimedOut)
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Flaky => "flaky",
            Outcome::New => "new",
            Outcome::Failed => "failed",
            Outcome::ExpectedFailure => "expected failure",
            Outcome::UnexpectedlyPassed => "unexpectedly passed",
            Outcome::Panicked => "panicked",
            Outcome::Splat => "splat",
            Outcome::Reset => "reset",
            Outcome::Hung => "hung",
            Outcome::Flooded => "flooded",
            Outcome::StalledTransition => "stalled transition",
            Outcome::TimedOut => "timed out",
            Outcome::Infra => "could not run",
            Outcome::Cancelled => "cancelled",
        }
    }
}
