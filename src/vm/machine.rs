// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running QEMU: started, watched, stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qapi::qmp;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::args::{self, MachineSpec};
use super::console::{CONSOLE_MAX, Console};
use super::qmp::{MachineState, Qmp};
use super::scratch::Scratch;
use super::{Accel, Deadlines};
use crate::arch::Arch;
use crate::error::{Blame, Error, IoContext, Result};
use crate::process::{Process, to_file};

/// What the init says last, and what it says instead if nobody can log in.
const READY: &str = "lab: ready";
const NOT_READY: &str = "lab: dropbear did not start";
/// How long QEMU may take to open its QMP socket.
const START: Duration = Duration::from_secs(30);
/// How long QEMU may take to say whether it runs: it does nothing else meanwhile.
const ALIVE: Duration = Duration::from_secs(10);
/// How long a guest may go on without an answer after a complaint of its kernel.
const AFTER_SPLAT: Duration = Duration::from_secs(10);
/// How often the console is searched for one.
const LOOK: Duration = Duration::from_secs(1);
/// How long QEMU may take to write all memory of a guest.
const DUMP: Duration = Duration::from_secs(120);
/// How long the end of a process may take to be noticed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often files and processes are looked at.
const POLL: Duration = Duration::from_millis(5);

/// Why a guest is not there (any more). Always read together with the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// The kernel panicked.
    Panicked,
    /// The machine was reset or switched off from inside: how, in QEMU's words.
    Reset(String),
    /// QEMU ended, was stopped, or does not answer: the reason. Not the guest's doing.
    Qemu(String),
    /// Nobody can talk to it although the machine goes on: what happened.
    Lost(String),
    /// Nothing happened within the time that it may take: what was waited for.
    Silent(String),
    /// It wrote more to its console than anybody can read.
    Flooded,
}

/// A running guest. It must be stopped with [`Machine::stop`].
#[derive(Debug)]
pub struct Machine {
    process: Process,
    qmp: Qmp,
    /// Its console.
    pub console: Console,
    /// Its limits.
    pub deadlines: Deadlines,
    /// What QEMU says on standard error.
    stderr: PathBuf,
    /// Its sockets and its initramfs; removed with it.
    _scratch: Scratch,
}

/// What a machine is made from.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// The guest's architecture.
    pub arch: Arch,
    /// How it is executed.
    pub accel: Accel,
    /// What to boot.
    pub kernel: PathBuf,
    /// The image's initramfs.
    pub image: &'a Path,
    /// The run's own archive, which follows it.
    pub keys: Vec<u8>,
    /// The folder for console, QMP log and command line.
    pub record: &'a Path,
}

impl Machine {
    /// Starts QEMU and lets the guest run.
    pub async fn start(parts: &Parts<'_>, cancel: &CancellationToken) -> Result<Self> {
        let scratch = Scratch::new()?;
        let initrd = scratch.path().join("initrd");
        let mut archive = std::fs::read(parts.image).at("read", parts.image)?;
        archive.extend_from_slice(&parts.keys);
        std::fs::write(&initrd, archive).at("write", &initrd)?;
        let mut spec = MachineSpec {
            arch: parts.arch,
            accel: parts.accel,
            kernel: parts.kernel.clone(),
            initrd,
            console: parts.record.join("console.log"),
            qmp: scratch.path().join("qmp"),
            sandbox: true,
        };
        let stderr = parts.record.join("qemu.stderr");
        let (process, qmp) = loop {
            let command = args::command(&spec);
            let line = parts.record.join("qemu.sh");
            let script = script(&command.to_string(), parts.image);
            std::fs::write(&line, script).at("write", &line)?;
            let mut process = command.spawn(std::process::Stdio::null(), to_file(&stderr)?)?;
            let connected = tokio::select! {
                connected = connect(&spec.qmp, &mut process, parts.record) => connected,
                () = cancel.cancelled() => Err(Error::interrupted()),
            };
            match connected {
                Ok(qmp) => break (process, qmp),
                Err(error) => {
                    process.stop().await?;
                    if error.blame == Blame::Interrupted {
                        return Err(error);
                    }
                    let said = Console::new(&stderr).text();
                    // A QEMU without seccomp, or a container that does not let it.
                    if spec.sandbox && (said.contains("sandbox") || said.contains("seccomp")) {
                        spec.sandbox = false;
                        continue;
                    }
                    if said.contains("Could not set up host forwarding rule") {
                        return Err(
                            Error::host("no port of 127.0.0.1 is free for a guest's ssh")
                                .evidence(&said)
                                .help(
                                    "end what holds the ports (`ss -tlnp`), or widen \
                                 net.ipv4.ip_local_port_range",
                                ),
                        );
                    }
                    let is_old = ["invalid option", "valid device model", "Invalid parameter"];
                    let error = match is_old.iter().any(|mark| said.contains(mark)) {
                        true => error.help(
                            "this QEMU does not know an option that the lab needs: install 6.2 or \
                             later",
                        ),
                        false => error,
                    };
                    return Err(error
                        .evidence(&said)
                        .evidence(&format!("command: {command}")));
                }
            }
        };
        Ok(Self {
            process,
            qmp,
            console: Console::new(spec.console),
            deadlines: Deadlines::of(parts.accel, parts.arch),
            stderr,
            _scratch: scratch,
        })
    }

