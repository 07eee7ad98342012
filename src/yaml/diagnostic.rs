// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a file, and how it is shown: rustc's layout, in ASCII.

use std::fmt::Write as _;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Source, Span};
use crate::visible::is_hidden;

/// One error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to write beside the carets.
    pub label: Option<String>,
    /// Other places that matter, such as the first of two.
    pub related: Vec<(Span, String)>,
    /// Why it is wrong.
    pub notes: Vec<String>,
    /// What would be right.
    pub help: Option<String>,
    /// Whether it is only odd.
    pub is_warning: bool,
}

impl Diagnostic {
    /// An error at a place.
    pub fn new(span: Span, message: impl AsRef<str>) -> Self {
        Self {
            message: printable(message),
            span,
            label: None,
            related: Vec::new(),
            notes: Vec::new(),
            help: None,
            is_warning: false,
        }
    }

    /// It is odd, but not wrong.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.is_warning = true;
        self
    }

    /// Writes something beside the carets.
    #[must_use]
    pub fn label(mut self, label: impl AsRef<str>) -> Self {
        self.label = Some(printable(label));
        self
    }

    /// Points at another place.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl AsRef<str>) -> Self {
        self.related.push((span, printable(label)));
        self
    }

    /// Says why it is wrong.
    #[must_use]
    pub fn note(mut self, note: impl AsRef<str>) -> Self {
        self.notes.push(printable(note));
        self
    }

    /// Says what would be right.
    #[must_use]
    pub fn help(self, help: impl AsRef<str>) -> Self {
        self.maybe_help(Some(help))
    }

    /// Says what would be right, if anything is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<impl AsRef<str>>) -> Self {
        if let Some(help) = help {
            self.help = Some(printable(help));
        }
        self
    }

    fn group<'a>(&'a self, source: &'a Source) -> Group<'a> {
        let main = AnnotationKind::Primary
            .span(caret(self.span, &source.text))
            .label(self.label.as_deref());
        let others = self.related.iter().map(|(span, label)| {
            AnnotationKind::Context
                .span(caret(*span, &source.text))
                .label(label.as_str())
        });
        let snippet = Snippet::source(&source.text)
            .path(&source.path)
            .annotation(main)
            .annotations(others);
        let notes = self
            .notes
            .iter()
            .map(|note| Level::NOTE.message(note.as_str()));
        let help = self
            .help
            .iter()
            .map(|help| Level::HELP.message(help.as_str()));
        let level = match self.is_warning {
            true => Level::WARNING,
            false => Level::ERROR,
        };
        level
            .primary_title(self.message.as_str())
            .element(snippet)
            .elements(notes)
            .elements(help)
    }
}

fn caret(span: Span, text: &str) -> std::ops::Range<usize> {
    let caret = span.caret(text);
    caret.start..caret.end
}

/// A message may quote a file that nobody vouches for: no escape sequence gets to a terminal.
fn printable(text: impl AsRef<str>) -> String {
    let mut out = String::with_capacity(text.as_ref().len());
    for c in text.as_ref().chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Everything that is wrong with a file, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    all: Vec<Diagnostic>,
    dropped: usize,
}

impl Diagnostics {
    /// How many are kept: nobody reads more, and a hostile file must stay cheap.
    const MOST: usize = 100;

    /// No errors so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error, unless the very same is already there: an alias repeats what it stands for.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let place = |d: &Diagnostic| (d.span, d.message.clone());
        match self.all.binary_search_by_key(&place(&diagnostic), place) {
            Ok(_) => {}
            Err(_) if self.all.len() == Self::MOST => self.dropped += 1,
            Err(at) => self.all.insert(at, diagnostic),
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many errors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len() + self.dropped
    }

    /// The errors in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.all.iter()
    }

    /// The errors as users see them, separated by empty lines, with a final newline.
    #[must_use]
    pub fn render(&self, source: &Source, color: bool) -> String {
        // A fixed width, not the terminal's: the same file gives the same text everywhere.
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        }
        .decor_style(DecorStyle::Ascii)
        .term_width(140);
        let mut out = String::new();
        for diagnostic in &self.all {
            if !out.is_empty() {
                out.push('\n');
            }
            // The renderer neutralises what steers a terminal, but not what has no width.
            let text = renderer.render(&[diagnostic.group(source)]);
            let shown = |c| match c {
                '\n' | '\t' | '\u{1b}' => Some(c),
                // A byte-order mark is no part of a text.
                '\u{feff}' => None,
                c if is_hidden(c) => Some('\u{fffd}'),
                c => Some(c),
            };
            out.extend(text.chars().filter_map(shown));
            out.push('\n');
        }
        if self.dropped > 0 {
            let _ = writeln!(out, "\nand {} more errors", self.dropped);
        }
        out
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            all: vec![diagnostic],
            dropped: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_in_the_order_of_the_file_and_once() {
        let mut all = Diagnostics::new();
        for at in [7, 2, 7] {
            all.push(Diagnostic::new(Span::new(at, at + 1), "wrong"));
        }
        assert_eq!(all.iter().map(|d| d.span.start).collect::<Vec<_>>(), [2, 7]);
    }

    #[test]
    fn only_so_many_errors_are_kept_but_all_are_counted() {
        let mut all = Diagnostics::new();
        for at in 0..150 {
            all.push(Diagnostic::new(Span::new(at, at + 1), "wrong"));
        }
        assert_eq!((all.iter().count(), all.len()), (100, 150));
        let text = all.render(&Source::new("x", "y"), false);
        assert!(text.ends_with("\nand 50 more errors\n"), "{text}");
    }

    #[test]
    fn control_characters_of_the_file_are_escaped() {
        let diagnostic = Diagnostic::new(Span::new(0, 1), "\u{1b}[31m").help("a\tb");
        assert_eq!(diagnostic.message, "\\u{1b}[31m");
        assert_eq!(diagnostic.help.as_deref(), Some("a\\tb"));
        let source = Source::new("x", "\u{feff}a\u{1b}[2J\u{200b}b");
        let text = Diagnostics::from(diagnostic).render(&source, false);
        assert!(text.contains("| a"), "{text}");
        assert!(!text.contains(['\u{feff}', '\u{200b}', '\u{1b}']), "{text}");
    }
}
