// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entering guests: those of runs that are paused, and those that are booted to be entered.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio_util::sync::CancellationToken;

use super::pause::{note_gdb, require_step};
use super::selection::read_kernels;
use super::sizes::SizeArgs;
use super::{archs, check, scenarios};
use crate::arch::Arch;
use crate::cache::blocking;
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::Event;
use crate::files;
use crate::guest::Silence;
use crate::guest::entrance::Entrance;
use crate::guest::terminal::{self, Ended, Visit};
use crate::runner::pause::{At, Pause, Visitor};
use crate::runner::{self, Options, record};
use crate::size::Choices;
use crate::state::{SnapshotPolicy, Snapshots};
use crate::visible::Pieces;
use crate::vm::accel::Choice;
use crate::{host, plan};

/// Whose guest it is.
#[derive(Debug, Args)]
pub struct GuestArgs {
    /// A run that is paused (its record's folder or the name of that, `latest`), or a scenario's file
    /// to boot a guest for [default: the run that is paused].
    #[arg(value_name = "RUN|SCENARIO")]
    guest: Option<String>,
    /// Of a scenario: play it up to and including STEP, a number or a name [default: 0, no step].
    #[arg(long, value_name = "STEP")]
    at: Option<String>,
    /// Of a scenario: the kernel [default: the one with `default: true`].
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// Of a scenario: the guest's architecture [default: the host's].
    #[arg(long, value_enum, value_name = "ARCH")]
    arch: Option<Arch>,
    #[command(flatten)]
    size: SizeArgs,
    /// Of a scenario: how the guest is executed.
    #[arg(long, value_enum, value_name = "ACCEL", default_value = "auto")]
    accel: Choice,
    /// Of a scenario: let QEMU wait for gdb, and show how to attach it.
    #[arg(long)]
    gdb: bool,
    /// Of a scenario: install missing host packages first.
    #[arg(long)]
    setup: bool,
    /// Of a scenario: do not ask before installing.
    #[arg(long, short)]
    yes: bool,
}

/// What to do in there.
#[derive(Debug, Clone)]
pub struct Wish {
    /// A command of its shell, or else the shell itself.
    pub command: Option<String>,
    /// Whether it is to have a terminal.
    pub terminal: bool,
}

/// A run that is paused.
pub struct Found {
    /// Its record.
    pub record: PathBuf,
    /// How to enter it.
    pub entrance: Entrance,
}

impl GuestArgs {
    /// The scenario's file, if it is one.
    fn scenario(&self) -> Option<&Path> {
        let file = Path::new(self.guest.as_deref()?);
        file.is_file().then_some(file)
    }

    /// Whether a guest is to be booted.
    pub fn boots(&self) -> bool {
        self.scenario().is_some()
    }

    /// Does what is wished in the guest of a paused run, or in one of its own. Returns the exit
    /// status.
    pub async fn enter(&self, ctx: &Context, project: Option<&Path>, wish: Wish) -> Result<u8> {
        if let Some(file) = self.scenario() {
            return self.boot(ctx, file, wish).await;
        }
        let only = |given: bool, option: &str| match given {
            true => {
                let what = format!("{option} is for a scenario, not for a run that is paused");
                Err(Error::new(Blame::Usage, what))
            }
            false => Ok(()),
        };
        only(self.at.is_some(), "--at")?;
        only(self.kernel.is_some(), "--kernel")?;
        only(self.arch.is_some(), "--arch")?;
        only(self.size.choices() != Choices::default(), "a guest's size")?;
        only(self.gdb, "--gdb")?;
        let found = find(project, self.guest.as_deref())?;
        visit(&found.entrance, wish, &ctx.cancel).await
    }

