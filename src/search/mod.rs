// SPDX-License-Identifier: MIT OR Apache-2.0
//! Searches that play many runs: the smallest scenario with a failure, where kernels begin to
//! differ, the commit or patch that made it so.
//!
//! What to play next is decided by pure code ([`ddmin`], [`halving`], [`units`]), which is tested
//! without guests; [`play`] plays it; what came out is text made by pure code again.

pub mod bisect;
pub mod compare;
pub mod cut;
pub mod ddmin;
pub mod git;
pub mod halving;
pub mod minimize;
pub mod play;
pub mod series;
pub mod side_by_side;
pub mod summary;
pub mod symptom;
pub mod units;
