// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario file looks like: the tables behind its checks and its JSON schema.

use super::{Errno, ReplaceCapability, names};
use crate::arch::Arch;
use crate::yaml::{Field, Int, Lexis, List, MapOf, OneOf, Record, Rule, Shape, Text};

/// A whole scenario file.
pub(super) const SCENARIO: Shape = Shape::Record(&Record {
    what: "a scenario",
    example: "version: 1",
    fields: &[
        Field::required(
            "version",
            Shape::Int(&VERSION),
            "The version of this format.",
        ),
        Field::required(
            "summary",
            Shape::Text(&SUMMARY),
            "What the scenario shows, in one line.",
        ),
        Field::optional(
            "requires",
            REQUIRES,
            "What the kernel must offer, or else the scenario is skipped.",
        ),
        Field::optional(
            "targets",
            TARGETS,
            "Modules to generate, with functions to patch.",
        ),
        Field::required("livepatches", LIVEPATCHES, "The livepatches to generate."),
        Field::required("steps", STEPS, "What happens, in order."),
    ],
    rules: &[],
});

const VERSION: Int = Int {
    what: "the version",
    min: super::VERSION,
    max: super::VERSION,
};

const SUMMARY: Text = Text {
    what: "a summary",
    example: "A new livepatch replaces the older ones.",
    lexis: Lexis::Line,
    rule: "is one line of text",
};

pub(super) const MODULE: Text = Text {
    what: "a kernel module name",
    example: "pricing-v1",
    lexis: Lexis::Word {
        first: "a-z",
        rest: "a-z0-9_-",
        max: 40,
    },
    rule: "starts with a lower-case letter, goes on with those, digits, `-` and `_`, \
           and has 40 characters at most",
};

const FUNCTION: Text = Text {
    what: "a C function name",
    example: "price",
    lexis: Lexis::Custom {
        accepts: names::is_function_name,
        pattern: "^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    },
    rule: "is a C identifier and neither a keyword nor part of a module's glue",
};

const FUNCTION_REF: Text = Text {
    what: "a function of a target",
    example: "shop.price",
    lexis: Lexis::Custom {
        accepts: |text| {
            text.split_once('.').is_some_and(|(target, function)| {
                MODULE.lexis.accepts(target) && names::is_function_name(function)
            })
        },
        pattern: r"^[a-z][a-z0-9_-]{0,39}\.[A-Za-z_][A-Za-z0-9_]{0,127}$",
    },
    rule: "is written target.function",
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

const PARAM_NAME: Text = Text {
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

const CONTENT: Text = Text {
    what: "text",
    example: "\"1\"",
    lexis: Lexis::Any,
    rule: "is any text",
};

const NEEDLE: Text = Text {
    what: "text to look for",
    example: "livepatched",
    lexis: Lexis::NonBlank,
    rule: "is not blank",
};

const HEADER: Text = Text {
    what: "a header",
    example: "linux/seq_file.h",
    lexis: Lexis::Word {
        first: "A-Za-z0-9_./-",
        rest: "A-Za-z0-9_./-",
        max: 128,
    },
    rule: "is what stands between `<` and `>`",
};

const SIGNATURE: Text = Text {
    what: "a function signature",
    example: "int price(void)",
    lexis: Lexis::Custom {
        accepts: |text| {
            !text.trim().is_empty()
                && !text.contains([';', '{', '}'])
                && text.chars().all(|c| !c.is_control() || c == '\n')
        },
        pattern: "^[^;{}]+$",
    },
    rule: "is a C declaration without `;` and without the body",
};

const BODY: Text = Text {
    what: "a function body",
    example: "return 11;",
    lexis: Lexis::NonBlank,
    rule: "is C statements",
};

const RETURN_VALUE: Int = Int {
    what: "a C int",
    min: i32::MIN as i64,
    max: i32::MAX as i64,
};

const TAG: Shape = Shape::Int(&Int {
    what: "a replace tag",
    min: 0,
    max: u32::MAX as i64,
});

const ERRNO: Shape = Shape::OneOf(&OneOf {
    what: "the name of an errno",
    names: &Errno::NAMES,
});

const ARCH: Shape = Shape::OneOf(&OneOf {
    what: "an architecture",
    names: &Arch::NAMES,
});

const CAPABILITY: Shape = Shape::OneOf(&OneOf {
    what: "a kind of `replace`",
    names: &ReplaceCapability::NAMES,
});

const REQUIRES: Shape = Shape::Record(&Record {
    what: "a requirement",
    example: "{ replace: tags }",
    fields: &[
        Field::optional(
            "replace",
            CAPABILITY,
            "What klp_patch.replace must be: a bool, or a u32 replace tag.",
        ),
        Field::optional(
            "arch",
            Shape::OneOrMany(&ARCHES),
            "The architectures it is for.",
        ),
    ],
    rules: &[],
});

const ARCHES: List = List {
    what: "a list of architectures",
    example: "[x86_64]",
    item: ARCH,
    non_empty: true,
    unique: true,
};

const TARGETS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of targets",
    example: "{ shop: { functions: { price: 10 } } }",
    key: &MODULE,
    value: Shape::Record(&Record {
        what: "a target",
        example: "{ functions: { price: 10 } }",
        fields: &[Field::required(
            "functions",
            FUNCTIONS,
            "Functions `int name(void)` and what they return.",
        )],
        rules: &[],
    }),
    non_empty: false,
});

const FUNCTIONS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of functions to return values",
    example: "{ price: 10 }",
    key: &FUNCTION,
    value: Shape::Int(&RETURN_VALUE),
    non_empty: true,
});