    /// Boots a guest, plays the scenario as far as it shall, and enters.
    async fn boot(&self, ctx: &Context, file: &Path, wish: Wish) -> Result<u8> {
        let archs = archs(self.arch.as_slice());
        let (scenarios, rejected) = scenarios::read(&[file.to_path_buf()], None)?;
        if !rejected.is_empty() {
            check::show(&rejected, crate::report::paint::Color::Auto);
            return Err(check::summary(&rejected));
        }
        let at = self.at.as_deref().map_or(At::Number(0), At::parse);
        require_step(&at, &scenarios, "--at")?;
        let names: Vec<_> = self.kernel.iter().cloned().collect();
        let kernels = read_kernels(&ctx.project, &names)?;
        let sizes = self.size.choices();
        let plan = plan::plan(&scenarios, &kernels, &archs, &sizes);
        let packages = super::setup::needed_for(&plan);
        if self.setup {
            super::setup::install(ctx, &packages, self.yes).await?;
        }
        host::require_packages(&packages)?;
        if self.gdb {
            note_gdb(&ctx.events, &archs);
        }
        let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
        if let [skipped, ..] = &plan.skipped[..] {
            let what = format!("{} cannot be played: {}", skipped.run, skipped.reason);
            return Err(Error::new(Blame::Usage, what)
                .help("name another kernel with --kernel, or a larger guest"));
        }
        if plan.runs.len() != 1 {
            let what = format!("there are {} runs of it", plan.runs.len());
            return Err(Error::new(Blame::Usage, what).help("name one kernel with --kernel"));
        }
        ctx.events.send(Event::Planned {
            runs: plan.ids(),
            skipped: Vec::new(),
            elsewhere: Vec::new(),
            jobs: 1,
            every_scenario: false,
        });
        let status = Arc::new(AtomicU8::new(0));
        let pause = Pause {
            at: Some(at),
            gdb: self.gdb,
            visitor: Some(visitor(wish, Arc::clone(&status), ctx.cancel.clone())),
            ..Pause::default()
        };
        let folder = ctx.project.join(".lab/runs");
        let records = std::path::absolute(&folder).unwrap_or(folder);
        let snapshots = Snapshots::new(ctx.project.clone(), SnapshotPolicy::Ignore);
        let options = Options {
            accel: self.accel,
            pause,
            ..Options::new(snapshots, records)
        };
        let ended = runner::run_all(ctx, &plan, options).await?;
        let code = ended.iter().map(|ended| ended.verdict.exit_code).max();
        Ok(match code {
            None | Some(0) => status.load(Ordering::Relaxed),
            // It did not come so far, which the report has said.
            Some(code) => code,
        })
    }
}

fn visitor(wish: Wish, status: Arc<AtomicU8>, cancel: CancellationToken) -> Visitor {
    Visitor(Box::new(move |entrance| {
        let (wish, status, cancel) = (wish.clone(), Arc::clone(&status), cancel.clone());
        Box::pin(async move {
            let code = visit(&entrance, wish, &cancel).await?;
            status.store(code, Ordering::Relaxed);
            Ok(())
        })
    }))
}

/// The paused run that is named, or the only one.
pub fn find(project: Option<&Path>, named: Option<&str>) -> Result<Found> {
    if let Some(named) = named {
        // The lock on its events shows whether it is on, so `latest` has to be followed now.
        let record = record::find(Path::new(named), project).map_err(|error| {
            let scenario = project.and_then(|project| scenarios::of_project(named, project));
            match scenario {
                Some(file) => error.help(format!(
                    "to boot a guest for the scenario, name its file: {}",
                    file.display()
                )),
                None => error,
            }
        })?;
        let record = record.canonicalize().at("find", &record)?;
        return found(&record)?.ok_or_else(|| not_paused(&record));
    }
    let mut paused = Vec::new();
    let runs = project.map(|project| project.join(".lab/runs"));
    for entry in runs.iter().flat_map(fs::read_dir).flatten().flatten() {
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if !is_link && let Ok(Some(found)) = found(&entry.path()) {
            paused.push(found);
        }
    }
    if paused.len() > 1 {
        let line = |found: &Found| {
            let shown = files::shown(&found.record);
            format!("{shown}: {}, {}", found.entrance.run, found.entrance.at)
        };
        let lines: Vec<_> = paused.iter().map(line).collect();
        let what = format!("{} runs are paused", paused.len());
        return Err(Error::new(Blame::Usage, what)
            .evidence(&lines.join("\n"))
            .help("name one of these folders"));
    }
    paused.pop().ok_or_else(|| {
        Error::new(Blame::Usage, "no run is paused").help(
            "`lab run … --pause-at STEP` pauses one, `lab shell SCENARIO` boots a guest for itself",
        )
    })
}

fn found(record: &Path) -> Result<Option<Found>> {
    if record::is_over(record) {
        return Ok(None);
    }
    let entrance = Entrance::of(record)?;
    Ok(entrance.map(|entrance| Found {
        record: record.to_path_buf(),
        entrance,
    }))
}

