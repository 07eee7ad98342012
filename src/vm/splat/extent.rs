// SPDX-License-Identifier: MIT OR Apache-2.0
//! From where to where a splat goes: the lines that belong to it. Pure.

use super::code::Search;
use super::line::Line;
use super::marks::{Code, Counts, Mark};
use super::pattern::begins;
use crate::verdict::SplatKind;

/// Lines of one splat that are kept in its text.
pub const LINES_MAX: usize = 80;
/// Lines in which its code is looked for: lockdep shows the stack of each lock before its own.
const SEARCHED_MAX: usize = 2000;
/// Lines of the text before the one that names the code, and from there on, where it comes late.
const BEFORE_CODE: usize = 10;
const HEAD: usize = LINES_MAX / 2;
/// Bytes of the rest of a first line that has newlines in it, and of each of its parts.
const REST_MAX: usize = 128;
/// Seconds without a line after which a splat is over. A CPU that hangs is given time to answer an
/// NMI.
const PAUSE: f64 = 5.0;
const LONG_PAUSE: f64 = 20.0;

/// A splat as far as it was read.
#[derive(Debug)]
pub struct Extent {
    /// What it may begin with; the first counts as soon as nothing is in doubt.
    marks: Vec<&'static Mark>,
    /// Lines after the first one in which the doubt was not settled, while there is one.
    doubt: Option<usize>,
    title: String,
    caller: Option<String>,
    at: Option<f64>,
    lines: Vec<String>,
    search: Search,
    over: bool,
}

impl Extent {
    /// Begins with a line, and with those before it that belong to it.
    pub fn new(
        marks: Vec<&'static Mark>,
        title: &str,
        line: &Line<'_>,
        before: Vec<String>,
    ) -> Self {
        let always = |mark: &&Mark| mark.counts == Counts::Always;
        let doubt = (!marks.first().is_none_or(always)).then_some(0);
        let code = marks.first().map_or(Code::Unsaid, |mark| mark.code);
        Self {
            doubt,
            title: title.to_owned(),
            caller: line.caller.map(str::to_owned),
            at: line.at,
            lines: before,
            search: Search::new(code, title),
            over: false,
            marks,
        }
    }

    /// The one of a console that lost messages.
    pub fn lost(title: &str) -> Self {
        let line = Line::of(title);
        let mut lost = Self::new(Vec::new(), title, &line, Vec::new());
        lost.over = true;
        lost.lines.push(title.to_owned());
        lost
    }

    /// What it is about.
    pub fn kind(&self) -> SplatKind {
        let mark = self.marks.first();
        mark.map_or(SplatKind::LostMessages, |mark| mark.kind)
    }

    /// Its first line.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Whether it is not known yet that it is one.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether it is complete.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether its code is known, or it is complete without one.
    pub fn is_settled(&self) -> bool {
        self.over || self.search.is_over()
    }

    /// Whether a line of another mark is a part of it.
    pub fn goes_on_with(&self, marks: &[&Mark]) -> bool {
        let (Some(first), Some(mark)) = (self.marks.first(), marks.first()) else {
            return false;
        };
        !self.over && !self.is_in_doubt() && mark.continues(first, &self.title)
    }

    /// Whether a line may be of the same task.
    pub fn is_of(&self, line: &Line<'_>) -> bool {
        line.is_of(self.caller.as_deref())
    }

    /// It is over: the next one begins, or the console has come to its end. Whether it is a splat.
    pub fn end(&mut self, because_of_another: bool) -> bool {
        self.over = true;
        if !self.is_in_doubt() {
            return true;
        }
        let alone = |mark: &&&Mark| !because_of_another && mark.counts == Counts::Alone;
        self.decide(self.marks.iter().find(alone).copied())
    }

    /// Reads a line that the kernel said; whether it is still, or may still become, a splat.
    pub fn line(&mut self, line: &Line<'_>, whole: &str) -> bool {
        let samples = self.kind() == SplatKind::Lockup || self.kind() == SplatKind::RcuStall;
        let pause = if samples { LONG_PAUSE } else { PAUSE };
        if let (Some(last), Some(now)) = (self.at, line.at)
            && now > last + pause
        {
            return self.end(false);
        }
        // The CPUs that answer an NMI are others.
        if !(samples || self.is_of(line)) {
            self.keep(whole);
            return true;
        }
        self.at = line.at.or(self.at);
        if self.is_in_doubt() && !self.settle(line.message) {
            return false;
        }
        self.search.line(line.message, self.lines.len());
        self.keep(whole);
        self.over |= line.message.starts_with("---[ end ") || self.is_closed_by(line.message);
        true
    }

