// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run is made from, kept in its record for `lab bundle`: `run.json`, and in `project/` the
//! files of the project that it needs, as they were.
//!
//! What was built is in the cache or with the user; `run.json` says where, and with which sum, so
//! that nothing else is taken for it later on. What cannot be kept fails no run: it is said in
//! there, for whoever wants to hand the run on.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Options;
use super::record::Record;
use crate::cache::seal;
use crate::error::{Error, Result};
use crate::event::{RunId, millis};
use crate::files::{ProjectFile, read_regular};
use crate::image::build::BuiltImage;
use crate::kernel::BuiltKernel;
use crate::module::Module;
use crate::scenario::{self, Scenario};
use crate::size::Size;
use crate::vm::Accel;
use crate::yaml::Source;

/// The version of `run.json`, and of what is said here in a bundle.
pub const VERSION: u32 = 1;
/// The file in a record.
pub const FILE: &str = "run.json";
/// The folder in a record with the files of the project.
pub const PROJECT: &str = "project";
/// The longest scenario, source patch or module.
const TEXT_MAX: u64 = 64 << 20;

/// What a run was made from, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run.
    pub run: RunId,
    /// The lab's version.
    pub lab: String,
    /// The kernel.
    pub kernel: KernelOrigin,
    /// The image.
    pub image: ImageOrigin,
    /// The names of its modules in the scenario, as they are copied into the guest.
    pub modules: Vec<String>,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// What QEMU says of its version.
    pub qemu: String,
    /// `--timeout` in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether guests were forks and played several runs.
    pub warm: bool,
    /// How large the guest was.
    #[serde(default = "Size::before")]
    pub size: Size,
    /// The words of the kernel's command line that were chosen, of those of its size.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub append: String,
    /// Whether transitions went at the kernel's own pace, as they always did in records that do not say.
    #[serde(default = "at_the_kernels_pace")]
    pub patient: bool,
}

fn at_the_kernels_pace() -> bool {
    true
}

/// Which kernel was booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelOrigin {
    /// Its key in the cache.
    pub key: String,
    /// `uname -r`.
    pub release: String,
    /// Where its source came from: `linux-source-7.3 7.3.4-1~bpo13+1`.
    pub source: String,
}

/// Which image was booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOrigin {
    /// Its key in the cache.
    pub key: String,
    /// The sum of its definition and of the guest's programs.
    pub sum: String,
    /// Its packages and their versions.
    pub packages: Vec<(String, String)>,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// [`VERSION`].
    pub version: u32,
    /// What the run was made from.
    pub origin: Origin,
    /// What was built for it.
    pub built: Vec<Built>,
    /// What could not be kept, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A file that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// What it is called in a bundle.
    pub name: String,
    /// Where it is on this machine.
    pub file: PathBuf,
    /// Its sha256 in hex.
    pub sha256: String,
}

/// What the kernel that is booted is called in a bundle.
pub const KERNEL: &str = "built/kernel";
/// The image's initramfs.
pub const INITRAMFS: &str = "built/initramfs.cpio";
/// The kernel's whole configuration.
pub const CONFIG: &str = "built/kernel.config";

/// What a module is called in a bundle.
pub fn module(name: &str) -> String {
    format!("built/modules/{name}.ko")
}

/// All of it, until it is in a record.
#[derive(Debug, Clone)]
pub struct Provenance {
    recorded: Recorded,
    /// The scenario's file and what it names.
    scenario: Vec<ProjectFile>,
    /// The kernel's, which the runs of a kernel share.
    kernel: Option<Arc<Result<Vec<ProjectFile>>>>,
}

/// What a run is put together from.
pub(super) struct Ingredients<'a> {
    pub(super) run: RunId,
    pub(super) scenario: &'a Scenario,
    pub(super) kernel: &'a BuiltKernel,
    /// Its definition, with what that names.
    pub(super) definition: &'a Arc<Result<Vec<ProjectFile>>>,
    pub(super) boot_file: &'a Path,
    pub(super) image: &'a BuiltImage,
    /// [`crate::image::Definition::sum`].
    pub(super) image_sum: String,
    pub(super) accel: Accel,
    pub(super) size: &'a Size,
    /// The words that were chosen, of those of its size.
    pub(super) append: &'a str,
    pub(super) qemu: &'a str,
    pub(super) modules: &'a [Module],
    pub(super) options: &'a Options,
}

impl Provenance {
    /// What there is to say of a run.
    pub(super) fn of(parts: &Ingredients<'_>) -> Self {
        let (kernel, image) = (parts.kernel, parts.image);
        let mut missing = Vec::new();
        let scenario = scenario_files(parts.scenario).unwrap_or_else(|error| {
            missing.push(error.what);
            Vec::new()
        });
        if let Err(error) = &**parts.definition {
            missing.push(error.what.clone());
        }
        let mut built = Vec::new();
        let mut build = |name: String, file: &Path| match seal::sum(file) {
            Ok(sha256) => built.push(Built {
                name,
                file: file.to_path_buf(),
                sha256,
            }),
            Err(error) => missing.push(error.what),
        };
        build(KERNEL.to_owned(), parts.boot_file);
        build(INITRAMFS.to_owned(), &image.initramfs);
        build(CONFIG.to_owned(), &kernel.config());
        for built in parts.modules {
            build(module(&built.name), &built.path);
        }
        let origin = Origin {
            run: parts.run.clone(),
            lab: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: KernelOrigin {
                key: kernel.key.clone(),
                release: kernel.release.clone(),
                source: kernel.source.clone(),
            },
            image: ImageOrigin {
                key: image.key.clone(),
                sum: parts.image_sum.clone(),
                packages: image.packages(),
            },
            modules: parts.modules.iter().map(|m| m.name.clone()).collect(),
            accel: parts.accel.to_string(),
            qemu: parts.qemu.to_owned(),
            timeout_ms: parts.options.timeout.map(millis),
            warm: parts.options.warm,
            size: parts.size.clone(),
            append: parts.append.to_owned(),
            patient: parts.options.patient,
        };
        Self {
            recorded: Recorded {
                version: VERSION,
                origin,
                built,
                missing,
            },
            scenario,
            kernel: Some(Arc::clone(parts.definition)),
        }
    }

