// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file must look like, as data: the one table behind [`check`](super::check) and
//! [`json_schema`](super::json_schema).
//!
//! Every entry says what it is (`what`, with its article: "a replace tag") and shows an example,
//! because that is what an error message needs.

use crate::visible::is_hidden;

/// What a node must be.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// `true`, and nothing else: a key whose presence is the statement.
    True,
    /// A whole number within bounds.
    Int(&'static Int),
    /// Text.
    Text(&'static Text),
    /// A time span such as `30s`.
    Duration,
    /// One of a few names.
    OneOf(&'static OneOf),
    /// A list.
    List(&'static List),
    /// A list, or one item without the brackets.
    OneOrMany(&'static List),
    /// A mapping whose keys the author chooses.
    MapOf(&'static MapOf),
    /// A mapping with fixed keys.
    Record(&'static Record),
    /// A mapping with fixed keys that is put together when it is first needed.
    Composed(fn() -> &'static Record),
    /// Whichever of these fits; they differ in their YAML type.
    Any(&'static [Shape]),
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Int {
    /// "a replace tag".
    pub what: &'static str,
    /// The smallest that is allowed.
    pub min: i64,
    /// The largest that is allowed.
    pub max: i64,
}

/// Text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// "a kernel module name".
    pub what: &'static str,
    /// A text that is right.
    pub example: &'static str,
    /// Which texts are right.
    pub lexis: Lexis,
    /// The same in words, to follow `what`: "is one line without control characters".
    pub rule: &'static str,
}

/// Which texts are right.
#[derive(Clone, Copy, Debug)]
pub enum Lexis {
    /// All of them, even the empty one.
    Any,
    /// Any but an empty one or one of nothing but white space.
    NonBlank,
    /// One non-blank line without characters that nobody sees.
    Line,
    /// A word over character classes in the notation of regular expressions: `a-z0-9_-`.
    Word {
        /// What it may start with.
        first: &'static str,
        /// What may follow.
        rest: &'static str,
        /// How many characters it may have.
        max: usize,
    },
    /// What a function accepts.
    Custom {
        /// Whether a text is right.
        accepts: fn(&str) -> bool,
        /// An ECMA 262 pattern for the schema, at least as permissive.
        pattern: &'static str,
    },
    /// What a function finds no problem with.
    Judged {
        /// What is wrong with a text, as a message.
        problem: fn(&str) -> Option<String>,
        /// An ECMA 262 pattern for the schema, at least as permissive.
        pattern: &'static str,
    },
}

/// One of a few names.
#[derive(Clone, Copy, Debug)]
pub struct OneOf {
    /// "an architecture".
    pub what: &'static str,
    /// The names.
    pub names: &'static [&'static str],
}

/// A list of like items.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// "a list of kernel modules".
    pub what: &'static str,
    /// A list that is right, in flow style.
    pub example: &'static str,
    /// What each item must be.
    pub item: Shape,
    /// Whether it must have an item at all.
    pub non_empty: bool,
    /// Whether an item (a text) may stand in it only once.
    pub unique: bool,
}

/// A mapping whose keys the author chooses.
#[derive(Clone, Copy, Debug)]
pub struct MapOf {
    /// "the functions of a target".
    pub what: &'static str,
    /// A mapping that is right, in flow style.
    pub example: &'static str,
    /// What each key must be.
    pub key: &'static Text,
    /// What each value must be.
    pub value: Shape,
    /// Whether it must have an entry at all.
    pub non_empty: bool,
}

/// A mapping with fixed keys.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// "a step".
    pub what: &'static str,
    /// A mapping that is right, in flow style.
    pub example: &'static str,
    /// The keys.
    pub fields: &'static [Field],
    /// Which of them go together.
    pub rules: &'static [Rule],
}

/// A key of a [`Record`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What its value must be.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What it is for, as a sentence for editors and for the error when it is missing.
    pub doc: &'static str,
    /// Words that people write for it: the names of commands, for example.
    pub also: &'static [&'static str],
}

impl Field {
    /// A key that must be there.
    #[must_use]
    pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self {
            name,
            shape,
            required: true,
            doc,
            also: &[],
        }
    }

    /// A key that may be absent.
    #[must_use]
    pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self {
            name,
            shape,
            required: false,
            doc,
            also: &[],
        }
    }

    /// The same key, for which people also write these words.
    #[must_use]
    pub const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }
}

/// Which keys of a [`Record`] go together.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// These exclude each other.
    AtMostOne(&'static [&'static str]),
    /// One of these must be there.
    AtLeastOne(&'static [&'static str]),
    /// A key makes sense only beside one of these.
    Needs {
        /// The key.
        field: &'static str,
        /// Those of which one must be there too.
        one_of: &'static [&'static str],
    },
}

