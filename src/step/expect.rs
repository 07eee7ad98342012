// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a step expects: the data, what it looks like in a file, and what it refers to.

use std::collections::HashMap;

use serde::Serialize;

use super::log_lines;
use crate::klp::shape::{
    FUNCTION_NAME, FUNCTION_REF, MODULE, MODULES_OR_NONE, OBJECT, RETURN_VALUE, TAG,
};
use crate::klp::{FunctionRef, References, lenient_function, names, texts};
use crate::yaml::{
    Diagnostic, Field, Int, Lexis, List, MapOf, Node, Record, Rule, Shape, Span, Text,
};

/// What must be so after a [`Step`]. What is not mentioned may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expect {
    /// The enabled livepatches in stack order, the oldest first.
    pub livepatches: Option<Vec<String>>,
    /// What functions return.
    pub calls: Vec<(FunctionRef, i32)>,
    /// The replace tags of livepatches, as sysfs shows them.
    pub tags: Vec<(String, u32)>,
    /// The targets and livepatches that are loaded, in any order.
    pub modules: Option<Vec<String>>,
    /// Livepatch, object, and whether sysfs calls it patched.
    pub patched: Vec<(String, String, bool)>,
    /// The `stack_order` of livepatches.
    pub stack_order: Vec<(String, u32)>,
    /// The livepatch in transition; the inner `None` if there must be none.
    pub transition: Option<Option<String>>,
    /// The functions with a livepatch's ftrace handler, in any order.
    pub enabled_functions: Option<Vec<FunctionRef>>,
    /// What must occur, in this order, in lines of all that the kernel says in the step.
    pub log: Vec<String>,
    /// All lines of livepatching and of the scenario's modules, but for those that vary.
    pub whole_log: Option<Vec<String>>,
    /// What must not occur in anything that the kernel says in the step.
    pub not_in_log: Vec<String>,
    /// The functions that ftrace's function tracer has seen, in any order.
    pub traced: Option<Vec<String>>,
}

/// In a step.
pub(super) const EXPECT: Field =
    Field::optional("expect", EXPECTATION, "What must be so afterwards.")
        .also(&["assert", "check", "then"]);

const EXPECTATION: Shape = Shape::Record(&Record {
    what: "an expectation",
    example: "{ calls: { shop.price: 12 } }",
    fields: &[
        Field::optional(
            "livepatches",
            Shape::List(&MODULES_OR_NONE),
            "The enabled livepatches in stack order, the oldest first.",
        ),
        Field::optional(
            "calls",
            Shape::MapOf(&MapOf {
                what: "a mapping of functions to return values",
                example: "{ shop.price: 12 }",
                key: &FUNCTION_REF,
                value: Shape::Int(&RETURN_VALUE),
                non_empty: true,
            }),
            "What functions return.",
        ),
        Field::optional(
            "tags",
            Shape::MapOf(&MapOf {
                what: "a mapping of livepatches to replace tags",
                example: "{ pricing-v1: 1 }",
                key: &MODULE,
                value: TAG,
                non_empty: true,
            }),
            "The replace tags that sysfs shows.",
        ),
        Field::optional(
            "modules",
            Shape::List(&MODULES_OR_NONE),
            "The targets and livepatches that are loaded, in any order.",
        ),
        Field::optional(
            "patched",
            Shape::MapOf(&MapOf {
                what: "a mapping of livepatches to their objects",
                example: "{ pricing-v1: { shop: true } }",
                key: &MODULE,
                value: Shape::MapOf(&MapOf {
                    what: "a mapping of objects to `true` or `false`",
                    example: "{ shop: true }",
                    key: &OBJECT,
                    value: Shape::Bool,
                    non_empty: true,
                }),
                non_empty: true,
            }),
            "Whether sysfs shows objects of livepatches as patched.",
        ),
        Field::optional(
            "stack_order",
            Shape::MapOf(&MapOf {
                what: "a mapping of livepatches to their places in the stack",
                example: "{ pricing-v1: 1 }",
                key: &MODULE,
                value: Shape::Int(&STACK_ORDER),
                non_empty: true,
            }),
            "The places in the stack that sysfs shows, the oldest livepatch being 1.",
        ),
        Field::optional(
            "transition",
            Shape::Text(&IN_TRANSITION),
            "The livepatch in transition, or `none`.",
        ),
        Field::optional(
            "enabled_functions",
            Shape::List(&TRACED_FUNCTIONS),
            "All functions with a livepatch's ftrace handler, in any order.",
        ),
        Field::optional(
            "log",
            Shape::OneOrMany(&LOG_LINES),
            "What must occur, in this order, in what the kernel says in the step.",
        ),
        Field::optional(
            "whole_log",
            Shape::List(&WHOLE_LOG),
            "All log lines of livepatching and of the scenario's modules in the step, word for word.",
        ),
        Field::optional(
            "traced",
            Shape::List(&TRACED),
            "All functions that ftrace's function tracer has seen, in any order.",
        ),
        Field::optional(
            "not_in_log",
            Shape::OneOrMany(&NOT_LOG_LINES),
            "What must not occur in anything that the kernel says in the step.",
        ),
    ],
    rules: &[Rule::AtLeastOne(&[
        "livepatches",
        "calls",
        "tags",
        "modules",
        "patched",
        "stack_order",
        "transition",
        "enabled_functions",
        "log",
        "whole_log",
        "traced",
        "not_in_log",
    ])],
});

