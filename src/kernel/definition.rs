// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel definitions: `kernels/*.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::debian::{self, DebianImage};
use super::prebuilt::{self, Prebuilt};
use super::source::{DebianSource, Source};
use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::files::{self, ARCHES};
use crate::scenario::{Capability, ReplaceCapability};
use crate::yaml::{Field, Lexis, List, Node, OneOf, Record, Rule, Shape, Text};

/// A kernel that the lab can build.
#[derive(Debug, Clone, Serialize)]
pub struct Definition {
    /// The file's name without its extension.
    pub name: String,
    /// What it is, in one line.
    pub summary: String,
    /// Used when the command line names no kernel.
    pub default: bool,
    /// Where the source comes from.
    pub source: Source,
    /// The folder of its patch series.
    pub patches: Option<PathBuf>,
    /// Its config fragments; `{arch}` in a name stands for the architecture.
    pub config: Vec<PathBuf>,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// What a kernel can do, to hold against what a scenario requires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// What `klp_patch.replace` is.
    pub replace: ReplaceCapability,
    /// What it has besides, and on which architectures.
    pub others: BTreeMap<Capability, Vec<Arch>>,
}

impl Capabilities {
    /// Whether it has `capability` on `arch`.
    pub fn has(&self, capability: Capability, arch: Arch) -> bool {
        self.others
            .get(&capability)
            .is_some_and(|archs| archs.contains(&arch))
    }
}

