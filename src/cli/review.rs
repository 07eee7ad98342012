// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab review`: each pending snapshot as a diff, to accept, reject or skip; and the snapshots whose
//! scenario has gone.

mod orphans;

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::owners::Owners;
use super::pager;
use crate::cache::blocking;
use crate::error::{Error, IoContext, Result};
use crate::kernel::Definition;
use crate::profile::LabFile;
use crate::report::paint::{Color, Paint};
use crate::state::diff;
use crate::state::older::changed_steps;
use crate::state::snapshot::{self, Owner, SnapshotFile};
use crate::visible::visible;
use orphans::Orphan;

/// Arguments of `lab review`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: a accepts, r rejects, s skips, q quits; each with Enter. Of a snapshot whose scenario is not there
any more: d deletes it, m moves it to the scenario that has its steps now. Long texts go through $PAGER.

Exit status: 0 nothing waits for a review any more, 1 something does.")]
pub struct ReviewArgs {
    /// Accept everything that is pending.
    #[arg(long, conflicts_with = "reject_all")]
    accept_all: bool,
    /// Reject everything that is pending.
    #[arg(long)]
    reject_all: bool,
}

/// What to do with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Accept,
    Reject,
    Move,
    Delete,
    Skip,
    Quit,
}

impl Choice {
    /// As it is asked for: `[a]ccept`.
    fn words(self) -> &'static str {
        match self {
            Choice::Accept => "[a]ccept",
            Choice::Reject => "[r]eject",
            Choice::Move => "[m]ove",
            Choice::Delete => "[d]elete",
            Choice::Skip => "[s]kip",
            Choice::Quit => "[q]uit",
        }
    }

    /// Whether somebody has typed it.
    fn is(self, answer: &str) -> bool {
        self.words()[1..].starts_with(answer) && answer.len() == 1
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    accepted: usize,
    rejected: usize,
    moved: usize,
    deleted: usize,
    /// Snapshots that are still there, and belong to no scenario.
    orphans: usize,
}

/// Who reviews, and what has come of it.
struct Desk<'a> {
    project: &'a Path,
    args: &'a ReviewArgs,
    paint: Paint,
    /// Ctrl-C ends a question; while a pager is there, it is the pager's.
    interrupts: Signal,
    done: Done,
}

/// Goes through what is pending. Exit code 0: nothing is left; 1: something is.
pub fn review(project: &Path, args: &ReviewArgs, color: Color) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::host(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(async {
        let interrupts = signal(SignalKind::interrupt())
            .map_err(|error| Error::host(format!("cannot listen for signals: {error}")))?;
        let mut desk = Desk {
            project,
            args,
            paint: Paint::stdout(color),
            interrupts,
            done: Done::default(),
        };
        let result = desk.work().await;
        let left = snapshot::all_pending(project)?.len();
        super::print(&desk.done.text(left));
        result.map(|()| u8::from(left > 0))
    });
    // A thread may still wait for the keyboard.
    runtime.shutdown_background();
    result
}

