// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words that all of the lab shares: targets and livepatches, functions, names and errnos, and
//! how they are read from YAML. Pure, and below everything but `yaml`.

mod errno;
mod livepatches;
mod lower;
mod model;
pub(crate) mod names;
mod references;
pub(crate) mod shape;
mod snippet;
mod strerror;
mod targets;

pub use errno::Errno;
pub use model::{
    Callback, Callbacks, Code, FunctionRef, Generated, Livepatch, NewFunction, PatchedFunction,
    PatchedObject, Replace, ReplaceCapability, State, Symbol, Target, TargetFunction, VMLINUX,
};
pub use names::kernel_module_name;
pub use snippet::Snippet;

pub(crate) use livepatches::read as read_livepatches;
pub(crate) use lower::{NONE, text, texts};
pub(crate) use references::{References, lenient_function};
pub(crate) use strerror::{errno_of, insmod, strerror};
pub(crate) use targets::read as read_targets;
