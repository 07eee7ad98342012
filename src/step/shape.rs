// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a step looks like: put together from what each kind says of itself.

use std::sync::LazyLock;

use super::SYNTAXES;
use super::details::{PATH, STEP_NAME};
use super::expect::EXPECT;
use super::kind::Syntax;
use crate::yaml::{Field, List, Record, Rule, Shape};

/// The steps of a scenario.
pub(crate) const STEPS: Shape = Shape::List(&List {
    what: "a list of steps",
    example: "[{ load: shop }]",
    item: Shape::Composed(step),
    non_empty: true,
    unique: false,
});

const NAME: Field = Field::optional(
    "name",
    Shape::Text(&STEP_NAME),
    "What the step is called, for `expect_failure`.",
);

const REQUIRES: Field = Field::optional(
    "requires",
    STEP_REQUIRES,
    "What must be there, or else the step is skipped.",
);

const STEP_REQUIRES: Shape = Shape::Record(&Record {
    what: "a requirement of a step",
    example: "{ file: /sys/kernel/livepatch/pricing_v1/stack_order }",
    fields: &[Field::required(
        "file",
        Shape::Text(&PATH),
        "A file that not every kernel has.",
    )],
    rules: &[],
});

const TIMEOUT: Field = Field::optional("timeout", Shape::Duration, "How long the step may take.");

/// The schema is a file that others keep, so what has long been in it stays in its order. All else
/// comes after that.
const DETAILS: &[&str] = &[
    "params",
    "errno",
    "transition",
    "held_in",
    "rights",
    "hammer",
    "count",
    "requires",
    "returns",
    "equals",
    "contains",
    "rejects",
    "data",
    "exists",
    "absent",
    "timeout",
];

/// The same for rules: of what, and which keys exclude each other.
const RULES: &[&str] = &[
    "rejects",
    "params",
    "errno",
    "held_in",
    "rights",
    "stat",
    "rights or errno",
    "hammer",
    "spawn",
    "count",
    "transition",
    "returns",
    "equals",
    "contains",
    "data",
    "write",
    "exists",
    "absent",
    "wait",
    "equals or exists or absent",
    "equals or contains or errno",
    "transition or errno",
];

fn step() -> &'static Record {
    static STEP: LazyLock<Record> = LazyLock::new(|| Record {
        what: "a step",
        example: "load: shop",
        fields: fields().leak(),
        rules: rules().leak(),
    });
    &STEP
}

fn keys() -> impl Iterator<Item = Field> {
    SYNTAXES.iter().filter_map(|syntax| syntax.key)
}

/// What may stand beside the actions, each detail once.
fn details() -> Vec<Field> {
    let mut details: Vec<Field> = vec![REQUIRES, TIMEOUT];
    for detail in SYNTAXES.iter().flat_map(|syntax| syntax.details) {
        if details.iter().all(|known| known.name != detail.name) {
            details.push(*detail);
        }
    }
    details.sort_by_key(|detail| place(DETAILS, detail.name));
    details
}

fn fields() -> Vec<Field> {
    let mut fields = vec![NAME];
    fields.extend(keys());
    fields.push(EXPECT);
    fields.extend(details());
    fields
}

fn rules() -> Vec<Rule> {
    let actions: Vec<_> = keys().map(|key| key.name).collect();
    let mut all = actions.clone();
    all.push(EXPECT.name);
    let mut rules: Vec<(String, Rule)> = Vec::new();
    for detail in details() {
        let takes = |syntax: &&Syntax| syntax.details.iter().any(|it| it.name == detail.name);
        let kinds = SYNTAXES
            .iter()
            .filter(takes)
            .filter_map(|syntax| syntax.key);
        let kinds: Vec<_> = kinds.map(|key| key.name).collect();
        let needs =
            |rule: &Rule| matches!(rule, Rule::Needs { field, .. } if *field == detail.name);
        let explicit = SYNTAXES.iter().any(|syntax| syntax.rules.iter().any(needs));
        if !kinds.is_empty() && !explicit {
            let needs = Rule::Needs {
                field: detail.name,
                one_of: kinds.leak(),
            };
            rules.push((subject(needs), needs));
        }
    }
    for rule in SYNTAXES.iter().flat_map(|syntax| syntax.rules) {
        let subject = subject(*rule);
        if rules.iter().all(|(known, _)| *known != subject) {
            rules.push((subject, *rule));
        }
    }
    rules.sort_by_key(|(subject, _)| place(RULES, subject));
    let first = [
        Rule::AtMostOne(actions.leak()),
        Rule::AtLeastOne(all.leak()),
    ];
    first
        .into_iter()
        .chain(rules.into_iter().map(|(_, rule)| rule))
        .collect()
}

/// What tells one rule from another.
fn subject(rule: Rule) -> String {
    match rule {
        Rule::Needs { field, .. } => field.to_owned(),
        Rule::AtMostOne(names) | Rule::AtLeastOne(names) => names.join(" or "),
    }
}

fn place(order: &[&str], name: &str) -> usize {
    order
        .iter()
        .position(|known| *known == name)
        .unwrap_or(order.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_agree_on_what_they_share() {
        let all = || SYNTAXES.iter().flat_map(|syntax| syntax.details);
        for (detail, other) in all().flat_map(|a| all().map(move |b| (a, b))) {
            if detail.name == other.name {
                assert_eq!(format!("{detail:?}"), format!("{other:?}"));
            }
        }
    }
}
