// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines that are recorded, and machines that do the same once more.
//!
//! QEMU writes a log of all that its instructions do not decide: what was typed, packets of the
//! network, random numbers, the host's clocks. With that log the same machine executes the same
//! instructions, and all that is in there is known by how many it has executed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qapi::qmp::{self, RunState};
use rustix::io::ioctl_fionread;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::args::Log;
use super::machine::{ALIVE, Machine, Parts, Spec};
use crate::error::{Error, Result};

/// Bytes of a log. A second of a guest takes less than a MiB.
pub const LOG_MAX: u64 = 1 << 30;

/// What fits into half of a serial port.
const PORT: usize = 8;
/// Some of a guest's timer ticks. It takes what was typed at the next.
const TICKS: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_millis(1);

/// What is recorded of a machine.
#[derive(Debug)]
pub(super) struct Recorder {
    log: PathBuf,
    /// How many instructions it executed in all, once it has ended.
    end: Option<u64>,
}

impl Recorder {
    pub(super) fn of(log: Option<Log>) -> Option<Self> {
        match log {
            Some(Log::Record(log)) => Some(Self { log, end: None }),
            _ => None,
        }
    }

    /// Whether there is no end to it: why it has to end.
    pub(super) fn is_too_long(&self) -> Option<String> {
        let length = self.log.metadata().map_or(0, |data| data.len());
        (length > LOG_MAX).then(|| {
            let most = LOG_MAX >> 20;
            format!("the recording has more than {most} MiB: a shorter scenario can be recorded")
        })
    }
}

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

    /// How many instructions it has executed, if they are counted.
    pub async fn icount(&mut self) -> Option<u64> {
        let asked = self.qmp().execute_within(qmp::query_replay {}, ALIVE).await;
        u64::try_from(asked.ok()?.icount).ok()
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

    /// Types on the console of a guest that is recorded, for `limit` at most: what comes later is
    /// lost, and the guest does not say that it is ready. QEMU puts what was typed into the log
    /// before it puts it into the serial port, and asks the port for room too early: what is typed
    /// at once overruns it.
    pub(super) async fn type_slowly(&mut self, text: &[u8], limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        for part in text.chunks(PORT) {
            self.input.write_all(part)?;
            let before = self.icount().await;
            let typed = Instant::now();
            // QEMU has taken it, and the guest has gone on since.
            while Instant::now() < deadline
                && (typed.elapsed() < TICKS
                    || ioctl_fionread(&self.input)? > 0
                    || self.icount().await == before)
            {
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Notes the last instruction of a recording: the guest executes none after it.
    pub(super) async fn end_recording(&mut self) {
        if self.recorder.is_none() {
            return;
        }
        let stopped = self.qmp().execute_within(qmp::stop {}, ALIVE).await;
        let end = match stopped {
            Ok(_) => self.icount().await,
            Err(_) => None,
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.end = recorder.end.or(end);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let recorder = Recorder::of(Some(Log::Record(log.clone()))).unwrap();
        // QEMU has not made it yet.
        assert_eq!(recorder.is_too_long(), None);
        let file = std::fs::File::create(&log).unwrap();
        file.set_len(LOG_MAX).unwrap();
        assert_eq!(recorder.is_too_long(), None);
        file.set_len(LOG_MAX + 1).unwrap();
        let why = recorder.is_too_long().unwrap();
        assert!(
            why.starts_with("the recording has more than 1024 MiB: "),
            "{why}"
        );
        assert!(Recorder::of(Some(Log::Replay(log))).is_none());
    }
}
