// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest while it lives: a fork of a template or booted from the start, for one run or for several
//! that leave it as it was.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use super::record::Record;
use super::share::Kept;
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::RunId;
use crate::guest::{Answer, Guest};
use crate::image::keys::RunKeys;
use crate::replay::UNFINISHED;
use crate::vm::console::CONSOLE_MAX;
use crate::vm::machine::{Gone, Machine, Parts};
use crate::vm::template::{self, Found, Making, Template};

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
    from: From,
    /// Whether it is to be kept later on.
    keepable: bool,
    /// What it can be kept in.
    pub(super) copy: Option<Making>,
}

/// How a guest starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'a> {
    /// It is booted.
    Cold,
    /// It is booted and recorded.
    Recorded,
    /// It is a fork of the template for its parts, which is made if need be.
    Warm,
    /// The same, and it is to be kept later on.
    Keepable,
    /// It is a fork of a guest that was kept in the middle of a run.
    Middle(&'a Template),
}

/// Where a guest comes from.
enum From {
    /// It was booted for itself.
    Boot,
    /// It was booted to be kept once its init waits, and to go on as a fork of that.
    Making(Making),
    /// It is a fork.
    Template(Template),
    /// It is a fork of one that was kept in the middle of a run: no other guest will do.
    Middle,
}

impl Live {
    /// Starts a machine; nobody has logged in yet.
    pub(super) async fn start(
        ctx: &Context,
        parts: &Parts<'_>,
        keys: RunKeys,
        start: Start<'_>,
    ) -> Result<Self> {
        let keepable = matches!(start, Start::Keepable);
        let found = match start {
            Start::Cold => None,
            Start::Recorded => {
                let log = parts.record.join(UNFINISHED);
                let machine = Machine::record(parts, &log, &ctx.cancel).await?;
                return Self::new(parts, keys, machine, From::Boot);
            }
            Start::Warm | Start::Keepable => template::find(ctx, parts).await?,
            Start::Middle(template) => {
                let machine = Machine::fork(parts, template, None, &ctx.cancel).await?;
                return Self::new(parts, keys, machine, From::Middle);
            }
        };
        let (mut copy, mut from) = (None, From::Boot);
        let machine = match found {
            None => Machine::boot(parts, None, &ctx.cancel).await?,
            Some(Found::Missing(making)) => {
                let memory = making.memory();
                from = From::Making(making);
                Machine::boot(parts, Some(&memory), &ctx.cancel).await?
            }
            Some(Found::Template(template)) => match fork(ctx, parts, &template, keepable).await {
                Ok(fork) => {
                    from = From::Template(template);
                    copy = fork.1;
                    fork.0
                }
                Err(error) if error.blame == Blame::Interrupted => return Err(error),
                Err(error) => {
                    give_up(ctx, &template, &error.to_string())?;
                    Machine::boot(parts, None, &ctx.cancel).await?
                }
            },
        };
        let live = Self::new(parts, keys, machine, from)?;
        Ok(Self {
            keepable,
            copy,
            ..live
        })
    }

    fn new(parts: &Parts<'_>, keys: RunKeys, machine: Machine, from: From) -> Result<Self> {
        Ok(Self {
            machine,
            keys,
            guest: None,
            settings: String::new(),
            played: Vec::new(),
            console_from: 0,
            script: script(parts)?,
            from,
            keepable: false,
            copy: None,
        })
    }

