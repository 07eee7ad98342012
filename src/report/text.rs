// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text from guests and people made fit for files: visible, on one line, no longer than is useful.
//!
//! What a guest says ends up in reasons and evidence. It must not steer the terminal of whoever
//! reads a report, nor end a line where the report's format would begin a new statement.

use crate::verdict::evidence::{Evidence, ends};
pub use crate::visible::visible;

/// The most bytes of a reason or a name.
pub const LINE_MAX: usize = 4 * 1024;

/// [`visible`], on one line and of bounded length.
pub fn one_line(text: &str) -> String {
    // Once before, so that a guest's megabytes are not looked at, and once for what grew.
    let line = visible(beginning(text.trim()).trim_end()).replace(['\n', '\t'], " ");
    match beginning(&line) {
        all if all.len() == line.len() && text.len() <= LINE_MAX => line,
        part => format!("{part} …"),
    }
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(LINE_MAX)]
}

/// A piece of evidence, [`visible`]; of a long one the beginning and the end, and a line that says
/// so.
pub fn evidence(evidence: &Evidence) -> String {
    // As in `one_line`.
    ends(visible(&ends(evidence.text.clone())))
}

/// Seconds with one decimal.
pub fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// `1 run`, `2 runs`.
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::evidence::EVIDENCE_MAX;

    #[test]
    fn one_line_has_no_other() {
        assert_eq!(one_line(" a\nb\tc "), "a b c");
    }

    #[test]
    fn long_evidence_keeps_its_ends() {
        let piece = |text: String| Evidence {
            title: "console".into(),
            text,
        };
        let long = format!("first\n{}\nlast", "ä".repeat(EVIDENCE_MAX));
        let text = evidence(&piece(long));
        assert!(text.starts_with("first\n") && text.ends_with("\nlast"));
        assert!(text.contains("[cut here: the middle"));
        assert!(text.len() < EVIDENCE_MAX + 100);
        let hostile = evidence(&piece("\u{1b}".repeat(4 * EVIDENCE_MAX)));
        assert!(hostile.len() < EVIDENCE_MAX + 100);
        assert_eq!(hostile.matches("[cut here").count(), 1);
        assert_eq!(evidence(&piece("short".into())), "short");
        assert!(one_line(&"ä".repeat(LINE_MAX)).len() < LINE_MAX + 8);
    }
}