const STACK_ORDER: Int = Int {
    what: "a place in the stack",
    min: 1,
    max: u32::MAX as i64,
};

const IN_TRANSITION: Text = Text {
    what: "a livepatch or `none`",
    // A livepatch's name is one of a module, and `none` is like one.
    lexis: MODULE.lexis,
    example: "pricing-v1",
    rule: MODULE.rule,
};

/// That there are none can be just the point.
const TRACED_FUNCTIONS: List = List {
    what: "a list of functions",
    example: "[shop.price]",
    item: Shape::Text(&TRACED_FUNCTION),
    non_empty: false,
    unique: true,
};

const TRACED_FUNCTION: Text = Text {
    what: "a function of an object",
    example: "shop.price",
    lexis: Lexis::Custom {
        accepts: |text| {
            text.split_once('.').is_some_and(|(object, function)| {
                OBJECT.lexis.accepts(object) && names::is_function_name(function)
            })
        },
        pattern: r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,54}\.[A-Za-z_][A-Za-z0-9_]{0,127}$",
    },
    rule: "is written object.function, without a position, because ftrace knows none",
};

const LOG_LINES: List = List {
    what: "a list of parts of log lines",
    example: "[patching complete]",
    item: Shape::Text(&LOG_LINE),
    non_empty: true,
    unique: false,
};

const NOT_LOG_LINES: List = List {
    unique: true,
    ..LOG_LINES
};

/// That there are none can be just the point.
const WHOLE_LOG: List = List {
    non_empty: false,
    ..LOG_LINES
};

/// That there are none can be just the point.
const TRACED: List = List {
    what: "a list of functions",
    example: "[cmdline_proc_show]",
    item: Shape::Text(&FUNCTION_NAME),
    non_empty: false,
    unique: true,
};

const LOG_LINE: Text = Text {
    what: "a part of a log line",
    example: "patching complete",
    lexis: Lexis::Line,
    rule: "is one line of text",
};

/// The `expect` of a step.
pub(super) fn read(node: &Node, references: &mut References) -> Expect {
    log_lines::check(node, references);
    let livepatches = node.get("livepatches").map(|list| {
        let items = list.items().iter();
        items.map(|item| references.livepatch_node(item)).collect()
    });
    let calls = node.entries_of("calls").iter().map(|(key, returns)| {
        let function = references.function(&key.name, key.span);
        (
            function.unwrap_or_else(|| lenient_function(&key.name)),
            returns.as_int().unwrap_or_default(),
        )
    });
    let calls = calls.collect();
    let modules = node.get("modules").map(|list| {
        let items = list.items().iter();
        items.map(|item| references.module(item)).collect()
    });
    let mut patched = Vec::new();
    for (livepatch, objects) in node.entries_of("patched") {
        references.livepatch(&livepatch.name, livepatch.span);
        for (object, truth) in objects.entries() {
            let object = references.object(&livepatch.name, object);
            let truth = truth.as_bool().unwrap_or_default();
            patched.push((livepatch.name.clone(), object, truth));
        }
    }
    Expect {
        livepatches,
        calls,
        tags: numbers(node, "tags", references),
        modules,
        patched,
        stack_order: numbers(node, "stack_order", references),
        transition: node
            .get("transition")
            .map(|livepatch| references.livepatch_or_none(livepatch)),
        enabled_functions: node
            .get("enabled_functions")
            .map(|list| enabled_functions(list, references)),
        log: texts(node.get("log")),
        whole_log: node.get("whole_log").map(|list| texts(Some(list))),
        traced: node.get("traced").map(|list| texts(Some(list))),
        not_in_log: texts(node.get("not_in_log")),
    }
}

/// Livepatches and a number of each.
fn numbers(node: &Node, name: &str, references: &mut References) -> Vec<(String, u32)> {
    let entries = node.entries_of(name).iter();
    entries
        .map(|(key, number)| {
            (
                references.livepatch(&key.name, key.span),
                number.as_int().unwrap_or_default(),
            )
        })
        .collect()
}

fn enabled_functions(list: &Node, references: &mut References) -> Vec<FunctionRef> {
    let mut seen: HashMap<FunctionRef, (&str, Span)> = HashMap::new();
    let mut functions = Vec::new();
    for item in list.items() {
        let (Some(written), Some(function)) = (item.as_str(), references.traced_function(item))
        else {
            continue;
        };
        // If both are spelt the same, `check` has said so.
        if let Some((first, span)) = seen.insert(function.clone(), (written, item.span))
            && first != written
        {
            let message = format!("`{first}` and `{written}` are the same function");
            let diagnostic = Diagnostic::new(item.span, message)
                .label("again here")
                .related(span, "first here")
                .note("to the kernel, `-` and `_` in a module's name are the same");
            references.report(diagnostic);
        }
        functions.push(function);
    }
    functions
}
