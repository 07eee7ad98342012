// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splats: what a kernel's console says when something is wrong with it. Pure.
//!
//! The corpus in `tests/faults/splats/` has real ones from guests of both architectures.

use std::collections::VecDeque;

use crate::verdict::SplatKind;

/// A kernel's complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splat {
    /// What it is about. A panic that follows is in `fatal`.
    pub kind: SplatKind,
    /// Its first line: `WARNING: kernel/livepatch/core.c:1067 at klp_enable_patch+0x1/0x2, …`.
    pub title: String,
    /// Whether the kernel stopped, at once or later on.
    pub fatal: bool,
    /// Its lines, from the cut to the end of the trace.
    pub text: String,
}

/// What splats begin with, the special before the general. The message after the time stamp must
/// *begin* so: a livepatch called "BUG" in the middle of a line is none.
const MARKS: [(&str, SplatKind); 41] = [
    ("Kernel panic - not syncing", SplatKind::Panic),
    ("BUG: KASAN: ", SplatKind::Sanitizer),
    ("BUG: KFENCE: ", SplatKind::Sanitizer),
    ("BUG: KMSAN: ", SplatKind::Sanitizer),
    ("BUG: KCSAN: ", SplatKind::Sanitizer),
    ("UBSAN: ", SplatKind::Sanitizer),
    ("BUG: kernel NULL pointer dereference", SplatKind::Oops),
    ("BUG: unable to handle", SplatKind::Oops),
    ("BUG: stack guard page was hit", SplatKind::Oops),
    ("BUG: TASK stack guard page was hit", SplatKind::Oops),
    ("kernel BUG at ", SplatKind::Oops),
    ("Oops: ", SplatKind::Oops),
    ("general protection fault", SplatKind::Oops),
    ("traps: PANIC: double fault", SplatKind::Oops),
    ("PANIC: double fault", SplatKind::Oops),
    ("Unable to handle kernel", SplatKind::Oops),
    ("Internal error: ", SplatKind::Oops),
    (
        "Insufficient stack space to handle exception!",
        SplatKind::Oops,
    ),
    ("Unexpected kernel BRK exception", SplatKind::Oops),
    ("SError Interrupt on CPU", SplatKind::Oops),
    ("watchdog: BUG: soft lockup", SplatKind::Lockup),
    ("watchdog: CPU", SplatKind::Lockup),
    ("Watchdog detected hard LOCKUP", SplatKind::Lockup),
    (
        "NMI watchdog: Watchdog detected hard LOCKUP",
        SplatKind::Lockup,
    ),
    ("BUG: workqueue lockup", SplatKind::Lockup),
    ("[ BUG: ", SplatKind::Lockdep),
    ("WARNING: possible circular locking", SplatKind::Lockdep),
    ("WARNING: possible recursive locking", SplatKind::Lockdep),
    ("WARNING: possible irq lock inversion", SplatKind::Lockdep),
    ("WARNING: inconsistent lock state", SplatKind::Lockdep),
    ("WARNING: bad unlock balance", SplatKind::Lockdep),
    ("WARNING: held lock freed", SplatKind::Lockdep),
    (
        "WARNING: lock held when returning to user space",
        SplatKind::Lockdep,
    ),
    ("WARNING: suspicious RCU usage", SplatKind::Lockdep),
    ("BUG: ", SplatKind::Bug),
    ("WARNING: ", SplatKind::Warning),
    ("INFO: task ", SplatKind::HungTask),
    ("rcu: INFO: rcu_", SplatKind::RcuStall),
    ("INFO: rcu_", SplatKind::RcuStall),
    ("Out of memory: Killed process ", SplatKind::OutOfMemory),
    (
        "Memory cgroup out of memory: Killed process ",
        SplatKind::OutOfMemory,
    ),
];

/// Lines of one splat that are kept, if its end does not come before.
const LINES_MAX: usize = 80;
/// The message of `WARN()` stands before its first line, after the cut.
const BEFORE: usize = 4;

/// Bytes of a time stamp or a caller, and the bracket after it.
const STAMP_MAX: usize = 32;

