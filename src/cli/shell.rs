// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab shell`: a terminal in a guest.

use std::io::IsTerminal;
use std::path::Path;

use clap::Args;

use super::visit::{GuestArgs, Wish};
use crate::context::Context;
use crate::error::Result;

pub const EXAMPLES: &str = "\
Examples:
  lab shell                                    in the guest of the run that is paused
  lab shell .lab/runs/latest
  lab shell scenarios/tagged-replace.yaml --at 3 --kernel tags
                                               boot a guest, play three steps, enter, end the guest
  echo 'cat /proc/version' | lab shell         without a terminal it is a pipe

`exit` or Ctrl-D leaves. Ctrl-C goes to the guest; if that says nothing any more, Enter ~ . leaves.
The exit status is the guest's shell's.";

/// Arguments of `lab shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    #[command(flatten)]
    guest: GuestArgs,
}

impl ShellArgs {
    /// Whether a guest is to be booted.
    pub fn boots(&self) -> bool {
        self.guest.boots()
    }
}

/// Opens a shell; returns its exit status.
pub async fn shell(ctx: &Context, project: Option<&Path>, args: &ShellArgs) -> Result<u8> {
    let wish = Wish {
        command: None,
        terminal: std::io::stdin().is_terminal(),
    };
    args.guest.enter(ctx, project, wish).await
}
