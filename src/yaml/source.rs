// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text of a file and positions in it.

/// A file that was read: its text, and its path as users are to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as it is shown in diagnostics.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A source from a path to show and a text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// The 1-based line on which a byte offset lies.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        let before = self
            .text
            .as_bytes()
            .get(..offset)
            .unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// A range of bytes in a [`Source`].
///
/// The span of a block mapping or a block sequence has length 0: it says where the thing starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to, and without, `end`.
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Whether the span covers no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The part of `text` to put carets under: the span cut to its first line.
    ///
    /// An empty span grows to the end of its line, so that a block mapping is underlined by its
    /// first entry. The result always lies within `text`, on character boundaries.
    #[must_use]
    pub fn caret(self, text: &str) -> Self {
        let start = text.floor_char_boundary(self.start.min(text.len()));
        let rest = &text[start..];
        let line = rest.split('\n').next().unwrap_or(rest).trim_end();
        let wanted = if self.is_empty() {
            line.len()
        } else {
            self.end - self.start
        };
        let end = text.ceil_char_boundary(start + wanted.min(line.len()));
        Self { start, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_of_an_empty_span_covers_the_rest_of_the_line() {
        assert_eq!(Span::new(3, 3).caret("a:\n\nb: c  \n"), Span::new(3, 3));
        assert_eq!(Span::new(4, 4).caret("a:\n\nb: c  \n"), Span::new(4, 8));
    }

    #[test]
    fn the_caret_of_a_long_span_stops_at_the_line_end() {
        assert_eq!(Span::new(0, 9).caret("a: [1,\n2]"), Span::new(0, 6));
    }

    #[test]
    fn the_caret_never_leaves_the_text_nor_splits_a_character() {
        assert_eq!(Span::new(90, 99).caret("é"), Span::new(2, 2));
        assert_eq!(Span::new(1, 2).caret("é"), Span::new(0, 2));
    }

    #[test]
    fn lines_count_from_one() {
        let source = Source::new("x", "a\nb\n");
        assert_eq!([0, 1, 2, 99].map(|at| source.line(at)), [1, 1, 2, 3]);
    }
}
