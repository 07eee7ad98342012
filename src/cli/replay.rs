// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab replay`: a recorded run once more.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::event::millis;
use crate::process::Cmd;
use crate::replay::Recording;
use crate::replay::play::{self, End, Replayed, Shown, Wanted};
use crate::report::text::seconds;
use crate::report::to_stderr;
use crate::runner::record;
use crate::vm::gdb;

pub const EXAMPLES: &str = "\
Examples:
  lab run scenarios/tagged-replace.yaml --record   record a run
  lab replay                                       repeat the latest one, and compare
  lab replay .lab/runs/20261125-… --to-step 4      up to where step 4 begins
  lab replay --to-step 4 --gdb                     and look into it with gdb from there on";

/// Arguments of `lab replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The record of the run: its folder, or the folder's name [default: the latest run].
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// Stop at the begin of step N.
    #[arg(long, value_name = "N")]
    to_step: Option<usize>,
    /// Stop after N instructions.
    #[arg(long, value_name = "N", conflicts_with = "to_step")]
    to_icount: Option<u64>,
    /// Wait for gdb at the stop, or before the first instruction.
    #[arg(long)]
    gdb: bool,
}

/// Replays a run and compares it with what was recorded.
pub async fn replay(ctx: &Context, args: &ReplayArgs) -> Result<u8> {
    let run = args.run.as_deref().unwrap_or(Path::new("latest"));
    let record = record::find(run, Some(&ctx.project))?;
    let recording = Recording::read(&record)?;
    let to = match args.to_step {
        Some(step) => Some(recording.step(step)?),
        None => args.to_icount,
    };
    if let Some(to) = to.filter(|&to| to > recording.icount) {
        let what = format!("the recording ends after {} instructions", recording.icount);
        return Err(Error::new(Blame::Usage, what).help(format!("{to} come after that")));
    }
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    recording.check(&record, &ctx.cancel).await?;
    let started = Instant::now();
    let mut status = Status::new(recording.icount);
    let mut in_line = false;
    let wanted = Wanted { to, gdb: args.gdb };
    let played = play::play(ctx, (&recording, &record), wanted, |shown| match shown {
        Shown::Console(text) => {
            status.clear();
            super::print(text);
            in_line = !text.ends_with('\n');
        }
        Shown::Icount(icount) => status.show(icount),
        Shown::Waits(icount, socket) => {
            status.clear();
            let line = gdb_line(&recording, socket);
            to_stderr(&format!(
                "the guest is stopped after {icount} instructions; inspect it with\n  {line}\n\
                 it ends when gdb detaches, or with Ctrl-C here"
            ));
        }
    })
    .await;
    status.clear();
    if in_line {
        super::print("\n");
    }
    to_stderr(&summary(&recording, &played?, millis(started.elapsed())));
    Ok(0)
}

/// What came of it.
fn summary(recording: &Recording, played: &Replayed, ms: u64) -> String {
    let Replayed { icount, end } = played;
    let (run, of, took) = (&recording.run, recording.icount, seconds(ms));
    let at = recording.at(*icount).map_or_else(
        || "before the first step".to_owned(),
        |mark| format!("step {} ({})", mark.step, mark.label),
    );
    match end {
        End::Log | End::Panic => {
            let how = if *end == End::Panic {
                " in the panic"
            } else {
                ""
            };
            format!(
                "replayed {run}: ended{how} after the same {of} instructions, \
                 with the same console byte for byte; {took}"
            )
        }
        End::Wanted => format!("replayed {run}: {icount} of {of} instructions, {at}; {took}"),
        End::Gdb => format!("replayed {run}: gdb detached after {icount} of {of} instructions"),
    }
}

/// gdb on the guest, whose QEMU listens on a unix socket.
fn gdb_line(recording: &Recording, socket: &Path) -> Cmd {
    let connect = format!("target remote {}", socket.display());
    Cmd::new(gdb::program(recording.run.arch))
        .arg(&recording.vmlinux)
        .args(["-ex", &connect])
}

/// How far it is: one line on a terminal, below the console.
struct Status {
    of: u64,
    terminal: bool,
    shown: bool,
}

impl Status {
    fn new(of: u64) -> Self {
        Self {
            of,
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    fn show(&mut self, icount: u64) {
        if self.terminal {
            let (done, of) = (icount / 1_000_000, self.of / 1_000_000);
            let percent = 100 * icount / self.of.max(1);
            write(&format!(
                "\r\x1b[Kreplay: {percent} %, {done} of {of} million instructions"
            ));
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            write("\r\x1b[K");
        }
    }
}

fn write(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}
