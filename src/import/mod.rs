// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a report to a scenario: commands that somebody typed, or a script of the kernel's selftests,
//! as steps. Pure.
//!
//! It is a stranger's text. Nothing of it is run or expanded; what is understood becomes a step, and
//! what is not becomes a comment at its place.

mod shell;
mod steps;
mod write;

use std::collections::BTreeMap;

use crate::report::text::one_line;
use crate::scenario::{Errno, kernel_module_name};
use shell::{Command, Kind, Line};
use steps::{Act, Step};

/// Functions of the selftests that say in the kernel's log what they do.
const LOGGED: [&str; 8] = [
    "load_mod",
    "load_lp",
    "load_lp_nowait",
    "load_failing_mod",
    "disable_lp",
    "unload_lp",
    "unload_mod",
    "set_pre_patch_ret",
];

/// What is to be imported, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The report.
    pub text: &'a str,
    /// Where it is from, for people.
    pub from: &'a str,
    /// The one case of a script that is wanted, by part of its title.
    pub test: Option<&'a str>,
    /// The files of modules that are at hand, by what the kernel calls the module.
    pub files: &'a BTreeMap<String, Prebuilt>,
}

/// A module's file that is at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prebuilt {
    /// Its path relative to the scenario's folder.
    pub ko: String,
    /// Whether it is a livepatch.
    pub is_livepatch: bool,
}

/// A scenario that was made from a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The scenario's file.
    pub yaml: String,
    /// How many lines the report has that say something.
    pub lines: usize,
    /// Those that were not understood.
    pub unknown: Vec<Unknown>,
    /// Modules that are not at hand: what stands in their places does as good as nothing.
    pub stand_ins: Vec<String>,
    /// The modules whose files it uses, as the kernel calls them.
    pub used: Vec<String>,
    /// The cases of a script, by title.
    pub tests: Vec<String>,
}

/// A line that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its number, from 1.
    pub line: usize,
    /// The line, fit to be shown.
    pub text: String,
    /// Why.
    pub why: &'static str,
}

/// What stands in the scenario, in the report's order.
enum Entry {
    /// A case begins.
    Test(String),
    /// A line that was not understood.
    Unknown(Unknown),
    Step(Box<Placed>),
}

/// A step with its place in the report.
struct Placed {
    line: usize,
    step: Step,
    /// Whether the script says in the log that it does this.
    is_logged: bool,
    /// What must be in the step's log.
    log: Vec<String>,
}

/// Makes a scenario of a report; `None` if no line of it is a step.
#[must_use]
pub fn import(request: &Request<'_>) -> Option<Imported> {
    let mut reader = Reader::default();
    for line in shell::lines(request.text) {
        reader.line(&line);
    }
    let wanted = |title: &str| request.test.is_none_or(|part| title.contains(part));
    let mut is_wanted = request.test.is_none();
    // What comes before the first case prepares all of them.
    let mut begun = false;
    reader.entries.retain(|entry| {
        if let Entry::Test(title) = entry {
            begun = true;
            is_wanted = wanted(title);
        }
        is_wanted || (!begun && matches!(entry, Entry::Step(_)))
    });
    let has_steps = reader.entries.iter().any(|e| matches!(e, Entry::Step(_)));
    has_steps.then(|| write::imported(request, reader))
}

/// What a block of the shell is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Its lines are taken as if they were not in a block.
    Taken,
    /// The other branch, or the body of a function.
    Skipped,
}

#[derive(Default)]
struct Reader {
    entries: Vec<Entry>,
    blocks: Vec<Block>,
    /// Lines that say something.
    lines: usize,
    tests: Vec<String>,
}

impl Reader {
    fn line(&mut self, line: &Line) {
        if matches!(line.kind, Kind::Blank | Kind::Comment | Kind::Log) {
            return;
        }
        if is_prose(&line.text) || is_library(&line.text) {
            return;
        }
        self.lines += 1;
        if let Some(errno) = steps::failure(&line.text) {
            if !self.fails(errno) {
                self.unknown(line, "it does not belong to a command before it");
            }
            return;
        }
        if self.is_control(line) {
            return;
        }
        if self.blocks.contains(&Block::Skipped) {
            return self.unknown(line, "it is in another branch or in a function");
        }
        match &line.kind {
            Kind::Commands(commands) => commands.iter().for_each(|c| self.command(line, c)),
            Kind::Opaque(why) => self.unknown(line, why),
            Kind::Blank | Kind::Comment | Kind::Log => {}
        }
    }

    fn unknown(&mut self, line: &Line, why: &'static str) {
        self.entries.push(Entry::Unknown(Unknown {
            line: line.number,
            text: one_line(&line.text),
            why,
        }));
    }

    /// Says that the last step failed, if there is one that can.
    fn fails(&mut self, errno: Errno) -> bool {
        let mut steps = self
            .entries
            .iter_mut()
            .rev()
            .filter_map(|entry| match entry {
                Entry::Step(placed) => Some(placed),
                _ => None,
            });
        steps.next().is_some_and(|placed| placed.step.fail(errno))
    }

