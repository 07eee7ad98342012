// SPDX-License-Identifier: MIT OR Apache-2.0
//! The difference of two runs, step by step.

use std::fmt::Write;

use similar::{ChangeTag, TextDiff};

/// Renders the difference: for each step that differs, its heading and the lines around each
/// change, `-` as accepted, `+` as observed now.
pub fn render(accepted: &str, observed: &str) -> String {
    // A missing newline at the end is no difference.
    let [accepted, observed] = [accepted, observed].map(|text| format!("{}\n", text.trim_end()));
    let diff = TextDiff::from_lines(&accepted, &observed);
    let mut text = String::new();
    let mut heading = String::new();
    let mut shown_heading = String::new();
    for change in diff.iter_all_changes() {
        let line = change.value().trim_end_matches('\n');
        let is_heading = line.starts_with("step ");
        if is_heading {
            line.clone_into(&mut heading);
        }
        let sign = match change.tag() {
            ChangeTag::Equal => continue,
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        if heading != shown_heading && !is_heading {
            let _ = writeln!(text, "  {heading}");
            heading.clone_into(&mut shown_heading);
        }
        let _ = writeln!(text, "{sign} {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_that_differs_is_named_once() {
        let accepted = "step 1: load shop\n  call shop.price: 10\nstep 2: load v1\n  a\n  b\n  c\n";
        let observed = "step 1: load shop\n  call shop.price: 10\nstep 2: load v1\n  a\n  x\n  y\n";
        insta::assert_snapshot!(render(accepted, observed), @r"
          step 2: load v1
        -   b
        -   c
        +   x
        +   y
        ");
    }

    #[test]
    fn equal_runs_have_no_difference() {
        assert_eq!(render("step 1: x", "step 1: x\n"), "");
    }
}
