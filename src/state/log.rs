// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel said in a step: all of it, for expectations. Snapshots keep a part of it that is
//! the same in every run ([`Observed::log`](super::Observed)). Pure.
//!
//! The lines of programs are not the kernel's: the lab and scenarios write to `/dev/kmsg`, too.

use crate::vm::kernel_log::{self, Record};

/// Bytes of the agent's longest reply (`images/guest/agent.c: REPLY_MAX`), which has the log at its end.
const REPLY_MAX: usize = 1 << 20;

/// What the kernel said since the last state was observed, debug messages too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepLog {
    lines: Vec<Line>,
    /// Whether there was more of it than could be kept.
    lost: bool,
}

/// A line as `dmesg` shows it, without its time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Line {
    text: String,
    /// The record whose last line it is, as `/dev/kmsg` has it, if that differs. Snapshots show it
    /// so, and authors write what they have seen there.
    escaped: Option<String>,
}

impl Line {
    fn has(&self, part: &str) -> bool {
        let escaped = self.escaped.as_ref();
        self.text.contains(part) || escaped.is_some_and(|text| text.contains(part))
    }
}

impl StepLog {
    /// Reads the agent's `state` reply. A line without an end is the rest of a reply that was too long.
    pub fn parse(dump: &str) -> Self {
        let whole = dump.rfind('\n').map_or("", |end| &dump[..=end]);
        let lost = whole.lines().any(|line| line.starts_with("log-lost"));
        let records = kernel_log::records(whole);
        let lines = records.into_iter().filter(|record| !record.by_program);
        Self {
            lines: lines.flat_map(lines_of).collect(),
            lost: lost || dump.len() >= REPLY_MAX,
        }
    }

    /// The first of these parts that does not occur, each in a line after that of the one before.
    pub fn lacks<'a>(&self, parts: &'a [String]) -> Option<&'a str> {
        let mut lines = self.lines.iter();
        let mut parts = parts.iter().map(String::as_str);
        parts.find(|part| !lines.any(|line| line.has(part)))
    }

    /// The first line with this part.
    pub fn with(&self, part: &str) -> Option<&str> {
        let mut lines = self.lines.iter();
        let line = lines.find(|line| line.has(part))?;
        let escaped = line.escaped.as_deref();
        Some(
            escaped
                .filter(|text| text.contains(part))
                .unwrap_or(&line.text),
        )
    }

    /// Whether there was more than could be kept, so that nothing is known of what it lacks.
    pub fn is_cut(&self) -> bool {
        self.lost
    }
}

/// A message of several lines is one record.
fn lines_of(record: Record) -> Vec<Line> {
    let text = unescaped(&record.text);
    let mut lines: Vec<_> = text
        .split('\n')
        .map(|line| Line {
            text: line.to_owned(),
            escaped: None,
        })
        .collect();
    if let Some(last) = lines.last_mut()
        && text != record.text
    {
        last.escaped = Some(record.text);
    }
    lines
}

/// The text of a record of `/dev/kmsg`, which has a backslash and all that is not printable ASCII as
/// `\x5c` (`kernel/printk/printk.c: msg_add_ext_text()`).
pub fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let (before, from) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        let digits = from.get(2..4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &from[4..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = &from[2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "tainted\t4096\nmodule\tshop 12288 0\n\
        kmsg\t7,410,1000,-\tlivepatch: klp_try_switch_task: swapper/1:0 is running\n\
        kmsg\t5,411,1000,-\tlivepatch: signaling remaining tasks\n\
        kmsg\t6,412,1000,-\toom: adjusted by the livepatch\n\
        kmsg\t8,413,1000,-\tlab: the console has come as far as this (7)\n\
        kmsg\t15,414,1000,-\tlab: the log has been read as far as this\n\
        kmsg\t6,415,1000,-\tshop: first\\x0ashop: C:\\x5cPRICE f\\xc3\\xbcr 10\ttab\n";

    fn parts<const N: usize>(parts: [&str; N]) -> Vec<String> {
        parts.map(str::to_owned).to_vec()
    }

    #[test]
    fn all_that_the_kernel_said_is_there_and_nothing_of_programs() {
        let log = StepLog::parse(DUMP);
        let said = [
            "is running",
            "signaling",
            "oom: adjusted",
            "shop: first",
            "shop: C:",
        ];
        assert_eq!(log.lacks(&parts(said)), None);
        for not_the_kernels in ["lab: ", "console has come", "read as far", "module"] {
            assert_eq!(log.with(not_the_kernels), None, "{not_the_kernels}");
        }
        assert_eq!(log.with("adjusted"), Some("oom: adjusted by the livepatch"));
    }

    #[test]
    fn parts_occur_in_their_order_and_in_a_line_each() {
        let log = StepLog::parse(DUMP);
        let lacks = |all: &[String]| log.lacks(all).map(str::to_owned);
        assert_eq!(
            lacks(&parts(["oom", "signaling"])).as_deref(),
            Some("signaling")
        );
        assert_eq!(
            lacks(&parts(["adjusted", "livepatch"])).as_deref(),
            Some("livepatch")
        );
        assert_eq!(lacks(&parts(["first", "PRICE"])), None);
        assert_eq!(lacks(&parts(["PRICE", "first"])).as_deref(), Some("first"));
        assert_eq!(lacks(&[]), None);
    }

    #[test]
    fn a_text_is_found_as_it_was_printed_and_as_kmsg_shows_it() {
        let log = StepLog::parse(DUMP);
        for part in [r"C:\PRICE für 10", r"C:\x5cPRICE", r"first\x0ashop"] {
            assert_eq!(log.lacks(&parts([part])), None, "{part}");
            assert!(log.with(part).is_some_and(|line| line.contains(part)));
        }
        assert_eq!(unescaped(r"\x \xg0 \x4"), r"\x \xg0 \x4");
        assert_eq!(unescaped("a\\xü"), "a\\xü");
    }

    #[test]
    fn what_was_lost_is_known_to_be() {
        assert!(!StepLog::parse(DUMP).is_cut());
        assert!(StepLog::parse(&format!("log-lost\t\n{DUMP}")).is_cut());
        let line = format!("kmsg\t6,1,1,-\t{}\n", "x".repeat(1000));
        let mut long = line.repeat(2000);
        long.truncate(REPLY_MAX);
        assert!(StepLog::parse(&long).is_cut());
    }

    #[test]
    fn an_agent_of_protocol_1_says_less_of_its_lines() {
        let log = StepLog::parse("log\tlivepatch: enabling patch 'x'\n");
        assert_eq!(log.lacks(&parts(["livepatch: enabling patch 'x'"])), None);
    }

    #[test]
    fn the_agents_longest_reply_is_this_one() {
        let agent = include_str!("../../images/guest/agent.c");
        assert!(agent.contains("#define REPLY_MAX (1 << 20)\n"));
    }
}
