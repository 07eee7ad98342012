// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays a recording: the same instructions, the same console.

use std::fs;
use std::path::Path;
use std::time::Duration;

use qapi::qmp::RunState;
use tokio::time::{Instant, sleep};

use super::{CONSOLE, LOG, Recording};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::vm::Accel;
use crate::vm::accel::describe;
use crate::vm::args::Parts;
use crate::vm::console::Console;
use crate::vm::machine::Machine;

/// How often QEMU is asked whether it is at the end. Its clocks are those of the log, with which it
/// cannot tell when to wake up: without questions, a replay waits several times as long as its
/// guest did.
const ASK: Duration = Duration::from_millis(1);
/// How often it is shown how far it is.
const LOOK: Duration = Duration::from_millis(50);
/// How long a replay may execute nothing: it waits for nobody, so it has gone astray.
const STANDSTILL: Duration = Duration::from_secs(30);
/// The console of a replay that was another one, in the record.
pub const REPLAYED: &str = "console.replayed.log";

/// What is wanted of a replay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Where it is to stop, in instructions; else at its end.
    pub to: Option<u64>,
    /// Whether gdb is to have it.
    pub gdb: bool,
}

/// What a replay shows on its way.
#[derive(Debug)]
pub enum Shown<'a> {
    /// Lines of the console, made visible.
    Console(&'a str),
    /// How many instructions it has executed.
    Icount(u64),
    /// It stands still after so many, and gdb can connect to this socket.
    Waits(u64, &'a Path),
}

/// How a replay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// How many instructions it had executed.
    pub icount: u64,
    /// Why it stopped there.
    pub end: End,
}

/// Why a replay stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The log was at its end.
    Log,
    /// The guest panicked, and QEMU stopped it for good.
    Panic,
    /// It was to stop there.
    Wanted,
    /// gdb went away.
    Gdb,
}

/// Plays a recording that was checked. Returns how it ended, if that is as it was recorded.
///
/// # Errors
///
/// `Host` if it did not do the same as the recorded guest.
pub async fn play(
    ctx: &Context,
    (recording, record): (&Recording, &Path),
    wanted: Wanted,
    mut show: impl FnMut(Shown<'_>),
) -> Result<Replayed> {
    let folder = tempfile::tempdir()
        .map_err(|error| Error::host(format!("cannot create a temporary folder: {error}")))?;
    let parts = Parts {
        arch: recording.run.arch,
        accel: Accel::Tcg,
        size: recording.size.clone(),
        kernel: recording.kernel.path.clone(),
        image: &recording.image.path,
        record: folder.path(),
    };
    let log = std::path::absolute(record.join(LOG)).at("find", record)?;
    let mut machine = Machine::replay(&parts, &log, recording.qboot, &ctx.cancel).await?;
    let replay = Replay {
        recording,
        wanted,
        machine: &mut machine,
        shown: 0,
    };
    let played = tokio::select! {
        played = replay.run(ctx, &mut show) => played,
        () = ctx.cancel.cancelled() => Err(Error::interrupted()),
    };
    let said = machine.stderr();
    machine.stop().await?;
    let played = played.map_err(|error| error.evidence(&said))?;
    if matches!(played.end, End::Log | End::Panic) && !wanted.gdb {
        same(recording, record, &played, &machine.console)?;
    }
    Ok(played)
}

struct Replay<'a> {
    recording: &'a Recording,
    wanted: Wanted,
    machine: &'a mut Machine,
    /// Bytes of the console that were shown.
    shown: u64,
}

