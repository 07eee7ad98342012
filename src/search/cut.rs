// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cutting parts out of a YAML text, so that what is left is as its author wrote it. Pure.
//!
//! A cut is only as good as its proof: what is left is parsed, and must be the tree without those
//! parts. Where an alias or an unusual layout stands in the way, there is no cut.

use std::ops::Range;

use serde_json::Value as Json;

use crate::step::is_action;
use crate::yaml::{self, Node, Source, Value};

/// A step of the way from a file's root to a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An item of a list, from 0.
    Item(usize),
    /// An entry of a mapping.
    Key(String),
}

/// The way from a file's root to a part of it.
pub type Path = Vec<Part>;

/// What a text says, without how it says it; `None` if it is no YAML.
pub fn content(text: &str) -> Option<Json> {
    parse(text).map(|root| json(&root))
}

/// `text` without the parts at `paths`, their comments with them. A list or a mapping of which
/// nothing would be left goes, too, and so does a step without its action. `None` if they cannot be
/// cut out cleanly.
pub fn without(text: &str, paths: &[Path]) -> Option<String> {
    let root = parse(text)?;
    let mut paths = whole(&root, paths);
    // From the end, so that the way to what comes before does not change.
    paths.sort();
    let mut wanted = json(&root);
    let mut text = text.to_owned();
    for path in paths.iter().rev() {
        take(&mut wanted, path)?;
        let range = range(&text, &parse(&text)?, path)?;
        text.replace_range(range, "");
    }
    let tidy = tidy(&text);
    let fits = |text: &String| content(text).as_ref() == Some(&wanted);
    [tidy, text].into_iter().find(fits)
}

fn parse(text: &str) -> Option<Node> {
    yaml::parse(&Source::new("", text)).ok()
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::from(*truth),
        Value::Int(number) => match i64::try_from(*number) {
            Ok(number) => Json::from(number),
            Err(_) => Json::from(number.to_string()),
        },
        Value::Float(written) => Json::from(written.as_str()),
        Value::Str(text) => Json::from(text.as_str()),
        Value::Seq(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, node)| (key.name.clone(), json(node)));
            Json::Object(entries.collect())
        }
    }
}

/// Takes a part out of what is wanted.
fn take(json: &mut Json, path: &[Part]) -> Option<()> {
    let (last, way) = path.split_last()?;
    let mut at = json;
    for part in way {
        at = match part {
            Part::Item(index) => at.get_mut(*index)?,
            Part::Key(key) => at.get_mut(key)?,
        };
    }
    match last {
        Part::Item(index) => {
            let items = at.as_array_mut()?;
            (*index < items.len()).then(|| items.remove(*index))?;
        }
        Part::Key(key) => drop(at.as_object_mut()?.shift_remove(key)?),
    }
    Some(())
}

fn child<'a>(node: &'a Node, part: &Part) -> Option<&'a Node> {
    match part {
        Part::Item(index) => node.items().get(*index),
        Part::Key(key) => node.get(key),
    }
}

fn find<'a>(root: &'a Node, path: &[Part]) -> Option<&'a Node> {
    path.iter().try_fold(root, child)
}

/// The paths without those below another one, and with a collection in place of all that is in it.
fn whole(root: &Node, paths: &[Path]) -> Vec<Path> {
    let mut paths = paths.to_vec();
    loop {
        paths.sort();
        // An ancestor sorts before what is below it.
        paths.dedup_by(|path, before| path.starts_with(before));
        let emptied = paths.iter().find_map(|path| {
            let (_, parent) = path.split_last()?;
            let node = find(root, parent)?;
            let inside = paths
                .iter()
                .filter(|other| other.len() == path.len() && other.starts_with(parent));
            let all = node.items().len() + node.entries().len();
            (!parent.is_empty() && inside.count() == all).then(|| parent.to_vec())
        });
        let Some(mut emptied) = emptied else {
            return paths;
        };
        // A step without its action is none.
        if let [Part::Key(_), Part::Item(_), Part::Key(key)] = &emptied[..]
            && is_action(key)
        {
            emptied.pop();
        }
        paths.push(emptied);
    }
}

