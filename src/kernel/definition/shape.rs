// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel's file may say.

use crate::arch::Arch;
use crate::files::{self, ARCHES};
use crate::scenario::ReplaceCapability;
use crate::size::MACHINE;
use crate::yaml::{Field, Lexis, List, OneOf, Record, Rule, Shape, Text};

const fn text(what: &'static str, example: &'static str) -> Text {
    Text {
        what,
        example,
        lexis: Lexis::Line,
        rule: "is one line of text",
    }
}

const SUMMARY: Text = text("a summary", "Linux without patches.");
const KERNEL: Text = text("the name of a kernel definition", "mainline");
const FOLDER: Text = text("a folder below kernels/", "patches/tags");
const PACKAGE: Text = Text {
    what: "a Debian source package",
    example: "linux-source-7.3",
    lexis: Lexis::Word {
        first: "a-z",
        rest: "a-z0-9.+-",
        max: 80,
    },
    rule: "has lower-case letters, digits, `.`, `+` and `-`",
};
const SUITE: Text = Text {
    what: "a Debian suite",
    example: "trixie-backports",
    lexis: Lexis::Word {
        first: "a-z",
        rest: "a-z0-9-",
        max: 40,
    },
    rule: "has lower-case letters, digits and `-`",
};
const REPOSITORY: Text = text("a git repository", "https://git.example.org/linux.git");
const REVISION: Text = Text {
    what: "a git revision",
    example: "v7.3",
    lexis: Lexis::Word {
        first: "A-Za-z0-9",
        rest: "A-Za-z0-9._/-",
        max: 200,
    },
    rule: "is a commit, tag or branch",
};
const LOCATION: Text = text("a URL or a file", "https://example.org/linux-7.3.tar.xz");
const SHA256: Text = Text {
    what: "a sha256 checksum",
    example: "703e369ddd4cce971452f5a593ee55df3a5c10c83caf0fa0df039633ed181ee3",
    lexis: Lexis::Word {
        first: "0-9a-fA-F",
        rest: "0-9a-fA-F",
        max: 64,
    },
    rule: "has 64 hexadecimal digits",
};
const TREE: Text = text("the folder of a kernel tree", "../linux");

const DEBIAN: List = List {
    what: "a list of Debian source packages",
    example: "[{ package: linux-source-7.3, suite: trixie-backports }]",
    item: Shape::Record(&Record {
        what: "a Debian source package and its suite",
        example: "{ package: linux-source-7.3, suite: trixie-backports }",
        fields: &[
            Field::required("package", Shape::Text(&PACKAGE), "The package."),
            Field::required("suite", Shape::Text(&SUITE), "The suite that has it."),
        ],
        rules: &[],
    }),
    non_empty: true,
    unique: false,
};

const SOURCE: Record = Record {
    what: "a kernel source",
    example: "{ path: ../linux }",
    fields: &[
        Field::optional(
            "debian",
            Shape::List(&DEBIAN),
            "Debian packages, newest first.",
        ),
        Field::optional("git", Shape::Text(&REPOSITORY), "A git repository."),
        Field::optional("revision", Shape::Text(&REVISION), "Which revision of it."),
        Field::optional("tarball", Shape::Text(&LOCATION), "A tarball."),
        Field::optional("sha256", Shape::Text(&SHA256), "The tarball's checksum."),
        Field::optional(
            "path",
            Shape::Text(&TREE),
            "One's own tree; it is only read.",
        ),
    ],
    rules: &[
        Rule::AtMostOne(&["debian", "git", "tarball", "path"]),
        Rule::AtLeastOne(&["debian", "git", "tarball", "path"]),
        Rule::Needs {
            field: "revision",
            one_of: &["git"],
        },
        Rule::Needs {
            field: "git",
            one_of: &["revision"],
        },
        Rule::Needs {
            field: "sha256",
            one_of: &["tarball"],
        },
        Rule::Needs {
            field: "tarball",
            one_of: &["sha256"],
        },
    ],
};

/// `prebuilt:` of a definition.
const PREBUILT: Record = Record {
    what: "a kernel that was built elsewhere",
    example: "{ image: ../bzImage, build: ../linux, arch: x86_64 }",
    fields: &[
        Field::required(
            "image",
            Shape::Text(&text("a kernel image", "../linux/arch/x86/boot/bzImage")),
            "What is booted: a bzImage, an Image or a vmlinux.",
        ),
        Field::required(
            "build",
            Shape::Text(&text("a build folder", "../linux")),
            "The folder in which it was built; modules are built against it.",
        ),
        Field::required(
            "arch",
            Shape::OneOf(&OneOf {
                what: "an architecture",
                names: &Arch::NAMES,
            }),
            "What it is for.",
        ),
        Field::optional(
            "modules",
            Shape::Text(&text("a folder of modules", "../root/lib/modules/6.12.1")),
            "Its own modules, where what a guest needs is not built in.",
        ),
    ],
    rules: &[],
};

