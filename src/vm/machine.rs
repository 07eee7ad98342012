// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running QEMU: started, watched, stopped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qapi::qmp;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Deadlines;
use super::args::{self, MachineSpec, Memory, Parts, Spec};
use super::console::{CONSOLE_MAX, Console};
use super::progress::Over;
use super::qmp::{MachineState, Qmp};
use super::recorder::Recorder;
use super::scratch::Scratch;
use super::vitals::{Overdue, Vitals, Wait};
use crate::error::{Blame, Error, IoContext, Result};
use crate::process::{Process, to_file};

/// How long QEMU may take to open its QMP socket.
const START: Duration = Duration::from_secs(30);
/// How long QEMU may take to say whether it runs: it does nothing else meanwhile.
pub(super) const ALIVE: Duration = Duration::from_secs(10);
/// How often the console is searched for one.
const LOOK: Duration = Duration::from_secs(1);
/// How long QEMU may take to write all memory of a guest.
const DUMP: Duration = Duration::from_secs(120);
/// How long the end of a process may take to be noticed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often files and processes are looked at that are waited for.
pub(super) const POLL: Duration = Duration::from_millis(2);
/// How often a guest is looked at that should go on.
const WATCH: Duration = Duration::from_millis(20);

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
    /// Nothing happened within the time that it may take, and the guest could run for all of it:
    /// what was waited for, and in the next line what moved.
    Silent(String),
    /// The same, but the host gave its QEMU too little time. Not the guest's doing.
    Starved(String),
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
    /// What the host knows of its QEMU.
    vitals: Vitals,
    /// How many times the time of a quick host its boot took.
    pub(super) pace: u32,
    /// What is typed on its console.
    pub(super) input: File,
    /// What QEMU says on standard error.
    stderr: PathBuf,
    /// Whether its firmware is qboot.
    pub(super) qboot: bool,
    /// What is recorded of it.
    pub(super) recorder: Option<Recorder>,
    /// The socket on which it waits for gdb, if it does.
    gdb: Option<PathBuf>,
    /// Its sockets and pipes; removed with it.
    scratch: Scratch,
}

impl Machine {
    /// Boots a guest. With `memory`, its memory is that file, so that it can be kept as a template.
    pub async fn boot(
        parts: &Parts<'_>,
        memory: Option<&Path>,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let memory = memory.map_or(Memory::Own, |file| Memory::Shared(file.to_path_buf()));
        let spec = Spec {
            memory,
            ..Spec::boot(parts)
        };
        let mut machine = Self::start(parts, spec, b"", cancel).await?;
        machine.go_on(cancel).await?;
        Ok(machine)
    }

    /// Starts QEMU; the guest stands still.
    pub(super) async fn start(
        parts: &Parts<'_>,
        of: Spec,
        console: &[u8],
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let mut spec = MachineSpec {
            arch: parts.arch,
            accel: parts.accel,
            size: parts.size.clone(),
            boot: of.boot,
            memory: of.memory,
            console: parts.record.join("console.log"),
            input: scratch.path().join("input"),
            qmp: scratch.path().join("qmp"),
            sandbox: true,
            qboot: of.qboot,
            log: of.log,
        };
        std::fs::write(&spec.console, console).at("write", &spec.console)?;
        let input = pipe(&spec.input)?;
        let stderr = parts.record.join("qemu.stderr");
        loop {
            let command = args::command(&spec);
            let line = parts.record.join("qemu.sh");
            std::fs::write(&line, script(&command.to_string(), parts)).at("write", &line)?;
            let mut process = command.spawn(std::process::Stdio::null(), to_file(&stderr)?)?;
            let console = Console::new(&spec.console);
            let vitals = Vitals::of(process.id(), &console);
            let connected = tokio::select! {
                connected = connect(&spec.qmp, &mut process, &vitals, parts.record) => connected,
                () = cancel.cancelled() => Err(Error::interrupted()),
            };
            let error = match connected {
                Ok(qmp) => {
                    let recorder = Recorder::of(spec.log);
                    let deadlines = Deadlines::of(parts.accel, parts.arch);
                    return Ok(Self {
                        process,
                        qmp,
                        console,
                        deadlines: match recorder {
                            Some(_) => deadlines.recorded(),
                            None => deadlines,
                        },
                        vitals,
                        pace: 1,
                        input,
                        stderr,
                        qboot: spec.qboot,
                        recorder,
                        gdb: None,
                        scratch,
                    });
                }
                Err(error) => error,
            };
            process.stop().await?;
            if error.blame == Blame::Interrupted {
                return Err(error);
            }
            let said = Console::new(&stderr).text();
            // A QEMU without seccomp, or a container that does not let it.
            if spec.sandbox && (said.contains("sandbox") || said.contains("seccomp")) {
                spec.sandbox = false;
            } else if spec.qboot && said.contains(args::QBOOT) {
                spec.qboot = false;
            } else {
                return Err(did_not_work(error, &said).evidence(&format!("command: {command}")));
            }
        }
    }

