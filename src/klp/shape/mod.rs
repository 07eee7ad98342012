// SPDX-License-Identifier: MIT OR Apache-2.0
//! What names, targets and livepatches look like in a file.

pub(crate) mod livepatch;

use super::{Errno, names};
use crate::yaml::{Field, Int, Lexis, List, MapOf, OneOf, Record, Rule, Shape, Text};

pub(crate) const MODULE: Text = Text {
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

/// Whether a module can have this name in a scenario.
pub(crate) fn is_module_name(name: &str) -> bool {
    let name_is_free = !names::is_kbuilds_own(&names::kernel_module_name(name));
    MODULE.lexis.accepts(name) && name_is_free && !["vmlinux", "none"].contains(&name)
}

pub(crate) const FUNCTION: Text = Text {
    what: "a C function name",
    example: "price",
    lexis: Lexis::Custom {
        accepts: |text| names::symbol(text).is_some(),
        pattern: "^[A-Za-z_][A-Za-z0-9_]{0,127}(,[1-9][0-9]{0,2})?$",
    },
    rule: "is a C identifier and neither a keyword nor part of a module's glue; where an object \
           has several of a name, a position from `,1` to `,999` follows",
};

pub(crate) const OBJECT: Text = Text {
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

pub(crate) const RETURN_VALUE: Int = Int {
    what: "a C int",
    min: i32::MIN as i64,
    max: i32::MAX as i64,
};

pub(crate) const TAG: Shape = Shape::Int(&Int {
    what: "a replace tag",
    min: 0,
    max: u32::MAX as i64,
});

pub(crate) const TARGETS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of targets",
    example: "{ shop: { functions: { price: 10 } } }",
    key: &MODULE,
    value: Shape::Any(&[
        Shape::Record(&Record {
            what: "a target",
            example: "{ functions: { price: 10 } }",
            fields: &[
                Field::optional(
                    "functions",
                    FUNCTIONS,
                    "Functions `int name(void)` and what they return; several of one name are \
                     `name,1`, `name,2` and so on.",
                ),
                Field::optional(
                    "ko",
                    KO,
                    "Its file, built elsewhere, relative to the scenario's folder.",
                ),
                Field::optional(
                    "init",
                    Shape::OneOf(&OneOf {
                        what: "the name of an errno",
                        names: &Errno::NAMES,
                    }),
                    "The errno with which its init fails, so that it is never loaded.",
                ),
            ],
            rules: &[
                Rule::Needs {
                    field: "init",
                    one_of: &["functions"],
                },
                Rule::AtMostOne(&["functions", "ko"]),
                Rule::AtLeastOne(&["functions", "ko"]),
            ],
        }),
        KSELFTEST,
    ]),
    non_empty: false,
});

/// The file of a module that was built elsewhere.
const KO: Shape = Shape::Text(&Text {
    what: "a module's file",
    example: "fix.ko",
    lexis: Lexis::Custom {
        accepts: names::is_module_file,
        pattern: r"^(?!/)[A-Za-z0-9_./+,=-]*\.ko$",
    },
    rule: "is a relative path of letters, digits and `_./+,=-`, without `.`, `..` and empty \
           components, and ends in `.ko`",
});

/// Instead of what a module consists of: it is one of the kernel's own.
const KSELFTEST: Shape = Shape::OneOf(&OneOf {
    what: "`kselftest`",
    names: &["kselftest"],
});

const FUNCTIONS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of functions to return values",
    example: "{ price: 10 }",
    key: &FUNCTION,
    value: Shape::Int(&RETURN_VALUE),
    non_empty: true,
});

pub(crate) const MODULES: List = List {
    what: "a list of modules",
    example: "[pricing-v1, shop]",
    item: Shape::Text(&MODULE),
    non_empty: true,
    unique: true,
};

/// As [`MODULES`], but that there are none can be just the point.
pub(crate) const MODULES_OR_NONE: List = List {
    non_empty: false,
    ..MODULES
};

pub(crate) const FUNCTION_REF: Text = Text {
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

pub(crate) const FUNCTION_NAME: Text = Text {
    what: "a C function name",
    example: "cmdline_proc_show",
    lexis: Lexis::Custom {
        accepts: names::is_function_name,
        pattern: "^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    },
    rule: "is a C identifier and no keyword",
};
