// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told of a scenario that was made smaller. Pure.

use std::path::Path;

use super::minimize::{Minimized, Subject};
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

/// Its text with where it came from as the first comment, after its licence.
pub fn with_header(subject: &Subject<'_>, made: &Minimized) -> String {
    let text = &*made.text;
    let (licence, rest) = match text.split_once('\n') {
        Some((first, rest)) if first.contains("SPDX-License-Identifier") => (first, rest),
        _ => ("", text),
    };
    let sizes = sizes(made.sizes);
    let (seen, tries) = made.seen;
    let file = Path::new(&subject.source.path);
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    let mut lines = vec![
        format!("Made from {} by `lab minimize`: {sizes}.", one_line(&file)),
        format!("On {} ({}) it ends so:", subject.kernel.name, subject.arch),
        format!("  {}", shown(&made.manner)),
    ];
    if let Some(kernel) = subject.passes_on {
        lines.push(format!("On {} it passes.", kernel.name));
    }
    if tries > 1 {
        lines.push(format!("The original did so in {seen} of {tries} tries."));
    }
    let mut header = String::new();
    if !licence.is_empty() {
        header = format!("{licence}\n#\n");
    }
    for line in lines {
        header += &format!("# {line}\n");
    }
    let rest = rest.trim_start_matches('\n');
    match rest.starts_with('#') {
        true if rest.starts_with("#\n") => header + rest,
        true => header + "#\n" + rest,
        false => header + rest,
    }
}
