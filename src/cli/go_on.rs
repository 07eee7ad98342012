// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab continue`: lets a paused run go on.

use std::fs::File;
use std::path::Path;

use super::visit::{self, Found};
use crate::error::{IoContext, Result};
use crate::runner::pause::CONTINUE;

pub const EXAMPLES: &str = "\
Examples:
  lab continue                       the run that is paused
  lab continue .lab/runs/latest";

/// Lets a paused run go on.
pub fn go_on(project: Option<&Path>, run: Option<&str>) -> Result<u8> {
    let Found { record, entrance } = visit::find(project, run)?;
    let file = record.join(CONTINUE);
    File::create(&file).at("create", &file)?;
    super::print(&format!("{} continues\n", entrance.run));
    Ok(0)
}
