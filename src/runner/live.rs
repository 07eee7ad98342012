// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest while it lives: a fork of a template or booted from the start, for one run or for several
//! that leave it as it was.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::attempt::PreparedRun;
use super::log::KernelLog;
use super::record::Record;
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::RunId;
use crate::guest::{Answer, Guest};
use crate::image::keys::RunKeys;
use crate::replay::UNFINISHED;
use crate::size::Size;
use crate::vm::args::Parts;
use crate::vm::console::CONSOLE_MAX;
use crate::vm::machine::{Gone, Machine};
use crate::vm::template::{self, Found, Making, Template};

/// A run's console in its record, and in that of a guest's first run the console of all of its runs.
const CONSOLE: &str = "console.log";
const WHOLE_CONSOLE: &str = "whole-console.log";

/// What guests must have in common so that one can play the runs of the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GuestKind {
    boot_file: PathBuf,
    initramfs: PathBuf,
    accel: &'static str,
    size: Size,
}

impl GuestKind {
    /// The kind of guest that a run needs.
    pub(super) fn of(run: &PreparedRun) -> Self {
        Self {
            boot_file: run.boot_file.clone(),
            initramfs: run.image.initramfs.clone(),
            accel: run.accel.name(),
            size: run.size.clone(),
        }
    }
}

/// A guest: its machine, and once it answers the session with its agent.
pub(super) struct Live {
    pub(super) machine: Machine,
    pub(super) keys: RunKeys,
    pub(super) guest: Option<Guest>,
    /// What its kernel has said.
    pub(super) log: KernelLog,
    /// What the agent says of it right after the boot, as text to compare.
    pub(super) settings: String,
    /// The runs that it has played.
    pub(super) played: Vec<RunId>,
    /// Bytes of its console that are theirs.
    console_from: u64,
    /// How it was started.
    script: String,
    from: Origin,
}

/// How a guest starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// It is booted.
    Cold,
    /// It is booted and recorded.
    Recorded,
    /// It is a fork of the template for its parts, which is made if need be.
    Warm,
}

/// Where a guest comes from.
enum Origin {
    /// It was booted for itself.
    Boot,
    /// It was booted to be kept once its init waits, and to go on as a fork of that.
    Making(Making),
    /// It is a fork.
    Template(Template),
}

impl Live {
    /// Starts a machine; nobody has logged in yet.
    pub(super) async fn start(
        ctx: &Context,
        parts: &Parts<'_>,
        keys: RunKeys,
        start: Start,
    ) -> Result<Self> {
        let found = match start {
            Start::Cold => None,
            Start::Recorded => {
                let log = parts.record.join(UNFINISHED);
                let machine = Machine::record(parts, &log, &ctx.cancel).await?;
                return Self::new(parts, keys, machine, Origin::Boot);
            }
            Start::Warm => template::find(ctx, parts).await?,
        };
        let mut from = Origin::Boot;
        let machine = match found {
            None => Machine::boot(parts, None, &ctx.cancel).await?,
            Some(Found::Missing(making)) => {
                let memory = making.memory();
                from = Origin::Making(making);
                Machine::boot(parts, Some(&memory), &ctx.cancel).await?
            }
            Some(Found::Template(template)) => {
                match Machine::fork(parts, &template, &ctx.cancel).await {
                    Ok(machine) => {
                        from = Origin::Template(template);
                        machine
                    }
                    Err(error) if error.blame == Blame::Interrupted => return Err(error),
                    Err(error) => {
                        give_up(ctx, &template, &error.to_string())?;
                        Machine::boot(parts, None, &ctx.cancel).await?
                    }
                }
            }
        };
        Self::new(parts, keys, machine, from)
    }

    fn new(parts: &Parts<'_>, keys: RunKeys, machine: Machine, from: Origin) -> Result<Self> {
        Ok(Self {
            machine,
            keys,
            guest: None,
            log: KernelLog::default(),
            settings: String::new(),
            played: Vec::new(),
            console_from: 0,
            script: script(parts)?,
            from,
        })
    }

