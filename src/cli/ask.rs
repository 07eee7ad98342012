// SPDX-License-Identifier: MIT OR Apache-2.0
//! A question on the terminal: Ctrl-C ends the command while it waits, and the end of input is no
//! answer.

use std::io::Write;

use crate::cache::blocking;
use crate::context::Context;
use crate::error::{Error, IoContext, Result};

/// Asks, and returns the answer without white space, in lower case; `None` at the end of input.
///
/// # Errors
///
/// `Interrupted`, or standard input cannot be read.
pub async fn ask(ctx: &Context, question: &str) -> Result<Option<String>> {
    let _ = write!(std::io::stderr(), "{question} ");
    let _ = std::io::stderr().flush();
    let answer = blocking(|| {
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        let length = read.at("read", "standard input".as_ref())?;
        Ok((length > 0).then(|| answer.trim().to_ascii_lowercase()))
    });
    tokio::select! {
        answer = answer => answer,
        // The thread goes on waiting, and goes with the process.
        () = ctx.cancel.cancelled() => Err(Error::interrupted()),
    }
}
