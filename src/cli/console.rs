// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab console`: what a guest's kernel has said, and says.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::visit::find;
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::files::shown;
use crate::runner::record::{self, is_over};
use crate::visible::Pieces;

pub const EXAMPLES: &str = "\
Examples:
  lab console                       of the run that is paused
  lab console .lab/runs/latest      of a running or finished run

It ends with the run; Ctrl-C ends it before. What would steer the terminal is made visible.";

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Prints a console and follows it until the run is over.
pub async fn console(ctx: &Context, project: Option<&Path>, run: Option<&str>) -> Result<u8> {
    let record = match run {
        Some(named) => record::find(Path::new(named), project)?,
        None => find(project, None)?.record,
    };
    let path = record.join("console.log");
    let mut file = loop {
        // Its guest may be about to start.
        match File::open(&path) {
            Ok(file) => break file,
            Err(_) if !is_over(&record) => {}
            Err(_) => {
                let what = format!("the run {} has no console", shown(&record));
                return Err(Error::new(Blame::Usage, what).help("verdict.json says why"));
            }
        }
        pause(ctx).await?;
    };
    let (mut pieces, mut block) = (Pieces::default(), vec![0; 32 << 10]);
    let mut out = std::io::stdout();
    let is_terminal = out.is_terminal();
    loop {
        // Asked before: what is said until then is printed.
        let over = is_over(&record);
        let mut length = file.read(&mut block).at("read", &path)?;
        while length > 0 {
            let text = pieces.take(&block[..length]);
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            if written.is_err() && !is_terminal {
                // `lab console | head`.
                return Ok(0);
            }
            length = file.read(&mut block).at("read", &path)?;
        }
        if over {
            return Ok(0);
        }
        pause(ctx).await?;
    }
}

async fn pause(ctx: &Context) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(LOOK) => Ok(()),
        () = ctx.cancel.cancelled() => Err(Error::interrupted()),
    }
}