    /// Keeps a line that is not the kernel's.
    pub fn keep(&mut self, line: &str) {
        self.lines.push(line.to_owned());
        self.over |= self.lines.len() >= SEARCHED_MAX && self.end(false);
    }

    /// The reports of sanitizers stand between two lines.
    fn is_closed_by(&self, message: &str) -> bool {
        let is_line = message.len() > 20 && message.bytes().all(|byte| byte == b'=');
        self.kind() == SplatKind::Sanitizer && is_line
    }

    /// Reads a line as one that settles the doubt; whether it is still open or settled well.
    fn settle(&mut self, message: &str) -> bool {
        let seen = self.doubt.map_or(1, |seen| seen + 1);
        self.doubt = Some(seen);
        let near = |mark: &&&Mark| seen <= mark.counts.within();
        let mut marks = self.marks.iter().filter(near);
        let settled = marks.find(|mark| match mark.counts {
            Counts::Before(these) => these.iter().any(|this| begins(message, this)),
            Counts::GoesOn(this) => message.len() <= REST_MAX && begins(message, this),
            Counts::Always | Counts::Alone => false,
        });
        if let Some(&mark) = settled {
            if let Counts::GoesOn(_) = mark.counts {
                let line = |line: &String| {
                    let part = Line::of(line).message;
                    part[..part.floor_char_boundary(REST_MAX)].to_owned()
                };
                let rest: Vec<_> = self.lines.iter().rev().take(seen - 1).map(line).collect();
                let rest = rest.iter().rev().map(String::as_str).chain([message]);
                self.title = rest.fold(self.title.clone(), |title, part| format!("{title} {part}"));
            }
            return self.decide(Some(mark));
        }
        if self.marks.iter().any(|mark| seen < mark.counts.within()) {
            return true;
        }
        let alone = |mark: &&&Mark| mark.counts == Counts::Alone;
        self.decide(self.marks.iter().find(alone).copied())
    }

    fn decide(&mut self, mark: Option<&'static Mark>) -> bool {
        self.doubt = None;
        let Some(mark) = mark else {
            return false;
        };
        if mark.code != self.marks[0].code {
            self.search = Search::new(mark.code, &self.title);
        }
        self.marks = vec![mark];
        true
    }

    /// Its title with the code in it, the code, and its text.
    pub fn finish(self) -> (String, Option<String>, String) {
        let code = self.search.finish();
        let at = code.as_ref().map_or(0, |(_, at)| *at);
        let text = text(&self.lines, at);
        let code = code.map(|(function, _)| function);
        let title = match &code {
            Some(code) if !names(&self.title, code) => {
                format!("{} in {code}", self.title.trim_end_matches('.'))
            }
            _ => self.title,
        };
        (title, code, text)
    }
}

/// Whether a title has a function's name in it.
fn names(title: &str, code: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    title.match_indices(code).any(|(at, _)| {
        let (before, after) = (&title[..at], &title[at + code.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

/// The first lines, and those around the one that matters.
fn text(lines: &[String], at: usize) -> String {
    if at < LINES_MAX {
        return lines[..lines.len().min(LINES_MAX)].join("\n");
    }
    let from = (at - BEFORE_CODE).max(HEAD);
    let to = lines.len().min(from + LINES_MAX - HEAD - 1);
    let left_out = format!("[{} lines are left out]", from - HEAD);
    let mut text = lines[..HEAD].join("\n");
    for line in std::iter::once(&left_out).chain(&lines[from..to]) {
        text.push('\n');
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_names_whole_words() {
        assert!(names(
            "WARNING: x.c:1 at ct_exit.constprop.0+0x8c/0x98",
            "ct_exit"
        ));
        assert!(!names("BUG: KASAN: x in do_read_one+0x1/0x2", "read"));
        assert!(!names("BUG: x", "vfs_read"));
    }

    #[test]
    fn a_text_has_its_beginning_and_what_matters() {
        let lines: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
        let short = text(&lines, 79);
        assert_eq!(short.lines().count(), LINES_MAX);
        assert!(short.ends_with("line 79"));
        let long = text(&lines, 300);
        assert_eq!(long.lines().count(), LINES_MAX);
        assert!(
            long.starts_with("line 0\n") && long.contains("\n[250 lines are left out]\nline 290\n")
        );
        assert!(long.contains("\nline 300\n"));
        assert!(text(&lines, 499).ends_with("line 499"));
    }
}
