// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's whole log in the record of a run: `kernel.log`, as `dmesg` shows it. It has what the
//! console does not say, debug messages above all, and is written as it gets known: after each step
//! by the agent, and from the guest's memory when a run ends early.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};
use crate::vm::console::{CONSOLE_MAX, Console};
use crate::vm::kernel_log::{DEBUG, Record};
use crate::vm::machine::Machine;

/// The file in a record.
pub const KERNEL_LOG: &str = "kernel.log";
/// The title of debug messages as evidence.
pub const LAST_DEBUG: &str = crate::verdict::evidence::DEBUG;
/// How many of them are shown.
const SHOWN: usize = 8;

/// The log of a guest's kernel, as far as it is known.
#[derive(Debug, Default)]
pub struct KernelLog {
    path: PathBuf,
    /// Bytes in the file.
    written: u64,
    /// The number of the first message that is not known yet.
    next: u64,
    /// The last debug messages of the step; those of the boot explain nothing.
    debug: Option<VecDeque<String>>,
}

impl KernelLog {
    /// Goes over to the record of another run, which has what the kernel says from now on.
    pub fn begin(&mut self, record: &Path) {
        self.path = record.join(KERNEL_LOG);
        self.written = 0;
        self.debug = None;
    }

    /// A step begins: the debug messages before it explain nothing of it.
    pub fn begin_step(&mut self) {
        self.debug = Some(VecDeque::new());
    }

    /// Takes in messages; those that are known already change nothing. Returns the new ones as text.
    ///
    /// # Errors
    ///
    /// `Host` for the disk.
    pub fn take(&mut self, records: Vec<Record>) -> Result<String> {
        let mut new = String::new();
        for record in records {
            if let Some(seq) = record.seq {
                if seq < self.next {
                    continue;
                }
                if seq > self.next {
                    new += &format!("({} messages lost)\n", seq - self.next);
                }
                self.next = seq.saturating_add(1);
            }
            if record.is_mark() {
                continue;
            }
            let line = record.line();
            new += &line;
            new.push('\n');
            if let Some(debug) = &mut self.debug
                && record.level == Some(DEBUG)
            {
                debug.push_back(line);
                if debug.len() > SHOWN {
                    debug.pop_front();
                }
            }
        }
        self.write(&new)?;
        Ok(new)
    }

    /// A guest may say as much here as on its console; one that says more is stopped by that.
    fn write(&mut self, new: &str) -> Result<()> {
        let room = CONSOLE_MAX.saturating_sub(self.written);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(new.len());
        let fits = &new[..new.floor_char_boundary(room)];
        if fits.is_empty() {
            return Ok(());
        }
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&self.path)
            .at("write", &self.path)?;
        file.write_all(fits.as_bytes()).at("write", &self.path)?;
        self.written += fits.len() as u64;
        Ok(())
    }

    /// Takes in what is in the guest's memory, if the kernel in `tree` is one whose memory can be
    /// read: one that was built elsewhere may not be.
    ///
    /// # Errors
    ///
    /// `Host` for the disk.
    pub async fn take_from_memory(&mut self, machine: &mut Machine, tree: &Path) -> Result<String> {
        let map = std::fs::read_to_string(tree.join("build/System.map")).unwrap_or_default();
        match machine.kernel_log(&map).await {
            Ok(records) => self.take(records),
            Err(_) => Ok(String::new()),
        }
    }

    /// The last mebibyte.
    pub fn text(&self) -> String {
        Console::new(&self.path).text()
    }

    /// The last debug messages of the step.
    pub fn last_debug(&self) -> String {
        let debug: Vec<_> = self.debug.iter().flatten().map(String::as_str).collect();
        debug.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: Option<u64>, level: u8, text: &str) -> Record {
        Record {
            seq,
            level: Some(level),
            micros: Some(1),
            text: text.to_owned(),
            ..Record::default()
        }
    }

    #[test]
    fn the_agents_marks_are_no_messages_and_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = KernelLog::default();
        log.begin(dir.path());
        log.begin_step();
        let reply = "kmsg\t6,0,1,-\ta\nkmsg\t15,1,1,-\tlab: the log has been read as far as this\n\
                     kmsg\t6,2,1,-\tb\n";
        let new = log.take(crate::vm::kernel_log::records(reply)).unwrap();
        assert_eq!(new, "[    0.000001] a\n[    0.000001] b\n");
        assert_eq!(log.last_debug(), "");
    }

    #[test]
    fn each_message_is_kept_once_and_lost_ones_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = KernelLog::default();
        log.begin(dir.path());
        let read = || std::fs::read_to_string(dir.path().join(KERNEL_LOG)).unwrap();
        log.take(vec![record(Some(0), 6, "a"), record(Some(1), 7, "b")])
            .unwrap();
        let again = vec![record(Some(1), 7, "b"), record(Some(4), 7, "c\u{1b}\n")];
        let new = log.take(again).unwrap();
        assert_eq!(new, "(2 messages lost)\n[    0.000001] c\\u{1b}\\n\n");
        let all = format!("[    0.000001] a\n[    0.000001] b\n{new}");
        assert_eq!((read(), log.text()), (all.clone(), all));
        // Before the first step; in it; in the next.
        assert_eq!(log.last_debug(), "");
        log.begin_step();
        for seq in 5..15 {
            log.take(vec![record(Some(seq), 7, "x"), record(Some(seq), 6, "y")])
                .unwrap();
        }
        assert_eq!(log.last_debug().lines().count(), SHOWN);
        log.begin_step();
        assert_eq!(log.last_debug(), "");
        // Another run in the same guest.
        let next = dir.path().join("next");
        std::fs::create_dir(&next).unwrap();
        log.begin(&next);
        log.take(vec![record(Some(14), 7, "x"), record(Some(15), 7, "d")])
            .unwrap();
        assert_eq!(log.text(), "[    0.000001] d\n");
        // Of an agent that does not number them.
        log.take(vec![record(None, 7, "e"), record(None, 7, "e")])
            .unwrap();
        assert_eq!(log.text().lines().count(), 3);
    }

    #[test]
    fn the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = KernelLog::default();
        log.begin(dir.path());
        let long = "ü".repeat(1 << 19);
        for seq in 0..6 {
            log.take(vec![record(Some(seq), 6, &long)]).unwrap();
        }
        let length = dir.path().join(KERNEL_LOG).metadata().unwrap().len();
        assert!(
            length <= CONSOLE_MAX && length > CONSOLE_MAX - 8,
            "{length}"
        );
    }
}
