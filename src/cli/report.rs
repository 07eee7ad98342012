// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab report`: what event files amount to.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::error::Result;
use crate::report::files::Files;
use crate::report::human;
use crate::report::paint::{Color, Paint};
use crate::report::read::read_dirs;
use crate::report::screen::Screen;

pub const EXAMPLES: &str = "\
Examples:
  lab report merge results                       the shards of one shared folder
  lab report merge shard-*/ --report junit=junit.xml --report github";

/// Arguments of `lab report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    #[command(subcommand)]
    command: ReportCommand,
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    /// Join the event files of several commands (shards, resumed runs) into one report. The exit
    /// status is that of the worst verdict, and 3 if a planned run has none.
    #[command(after_help = EXAMPLES)]
    Merge {
        /// Folders with event files, as `lab run --output DIR` leaves them.
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
        /// Write a report: junit, ktap, github, table or jsonl, each =FILE.
        #[arg(long, value_name = "FORMAT=FILE")]
        report: Vec<String>,
    },
}

/// Reports what the folders hold.
pub fn report(args: &ReportArgs, color: Color) -> Result<u8> {
    let ReportCommand::Merge { dirs, report } = &args.command;
    let mut merged = read_dirs(dirs)?;
    merged.results.miss_elsewhere();
    Files::parse(report)?.write(&merged.results, &merged.files)?;
    super::print(&human::whole(
        &merged.results,
        Screen::behind(std::io::stdout()),
        Paint::stdout(color),
    ));
    Ok(merged.results.exit_code())
}
