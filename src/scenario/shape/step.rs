// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a step looks like.

use super::super::{Errno, Hammer, names};
use super::expect::{EXPECT, NEEDLE};
use super::{MODULE, RETURN_VALUE, STEP_NAME};
use crate::yaml::{Field, Int, Lexis, List, MapOf, OneOf, Record, Rule, Shape, Text};

pub(super) const STEPS: Shape = Shape::List(&List {
    what: "a list of steps",
    example: "[{ load: shop }]",
    item: Shape::Record(&STEP),
    non_empty: true,
    unique: false,
});

const ACTIONS: &[&str] = &[
    "load",
    "disable",
    "reverse",
    "force",
    "unload",
    "hold",
    "release",
    "call",
    "read",
    "write",
    "wait",
    "stat",
    "spawn",
    "kill",
    "trace",
    "dynamic-debug",
    "klp-build",
];

const STEP: Record = Record {
    what: "a step",
    example: "load: shop",
    fields: &[
        Field::optional(
            "name",
            Shape::Text(&STEP_NAME),
            "What the step is called, for `expect_failure`.",
        ),
        Field::optional(
            "load",
            Shape::Text(&MODULE),
            "Load a target or a livepatch.",
        ),
        Field::optional("disable", Shape::Text(&MODULE), "Disable a livepatch."),
        Field::optional(
            "reverse",
            Shape::Text(&MODULE),
            "Reverse a livepatch's transition: write to `enabled` what it is not.",
        ),
        Field::optional(
            "force",
            Shape::Text(&MODULE),
            "Force a livepatch's transition to complete.",
        ),
        Field::optional(
            "unload",
            Shape::OneOrMany(&MODULES),
            "Unload modules in this order.",
        ),
        Field::optional(
            "hold",
            Shape::Text(&FUNCTION_REF),
            "Let a task enter a function of a target and stay in it.",
        ),
        Field::optional(
            "release",
            Shape::Text(&FUNCTION_REF),
            "Let the task leave a function that is held.",
        ),
        Field::optional(
            "call",
            Shape::Text(&FUNCTION_REF),
            "Call a function of a target.",
        ),
        Field::optional("read", Shape::Text(&PATH), "Read a file of the guest."),
        Field::optional("write", Shape::Text(&PATH), "Write a file of the guest."),
        Field::optional("wait", Shape::Text(&PATH), "Wait for a file of the guest."),
        Field::optional(
            "stat",
            Shape::Text(&PATH),
            "Look at the rights of a file of the guest.",
        ),
        Field::optional(
            "spawn",
            Shape::Text(&PROCESSES),
            "Start processes of this name that make a system call over and over.",
        ),
        Field::optional(
            "kill",
            Shape::Text(&PROCESSES),
            "Send SIGTERM to spawned processes, and wait until they have ended.",
        ),
        Field::optional(
            "trace",
            Shape::Text(&TRACED),
            "Start ftrace's function tracer on a function; `none` stops it.",
        ),
        Field::optional(
            "dynamic-debug",
            Shape::OneOrMany(&QUERIES),
            "Turn pr_debug() messages on or off.",
        ),
        Field::optional(
            "klp-build",
            Shape::OneOrMany(&OPTIONS),
            "Give options to the kernel's klp-build, which must accept them; nothing is built.",
        ),
        Field::optional("expect", EXPECT, "What must be so afterwards."),
        Field::optional("params", PARAMS, "Module parameters."),
        Field::optional("errno", ERRNO, "The errno with which the step must fail."),
        Field::optional(
            "transition",
            TRANSITION,
            "What must become of the transition; it completes by default, and stays open if held.",
        ),
        Field::optional(
            "held_in",
            Shape::Text(&FUNCTION_NAME),
            "The function that holds the transition, if it is not held by a `hold` step.",
        ),
        Field::optional(
            "rights",
            Shape::Text(&RIGHTS),
            "The rights as ls shows them.",
        ),
        Field::optional("hammer", HAMMER, "The system call that the processes make."),
        Field::optional(
            "count",
            Shape::Int(&COUNT),
            "How many processes; one for each CPU by default.",
        ),
        Field::optional(
            "requires",
            STEP_REQUIRES,
            "What must be there, or else the step is skipped.",
        ),
        Field::optional(
            "returns",
            Shape::Int(&RETURN_VALUE),
            "What the call must return.",
        ),
        Field::optional(
            "equals",
            Shape::Text(&CONTENT),
            "What the file must hold, but for a final newline.",
        ),
        Field::optional(
            "contains",
            Shape::Text(&NEEDLE),
            "What must occur in the file.",
        ),
        Field::optional(
            "rejects",
            Shape::Text(&NEEDLE),
            "klp-build must reject the options at once, with this in its error.",
        ),
        Field::optional("data", Shape::Text(&DATA), "What is written, all at once."),
        Field::optional("exists", Shape::True, "Wait until the file is there."),
        Field::optional("absent", Shape::True, "Wait until the file is gone."),
        Field::optional("timeout", Shape::Duration, "How long the step may take."),
    ],
    rules: &[
        Rule::AtMostOne(ACTIONS),
        Rule::AtLeastOne(&[
            "load",
            "disable",
            "reverse",
            "force",
            "unload",
            "hold",
            "release",
            "call",
            "read",
            "write",
            "wait",
            "stat",
            "spawn",
            "kill",
            "trace",
            "dynamic-debug",
            "klp-build",
            "expect",
        ]),
        Rule::Needs {
            field: "rejects",
            one_of: &["klp-build"],
        },
        Rule::Needs {
            field: "params",
            one_of: &["load"],
        },
        Rule::Needs {
            field: "errno",
            one_of: &[
                "load", "disable", "reverse", "force", "unload", "read", "write", "stat",
            ],
        },
        Rule::Needs {
            field: "held_in",
            one_of: &["transition"],
        },
        Rule::Needs {
            field: "rights",
            one_of: &["stat"],
        },
        Rule::Needs {
            field: "stat",
            one_of: &["rights", "errno"],
        },
        Rule::AtMostOne(&["rights", "errno"]),
        Rule::Needs {
            field: "hammer",
            one_of: &["spawn"],
        },
        Rule::Needs {
            field: "spawn",
            one_of: &["hammer"],
        },
        Rule::Needs {
            field: "count",
            one_of: &["spawn"],
        },
        Rule::Needs {
            field: "transition",
            one_of: &["load", "disable", "reverse"],
        },
        Rule::Needs {
            field: "returns",
            one_of: &["call"],
        },
        Rule::Needs {
            field: "equals",
            one_of: &["read", "wait"],
        },
        Rule::Needs {
            field: "contains",
            one_of: &["read"],
        },
        Rule::Needs {
            field: "data",
            one_of: &["write"],
        },
        Rule::Needs {
            field: "write",
            one_of: &["data"],
        },
        Rule::Needs {
            field: "exists",
            one_of: &["wait"],
        },
        Rule::Needs {
            field: "absent",
            one_of: &["wait"],
        },
        Rule::Needs {
            field: "wait",
            one_of: &["equals", "exists", "absent"],
        },
        Rule::AtMostOne(&["equals", "exists", "absent"]),
        // What fails reads nothing, and starts no transition.
        Rule::AtMostOne(&["equals", "contains", "errno"]),
        Rule::AtMostOne(&["transition", "errno"]),
    ],
};

