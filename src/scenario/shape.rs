// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario file looks like: the tables behind its checks and its JSON schema.

use super::model::{Capability, VERSION as FORMAT};
use crate::files::ARCHES;
use crate::klp::ReplaceCapability;
use crate::klp::names;
use crate::klp::shape::TARGETS;
use crate::klp::shape::livepatch::LIVEPATCHES;
use crate::size::MACHINE;
use crate::step::STEP_NAME;
use crate::step::shape::STEPS;
use crate::yaml::{Field, Int, Lexis, List, OneOf, Record, Shape, Text};

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
            "original",
            ORIGINAL,
            "The case of the kernel's own livepatch selftests that it stands for.",
        ),
        Field::optional(
            "requires",
            REQUIRES,
            "What the kernel must offer, or else the scenario is skipped.",
        ),
        Field::optional(
            "machine",
            Shape::Record(&MACHINE),
            "What the guest must have, or else the scenario is skipped.",
        ),
        Field::optional(
            "snapshot",
            SNAPSHOT,
            "Whether runs on all kernels share one snapshot; each kernel has its own by default.",
        ),
        Field::optional(
            "targets",
            TARGETS,
            "Modules to generate, with functions to patch.",
        ),
        Field::optional("livepatches", LIVEPATCHES, "The livepatches to build."),
        Field::required("steps", STEPS, "What happens, in order."),
        Field::optional(
            "expect_failure",
            EXPECTED_FAILURES,
            "Kernels on which the scenario must fail, at which step and how.",
        ),
        Field::optional(
            "allow_splats",
            ALLOWED_SPLATS,
            "Complaints of the kernel that do not fail the scenario.",
        ),
        Field::optional(
            "mask",
            MASKS,
            "Parts of log lines and results that are not the same twice.",
        ),
    ],
    rules: &[],
});

const VERSION: Int = Int {
    what: "the version",
    min: FORMAT,
    max: FORMAT,
};

const SUMMARY: Text = Text {
    what: "a summary",
    example: "A new livepatch replaces the older ones.",
    lexis: Lexis::Line,
    rule: "is one line of text",
};

const REQUIRES: Shape = Shape::Record(&Record {
    what: "a requirement",
    example: "{ replace: tags }",
    fields: &[
        Field::optional(
            "replace",
            REPLACE,
            "What klp_patch.replace must be: a bool, or a u32 replace tag.",
        ),
        Field::optional(
            "arch",
            Shape::OneOrMany(&ARCHES),
            "The architectures it is for.",
        ),
        Field::optional(
            "capabilities",
            Shape::List(&CAPABILITIES),
            "What the kernel must have on the architecture at hand.",
        ),
    ],
    rules: &[],
});

const CAPABILITIES: List = List {
    what: "a list of capabilities",
    example: "[kprobes-on-ftrace]",
    item: Shape::OneOf(&OneOf {
        what: "a capability",
        names: &Capability::NAMES,
    }),
    non_empty: true,
    unique: true,
};

const REPLACE: Shape = Shape::OneOf(&OneOf {
    what: "a kind of `replace`",
    names: &ReplaceCapability::NAMES,
});

const SNAPSHOT: Shape = Shape::OneOf(&OneOf {
    what: "the scope of a snapshot",
    names: &["per-kernel", "shared"],
});

const ORIGINAL: Shape = Shape::Record(&Record {
    what: "a case of the kernel's selftests",
    example: "{ script: test-livepatch.sh, test: basic function patching }",
    fields: &[
        Field::required("script", Shape::Text(&SCRIPT), "The script."),
        Field::required(
            "test",
            Shape::Text(&TEST),
            "What the script calls the case, after `TEST: `.",
        ),
    ],
    rules: &[],
});

const SCRIPT: Text = Text {
    what: "a script",
    example: "test-livepatch.sh",
    lexis: Lexis::Word {
        first: "A-Za-z0-9",
        rest: "A-Za-z0-9_.-",
        max: 80,
    },
    rule: "is a file's name",
};

const TEST: Text = Text {
    what: "the name of a case",
    example: "basic function patching",
    lexis: Lexis::Line,
    rule: "is one line of text",
};

