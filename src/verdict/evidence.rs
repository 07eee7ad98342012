// SPDX-License-Identifier: MIT OR Apache-2.0
//! What shows how a run ended, and how much of it is kept.

use serde::{Deserialize, Serialize};

/// The most bytes of one piece of evidence; the record has all of it.
pub const EVIDENCE_MAX: usize = 64 * 1024;

/// The title of a difference from the accepted states.
pub const STATES_DIFFER: &str = "states by step (- accepted, + observed)";
/// How the title of a kernel's complaint begins; its kind follows.
pub const SAID: &str = "what the kernel said";
/// The title of what keeps a transition from its end.
pub const TRANSITION: &str = "the transition";
/// The title of where the CPUs of a guest are.
pub const CPUS: &str = "where its CPUs are";
/// How the titles of what SysRq shows begin.
pub const TASKS: &str = "blocked tasks";
/// How the titles of a console's end begin.
pub const CONSOLE: &str = "the console's last lines";
/// The title of the last debug messages.
pub const DEBUG: &str = "the kernel's last debug messages";
/// The title of what repeats the guest.
pub const COMMAND_LINE: &str = "QEMU's command line";

/// What stands where evidence is cut.
const CUT: &str = "the middle is left out; the record has all of it";

/// A titled piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub title: String,
    /// Its lines.
    pub text: String,
}

/// What a piece of evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`TRANSITION`].
    Transition,
    /// [`SAID`].
    Said,
    /// [`STATES_DIFFER`].
    States,
    /// [`CPUS`].
    Cpus,
    /// [`TASKS`].
    Tasks,
    /// [`CONSOLE`].
    Console,
    /// [`DEBUG`].
    Debug,
    /// [`COMMAND_LINE`].
    CommandLine,
    /// Anything else.
    Other,
}

impl Evidence {
    /// What it is, by its title: event files have no more.
    pub fn kind(&self) -> Kind {
        let kinds = [
            (TRANSITION, Kind::Transition),
            (SAID, Kind::Said),
            (STATES_DIFFER, Kind::States),
            (CPUS, Kind::Cpus),
            (TASKS, Kind::Tasks),
            (CONSOLE, Kind::Console),
            (DEBUG, Kind::Debug),
            (COMMAND_LINE, Kind::CommandLine),
        ];
        let mut kinds = kinds.into_iter();
        let found = kinds.find(|(title, _)| self.title.starts_with(title));
        found.map_or(Kind::Other, |(_, kind)| kind)
    }
}

/// The beginning and the end of a long text, and a line that says so.
pub fn ends(text: String) -> String {
    if text.len() <= EVIDENCE_MAX {
        return text;
    }
    let head = text.floor_char_boundary(EVIDENCE_MAX / 2);
    let tail = text.ceil_char_boundary(text.len() - EVIDENCE_MAX / 2);
    format!("{}\n[cut here: {CUT}]\n{}", &text[..head], &text[tail..])
}