    /// Of a run that is made from a bundle: its files are there for as long as the lab that plays
    /// it, and whoever wants to hand it on has the bundle.
    pub fn of_bundle(origin: Origin) -> Self {
        let origin = Origin {
            lab: env!("CARGO_PKG_VERSION").to_owned(),
            ..origin
        };
        Self {
            recorded: Recorded {
                version: VERSION,
                origin,
                built: Vec::new(),
                missing: vec!["it was made from a bundle: hand that on".to_owned()],
            },
            scenario: Vec::new(),
            kernel: None,
        }
    }

    /// Keeps it in a record.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let kernel = self
            .kernel
            .iter()
            .filter_map(|files| files.as_ref().as_ref().ok());
        for file in self.scenario.iter().chain(kernel.flatten()) {
            record.write_bytes(&format!("{PROJECT}/{}", file.path), &file.data)?;
        }
        let json = serde_json::to_string_pretty(&self.recorded);
        let json = json.map_err(|error| Error::lab(error.to_string()))?;
        record.write(FILE, &json)
    }
}

/// The scenario's file, and the source patches and modules that it names, which must still be what is played.
fn scenario_files(scenario: &Scenario) -> Result<Vec<ProjectFile>> {
    let file = scenario.folder.join(format!("{}.yaml", scenario.name));
    let data = read_regular(&file, TEXT_MAX)?;
    let text = String::from_utf8_lossy(&data);
    let source = Source::new(file.display().to_string(), &*text);
    if scenario::parse(&scenario.name, &source).ok().as_ref() != Some(scenario) {
        let what = format!("{} has changed since it was read", file.display());
        return Err(Error::lab(what));
    }
    let folder = Path::new("scenarios");
    let mut files = vec![ProjectFile {
        path: format!("scenarios/{}.yaml", scenario.name),
        data,
    }];
    let patches = scenario.from_klp_build().flat_map(|(_, patches)| patches);
    let modules = scenario.prebuilt().map(|(_, file)| file);
    for named in patches.chain(modules) {
        let below = named.strip_prefix(&scenario.folder).unwrap_or(&named);
        let path = inside(&folder.join(below)).ok_or_else(|| {
            let named = named.display();
            Error::lab(format!("{named} is outside of the scenario's folder"))
        })?;
        // Two livepatches may be made from the same one.
        if files.iter().all(|file| file.path != path) {
            let data = read_regular(&named, TEXT_MAX)?;
            files.push(ProjectFile { path, data });
        }
    }
    Ok(files)
}

/// A relative path without `..`, if it leads nowhere else.
fn inside(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_project_or_is_none() {
        let of = |path: &str| inside(Path::new(path));
        assert_eq!(of("scenarios/a/./b.patch").unwrap(), "scenarios/a/b.patch");
        assert_eq!(of("scenarios/../p/b.patch").unwrap(), "p/b.patch");
        assert_eq!(of("scenarios/../../b.patch"), None);
        assert_eq!(of("/etc/passwd"), None);
    }

    #[test]
    fn a_record_that_does_not_say_its_pace_is_of_the_kernels_own() {
        let text = r#"{
            "run": { "scenario": "a", "kernel": "tags", "arch": "arm64" }, "lab": "0.1.0",
            "kernel": { "key": "k", "release": "r", "source": "s" },
            "image": { "key": "i", "sum": "s", "packages": [] },
            "modules": [], "accel": "tcg", "qemu": "q", "timeout_ms": null, "warm": true
        }"#;
        let mut origin: Origin = serde_json::from_str(text).unwrap();
        assert!(origin.patient);
        origin.patient = false;
        let text = serde_json::to_string(&origin).unwrap();
        assert_eq!(serde_json::from_str::<Origin>(&text).unwrap(), origin);
    }

    #[test]
    fn the_files_of_a_scenario_are_what_is_played() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let path = format!("{root}/klp-build-tags.yaml");
        let read = || crate::files::read_source(Path::new(&path)).unwrap();
        let scenario = scenario::parse("klp-build-tags", &read()).unwrap();
        let files = scenario_files(&scenario).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(names[0], "scenarios/klp-build-tags.yaml");
        assert!(names.len() > 1, "{names:?}");
        assert!(
            names[1..]
                .iter()
                .all(|name| name.starts_with("scenarios/klp-build-tags/"))
        );
        let other = Scenario {
            steps: Vec::new(),
            ..scenario
        };
        let error = scenario_files(&other).unwrap_err();
        assert!(error.what.ends_with("has changed since it was read"));
    }
}