fn not_paused(record: &Path) -> Error {
    let shown = files::shown(record);
    if record::is_over(record) {
        let what = format!("the run {shown} is over, and its guest has ended");
        return Error::new(Blame::Usage, what).help(
            "its console is in console.log; `lab run … --pause-at STEP` pauses a run at a step",
        );
    }
    let what = format!("the run {shown} is not paused");
    Error::new(Blame::Usage, what).help("`lab console` shows the kernel's console")
}

/// Enters a guest, does what is wished, and returns the exit status.
pub async fn visit(entrance: &Entrance, wish: Wish, cancel: &CancellationToken) -> Result<u8> {
    let Some(ssh) = &entrance.ssh else {
        let what = format!("the guest of {} accepts no more logins", entrance.run);
        return Err(Error::new(Blame::Guest, what).help(
            "`lab console` shows the kernel's console; gdb can attach if the run has --gdb",
        ));
    };
    let login = ssh.login()?;
    let stdin = own(std::io::stdin().as_fd())?;
    let (terminal, command) = match wish.terminal {
        // The prompt says where one is.
        true => {
            let prompt = format!("PS1='{}:\\w\\$ '", entrance.run.kernel);
            let command = wish.command.unwrap_or_else(|| "exec /bin/sh".to_owned());
            (Some(term()), Some(format!("export {prompt}; {command}")))
        }
        false => (None, wish.command),
    };
    let visit = Visit {
        command,
        output: output(std::io::stdout(), wish.terminal),
        error: output(std::io::stderr(), wish.terminal),
        terminal,
        input: own(stdin.as_fd())?,
    };
    // Dropped whatever happens, also at the second Ctrl-C.
    let raw = match wish.terminal {
        true => Some(Raw::new(stdin)?),
        false => None,
    };
    let token = cancel.clone();
    let visited = tokio::select! {
        visited = blocking(move || Ok(terminal::visit(&login, visit, &token))) => visited?,
        () = at_once(cancel) => return Err(Error::interrupted()),
    };
    drop(raw);
    match visited {
        Ok(Ended::Left) if cancel.is_cancelled() => Err(Error::interrupted()),
        Ok(ended) => Ok(ended.status()),
        Err(Silence::Lost(why)) => {
            let what = format!("the guest was lost: {why}");
            Err(Error::new(Blame::Guest, what).help("`lab console` shows the kernel's console"))
        }
        Err(silence) => Err(Error::new(Blame::Guest, silence.to_string())),
    }
}

/// Resolves when a visit is to end that does not notice: it waits for a guest that says nothing.
async fn at_once(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
}

fn own(fd: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().at("use", "standard input".as_ref())
}

/// The kind of the terminal, as far as the guest may know it.
fn term() -> String {
    let term = std::env::var("TERM").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-+._".contains(c);
    match !term.is_empty() && term.len() <= 64 && term.chars().all(plain) {
        true => term,
        false => "vt100".to_owned(),
    }
}

/// Where a guest's output goes: as it is to a terminal of the guest's own and to a file, and made
/// visible on somebody else's terminal.
fn output(to: impl Write + IsTerminal + Send + 'static, is_guests: bool) -> Box<dyn Write + Send> {
    match to.is_terminal() && !is_guests {
        true => Box::new(Visible {
            to,
            pieces: Pieces::default(),
        }),
        false => Box::new(to),
    }
}

/// Makes visible what is written to a terminal.
struct Visible<W> {
    to: W,
    pieces: Pieces,
}

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        let text = self.pieces.take(piece);
        self.to.write_all(text.as_bytes())?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// A terminal that hands on each key, until this is dropped.
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn new(terminal: OwnedFd) -> Result<Self> {
        let failed = |error: rustix::io::Errno| {
            Error::host(format!("cannot set up the terminal: {error}"))
                .help("without a terminal, `lab shell` works as a pipe: `echo ls | lab shell`")
        };
        let before = tcgetattr(&terminal).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_writes_is_visible_in_pieces() {
        let mut visible = Visible {
            to: Vec::new(),
            pieces: Pieces::default(),
        };
        for piece in [&b"a\x1b"[..], b"[2J\r", b"\nb"] {
            visible.write_all(piece).unwrap();
        }
        assert_eq!(visible.to, b"a\\u{1b}[2J\nb");
    }
}
