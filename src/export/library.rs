// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bash functions that exported scripts use. Each script is whole by itself, so it carries
//! those that it needs and no others.

use std::collections::BTreeSet;

/// All of them, each with the comment before it.
const LIBRARY: &str = include_str!("sh/library.sh");

/// How their names begin, and their comments after `# `.
const PREFIX: &str = "lab_";

/// The functions that `script` calls, and those that they call, in the library's order.
pub(super) fn functions_for(script: &str) -> String {
    let all = functions();
    let mut wanted = BTreeSet::new();
    let mut open = vec![script];
    while let Some(text) = open.pop() {
        for &(name, function) in &all {
            if calls(text, name) && wanted.insert(name) {
                open.push(function);
            }
        }
    }
    let mut text = String::new();
    for (name, function) in all {
        if wanted.contains(name) {
            text += function.trim_end();
            text += "\n\n";
        }
    }
    text
}

/// Each function's name and text.
fn functions() -> Vec<(&'static str, &'static str)> {
    let start = format!("\n# {PREFIX}");
    let starts: Vec<usize> = LIBRARY
        .match_indices(&start)
        .map(|(at, _)| at + 1)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([LIBRARY.len()]);
    let function = |(&start, end): (&usize, usize)| {
        let text = &LIBRARY[start..end];
        let name = text.trim_start_matches("# ");
        (&name[..name.find('(').unwrap_or(0)], text)
    };
    starts.iter().zip(ends).map(function).collect()
}

/// Whether a text calls the function of this name.
fn calls(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_library_is_found() {
        let found = functions();
        assert_eq!(found.len(), LIBRARY.matches("\nfunction ").count());
        for (name, text) in found {
            assert!(
                text.contains(&format!("\nfunction {name}() {{\n")),
                "{name}"
            );
        }
    }

    #[test]
    fn a_script_gets_what_it_calls_and_what_that_calls() {
        let text = functions_for("lab_transition none\n");
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("function "))
            .collect();
        insta::assert_snapshot!(names.join("\n"), @r"
        lab_fail() {
        lab_equal() {
        lab_value() {
        lab_in_transition() {
        lab_transition() {
        ");
    }
}
