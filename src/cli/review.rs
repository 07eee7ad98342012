// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab review`: each pending snapshot as a diff, to accept, reject or skip.

use std::fs;
use std::io::BufRead;
use std::path::Path;

use clap::Args;

use crate::error::{IoContext, Result};
use crate::report::paint::{Color, Paint};
use crate::state::{diff, snapshot};
use crate::visible::visible;

/// Arguments of `lab review`.
#[derive(Debug, Args)]
#[command(after_help = "Keys: a accepts, r rejects, s skips, q quits; each with Enter.")]
pub struct ReviewArgs {
    /// Accept everything that is pending.
    #[arg(long, conflicts_with = "reject_all")]
    accept_all: bool,
    /// Reject everything that is pending.
    #[arg(long)]
    reject_all: bool,
}

/// What to do with a pending snapshot.
enum Choice {
    Accept,
    Reject,
    Skip,
    Quit,
}

/// Goes through what is pending. Exit code 0: nothing is left; 1: something is.
pub fn review(project: &Path, args: &ReviewArgs, color: Color) -> Result<u8> {
    let paint = Paint::stdout(color);
    let all = snapshot::all_pending(project)?;
    if all.is_empty() {
        super::print("nothing to review\n");
        return Ok(0);
    }
    let mut left = 0;
    let mut quit = false;
    for (index, (pending, accepted)) in all.iter().enumerate() {
        if quit {
            left += 1;
            continue;
        }
        let name = visible(&accepted.file_name().unwrap_or_default().to_string_lossy());
        let heading = format!("{name} ({} of {})", index + 1, all.len());
        let old = snapshot::read(accepted)?.unwrap_or_default();
        let new = snapshot::read(pending)?.unwrap_or_default();
        let difference = paint.diff(&visible(&diff::render(&old, &new)));
        super::print(&format!("{}\n{difference}\n", paint.bold(&heading)));
        let choice = if args.accept_all {
            Choice::Accept
        } else if args.reject_all {
            Choice::Reject
        } else {
            ask()?
        };
        match choice {
            Choice::Accept => {
                fs::rename(pending, accepted).at("accept", accepted)?;
                super::print(&format!("accepted {name}\n\n"));
            }
            Choice::Reject => {
                fs::remove_file(pending).at("remove", pending)?;
                super::print(&format!("rejected {name}\n\n"));
            }
            Choice::Skip => left += 1,
            Choice::Quit => {
                left += 1;
                quit = true;
            }
        }
    }
    Ok(u8::from(left > 0))
}

/// Asks until there is an answer; the end of input quits.
fn ask() -> Result<Choice> {
    loop {
        super::print("[a]ccept, [r]eject, [s]kip, [q]uit? ");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.at("read", "standard input".as_ref())? == 0 {
            return Ok(Choice::Quit);
        }
        match answer.trim() {
            "a" => return Ok(Choice::Accept),
            "r" => return Ok(Choice::Reject),
            "s" => return Ok(Choice::Skip),
            "q" => return Ok(Choice::Quit),
            _ => {}
        }
    }
}
