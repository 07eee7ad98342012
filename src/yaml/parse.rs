// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text to tree, with the parser's errors said in words that help.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::budget::BudgetBreach;
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_yaml::{Error, Location, Spanned};

use super::{Diagnostic, Diagnostics, Key, Node, Source, Span, Value};

/// No file that a person writes comes near these. They keep a hostile file cheap: in particular,
/// aliases cannot blow up, and nesting cannot exhaust the stack.
const MAX_BYTES: usize = 1 << 20;
const MAX_NODES: usize = 10_000;
const MAX_DEPTH: usize = 16;
const MAX_REPLAYED: usize = 1_000;
const MAX_ANCHORED_BYTES: usize = 64 << 10;

/// Parses one YAML document.
///
/// # Errors
///
/// What is not YAML, or not the part of it that the lab accepts: duplicate keys, merge keys,
/// several documents, and files that are far too large.
pub fn parse(source: &Source) -> Result<Node, Diagnostics> {
    if source.text.len() > MAX_BYTES {
        let message = format!("this file has {} bytes", source.text.len());
        let help = format!("a file has {MAX_BYTES} bytes at most");
        return Err(Diagnostic::new(Span::default(), message).help(help).into());
    }
    let options = serde_yaml::options! {
        // `yes`, `no`, `on` and `off` are words; several are good names.
        strict_booleans: true,
        // Duplicates are found below, all of them, with the place of the first.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        budget: serde_yaml::budget! {
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
            max_depth: MAX_DEPTH,
            max_aliases: MAX_REPLAYED,
            max_anchors: MAX_REPLAYED,
            max_recorded_anchor_bytes: MAX_ANCHORED_BYTES,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_replay_stack_depth: 8,
        },
    };
    let raw: Spanned<Raw> = serde_yaml::from_str_with_options(&source.text, options)
        .map_err(|error| Diagnostics::from(reworded(error.without_snippet(), source)))?;
    let mut diagnostics = Diagnostics::new();
    let node = lower(raw, &source.text, &mut diagnostics);
    if diagnostics.is_empty() {
        Ok(node)
    } else {
        Err(diagnostics)
    }
}

