// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel definitions: `kernels/*.yaml`.

mod shape;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::files;
use crate::scenario::{Capability, ReplaceCapability};
use crate::size::Needs;
use crate::yaml::Node;
use shape::KERNEL_FILE;
use source::read_source;
pub use source::{DebianImage, DebianSource, Prebuilt, Source};

/// A kernel that the lab can build.
#[derive(Debug, Clone, Serialize)]
pub struct Definition {
    /// The file's name without its extension.
    pub name: String,
    /// What it is, in one line.
    pub summary: String,
    /// Used when the command line names no kernel.
    pub default: bool,
    /// The kernels whose snapshots it is held against where it has none of its own, the nearest
    /// first: the one that it names or extends, and so on.
    pub bases: Vec<String>,
    /// Where the source comes from.
    pub source: Source,
    /// The folder of its patch series.
    pub patches: Option<PathBuf>,
    /// Its config fragments; `{arch}` in a name stands for the architecture.
    pub config: Vec<PathBuf>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What its guests need.
    pub machine: Needs,
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
        let bases = bases(&dir, name, &chain[0].1)?;
        Self::lower(&dir, name, &chain, bases)
    }

    fn lower(dir: &Path, name: &str, chain: &[(String, Node)], bases: Vec<String>) -> Result<Self> {
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
            bases,
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
            machine: Needs::of(find("machine")),
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

/// The kernels whose snapshots a kernel is held against, by way of `snapshots:`, else of `extends:`.
fn bases(dir: &Path, name: &str, own: &Node) -> Result<Vec<String>> {
    let base = |root: &Node| {
        let base = root.get("snapshots").or_else(|| root.get("extends"));
        base.and_then(Node::as_str).map(str::to_owned)
    };
    let mut bases = Vec::new();
    let mut next = base(own);
    while let Some(base_name) = next {
        if base_name == name || bases.contains(&base_name) {
            let what = format!("kernel `{name}` is held against its own snapshots");
            return Err(Error::new(Blame::File, what).help(format!(
                "`snapshots:` goes round in a circle by way of `{base_name}`"
            )));
        }
        next = base(&files::read_named(dir, "kernel", &base_name, KERNEL_FILE)?);
        bases.push(base_name);
    }
    Ok(bases)
}

fn archs(list: &Node) -> Vec<Arch> {
    let names = list.items().iter().filter_map(Node::as_str);
    names.filter_map(|name| name.parse().ok()).collect()
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
    fn a_kernel_is_held_against_the_snapshots_of_what_it_names_or_extends() {
        let text = |more: &str| format!("version: 1\nsummary: x\n{more}\n");
        let dir = project(&[
            ("base.yaml", BASE),
            ("tags.yaml", &text("extends: base")),
            ("mine.yaml", &text("extends: base\nsnapshots: tags")),
            ("more.yaml", &text("extends: mine")),
            (
                "built.yaml",
                &text("snapshots: tags\nprebuilt: { image: b, build: b, arch: arm64 }"),
            ),
            ("round.yaml", &text("extends: base\nsnapshots: trip")),
            ("trip.yaml", &text("extends: base\nsnapshots: round")),
            ("lost.yaml", &text("extends: base\nsnapshots: tgas")),
        ]);
        let bases = |name: &str| Definition::read(dir.path(), name).map(|kernel| kernel.bases);
        assert_eq!(bases("base").unwrap(), [""; 0]);
        assert_eq!(bases("mine").unwrap(), ["tags", "base"]);
        assert_eq!(bases("more").unwrap(), ["mine", "tags", "base"]);
        assert_eq!(bases("built").unwrap(), ["tags", "base"]);
        let round = bases("round").unwrap_err();
        assert_eq!(
            round.what,
            "kernel `round` is held against its own snapshots"
        );
        let lost = bases("lost").unwrap_err();
        assert!(lost.help.unwrap().contains("did you mean `tags`?"));
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
