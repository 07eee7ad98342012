// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree that a YAML file becomes, and the accessors that lower it to a model.

use std::time::Duration;

use super::Span;

/// A value and where it stands. For an alias (`*name`) that is the place where it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it is; empty for block mappings and sequences, see [`Span::caret`].
    pub span: Span,
}

/// A YAML value. Mappings keep the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`; not `yes` or `on`, which are text.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number, as it is written: `1.0`, `011`.
    Float(String),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping. [`super::parse`] guarantees that no key stands twice.
    Map(Vec<(Key, Node)>),
}

/// The key of a mapping's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key's text; that of a number or a boolean is as it was written.
    pub name: String,
    /// Where it is.
    pub span: Span,
}

/// The accessors answer for the type they are named after and are empty-handed for any other:
/// [`super::check`] has already complained about those, and lowering goes on to find more.
impl Node {
    /// The value under a key of this mapping.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|(_, value)| value)
    }

    /// The entry with this key, for diagnostics about the key itself.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        self.entries()
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(key, value)| (key, value))
    }

    /// The entries of this mapping in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[(Key, Self)] {
        if let Value::Map(entries) = &self.value {
            entries
        } else {
            &[]
        }
    }

    /// The entries of the mapping under a key; none if the key is absent.
    #[must_use]
    pub fn entries_of(&self, name: &str) -> &[(Key, Self)] {
        self.get(name).map_or(&[], Self::entries)
    }

    /// The items of this list.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        if let Value::Seq(items) = &self.value {
            items
        } else {
            &[]
        }
    }

    /// The items of this list, or this very node: for [`super::Shape::OneOrMany`].
    #[must_use]
    pub fn one_or_many(&self) -> &[Self] {
        match &self.value {
            Value::Seq(items) => items,
            Value::Null => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// This text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// This whole number, if it fits.
    #[must_use]
    pub fn as_int<T: TryFrom<i128>>(&self) -> Option<T> {
        if let Value::Int(number) = self.value {
            T::try_from(number).ok()
        } else {
            None
        }
    }

    /// This boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(truth) = self.value {
            Some(truth)
        } else {
            None
        }
    }

    /// This text as a duration, such as `30s`.
    #[must_use]
    pub fn as_duration(&self) -> Option<Duration> {
        self.as_str().and_then(parse_duration)
    }

    /// What this is, in words for a diagnostic: "the number 5", "a list".
    #[must_use]
    pub fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(truth) => format!("the boolean `{truth}`"),
            Value::Int(number) => format!("the number {number}"),
            Value::Float(written) => format!("the number {written}"),
            Value::Str(text) if text.is_empty() => "empty text".to_owned(),
            Value::Str(text) if text.contains('\n') || text.chars().count() > 40 => {
                "text".to_owned()
            }
            Value::Str(text) => format!("the text `{text}`"),
            Value::Seq(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The longest duration that a file can ask for: nothing in a lab run takes a day.
const LONGEST: Duration = Duration::from_hours(24);

/// Reads a duration: a whole number with the unit `ms`, `s`, `m` or `h`, above 0, up to a day.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("24h"), Some(LONGEST));
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "0s",
            "30 s",
            "25h",
            "99999999999999999999h",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
