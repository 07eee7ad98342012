// SPDX-License-Identifier: MIT OR Apache-2.0
//! What shows how a run ended, and how much of it is kept.

use serde::{Deserialize, Serialize};

/// The most bytes of one piece of evidence; the record has all of it.
pub const EVIDENCE_MAX: usize = 64 * 1024;

/// The title of a difference from the accepted states.
pub const STATES_DIFFER: &str = "states by step (- accepted, + observed)";

/// What stands where evidence is cut.
const CUT: &str = "the middle is left out; the record has all of it";

/// A titled piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub title: String,
    /// Its lines.
    pub text: String,
}

/// The beginning and the end of a long text, and a line that says so.
pub fn ends(text: String) -> String {
    if text.len() <= EVIDENCE_MAX {
        return text;
    }
    let head = text.floor_char_boundary(EVIDENCE_MAX / 2);
    let tail = text.ceil_char_boundary(text.len() - EVIDENCE_MAX / 2);
    format!("{}\n[cut here: {CUT}]\n{}", &text[..head], &text[tail..])
}