impl Replay<'_> {
    async fn run(mut self, ctx: &Context, show: &mut impl FnMut(Shown<'_>)) -> Result<Replayed> {
        if let Some(to) = self.wanted.to.filter(|&to| to > 0) {
            self.machine.break_at(to).await?;
        }
        // gdb starts it from where it is to stop, or else from its first instruction.
        if !self.wanted.gdb || self.wanted.to.is_some_and(|to| to > 0) {
            self.machine.go_on(&ctx.cancel).await?;
            let replayed = self.until_end(show).await?;
            if !self.wanted.gdb || replayed.end != End::Wanted {
                return Ok(replayed);
            }
        }
        self.with_gdb(show).await
    }

    /// Waits until it stops by itself.
    async fn until_end(&mut self, show: &mut impl FnMut(Shown<'_>)) -> Result<Replayed> {
        let still = |machine: &Machine| machine.vitals().wait(STANDSTILL);
        let (mut last, mut wait) = (0, still(self.machine));
        loop {
            // Asked before the console is read: what was written by then is shown.
            let end = self.wait_end(LOOK).await?;
            let icount = self.machine.icount().await.unwrap_or(last);
            self.show_console(end.is_some(), show);
            show(Shown::Icount(icount));
            if let Some(end) = end {
                return Ok(Replayed { icount, end });
            }
            if icount != last {
                (last, wait) = (icount, still(self.machine));
            }
            if let Some(overdue) = wait.over() {
                let (of, seen) = (self.recording.icount, overdue.seen);
                let what = format!(
                    "the replay makes no progress after {icount} of {of} instructions; {seen}"
                );
                return Err(Error::host(what).help(ASTRAY));
            }
        }
    }

    /// Waits for its end a while.
    async fn wait_end(&mut self, limit: Duration) -> Result<Option<End>> {
        let deadline = Instant::now() + limit;
        loop {
            let end = self.end().await?;
            if end.is_some() || Instant::now() >= deadline {
                return Ok(end);
            }
            sleep(ASK).await;
        }
    }

    /// Why it has stopped, if it has.
    async fn end(&mut self) -> Result<Option<End>> {
        let state = match self.machine.run_state().await {
            Ok(state) => state,
            Err(error) => {
                let why = describe(&self.machine.why_silent(error.what).await);
                return Err(Error::host(format!("the replay was lost: {why}")).help(ASTRAY));
            }
        };
        Ok(match state {
            RunState::running => None,
            RunState::guest_panicked => Some(End::Panic),
            // The log says that it was shut down, by itself or from outside.
            RunState::shutdown => Some(End::Log),
            _ => Some(End::Wanted),
        })
    }

    /// Lets gdb have it until it goes away.
    async fn with_gdb(&mut self, show: &mut impl FnMut(Shown<'_>)) -> Result<Replayed> {
        let mut icount = self.machine.icount().await.unwrap_or_default();
        self.machine.open_gdb().await?;
        if let Some(socket) = self.machine.gdb() {
            show(Shown::Waits(icount, socket));
        }
        // At the end of the log it stands still, for gdb to look around.
        let (mut came, mut looked) = (false, Instant::now());
        loop {
            match self.machine.has_gdb().await {
                Ok(false) if !came => {}
                Ok(true) => came = true,
                Ok(false) | Err(_) => break,
            }
            if looked.elapsed() > LOOK {
                icount = self.machine.icount().await.unwrap_or(icount);
                self.show_console(false, show);
                looked = Instant::now();
            }
            sleep(ASK).await;
        }
        icount = self.machine.icount().await.unwrap_or(icount);
        self.show_console(false, show);
        let end = End::Gdb;
        Ok(Replayed { icount, end })
    }

    /// Shows what is new on the console: whole lines, and `all` of it at the end.
    fn show_console(&mut self, all: bool, show: &mut impl FnMut(Shown<'_>)) {
        loop {
            let (text, next) = self.machine.console.lines_from(self.shown, all);
            if next == self.shown {
                return;
            }
            self.shown = next;
            show(Shown::Console(&text));
        }
    }
}

const ASTRAY: &str = "QEMU did not repeat what it recorded: record the run again";

/// Makes sure that the guest did what the recorded one did.
fn same(recording: &Recording, record: &Path, played: &Replayed, console: &Console) -> Result<()> {
    let (icount, of) = (played.icount, recording.icount);
    let recorded = record.join(CONSOLE);
    let before = fs::read(&recorded).at("read", &recorded)?;
    let now = fs::read(console.path()).at("read", console.path())?;
    if before == now && icount == of {
        return Ok(());
    }
    if before == now {
        let what = format!("the replay ended after {icount} instructions, not {of}");
        return Err(Error::host(what).help(ASTRAY));
    }
    let kept = record.join(REPLAYED);
    fs::copy(console.path(), &kept).at("write", &kept)?;
    let line = before.iter().zip(&now).take_while(|(a, b)| a == b);
    let line = 1 + line.filter(|(byte, _)| **byte == b'\n').count();
    let what = format!("the replay's console differs from the recorded one in line {line}");
    let diff = format!(
        "diff {} {}\ninstructions: {icount}, recorded: {of}",
        recorded.display(),
        kept.display()
    );
    Err(Error::host(what).evidence(&diff).help(ASTRAY))
}
