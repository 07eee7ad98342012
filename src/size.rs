// SPDX-License-Identifier: MIT OR Apache-2.0
//! How large a guest is: its CPUs, its memory, and words of its kernel's command line. What files say
//! of it (`machine:`), what the command line says, and what comes of both.
//!
//! A scenario and a kernel have *needs*, which a run meets at least. A profile and the command line
//! *choose*. A choice below a need leaves the run out; it is never raised in silence.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::yaml::{Field, Int, Lexis, List, Node, Record, Shape, Text};

/// CPUs of a guest of which nothing is said. With one, a transition finds no other task running than
/// the one that started it, and does not wait for the kernel's next try a second later.
const CPUS: u16 = 1;
/// Its memory in MiB: the kernel takes 20, the initramfs and the modules less than that.
const MEMORY_MIB: u32 = 256;
/// How many CPUs a guest may have.
pub const CPUS_RANGE: RangeInclusive<i64> = 1..=64;
/// MiB of memory that a guest may have.
const MEMORY_RANGE: RangeInclusive<u32> = 128..=64 << 10;
/// Bytes of words that one file, or the command line, may add. x86_64 and arm64 kernels take 2048 in
/// all (`COMMAND_LINE_SIZE`): the lab's own, the kernel's, the scenario's and the chosen ones.
const WORDS_MAX: usize = 512;

/// How large a guest is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Size {
    /// CPUs.
    pub cpus: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Words of the kernel's command line besides the lab's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub append: String,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            cpus: CPUS,
            memory_mib: MEMORY_MIB,
            append: String::new(),
        }
    }
}

/// An amount of memory, as files and options write it.
pub const MEMORY: Text = Text {
    what: "an amount of memory",
    example: "512M",
    lexis: Lexis::Judged {
        problem: |text| parse_memory(text).err(),
        pattern: "^[0-9]+[MG]$",
    },
    rule: "is a whole number with M or G",
};

/// Words of a kernel's command line, as files and options write them.
pub const APPEND: Text = Text {
    what: "words of the kernel's command line",
    example: "slub_debug=FZ kasan.fault=panic",
    lexis: Lexis::Judged {
        problem: |text| check_append(text).err(),
        pattern: "^[A-Za-z0-9_.,:=/+@%*~^ -]+$",
    },
    rule: "are one line",
};

/// A number of CPUs.
pub const CPUS_SHAPE: Int = Int {
    what: "a number of CPUs",
    min: *CPUS_RANGE.start(),
    max: *CPUS_RANGE.end(),
};