/// Where a part is in the text, with what separates it from the others.
fn range(text: &str, root: &Node, path: &[Part]) -> Option<Range<usize>> {
    let (last, way) = path.split_last()?;
    let parent = find(root, way)?;
    let (index, start) = match last {
        Part::Item(index) => (*index, parent.items().get(*index)?.span.start),
        Part::Key(name) => {
            let mut entries = parent.entries().iter();
            let index = entries.position(|(key, _)| key.name == *name)?;
            (index, parent.entries()[index].0.span.start)
        }
    };
    if let Some(open) = opening(text, parent.span.start) {
        let (items, close) = flow(text, open)?;
        return match items.len() {
            1 => Some(open + 1..close),
            count if index + 1 < count => Some(items[index].start..items[index + 1].start),
            _ => Some(items.get(index.checked_sub(1)?)?.end..items.get(index)?.end),
        };
    }
    let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let before = text[line..start].trim_end_matches(['"', '\'']);
    let indent = before.len() - before.trim_start_matches(' ').len();
    let is_item = matches!(last, Part::Item(_));
    match (is_item, before.trim()) {
        (true, "-") | (false, "") => Some(block(text, line, indent, is_item)),
        // The first entry of an item: the next one takes its place.
        (false, "-") => {
            let next = parent.entries().get(index + 1)?.0.span.start;
            Some(start..next)
        }
        _ => None,
    }
}

/// The bracket that a collection begins with, if it does.
fn opening(text: &str, start: usize) -> Option<usize> {
    let mut at = start;
    if text.get(at..)?.starts_with('&') {
        at += text[at..].find(' ')? + 1;
    }
    text[at..].starts_with(['{', '[']).then_some(at)
}