/// `debian-image:` of a definition.
const DEBIAN_IMAGE: Record = Record {
    what: "a kernel as Debian packages it",
    example: "{ package: \"linux-image-cloud-{arch}\", suite: trixie }",
    fields: &[
        Field::required(
            "package",
            Shape::Text(&Text {
                what: "a Debian package of a kernel",
                example: "linux-image-cloud-{arch}",
                lexis: Lexis::Custom {
                    accepts: |text| {
                        let plain = |c: char| {
                            c.is_ascii_lowercase() || c.is_ascii_digit() || ".+-{}".contains(c)
                        };
                        text.starts_with("linux-image-") && text.chars().all(plain)
                    },
                    pattern: "^linux-image-[a-z0-9.+{}-]*$",
                },
                rule: "begins with `linux-image-`; `{arch}` stands for Debian's architecture",
            }),
            "The package of its image; that of the headers is found by it.",
        ),
        Field::required("suite", Shape::Text(&SUITE), "The suite that has it."),
    ],
    rules: &[],
};

const REPLACE: OneOf = OneOf {
    what: "what klp_patch.replace is",
    names: &ReplaceCapability::NAMES,
};

const CAPABILITIES: Record = Record {
    what: "what a kernel can do",
    example: "{ replace: tags, klp-build: [x86_64] }",
    fields: &[
        Field::optional(
            "replace",
            Shape::OneOf(&REPLACE),
            "What `klp_patch.replace` is.",
        ),
        Field::optional(
            "klp-build",
            Shape::List(&ARCHES),
            "The architectures that its klp-build is for.",
        ),
        Field::optional(
            "kprobes-on-ftrace",
            Shape::List(&ARCHES),
            "The architectures on which kprobes use ftrace.",
        ),
    ],
    rules: &[],
};

const CONFIG: List = List {
    what: "a list of config fragments below kernels/",
    example: "[config/base.config, \"config/{arch}.config\"]",
    item: Shape::Text(&text("a config fragment", "config/base.config")),
    non_empty: true,
    unique: true,
};

pub(super) const KERNEL_FILE: Shape = Shape::Record(&Record {
    what: "a kernel definition",
    example: "version: 1",
    fields: &[
        Field::required("version", files::VERSION, "The version of this format."),
        Field::required(
            "summary",
            Shape::Text(&SUMMARY),
            "What the kernel is, in one line.",
        ),
        Field::optional("default", Shape::Bool, "Used when no kernel is named."),
        Field::optional(
            "extends",
            Shape::Text(&KERNEL),
            "Take over what is not said here.",
        ),
        Field::optional(
            "snapshots",
            Shape::Text(&KERNEL),
            "Whose snapshots it is held against where it has none; default: the kernel it extends.",
        ),
        Field::optional(
            "source",
            Shape::Record(&SOURCE),
            "Where the source comes from.",
        ),
        Field::optional(
            "prebuilt",
            Shape::Record(&PREBUILT),
            "A kernel that was built elsewhere, which is booted as it is.",
        ),
        Field::optional(
            "debian-image",
            Shape::Record(&DEBIAN_IMAGE),
            "A kernel as Debian packages it, which is booted as it is.",
        ),
        Field::optional(
            "patches",
            Shape::Text(&FOLDER),
            "The folder of the patch series.",
        ),
        Field::optional(
            "config",
            Shape::List(&CONFIG),
            "Config fragments; the last one wins.",
        ),
        Field::optional(
            "capabilities",
            Shape::Record(&CAPABILITIES),
            "What it can do.",
        ),
        Field::optional(
            "machine",
            Shape::Record(&MACHINE),
            "What a guest with this kernel must have.",
        ),
    ],
    rules: &[
        Rule::AtMostOne(&["prebuilt", "debian-image", "source"]),
        Rule::AtMostOne(&["prebuilt", "debian-image", "extends"]),
        Rule::AtMostOne(&["prebuilt", "debian-image", "patches"]),
        Rule::AtMostOne(&["prebuilt", "debian-image", "config"]),
    ],
});