/// Reads `512M` or `2G`; returns MiB.
///
/// # Errors
///
/// It is no amount of memory, or not one for a guest: why, in one line.
pub fn parse_memory(text: &str) -> Result<u32, String> {
    let number = |unit: char| text.strip_suffix(unit).filter(|n| is_number(n));
    let mib = match (number('M'), number('G')) {
        (Some(number), _) => number.parse().ok(),
        (_, Some(number)) => number
            .parse()
            .ok()
            .and_then(|n: u32| n.checked_mul(1 << 10)),
        _ => {
            return Err(format!(
                "`{text}` is not an amount of memory: write 512M or 2G"
            ));
        }
    };
    let (least, most) = (MEMORY_RANGE.start(), MEMORY_RANGE.end() >> 10);
    mib.filter(|mib| MEMORY_RANGE.contains(mib))
        .ok_or_else(|| format!("a guest has {least}M to {most}G of memory, not {text}"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// MiB as files and options write them: `512M`, `2G`.
pub fn memory(mib: u32) -> String {
    match mib {
        mib if mib % (1 << 10) == 0 => format!("{}G", mib >> 10),
        mib => format!("{mib}M"),
    }
}

/// `1 CPU`, `2 CPUs`.
pub fn cpus(count: u16) -> String {
    match count {
        1 => "1 CPU".to_owned(),
        count => format!("{count} CPUs"),
    }
}

/// Words of the command line that the lab rests on, and why nobody else sets them.
const RESERVED: &[(&[&str], &str)] = &[
    (
        &["console"],
        "it is where the lab reads the guest's messages",
    ),
    (
        &["init", "rdinit", "initrd", "initrdmem", "noinitrd"],
        "the lab boots its own image with its own init",
    ),
    (
        &["panic", "nopvpanic"],
        "a guest that has panicked is kept for its evidence",
    ),
    (
        &["loglevel", "quiet", "printk.devkmsg"],
        "complaints, and marks of the lab, have to be on the console",
    ),
    (
        &["dyndbg"],
        "which debug messages are on is part of a scenario's states",
    ),
    (
        &["nosmp", "maxcpus", "nr_cpus", "possible_cpus"],
        "`cpus` says how many CPUs there are",
    ),
    (&["mem"], "`memory` says how much there is"),
    (
        &["--"],
        "what follows it is for the init, and the lab's takes no arguments",
    ),
];

/// Holds words against what a kernel's command line may get: words without quotes, in one line,
/// none of which the lab rests on.
///
/// # Errors
///
/// Why they are not that, with the word.
pub fn check_append(text: &str) -> Result<(), String> {
    match text.trim() {
        "" => Err("there is no word in it".to_owned()),
        _ => check_words(text),
    }
}

/// The same of words of which there may be none.
///
/// # Errors
///
/// Those of [`check_append`].
pub fn check_words(text: &str) -> Result<(), String> {
    check_words_up_to(text, WORDS_MAX)
}

fn check_words_up_to(text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        let length = text.len();
        return Err(format!("it has {length} bytes; {most} are the most"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:=/+@%*~^ ".contains(c);
    if let Some(odd) = text.chars().find(|&c| !plain(c)) {
        let odd = odd.escape_debug();
        return Err(format!("`{odd}` is no part of a word of the command line"));
    }
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if let Some(why) = reserved(word) {
            return Err(format!("`{word}` is the lab's own: {why}"));
        }
    }
    Ok(())
}

/// Why a word is not for others to set. The kernel reads `-` in a name as `_`, and ends each module's
/// name with a dot (`kernel/params.c: parameqn()`).
fn reserved(word: &str) -> Option<&'static str> {
    let name = word.split('=').next().unwrap_or_default();
    let name = match name {
        "--" => name.to_owned(),
        _ => name.replace('-', "_"),
    };
    let last = name.rsplit('.').next();
    let is = |word: &&str| *word == name || (*word == "dyndbg" && last == Some("dyndbg"));
    let found = RESERVED.iter().find(|(words, _)| words.iter().any(is));
    found.map(|(_, why)| *why)
}

/// `machine:` of a scenario or of a kernel: what it needs at least.
pub const MACHINE: Record = Record {
    what: "a machine",
    example: "{ cpus: 2, memory: 512M }",
    fields: &[
        Field::optional("cpus", Shape::Int(&CPUS_SHAPE), "CPUs, at least."),
        Field::optional("memory", Shape::Text(&MEMORY), "Memory, at least."),
        Field::optional(
            "append",
            Shape::Text(&APPEND),
            "Words for the kernel's command line, after the lab's own.",
        ),
    ],
    rules: &[],
};

/// Numbers of CPUs in a profile.
pub const CPUS_LIST: List = List {
    what: "a list of numbers of CPUs",
    example: "[1, 2]",
    item: Shape::Int(&CPUS_SHAPE),
    non_empty: true,
    unique: false,
};

/// What a scenario or a kernel needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// CPUs, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u16>,
    /// Memory in MiB, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Words of the command line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub append: String,
}

impl Needs {
    /// Reads a checked `machine:`.
    pub fn of(machine: Option<&Node>) -> Self {
        let field = |key: &str| machine.and_then(|machine| machine.get(key));
        let text = |key: &str| field(key).and_then(Node::as_str);
        Self {
            cpus: field("cpus").and_then(Node::as_int),
            memory_mib: text("memory").and_then(|text| parse_memory(text).ok()),
            append: text("append").unwrap_or_default().to_owned(),
        }
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As it is written in a file: `{ cpus: 2, memory: 512M }`.
impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cpus = self.cpus.map(|cpus| format!("cpus: {cpus}"));
        let memory = self
            .memory_mib
            .map(|mib| format!("memory: {}", memory(mib)));
        let words = Some(&self.append).filter(|words| !words.is_empty());
        let append = words.map(|words| format!("append: {words:?}"));
        let fields: Vec<_> = [cpus, memory, append].into_iter().flatten().collect();
        write!(f, "{{ {} }}", fields.join(", "))
    }
}

/// What a profile or the command line chooses. What is not chosen is empty or `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Numbers of CPUs, each for runs of its own.
    pub cpus: Vec<u16>,
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// Words of the command line.
    pub append: Option<String>,
}

impl Choices {
    /// Reads the checked settings of a profile.
    pub fn of(settings: &Node) -> Self {
        let text = |key: &str| settings.get(key).and_then(Node::as_str);
        let cpus = settings.get("cpus").map_or(&[][..], Node::one_or_many);
        Self {
            cpus: cpus.iter().filter_map(Node::as_int).collect(),
            memory_mib: text("memory").and_then(|text| parse_memory(text).ok()),
            append: text("append").map(str::to_owned),
        }
    }

    /// What comes back when a guest of a size is wanted, with the words that were chosen for it.
    pub fn again(size: &Size, append: &str) -> Self {
        Self {
            cpus: vec![size.cpus],
            memory_mib: Some(size.memory_mib),
            append: Some(append.to_owned()),
        }
    }

    /// These choices, and where there are none the others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cpus: match self.cpus.is_empty() {
                true => other.cpus,
                false => self.cpus,
            },
            memory_mib: self.memory_mib.or(other.memory_mib),
            append: self.append.or(other.append),
        }
    }

    /// Each of the choices; there is one at least.
    pub fn each(&self) -> Vec<Choice<'_>> {
        let choice = |cpus| Choice {
            cpus,
            memory_mib: self.memory_mib,
            append: self.append.as_deref().unwrap_or_default(),
        };
        match &self.cpus[..] {
            [] => vec![choice(None)],
            cpus => cpus.iter().map(|&cpus| choice(Some(cpus))).collect(),
        }
    }

    /// The first of the choices.
    pub fn first(&self) -> Choice<'_> {
        Choice {
            cpus: self.cpus.first().copied(),
            memory_mib: self.memory_mib,
            append: self.append.as_deref().unwrap_or_default(),
        }
    }

    /// The options that choose the same, to follow a command: ` --cpus 1,2 --memory 1G`.
    pub fn options(&self) -> String {
        let mut text = String::new();
        if !self.cpus.is_empty() {
            let cpus: Vec<_> = self.cpus.iter().map(u16::to_string).collect();
            text += &format!(" --cpus {}", cpus.join(","));
        }
        if let Some(mib) = self.memory_mib {
            text += &format!(" --memory {}", memory(mib));
        }
        if let Some(words) = &self.append {
            text += &format!(" --append '{words}'");
        }
        text
    }
}

