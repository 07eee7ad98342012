// SPDX-License-Identifier: MIT OR Apache-2.0
//! C that an author wrote into a file, and the lines on which it stands there. Pure.

use serde::Serialize;

use crate::yaml::{Node, Source};

/// C code and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Snippet {
    /// The code.
    pub text: String,
    /// The line of the file, from 1, on which its first line stands.
    #[serde(skip)]
    first: usize,
    /// Whether its lines are lines of the file, as in a block with `|`. In quotes and in a folded
    /// block one line of the file can become several, and several one.
    #[serde(skip)]
    is_block: bool,
}

impl Snippet {
    /// A text and where it is in its file.
    pub(crate) fn of(node: &Node, source: &Source) -> Option<Self> {
        let text = node.as_str()?.to_owned();
        let start = source.line(node.span.start);
        let empty = text.lines().take_while(|line| line.is_empty()).count();
        // What the parser takes for the beginning of a block: its first line that is not empty, or its
        // mark.
        let starts = [start.saturating_sub(empty).max(1), start, start + 1];
        let block = starts.into_iter().find(|&first| {
            let mut file = source.text.lines().skip(first - 1);
            let same = |line: &str| file.next().is_some_and(|it| it.trim() == line.trim());
            text.lines().all(same)
        });
        Some(Self {
            text,
            first: block.unwrap_or(start),
            is_block: block.is_some(),
        })
    }

    /// The line of the file, from 1, on which the code's line `index`, from 0, stands.
    #[must_use]
    pub fn line(&self, index: usize) -> usize {
        match self.is_block {
            true => self.first + index,
            false => self.first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn the_lines_of_a_block_are_lines_of_the_file_and_other_text_has_one() {
        let yaml = "x: 1\nblock: |\n\n  one;\n  # two\n\n  three;\nplain: return 1;\n\
                    quoted: \"one;\\ntwo;\"\nfolded: >\n  one\n  two\n\n  three\n\
                    kept: |+2\n    one;\n  two;\n\nnone: 1\nend: &a |\n  one;\nagain: *a\n";
        let source = Source::new("x.yaml", yaml);
        let root = yaml::parse(&source).unwrap();
        let lines = |key: &str| {
            let code = Snippet::of(root.get(key).unwrap(), &source).unwrap();
            let lines = code.text.lines().enumerate();
            lines.map(|(index, _)| code.line(index)).collect::<Vec<_>>()
        };
        assert_eq!(lines("block"), [3, 4, 5, 6, 7]);
        assert_eq!(lines("plain"), [8]);
        assert_eq!(lines("quoted"), [9, 9]);
        assert_eq!(lines("folded"), [11, 11]);
        assert_eq!(lines("kept"), [16, 17, 18]);
        assert_eq!(lines("end"), [21]);
        assert_eq!(lines("again"), [22]);
        assert_eq!(Snippet::of(root.get("none").unwrap(), &source), None);
    }
}
