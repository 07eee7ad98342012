// SPDX-License-Identifier: MIT OR Apache-2.0
//! STUB
#![allow(missing_docs)]
use super::results::Results;
use crate::error::Result;
use std::path::{Path, PathBuf};
pub fn read_dir(_: &Path) -> Result<Results> {
    Ok(Results::default())
}
pub fn read_dirs(_: &[PathBuf]) -> Result<Results> {
    Ok(Results::default())
}
