// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's serial console, which QEMU writes to a file: the evidence of last resort.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A guest may write this much; more is a flood, and ends the run before it fills the disk.
pub const CONSOLE_MAX: u64 = 64 << 20;
/// Bytes at the end that are looked at.
const TAIL_MAX: u64 = 1 << 20;

/// A console file.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
}

/// A kernel's complaint.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Splat {
    /// Its first line: `WARNING: CPU: 0 PID: 71 at kernel/livepatch/core.c:1067 …`.
    pub title: String,
    /// Whether the kernel stopped.
    pub fatal: bool,
    /// Its lines, from the cut to the end of the trace.
    pub text: String,
}

impl Console {
    /// The console that is written to `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.path.metadata().map_or(0, |data| data.len())
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last mebibyte as text. Control characters but the newline are made visible: what a
    /// guest writes must not steer the terminal that shows it.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let start = self.len().saturating_sub(TAIL_MAX);
            let _ = file.seek(SeekFrom::Start(start));
            let _ = file.take(TAIL_MAX).read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        text.chars()
            .map(|c| {
                if c.is_control() && c != '\n' && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect()
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// The first complaint of the kernel, if there is any.
    pub fn splat(&self) -> Option<Splat> {
        find_splat(&self.text())
    }
}

/// What complaints begin with. The text after the time stamp must *begin* so: a livepatch called
/// "BUG" in the middle of a line is no complaint.
const MARKS: [(&str, bool); 15] = [
    ("Kernel panic - not syncing", true),
    ("BUG: kernel NULL pointer dereference", true),
    ("BUG: unable to handle", true),
    ("kernel BUG at ", true),
    ("Oops", true),
    ("general protection fault", true),
    ("Unable to handle kernel", true),
    ("Internal error: ", true),
    ("watchdog: BUG: soft lockup", false),
    ("BUG: ", false),
    ("WARNING: ", false),
    ("INFO: task ", false),
    ("rcu: INFO: rcu_", false),
    ("INFO: rcu_", false),
    ("UBSAN: ", false),
];

/// Finds the first complaint in the text of a console.
pub fn find_splat(text: &str) -> Option<Splat> {
    let lines: Vec<&str> = text.lines().collect();
    let (at, fatal) = lines.iter().enumerate().find_map(|(at, line)| {
        let message = without_time(line);
        // "INFO: task x blocked for more than 60 seconds." only.
        let hung =
            !message.starts_with("INFO: task ") || message.contains(" blocked for more than");
        let mark = MARKS
            .iter()
            .find(|(mark, _)| message.starts_with(mark) && hung)?;
        Some((at, mark.1))
    })?;
    let end = lines[at..]
        .iter()
        .position(|line| line.contains("---[ end "))
        .map_or(lines.len().min(at + 60), |offset| at + offset + 1);
    // The message of WARN() stands before its first line, after the cut.
    let cut = |line: &&str| line.contains("---[ cut here ]---");
    let start = lines[..at]
        .iter()
        .rev()
        .take(4)
        .position(cut)
        .map_or(at, |back| at - back - 1);
    // A warning can be followed by a panic.
    let panics = |line: &&str| without_time(line).starts_with("Kernel panic - not syncing");
    Some(Splat {
        title: without_time(lines[at]).to_owned(),
        fatal: fatal || lines[at..].iter().any(panics),
        text: lines[start..end].join("\n"),
    })
}

/// `[    1.234567] text` or `[    1.234567][   T71] text` → `text`.
fn without_time(line: &str) -> &str {
    let mut rest = line;
    while let Some(inner) = rest.strip_prefix('[') {
        let Some((stamp, after)) = inner.split_once(']') else {
            break;
        };
        let digits = |c: char| c.is_ascii_digit() || " .TC".contains(c);
        if !stamp.chars().all(digits) {
            break;
        }
        rest = after;
    }
    rest.trim_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_found_with_its_text() {
        let text = "[    1.0] livepatch: enabling patch 'x'\n\
                    [    1.1] ------------[ cut here ]------------\n\
                    [    1.1] a message\n\
                    [    1.2] WARNING: CPU: 1 PID: 71 at kernel/livepatch/core.c:1067 x+0x1/0x2\n\
                    [    1.3] Call Trace:\n\
                    [    1.4] ---[ end trace 0000000000000000 ]---\n\
                    [    1.5] more\n";
        let splat = find_splat(text).unwrap();
        assert_eq!(
            splat.title,
            "WARNING: CPU: 1 PID: 71 at kernel/livepatch/core.c:1067 x+0x1/0x2"
        );
        assert!(!splat.fatal);
        assert_eq!(splat.text.lines().count(), 5);
    }

    #[test]
    fn an_oops_is_fatal() {
        let text = "[    2.0][   T71] BUG: kernel NULL pointer dereference, address: 0\n";
        assert!(find_splat(text).unwrap().fatal);
    }

    #[test]
    fn what_only_looks_like_a_splat_is_none() {
        for line in [
            "[    1.0] livepatch: enabling patch 'BUG'",
            "[    1.0] Unstable clock detected, WARNING: none",
            "[    1.0] INFO: task force",
            "lab: ready",
            "[BUG: x] y",
        ] {
            assert_eq!(find_splat(line), None, "{line}");
        }
    }

    #[test]
    fn a_console_cannot_steer_the_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        std::fs::write(&path, b"a\x1b[2Jb\r\nc\xff\n").unwrap();
        assert_eq!(Console::new(path).text(), "a\u{fffd}[2Jb\nc\u{fffd}\n");
    }
}
