// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest while it lives: for one run, or for several that leave it as it was after its boot.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use tokio_util::sync::CancellationToken;

use super::record::Record;
use crate::error::{Error, IoContext, Result};
use crate::event::RunId;
use crate::guest::{Answer, Guest};
use crate::image::keys::RunKeys;
use crate::vm::console::CONSOLE_MAX;
use crate::vm::machine::{Machine, Parts};

/// A guest: its machine, and once it answers the session with its agent.
pub(super) struct Live {
    pub(super) machine: Machine,
    pub(super) keys: RunKeys,
    pub(super) guest: Option<Guest>,
    /// What the agent says of it right after the boot, as text to compare.
    pub(super) settings: String,
    /// The runs that it has played.
    pub(super) played: Vec<RunId>,
    /// Bytes of its console that are theirs.
    console_from: u64,
    /// How it was started.
    script: String,
}

impl Live {
    /// Starts a machine; nobody has logged in yet.
    pub(super) async fn start(
        parts: &Parts<'_>,
        keys: RunKeys,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let machine = Machine::start(parts, cancel).await?;
        let script = parts.record.join("qemu.sh");
        Ok(Self {
            machine,
            keys,
            guest: None,
            settings: String::new(),
            played: Vec::new(),
            console_from: 0,
            script: std::fs::read_to_string(&script).at("read", &script)?,
        })
    }

    /// Takes back what a run has put into the guest. Whether it is as it was after its boot.
    pub(super) async fn tidy(&self) -> Answer<bool> {
        match &self.guest {
            Some(guest) => Ok(guest.tidy().await? == self.settings),
            None => Ok(false),
        }
    }

    /// Goes over to the next run.
    pub(super) fn hand_on(&mut self, played: &RunId) {
        self.played.push(played.clone());
        self.console_from = self.machine.console.len();
    }

    /// Whether another run was played in it before.
    pub(super) fn is_shared(&self) -> bool {
        !self.played.is_empty()
    }

    /// Keeps in the record of a later run how the guest was started.
    pub(super) fn record_start(&self, record: &Record) -> Result<()> {
        match self.played.last() {
            None => Ok(()),
            Some(run) => {
                let script = self.script.replacen(
                    '\n',
                    &format!(
                        "\n# The guest had played {} runs before, the last one {run}.\n",
                        self.played.len()
                    ),
                    1,
                );
                record.write("qemu.sh", &script)
            }
        }
    }

    /// Keeps in the record of a later run what the console said meanwhile. The first run's record
    /// has QEMU's own file.
    pub(super) fn record_console(&self, record: &Record) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let from = self.machine.console.path();
        let to = record.dir().join("console.log");
        let mut console = File::open(from).at("read", from)?;
        console
            .seek(SeekFrom::Start(self.console_from))
            .at("read", from)?;
        let mut copy = File::create(&to).at("create", &to)?;
        let mut part = console.take(CONSOLE_MAX);
        let mut block = vec![0; 1 << 16];
        loop {
            let length = part.read(&mut block).at("read", from)?;
            if length == 0 {
                return Ok(());
            }
            copy.write_all(&block[..length]).at("write", &to)?;
        }
    }

    /// Ends it: the session, then QEMU.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let closed = match self.guest.take() {
            Some(guest) => guest.close().await,
            None => Ok(()),
        };
        self.machine.stop().await?;
        closed
    }
}

/// The session of a guest that has one by now.
pub(super) fn session(guest: Option<&Guest>) -> Result<&Guest> {
    guest.ok_or_else(|| Error::lab("the guest was not logged into"))
}