/// What a profile or the command line chooses, of several numbers of CPUs one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice<'a> {
    /// CPUs.
    pub cpus: Option<u16>,
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// Words of the command line.
    pub append: &'a str,
}

impl Size {
    /// The size of the guest of a run.
    ///
    /// # Errors
    ///
    /// The choice is below a need: why the run is left out.
    pub fn of(scenario: &Needs, kernel: &Needs, choice: Choice<'_>) -> Result<Self, String> {
        let least = Self::least(scenario, kernel);
        let (cpus, memory_mib) = (
            choice.cpus.unwrap_or(least.cpus),
            choice.memory_mib.unwrap_or(least.memory_mib),
        );
        let by = |is: bool| if is { "scenario" } else { "kernel" };
        // Only a need is a bound: a choice may be below what a guest has of which nothing is said.
        let needed = scenario.cpus.max(kernel.cpus).unwrap_or(0);
        if cpus < needed {
            let (needs, by) = (self::cpus(needed), by(scenario.cpus == Some(needed)));
            return Err(format!("it needs {needs} ({by}), not {cpus}"));
        }
        let needed = scenario.memory_mib.max(kernel.memory_mib).unwrap_or(0);
        if memory_mib < needed {
            let by = by(scenario.memory_mib == Some(needed));
            let (needs, has) = (memory(needed), memory(memory_mib));
            return Err(format!("it needs {needs} of memory ({by}), not {has}"));
        }
        let words = [&*kernel.append, &*scenario.append, choice.append];
        let words = words.iter().flat_map(|words| words.split_whitespace());
        Ok(Self {
            cpus,
            memory_mib,
            append: words.collect::<Vec<_>>().join(" "),
        })
    }

    /// The size if nobody chooses.
    pub fn least(scenario: &Needs, kernel: &Needs) -> Self {
        let needs = [scenario, kernel];
        let cpus = needs.iter().filter_map(|needs| needs.cpus);
        let memory = needs.iter().filter_map(|needs| needs.memory_mib);
        Self {
            cpus: cpus.max().unwrap_or(0).max(CPUS),
            memory_mib: memory.max().unwrap_or(0).max(MEMORY_MIB),
            append: String::new(),
        }
    }

    /// That of the guests of labs that did not say it: it was always the same.
    pub fn before() -> Self {
        Self {
            cpus: 2,
            ..Self::default()
        }
    }

    /// Whether it is one that the lab may have written.
    ///
    /// # Errors
    ///
    /// Why it is not, in words that can be shown.
    pub fn check(&self) -> Result<(), String> {
        if !CPUS_RANGE.contains(&self.cpus.into()) {
            return Err(format!("no guest has {} CPUs", self.cpus));
        }
        if !MEMORY_RANGE.contains(&self.memory_mib) {
            return Err(format!("no guest has {} MiB of memory", self.memory_mib));
        }
        // What a kernel, a scenario and a user may add together.
        check_words_up_to(&self.append, 3 * WORDS_MAX + 2)
    }
}

