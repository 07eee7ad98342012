// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records of the kernel's log: as the agent reads them from `/dev/kmsg`, and as `dmesg` shows them.
//! Pure.

use crate::visible::visible;

/// The level of `pr_debug()` messages (`include/linux/kern_levels.h: KERN_DEBUG`). The console of a
/// guest does not have them (`images/guest/init.c`).
pub const DEBUG: u8 = 7;
/// Bits of a priority that are its level; the others are its facility.
const LEVEL: u64 = 7;
/// What the agent says each time before it reads the log (`images/guest/agent.c: end_last_message()`).
const MARK: &str = "lab: the log has been read as far as this";

/// A message of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its number since the boot; `None` from an agent of protocol 1.
    pub seq: Option<u64>,
    /// 0 is an emergency, 7 a debug message.
    pub level: Option<u8>,
    /// Whether a program has written it to `/dev/kmsg`, and not the kernel
    /// (`kernel/printk/printk.c: devkmsg_write()`).
    pub by_program: bool,
    /// Microseconds since the boot.
    pub micros: Option<u64>,
    /// What it says.
    pub text: String,
}

impl Record {
    /// As `dmesg` shows it, `[    1.017537] livepatch: …`; fit to be shown, and one line.
    pub fn line(&self) -> String {
        let text = visible(&self.text).replace('\n', "\\n");
        match self.micros {
            Some(micros) => {
                let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
                format!("[{seconds:5}.{rest:06}] {text}")
            }
            None => text,
        }
    }

    /// Whether it is the agent's own, which says nothing of the guest.
    pub fn is_mark(&self) -> bool {
        self.by_program && self.text == MARK
    }
}

/// The records in a reply of the agent to `state` or `log`: `kmsg`, the priority, sequence number and
/// microseconds of a line of `/dev/kmsg`, and its text. Other lines are not looked at; an agent of
/// protocol 1 says `log` and the text.
pub fn records(reply: &str) -> Vec<Record> {
    reply.lines().filter_map(record).collect()
}

fn record(line: &str) -> Option<Record> {
    if let Some(text) = line.strip_prefix("log\t") {
        return Some(Record {
            text: text.to_owned(),
            ..Record::default()
        });
    }
    let (prefix, text) = line.strip_prefix("kmsg\t")?.split_once('\t')?;
    let mut numbers = prefix.split(',').map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let priority = next();
    Some(Record {
        level: priority.and_then(|priority| u8::try_from(priority & LEVEL).ok()),
        by_program: priority.is_some_and(|priority| priority > LEVEL),
        seq: next(),
        micros: next(),
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_as_dmesg_does() {
        let reply = "tainted\t0\nkmsg\t7,412,1017537,-\tlivepatch: 'x':\ttabs\nlog\told\u{1b}\n\
                     kmsg\t12,413,12000000001,c,caller=T1\tuser\nkmsg\tnonsense\n";
        let records = records(reply);
        let lines: Vec<_> = records.iter().map(Record::line).collect();
        assert_eq!(
            lines,
            [
                "[    1.017537] livepatch: 'x':\ttabs",
                "old\\u{1b}",
                "[12000.000001] user"
            ]
        );
        let (first, last) = (&records[0], &records[2]);
        assert_eq!((first.seq, first.level), (Some(412), Some(DEBUG)));
        assert_eq!((last.seq, last.level), (Some(413), Some(4)));
        assert_eq!((records[1].seq, records[1].level), (None, None));
        let by_program: Vec<_> = records.iter().map(|record| record.by_program).collect();
        assert_eq!(by_program, [false, false, true]);
    }

    #[test]
    fn the_agents_mark_is_known() {
        let agent = include_str!("../../images/guest/agent.c");
        assert!(agent.contains(&format!("\"<7>{MARK}\\n\"")));
        let is_mark = |line: &str| records(line)[0].is_mark();
        assert!(is_mark(&format!("kmsg\t15,1,1,-\t{MARK}\n")));
        // The same words of the kernel are the kernel's.
        assert!(!is_mark(&format!("kmsg\t7,1,1,-\t{MARK}\n")));
        assert!(!is_mark("kmsg\t15,1,1,-\tlab: another line\n"));
    }
}