    /// Follows what makes blocks of lines: the first branch is taken, and a loop once.
    fn is_control(&mut self, line: &Line) -> bool {
        const BRANCH: &str = "it is a condition: what follows is taken as if it were true";
        const LOOP: &str = "it is a loop: what is in it is taken once";
        let text = line.text.trim_end_matches(';').trim();
        let first = text.split([' ', '\t', ';', '(']).next().unwrap_or_default();
        let last = text.split([' ', '\t', ';']).next_back().unwrap_or_default();
        let is_function = first == "function" || text.ends_with("() {") || text.ends_with("()");
        match first {
            "if" | "case" if !["fi", "esac"].contains(&last) => {
                self.blocks.push(Block::Taken);
                // What the lab can compare is a step.
                if matches!(&line.kind, Kind::Commands(all) if all.iter().any(|c| c.name() == "[["))
                {
                    return false;
                }
                self.unknown(line, BRANCH);
            }
            "if" | "case" => self.unknown(line, BRANCH),
            "for" | "while" | "until" => {
                if last != "done" {
                    self.blocks.push(Block::Taken);
                }
                // Steps wait for transitions by themselves.
                if !text.contains("/transition") {
                    self.unknown(line, LOOP);
                }
            }
            "else" | "elif" => {
                if let Some(block) = self.blocks.last_mut() {
                    *block = Block::Skipped;
                }
                self.unknown(line, "the first branch is taken");
            }
            "fi" | "done" | "esac" | "}" => drop(self.blocks.pop()),
            "then" | "do" | "{" => {}
            _ if is_function => {
                self.blocks.push(Block::Skipped);
                self.unknown(line, "it is a function");
            }
            _ => return false,
        }
        true
    }

    fn command(&mut self, line: &Line, command: &Command) {
        match steps::understood(command) {
            Act::Steps(steps) => {
                let is_logged = LOGGED.contains(&command.name());
                for step in steps {
                    self.entries.push(Entry::Step(Box::new(Placed {
                        line: line.number,
                        step,
                        is_logged,
                        log: Vec::new(),
                    })));
                }
            }
            Act::Needless => {}
            Act::Test(title) => {
                let title = one_line(&title);
                self.tests.push(title.clone());
                self.entries.push(Entry::Test(title));
            }
            Act::Log(log) => {
                if let Err(why) = self.log(&log) {
                    self.unknown(line, why);
                }
            }
            Act::Unknown(why) => self.unknown(line, why),
        }
    }

    /// Gives each step of the case the part of the log that the case must give. A part begins with
    /// what the script itself has put there: `% insmod …`.
    fn log(&mut self, log: &str) -> Result<(), &'static str> {
        let mut parts: Vec<Vec<&str>> = Vec::new();
        for line in log.lines() {
            match (line.starts_with("% "), parts.last_mut()) {
                (true, _) => parts.push(vec![line]),
                (false, Some(part)) => part.push(line),
                (false, None) => {}
            }
        }
        let start = self
            .entries
            .iter()
            .rposition(|e| matches!(e, Entry::Test(_)));
        let steps = self.entries[start.unwrap_or(0)..].iter_mut();
        let mut steps: Vec<&mut Placed> = steps
            .filter_map(|entry| match entry {
                Entry::Step(placed) if placed.is_logged => Some(&mut **placed),
                _ => None,
            })
            .collect();
        if parts.len() != steps.len() {
            return Err("its steps are not those that were understood");
        }
        for (part, placed) in parts.iter().zip(&mut steps) {
            for line in &part[1..] {
                if let Some(errno) = steps::failure(line) {
                    placed.step.fail(errno);
                }
            }
            let own = part[1..].iter().filter_map(|line| own_line(line));
            placed.log = own.collect();
        }
        Ok(())
    }
}

/// Whether a line is a sentence or a salutation, and no command.
fn is_prose(text: &str) -> bool {
    let ends = text.ends_with([',', '.', ':', '?', '!']);
    let begins = text.split_whitespace().next().unwrap_or_default();
    let is_word = begins
        .chars()
        .all(|c| c.is_alphabetic() || ",.:!'".contains(c));
    ends && is_word && !text.contains(['/', '$', '|', '>', '"'])
}

/// Whether a script reads the functions of the selftests here.
fn is_library(text: &str) -> bool {
    let reads = text.starts_with(". ") || text.starts_with("source ");
    reads && text.ends_with("functions.sh")
}

/// A line of livepatching or of a module, as it is in an expectation; the script's own are left out.
fn own_line(line: &str) -> Option<String> {
    let scripts = ["livepatch: kernel.", "livepatch: sysctl:", "livepatch: ok"];
    if scripts.iter().any(|own| line.starts_with(own)) || line.ends_with(": ") {
        return None;
    }
    if let Some(rest) = line.strip_prefix("livepatch: ") {
        return Some(one_line(rest)).filter(|line| !line.trim().is_empty());
    }
    let (module, rest) = line.split_once(": ")?;
    let is_module = kernel_module_name(module).starts_with("test_klp");
    (is_module && !rest.starts_with("this has been")).then(|| one_line(line))
}

#[cfg(test)]
mod tests;
