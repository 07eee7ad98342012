// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images: definition → initramfs for an architecture, and who a guest of it is.

pub mod build;
pub mod keys;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cache::KeyBuilder;
use crate::error::{IoContext, Result};
use crate::files;
use crate::yaml::{Field, Lexis, List, MapOf, Node, Record, Shape, Text};

/// A guest image that the lab can build: `images/*.yaml`.
#[derive(Debug, Clone, Serialize)]
pub struct Definition {
    /// The file's name without its extension.
    pub name: String,
    /// What it is, in one line.
    pub summary: String,
    /// The Debian suite of its packages.
    pub suite: String,
    /// Packages, and which of their files to take (`*` stands for part of a name).
    pub packages: Vec<(String, Vec<String>)>,
    /// The guest's first program: a C source, or else a file that is taken as it is.
    pub init: PathBuf,
    /// The C source of the agent.
    pub agent: PathBuf,
}

const SUMMARY: Text = Text {
    what: "a summary",
    example: "busybox and dropbear.",
    lexis: Lexis::Line,
    rule: "is one line of text",
};
const SUITE: Text = Text {
    what: "a Debian suite",
    example: "trixie",
    lexis: Lexis::Word {
        first: "a-z",
        rest: "a-z0-9-",
        max: 40,
    },
    rule: "has lower-case letters, digits and `-`",
};
const PACKAGE: Text = Text {
    what: "a Debian package",
    example: "busybox-static",
    lexis: Lexis::Word {
        first: "a-z0-9",
        rest: "a-z0-9.+-",
        max: 80,
    },
    rule: "has lower-case letters, digits, `.`, `+` and `-`",
};
const PATTERN: Text = Text {
    what: "a file of a package",
    example: "usr/bin/busybox",
    lexis: Lexis::Word {
        first: "A-Za-z0-9",
        rest: "A-Za-z0-9._/*+-",
        max: 200,
    },
    rule: "is a relative path; `*` stands for part of a name",
};
const FILE: Text = Text {
    what: "a file below images/",
    example: "guest/init.c",
    lexis: Lexis::Line,
    rule: "is one line of text",
};
const PATTERNS: List = List {
    what: "a list of files",
    example: "[usr/bin/busybox]",
    item: Shape::Text(&PATTERN),
    non_empty: true,
    unique: true,
};
const PACKAGES: MapOf = MapOf {
    what: "packages and which of their files to take",
    example: "{ busybox-static: [usr/bin/busybox] }",
    key: &PACKAGE,
    value: Shape::List(&PATTERNS),
    non_empty: true,
};

const IMAGE_FILE: Shape = Shape::Record(&Record {
    what: "an image definition",
    example: "version: 1",
    fields: &[
        Field::required("version", files::VERSION, "The version of this format."),
        Field::required(
            "summary",
            Shape::Text(&SUMMARY),
            "What the image is, in one line.",
        ),
        Field::required(
            "suite",
            Shape::Text(&SUITE),
            "The Debian suite of its packages.",
        ),
        Field::required(
            "packages",
            Shape::MapOf(&PACKAGES),
            "What to take from which package.",
        ),
        Field::required(
            "init",
            Shape::Text(&FILE),
            "The guest's first program: C (`.c`), or else a file that is taken as it is.",
        ),
        Field::required("agent", Shape::Text(&FILE), "The C source of the agent."),
    ],
    rules: &[],
});

/// The image that every run uses.
pub const DEFAULT: &str = "default";

/// The files of [`DEFAULT`] as they are in the project that this lab was built from: for a lab that
/// has no project at hand. Its agent is the one that this lab knows how to talk to.
pub const OWN: [(&str, &str); 3] = [
    (
        "images/default.yaml",
        include_str!("../../images/default.yaml"),
    ),
    (
        "images/guest/agent.c",
        include_str!("../../images/guest/agent.c"),
    ),
    (
        "images/guest/init.c",
        include_str!("../../images/guest/init.c"),
    ),
];

impl Definition {
    /// Reads `images/<name>.yaml` of the project.
    pub fn read(project: &Path, name: &str) -> Result<Self> {
        let dir = project.join("images");
        let root = files::read_named(&dir, "image", name, IMAGE_FILE)?;
        let text = |key: &str| {
            root.get(key)
                .and_then(Node::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let patterns = |node: &Node| {
            node.items()
                .iter()
                .filter_map(Node::as_str)
                .map(str::to_owned)
                .collect()
        };
        let packages = root.entries_of("packages").iter();
        Ok(Self {
            name: name.to_owned(),
            summary: text("summary"),
            suite: text("suite"),
            packages: packages
                .map(|(key, node)| (key.name.clone(), patterns(node)))
                .collect(),
            init: dir.join(text("init")),
            agent: dir.join(text("agent")),
        })
    }

    /// What tells it from another one of the same name, wherever its files are.
    ///
    /// # Errors
    ///
    /// `Host` if a file of it cannot be read.
    pub fn sum(&self) -> Result<String> {
        let mut sum = KeyBuilder::new("image-definition");
        sum.part("suite", self.suite.as_bytes());
        for (package, patterns) in &self.packages {
            sum.part(package, patterns.join("\n").as_bytes());
        }
        for file in [&self.init, &self.agent] {
            sum.part("file", &fs::read(file).at("read", file)?);
        }
        Ok(sum.finish())
    }

    /// Whether the first program is to be compiled.
    pub fn init_is_source(&self) -> bool {
        self.init.extension().is_some_and(|ending| ending == "c")
    }

    /// All images of the project, in the order of their names.
    pub fn all(project: &Path) -> Result<Vec<Self>> {
        files::names(&project.join("images"))?
            .iter()
            .map(|name| Self::read(project, name))
            .collect()
    }
}
