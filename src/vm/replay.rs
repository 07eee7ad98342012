// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines that are recorded, and machines that do the same once more.
//!
//! QEMU writes a log of all that its instructions do not decide: what was typed, packets of the
//! network, random numbers, the host's clocks. With that log the same machine executes the same
//! instructions, and all that is in there is known by how many it has executed.

use std::path::Path;

use qapi::qmp::{self, RunState};
use tokio_util::sync::CancellationToken;

use super::args::{Log, Parts, Spec};
use super::machine::{ALIVE, Machine};
use crate::error::{Error, Result};

impl Machine {
    /// Boots a guest and records it in `log`, a file of QEMU's own until the machine was stopped.
    pub async fn record(parts: &Parts<'_>, log: &Path, cancel: &CancellationToken) -> Result<Self> {
        let spec = Spec {
            log: Some(Log::Record(log.to_path_buf())),
            ..Spec::boot(parts)
        };
        let mut machine = Self::start(parts, spec, b"", cancel).await?;
        machine.go_on(cancel).await?;
        Ok(machine)
    }

    /// Starts the machine that `log` was recorded of. It stands still before its first instruction.
    pub async fn replay(
        parts: &Parts<'_>,
        log: &Path,
        qboot: bool,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let spec = Spec {
            log: Some(Log::Replay(log.to_path_buf())),
            qboot,
            ..Spec::boot(parts)
        };
        Self::start(parts, spec, b"", cancel).await
    }

    /// Stops a replay once it has executed so many instructions.
    pub async fn break_at(&mut self, icount: u64) -> Result<()> {
        let icount = i64::try_from(icount).map_err(|error| Error::lab(error.to_string()))?;
        self.qmp().execute(qmp::replay_break { icount }).await?;
        Ok(())
    }

    /// Whether it runs, or why it does not, in QEMU's words.
    pub async fn run_state(&mut self) -> Result<RunState> {
        let asked = self.qmp().execute_within(qmp::query_status {}, ALIVE).await;
        Ok(asked?.status)
    }

    /// Whether gdb is connected.
    pub async fn has_gdb(&mut self) -> Result<bool> {
        let all = self.qmp().execute_within(qmp::query_chardev {}, ALIVE);
        let gdb = all.await?.into_iter().find(|device| device.label == "gdb");
        Ok(gdb.is_some_and(|device| !device.filename.starts_with("disconnected:")))
    }

    /// How many instructions were recorded; `None` if that is not known, or nothing was recorded.
    pub fn recorded(&self) -> Option<u64> {
        self.recorder.as_ref()?.end
    }

    /// Whether its firmware is qboot.
    pub fn has_qboot(&self) -> bool {
        self.qboot
    }
}