const EXPECTED_FAILURES: Shape = Shape::List(&List {
    what: "a list of expected failures",
    example: "[{ kernel: tags-rfc, step: in-the-window, failure: answers 20, reason: a bug }]",
    item: Shape::Record(&Record {
        what: "an expected failure",
        example: "{ kernel: tags-rfc, step: in-the-window, failure: answers 20, reason: a bug }",
        fields: &[
            Field::required(
                "kernel",
                Shape::OneOrMany(&KERNELS),
                "The kernels on which it fails.",
            ),
            Field::required(
                "step",
                Shape::Text(&STEP_NAME),
                "The name of the step that fails.",
            ),
            Field::required(
                "failure",
                Shape::Text(&FAILURE),
                "What must occur in the step's problem.",
            ),
            Field::required(
                "reason",
                Shape::Text(&REASON),
                "Why it fails there, in one line.",
            ),
        ],
        rules: &[],
    }),
    non_empty: true,
    unique: false,
});

const ALLOWED_SPLATS: Shape = Shape::List(&List {
    what: "a list of allowed splats",
    example: "[{ title: kernel/livepatch/core.c, reason: a wrong attribute is refused loudly }]",
    item: Shape::Record(&Record {
        what: "an allowed splat",
        example: "{ title: kernel/livepatch/core.c, reason: a wrong attribute is refused loudly }",
        fields: &[
            Field::required(
                "title",
                Shape::Text(&SPLAT_TITLE),
                "What must occur in its first line.",
            ),
            Field::required(
                "reason",
                Shape::Text(&REASON),
                "Why the kernel may say it here, in one line.",
            ),
            Field::optional(
                "must",
                Shape::True,
                "Whether the run fails if the kernel does not say it.",
            ),
        ],
        rules: &[],
    }),
    non_empty: true,
    unique: false,
});

const MASKS: Shape = Shape::List(&List {
    what: "a list of masks",
    example: "[{ text: \"log shop: stock is at *\", reason: an address }]",
    item: Shape::Record(&Record {
        what: "a mask",
        example: "{ text: \"log shop: stock is at *\", reason: an address }",
        fields: &[
            Field::required(
                "text",
                Shape::Text(&MASKED),
                "Part of a line as a snapshot shows it, with `*` for what varies.",
            ),
            Field::required(
                "reason",
                Shape::Text(&WHY_IT_VARIES),
                "Why it is not the same twice, in one line.",
            ),
        ],
        rules: &[],
    }),
    non_empty: true,
    unique: false,
});

const MASKED: Text = Text {
    what: "a masked text",
    example: "log shop: stock is at *",
    // What it covers is not compared, so it must say where that is.
    lexis: Lexis::Custom {
        accepts: |text| {
            let says = text.chars().filter(|c| !matches!(c, '*' | ' ')).count();
            let is_long = says >= 4 && text.chars().count() <= 200;
            let varies = text.contains('*') && !text.starts_with('*') && !text.contains("**");
            is_long && varies && Lexis::Line.accepts(text)
        },
        pattern: r"^[^*].{3,199}$",
    },
    rule: "is one line of 200 characters at most, which begins with words that do not vary, of 4 \
           characters at least, and has a `*` for each that does",
};

const WHY_IT_VARIES: Text = Text {
    example: "an address",
    ..REASON
};

const KERNELS: List = List {
    what: "a list of kernels",
    example: "[tags-rfc]",
    item: Shape::Text(&Text {
        what: "the name of a kernel",
        example: "tags-rfc",
        lexis: Lexis::Custom {
            accepts: names::is_kernel_name,
            pattern: "^[a-z][a-z0-9-]*$",
        },
        rule: "starts with a lower-case letter and goes on with those, digits and `-`",
    }),
    non_empty: true,
    unique: true,
};

const FAILURE: Text = Text {
    what: "a part of a problem",
    example: "shop.price answers 10, not 11",
    lexis: Lexis::Line,
    rule: "is one line of text",
};

const SPLAT_TITLE: Text = Text {
    what: "a part of a splat's title",
    example: "WARNING: kernel/livepatch/core.c",
    // "BUG" alone would allow nearly all of them.
    lexis: Lexis::Custom {
        accepts: |text| (8..=200).contains(&text.chars().count()) && Lexis::Line.accepts(text),
        pattern: "^.{8,200}$",
    },
    rule: "is one line of 8 to 200 characters",
};

const REASON: Text = Text {
    what: "a reason",
    example: "a bug of that kernel",
    lexis: Lexis::Line,
    rule: "is one line of text",
};
