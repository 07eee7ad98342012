// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a kernel comes from, as its definition says.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::arch::Arch;
use crate::yaml::Node;

/// A definition's `source`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Source {
    /// Debian source packages, newest first: an archive keeps only its current ones.
    Debian(Vec<DebianSource>),
    /// A revision of a git repository.
    Git {
        /// What `git fetch` takes.
        repository: String,
        /// A commit, tag or branch.
        revision: String,
    },
    /// A tarball.
    Tarball {
        /// A URL or a file.
        location: String,
        /// Its checksum, in hex.
        sha256: String,
    },
    /// The user's own tree, which is only read.
    Path(PathBuf),
    /// None: the kernel was built elsewhere.
    Prebuilt(Prebuilt),
    /// None: Debian has built the kernel.
    DebianImage(DebianImage),
}

impl Source {
    /// Each source that this one may turn out to be, by itself.
    pub fn candidates(&self) -> Vec<Self> {
        match self {
            Source::Debian(candidates) => candidates
                .iter()
                .map(|candidate| Source::Debian(vec![candidate.clone()]))
                .collect(),
            other => vec![other.clone()],
        }
    }
}

/// A Debian package that holds a kernel source, such as `linux-source-7.3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DebianSource {
    /// The package.
    pub package: String,
    /// The suite that has it.
    pub suite: String,
}

/// A definition's `debian-image`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DebianImage {
    /// The package; `{arch}` in it stands for Debian's name of the architecture.
    pub package: String,
    /// The suite that has it.
    pub suite: String,
}

impl DebianImage {
    /// Reads `debian-image:` of a definition.
    pub(super) fn of(node: &Node) -> Self {
        let text = |key: &str| node.get(key).and_then(Node::as_str);
        let text = |key: &str| text(key).unwrap_or_default().to_owned();
        Self {
            package: text("package"),
            suite: text("suite"),
        }
    }
}

/// A kernel that was built elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prebuilt {
    /// What QEMU boots: a bzImage, an Image or a vmlinux.
    pub image: PathBuf,
    /// Its build folder, against which modules are built.
    pub build: PathBuf,
    /// What it is for.
    pub arch: Arch,
    /// Its own modules, where what a guest needs is not built in.
    pub modules: Option<PathBuf>,
}

impl Prebuilt {
    /// Reads `prebuilt:` of a definition in `dir`.
    pub(super) fn of(dir: &Path, node: &Node) -> Self {
        let text = |key: &str| node.get(key).and_then(Node::as_str);
        let path = |key: &str| dir.join(text(key).unwrap_or_default());
        Self {
            image: path("image"),
            build: path("build"),
            arch: text("arch")
                .and_then(|name| name.parse().ok())
                .unwrap_or(Arch::USUAL),
            modules: text("modules").map(|folder| dir.join(folder)),
        }
    }
}

pub(super) fn read_source(dir: &Path, node: &Node) -> Source {
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