impl Done {
    /// What was done and what is left, in one line.
    fn text(&self, left: usize) -> String {
        let parts = [
            (self.accepted, "accepted"),
            (self.rejected, "rejected"),
            (self.moved, "moved"),
            (self.deleted, "deleted"),
            (left, "left"),
            (self.orphans, "without a scenario"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        match &parts[..] {
            [] => "nothing to review\n".to_owned(),
            parts => parts.join(", ") + "\n",
        }
    }
}

impl Desk<'_> {
    async fn work(&mut self) -> Result<()> {
        let file = LabFile::read(self.project)?;
        let profiles = file.profiles.into_iter().map(|profile| profile.settings);
        let paths = profiles.chain([file.defaults]);
        let paths: Vec<_> = paths.flat_map(|settings| settings.paths).collect();
        let owners = Owners::find(self.project, &paths)?;
        // First: what is moved is what a pending one is then held against.
        let orphans = orphans::find(self.project, &owners)?;
        self.done.orphans = orphans.len();
        for orphan in &orphans {
            if self.orphan(orphan).await? == Choice::Quit {
                return Ok(());
            }
        }
        let all = snapshot::all_pending(self.project)?;
        for (index, (pending, accepted)) in all.iter().enumerate() {
            let place = format!("{} of {}", index + 1, all.len());
            if self.pending(pending, accepted, &place).await? == Choice::Quit {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Shows a pending snapshot, and does what is chosen.
    async fn pending(&mut self, pending: &Path, accepted: &Path, place: &str) -> Result<Choice> {
        let name = shown(accepted);
        let old = snapshot::read(accepted)?;
        let new = snapshot::read(pending)?.unwrap_or_default();
        if old
            .as_ref()
            .is_some_and(|old| old.trim_end() == new.trim_end())
        {
            fs::remove_file(pending).at("remove", pending)?;
            super::print(&format!("{name} has what is accepted already\n"));
            return Ok(Choice::Skip);
        }
        let mut text = format!("{}\n", self.paint.bold(&format!("{name} ({place})")));
        let old = match old {
            Some(old) => {
                let changes = changed_steps(&old, &new);
                if !changes.is_empty() {
                    text += "the accepted one is of an older text of the scenario:\n";
                }
                for change in changes {
                    let _ = writeln!(text, "  {}", visible(&change));
                }
                if Owner::of(accepted).is_some_and(|owner| owner.kernel.is_none()) {
                    text += "all kernels share it: what is accepted is what each of them must do\n";
                }
                old
            }
            None => match self.inherited(accepted)? {
                Some((base, old)) => {
                    let _ = writeln!(text, "new; it was held against {}", shown(&base));
                    old
                }
                None => {
                    text += "new: there is none yet\n";
                    String::new()
                }
            },
        };
        text += &self.paint.diff(&visible(&diff::render(&old, &new)));
        pager::show(&(text + "\n"));
        let choices = [Choice::Accept, Choice::Reject, Choice::Skip, Choice::Quit];
        let choice = match (self.args.accept_all, self.args.reject_all) {
            (true, _) => Choice::Accept,
            (_, true) => Choice::Reject,
            _ => self.ask(&choices).await?,
        };
        match choice {
            Choice::Accept => {
                fs::rename(pending, accepted).at("accept", accepted)?;
                self.done.accepted += 1;
                super::print(&format!("accepted {name}\n\n"));
            }
            Choice::Reject => {
                fs::remove_file(pending).at("remove", pending)?;
                self.done.rejected += 1;
                super::print(&format!("rejected {name}\n\n"));
            }
            _ => {}
        }
        Ok(choice)
    }

    /// The snapshot of another kernel that a run is held against as long as its kernel has none. A
    /// kernel that is not defined any more is based on none.
    fn inherited(&self, accepted: &Path) -> Result<Option<(PathBuf, String)>> {
        let owner = Owner::of(accepted);
        let kernel = owner.as_ref().and_then(|owner| owner.kernel.as_deref());
        let kernel = kernel.and_then(|name| Definition::read(self.project, name).ok());
        let Some((owner, kernel)) = owner.zip(kernel) else {
            return Ok(None);
        };
        let Some((_, path)) = owner.inherited(self.project, &kernel.bases) else {
            return Ok(None);
        };
        let text = snapshot::read(&self.project.join(&path))?;
        Ok(text.map(|text| (path, text)))
    }

    /// Shows a snapshot whose scenario is not there, and does what is chosen.
    async fn orphan(&mut self, orphan: &Orphan) -> Result<Choice> {
        let name = shown(&orphan.path);
        let mut text = format!("{}\n", self.paint.bold(&name));
        let _ = writeln!(
            text,
            "belongs to {}, which is not there",
            visible(&orphan.source)
        );
        let mut choices = vec![Choice::Delete, Choice::Skip, Choice::Quit];
        if let Some(home) = &orphan.home {
            let file = visible(&home.file.display().to_string());
            let _ = writeln!(
                text,
                "{file} has the same steps, and no snapshot: moved to it, this is"
            );
            let _ = writeln!(text, "{}", home.owner.path().display());
            choices.insert(0, Choice::Move);
        }
        super::print(&text);
        if self.args.accept_all || self.args.reject_all {
            super::print("\n");
            return Ok(Choice::Skip);
        }
        let choice = self.ask(&choices).await?;
        match (choice, &orphan.home) {
            (Choice::Delete, _) => {
                fs::remove_file(&orphan.path).at("remove", &orphan.path)?;
                self.done.deleted += 1;
                super::print(&format!("deleted {name}\n\n"));
            }
            (Choice::Move, Some(home)) => {
                let moved = SnapshotFile::owned(self.project, &home.owner, &home.file);
                moved.write(&orphan.text)?;
                fs::remove_file(&orphan.path).at("remove", &orphan.path)?;
                self.done.moved += 1;
                super::print(&format!("moved {name} to {}\n\n", shown(moved.path())));
            }
            _ => return Ok(choice),
        }
        self.done.orphans -= 1;
        Ok(choice)
    }

    /// Asks until there is an answer; the end of input quits.
    async fn ask(&mut self, choices: &[Choice]) -> Result<Choice> {
        let words: Vec<_> = choices.iter().map(|choice| choice.words()).collect();
        let question = format!("{}? ", words.join(", "));
        // What was pressed in a pager was for it.
        while timeout(Duration::ZERO, self.interrupts.recv())
            .await
            .is_ok()
        {}
        loop {
            super::print(&question);
            let answer = blocking(|| {
                let mut answer = String::new();
                let read = std::io::stdin().lock().read_line(&mut answer);
                let length = read.at("read", "standard input".as_ref())?;
                Ok((length > 0).then_some(answer))
            });
            let answer = tokio::select! {
                answer = answer => answer?,
                _ = self.interrupts.recv() => {
                    super::print("\n");
                    return Err(Error::interrupted());
                }
            };
            // Only Enter on a terminal ends the line of the question.
            if answer.is_none() || !std::io::stdin().is_terminal() {
                super::print("\n");
            }
            let Some(answer) = answer else {
                return Ok(Choice::Quit);
            };
            let chosen = choices.iter().find(|choice| choice.is(answer.trim()));
            if let Some(chosen) = chosen {
                return Ok(*chosen);
            }
        }
    }
}

/// A file's name, as it is shown.
fn shown(path: &Path) -> String {
    visible(&path.file_name().unwrap_or_default().to_string_lossy())
}
