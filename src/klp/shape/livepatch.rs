// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a livepatch looks like.

use super::super::{Errno, names};
use super::{FUNCTION, KO, KSELFTEST, MODULE, OBJECT, RETURN_VALUE, TAG};
use crate::visible::is_hidden;
use crate::yaml::{Field, Int, Lexis, List, MapOf, OneOf, Record, Rule, Shape, Text};

pub(crate) const LIVEPATCHES: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of livepatches",
    example: "{ pricing-v1: { patches: { shop: { price: 11 } } } }",
    key: &MODULE,
    value: Shape::Any(&[Shape::Record(&LIVEPATCH), KSELFTEST]),
    non_empty: true,
});

const LIVEPATCH: Record = Record {
    what: "a livepatch",
    example: "{ patches: { shop: { price: 11 } } }",
    fields: &[
        Field::optional(
            "replace",
            Shape::Bool,
            "Whether it replaces all older livepatches; false by default.",
        ),
        Field::optional("tag", TAG, "Its replace tag; 0 replaces nothing."),
        Field::optional(
            "patches",
            PATCHES,
            "What it patches: object, function, new version.",
        ),
        Field::optional(
            "klp-build",
            Shape::OneOrMany(&SOURCE_PATCHES),
            "Source patches from which klp-build makes it, relative to the scenario's folder.",
        ),
        Field::optional(
            "ko",
            KO,
            "Its file, built elsewhere, relative to the scenario's folder.",
        ),
        Field::optional(
            "include",
            Shape::OneOrMany(&HEADERS),
            "Headers for all of its code, beside those of every livepatch.",
        ),
        Field::optional(
            "preamble",
            Shape::Text(&PREAMBLE),
            "C code that comes before its functions.",
        ),
        Field::optional("states", STATES, "The system states that it modifies."),
        Field::optional(
            "callbacks",
            CALLBACKS,
            "What its callbacks do, by object: struct klp_callbacks.",
        ),
    ],
    rules: &[
        Rule::AtMostOne(&["replace", "tag"]),
        Rule::AtMostOne(&["patches", "klp-build", "ko"]),
        Rule::AtLeastOne(&["patches", "klp-build", "ko"]),
        // What it replaces is in the file.
        Rule::AtMostOne(&["replace", "ko"]),
        Rule::AtMostOne(&["tag", "ko"]),
        needs_patches("include"),
        needs_patches("preamble"),
        needs_patches("states"),
        needs_patches("callbacks"),
    ],
};

/// For what only a livepatch that the lab generates can have.
const fn needs_patches(field: &'static str) -> Rule {
    Rule::Needs {
        field,
        one_of: &["patches"],
    }
}

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
                && text.chars().all(|c| !is_hidden(c) || c == '\n')
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

const PREAMBLE: Text = Text {
    what: "C code",
    example: "static int seen;",
    lexis: Lexis::NonBlank,
    rule: "is declarations and definitions",
};

const SOURCE_PATCHES: List = List {
    what: "a list of source patches",
    example: "[cmdline.patch]",
    item: Shape::Text(&Text {
        what: "a source patch",
        example: "cmdline.patch",
        lexis: Lexis::Custom {
            accepts: names::is_source_patch,
            pattern: r"^(?!/)[A-Za-z0-9_./+,=-]*\.(patch|diff)$",
        },
        rule: "is a relative path of letters, digits and `_./+,=-`, without `.`, `..` and empty \
               components, and ends in `.patch` or `.diff`",
    }),
    non_empty: true,
    unique: true,
};

const STATES: Shape = Shape::List(&List {
    what: "a list of system states",
    example: "[{ id: 1, version: 2 }]",
    item: Shape::Record(&Record {
        what: "a system state",
        example: "{ id: 1, version: 2 }",
        fields: &[
            Field::required(
                "id",
                Shape::Int(&Int {
                    what: "the identifier of a system state",
                    // To the kernel, 0 ends the array.
                    min: 1,
                    max: u32::MAX as i64,
                }),
                "Its identifier.",
            ),
            Field::required(
                "version",
                Shape::Int(&Int {
                    what: "the version of a system state",
                    min: 0,
                    max: u32::MAX as i64,
                }),
                "The version of the change.",
            ),
        ],
        rules: &[],
    }),
    non_empty: true,
    unique: false,
});

const CALLBACKS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of objects to callbacks",
    example: "{ shop: { pre_patch: log } }",
    key: &OBJECT,
    value: Shape::Record(&Record {
        what: "a set of callbacks",
        example: "{ pre_patch: log }",
        fields: &[
            Field::optional(
                "pre_patch",
                FALLIBLE_CALLBACK,
                "Before the object is patched; an errno makes it fail.",
            ),
            Field::optional(
                "post_patch",
                VOID_CALLBACK,
                "After the transition that patched the object.",
            ),
            Field::optional(
                "pre_unpatch",
                VOID_CALLBACK,
                "Before the object is unpatched.",
            ),
            Field::optional(
                "post_unpatch",
                VOID_CALLBACK,
                "After the transition that unpatched the object.",
            ),
        ],
        rules: &[Rule::AtLeastOne(&[
            "pre_patch",
            "post_patch",
            "pre_unpatch",
            "post_unpatch",
        ])],
    }),
    non_empty: true,
});

const FALLIBLE_CALLBACK: Shape = Shape::Any(&[
    Shape::OneOf(&OneOf {
        what: "`log` or an errno's name",
        names: &{
            let mut names = [LOG; Errno::NAMES.len() + 1];
            let mut at = 0;
            while at < Errno::NAMES.len() {
                names[at + 1] = Errno::NAMES[at];
                at += 1;
            }
            names
        },
    }),
    CALLBACK_IN_C,
]);

const VOID_CALLBACK: Shape = Shape::Any(&[
    Shape::Text(&Text {
        what: "a callback's action",
        example: LOG,
        lexis: Lexis::Custom {
            // Lowering refuses the errno, because it can say why.
            accepts: |text| text == LOG || Errno::from_name(text).is_some(),
            pattern: "^(log|E[A-Z0-9]+)$",
        },
        rule: "is `log`, or C code as `{ body: ... }`",
    }),
    CALLBACK_IN_C,
]);

const LOG: &str = "log";

const CALLBACK_IN_C: Shape = Shape::Record(&Record {
    what: "a callback in C",
    example: "{ body: seen = 1; }",
    fields: &[Field::required(
        "body",
        Shape::Text(&Text {
            what: "the body of a callback",
            example: "seen = 1;",
            ..BODY
        }),
        "The statements of the callback, with `struct klp_object *obj` at hand.",
    )],
    rules: &[],
});
