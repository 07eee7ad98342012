// SPDX-License-Identifier: MIT OR Apache-2.0
//! Targets and livepatches, and how their functions are named.

use std::fmt;

use serde::Serialize;

use super::errno::Errno;
use super::snippet::Snippet;

/// The object that stands for the kernel itself.
pub const VMLINUX: &str = "vmlinux";

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

/// A module that is no livepatch: one that the lab generates, with functions to patch, one of the
/// kernel's own selftests, or one that was built elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, perhaps with `-`; see [`super::kernel_module_name`].
    pub name: String,
    /// Whether it is built from the kernel tree's `tools/testing/selftests/livepatch/test_modules`;
    /// its functions are not known then.
    pub is_kselftest: bool,
    /// Its file, relative to the scenario's folder, if it was built elsewhere; its functions are
    /// not known then.
    pub ko: Option<String>,
    /// Its functions, each `int name(void)`. Those of the same name follow each other by sympos.
    pub functions: Vec<TargetFunction>,
    /// With what its init fails, if it has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Errno>,
}

impl Target {
    /// Whether the lab generates it, and so knows its functions.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        !self.is_kselftest && self.ko.is_none()
    }
}

/// A function of a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetFunction {
    /// What it is called.
    pub symbol: Symbol,
    /// What it returns as long as nothing patches it.
    pub returns: i32,
}

/// A function's name, and which of the functions of that name in its object it is.
///
/// Written as sysfs does: `price`, or `price,2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol {
    /// The name in C.
    pub name: String,
    /// Counted from 1; 0 if it is the only one (`klp_func.old_sympos`).
    pub sympos: u32,
}

/// A livepatch module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Livepatch {
    /// Its name, perhaps with `-`; see [`super::kernel_module_name`].
    pub name: String,
    /// What it replaces.
    pub replace: Replace,
    /// Where its code comes from.
    pub code: Code,
}

impl Livepatch {
    /// What the lab generates for it; `None` if it comes from elsewhere.
    #[must_use]
    pub fn generated(&self) -> Option<&Generated> {
        match &self.code {
            Code::Generated(generated) => Some(generated),
            Code::KlpBuild { .. } | Code::Kselftest | Code::Prebuilt { .. } => None,
        }
    }
}

/// Where a [`Livepatch`]'s code comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The lab generates it.
    Generated(Generated),
    /// The kernel's own `scripts/livepatch/klp-build` makes it from source patches.
    KlpBuild {
        /// The patches for the kernel source, relative to the scenario's folder.
        patches: Vec<String>,
    },
    /// It is built from the kernel tree's `tools/testing/selftests/livepatch/test_modules`.
    Kselftest,
    /// It was built elsewhere.
    Prebuilt {
        /// The module's file, relative to the scenario's folder.
        ko: String,
    },
}

/// What a generated [`Livepatch`] consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Generated {
    /// What it patches.
    pub objects: Vec<PatchedObject>,
    /// The callbacks of its objects, which need not be among those that it patches.
    pub callbacks: Vec<Callbacks>,
    /// The system states that it modifies.
    pub states: Vec<State>,
    /// Headers for the code of functions and callbacks, as they stand between `<` and `>`.
    pub include: Vec<Snippet>,
    /// C code that comes before its functions: variables that they share.
    pub preamble: Option<Snippet>,
}

/// The callbacks of an object: `struct klp_callbacks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Callbacks {
    /// The object; see [`PatchedObject::object`].
    pub object: String,
    /// Before the object is patched.
    pub pre_patch: Option<Callback>,
    /// After the transition that patched it.
    pub post_patch: Option<Callback>,
    /// Before it is unpatched.
    pub pre_unpatch: Option<Callback>,
    /// After the transition that unpatched it.
    pub post_unpatch: Option<Callback>,
}

/// What a callback does. Each first logs its name and the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Callback {
    /// Nothing else.
    Log,
    /// Fails; only `pre_patch` can.
    Fail(Errno),
    /// Statements in C, with `struct klp_object *obj` at hand. They need not return anything.
    C(Snippet),
}

/// A system state that a [`Livepatch`] modifies: `struct klp_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its identifier, not 0.
    pub id: u32,
    /// The version of the change.
    pub version: u32,
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
    /// What it is called.
    pub symbol: Symbol,
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
        signature: Snippet,
        /// The headers it needs, as they stand between `<` and `>`.
        include: Vec<Snippet>,
        /// The statements of the body.
        body: Snippet,
    },
}

/// A function of a target, written `target.function`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionRef {
    /// The target; where ftrace is asked, any object.
    pub object: String,
    /// The function.
    pub symbol: Symbol,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.sympos {
            0 => Ok(()),
            sympos => write!(f, ",{sympos}"),
        }
    }
}

impl Serialize for Symbol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.object, self.symbol)
    }
}

impl Serialize for FunctionRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
