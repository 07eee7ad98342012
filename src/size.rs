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
        "the lab reads the guest's console where it has put it",
    ),
    (
        &["init", "rdinit", "initrd", "initrdmem", "noinitrd"],
        "the lab boots its own image with its own init",
    ),
    (
        &["panic", "nopvpanic"],
        "the lab takes evidence from a guest that has panicked, before it restarts",
    ),
    (
        &["loglevel", "quiet", "printk.devkmsg"],
        "the lab reads the kernel's complaints, and its own marks, on the console",
    ),
    (
        &["dyndbg"],
        "the lab says which debug messages are on: a scenario's state has them",
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
    if text.trim().is_empty() {
        return Err("there is no word in it".to_owned());
    }
    if text.len() > WORDS_MAX {
        let length = text.len();
        return Err(format!("it has {length} bytes; {WORDS_MAX} are the most"));
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
    let found = RESERVED
        .iter()
        .find(|(words, _)| words.iter().any(|word| is(&word)));
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
}
