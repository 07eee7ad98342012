// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds a tree against a [`Shape`] and reports everything that does not fit.

use std::collections::HashMap;

use super::{
    Diagnostic, Diagnostics, Field, Key, Lexis, List, MapOf, Node, Record, Rule, Shape, Text,
    Value, did_you_mean,
};

/// Reports each place where a tree does not have a shape.
pub fn check(shape: Shape, node: &Node, diagnostics: &mut Diagnostics) {
    Checker { diagnostics }.node(shape, node, "this file");
}

/// Reads the `version` of a file, which comes first: nothing can be said of a file in a format
/// that is not known.
///
/// # Errors
///
/// The file is empty, no mapping, has no version, or a version other than `supported`.
pub fn require_version(node: &Node, what: &str, supported: i64) -> Result<(), Diagnostics> {
    let help = format!("start the file with `version: {supported}`");
    let error = match (&node.value, node.get("version")) {
        (Value::Null, _) => Diagnostic::new(
            node.span,
            format!("this file is empty, where {what} is expected"),
        ),
        (Value::Map(_), Some(version)) => {
            if version.as_int::<i64>() == Some(supported) {
                return Ok(());
            }
            let message = format!("the version of this file is {}", version.found());
            let help = format!("this lab reads version {supported}");
            return Err(Diagnostic::new(version.span, message).help(help).into());
        }
        (Value::Map(_), None) => Diagnostic::new(node.span, format!("{what} needs `version`")),
        _ => {
            let message = format!("{what} is a mapping, but this file is {}", node.found());
            Diagnostic::new(node.span, message)
        }
    };
    Err(error.help(help).into())
}

/// How many characters of a file a message quotes.
const QUOTED: usize = 128;

/// How many names a message lists before it gets unreadable.
const LISTED: usize = 24;

struct Checker<'a> {
    diagnostics: &'a mut Diagnostics,
}