    /// Waits until the guest can be logged into. A template that does not answer is given up, and
    /// the guest booted; what a kernel says against itself is not tried away.
    pub(super) async fn ready(
        &mut self,
        ctx: &Context,
        parts: &Parts<'_>,
    ) -> Result<std::result::Result<(), Gone>> {
        let cancel = &ctx.cancel;
        let identity = self.keys.identity()?;
        match std::mem::replace(&mut self.from, Origin::Boot) {
            Origin::Boot => self.machine.wait_ready(&identity, cancel).await,
            Origin::Making(making) => {
                let limit = self.machine.deadlines.boot;
                let waiting = self.machine.wait_waiting(limit, cancel).await?;
                if waiting.is_err() {
                    return Ok(waiting);
                }
                let template = match making.keep(&mut self.machine, cancel).await {
                    Ok(template) => template,
                    Err(error) if error.blame == Blame::Interrupted => return Err(error),
                    Err(error) => {
                        ctx.events
                            .note(format!("a guest could not be kept as a template: {error}"));
                        return self.boot(ctx, parts, &identity).await;
                    }
                };
                match Machine::fork(parts, &template, &ctx.cancel).await {
                    Ok(machine) => self.machine = machine,
                    Err(error) if error.blame == Blame::Interrupted => return Err(error),
                    Err(error) => {
                        give_up(ctx, &template, &error.to_string())?;
                        return self.boot(ctx, parts, &identity).await;
                    }
                }
                self.script = script(parts)?;
                let limit = self.machine.deadlines.answer;
                let answer = self.machine.identify(&identity, limit, cancel).await?;
                // A host without time says nothing against the template.
                if !matches!(answer, Ok(()) | Err(Gone::Starved(_))) {
                    template.discard()?;
                }
                Ok(answer)
            }
            Origin::Template(template) => {
                let limit = self.machine.deadlines.answer;
                match self.machine.identify(&identity, limit, cancel).await? {
                    Err(Gone::Silent(why) | Gone::Lost(why) | Gone::Qemu(why))
                        if self.machine.console.splat(&[]).is_none() =>
                    {
                        self.machine.stop().await?;
                        give_up(ctx, &template, &why.replace('\n', "; "))?;
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
        self.machine = Machine::boot(parts, None, &ctx.cancel).await?;
        self.script = script(parts)?;
        self.machine.wait_ready(identity, &ctx.cancel).await
    }

    /// Its machine, the session with its agent, and its kernel's log, to be used side by side.
    pub(super) fn split(&mut self) -> Result<(&mut Machine, &Guest, &mut KernelLog)> {
        let none = || Error::lab("the guest was not logged into");
        let guest = self.guest.as_ref().ok_or_else(none)?;
        Ok((&mut self.machine, guest, &mut self.log))
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
    }

    /// Whether another run was played in it before.
    pub(super) fn is_shared(&self) -> bool {
        !self.played.is_empty()
    }

    /// Keeps in the record how the guest was started that had played other runs before.
    pub(super) fn record_start(&self, record: &Record) -> Result<()> {
        let Some(run) = self.played.last() else {
            return Ok(());
        };
        let number = self.played.len();
        let with = format!("\n# The guest had played {number} runs before, the last one {run}.\n");
        record.write("qemu.sh", &self.script.replacen('\n', &with, 1))
    }

    /// Keeps in the record what the console said in this run. As long as the guest has played one run, that
    /// is QEMU's own file; once it goes on, that has the runs of all.
    pub(super) fn record_console(&mut self, record: &Record, goes_on: bool) -> Result<()> {
        let is_first = !self.is_shared();
        if is_first && !goes_on {
            return Ok(());
        }
        let console = &self.machine.console;
        if is_first {
            console.move_to(record.dir().join(WHOLE_CONSOLE))?;
        }
        let to = record.dir().join(CONSOLE);
        let (from, is_last) = (self.console_from, !goes_on);
        self.console_from += copy_part(console.path(), from, &to, is_last)?;
        Ok(())
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

/// Copies a run's part of a console, which begins at `from`, and says in it where the rest is. Returns the
/// bytes of the part.
fn copy_part(whole: &Path, from: u64, to: &Path, is_last: bool) -> Result<u64> {
    let mut console = File::open(whole).at("read", whole)?;
    console.seek(SeekFrom::Start(from)).at("read", whole)?;
    let mut copy = File::create(to).at("create", to)?;
    let record = whole.parent().and_then(Path::file_name).unwrap_or_default();
    let place = format!("../{}/{WHOLE_CONSOLE}", record.display());
    let say = |copy: &mut File, what: &str| writeln!(copy, "{what}").at("write", to);
    if from > 0 {
        let what =
            format!("lab: this run's part of its guest's console, from byte {from} of {place}");
        say(&mut copy, &what)?;
    }
    let mut part = console.take(CONSOLE_MAX);
    let mut block = vec![0; 1 << 16];
    let mut copied = 0;
    loop {
        let length = part.read(&mut block).at("read", whole)?;
        if length == 0 {
            break;
        }
        copy.write_all(&block[..length]).at("write", to)?;
        copied += length as u64;
    }
    if !is_last {
        say(
            &mut copy,
            &format!("lab: its guest played other runs then: {place}"),
        )?;
    }
    Ok(copied)
}

/// How QEMU was started, as the record has it.
fn script(parts: &Parts<'_>) -> Result<String> {
    let script = parts.record.join("qemu.sh");
    std::fs::read_to_string(&script).at("read", &script)
}

/// Takes away a template that no fork of answers.
fn give_up(ctx: &Context, template: &Template, why: &str) -> Result<()> {
    ctx.events.note(format!(
        "a template's fork does not answer ({why}): booting a guest instead"
    ));
    template.discard()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_console_has_no_other_runs_lines_and_says_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("one");
        std::fs::create_dir(&first).unwrap();
        let whole = first.join(WHOLE_CONSOLE);
        let append = |text: &str| {
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(&whole)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let (to, mut from) = (dir.path().join(CONSOLE), 0);
        let mut part = |said: &str, is_last| {
            append(said);
            from += copy_part(&whole, from, &to, is_last).unwrap();
            std::fs::read_to_string(&to).unwrap()
        };
        assert_eq!(
            part("boot\n", false),
            "boot\nlab: its guest played other runs then: ../one/whole-console.log\n"
        );
        assert_eq!(
            part("second\n", false),
            "lab: this run's part of its guest's console, from byte 5 of ../one/whole-console.log\n\
             second\nlab: its guest played other runs then: ../one/whole-console.log\n"
        );
        assert_eq!(
            part("[ 1.0] BUG: x\n", true),
            "lab: this run's part of its guest's console, from byte 12 of ../one/whole-console.log\n\
             [ 1.0] BUG: x\n"
        );
    }
}