    /// Waits until the init says that the guest can be logged into.
    pub async fn wait_ready(
        &mut self,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<std::result::Result<(), Gone>> {
        let deadline = Instant::now() + limit;
        let mut seen = 0;
        loop {
            // The console first: the line may be there although the guest has gone since.
            let len = self.console.len();
            if len != seen {
                seen = len;
                let said = self.console.text();
                let says = |last: &str| said.lines().any(|line| line.ends_with(last));
                if says(READY) {
                    return Ok(Ok(()));
                }
                if says(NOT_READY) {
                    return Ok(Err(Gone::Lost("its ssh server did not start".to_owned())));
                }
            }
            if let Some(gone) = self.gone() {
                return Ok(Err(gone));
            }
            if Instant::now() >= deadline {
                let what = format!("the guest did not finish booting within {limit:?}");
                return Ok(Err(self.why_silent(what).await));
            }
            tokio::select! {
                () = sleep(POLL) => {}
                () = cancel.cancelled() => return Err(Error::interrupted()),
            }
        }
    }

    /// Whether the guest has gone, as far as is known now.
    pub fn gone(&mut self) -> Option<Gone> {
        match &*self.qmp.state().borrow() {
            MachineState::Running => {}
            MachineState::Panicked => return Some(Gone::Panicked),
            MachineState::Shutdown { by_guest, reason } if *by_guest => {
                return Some(Gone::Reset(reason.clone()));
            }
            MachineState::Shutdown { reason, .. } => {
                return Some(Gone::Qemu(format!("QEMU was shut down ({reason})")));
            }
            MachineState::Disconnected => {
                let status = self.process.try_wait();
                return Some(Gone::Qemu(match status {
                    Some(status) => format!("QEMU ended ({status})"),
                    None => "QEMU closed its QMP socket".to_owned(),
                }));
            }
        }
        if let Some(status) = self.process.try_wait() {
            return Some(Gone::Qemu(format!("QEMU ended ({status})")));
        }
        if self.disk_is_full() {
            let what = "the disk of the console is full: No space left on device";
            return Some(Gone::Qemu(what.to_owned()));
        }
        (self.console.len() > CONSOLE_MAX).then_some(Gone::Flooded)
    }

    /// Whether what the guest says is lost: QEMU drops it without a word.
    fn disk_is_full(&self) -> bool {
        // There are file systems that count no blocks.
        rustix::fs::statvfs(self.console.path())
            .is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bavail == 0)
    }

    /// Resolves when the guest has gone.
    pub async fn wait_gone(&mut self) -> Gone {
        let gone = loop {
            match self.gone() {
                Some(gone) => break gone,
                None => sleep(Duration::from_millis(50)).await,
            }
        };
        if !matches!(gone, Gone::Qemu(_)) {
            return gone;
        }
        // Its exit status says more, and comes at once.
        let _ = tokio::time::timeout(LAST_WORDS, self.process.wait()).await;
        sleep(POLL).await;
        self.gone().unwrap_or(gone)
    }