/// The items between the brackets of which the first is at `open`, and where the other one is.
fn flow(text: &str, open: usize) -> Option<(Vec<Range<usize>>, usize)> {
    let (mut items, mut from, mut depth) = (Vec::new(), open + 1, 0);
    let mut quote = None;
    let mut before = '[';
    for (at, c) in text[open..].char_indices().map(|(at, c)| (open + at, c)) {
        // `'it''s'` goes on after its second quote.
        let goes_on = c == '\'' && before == c;
        let starts_word = goes_on || before.is_whitespace() || "[{,:".contains(before);
        match (quote, c) {
            // A comment is a quote that ends with its line.
            (Some('#'), '\n') => quote = None,
            (Some(open), _) if c == open && open != '#' && (open == '\'' || before != '\\') => {
                quote = None;
            }
            (Some(_), _) => {}
            (None, '"' | '\'') if starts_word => quote = Some(c),
            (None, '#') if before.is_whitespace() => quote = Some('#'),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']' | ',') => {
                depth -= usize::from(c != ',');
                if depth == usize::from(c == ',') {
                    items.push(trimmed(text, from..at));
                    from = at + 1;
                }
                if depth == 0 {
                    // `[a, b, ]`
                    items.retain(|item| !item.is_empty());
                    return Some((items, at));
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// The lines of an entry or an item that begins on the line at `start`: those that are indented
/// deeper than it, and the comment right above it.
fn block(text: &str, start: usize, indent: usize, is_item: bool) -> Range<usize> {
    let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut first = start;
    for line in text[..start].split_inclusive('\n').rev() {
        if !line.trim_start().starts_with('#') || depth(line) != indent {
            break;
        }
        first -= line.len();
    }
    let mut lines = text[start..].split_inclusive('\n');
    let mut at = start + lines.next().map_or(0, str::len);
    let mut end = at;
    for line in lines {
        at += line.len();
        let is_list = !is_item && depth(line) == indent && line.trim_start().starts_with("- ");
        if line.trim().is_empty() {
            continue;
        }
        if depth(line) <= indent && !is_list {
            break;
        }
        end = at;
    }
    first..end
}

/// The text without the blank lines that a cut has left: two in a row, at the beginning of a block,
/// and at the end.
fn tidy(text: &str) -> String {
    let mut tidy = String::new();
    let mut before = "";
    for line in text.lines() {
        let opens = before.trim_end().ends_with(':') && !before.trim_start().starts_with('#');
        if !line.trim().is_empty() || !(before.trim().is_empty() || opens) {
            tidy += line;
            tidy.push('\n');
        }
        before = line;
    }
    tidy.truncate(tidy.trim_end().len());
    tidy + "\n"
}

/// The way to a part, written `steps/3/expect`.
#[cfg(test)]
fn path(text: &str) -> Path {
    let part = |part: &str| match part.parse() {
        Ok(index) => Part::Item(index),
        Err(_) => Part::Key(part.to_owned()),
    };
    text.split('/').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, paths: &[&str]) -> Option<String> {
        let paths: Vec<_> = paths.iter().map(|text| path(text)).collect();
        without(text, &paths)
    }

    const TEXT: &str = "\
# Header.
version: 1

targets:
  shop: { functions: { price: 10, \"stock,1\": 20, tax: 'it''s, 3' } }
  depot: { functions: { a: 1 } }

livepatches:
  v1: { tag: 1, patches: { shop: { price: 11 } } }
  c:
    patches:
      vmlinux:
        show:
          body: |
            # not a comment

            return 0;

# Here we go.
steps:
  - load: shop
  # Belongs to the next one,
  # both lines of it.
  - name: first
    load: v1
    expect:
      calls: { shop.price: 11 }
      log: [a, \"b, c\", d]

  # Remains.
  - { write: /x, data: \"0\", errno: EBUSY }
  - unload: [v1, shop]
    expect: { modules: [] }
  - hold: shop.price
";

    #[test]
    fn a_step_goes_with_its_comment_and_nothing_else() {
        let text = cut(TEXT, &["steps/1", "steps/4"]).unwrap();
        let (_, steps) = text.split_once("steps:\n").unwrap();
        insta::assert_snapshot!(steps, @r#"
          - load: shop

          # Remains.
          - { write: /x, data: "0", errno: EBUSY }
          - unload: [v1, shop]
            expect: { modules: [] }
        "#);
        assert!(text.contains("\n# Here we go.\nsteps:"));
    }

    #[test]
    fn what_is_in_braces_goes_with_its_comma() {
        let cuts = [
            (
                "targets/shop/functions/price",
                "{ functions: { \"stock,1\": 20, tax: 'it''s, 3' } }",
            ),
            (
                "targets/shop/functions/stock,1",
                "{ functions: { price: 10, tax: 'it''s, 3' } }",
            ),
            (
                "targets/shop/functions/tax",
                "{ functions: { price: 10, \"stock,1\": 20 } }",
            ),
            ("livepatches/v1/tag", "{ patches: { shop: { price: 11 } } }"),
            ("steps/1/expect/log/1", "log: [a, d]"),
            ("steps/2/errno", "{ write: /x, data: \"0\" }"),
        ];
        for (path, left) in cuts {
            let text = cut(TEXT, &[path]).unwrap();
            assert!(text.contains(left), "{path}:\n{text}");
        }
    }

    #[test]
    fn what_would_be_empty_goes_as_a_whole() {
        let text = cut(TEXT, &["steps/1/expect/calls/shop.price"]).unwrap();
        assert!(text.contains("    expect:\n      log: ["), "{text}");
        let all = [Part::Item(0), Part::Item(1)];
        let unload = |item: &Part| {
            let mut path = path("steps/3/unload");
            path.push(item.clone());
            path
        };
        let paths: Vec<_> = all.iter().map(unload).collect();
        let text = without(TEXT, &paths).unwrap();
        assert!(
            !text.contains("unload") && !text.contains("modules"),
            "{text}"
        );
        let text = cut(TEXT, &["livepatches/c/patches/vmlinux/show/body"]).unwrap();
        assert!(!text.contains("  c:") && text.contains("  v1: {"), "{text}");
    }

    #[test]
    fn the_first_entry_of_a_step_leaves_its_place_to_the_next() {
        let text = cut(TEXT, &["steps/1/name", "steps/1/expect"]).unwrap();
        assert!(
            text.contains("  # both lines of it.\n  - load: v1\n\n  # Remains."),
            "{text}"
        );
    }

    #[test]
    fn block_scalars_and_blank_lines_go_whole() {
        let text = cut(TEXT, &["livepatches/c"]).unwrap();
        assert!(
            text.contains("price: 11 } } }\n\n# Here we go.\nsteps:\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_cut_through_an_alias() {
        let text = "a: &x { p: 1, q: 2 }\nb: *x\n";
        assert_eq!(cut(text, &["b/p"]), None);
        assert_eq!(cut(text, &["a/p"]), None, "the alias would change, too");
        assert_eq!(cut(text, &["a"]), None);
        assert_eq!(cut(text, &["b"]).as_deref(), Some("a: &x { p: 1, q: 2 }\n"));
    }

    #[test]
    fn a_list_that_is_not_indented_goes_with_its_key() {
        let text = "a:\n- x\n- y\nb: 1\n";
        assert_eq!(cut(text, &["a"]).as_deref(), Some("b: 1\n"));
        assert_eq!(cut(text, &["a/0"]).as_deref(), Some("a:\n- y\nb: 1\n"));
    }
}