const LIVEPATCHES: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of livepatches",
    example: "{ pricing-v1: { patches: { shop: { price: 11 } } } }",
    key: &MODULE,
    value: Shape::Record(&Record {
        what: "a livepatch",
        example: "{ patches: { shop: { price: 11 } } }",
        fields: &[
            Field::optional(
                "replace",
                Shape::Bool,
                "Whether it replaces all older livepatches; false by default.",
            ),
            Field::optional("tag", TAG, "Its replace tag; 0 replaces nothing."),
            Field::required(
                "patches",
                PATCHES,
                "What it patches: object, function, new version.",
            ),
        ],
        rules: &[Rule::AtMostOne(&["replace", "tag"])],
    }),
    non_empty: true,
});

const PATCHES: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of objects to patched functions",
    example: "{ shop: { price: 11 } }",
    key: &OBJECT,
    value: Shape::MapOf(&MapOf {
        what: "a mapping of functions to their new versions",
        example: "{ price: 11 }",
        key: &FUNCTION,
        value: NEW_FUNCTION,
        non_empty: true,
    }),
    non_empty: true,
});

const OBJECT: Text = Text {
    what: "an object",
    example: "vmlinux",
    // Other people's modules have upper-case letters, too; 55 is the kernel's limit.
    lexis: Lexis::Word {
        first: "A-Za-z0-9_",
        rest: "A-Za-z0-9_-",
        max: 55,
    },
    rule: "is `vmlinux`, a target, or the name of another kernel module",
};

const NEW_FUNCTION: Shape = Shape::Any(&[
    Shape::Int(&RETURN_VALUE),
    Shape::Record(&Record {
        what: "a function in C",
        example: "{ signature: int price(void), body: return 11; }",
        fields: &[
            Field::required(
                "signature",
                Shape::Text(&SIGNATURE),
                "The function's declaration, the same as in the kernel.",
            ),
            Field::optional(
                "include",
                Shape::OneOrMany(&HEADERS),
                "Headers to include, beside those of every livepatch.",
            ),
            Field::required(
                "body",
                Shape::Text(&BODY),
                "The statements of the new version.",
            ),
        ],
        rules: &[],
    }),
]);

const HEADERS: List = List {
    what: "a list of headers",
    example: "[linux/seq_file.h]",
    item: Shape::Text(&HEADER),
    non_empty: true,
    unique: true,
};

const MODULES: List = List {
    what: "a list of modules",
    example: "[pricing-v1, shop]",
    item: Shape::Text(&MODULE),
    non_empty: true,
    unique: true,
};

/// As [`MODULES`], but that there are none can be just the point.
const MODULES_OR_NONE: List = List {
    non_empty: false,
    ..MODULES
};

const STEPS: Shape = Shape::List(&List {
    what: "a list of steps",
    example: "[{ load: shop }]",
    item: Shape::Record(&STEP),
    non_empty: true,
    unique: false,
});

const ACTIONS: &[&str] = &["load", "disable", "unload", "call", "read", "wait"];

const STEP: Record = Record {
    what: "a step",
    example: "load: shop",
    fields: &[
        Field::optional(
            "load",
            Shape::Text(&MODULE),
            "Load a target or a livepatch.",
        ),
        Field::optional("disable", Shape::Text(&MODULE), "Disable a livepatch."),
        Field::optional(
            "unload",
            Shape::OneOrMany(&MODULES),
            "Unload modules in this order.",
        ),
        Field::optional(
            "call",
            Shape::Text(&FUNCTION_REF),
            "Call a function of a target.",
        ),
        Field::optional("read", Shape::Text(&PATH), "Read a file of the guest."),
        Field::optional("wait", Shape::Text(&PATH), "Wait for a file of the guest."),
        Field::optional("expect", EXPECT, "What must be so afterwards."),
        Field::optional("params", PARAMS, "Module parameters."),
        Field::optional("errno", ERRNO, "The errno with which the step must fail."),
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
        Field::optional("exists", Shape::True, "Wait until the file is there."),
        Field::optional("absent", Shape::True, "Wait until the file is gone."),
        Field::optional("timeout", Shape::Duration, "How long the step may take."),
    ],
    rules: &[
        Rule::AtMostOne(ACTIONS),
        Rule::AtLeastOne(&[
            "load", "disable", "unload", "call", "read", "wait", "expect",
        ]),
        Rule::Needs {
            field: "params",
            one_of: &["load"],
        },
        Rule::Needs {
            field: "errno",
            one_of: &["load", "disable", "unload"],
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
        Rule::AtMostOne(&["equals", "contains"]),
    ],
};

const PARAMS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of parameters to values",
    example: "{ verbose: \"1\" }",
    key: &PARAM_NAME,
    value: Shape::Text(&PARAM_VALUE),
    non_empty: true,
});

const EXPECT: Shape = Shape::Record(&Record {
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
    ],
    rules: &[Rule::AtLeastOne(&[
        "livepatches",
        "calls",
        "tags",
        "modules",
        "patched",
    ])],
});