/// `2 CPUs, 512M of memory, slub_debug=FZ`; what a guest has by itself is left out.
impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own = Self::default();
        let cpus = (self.cpus != own.cpus).then(|| cpus(self.cpus));
        let memory = (self.memory_mib != own.memory_mib)
            .then(|| format!("{} of memory", memory(self.memory_mib)));
        let append = Some(self.append.clone()).filter(|words| !words.is_empty());
        let parts: Vec<_> = [cpus, memory, append].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_number_with_a_unit() {
        assert_eq!(parse_memory("512M"), Ok(512));
        assert_eq!(parse_memory("2G"), Ok(2048));
        assert_eq!((&*memory(2048), &*memory(1536)), ("2G", "1536M"));
        for (text, why) in [
            ("512", "`512` is not an amount of memory: write 512M or 2G"),
            ("M", "`M` is not an amount of memory: write 512M or 2G"),
            ("-1G", "`-1G` is not an amount of memory: write 512M or 2G"),
            ("64M", "a guest has 128M to 64G of memory, not 64M"),
            ("65G", "a guest has 128M to 64G of memory, not 65G"),
            (
                "99999999999G",
                "a guest has 128M to 64G of memory, not 99999999999G",
            ),
        ] {
            assert_eq!(parse_memory(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn what_the_lab_rests_on_is_not_for_others_to_set() {
        for word in [
            "console=ttyS1",
            "init=/bin/sh",
            "rdinit=/x",
            "initrd=0x1,2",
            "noinitrd",
            "panic=-1",
            "quiet",
            "loglevel=1",
            "printk.devkmsg=off",
            "dyndbg=x",
            "livepatch.dyndbg=+p",
            "maxcpus=1",
            "nr-cpus=1",
            "mem=64M",
            "--",
        ] {
            let why = check_append(&format!("slub_debug=FZ {word}")).unwrap_err();
            assert!(
                why.starts_with(&format!("`{word}` is the lab's own: ")),
                "{why}"
            );
        }
        let words = "oops=panic panic_on_warn=1 lab.test=1 isolcpus=nohz,domain,1-3 memtest";
        assert_eq!(check_append(words), Ok(()));
    }

    #[test]
    fn words_stay_in_their_line_and_outside_of_quotes() {
        for odd in [
            "\n", "\0", "\t", "\"", "'", "\\", "`", "$", ";", "é", "\u{202e}",
        ] {
            let why = check_append(&format!("a{odd}b")).unwrap_err();
            assert!(
                why.ends_with(" is no part of a word of the command line"),
                "{why}"
            );
            assert!(!why.contains(crate::visible::is_hidden), "{why}");
        }
        let long = "a".repeat(WORDS_MAX + 1);
        assert_eq!(
            check_append(&long),
            Err("it has 513 bytes; 512 are the most".to_owned())
        );
        assert!(check_append(" ").is_err() && check_append("").is_err());
        assert_eq!(check_words(""), Ok(()));
    }

    #[test]
    fn a_need_is_written_as_it_is_read() {
        let needs = Needs {
            cpus: Some(2),
            memory_mib: Some(1024),
            append: "a=1 b".into(),
        };
        let text = needs.to_string();
        assert_eq!(text, "{ cpus: 2, memory: 1G, append: \"a=1 b\" }");
        let source = crate::yaml::Source::new("x", format!("machine: {text}"));
        let root = crate::yaml::parse(&source).unwrap();
        assert_eq!(Needs::of(root.get("machine")), needs);
        assert!(!needs.is_empty() && Needs::of(None).is_empty());
    }

    #[test]
    fn what_was_chosen_can_be_chosen_again() {
        let size = Size {
            cpus: 2,
            memory_mib: 512,
            append: "kernel=1 mine".into(),
        };
        let again = Choices::again(&size, "mine");
        assert_eq!(again.options(), " --cpus 2 --memory 512M --append 'mine'");
        let kernel = Needs {
            append: "kernel=1".into(),
            ..Needs::default()
        };
        let made = Size::of(&Needs::default(), &kernel, again.first());
        assert_eq!(made, Ok(size.clone()));
        assert_eq!(size.to_string(), "2 CPUs, 512M of memory, kernel=1 mine");
        assert_eq!(Size::default().to_string(), "");
    }

    #[test]
    fn the_first_to_say_something_has_the_word() {
        let command_line = Choices {
            cpus: vec![4],
            append: Some(String::new()),
            ..Choices::default()
        };
        let profile = Choices {
            cpus: vec![1, 2],
            memory_mib: Some(512),
            append: Some("x".into()),
        };
        let choices = command_line.or(profile);
        assert_eq!(
            (&choices.cpus[..], choices.memory_mib),
            (&[4][..], Some(512))
        );
        assert_eq!(choices.first().append, "");
        assert_eq!(choices.each().len(), 1);
        assert_eq!(Choices::default().each(), [Choice::default()]);
    }
}
