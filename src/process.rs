// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only module that starts processes.
//!
//! Commands are values that can be shown and tested; they are started here and nowhere else.
//! Each child leads a process group of its own, so that stopping it stops what it started, and
//! dies with the lab (`PR_SET_PDEATHSIG`). The runtime is single-threaded: children are started
//! from the main thread, because the death signal belongs to the *thread* that forked.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// How long a process group has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Lines of output kept for an error message.
const TAIL_LINES: usize = 40;
/// Bytes of standard output kept by [`Cmd::output`].
const OUTPUT_MAX: usize = 8 << 20;

/// Process groups that are alive, for the second Ctrl-C.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A command as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
}

impl Cmd {
    /// A command without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().into()));
        self
    }

    /// Runs in `dir`.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The program's name, for messages.
    pub fn name(&self) -> String {
        Path::new(&self.program)
            .file_name()
            .unwrap_or(&self.program)
            .to_string_lossy()
            .into_owned()
    }

    /// Starts the process. Output goes where `stdout` and `stderr` say; standard input is empty.
    pub fn spawn(&self, stdout: Stdio, stderr: Stdio) -> Result<Process> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        // SAFETY: the closure runs between fork and exec and makes one system call, prctl(2),
        // which is async-signal-safe; it allocates nothing and takes no lock.
        #[expect(
            unsafe_code,
            reason = "std has no safe way to set the parent-death signal"
        )]
        unsafe {
            command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
            });
        }
        let child = command.spawn().map_err(|error| self.spawn_error(&error))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let (Some(group), Ok(mut groups)) = (group, GROUPS.lock()) {
            groups.insert(group.as_raw_nonzero().get());
        }
        Ok(Process {
            child,
            group,
            name: self.name(),
        })
    }

    fn spawn_error(&self, error: &std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::NotFound {
            let what = format!("`{}` is not installed", self.name());
            return Error::host(what).help("run `lab setup`, or add --setup to this command");
        }
        Error::host(format!("cannot start `{}`: {error}", self.name()))
    }

    /// Runs to the end and hands each line of output (standard output and error) to `on_line`.
    /// The status may be a failure: the caller knows what it means.
    pub async fn run(
        &self,
        cancel: &CancellationToken,
        mut on_line: impl FnMut(&str),
    ) -> Result<Finished> {
        let mut process = self.spawn(Stdio::piped(), Stdio::piped())?;
        let (sender, mut lines) = tokio::sync::mpsc::channel::<String>(256);
        if let Some(stdout) = process.child.stdout.take() {
            tokio::spawn(forward_lines(stdout, sender.clone()));
        }
        if let Some(stderr) = process.child.stderr.take() {
            tokio::spawn(forward_lines(stderr, sender));
        }
        let mut tail = Tail::default();
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => {
                        on_line(&line);
                        tail.push(line);
                    }
                    None => break,
                },
                () = cancel.cancelled() => {
                    process.stop().await?;
                    return Err(Error::interrupted());
                }
            }
        }
        let status = tokio::select! {
            status = process.wait() => status?,
            () = cancel.cancelled() => {
                process.stop().await?;
                return Err(Error::interrupted());
            }
        };
        Ok(Finished {
            status,
            tail: tail.into_text(),
        })
    }

    /// Runs to the end and returns standard output. A failure is an error of the host with the
    /// command's standard error as evidence.
    pub async fn output(&self, cancel: &CancellationToken) -> Result<String> {
        let mut out = String::new();
        let mut process = self.spawn(Stdio::piped(), Stdio::piped())?;
        let (sender, mut errors) = tokio::sync::mpsc::channel::<String>(256);
        let stdout = process.child.stdout.take();
        if let Some(stderr) = process.child.stderr.take() {
            tokio::spawn(forward_lines(stderr, sender));
        }
        let mut tail = Tail::default();
        let work = async {
            let read = async {
                let Some(stdout) = stdout else { return };
                let mut lines = BufReader::new(stdout);
                let mut line = Vec::new();
                while matches!(lines.read_until(b'\n', &mut line).await, Ok(n) if n > 0) {
                    if out.len() + line.len() <= OUTPUT_MAX {
                        out.push_str(&String::from_utf8_lossy(&line));
                    }
                    line.clear();
                }
            };
            let drain = async {
                while let Some(line) = errors.recv().await {
                    tail.push(line);
                }
            };
            tokio::join!(read, drain);
        };
        tokio::select! {
            () = work => {}
            () = cancel.cancelled() => {
                process.stop().await?;
                return Err(Error::interrupted());
            }
        }
        let status = process.wait().await?;
        if status.success() {
            return Ok(out);
        }
        let what = format!("`{}` failed ({status})", self.name());
        Err(Error::tool(what, &tail.into_text()).evidence(&format!("command: {self}")))
    }
}

/// Shell syntax: what is printed can be pasted.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dir) = &self.dir {
            write!(f, "cd {} && ", quote(dir.as_os_str()))?;
        }
        for (name, value) in &self.env {
            write!(f, "{}={} ", name.to_string_lossy(), quote(value))?;
        }
        f.write_str(&quote(&self.program))?;
        for arg in &self.args {
            write!(f, " {}", quote(arg))?;
        }
        Ok(())
    }
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// The last lines of its output.
    pub tail: String,
}