const MODULES: List = List {
    what: "a list of modules",
    example: "[pricing-v1, shop]",
    item: Shape::Text(&MODULE),
    non_empty: true,
    unique: true,
};

/// As [`MODULES`], but that there are none can be just the point.
pub(super) const MODULES_OR_NONE: List = List {
    non_empty: false,
    ..MODULES
};

pub(in super::super) const FUNCTION_REF: Text = Text {
    what: "a function of a target",
    example: "shop.price",
    lexis: Lexis::Custom {
        accepts: |text| {
            text.split_once('.').is_some_and(|(target, function)| {
                MODULE.lexis.accepts(target) && names::symbol(function).is_some()
            })
        },
        pattern: r"^[a-z][a-z0-9_-]{0,39}\.[A-Za-z_][A-Za-z0-9_]{0,127}(,[1-9][0-9]{0,2})?$",
    },
    rule: "is written target.function, both spelt as in `targets`",
};

const PATH: Text = Text {
    what: "a path that a step may use",
    example: "/proc/cmdline",
    lexis: Lexis::Custom {
        accepts: names::is_kernel_path,
        pattern: r"^/(proc|sys|dev)/[^\s\u0000-\u001f\u007f]+$",
    },
    rule: "is absolute, without white space, and within /proc, /sys or /dev \
           (only there does the kernel itself answer)",
};

