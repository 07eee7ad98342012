// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an expectation looks like.

use super::super::names;
use super::step::{FUNCTION_REF, MODULES_OR_NONE};
use super::{MODULE, OBJECT, RETURN_VALUE, TAG};
use crate::yaml::{Field, Int, Lexis, List, MapOf, Record, Rule, Shape, Text};

pub(super) const EXPECT: Shape = Shape::Record(&Record {
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
            "What must occur, in this order, in the log lines of the step.",
        ),
        Field::optional(
            "whole_log",
            Shape::List(&WHOLE_LOG),
            "All log lines of the step, word for word.",
        ),
        Field::optional(
            "traced",
            Shape::List(&TRACED),
            "All functions that ftrace's function tracer has seen, in any order.",
        ),
        Field::optional(
            "not_in_log",
            Shape::OneOrMany(&NOT_LOG_LINES),
            "What must not occur in the log lines of the step.",
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

pub(super) const NEEDLE: Text = Text {
    what: "text to look for",
    example: "livepatched",
    lexis: Lexis::NonBlank,
    rule: "is not blank",
};

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
    item: Shape::Text(&super::step::FUNCTION_NAME),
    non_empty: false,
    unique: true,
};

const LOG_LINE: Text = Text {
    what: "a part of a log line",
    example: "patching complete",
    lexis: Lexis::Line,
    rule: "is one line of text",
};
