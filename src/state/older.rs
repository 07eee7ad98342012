// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a snapshot was accepted for an older text of its scenario: which steps have changed. Pure.

use similar::{Algorithm, DiffTag, capture_diff_slices};

/// The titles of the steps in the text of a snapshot, without their numbers: `load shop`. What is
/// observed after a step is indented.
pub fn titles(text: &str) -> Vec<&str> {
    text.lines().filter_map(title).collect()
}

fn title(line: &str) -> Option<&str> {
    let (number, title) = line.strip_prefix("step ")?.split_once(": ")?;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(title)
}

/// Which steps have changed between the text of a snapshot and what was observed now, each in words:
/// ``step 4 was `load x`, is `load y` ``. Empty if both are of the same steps.
pub fn changed_steps(accepted: &str, observed: &str) -> Vec<String> {
    let (old, new) = (titles(accepted), titles(observed));
    let mut changes = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &old, &new) {
        let (tag, was, is) = op.as_tag_tuple();
        if tag == DiffTag::Equal {
            continue;
        }
        let both = was.len().min(is.len());
        for (from, to) in was.clone().zip(is.clone()) {
            let number = to + 1;
            let (from, to) = (old[from], new[to]);
            changes.push(format!("step {number} was `{from}`, is `{to}`"));
        }
        for from in was.skip(both) {
            changes.push(format!("`{}`, step {} then, is gone", old[from], from + 1));
        }
        for to in is.skip(both) {
            changes.push(format!("step {}, `{}`, is new", to + 1, new[to]));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(titles: &[&str]) -> String {
        let step = |(index, title): (usize, &&str)| {
            format!(
                "step {}: {title}\n  step 9: no title\n  call shop.price: 10\n",
                index + 1
            )
        };
        titles.iter().enumerate().map(step).collect()
    }

    fn changed(old: &[&str], new: &[&str]) -> String {
        changed_steps(&text(old), &text(new)).join("; ")
    }

    #[test]
    fn what_changed_in_a_scenario_is_said_step_by_step() {
        let old = ["load shop", "load v1", "unload v1"];
        assert_eq!(changed(&old, &old), "");
        for (new, says) in [
            (
                &["load shop", "load v2", "unload v1"][..],
                "step 2 was `load v1`, is `load v2`",
            ),
            (
                &["load shop", "unload v1"],
                "`load v1`, step 2 then, is gone",
            ),
            (
                &["load shop", "call shop.price", "load v1", "unload v1"],
                "step 2, `call shop.price`, is new",
            ),
            (
                &["load shop", "load v2", "call x", "unload v1"],
                "step 2 was `load v1`, is `load v2`; step 3, `call x`, is new",
            ),
        ] {
            assert_eq!(changed(&old, new), says);
        }
    }

    #[test]
    fn what_a_guest_says_is_no_title() {
        let said = "step 1: load shop\n  log step 2: x\nstep x: y\n";
        assert_eq!(titles(said), ["load shop"]);
    }
}