/// The kind of a splat that begins with this message.
fn kind(message: &str) -> Option<SplatKind> {
    let (_, kind) = *MARKS.iter().find(|(mark, _)| message.starts_with(mark))?;
    let is = match kind {
        // `kernel/hung_task.c`: of its messages, those that say for how long.
        SplatKind::HungTask => message.contains(" blocked") && message.contains("for more than "),
        SplatKind::Lockup if message.starts_with("watchdog: CPU") => {
            message.contains("hard LOCKUP")
        }
        _ => true,
    };
    is.then_some(kind)
}

/// `** 101 printk messages dropped **`; see `kernel/printk/printk.c: console_prepend_dropped()`.
fn is_lost(message: &str) -> bool {
    message.starts_with("** ") && message.ends_with(" printk messages dropped **")
}

/// Finds the first splat, line by line, with memory for no more than one.
#[derive(Debug, Default)]
pub struct Finder<'a> {
    /// Titles with one of these are passed over, unless the kernel stops.
    allowed: &'a [&'a str],
    /// Whether the kernel's lines have time stamps. What has none is then no kernel's.
    timed: bool,
    before: VecDeque<String>,
    found: Option<Splat>,
    lines: Vec<String>,
    whole: bool,
}

impl<'a> Finder<'a> {
    /// One that passes over splats whose title has one of these in it.
    pub fn allowing(allowed: &'a [&'a str]) -> Self {
        Self {
            allowed,
            ..Self::default()
        }
    }

    /// Reads on.
    pub fn line(&mut self, line: &str) {
        let (timed, message) = message(line);
        if timed {
            self.timed = true;
        }
        let kind = match timed == self.timed {
            true => kind(message),
            // The console itself says this, without a time.
            false => is_lost(message).then_some(SplatKind::LostMessages),
        };
        let kind = kind.filter(|&kind| kind == SplatKind::Panic || !self.is_allowed(message));
        match (&mut self.found, kind) {
            (Some(splat), Some(SplatKind::Panic)) => splat.fatal = true,
            (Some(_), _) => {}
            (None, Some(kind)) => {
                let cut = |line: &String| line.contains("---[ cut here ]---");
                let cut = self.before.iter().rposition(cut);
                let from = cut.unwrap_or(self.before.len());
                self.lines.extend(self.before.drain(from..));
                self.found = Some(Splat {
                    kind,
                    title: message.to_owned(),
                    fatal: kind == SplatKind::Panic,
                    text: String::new(),
                });
            }
            (None, None) => {
                if self.before.len() == BEFORE {
                    self.before.pop_front();
                }
                self.before.push_back(line.to_owned());
                return;
            }
        }
        if !self.whole {
            self.lines.push(line.to_owned());
            self.whole = line.contains("---[ end ") || self.lines.len() == LINES_MAX;
        }
    }

    fn is_allowed(&self, title: &str) -> bool {
        self.allowed.iter().any(|part| title.contains(part))
    }

    /// What was found.
    pub fn finish(self) -> Option<Splat> {
        let lines = self.lines;
        self.found.map(|splat| Splat {
            text: lines.join("\n"),
            ..splat
        })
    }
}

/// Finds the first splat in the text of a console.
#[cfg(test)]
fn find_splat(text: &str) -> Option<Splat> {
    let mut finder = Finder::default();
    text.lines().for_each(|line| finder.line(line));
    finder.finish()
}

/// `[    1.234567] text`, `[    1.234567][   T71] text` → `text`, and whether there was a time.
/// What a program printed without a newline may stand before it.
fn message(line: &str) -> (bool, &str) {
    for (at, _) in line.match_indices('[') {
        let inner = &line[at + 1..];
        let Some((stamp, mut rest)) = bracketed(inner) else {
            continue;
        };
        let time = stamp.trim_start().split_once('.');
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !time.is_some_and(|(seconds, parts)| digits(seconds) && digits(parts)) {
            continue;
        }
        // CONFIG_PRINTK_CALLER.
        if let Some((caller, after)) = rest.strip_prefix('[').and_then(bracketed) {
            let caller = caller.trim_start().strip_prefix(['T', 'C']);
            if caller.is_some_and(digits) {
                rest = after;
            }
        }
        return (true, rest.trim_start());
    }
    (false, line.trim_start())
}