pub(super) const fn text(what: &'static str, example: &'static str) -> Text {
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
pub(super) const SUITE: Text = Text {
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

const KERNEL_FILE: Shape = Shape::Record(&Record {
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
            "source",
            Shape::Record(&SOURCE),
            "Where the source comes from.",
        ),
        Field::optional(
            "prebuilt",
            Shape::Record(&prebuilt::SHAPE),
            "A kernel that was built elsewhere, which is booted as it is.",
        ),
        Field::optional(
            "debian-image",
            Shape::Record(&debian::SHAPE),
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
    ],
    rules: &[
        Rule::AtMostOne(&["prebuilt", "debian-image", "source"]),
        Rule::AtMostOne(&["prebuilt", "debian-image", "extends"]),
        Rule::AtMostOne(&["prebuilt", "debian-image", "patches"]),
        Rule::AtMostOne(&["prebuilt", "debian-image", "config"]),
    ],
});

impl Definition {
    /// Reads `kernels/<name>.yaml` of the project, with what it extends.
    pub fn read(project: &Path, name: &str) -> Result<Self> {
        let dir = project.join("kernels");
        let mut chain = Vec::new();
        let mut next = Some(name.to_owned());
        while let Some(name) = next {
            if chain.iter().any(|(seen, _)| *seen == name) {
                let what = format!("kernel `{name}` extends itself");
                return Err(Error::new(Blame::File, what));
            }
            let root = files::read_named(&dir, "kernel", &name, KERNEL_FILE)?;
            next = root
                .get("extends")
                .and_then(Node::as_str)
                .map(str::to_owned);
            chain.push((name, root));
        }
        Self::lower(&dir, name, &chain)
    }

    fn lower(dir: &Path, name: &str, chain: &[(String, Node)]) -> Result<Self> {
        let find = |key: &str| chain.iter().find_map(|(_, root)| root.get(key));
        let missing = |key: &str| {
            Error::new(Blame::File, format!("kernels/{name}.yaml has no `{key}`"))
                .help(format!("add `{key}:`, or `extends:` a kernel that has it"))
        };
        let capability = |key: &str| {
            chain
                .iter()
                .find_map(|(_, root)| root.get("capabilities")?.get(key))
        };
        let replace = match capability("replace").and_then(Node::as_str) {
            Some("tags") => ReplaceCapability::Tags,
            _ => ReplaceCapability::Bool,
        };
        let own = chain.first().map(|(_, root)| root);
        let packaged = find("debian-image");
        let prebuilt = find("prebuilt").or(packaged);
        if prebuilt.is_some() && chain.len() > 1 {
            let what = format!("kernels/{name}.yaml extends a kernel that is built already");
            return Err(Error::new(Blame::File, what)
                .help("write `prebuilt:` and `capabilities:` in it, without `extends:`"));
        }
        let own_text = |key: &str| own.and_then(|root| root.get(key)).and_then(Node::as_str);
        Ok(Self {
            name: name.to_owned(),
            summary: own_text("summary").unwrap_or_default().to_owned(),
            default: own
                .and_then(|root| root.get("default"))
                .and_then(Node::as_bool)
                .unwrap_or(false),
            source: match prebuilt {
                Some(node) if packaged.is_some() => Source::DebianImage(DebianImage::of(node)),
                Some(node) => Source::Prebuilt(Prebuilt::of(dir, node)),
                None => read_source(dir, find("source").ok_or_else(|| missing("source"))?),
            },
            patches: find("patches")
                .and_then(Node::as_str)
                .map(|folder| dir.join(folder)),
            config: find("config")
                .or(prebuilt)
                .ok_or_else(|| missing("config"))?
                .items()
                .iter()
                .filter_map(Node::as_str)
                .map(|file| dir.join(file))
                .collect(),
            capabilities: Capabilities {
                replace,
                others: Capability::ALL
                    .into_iter()
                    .filter_map(|each| Some((each, archs(capability(each.name())?))))
                    .collect(),
            },
        })
    }

    /// All kernels of the project, in the order of their names.
    pub fn all(project: &Path) -> Result<Vec<Self>> {
        files::names(&project.join("kernels"))?
            .iter()
            .map(|name| Self::read(project, name))
            .collect()
    }

    /// The only architecture that it is for, if it was built elsewhere.
    pub fn only_arch(&self) -> Option<Arch> {
        match &self.source {
            Source::Prebuilt(prebuilt) => Some(prebuilt.arch),
            _ => None,
        }
    }

    /// The config fragments for `arch`.
    pub fn config_for(&self, arch: Arch) -> Vec<PathBuf> {
        let named = |path: &PathBuf| path.to_string_lossy().replace("{arch}", arch.name());
        self.config
            .iter()
            .map(|path| PathBuf::from(named(path)))
            .collect()
    }
}

fn archs(list: &Node) -> Vec<Arch> {
    let names = list.items().iter().filter_map(Node::as_str);
    names.filter_map(|name| name.parse().ok()).collect()
}

fn read_source(dir: &Path, node: &Node) -> Source {
    let text = |node: &Node, key: &str| {
        node.get(key)
            .and_then(Node::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    // Paths are relative to kernels/, as all paths in a definition.
    let beside = |path: String| dir.join(path).to_string_lossy().into_owned();
    if let Some(candidates) = node.get("debian") {
        let candidates = candidates.items().iter();
        let candidate = |item| DebianSource {
            package: text(item, "package"),
            suite: text(item, "suite"),
        };
        Source::Debian(candidates.map(candidate).collect())
    } else if node.get("git").is_some() {
        Source::Git {
            repository: text(node, "git"),
            revision: text(node, "revision"),
        }
    } else if node.get("tarball").is_some() {
        let location = text(node, "tarball");
        let location = if location.contains("://") {
            location
        } else {
            beside(location)
        };
        Source::Tarball {
            location,
            sha256: text(node, "sha256"),
        }
    } else {
        Source::Path(PathBuf::from(beside(text(node, "path"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("kernels")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join("kernels").join(name), text).unwrap();
        }
        dir
    }

    const BASE: &str = "version: 1\nsummary: x\nsource: { path: ../linux }\n\
                        config: [\"config/{arch}.config\"]\n";

    #[test]
    fn a_definition_takes_over_what_it_does_not_say() {
        let dir = project(&[
            ("base.yaml", BASE),
            (
                "mine.yaml",
                "version: 1\nsummary: mine\nextends: base\npatches: patches/mine\n",
            ),
        ]);
        let kernel = Definition::read(dir.path(), "mine").unwrap();
        assert_eq!(kernel.summary, "mine");
        assert_eq!(
            kernel.source,
            Source::Path(dir.path().join("kernels/../linux"))
        );
        assert_eq!(
            kernel.patches,
            Some(dir.path().join("kernels/patches/mine"))
        );
    }

    #[test]
    fn a_definition_that_extends_itself_is_refused() {
        let loops = "version: 1\nsummary: x\nextends: a\n";
        let dir = project(&[("a.yaml", loops)]);
        let error = Definition::read(dir.path(), "a").unwrap_err();
        assert_eq!(error.what, "kernel `a` extends itself");
    }

    #[test]
    fn an_unknown_kernel_comes_with_a_suggestion() {
        let dir = project(&[("mainline.yaml", BASE)]);
        let error = Definition::read(dir.path(), "mainlin").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.help.unwrap().contains("did you mean `mainline`?"));
    }

    #[test]
    fn a_kernel_that_is_built_has_no_source_and_no_config() {
        let own = "version: 1\nsummary: x\nprebuilt: { image: b/bzImage, build: b, arch: arm64 }\n";
        let dir = project(&[
            ("own.yaml", own),
            ("both.yaml", &format!("{own}config: [x.config]\n")),
            (
                "more.yaml",
                "version: 1\nsummary: x\nextends: own\npatches: p\n",
            ),
        ]);
        let kernel = Definition::read(dir.path(), "own").unwrap();
        assert_eq!(
            (kernel.only_arch(), kernel.config.len()),
            (Some(Arch::Arm64), 0)
        );
        for wrong in ["both", "more"] {
            let error = Definition::read(dir.path(), wrong).unwrap_err();
            assert_eq!(error.blame, Blame::File, "{wrong}");
        }
    }

    #[test]
    fn a_kernel_of_debian_is_named_by_its_image() {
        let own = |package: &str| {
            format!(
                "version: 1\nsummary: x\n\
                 debian-image: {{ package: \"{package}\", suite: trixie }}\n"
            )
        };
        let dir = project(&[
            ("own.yaml", &own("linux-image-cloud-{arch}")),
            ("odd.yaml", &own("linux-image-$(id)")),
            ("other.yaml", &own("busybox")),
        ]);
        let kernel = Definition::read(dir.path(), "own").unwrap();
        let image = DebianImage {
            package: "linux-image-cloud-{arch}".to_owned(),
            suite: "trixie".to_owned(),
        };
        assert_eq!(kernel.source, Source::DebianImage(image));
        for wrong in ["odd", "other"] {
            let error = Definition::read(dir.path(), wrong).unwrap_err();
            assert_eq!(error.blame, Blame::File, "{wrong}");
        }
    }

    #[test]
    fn two_sources_are_refused() {
        let text = BASE.replace("path: ../linux", "path: ../linux, tarball: x, sha256: ab");
        let dir = project(&[("a.yaml", &text)]);
        assert_eq!(
            Definition::read(dir.path(), "a").unwrap_err().blame,
            Blame::File
        );
    }
}
