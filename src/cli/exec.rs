// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab exec`: a command in a guest.

use std::path::Path;

use clap::Args;

use super::visit::{GuestArgs, Wish};
use crate::context::Context;
use crate::error::Result;
use crate::process::Cmd;

pub const EXAMPLES: &str = "\
Examples:
  lab exec -- cat /sys/kernel/livepatch/pricing_v1/enabled
  lab exec .lab/runs/latest -- sh -c 'dmesg | tail'
  lab exec scenarios/tagged-replace.yaml --at 3 -- ls /sys/kernel/livepatch
  lab exec --terminal -- top

CMD is started as it is: no shell takes its words for anything else. Its exit status is passed on.
On a terminal, what would steer it is made visible.";

/// Arguments of `lab exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// Give the command a terminal, as in `lab shell`.
    #[arg(long, short)]
    terminal: bool,
    /// The command.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl ExecArgs {
    /// Whether a guest is to be booted.
    pub fn boots(&self) -> bool {
        self.guest.boots()
    }
}

/// Runs the command; returns its exit status.
pub async fn exec(ctx: &Context, project: Option<&Path>, args: &ExecArgs) -> Result<u8> {
    // The guest's shell reads it: what is shown in shell syntax is read as it was meant.
    let command = Cmd::new(&args.command[0]).args(&args.command[1..]);
    let wish = Wish {
        command: Some(command.to_string()),
        terminal: args.terminal,
    };
    args.guest.enter(ctx, project, wish).await
}
