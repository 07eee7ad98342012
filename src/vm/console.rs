// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's serial console, which QEMU writes to a file: the evidence of last resort.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::splat::{Finder, Splat};
use crate::error::{Error, IoContext, Result};
use crate::visible::is_hidden;

/// A guest may write this much; more is a flood, and ends the run before it fills the disk.
/// The noisiest selftests write 64 KiB.
pub const CONSOLE_MAX: u64 = 4 << 20;
/// Bytes at the end that are shown.
const TAIL_MAX: u64 = 1 << 20;
/// Bytes of a line; a longer one is taken for several. printk() writes 1 KiB at once.
const LINE_MAX: u64 = 4096;

/// A console file. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
    /// Where it is since it was moved.
    moved: Arc<OnceLock<PathBuf>>,
}

impl Console {
    /// The console that is written to `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            moved: Arc::default(),
        }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.moved.get().unwrap_or(&self.path)
    }

    /// Renames its file, once. Who writes to it goes on in the same file.
    ///
    /// # Errors
    ///
    /// `Host` for the disk, and if it was moved before.
    pub fn move_to(&self, path: PathBuf) -> Result<()> {
        if self.moved.get().is_some() {
            return Err(Error::lab("a console is moved twice"));
        }
        std::fs::rename(&self.path, &path).at("create", &path)?;
        let _ = self.moved.set(path);
        Ok(())
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.path().metadata().map_or(0, |data| data.len())
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last mebibyte as text. Control characters but the newline are made visible: what a
    /// guest writes must not steer the terminal that shows it.
    pub fn text(&self) -> String {
        self.text_from(0)
    }

    /// What was written after byte `from`, as [`Console::text`].
    pub fn text_from(&self, from: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.path()) {
            let start = self.len().saturating_sub(TAIL_MAX).max(from);
            let _ = file.seek(SeekFrom::Start(start));
            let _ = file.take(TAIL_MAX).read_to_end(&mut bytes);
        }
        cleaned(&bytes)
    }

    /// Whole lines from byte `from` on, some of them if there are many, and where the next begins;
    /// with `all`, also what has no end yet.
    pub fn lines_from(&self, from: u64, all: bool) -> (String, u64) {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.path()) {
            let _ = file.seek(SeekFrom::Start(from));
            let _ = file.take(TAIL_MAX).read_to_end(&mut bytes);
        }
        let is_full = bytes.len() as u64 == TAIL_MAX;
        let end = bytes.iter().rposition(|&byte| byte == b'\n');
        if !(all || is_full && end.is_none()) {
            bytes.truncate(end.map_or(0, |end| end + 1));
        }
        (cleaned(&bytes), from + bytes.len() as u64)
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// The first complaint of the kernel on the whole console whose title has none of the
    /// `allowed` parts in it.
    pub fn splat(&self, allowed: &[&str]) -> Option<Splat> {
        // A flood may go on while it is read.
        let file = File::open(self.path()).ok()?.take(2 * CONSOLE_MAX);
        first_splat(file, allowed)
    }
}

/// The first complaint of a kernel in what it has written; see [`Console::splat`].
pub fn first_splat(console: impl Read, allowed: &[&str]) -> Option<Splat> {
    let mut finder = Finder::allowing(allowed);
    let mut reader = BufReader::new(console);
    let mut line = Vec::new();
    while matches!((&mut reader).take(LINE_MAX).read_until(b'\n', &mut line), Ok(n) if n > 0) {
        finder.line(cleaned(&line).trim_end());
        line.clear();
    }
    finder.finish()
}

fn cleaned(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let clean = |c| match c {
        '\n' | '\t' => c,
        c if is_hidden(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_cannot_steer_the_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        std::fs::write(&path, b"a\x1b[2Jb\r\nc\xff\n").unwrap();
        assert_eq!(Console::new(path).text(), "a\u{fffd}[2Jb\nc\u{fffd}\n");
    }

    #[test]
    fn a_console_is_followed_where_it_is_moved() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let mut writer = File::create(&path).unwrap();
        let (console, other) = (Console::new(&path), Console::new(&path).clone());
        let clone = console.clone();
        writer.write_all(b"one\n").unwrap();
        console.move_to(dir.path().join("whole")).unwrap();
        writer.write_all(b"two\n").unwrap();
        assert_eq!((clone.text(), clone.len()), ("one\ntwo\n".into(), 8));
        assert!(clone.move_to(path).is_err() && other.is_empty());
    }

    #[test]
    fn lines_come_when_they_have_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        std::fs::write(&path, b"one\r\ntwo\x07\r\nthr").unwrap();
        let console = Console::new(&path);
        assert_eq!(
            console.lines_from(0, false),
            ("one\ntwo\u{fffd}\n".into(), 11)
        );
        assert_eq!(console.lines_from(11, false), (String::new(), 11));
        assert_eq!(console.lines_from(11, true), ("thr".into(), 14));
        assert_eq!(console.lines_from(14, true), (String::new(), 14));
        // A line without end is shown in pieces.
        std::fs::write(&path, vec![b'x'; 2 * TAIL_MAX as usize]).unwrap();
        assert_eq!(console.lines_from(0, false).1, TAIL_MAX);
    }

    #[test]
    fn a_splat_before_a_flood_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let flood = "[    2.0] noise\r\n".repeat(200_000);
        let text = format!("[    1.0] BUG: scheduling while atomic: x/1/2\r\n{flood}");
        assert!(text.len() as u64 > 2 * TAIL_MAX);
        std::fs::write(&path, text).unwrap();
        let splat = Console::new(path).splat(&[]).unwrap();
        assert_eq!(splat.title, "BUG: scheduling while atomic: x/1/2");
    }
}