    /// Lets the guest run.
    pub async fn go_on(&mut self, cancel: &CancellationToken) -> Result<()> {
        let going = tokio::select! {
            going = self.qmp.execute(qmp::cont {}) => going,
            () = cancel.cancelled() => Err(Error::interrupted()),
        };
        let Err(error) = going else {
            return Ok(());
        };
        // QEMU aborts when KVM refuses a vCPU.
        let ended = tokio::time::timeout(Duration::from_secs(2), self.process.wait()).await;
        let error = match ended {
            Ok(Ok(status)) => did_not_start(&status),
            _ => error,
        };
        Err(self.stop_after(error).await)
    }

    /// The connection to QEMU.
    pub(super) fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// What the host knows of its QEMU.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
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
        if let Some(why) = self.recorder.as_ref().and_then(Recorder::is_too_long) {
            return Some(Gone::Qemu(why));
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
                None => sleep(WATCH).await,
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
    /// later: what waits for an answer need not wait until its time is up. One that a debugger may
    /// have stopped is given all the time.
    pub async fn wait_gone_or_stuck(&mut self, allowed: &[&str]) -> Gone {
        let (mut seen, mut looked) = (0, Instant::now());
        let limit = self.deadlines.after_splat;
        let mut complained: Option<(String, Wait)> = None;
        loop {
            if self.gone().is_some() {
                return self.wait_gone().await;
            }
            if let Some((title, wait)) = &mut complained {
                if wait.over().is_some() {
                    return Gone::Silent(format!("no answer {limit:?} after: {title}"));
                }
            } else if self.gdb.is_none() && self.console.len() != seen && looked.elapsed() > LOOK {
                seen = self.console.len();
                let splat = self.console.splat(allowed);
                complained = splat.map(|splat| (splat.title, self.vitals.wait(limit)));
                looked = Instant::now();
            }
            sleep(WATCH).await;
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
                    Some('D') => "it waits for the host's disk or memory, or is frozen".to_owned(),
                    Some(state) => format!("its process is in state {state}"),
                    None => "its process cannot be looked at".to_owned(),
                };
                let (first, seen) = what.split_once('\n').unwrap_or((&what, ""));
                let why = format!("{first}: QEMU answers nothing either, {state}\n{seen}");
                Gone::Qemu(why.trim_end().to_owned())
            }
        }
    }

    /// Why something is overdue: the guest, QEMU, or the host.
    pub async fn why_overdue(&mut self, doing: &str, overdue: &Overdue) -> Gone {
        let what = format!("{doing} {overdue}\n{}", overdue.seen);
        match (self.why_silent(what).await, overdue.over) {
            (Gone::Silent(what), Over::Starved) => Gone::Starved(what),
            (gone, _) => gone,
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

    /// The folder of its sockets and pipes, which goes with it. Nobody else can look into it.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Lets QEMU wait for gdb on a unix socket. No limit of the lab's stands any more: a guest in a
    /// debugger stands still.
    pub async fn open_gdb(&mut self) -> Result<()> {
        let socket = self.scratch.path().join("gdb");
        let command = qmp::human_monitor_command {
            cpu_index: None,
            command_line: format!("gdbserver unix:{},server=on,wait=off", socket.display()),
        };
        let said = self.qmp.execute(command).await?;
        if !socket.exists() {
            return Err(Error::host("QEMU does not wait for gdb").evidence(&said));
        }
        self.gdb = Some(socket);
        self.deadlines = self.deadlines.debugged();
        Ok(())
    }

    /// The socket on which it waits for gdb, if it does.
    pub fn gdb(&self) -> Option<&Path> {
        self.gdb.as_deref()
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

    /// Ends QEMU after an error, which counts also if that fails.
    pub(super) async fn stop_after(&mut self, error: Error) -> Error {
        let stopped = self.stop().await;
        let error = error.evidence(&self.stderr());
        match stopped {
            Ok(()) => error,
            Err(unstopped) => error.evidence(&unstopped.what),
        }
    }

    /// Ends QEMU: `quit`, then SIGTERM, then SIGKILL.
    pub async fn stop(&mut self) -> Result<()> {
        self.end_recording().await;
        // By the wall: who ends a guest on a slow host does not wait for the host.
        let quit = self.qmp.execute(qmp::quit {});
        let quit = tokio::time::timeout(Duration::from_secs(2), quit).await;
        if matches!(quit, Ok(Ok(_))) {
            let waited = tokio::time::timeout(Duration::from_secs(5), self.process.wait()).await;
            if let Ok(status) = waited {
                return status.map(drop);
            }
        }
        self.process.stop().await
    }

    /// How many instructions it has executed, if they are counted.
    pub async fn icount(&mut self) -> Option<u64> {
        let asked = self.qmp().execute_within(qmp::query_replay {}, ALIVE).await;
        u64::try_from(asked.ok()?.icount).ok()
    }

    /// Notes the last instruction of a recording: the guest executes none after it.
    async fn end_recording(&mut self) {
        if self.recorder.is_none() {
            return;
        }
        let stopped = self.qmp().execute_within(qmp::stop {}, ALIVE).await;
        let end = match stopped {
            Ok(_) => self.icount().await,
            Err(_) => None,
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.end = recorder.end.or(end);
        }
    }
}

/// A pipe that has a writer from the start: QEMU would wait for one.
fn pipe(path: &Path) -> Result<File> {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode)
        .map_err(std::io::Error::from)
        .at("create", path)?;
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .at("open", path)
}

/// Connects to QEMU's socket as soon as it is there.
async fn connect(
    path: &Path,
    process: &mut Process,
    vitals: &Vitals,
    record: &Path,
) -> Result<Qmp> {
    let mut wait = vitals.wait(START);
    let stream = loop {
        match (UnixStream::connect(path).await, wait.over()) {
            (Ok(stream), _) => break stream,
            (Err(_), None) => {}
            (Err(error), Some(overdue)) => {
                let what = format!("QEMU opened no QMP socket {overdue} ({error})");
                return Err(Error::host(format!("{what}; {}", overdue.seen)));
            }
        }
        if let Some(status) = process.try_wait() {
            return Err(did_not_start(&status));
        }
        sleep(POLL).await;
    };
    match Qmp::connect(stream, vitals.clone(), &record.join("qmp.log")).await {
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

/// The command line, and how to boot the same by hand: one that waits for QMP, or goes on where a
/// guest was kept, is of no use without the lab.
fn script(command: &str, parts: &Parts<'_>) -> String {
    format!(
        "#!/bin/sh\n# To boot it by hand, to a shell on its console:\n#   {}\n# image: {}\n{command}\n",
        args::by_hand(parts),
        parts.image.display()
    )
}

/// Why QEMU did not work, after what it said.
fn did_not_work(error: Error, said: &str) -> Error {
    if said.contains("Could not set up host forwarding rule") {
        return Error::host("no port of 127.0.0.1 is free for a guest's ssh")
            .evidence(said)
            .help("end what holds the ports (`ss -tlnp`), or widen net.ipv4.ip_local_port_range");
    }
    let is_old = ["invalid option", "valid device model", "Invalid parameter"];
    let error = match is_old.iter().any(|mark| said.contains(mark)) {
        true => {
            error.help("this QEMU does not know an option that the lab needs: install 8.2 or later")
        }
        false => error,
    };
    error.evidence(said)
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
