// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model of a scenario: what the rest of the lab works with.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Errno;
use crate::arch::Arch;

/// The object that stands for the kernel itself.
pub const VMLINUX: &str = "vmlinux";

/// A story to play to a kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// The file's name without its extension.
    pub name: String,
    /// What it shows, in one line.
    pub summary: String,
    /// What it needs of the kernel.
    pub requires: Requires,
    /// The modules with functions to patch.
    pub targets: Vec<Target>,
    /// The livepatches.
    pub livepatches: Vec<Livepatch>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// The target with this name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// The livepatch with this name.
    #[must_use]
    pub fn livepatch(&self, name: &str) -> Option<&Livepatch> {
        self.livepatches
            .iter()
            .find(|livepatch| livepatch.name == name)
    }
}

/// What a scenario needs, or else it is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requires {
    /// What `klp_patch.replace` must be; `None` if it does not matter.
    pub replace: Option<ReplaceCapability>,
    /// The architectures it is for; empty if it is for any.
    pub arch: Vec<Arch>,
}

/// What a kernel's `klp_patch.replace` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplaceCapability {
    /// A bool: all older livepatches are replaced, or none.
    Bool,
    /// A u32 replace tag.
    Tags,
}

impl ReplaceCapability {
    /// Both names, as they are written in YAML files.
    pub const NAMES: [&'static str; 2] = [Self::Bool.name(), Self::Tags.name()];

    /// The name that is written in YAML files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Tags => "tags",
        }
    }
}

/// A module that the lab generates, with functions to patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, perhaps with `-`; see [`super::kernel_module_name`].
    pub name: String,
    /// Its functions, each `int name(void)`.
    pub functions: Vec<TargetFunction>,
}

/// A function of a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetFunction {
    /// Its name in C.
    pub name: String,
    /// What it returns as long as nothing patches it.
    pub returns: i32,
}

/// A livepatch module that the lab generates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Livepatch {
    /// Its name, perhaps with `-`; see [`super::kernel_module_name`].
    pub name: String,
    /// What it replaces.
    pub replace: Replace,
    /// What it patches.
    pub objects: Vec<PatchedObject>,
}

/// The `replace` of a [`Livepatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replace {
    /// As every kernel knows it. With tags, true means tag 1 and false tag 0.
    Flag(bool),
    /// A tag, which only kernels with tags know.
    Tag(u32),
}

/// An object that a [`Livepatch`] patches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PatchedObject {
    /// [`VMLINUX`], the name of a [`Target`], or that of any other kernel module.
    pub object: String,
    /// The functions that get a new version.
    pub functions: Vec<PatchedFunction>,
}

/// A function that a [`Livepatch`] patches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PatchedFunction {
    /// Its name in C.
    pub name: String,
    /// What it becomes.
    pub new: NewFunction,
}

/// The new version of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NewFunction {
    /// `int name(void)` with another return value.
    Returns(i32),
    /// C code.
    C {
        /// The declaration, without `;`.
        signature: String,
        /// The headers it needs, as they stand between `<` and `>`.
        include: Vec<String>,
        /// The statements of the body.
        body: String,
    },
}

/// One thing that happens, and what must be so afterwards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The line of the file on which it starts, from 1.
    pub line: usize,
    /// What happens.
    pub action: Action,
    /// What must be so afterwards.
    pub expect: Option<Expect>,
    /// How long it may take, if not as long as usual.
    pub timeout: Option<Duration>,
}

/// What happens in a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Loads a target or a livepatch, whose transition must then complete.
    Load {
        /// The target or livepatch.
        module: String,
        /// The module's parameters.
        params: Vec<(String, String)>,
        /// It must fail, and with this.
        errno: Option<Errno>,
    },
    /// Disables a livepatch: writes 0 to `enabled`.
    Disable {
        /// The livepatch.
        livepatch: String,
        /// It must fail, and with this.
        errno: Option<Errno>,
    },
    /// Unloads modules, one after the other.
    Unload {
        /// The targets and livepatches.
        modules: Vec<String>,
        /// It must fail, and with this.
        errno: Option<Errno>,
    },
    /// Calls a function of a target.
    Call {
        /// The function.
        function: FunctionRef,
        /// What it must return.
        returns: Option<i32>,
    },
    /// Reads a file of the guest.
    Read {
        /// Its absolute path.
        path: String,
        /// What it must hold, but for a final newline.
        equals: Option<String>,
        /// What must occur in it.
        contains: Option<String>,
    },
    /// Waits for a file of the guest.
    Wait {
        /// Its absolute path.
        path: String,
        /// What to wait for.
        until: WaitUntil,
    },
    /// Nothing: only the expectation is checked.
    Expect,
}

/// What an [`Action::Wait`] waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitUntil {
    /// The file holds this, but for a final newline.
    Equals(String),
    /// The file is there.
    Exists,
    /// The file is not there.
    Absent,
}

/// A function of a target, written `target.function`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionRef {
    /// The target.
    pub target: String,
    /// The function.
    pub function: String,
}

/// What must be so after a [`Step`]. What is not mentioned may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expect {
    /// The enabled livepatches in stack order, the oldest first.
    pub livepatches: Option<Vec<String>>,
    /// What functions return.
    pub calls: Vec<(FunctionRef, i32)>,
    /// The replace tags of livepatches, as sysfs shows them.
    pub tags: Vec<(String, u32)>,
    /// The targets and livepatches that are loaded, in any order.
    pub modules: Option<Vec<String>>,
    /// Livepatch, object, and whether sysfs calls it patched.
    pub patched: Vec<(String, String, bool)>,
}

impl Action {
    /// The action in a few words, for reports and snapshots: "load pricing-v1".
    #[must_use]
    pub fn label(&self) -> String {
        self.to_string()
    }

    /// The errno with which the action must fail, if it must.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Load { errno, .. } | Self::Disable { errno, .. } | Self::Unload { errno, .. } => {
                *errno
            }
            Self::Call { .. } | Self::Read { .. } | Self::Wait { .. } | Self::Expect => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { module, .. } => write!(f, "load {module}"),
            Self::Disable { livepatch, .. } => write!(f, "disable {livepatch}"),
            Self::Unload { modules, .. } => write!(f, "unload {}", modules.join(", ")),
            Self::Call { function, .. } => write!(f, "call {function}"),
            Self::Read { path, .. } => write!(f, "read {path}"),
            Self::Wait { path, .. } => write!(f, "wait for {path}"),
            Self::Expect => f.write_str("expect"),
        }
    }
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.target, self.function)
    }
}

impl Serialize for FunctionRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