/// What stands before a near `]`, and what after it. A line of brackets must not be searched to its
/// end for each of them.
fn bracketed(inner: &str) -> Option<(&str, &str)> {
    let near = &inner[..inner.floor_char_boundary(STAMP_MAX)];
    let end = near.find(']')?;
    Some((&inner[..end], &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_found_with_its_message_and_its_end() {
        let text = "[    1.0] livepatch: enabling patch 'x'\n\
                    [    1.1] ------------[ cut here ]------------\n\
                    [    1.1] a message\n\
                    [    1.2] WARNING: kernel/livepatch/core.c:1067 at x+0x1/0x2, CPU#0: x/71\n\
                    [    1.3] Call Trace:\n\
                    [    1.4] ---[ end trace 0000000000000000 ]---\n\
                    [    1.5] more\n";
        let splat = find_splat(text).unwrap();
        assert_eq!(
            splat.title,
            "WARNING: kernel/livepatch/core.c:1067 at x+0x1/0x2, CPU#0: x/71"
        );
        assert_eq!((splat.kind, splat.fatal), (SplatKind::Warning, false));
        assert_eq!(splat.text.lines().count(), 5);
    }

    #[test]
    fn the_first_splat_counts_and_a_panic_after_it_is_fatal() {
        let text = "[    2.0][   T71] BUG: kernel NULL pointer dereference, address: 0\n\
                    [    2.1][   T71] ---[ end trace 0000000000000000 ]---\n\
                    [    9.1][   T71] Kernel panic - not syncing: Fatal exception\n";
        let splat = find_splat(text).unwrap();
        assert_eq!((splat.kind, splat.fatal), (SplatKind::Oops, true));
        assert_eq!(splat.text.lines().count(), 2);
    }

    #[test]
    fn what_only_looks_like_a_splat_is_none() {
        for line in [
            "[    1.0] livepatch: enabling patch 'BUG: x'",
            "[    1.0] Unstable clock detected, WARNING: none",
            "[    1.0] INFO: task force",
            "[    1.0] INFO: task x:7 is blocked on a mutex likely owned by task y:8.",
            "[    1.0] watchdog: CPU0 has no NMI",
            "[    1.0] x\nBUG: printed by a program, not by the kernel",
            "[    1.0] Oopsie",
            "lab: ready",
            "[BUG: x] y",
            "[    1.0000000000000000000000000000000000000] BUG: x",
            "[    1.0]",
            "[",
        ] {
            assert_eq!(find_splat(line), None, "{line}");
        }
    }

    #[test]
    fn a_program_without_a_newline_hides_no_splat() {
        let splat = find_splat("a prompt# [    1.000000] BUG: scheduling while atomic: x/1/2\n");
        assert_eq!(splat.unwrap().kind, SplatKind::Bug);
        // A kernel may be built without time stamps.
        let splat = find_splat("BUG: sleeping function called from invalid context\n");
        assert_eq!(splat.unwrap().kind, SplatKind::Bug);
    }

    #[test]
    fn an_allowed_splat_does_not_hide_the_next_one() {
        let allowed = ["kernel/livepatch/core.c", "Kernel panic"];
        let mut finder = Finder::allowing(&allowed);
        finder.line("[    1.0] WARNING: kernel/livepatch/core.c:1 at x");
        finder.line("[    1.0] ---[ end trace 0000000000000000 ]---");
        finder.line("[    1.1] WARNING: kernel/module/main.c:1 at x");
        assert!(finder.finish().unwrap().title.contains("module/main.c"));
        let mut finder = Finder::allowing(&allowed);
        finder.line("[    1.0] Kernel panic - not syncing: x");
        assert!(finder.finish().unwrap().fatal);
    }

    #[test]
    fn lost_messages_may_have_been_a_splat() {
        let splat = find_splat("[    1.0] x\n** 101 printk messages dropped **\n[    1.1] y");
        assert_eq!(splat.unwrap().kind, SplatKind::LostMessages);
    }

    #[test]
    fn an_endless_splat_is_cut() {
        let line = "[    1.0]  x+0x1/0x2\n".repeat(1000);
        let splat = find_splat(&format!("[    1.0] Oops: 0000 [#1] SMP\n{line}")).unwrap();
        assert_eq!(splat.text.lines().count(), LINES_MAX);
    }
}
