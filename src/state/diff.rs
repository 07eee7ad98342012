// SPDX-License-Identifier: MIT OR Apache-2.0
//! The difference of two runs, step by step.

use std::fmt::Write;

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// How long the shortest difference is looked for. A guest that says something else in each of a
/// million lines would keep the lab busy for hours; then any difference will do.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Renders the difference: for each step that differs, its heading, once, and its lines that changed,
/// `-` as accepted, `+` as observed now. Of what was never accepted, all lines.
pub fn render(accepted: &str, observed: &str) -> String {
    // A missing newline at the end is no difference.
    let whole = |text: &str| match text.trim_end() {
        "" => String::new(),
        text => format!("{text}\n"),
    };
    let [accepted, observed] = [accepted, observed].map(whole);
    let diff = TextDiff::configure()
        .timeout(TIME_MAX)
        .diff_lines(&accepted, &observed);
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
        if line.trim().is_empty() {
            continue;
        }
        if heading != shown_heading {
            if !is_heading {
                let _ = writeln!(text, "  {heading}");
            }
            heading.clone_into(&mut shown_heading);
        }
        let _ = writeln!(text, "{sign} {line}");
    }
    text
}

/// The first steps of a difference in at most so many lines, or as many lines of the first step, and a
/// line that says how many more there are in the record.
pub fn beginning(difference: &str, most: usize) -> String {
    let lines: Vec<&str> = difference.lines().collect();
    if lines.len() <= most {
        return difference.to_owned();
    }
    let is_heading = |line: &str| line.get(2..).is_some_and(|line| line.starts_with("step "));
    // Of a title that changed, both lines are the step's.
    let begins = |at: &usize| is_heading(lines[*at]) && !is_heading(lines[*at - 1]);
    let end = (1..=most).rev().find(begins).unwrap_or(most);
    let more = lines.len() - end;
    format!(
        "{}\n  … {more} more lines are in the record: diff.txt\n",
        lines[..end].join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_difference_ends_with_a_step() {
        let step = |number: usize| format!("  step {number}: x\n{}", "-   a\n+   b\n".repeat(2));
        let all: String = (1..=4).map(step).collect();
        assert_eq!(beginning(&all, 20), all);
        let two = step(1) + &step(2);
        let cut = |all: &str, end: &str, more: usize| {
            let says = format!("  … {more} more lines are in the record: diff.txt\n");
            assert_eq!(beginning(all, 13), format!("{end}{says}"));
        };
        cut(&all, &two, 10);
        let changed = step(1) + &step(2) + "- step 3: x\n+ step 3: y\n" + &"+   b\n".repeat(9);
        cut(&changed, &two, 11);
        let long = "  step 1: x\n".to_owned() + &"+   b\n".repeat(20);
        cut(&long, &long[..12 + 12 * 6], 8);
    }

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
    fn a_title_that_changed_is_shown_once_and_nothing_is_an_empty_line() {
        let new = "step 1: load shop\n  call shop.price: 10\nstep 2: load v1\n  a\n";
        insta::assert_snapshot!(render("", new), @r"
        + step 1: load shop
        +   call shop.price: 10
        + step 2: load v1
        +   a
        ");
        let old = "step 1: load shop\n  call shop.price: 10\n\nstep 2: load v0\n  a\n  b\n";
        insta::assert_snapshot!(render(old, new), @r"
        - step 2: load v0
        + step 2: load v1
        -   b
        ");
    }

    #[test]
    fn a_guest_cannot_keep_the_lab_busy_with_a_difference() {
        let lines = |from: usize| -> String {
            let line = |n: usize| {
                format!(
                    "{}\n",
                    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % 50_000
                )
            };
            (from..from + 300_000).map(line).collect()
        };
        let started = std::time::Instant::now();
        assert!(!render(&lines(0), &lines(1_000_000)).is_empty());
        assert!(started.elapsed() < 10 * TIME_MAX, "{:?}", started.elapsed());
    }

    #[test]
    fn equal_runs_have_no_difference() {
        assert_eq!(render("step 1: x", "step 1: x\n"), "");
    }
}