    /// Waits until the guest can be logged into. A template that does not answer is given up, and
    /// the guest booted; what a kernel says against itself is not tried away.
    pub(super) async fn ready(
        &mut self,
        ctx: &Context,
        parts: &Parts<'_>,
    ) -> Result<std::result::Result<(), Gone>> {
        let (limits, cancel) = (self.machine.deadlines, &ctx.cancel);
        let identity = self.keys.identity()?;
        match std::mem::replace(&mut self.from, From::Boot) {
            From::Boot => self.machine.wait_ready(&identity, cancel).await,
            From::Middle => {
                let identified = self.machine.identify(&identity, limits.answer, cancel);
                identified.await
            }
            From::Making(making) => {
                let waiting = self.machine.wait_waiting(limits.boot, cancel).await?;
                if waiting.is_err() {
                    return Ok(waiting);
                }
                let template = match making.keep(&mut self.machine, cancel).await {
                    Ok(template) => template,
                    Err(error) if error.blame == Blame::Interrupted => return Err(error),
                    Err(error) => {
                        ctx.events
                            .note(format!("a guest could not be kept: {error}"));
                        return self.boot(ctx, parts, &identity).await;
                    }
                };
                match fork(ctx, parts, &template, self.keepable).await {
                    Ok((machine, copy)) => (self.machine, self.copy) = (machine, copy),
                    Err(error) if error.blame == Blame::Interrupted => return Err(error),
                    Err(error) => {
                        give_up(ctx, &template, &error.to_string())?;
                        return self.boot(ctx, parts, &identity).await;
                    }
                }
                self.script = script(parts)?;
                let answer = self
                    .machine
                    .identify(&identity, limits.answer, cancel)
                    .await?;
                if answer.is_err() {
                    template.discard()?;
                }
                Ok(answer)
            }
            From::Template(template) => {
                match self
                    .machine
                    .identify(&identity, limits.answer, cancel)
                    .await?
                {
                    Err(Gone::Silent(why) | Gone::Lost(why) | Gone::Qemu(why))
                        if self.machine.console.splat(&[]).is_none() =>
                    {
                        self.machine.stop().await?;
                        give_up(ctx, &template, &why)?;
                        self.boot(ctx, parts, &identity).await
                    }
                    answer => Ok(answer),
                }
            }
        }
    }

    /// Boots the guest after all.
    async fn boot(
        &mut self,
        ctx: &Context,
        parts: &Parts<'_>,
        identity: &str,
    ) -> Result<std::result::Result<(), Gone>> {
        self.copy = None;
        self.machine = Machine::boot(parts, None, &ctx.cancel).await?;
        self.script = script(parts)?;
        self.machine.wait_ready(identity, &ctx.cancel).await
    }

    /// Keeps the guest as it is and goes on as a fork of it, which is to be logged into again.
    pub(super) async fn keep(
        &mut self,
        ctx: &Context,
        parts: &Parts<'_>,
        copy: Making,
    ) -> Result<Template> {
        if let Some(guest) = self.guest.take() {
            guest.close().await?;
        }
        if !self.machine.wait_disconnected().await? {
            return Err(Error::host("a guest's ssh session does not end"));
        }
        let template = copy.keep(&mut self.machine, &ctx.cancel).await?;
        self.machine = Machine::fork(parts, &template, None, &ctx.cancel).await?;
        self.keys = RunKeys::generate()?;
        self.from = From::Middle;
        Ok(template)
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

    /// Keeps in the record how the guest was started that had played other runs before, or a part
    /// of one.
    pub(super) fn record_start(&self, record: &Record, forked: Option<&Kept>) -> Result<()> {
        let before = match (self.played.last(), forked) {
            (None, None) => return Ok(()),
            (_, Some(kept)) => format!("goes on after the first {kept}"),
            (Some(run), None) => {
                let number = self.played.len();
                format!("had played {number} runs before, the last one {run}")
            }
        };
        let with = format!("\n# The guest {before}.\n");
        record.write("qemu.sh", &self.script.replacen('\n', &with, 1))
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

/// Starts a fork; one that is to be kept later on has memory of its own, if the disk has room.
async fn fork(
    ctx: &Context,
    parts: &Parts<'_>,
    template: &Template,
    keepable: bool,
) -> Result<(Machine, Option<Making>)> {
    let copy = match keepable {
        true => template.copy().await?,
        false => None,
    };
    let memory = copy.as_ref().map(Making::memory);
    let machine = Machine::fork(parts, template, memory.as_deref(), &ctx.cancel).await?;
    Ok((machine, copy))
}

/// How QEMU was started, as the record has it.
fn script(parts: &Parts<'_>) -> Result<String> {
    let script = parts.record.join("qemu.sh");
    std::fs::read_to_string(&script).at("read", &script)
}

/// Takes away a template that no fork of answers.
fn give_up(ctx: &Context, template: &Template, why: &str) -> Result<()> {
    ctx.events.note(format!(
        "a guest that was kept does not go on ({why}): booting one"
    ));
    template.discard()
}

/// The session of a guest that has one by now.
pub(super) fn session(guest: Option<&Guest>) -> Result<&Guest> {
    guest.ok_or_else(|| Error::lab("the guest was not logged into"))
}
