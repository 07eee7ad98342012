// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type: what happened, whose fault it is, what to do next.
//!
//! A failed scenario is not an error but a verdict (see `runner::Verdict`). An `Error` means that
//! the lab could not get as far as a verdict.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who has to act for the run to work the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The command line.
    Usage,
    /// A scenario, kernel or image file of the user.
    File,
    /// The kernel under test: its source, patches or configuration.
    Kernel,
    /// The modules of a scenario do not build.
    ModuleBuild,
    /// What runs in the guest.
    Guest,
    /// The machine that the lab runs on: tools, disk, network.
    Host,
    /// The lab itself.
    Lab,
    /// A limit of the user's: `--timeout`.
    Limit,
    /// Nobody: the user pressed Ctrl-C.
    Interrupted,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blame::Usage => "usage",
            Blame::File => "file",
            Blame::Kernel => "kernel",
            Blame::ModuleBuild => "module build",
            Blame::Guest => "guest",
            Blame::Host => "host",
            Blame::Lab => "lab",
            Blame::Limit => "limit",
            Blame::Interrupted => "interrupted",
        })
    }
}

/// Why the lab could not do its work.
#[derive(Debug, Clone)]
pub struct Error {
    /// Who has to act.
    pub blame: Blame,
    /// What happened, in one line without a full stop.
    pub what: String,
    /// Evidence, as lines: a compiler's message, the tail of a console.
    pub evidence: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
    /// Files for the record of a run that ends by it: a name in the record, and the text.
    pub attached: Vec<(String, String)>,
}

/// How everybody says that a disk is full.
const FULL: &str = "No space left on device";
/// What to do about it: the message names the file, and so the disk.
const FREE: &str = "free some space, or use another disk: LAB_CACHE_DIR for builds, --output for \
                    records, TMPDIR";

/// The first line of a tool's output that says that a disk is full.
pub fn full_disk(said: &str) -> Option<&str> {
    // apt counts before it writes, tar counts after it.
    let marks = [FULL, "You don't have enough free space in", ": Wrote only "];
    let full = |line: &&str| marks.iter().any(|mark| line.contains(mark));
    said.lines().find(full)
}

/// The lab's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that `blame` has to mend.
    pub fn new(blame: Blame, what: impl Into<String>) -> Self {
        Self {
            blame,
            what: what.into(),
            evidence: Vec::new(),
            help: None,
            attached: Vec::new(),
        }
    }

    /// The host's fault: a tool, the disk, the network.
    pub fn host(what: impl Into<String>) -> Self {
        Self::new(Blame::Host, what)
    }

    /// A tool of the host failed, and its output is the evidence. If that says that a disk is full,
    /// so does the error.
    pub fn tool(what: impl Into<String>, said: &str) -> Self {
        let what = what.into();
        match full_disk(said) {
            Some(_) => Self::host(format!("{what}: {FULL}")).help(FREE),
            None => Self::host(what),
        }
        .evidence(said)
    }

    /// The lab's own fault.
    pub fn lab(what: impl Into<String>) -> Self {
        Self::new(Blame::Lab, what)
    }

    /// The user pressed Ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Blame::Interrupted, "interrupted")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what to do next, unless that is known already.
    #[must_use]
    pub fn or_help(self, help: impl Into<String>) -> Self {
        match self.help {
            Some(_) => self,
            None => self.help(help),
        }
    }

    /// Adds evidence, line by line.
    #[must_use]
    pub fn evidence(mut self, text: &str) -> Self {
        self.evidence.extend(text.lines().map(str::to_owned));
        self
    }

    /// Adds a file for the record of a run that ends by it.
    #[must_use]
    pub fn attach(mut self, name: String, text: String) -> Self {
        self.attached.push((name, text));
        self
    }

    /// Puts what was being done in front: `copying the tree: No space left on device`.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Self {
        self.what = format!("{doing}: {}", self.what);
        self
    }

    /// The exit code that `main` returns for this error.
    pub fn exit_code(&self) -> u8 {
        match self.blame {
            Blame::Usage | Blame::File => 2,
            Blame::Interrupted => 130,
            _ => 3,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {}

/// Turns an I/O error into an [`Error`] that names the file.
pub trait IoContext<T> {
    /// `doing` and `path` become the message: `cannot read kernels/tags.yaml: …`.
    fn at(self, doing: &str, path: &std::path::Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, doing: &str, path: &std::path::Path) -> Result<T> {
        self.map_err(|error| {
            let what = format!("cannot {doing} {}: {error}", path.display());
            let err = Error::host(what);
            match error.kind() {
                std::io::ErrorKind::StorageFull => err.help(FREE),
                std::io::ErrorKind::PermissionDenied => {
                    err.help("check who owns the file and its folder")
                }
                std::io::ErrorKind::ReadOnlyFilesystem => {
                    err.help("put the records of runs elsewhere with --output DIR")
                }
                _ => err,
            }
        })
    }
}