const PARAMS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of parameters to values",
    example: "{ verbose: \"1\" }",
    key: &PARAM_NAME,
    value: Shape::Text(&PARAM_VALUE),
    non_empty: true,
});

pub(super) const PARAM_NAME: Text = Text {
    what: "a parameter name",
    example: "verbose",
    lexis: Lexis::Word {
        first: "A-Za-z_",
        rest: "A-Za-z0-9_",
        max: 64,
    },
    rule: "is a C identifier",
};

const PARAM_VALUE: Text = Text {
    what: "a parameter value",
    example: "fast",
    lexis: Lexis::Custom {
        accepts: names::is_param_value,
        pattern: r#"^[^\s\u0000-\u001f\u007f"]{0,256}$"#,
    },
    rule: "has neither white space nor quotes, because the kernel splits parameters there",
};

const PROCESSES: Text = Text {
    what: "a name for processes",
    example: "hammers",
    ..STEP_NAME
};

const TRACED: Text = Text {
    what: "a function to trace or `none`",
    example: "cmdline_proc_show",
    ..FUNCTION_NAME
};

pub(super) const FUNCTION_NAME: Text = Text {
    what: "a C function name",
    example: "cmdline_proc_show",
    lexis: Lexis::Custom {
        accepts: names::is_function_name,
        pattern: "^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    },
    rule: "is a C identifier and no keyword",
};

const QUERIES: List = List {
    what: "a list of queries",
    example: "[file kernel/livepatch/* +p]",
    item: Shape::Text(&DATA),
    non_empty: true,
    unique: true,
};

const RIGHTS: Text = Text {
    what: "a list of rights",
    example: "-rw-r--r--",
    lexis: Lexis::Custom {
        accepts: names::is_rights,
        pattern: "^[-bcdlps]([-r][-w][-xsStT]){3}$",
    },
    rule: "is what ls shows: a letter for the kind of file, and three times `rwx` or `-`",
};

const HAMMER: Shape = Shape::OneOf(&OneOf {
    what: "a system call",
    names: &Hammer::NAMES,
});

const COUNT: Int = Int {
    what: "a number of processes",
    min: 1,
    max: 64,
};

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

const ERRNO: Shape = Shape::OneOf(&OneOf {
    what: "the name of an errno",
    names: &Errno::NAMES,
});

const TRANSITION: Shape = Shape::OneOf(&OneOf {
    what: "an outcome of a transition",
    names: &["completes", "held"],
});

const OPTIONS: List = List {
    what: "a list of options",
    example: "[-t, \"1\"]",
    item: Shape::Text(&OPTION),
    non_empty: true,
    unique: false,
};

const OPTION: Text = Text {
    what: "an option",
    example: "--no-replace",
    lexis: Lexis::Custom {
        accepts: names::is_option,
        pattern: r"^[A-Za-z0-9_.+,=-]{0,256}$",
    },
    rule: "has letters, digits and `_.+,=-` only, because klp-build is a script on the host",
};

const CONTENT: Text = Text {
    what: "text",
    example: "\"1\"",
    lexis: Lexis::Any,
    rule: "is any text",
};

const DATA: Text = Text {
    what: "data that a step can write",
    example: "\"1\"",
    lexis: Lexis::Custom {
        accepts: names::is_data,
        pattern: r"^[^\t\n\u0000]{0,4096}$",
    },
    rule: "has no newlines, tabs and other characters that nobody sees, and 4096 characters at most",
};