/// The tree as the parser gives it.
enum Raw {
    Leaf(Value),
    Float(f64),
    Seq(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Bool(truth)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Int(number.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Int(number.into())))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Int(number)))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
        // Beyond anything a file can mean, and out of every range either way.
        Ok(Raw::Leaf(Value::Int(
            i128::try_from(number).unwrap_or(i128::MAX),
        )))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Str(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn lower(raw: Spanned<Raw>, text: &str, diagnostics: &mut Diagnostics) -> Node {
    let span = byte_span(raw.referenced).unwrap_or_default();
    let value = match raw.value {
        Raw::Leaf(value) => value,
        Raw::Float(number) => Value::Float(as_written(number, span, text)),
        Raw::Seq(items) => {
            let items = items.into_iter();
            let items: Vec<_> = items.map(|item| lower(item, text, diagnostics)).collect();
            for pair in items.windows(2) {
                if let Some(comma) = comma_in_list(&pair[0], &pair[1], text) {
                    diagnostics.push(comma);
                }
            }
            Value::Seq(items)
        }
        Raw::Map(raw) => Value::Map(lower_entries(raw, text, diagnostics)),
    };
    Node { value, span }
}

/// A number as its author wrote it; at an alias, as it is shown.
fn as_written(number: f64, span: Span, text: &str) -> String {
    let written = text.get(span.start..span.end).unwrap_or_default();
    let is_number = written.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match is_number && !written.contains(char::is_whitespace) {
        true => written.to_owned(),
        false => format!("{number:?}"),
    }
}

fn lower_entries(
    raw: Vec<(Spanned<String>, Spanned<Raw>)>,
    text: &str,
    diagnostics: &mut Diagnostics,
) -> Vec<(Key, Node)> {
    let mut seen: HashMap<String, Span> = HashMap::new();
    let mut entries = Vec::with_capacity(raw.len());
    // The number behind a comma that was no separator.
    let mut is_rest = false;
    for (key, value) in raw {
        let span = byte_span(key.referenced).unwrap_or_default();
        let mut node = lower(value, text, diagnostics);
        // `key:` without a value: the value is nowhere, so complain about the key.
        if node.value == Value::Null && node.span.is_empty() {
            node.span = span;
            if let Some(comma) = unquoted_comma(span, text) {
                diagnostics.push(comma);
                is_rest = true;
                continue;
            }
        }
        let name = key.value;
        if std::mem::take(&mut is_rest) && is_position(&name) {
            continue;
        }
        if let Some(first) = seen.get(&name) {
            let diagnostic =
                Diagnostic::new(span, format!("`{name}` stands twice in this mapping"))
                    .label("again here")
                    .related(*first, "first here")
                    .help("remove or rename one of them");
            diagnostics.push(diagnostic);
        } else {
            seen.insert(name.clone(), span);
            entries.push((Key { name, span }, node));
        }
    }
    entries
}

/// `{ stock,1: 20 }` is two entries, `stock` and `1: 20`, which is hardly what was meant. `key` is
/// that of an entry without a value.
fn unquoted_comma(key: Span, text: &str) -> Option<Diagnostic> {
    let before = text.get(..key.start)?;
    let after = text.get(key.end..)?;
    let ends_word = |c: char| c.is_whitespace() || "{}[]:\"'".contains(c);
    let left = before.len() - before.trim_end_matches(|c| !ends_word(c)).len();
    let right = after.find(ends_word).unwrap_or(after.len());
    let around = &text[key.start - left..key.end + right];
    let word = around.trim_start_matches(',');
    let start = key.start - left + (around.len() - word.len());
    let word = word.trim_end_matches(',');
    let span = Span::new(start, start + word.len());
    // A key that has commas itself stands in a block or in quotes, where they are no separators.
    if span == key || !word.contains(',') {
        return spaced_comma(key, text);
    }
    let (name, position) = word.split_once(',')?;
    let bare = name.trim_matches(['"', '\'']);
    Some(separates(
        span,
        text,
        &format!("{bare},{position}"),
        "braces",
    ))
}

/// The same with spaces around the comma.
fn spaced_comma(key: Span, text: &str) -> Option<Diagnostic> {
    let after = text.get(key.end..)?;
    let number = after.trim_start_matches(' ').strip_prefix(',')?;
    let number = number.trim_start_matches(' ');
    let digits = number.find(|c: char| !c.is_ascii_digit())?;
    let (position, rest) = number.split_at(digits);
    let is_entry = is_position(position) && rest.trim_start_matches(' ').starts_with(':');
    is_entry.then(|| {
        let span = Span::new(key.start, text.len() - rest.len());
        let name = &text[key.start..key.end];
        separates(span, text, &format!("{name},{position}"), "braces")
    })
}

/// `[shop.stock,1]` is a list of two.
fn comma_in_list(item: &Node, next: &Node, text: &str) -> Option<Diagnostic> {
    let (Value::Str(name), Value::Int(position)) = (&item.value, &next.value) else {
        return None;
    };
    let between = text.get(item.span.end..next.span.start)?;
    (between == ",").then(|| {
        let span = Span::new(item.span.start, next.span.end);
        separates(span, text, &format!("{name},{position}"), "brackets")
    })
}

fn separates(span: Span, text: &str, meant: &str, within: &str) -> Diagnostic {
    let word = &text[span.start..span.end];
    Diagnostic::new(span, format!("the comma in `{word}` separates two entries")).help(format!(
        "within {within}, write it in quotes: `\"{meant}\"`"
    ))
}

fn is_position(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn byte_span(location: Location) -> Option<Span> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    Some(Span::new(start, start + length))
}

/// The span of an error. The scanner's own errors know lines and columns but no bytes.
fn error_span(location: Option<Location>, text: &str) -> Span {
    let Some(location) = location else {
        return Span::default();
    };
    if let Some(span) = byte_span(location) {
        return span;
    }
    let (Ok(line), Ok(column)) = (
        usize::try_from(location.line()),
        usize::try_from(location.column()),
    ) else {
        return Span::default();
    };
    let mut start = 0;
    for (number, content) in text.split_inclusive('\n').enumerate() {
        if number + 1 == line {
            let offset: usize = content
                .chars()
                .take(column.saturating_sub(1))
                .map(char::len_utf8)
                .sum();
            return Span::new(start + offset, start + offset + 1);
        }
        start += content.len();
    }
    // The error is that the text ends here.
    Span::new(text.len(), text.len())
}

/// The parser speaks of its own options and limits; the author of a file needs other words.
fn reworded(error: &Error, source: &Source) -> Diagnostic {
    // Within an alias, the place of its use is what tells the author most.
    let location = error
        .locations()
        .map(|both| both.reference_location)
        .or(error.location());
    let span = error_span(location, &source.text);
    match error {
        Error::AliasError { error, .. } => reworded(error, source),
        Error::MergeKeyNotAllowed { .. } => {
            Diagnostic::new(span, "merge keys (`<<`) are not supported")
                .help("write the entries out, or use an alias for the whole mapping")
        }
        Error::MultipleDocuments { .. } => {
            Diagnostic::new(span, "a second YAML document starts here")
                .help("a file holds one document; put the other one into a file of its own")
        }
        Error::UnknownAnchor { .. } => Diagnostic::new(span, "this alias has no anchor")
            .help("define it with `&name` before `*name`, or quote text that starts with `*`"),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            Diagnostic::new(span, "this alias contains itself")
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => too_many_aliases(span),
        Error::Budget { breach, .. } => too_large(breach, span),
        // Any value will do; only keys must be text.
        Error::Unexpected { .. } | Error::NullIntoString { .. } => {
            Diagnostic::new(span, "a key must be plain text")
        }
        other => syntax(&other.to_string(), span, &source.text),
    }
}

fn too_many_aliases(span: Span) -> Diagnostic {
    Diagnostic::new(span, "the aliases of this file expand to too much").help(format!(
        "together they stand for {MAX_REPLAYED} values at most"
    ))
}

fn too_large(breach: &BudgetBreach, span: Span) -> Diagnostic {
    match breach {
        BudgetBreach::Depth { .. } => Diagnostic::new(span, "this is nested too deeply")
            .help(format!("{MAX_DEPTH} levels are the most")),
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. } => too_many_aliases(span),
        _ => Diagnostic::new(span, "this file is too large")
            .help(format!("it holds {MAX_NODES} values at most")),
    }
}

/// The first tab from a place on, where the scanner stopped before it.
fn tab_from(span: Span, text: &str) -> Span {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    match text[start..].find('\t') {
        Some(tab) => Span::new(start + tab, start + tab + 1),
        None => span,
    }
}

/// A syntax error: the scanner's words without their position, and help with the usual causes.
fn syntax(message: &str, span: Span, text: &str) -> Diagnostic {
    let message = message.split(" at line ").next().unwrap_or(message);
    let span = match message.contains("tab") {
        true => tab_from(span, text),
        false => span,
    };
    let diagnostic = Diagnostic::new(span, format!("this is not valid YAML: {message}"));
    let line_start = text[..span.caret(text).start]
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    if line.trim_start_matches(' ').starts_with('\t') {
        diagnostic.help("indent with spaces: YAML does not allow tabs here")
    } else {
        diagnostic
    }
}
