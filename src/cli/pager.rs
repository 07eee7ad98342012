// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long texts on a terminal: through `$PAGER`, or `less`.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};

use rustix::termios::tcgetwinsize;

/// How `less` shows colours, leaves the text on the screen, and ends by itself if it fits.
const LESS: &str = "FRX";

/// Shows text: page by page if standard output is a terminal that is too small for it.
pub fn show(text: &str) {
    let stdout = std::io::stdout();
    let rows = match stdout.is_terminal().then(|| tcgetwinsize(&stdout)) {
        Some(Ok(size)) if size.ws_row > 0 => usize::from(size.ws_row),
        _ => usize::MAX,
    };
    if text.lines().count() < rows || !paged(text) {
        super::print(text);
    }
}

/// Whether a pager has shown the text.
fn paged(text: &str) -> bool {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    if pager.trim().is_empty() || pager == "cat" {
        return false;
    }
    // `$PAGER` may have options.
    let mut command = Command::new("sh");
    command.args(["-c", &pager]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", LESS);
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever has seen enough leaves before the end.
        let _ = stdin.write_all(text.as_bytes());
    }
    // What the shell says of a command that it cannot start.
    let not_there = |code: Option<i32>| matches!(code, Some(126 | 127));
    child.wait().is_ok_and(|status| !not_there(status.code()))
}