/// A running process and its group.
#[derive(Debug)]
pub struct Process {
    child: tokio::process::Child,
    group: Option<Pid>,
    name: String,
}

impl Process {
    /// Waits for the end.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await;
        self.forget();
        status.map_err(|error| Error::host(format!("cannot wait for `{}`: {error}", self.name)))
    }

    /// The exit status if the process has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            self.forget();
        }
        status
    }

    /// Its process id, until its end was waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The kernel's letter for what it does: `R`, `S`, `T`; see proc_pid_stat(5).
    pub fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    /// Ends the whole group: SIGTERM, a grace period, SIGKILL. A survivor is an error.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(group) = self.group else {
            return Ok(());
        };
        for signal in [Signal::TERM, Signal::KILL] {
            // ESRCH: the group has gone already.
            let _ = kill_process_group(group, signal);
            if tokio::time::timeout(GRACE, self.child.wait()).await.is_ok() && group_is_gone(group)
            {
                self.forget();
                return Ok(());
            }
        }
        let _ = kill_process_group(group, Signal::KILL);
        for _ in 0..100 {
            if group_is_gone(group) {
                self.forget();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = group.as_raw_nonzero();
        Err(Error::lab(format!(
            "`{}` (process group {pid}) survived SIGKILL",
            self.name
        ))
        .help("look at it with `ps -eo pid,pgid,stat,wchan,args`"))
    }

    fn forget(&mut self) {
        if let (Some(group), Ok(mut groups)) = (self.group, GROUPS.lock()) {
            groups.remove(&group.as_raw_nonzero().get());
        }
    }
}

impl Drop for Process {
    /// The last net: every orderly path has called `wait` or `stop`.
    fn drop(&mut self) {
        if let (Some(group), Ok(None)) = (self.group, self.child.try_wait()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.forget();
    }
}

/// Whether no process of the group lives. Orphans that ended but were not reaped keep the group
/// in existence where process 1 reaps late or never, as in many containers: zombies do not count.
fn group_is_gone(group: Pid) -> bool {
    if rustix::process::test_kill_process_group(group).is_err() {
        return true;
    }
    let group = group.as_raw_nonzero().to_string();
    let lives = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // pid (comm) state ppid pgrp …; comm may hold anything, so count from its end.
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let state = fields.next();
        fields.nth(1) == Some(&group) && !matches!(state, Some("Z" | "X"))
    };
    !std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .any(lives)
}

/// SIGKILL to every process group that is alive: the second Ctrl-C.
pub fn kill_all() {
    let Ok(groups) = GROUPS.lock() else { return };
    for group in groups.iter().filter_map(|&group| Pid::from_raw(group)) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The groups that are alive; each has the number of its leader.
pub fn groups() -> Vec<i32> {
    let groups = GROUPS.lock();
    groups
        .map(|groups| groups.iter().copied().collect())
        .unwrap_or_default()
}

/// A file as a child's output.
pub fn to_file(path: &Path) -> Result<Stdio> {
    use crate::error::IoContext;
    Ok(File::create(path).at("create", path)?.into())
}

async fn forward_lines(from: impl AsyncRead + Unpin, to: tokio::sync::mpsc::Sender<String>) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if to.send(text).await.is_err() {
            return;
        }
        line.clear();
    }
}

#[derive(Default)]
struct Tail(std::collections::VecDeque<String>);

impl Tail {
    fn push(&mut self, line: String) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn into_text(self) -> String {
        Vec::from(self.0).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_can_be_pasted() {
        let cmd = Cmd::new("make")
            .arg("-j2")
            .arg("KCFLAGS=-g -O2")
            .env("LC_ALL", "C")
            .dir("/a b");
        assert_eq!(
            cmd.to_string(),
            "cd '/a b' && LC_ALL=C make -j2 'KCFLAGS=-g -O2'"
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_missing_program_says_how_to_get_it() {
        let error = Cmd::new("no-such-tool")
            .output(&CancellationToken::new())
            .await
            .unwrap_err();
        assert_eq!(error.what, "`no-such-tool` is not installed");
        assert!(error.help.unwrap().contains("lab setup"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_failure_carries_standard_error() {
        let cmd = Cmd::new("sh").args(["-c", "echo reason >&2; exit 3"]);
        let error = cmd.output(&CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.evidence[0], "reason");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_group_that_ignores_sigterm_is_killed_with_its_children() {
        let cmd = Cmd::new("sh").args(["-c", "trap '' TERM; sleep 60 & wait; sleep 60"]);
        let mut process = cmd.spawn(Stdio::null(), Stdio::null()).unwrap();
        let group = process.group.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        process.stop().await.unwrap();
        assert!(group_is_gone(group));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn cancelling_ends_a_command_that_talks_without_end() {
        let cancel = CancellationToken::new();
        let trigger = cancel.clone();
        let mut seen = 0;
        let cmd = Cmd::new("yes");
        let result = cmd
            .run(&cancel, |_| {
                seen += 1;
                if seen == 1000 {
                    trigger.cancel();
                }
            })
            .await;
        assert_eq!(result.unwrap_err().exit_code(), 130);
    }
}
