// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations that steps are made of, and what comes of them. Who carries them out stands above.

use std::time::Duration;

use crate::error::Result;
use crate::klp::Errno;

/// Bytes of an answer without sense that are shown.
const NONSENSE_MAX: usize = 400;

/// Why the agent gave no answer. The console says more, and is to be read first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Not within the limit: what was asked, and in the next line what moved meanwhile.
    Timeout(String),
    /// The same, but the host gave the guest too little time.
    Starved(String),
    /// The connection ended: why.
    Lost(String),
    /// What came was no reply of the agent.
    Nonsense(String),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Silence::Timeout(what) | Silence::Starved(what) => write!(f, "no answer to {what}"),
            Silence::Lost(why) => write!(f, "the connection to the guest was lost: {why}"),
            Silence::Nonsense(what) => {
                let start = &what[..what.floor_char_boundary(NONSENSE_MAX)];
                write!(f, "the guest's answer is malformed: {start}")
            }
        }
    }
}

/// The result of asking the guest.
pub type Answer<T> = std::result::Result<T, Silence>;

/// A system call's outcome in the guest: the errno, 0 if it worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome(pub i32);

impl Outcome {
    /// Whether it worked.
    pub fn is_ok(self) -> bool {
        self.0 == 0
    }
}

/// `EINVAL`, `success`, or `errno 523`.
impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, Errno::from_number(self.0)) {
            (0, _) => f.write_str("success"),
            (_, Some(errno)) => write!(f, "{errno}"),
            (number, None) => write!(f, "errno {number}"),
        }
    }
}

/// What keeps a guest from settling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsettled {
    /// This livepatch is still in transition.
    Transition(String),
    /// This disabled livepatch has not been freed.
    Free(String),
    /// This livepatch module keeps its reference, as forced ones do for good.
    Reference(String),
}

/// What a step can ask of a guest.
pub(crate) trait Operations {
    /// `finit_module(2)`. `begins` says whether it begins a transition.
    async fn load(
        &self,
        module: &str,
        params: &[(String, String)],
        begins: bool,
    ) -> Answer<Outcome>;

    /// `delete_module(2)`, without waiting.
    async fn unload(&self, module: &str) -> Answer<Outcome>;

    /// Writes a file.
    async fn write(&self, path: &str, data: &str) -> Answer<Outcome>;

    /// Writes an attribute, which begins a transition.
    async fn switch(&self, path: &str, data: &str) -> Answer<Outcome>;

    /// Reads a file, without its last newline.
    async fn read(&self, path: &str) -> Answer<(Outcome, String)>;

    /// Waits until no livepatch is in transition or being freed.
    async fn settle(&self, limit: Duration) -> Answer<std::result::Result<(), Unsettled>>;

    /// Waits until a transition stays open for no other tasks than those that are held, or with
    /// `function` for those that are in it. `ENOENT` if there is no transition, `ETIMEDOUT` if others keep it open as well.
    async fn held(&self, function: Option<&str>, limit: Duration) -> Answer<Outcome>;

    /// The rights of a file as ls(1) shows them.
    async fn stat(&self, path: &str) -> Answer<(Outcome, String)>;

    /// Starts ftrace's function tracer on a function; without one, stops it and forgets.
    async fn trace(&self, function: Option<&str>) -> Answer<Outcome>;

    /// Starts processes that make a system call over and over, one for each CPU without `count`.
    /// Returns their pids, separated by commas.
    async fn spawn(
        &self,
        name: &str,
        hammer: &str,
        count: Option<u32>,
    ) -> Answer<(Outcome, String)>;

    /// Sends SIGTERM to spawned processes and waits for their end.
    async fn kill(&self, name: &str) -> Answer<Outcome>;
}

/// What a step can ask of the host.
pub(crate) trait Host {
    /// Calls the klp-build of the kernel's source tree in an empty folder; returns the first line
    /// that it says.
    async fn klp_build(&self, words: &[&str]) -> Result<String>;
}
