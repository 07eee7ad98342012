// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model of a scenario: what the rest of the lab works with.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::arch::Arch;
use crate::klp::{Code, Livepatch, ReplaceCapability, Target, kernel_module_name};
use crate::size::Needs;
use crate::step::{Change, Place, Step};

/// The version of the format that this lab reads.
pub(super) const VERSION: i64 = 1;

/// A story to play to a kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// The file's name without its extension.
    pub name: String,
    /// The folder of its file, to which paths in it are relative.
    pub folder: PathBuf,
    /// What it shows, in one line.
    pub summary: String,
    /// The case of the kernel's own selftests that it stands for, if any.
    pub original: Option<Original>,
    /// What it needs of the kernel.
    pub requires: Requires,
    /// What it needs of the guest.
    #[serde(skip_serializing_if = "Needs::is_empty")]
    pub machine: Needs,
    /// The modules with functions to patch.
    pub targets: Vec<Target>,
    /// The livepatches.
    pub livepatches: Vec<Livepatch>,
    /// What happens.
    pub steps: Vec<Step>,
    /// Where it is known to fail.
    pub expect_failure: Vec<ExpectedFailure>,
    /// Complaints of the kernel that do not fail it.
    pub allow_splats: Vec<AllowedSplat>,
    /// What is not the same twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<Mask>,
    /// Which runs share a snapshot.
    pub snapshot: SnapshotScope,
}

impl Scenario {
    /// Whether it unloads all that it loads, so that a guest can be as it was before. A guess
    /// from the steps: the guest has the last word.
    pub fn cleans_up(&self) -> bool {
        let mut loaded = BTreeSet::new();
        for step in &self.steps {
            let effects = step.action.effects();
            match effects.changes {
                Change::Nothing | Change::Watched => {}
                Change::File(path) if self.is_watched(path) => {}
                Change::File(_) | Change::Unwatched => return false,
            }
            if effects.errno.is_none() {
                loaded.extend(effects.loads);
                loaded.retain(|loaded| !effects.unloads.iter().any(|module| module == loaded));
            }
        }
        loaded.is_empty()
    }

    /// Whether a guest that has been written to here can say if it is as it was before: the agent
    /// looks at these settings, and a module's own go with it.
    fn is_watched(&self, path: &str) -> bool {
        let own = |name: &String| {
            let module = kernel_module_name(name);
            path.starts_with(&format!("/sys/module/{module}/"))
        };
        let targets = self.targets.iter().map(|target| &target.name);
        let mut modules = targets.chain(self.livepatches.iter().map(|livepatch| &livepatch.name));
        path.starts_with("/sys/kernel/livepatch/")
            || path.starts_with("/sys/kernel/debug/kprobes/")
            || path == "/proc/sys/kernel/ftrace_enabled"
            || modules.any(own)
    }

    /// The livepatches that klp-build makes, each with its source patches.
    pub fn from_klp_build(&self) -> impl Iterator<Item = (&Livepatch, Vec<PathBuf>)> {
        self.livepatches.iter().filter_map(|livepatch| {
            let Code::KlpBuild { patches } = &livepatch.code else {
                return None;
            };
            let paths = patches.iter().map(|patch| self.folder.join(patch));
            Some((livepatch, paths.collect()))
        })
    }

    /// The modules that are the kernel's own, from its selftests, as they are called there.
    pub fn from_kselftest(&self) -> impl Iterator<Item = &str> {
        let targets = self.targets.iter().filter(|target| target.is_kselftest);
        let own = |livepatch: &&Livepatch| livepatch.code == Code::Kselftest;
        let livepatches = self.livepatches.iter().filter(own);
        targets
            .map(|target| &*target.name)
            .chain(livepatches.map(|livepatch| &*livepatch.name))
    }

    /// The modules that were built elsewhere, each with its file.
    pub fn prebuilt(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let targets = self.targets.iter();
        let targets = targets.filter_map(|target| Some((&*target.name, target.ko.as_ref()?)));
        let livepatches = self.livepatches.iter().filter_map(|livepatch| {
            let Code::Prebuilt { ko } = &livepatch.code else {
                return None;
            };
            Some((&*livepatch.name, ko))
        });
        targets
            .chain(livepatches)
            .map(|(name, ko)| (name, self.folder.join(ko)))
    }

    /// Whether the lab generates any of its modules.
    #[must_use]
    pub fn has_generated(&self) -> bool {
        self.targets.iter().any(Target::is_generated)
            || self.livepatches.iter().any(|l| l.generated().is_some())
    }

    /// The target with this name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// Whether anything in it needs the kernel's klp-build.
    #[must_use]
    pub fn uses_klp_build(&self) -> bool {
        let step = |step: &Step| step.action.effects().place == Place::Host;
        self.from_klp_build().next().is_some() || self.steps.iter().any(step)
    }

    /// The livepatch with this name.
    #[must_use]
    pub fn livepatch(&self, name: &str) -> Option<&Livepatch> {
        self.livepatches
            .iter()
            .find(|livepatch| livepatch.name == name)
    }
}

/// A case of `tools/testing/selftests/livepatch`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Original {
    /// The script: `test-livepatch.sh`.
    pub script: String,
    /// What it calls the case: the text of its `start_test`.
    pub test: String,
}

/// A known defect of a kernel: the scenario must fail there, at this step and in this way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedFailure {
    /// The kernels' names.
    pub kernels: Vec<String>,
    /// The step, from 1.
    pub step: usize,
    /// What must occur in the step's problem.
    pub failure: String,
    /// Why it fails, in one line.
    pub reason: String,
}

/// A complaint that the kernel may make. A panic is never allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllowedSplat {
    /// What must occur in its first line.
    pub title: String,
    /// Why, in one line.
    pub reason: String,
    /// Whether the kernel has to say it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub must: bool,
}

/// Part of a log line or of a result that is not the same twice, as states and snapshots show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mask {
    /// The part, with a `*` for what varies: one or more characters other than spaces.
    pub text: String,
    /// Why it varies, in one line.
    pub reason: String,
}

/// Which runs of a scenario share a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotScope {
    /// Those on the same kernel.
    #[default]
    PerKernel,
    /// All: every kernel must behave the same.
    Shared,
}

/// What a scenario needs, or else it is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requires {
    /// What `klp_patch.replace` must be; `None` if it does not matter.
    pub replace: Option<ReplaceCapability>,
    /// The architectures it is for; empty if it is for any.
    pub arch: Vec<Arch>,
    /// What the kernel must have besides.
    pub capabilities: Vec<Capability>,
}

/// What a kernel has on some architectures and lacks on others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// `scripts/livepatch/klp-build`, and the objtool that it needs.
    KlpBuild,
    /// Kprobes that use ftrace (`CONFIG_KPROBES_ON_FTRACE`).
    KprobesOnFtrace,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::KlpBuild, Self::KprobesOnFtrace];

    /// The names of [`Capability::ALL`], as they are written in YAML files.
    pub const NAMES: [&'static str; 2] = [Self::KlpBuild.name(), Self::KprobesOnFtrace.name()];

    /// The name that is written in YAML files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KlpBuild => "klp-build",
            Self::KprobesOnFtrace => "kprobes-on-ftrace",
        }
    }
}
