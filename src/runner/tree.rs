// SPDX-License-Identifier: MIT OR Apache-2.0
//! What steps ask of the host: programs of a kernel's source tree.

use std::path::Path;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::process::Cmd;
use crate::step::Host;

/// A kernel's source tree.
pub(super) struct Tree<'a> {
    pub(super) ctx: &'a Context,
    pub(super) dir: &'a Path,
}

impl Host for Tree<'_> {
    async fn klp_build(&self, words: &[&str]) -> Result<String> {
        // An empty folder of its own: if klp-build went on, it would have nothing to spoil.
        let dir = tempfile::tempdir()
            .map_err(|error| Error::host(format!("cannot make a temporary folder: {error}")))?;
        let mut said = String::new();
        let script = self.dir.join("scripts/livepatch/klp-build");
        Cmd::new("bash")
            .arg(script)
            .args(words)
            .dir(dir.path())
            .env("LC_ALL", "C")
            .run(&self.ctx.cancel, |line| {
                if said.is_empty() && !line.trim().is_empty() {
                    line.clone_into(&mut said);
                }
            })
            .await?;
        Ok(said)
    }
}
