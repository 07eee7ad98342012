// SPDX-License-Identifier: MIT OR Apache-2.0
//! STUB
#![allow(missing_docs)]
use super::results::Results;
use crate::error::Result;
use std::path::PathBuf;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jsonl,
}
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub jsonl: Vec<PathBuf>,
}
impl Files {
    pub fn parse(_: &[String]) -> Result<Self> {
        Ok(Self::default())
    }
    pub fn add(&mut self, _: Format, path: PathBuf) {
        self.jsonl.push(path)
    }
    pub fn write(&self, _: &Results) -> Result<()> {
        Ok(())
    }
}
