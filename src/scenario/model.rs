// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model of a scenario: what the rest of the lab works with.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{Errno, kernel_module_name};
use crate::arch::Arch;

/// The object that stands for the kernel itself.
pub const VMLINUX: &str = "vmlinux";

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
    /// Which runs share a snapshot.
    pub snapshot: SnapshotScope,
}

impl Scenario {
    /// Whether it unloads all that it loads, so that a guest can be as it was before. A guess
    /// from the steps: the guest has the last word.
    pub fn cleans_up(&self) -> bool {
        let mut loaded = std::collections::BTreeSet::new();
        for step in &self.steps {
            match &step.action {
                Action::Load {
                    module,
                    errno: None,
                    ..
                } => drop(loaded.insert(module.as_str())),
                Action::Unload {
                    modules,
                    errno: None,
                } => loaded.retain(|loaded| !modules.iter().any(|module| module == loaded)),
                Action::Write { path, .. } if !self.is_watched(path) => return false,
                _ => {}
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
        let step = |step: &Step| matches!(step.action, Action::KlpBuild { .. });
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
    pub include: Vec<String>,
    /// C code that comes before its functions: variables that they share.
    pub preamble: Option<String>,
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
    C(String),
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
    /// What it is called, if anything refers to it.
    pub name: Option<String>,
    /// What happens.
    pub action: Action,
    /// What must be so afterwards.
    pub expect: Option<Expect>,
    /// How long it may take, if not as long as usual.
    pub timeout: Option<Duration>,
    /// A file that must be there, or else the step is skipped: not every kernel has each attribute.
    pub requires: Option<String>,
}

/// What happens in a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Loads a target or a livepatch.
    Load {
        /// The target or livepatch.
        module: String,
        /// The module's parameters; `${NAME.pids}` stands for the processes of a `spawn` step,
        /// separated by commas.
        params: Vec<(String, String)>,
        /// It must fail, and with this.
        errno: Option<Errno>,
        /// What must become of the transition.
        transition: Transition,
    },
    /// Disables a livepatch: writes 0 to `enabled`.
    Disable {
        /// The livepatch.
        livepatch: String,
        /// It must fail, and with this.
        errno: Option<Errno>,
        /// What must become of the transition.
        transition: Transition,
    },
    /// Reverses a transition: writes to `enabled` what it is not.
    Reverse {
        /// The livepatch in transition.
        livepatch: String,
        /// It must fail, and with this.
        errno: Option<Errno>,
        /// What must become of the transition.
        transition: Transition,
    },
    /// Forces a transition to complete: writes 1 to `force`.
    Force {
        /// The livepatch in transition.
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
    /// Lets a task enter a function, as it is now, and stay in it.
    Hold {
        /// The function.
        function: FunctionRef,
    },
    /// Lets the task leave a function that was held; a transition must then complete.
    Release {
        /// The function.
        function: FunctionRef,
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
        /// It must fail, and with this.
        errno: Option<Errno>,
    },
    /// Writes a file of the guest. No transition is waited for.
    Write {
        /// Its absolute path.
        path: String,
        /// What is written, in one `write(2)`.
        data: String,
        /// It must fail, and with this.
        errno: Option<Errno>,
    },
    /// Waits for a file of the guest.
    Wait {
        /// Its absolute path.
        path: String,
        /// What to wait for.
        until: WaitUntil,
    },
    /// Looks at the rights of a file of the guest.
    Stat {
        /// Its absolute path.
        path: String,
        /// As ls(1) shows them: `-rw-r--r--`.
        rights: Option<String>,
        /// It must fail, and with this.
        errno: Option<Errno>,
    },
    /// Starts processes that do nothing but make a system call, over and over.
    Spawn {
        /// What they are called.
        name: String,
        /// The system call.
        hammer: Hammer,
        /// How many; one for each CPU of the guest if it is not said.
        count: Option<u32>,
    },
    /// Sends SIGTERM to processes that were spawned, and waits until they have ended.
    Kill {
        /// What they are called.
        name: String,
    },
    /// Starts ftrace's function tracer on a function, or stops it.
    Trace {
        /// The function; `None` to stop, and forget what was traced.
        function: Option<String>,
    },
    /// Turns pr_debug() messages on or off.
    #[serde(rename = "dynamic-debug")]
    DynamicDebug {
        /// Queries as `/sys/kernel/debug/dynamic_debug/control` takes them.
        queries: Vec<String>,
    },
    /// Gives options to the kernel's own klp-build, on the host. Nothing is built: klp-build must
    /// accept the options, or reject them at once.
    #[serde(rename = "klp-build")]
    KlpBuild {
        /// The options.
        options: Vec<String>,
        /// They must be rejected, and this must occur in the error.
        rejects: Option<String>,
    },
    /// Nothing: only the expectation is checked.
    Expect,
}

/// What must become of the transition that a step starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// It completes.
    #[default]
    Completes,
    /// It stays open, and only for the tasks in functions that are held.
    Held,
    /// It stays open, and only for tasks that are in this function, which is not one of a target.
    HeldIn(String),
    /// There is none of its own to wait for: a target is loaded.
    None,
}

/// What the processes of an [`Action::Spawn`] do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hammer {
    /// `getpid(2)`.
    Getpid,
}

impl Hammer {
    /// The names of all, as they are written in YAML files.
    pub const NAMES: [&'static str; 1] = ["getpid"];
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
    /// The target; in [`Expect::enabled_functions`] any object.
    pub object: String,
    /// The function.
    pub symbol: Symbol,
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
    /// The `stack_order` of livepatches.
    pub stack_order: Vec<(String, u32)>,
    /// The livepatch in transition; the inner `None` if there must be none.
    pub transition: Option<Option<String>>,
    /// The functions with a livepatch's ftrace handler, in any order.
    pub enabled_functions: Option<Vec<FunctionRef>>,
    /// What must occur, in this order, in the step's log lines of livepatches and modules.
    pub log: Vec<String>,
    /// All of those lines.
    pub whole_log: Option<Vec<String>>,
    /// What must not occur there.
    pub not_in_log: Vec<String>,
    /// The functions that ftrace's function tracer has seen, in any order.
    pub traced: Option<Vec<String>>,
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
            Self::Load { errno, .. }
            | Self::Disable { errno, .. }
            | Self::Reverse { errno, .. }
            | Self::Force { errno, .. }
            | Self::Unload { errno, .. }
            | Self::Read { errno, .. }
            | Self::Stat { errno, .. }
            | Self::Write { errno, .. } => *errno,
            Self::Hold { .. }
            | Self::Release { .. }
            | Self::Call { .. }
            | Self::Wait { .. }
            | Self::Spawn { .. }
            | Self::Kill { .. }
            | Self::Trace { .. }
            | Self::DynamicDebug { .. }
            | Self::KlpBuild { .. }
            | Self::Expect => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { module, .. } => write!(f, "load {module}"),
            Self::Disable { livepatch, .. } => write!(f, "disable {livepatch}"),
            Self::Reverse { livepatch, .. } => write!(f, "reverse {livepatch}"),
            Self::Force { livepatch, .. } => write!(f, "force {livepatch}"),
            Self::Unload { modules, .. } => write!(f, "unload {}", modules.join(", ")),
            Self::Hold { function } => write!(f, "hold {function}"),
            Self::Release { function } => write!(f, "release {function}"),
            Self::Call { function, .. } => write!(f, "call {function}"),
            Self::Read { path, .. } => write!(f, "read {path}"),
            Self::Write { path, .. } => write!(f, "write {path}"),
            Self::Wait { path, .. } => write!(f, "wait for {path}"),
            Self::Stat { path, .. } => write!(f, "stat {path}"),
            Self::Spawn { name, .. } => write!(f, "spawn {name}"),
            Self::Kill { name } => write!(f, "kill {name}"),
            Self::Trace { function } => match function {
                Some(function) => write!(f, "trace {function}"),
                None => f.write_str("stop tracing"),
            },
            Self::DynamicDebug { queries } => write!(f, "dynamic-debug {}", queries.join("; ")),
            Self::KlpBuild { options, .. } => write!(f, "klp-build {}", shell_words(options)),
            Self::Expect => f.write_str("expect"),
        }
    }
}

/// Options as one would type them, as far as options of scenarios go.
fn shell_words(options: &[String]) -> String {
    let word = |option: &String| match option.as_str() {
        "" => "''".to_owned(),
        option => option.to_owned(),
    };
    options.iter().map(word).collect::<Vec<_>>().join(" ")
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
