// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules: scenario → generated C → `.ko`, built against the very tree of the kernel.

pub mod build;
mod draft;
pub mod generate;
mod headers;
pub mod klp_build;
pub mod kselftest;
mod make;
pub mod places;
pub mod prebuilt;

use std::path::PathBuf;

/// The kind of entries that modules are.
const CACHE: &str = "modules";

/// A built module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its name in the scenario.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}