    /// Resolves when the guest has gone, or has complained and still gives no answer a while
    /// later: what waits for an answer need not wait until its time is up.
    pub async fn wait_gone_or_stuck(&mut self, allowed: &[&str]) -> Gone {
        let (mut seen, mut looked) = (0, Instant::now());
        let mut complained: Option<(String, Instant)> = None;
        loop {
            if self.gone().is_some() {
                return self.wait_gone().await;
            }
            match &complained {
                Some((title, since)) if since.elapsed() > AFTER_SPLAT => {
                    return Gone::Silent(format!("no answer {AFTER_SPLAT:?} after: {title}"));
                }
                Some(_) => {}
                None if self.console.len() != seen && looked.elapsed() > LOOK => {
                    seen = self.console.len();
                    let splat = self.console.splat(allowed);
                    complained = splat.map(|splat| (splat.title, Instant::now()));
                    looked = Instant::now();
                }
                None => {}
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Why nothing was heard: QEMU itself may have been stopped or have hung.
    pub async fn why_silent(&mut self, what: String) -> Gone {
        if let Some(gone) = self.gone() {
            return gone;
        }
        let asked = self.qmp.execute_within(qmp::query_status {}, ALIVE).await;
        match (asked, self.gone()) {
            (_, Some(gone)) => gone,
            (Ok(_), None) => Gone::Silent(what),
            (Err(_), None) => {
                let state = match self.process.state() {
                    Some('T' | 't') => "it was stopped by a signal or a debugger".to_owned(),
                    Some(state) => format!("its process is in state {state}"),
                    None => "its process cannot be looked at".to_owned(),
                };
                Gone::Qemu(format!("{what}: QEMU answers nothing either, {state}"))
            }
        }
    }

    /// The last lines of QEMU's standard error.
    pub fn stderr(&self) -> String {
        Console::new(&self.stderr).tail(25)
    }

    /// The port of 127.0.0.1 that QEMU forwards to the guest's ssh.
    pub async fn ssh_port(&mut self) -> Result<u16> {
        let command = qmp::human_monitor_command {
            cpu_index: None,
            command_line: "info usernet".to_owned(),
        };
        let text = self.qmp.execute(command).await?;
        forwarded_port(&text)
            .ok_or_else(|| Error::host("QEMU does not say which port it forwards").evidence(&text))
    }

    /// The registers of all CPUs, in QEMU's words.
    pub async fn registers(&mut self) -> Result<String> {
        let command = qmp::human_monitor_command {
            cpu_index: None,
            command_line: "info registers -a".to_owned(),
        };
        self.qmp.execute_within(command, ALIVE).await
    }

    /// Writes the guest's memory to a file that crash and drgn read: an ELF core.
    pub async fn dump(&mut self, file: &Path) -> Result<()> {
        let command = qmp::dump_guest_memory {
            paging: false,
            protocol: format!("file:{}", file.display()),
            detach: None,
            begin: None,
            length: None,
            format: None,
        };
        self.qmp.execute_within(command, DUMP).await.map(drop)
    }

    /// Ends QEMU: `quit`, then SIGTERM, then SIGKILL.
    pub async fn stop(&mut self) -> Result<()> {
        let quit = self
            .qmp
            .execute_within(qmp::quit {}, Duration::from_secs(2))
            .await;
        if quit.is_ok() {
            let waited = tokio::time::timeout(Duration::from_secs(5), self.process.wait()).await;
            if let Ok(status) = waited {
                return status.map(drop);
            }
        }
        self.process.stop().await
    }
}

/// Connects to QEMU's socket as soon as it is there, and lets the guest run.
async fn connect(path: &Path, process: &mut Process, record: &Path) -> Result<Qmp> {
    let deadline = Instant::now() + START;
    let stream = loop {
        match UnixStream::connect(path).await {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < deadline => {}
            Err(error) => {
                return Err(Error::host(format!("QEMU opened no QMP socket: {error}")));
            }
        }
        if let Some(status) = process.try_wait() {
            return Err(did_not_start(&status));
        }
        sleep(POLL).await;
    };
    let start = async {
        let mut qmp = Qmp::connect(stream, &record.join("qmp.log")).await?;
        qmp.execute(qmp::cont {}).await?;
        Ok(qmp)
    };
    match start.await {
        Ok(qmp) => Ok(qmp),
        // QEMU aborts after it has opened the socket when KVM refuses a vCPU.
        Err(error) => {
            let ended = tokio::time::timeout(Duration::from_secs(2), process.wait()).await;
            Err(ended.map_or(error, |status| {
                status.map_or_else(|e| e, |s| did_not_start(&s))
            }))
        }
    }
}

/// The command line, and what one needs to repeat it without the lab.
fn script(command: &str, image: &Path) -> String {
    format!(
        "#!/bin/sh\n# The initrd was the image followed by this run's keys, and is gone. To boot \
         it by hand: drop -S, -mon\n# and both -chardev, give -serial stdio, and the image as -initrd.\n\
         # image: {}\n{command}\n",
        image.display()
    )
}

fn did_not_start(status: &std::process::ExitStatus) -> Error {
    Error::host(format!("QEMU did not start ({status})"))
        .help("check QEMU's installation and the accelerator (--accel tcg always works)")
}

/// `TCP[HOST_FORWARD]   3   127.0.0.1 41297   10.0.2.15    22 …` → 41297.
fn forwarded_port(usernet: &str) -> Option<u16> {
    let line = usernet.lines().find(|line| line.contains("HOST_FORWARD"))?;
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word != "127.0.0.1");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read_from_qemus_table() {
        let text = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  \
                    Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]   3       127.0.0.1 41297       \
                    10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded_port(text), Some(41297));
        assert_eq!(forwarded_port("none"), None);
    }
}