impl Shape {
    /// The thing in words, with its article.
    #[must_use]
    pub fn what(self) -> String {
        match self {
            Self::Bool => "`true` or `false`".to_owned(),
            Self::True => "`true`".to_owned(),
            Self::Int(int) => int.what.to_owned(),
            Self::Text(text) => text.what.to_owned(),
            Self::Duration => "a duration".to_owned(),
            Self::OneOf(one_of) => one_of.what.to_owned(),
            Self::List(list) => list.what.to_owned(),
            Self::OneOrMany(list) => format!("{} or {}", list.item.what(), list.what),
            Self::MapOf(map) => map.what.to_owned(),
            Self::Record(record) => record.what.to_owned(),
            Self::Composed(record) => record().what.to_owned(),
            Self::Any(shapes) => shapes
                .iter()
                .map(|shape| shape.what())
                .collect::<Vec<_>>()
                .join(" or "),
        }
    }

    /// The thing as it would be written in a file.
    #[must_use]
    pub fn example(self) -> String {
        match self {
            Self::Bool | Self::True => "true".to_owned(),
            Self::Int(int) => 1.clamp(int.min, int.max).to_string(),
            Self::Text(text) => text.example.to_owned(),
            Self::Duration => "30s".to_owned(),
            Self::OneOf(one_of) => one_of.names.first().copied().unwrap_or_default().to_owned(),
            Self::List(list) | Self::OneOrMany(list) => list.example.to_owned(),
            Self::MapOf(map) => map.example.to_owned(),
            Self::Record(record) => record.example.to_owned(),
            Self::Composed(record) => record().example.to_owned(),
            Self::Any(shapes) => shapes
                .first()
                .map(|shape| shape.example())
                .unwrap_or_default(),
        }
    }
}

impl Lexis {
    /// Whether a text is right.
    #[must_use]
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::NonBlank => !text.trim().is_empty(),
            Self::Line => !text.trim().is_empty() && !text.chars().any(is_hidden),
            Self::Word { first, rest, max } => {
                let mut chars = text.chars();
                chars.next().is_some_and(|c| in_class(first, c))
                    && chars.all(|c| in_class(rest, c))
                    && text.chars().count() <= max
            }
            Self::Custom { accepts, .. } => accepts(text),
            Self::Judged { problem, .. } => problem(text).is_none(),
        }
    }

    /// The right texts as an ECMA 262 pattern, unless all are right.
    #[must_use]
    pub fn pattern(self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::NonBlank => Some(r"\S".to_owned()),
            Self::Line => Some(r"^(?=.*\S)[^\u0000-\u001f\u007f-\u009f]*$".to_owned()),
            Self::Word { first, rest, max } => Some(format!(
                "^[{first}][{rest}]{{0,{}}}$",
                max.saturating_sub(1)
            )),
            Self::Custom { pattern, .. } | Self::Judged { pattern, .. } => Some(pattern.to_owned()),
        }
    }
}

/// Whether a character is in a class such as `A-Za-z_-`. A final `-` stands for itself.
fn in_class(class: &str, c: char) -> bool {
    let mut rest = class;
    while let Some(low) = rest.chars().next() {
        rest = &rest[low.len_utf8()..];
        let high = rest
            .strip_prefix('-')
            .and_then(|after| after.chars().next());
        if let Some(high) = high {
            rest = &rest[1 + high.len_utf8()..];
        }
        if (low..=high.unwrap_or(low)).contains(&c) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_ranges_and_single_characters() {
        for c in ['a', 'q', 'z', '0', '9', '_', '-'] {
            assert!(in_class("a-z0-9_-", c), "{c}");
        }
        for c in ['A', '.', ' ', '\t', 'é'] {
            assert!(!in_class("a-z0-9_-", c), "{c}");
        }
    }

    #[test]
    fn a_word_is_checked_and_described_from_the_same_classes() {
        let word = Lexis::Word {
            first: "a-z",
            rest: "a-z0-9",
            max: 3,
        };
        assert!(word.accepts("a") && word.accepts("ab1"));
        assert!(!word.accepts("") && !word.accepts("1a") && !word.accepts("abcd"));
        assert_eq!(word.pattern().as_deref(), Some("^[a-z][a-z0-9]{0,2}$"));
    }

    #[test]
    fn a_line_has_no_control_characters() {
        assert!(Lexis::Line.accepts("a b é"));
        assert!(
            !Lexis::Line.accepts("a\tb")
                && !Lexis::Line.accepts("a\n")
                && !Lexis::Line.accepts(" ")
        );
    }
}
