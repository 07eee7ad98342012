// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splats: what a kernel's console says when something is wrong with it. Pure.
//!
//! `marks.rs` is the table of what they begin with, `extent.rs` knows where they end, and `code.rs`
//! which function they are about. The corpus in `tests/faults/splats/` has real ones from guests of
//! both architectures, and written ones of other kernels.

mod code;
mod extent;
mod line;
mod marks;
mod passed_over;
mod pattern;

use std::collections::VecDeque;

use crate::verdict::SplatKind;
use extent::Extent;
use line::Line;
use marks::{Counts, Mark};

/// A kernel's complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splat {
    /// What it is about. A panic that follows is in `fatal`.
    pub kind: SplatKind,
    /// Its first line, with the code that it is about, if that is known and the line does not say so:
    /// `WARNING: kernel/livepatch/core.c:1067 at klp_enable_patch+0x1/0x2, …`,
    /// `BUG: kernel NULL pointer dereference, address: 0000000000000008 in shop_price`.
    pub title: String,
    /// The function: that of RIP or pc, else of the first frame that is not there to report it.
    pub code: Option<String>,
    /// Whether the kernel stopped, at once or later on.
    pub fatal: bool,
    /// Whether what comes later on the console can change nothing but `fatal`.
    pub settled: bool,
    /// Its lines, from the cut to the end of the trace; of many, the first and those around the one
    /// that names the code.
    pub text: String,
}

/// The message of `WARN()` stands before its first line, after the cut.
const BEFORE: usize = 4;
/// Splats at the same time, of several tasks.
const OPEN_MAX: usize = 8;

/// `** 101 printk messages dropped **`; see `kernel/printk/printk.c: console_prepend_dropped()`.
fn is_lost(message: &str) -> bool {
    message.starts_with("** ") && message.ends_with(" printk messages dropped **")
}

/// Finds the first splat, line by line, with memory for a few.
#[derive(Debug, Default)]
pub struct Finder<'a> {
    /// Titles with one of these are passed over, unless the kernel stops.
    allowed: &'a [&'a str],
    /// Whether the kernel's lines have time stamps. What has none is then no kernel's.
    timed: bool,
    before: VecDeque<String>,
    /// Those that have begun, the first one first.
    open: VecDeque<Extent>,
    found: Option<Splat>,
    panicked: bool,
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
    pub fn line(&mut self, whole: &str) {
        let line = Line::of(whole);
        self.timed |= line.at.is_some();
        // The console itself says this, without a time.
        let lost = line.at.is_none() && is_lost(line.message);
        if self.timed == line.at.is_some() && !lost {
            self.kernels_line(line, whole);
        } else {
            self.open.iter_mut().for_each(|open| open.keep(whole));
        }
        if lost && self.found.is_none() {
            self.open.push_back(Extent::lost(line.message));
        }
        if self.found.is_none() {
            self.before.truncate(BEFORE - 1);
            self.before.push_front(whole.to_owned());
            self.resolve(false);
        }
    }

    fn kernels_line(&mut self, line: Line<'_>, whole: &str) {
        let (line, marks, title) = begin(line, whole);
        self.panicked |= marks.iter().any(|mark| mark.kind == SplatKind::Panic);
        if self.found.is_some() {
            return;
        }
        let same = |open: &Extent| open.is_of(&line);
        let goes_on = |open: &Extent| same(open) && open.goes_on_with(&marks);
        let begins = !marks.is_empty() && !self.open.iter().any(goes_on);
        // What begins ends what was there, but for a panic: the stack may come after it. What is in
        // doubt ends only what is in doubt as well.
        let is = |kind: fn(&Mark) -> bool| begins && marks.iter().any(|mark| kind(mark));
        let certain = is(|mark| mark.counts == Counts::Always);
        if certain && !is(|mark| mark.kind == SplatKind::Panic) {
            self.end(same);
        }
        self.open
            .retain_mut(|open| open.is_over() || open.line(&line, whole));
        if begins {
            self.end(|open| !certain && open.is_in_doubt() && same(open));
            let mut begun = Extent::new(marks, title, &line, self.since_cut());
            begun.keep(whole);
            self.open.push_back(begun);
        }
    }

    /// The lines before this one from the cut on, if it is near.
    fn since_cut(&self) -> Vec<String> {
        let cut = |line: &String| line.contains("---[ cut here ]---");
        let count = self.before.iter().position(cut).map_or(0, |cut| cut + 1);
        self.before.iter().take(count).rev().cloned().collect()
    }

    /// Ends those that have begun, for another one begins.
    fn end(&mut self, which: impl Fn(&Extent) -> bool) {
        self.open
            .retain_mut(|open| open.is_over() || !which(open) || open.end(true));
    }

    /// Takes the first one that is complete. At the end of the console they all are.
    fn resolve(&mut self, at_end: bool) {
        while let Some(first) = self.open.front_mut() {
            let over = first.is_over() || self.open.len() > OPEN_MAX;
            let Some(mut first) = (over || at_end).then(|| self.open.pop_front()).flatten() else {
                return;
            };
            let settled = first.is_settled();
            if !first.end(false) {
                continue;
            }
            let kind = first.kind();
            let first_line = first.title().to_owned();
            let (title, code, text) = first.finish();
            let is_allowed = |part: &&str| first_line.contains(part) || title.contains(part);
            if kind != SplatKind::Panic && self.allowed.iter().any(is_allowed) {
                continue;
            }
            self.open.clear();
            self.found = Some(Splat {
                kind,
                title,
                code,
                fatal: false,
                settled,
                text,
            });
        }
    }

    /// What was found.
    pub fn finish(mut self) -> Option<Splat> {
        if self.found.is_none() {
            self.resolve(true);
        }
        let fatal = self.panicked;
        self.found.map(|splat| Splat { fatal, ..splat })
    }
}

/// Messages on one line, of which all but the last have no newline.
const UNFINISHED_MAX: usize = 8;

/// With what a splat begins on a line, if one does: at its first time, or at a later one, behind a
/// message without a newline.
fn begin<'a>(first: Line<'a>, whole: &'a str) -> (Line<'a>, Vec<&'static Mark>, &'a str) {
    let lines = std::iter::once(first).chain(Line::parts(whole).skip(1));
    for line in lines.take(UNFINISHED_MAX) {
        let marks = marks::of(line.message);
        if !marks.is_empty() {
            return (line, marks, line.message);
        }
    }
    match marks::within(first.message) {
        Some((mark, title)) => (first, vec![mark], title),
        None => (first, Vec::new(), first.message),
    }
}

/// Finds the first splat in the text of a console.
#[cfg(test)]
fn find_splat(text: &str) -> Option<Splat> {
    let mut finder = Finder::default();
    text.lines().for_each(|line| finder.line(line));
    finder.finish()
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
        assert_eq!(splat.text.lines().count(), extent::LINES_MAX);
    }
}
