// SPDX-License-Identifier: MIT OR Apache-2.0
//! What steps of several kinds can say besides their action. What is one kind's own is in its file.

use serde::Serialize;

use crate::klp::Errno;
use crate::klp::names;
use crate::klp::shape::FUNCTION_NAME;
use crate::yaml::{Field, Lexis, Node, OneOf, Rule, Shape, Text};

/// The errno with which it must fail.
pub(super) const ERRNO: Field =
    Field::optional("errno", ERRNOS, "The errno with which the step must fail.")
        .also(&["error", "fails", "err"]);

const ERRNOS: Shape = Shape::OneOf(&OneOf {
    what: "the name of an errno",
    names: &Errno::NAMES,
});

/// The `errno` of a step.
pub(super) fn errno(node: &Node) -> Option<Errno> {
    node.get("errno")
        .and_then(Node::as_str)
        .and_then(Errno::from_name)
}

/// What must become of the transition that a step starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// It completes.
    #[default]
    Completes,
    /// It stays open, and only for the tasks in functions that are held.
    Held,
    /// It stays open, and only for tasks that are in this function, which is not one of a target.
    HeldIn(String),
    /// There is none of its own to wait for: a target is loaded.
    None,
}

/// What must become of the transition; [`TRANSITION_RULES`] go with it.
pub(super) const TRANSITION: Field = Field::optional(
    "transition",
    TRANSITIONS,
    "What must become of the transition; it completes by default, and stays open if held.",
);

const TRANSITIONS: Shape = Shape::OneOf(&OneOf {
    what: "an outcome of a transition",
    names: &["completes", "held"],
});

/// Goes with [`TRANSITION`].
pub(super) const HELD_IN: Field = Field::optional(
    "held_in",
    Shape::Text(&FUNCTION_NAME),
    "The function that holds the transition, if it is not held by a `hold` step.",
);

/// What fails starts no transition.
pub(super) const TRANSITION_RULES: &[Rule] = &[
    Rule::Needs {
        field: "held_in",
        one_of: &["transition"],
    },
    Rule::AtMostOne(&["transition", "errno"]),
];

/// What a file holds.
pub(super) const EQUALS: Field = Field::optional(
    "equals",
    Shape::Text(&CONTENT),
    "What the file must hold, without the newline at its end.",
);

const CONTENT: Text = Text {
    what: "text",
    example: "\"1\"",
    lexis: Lexis::Any,
    rule: "is any text",
};

pub(super) const PATH: Text = Text {
    what: "a path that a step may use",
    example: "/proc/cmdline",
    lexis: Lexis::Custom {
        accepts: names::is_kernel_path,
        pattern: r"^/(proc|sys|dev)/[^\s\u0000-\u001f\u007f]+$",
    },
    rule: "is absolute, without white space, and within /proc, /sys or /dev \
           (only there does the kernel itself answer)",
};

pub(super) const DATA: Text = Text {
    what: "data that a step can write",
    example: "\"1\"",
    lexis: Lexis::Custom {
        accepts: names::is_data,
        pattern: r"^[^\t\n\u0000]{0,4096}$",
    },
    rule: "has no newlines, tabs and other invisible characters, and 4096 characters at most",
};

/// What to look for.
pub(super) const NEEDLE: Text = Text {
    what: "text to look for",
    example: "livepatched",
    lexis: Lexis::NonBlank,
    rule: "is not blank",
};

/// The name of a step.
pub(crate) const STEP_NAME: Text = Text {
    what: "the name of a step",
    example: "in-the-window",
    lexis: Lexis::Word {
        first: "a-z",
        rest: "a-z0-9-",
        max: 40,
    },
    rule: "starts with a lower-case letter, goes on with those, digits and `-`, \
           and has 40 characters at most",
};

/// What spawned processes are called.
pub(super) const PROCESSES: Text = Text {
    what: "a name for processes",
    example: "hammers",
    ..STEP_NAME
};
