// SPDX-License-Identifier: MIT OR Apache-2.0
//! A [`Shape`] as a JSON schema (draft 2020-12), for completion and checks in editors.

use serde_json::{Map, Value, json};

use super::{Field, Lexis, List, MapOf, Record, Rule, Shape, Text};

/// The schema of files that have a shape.
#[must_use]
pub fn json_schema(shape: Shape, title: &str, id: &str) -> Value {
    let mut schema = Map::new();
    schema.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("$id".into(), id.into());
    schema.insert("title".into(), title.into());
    schema.extend(of(shape));
    Value::Object(schema)
}

fn of(shape: Shape) -> Map<String, Value> {
    match shape {
        Shape::Bool => object(json!({ "type": "boolean" })),
        Shape::True => object(json!({ "const": true })),
        Shape::Int(int) => {
            object(json!({ "type": "integer", "minimum": int.min, "maximum": int.max }))
        }
        Shape::Text(text) => of_text(text),
        // As parse_duration() reads it.
        Shape::Duration => {
            object(json!({ "type": "string", "pattern": "^0*[1-9][0-9]*(ms|s|m|h)$" }))
        }
        Shape::OneOf(one_of) => object(json!({ "enum": one_of.names })),
        Shape::List(list) => of_list(list),
        Shape::OneOrMany(list) => object(json!({ "anyOf": [of(list.item), of_list(list)] })),
        Shape::MapOf(map) => of_map(map),
        Shape::Record(record) => of_record(record),
        Shape::Composed(record) => of_record(record()),
        Shape::Any(shapes) => {
            object(json!({ "anyOf": shapes.iter().map(|s| of(*s)).collect::<Vec<_>>() }))
        }
    }
}

/// The members of a literal that is known to be an object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => Map::from_iter([("const".to_owned(), other)]),
    }
}

fn of_text(text: &Text) -> Map<String, Value> {
    let mut schema = object(json!({ "type": "string" }));
    if let Some(pattern) = text.lexis.pattern() {
        schema.insert("pattern".into(), pattern.into());
    }
    if !matches!(text.lexis, Lexis::Any) {
        schema.insert("examples".into(), json!([text.example]));
    }
    schema
}

fn of_list(list: &List) -> Map<String, Value> {
    let mut schema = object(json!({ "type": "array", "items": of(list.item) }));
    if list.non_empty {
        schema.insert("minItems".into(), 1.into());
    }
    if list.unique {
        schema.insert("uniqueItems".into(), true.into());
    }
    schema
}

fn of_map(map: &MapOf) -> Map<String, Value> {
    let mut schema = object(json!({
        "type": "object",
        "propertyNames": of_text(map.key),
        "additionalProperties": of(map.value),
    }));
    if map.non_empty {
        schema.insert("minProperties".into(), 1.into());
    }
    schema
}

fn of_record(record: &Record) -> Map<String, Value> {
    let properties: Map<_, _> = record.fields.iter().map(of_field).collect();
    let required: Vec<_> = record
        .fields
        .iter()
        .filter(|f| f.required)
        .map(|f| f.name)
        .collect();
    let mut schema = object(json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    }));
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    let rules: Vec<_> = record.rules.iter().map(|rule| of_rule(*rule)).collect();
    if !rules.is_empty() {
        schema.insert("allOf".into(), rules.into());
    }
    schema
}

fn of_field(field: &Field) -> (String, Value) {
    let mut schema = object(json!({ "description": field.doc }));
    schema.extend(of(field.shape));
    (field.name.to_owned(), Value::Object(schema))
}

fn of_rule(rule: Rule) -> Value {
    let any = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| json!({ "required": [name] }))
            .collect()
    };
    match rule {
        Rule::AtMostOne(names) => {
            let pairs: Value = names
                .iter()
                .enumerate()
                .flat_map(|(at, a)| {
                    names[at + 1..]
                        .iter()
                        .map(move |b| json!({ "required": [a, b] }))
                })
                .collect();
            json!({ "not": { "anyOf": pairs } })
        }
        Rule::AtLeastOne(names) => json!({ "anyOf": any(names) }),
        Rule::Needs { field, one_of } => {
            json!({ "dependentSchemas": { field: { "anyOf": any(one_of) } } })
        }
    }
}