impl Checker<'_> {
    /// `subject` is what a message calls the node: "`tag`", "an item of `unload`".
    fn node(&mut self, shape: Shape, node: &Node, subject: &str) {
        match (shape, &node.value) {
            (Shape::Bool, Value::Bool(_)) | (Shape::True, Value::Bool(true)) => {}
            (Shape::Int(int), Value::Int(number)) => {
                if !(i128::from(int.min)..=i128::from(int.max)).contains(number) {
                    let message = if int.min == int.max {
                        format!("{} is {}", int.what, int.min)
                    } else {
                        format!("{} is a number from {} to {}", int.what, int.min, int.max)
                    };
                    self.report(Diagnostic::new(node.span, message));
                }
            }
            (Shape::Text(text), Value::Str(value)) => self.text(text, value, node, subject),
            (Shape::Duration, Value::Str(_)) if node.as_duration().is_some() => {}
            (Shape::OneOf(one_of), Value::Str(name)) => {
                if !one_of.names.contains(&name.as_str()) {
                    let message = format!("`{name}` is not {}", one_of.what);
                    let names = one_of.names.iter().copied();
                    let help = did_you_mean(name, "it is one of", names);
                    self.report(Diagnostic::new(node.span, message).maybe_help(help));
                }
            }
            (Shape::List(list) | Shape::OneOrMany(list), Value::Seq(items)) => {
                self.list(list, items, node, subject);
            }
            (Shape::OneOrMany(list), value) if fits(list.item, value) => {
                self.node(list.item, node, subject);
            }
            (Shape::MapOf(map), Value::Map(entries)) => self.map(map, entries, node, subject),
            (Shape::Record(record), Value::Map(entries)) => self.record(record, entries, node),
            (Shape::Composed(record), Value::Map(entries)) => self.record(record(), entries, node),
            (Shape::Any(shapes), value) => match shapes.iter().find(|s| fits(**s, value)) {
                Some(shape) => self.node(*shape, node, subject),
                None => self.mismatch(shape, node, subject),
            },
            _ => self.mismatch(shape, node, subject),
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn mismatch(&mut self, shape: Shape, node: &Node, subject: &str) {
        let message = match node.value {
            Value::Null => format!("{subject} has no value, where {} is expected", shape.what()),
            _ => format!("{subject} must be {}, not {}", shape.what(), node.found()),
        };
        let help = as_meant(shape, &node.value)
            .unwrap_or_else(|| format!("for example `{}`", shape.example()));
        self.report(Diagnostic::new(node.span, message).help(help));
    }

    fn text(&mut self, text: &Text, value: &str, node: &Node, subject: &str) {
        if text.lexis.accepts(value) {
            return;
        }
        let problem = match text.lexis {
            Lexis::Judged { problem, .. } => problem(value),
            _ => None,
        };
        let message = if value.is_empty() {
            format!("{subject} is empty")
        } else if let Some(problem) = problem {
            problem
        } else if matches!(text.lexis, Lexis::NonBlank | Lexis::Line)
            || value.contains('\n')
            || value.chars().count() > QUOTED
        {
            format!("{subject} is not {}", text.what)
        } else {
            format!("`{value}` is not {}", text.what)
        };
        let help = format!(
            "{} {}, for example `{}`",
            text.what, text.rule, text.example
        );
        self.report(Diagnostic::new(node.span, message).help(help));
    }

    fn list(&mut self, list: &List, items: &[Node], node: &Node, subject: &str) {
        if items.is_empty() && list.non_empty {
            let help = format!("for example `{}`", list.example);
            self.report(Diagnostic::new(node.span, format!("{subject} is empty")).help(help));
        }
        let item_subject = format!("an item of {subject}");
        let mut seen = HashMap::new();
        for item in items {
            self.node(list.item, item, &item_subject);
            if let (true, Some(name)) = (list.unique, item.as_str())
                && let Some(first) = seen.insert(name, item.span)
            {
                let diagnostic =
                    Diagnostic::new(item.span, format!("`{name}` stands twice in this list"))
                        .label("again here")
                        .related(first, "first here");
                self.report(diagnostic);
            }
        }
    }

    fn map(&mut self, map: &MapOf, entries: &[(Key, Node)], node: &Node, subject: &str) {
        if entries.is_empty() && map.non_empty {
            let help = format!("for example `{}`", map.example);
            self.report(Diagnostic::new(node.span, format!("{subject} is empty")).help(help));
        }
        for (key, value) in entries {
            let as_node = Node {
                value: Value::Str(key.name.clone()),
                span: key.span,
            };
            self.node(Shape::Text(map.key), &as_node, "this key");
            self.node(map.value, value, &format!("`{}`", key.name));
        }
    }

    fn record(&mut self, record: &Record, entries: &[(Key, Node)], node: &Node) {
        for (key, value) in entries {
            match record.fields.iter().find(|field| field.name == key.name) {
                Some(field) => self.node(field.shape, value, &format!("`{}`", key.name)),
                None => self.unknown_key(record, key),
            }
        }
        for field in record.fields {
            if field.required && node.get(field.name).is_none() {
                self.missing_key(record, field, node);
            }
        }
        for rule in record.rules {
            self.rule(*rule, record, node);
        }
    }

    fn unknown_key(&mut self, record: &Record, key: &Key) {
        let mut fields = record.fields.iter();
        let also = fields.find(|field| field.also.contains(&key.name.as_str()));
        let help = match also {
            Some(field) => Some(format!("here, that is `{}`", field.name)),
            None => {
                let names = record.fields.iter().map(|field| field.name);
                did_you_mean(&key.name, "known keys", names)
            }
        };
        let message = format!("`{}` is not a key of {}", key.name, record.what);
        self.report(Diagnostic::new(key.span, message).maybe_help(help));
    }

    fn missing_key(&mut self, record: &Record, field: &Field, node: &Node) {
        let message = format!("{} needs `{}`", record.what, field.name);
        let help = format!("add `{}: {}`", field.name, field.shape.example());
        self.report(
            Diagnostic::new(node.span, message)
                .note(field.doc)
                .help(help),
        );
    }

    fn rule(&mut self, rule: Rule, record: &Record, node: &Node) {
        let present = |names: &[&str]| -> Vec<Key> {
            let keys = node.entries().iter().map(|(key, _)| key);
            keys.filter(|key| names.contains(&key.name.as_str()))
                .cloned()
                .collect()
        };
        match rule {
            Rule::AtMostOne(names) => {
                let present = present(names);
                let Some((first, others)) = present.split_first() else {
                    return;
                };
                for other in others {
                    let message =
                        format!("`{}` and `{}` exclude each other", first.name, other.name);
                    let diagnostic = Diagnostic::new(other.span, message)
                        .label("or this")
                        .related(first.span, "either this")
                        .help(format!(
                            "{} has one of {}",
                            record.what,
                            listed(names, "or")
                        ));
                    self.report(diagnostic);
                }
            }
            Rule::AtLeastOne(names) => {
                // A key that is not known was most likely meant to be one of these.
                let misspelt = |(key, _): &(Key, Node)| {
                    record.fields.iter().all(|field| field.name != key.name)
                };
                if present(names).is_empty() && !node.entries().iter().any(misspelt) {
                    let message = format!("{} needs one of {}", record.what, listed(names, "or"));
                    let help = format!("for example `{}`", record.example);
                    self.report(Diagnostic::new(node.span, message).help(help));
                }
            }
            Rule::Needs { field, one_of } => {
                if let Some((key, _)) = node.entry(field)
                    && present(one_of).is_empty()
                {
                    let message = format!("`{field}` needs {} beside it", listed(one_of, "or"));
                    self.report(Diagnostic::new(key.span, message));
                }
            }
        }
    }
}

/// How a value of another type is written, if it is clear what is meant.
fn as_meant(shape: Shape, value: &Value) -> Option<String> {
    match (shape, value) {
        (Shape::Any(shapes), _) => shapes.iter().find_map(|shape| as_meant(*shape, value)),
        // Only text is missing here, so quotes are all it takes.
        (Shape::Text(text), Value::Bool(value)) => quoted(text, &value.to_string()),
        (Shape::Text(text), Value::Int(value)) => quoted(text, &value.to_string()),
        (Shape::Text(text), Value::Float(written)) => quoted(text, written),
        (Shape::Int(_), Value::Str(text)) => {
            let number: i128 = text.trim().parse().ok()?;
            Some(format!("leave out the quotes: `{number}`"))
        }
        (Shape::Int(_), Value::Float(written)) => whole(written),
        (Shape::Bool | Shape::True, Value::Str(text)) if ["true", "false"].contains(&&**text) => {
            Some(format!("leave out the quotes: `{text}`"))
        }
        _ => None,
    }
}

fn quoted(text: &Text, value: &str) -> Option<String> {
    let fits = text.lexis.accepts(value);
    fits.then(|| format!("write it in quotes to make it text: `\"{value}\"`"))
}

/// A number that YAML does not take for a whole one, as a whole one.
fn whole(written: &str) -> Option<String> {
    let digits = written.trim_start_matches(['+', '-']);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i128 = written.parse().ok()?;
        return Some(format!(
            "a whole number does not begin with 0: write `{number}`"
        ));
    }
    let number: f64 = written.parse().ok()?;
    let is_whole = number.fract() == 0.0 && number.abs() < 1e15;
    is_whole.then(|| format!("write it without a point or an exponent: `{number:.0}`"))
}

/// Whether a value has the YAML type of a shape, whatever else may be wrong with it.
fn fits(shape: Shape, value: &Value) -> bool {
    match shape {
        Shape::Bool | Shape::True => matches!(value, Value::Bool(_)),
        Shape::Int(_) => matches!(value, Value::Int(_)),
        Shape::Text(_) | Shape::Duration | Shape::OneOf(_) => matches!(value, Value::Str(_)),
        Shape::List(_) => matches!(value, Value::Seq(_)),
        Shape::OneOrMany(list) => matches!(value, Value::Seq(_)) || fits(list.item, value),
        Shape::MapOf(_) | Shape::Record(_) | Shape::Composed(_) => matches!(value, Value::Map(_)),
        Shape::Any(shapes) => shapes.iter().any(|shape| fits(*shape, value)),
    }
}

/// "`a`, `b` or `c`".
fn listed(names: &[&str], conjunction: &str) -> String {
    let mut quoted: Vec<_> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    match quoted.pop() {
        Some(last) if !quoted.is_empty() => {
            format!("{} {conjunction} {last}", quoted.join(", "))
        }
        last => last.unwrap_or_default(),
    }
}
