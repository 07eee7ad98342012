// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command from outside: how long it takes, whose CPU time it is, what its children hold.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::Result;

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Lines that are shown of a command that has failed.
const LAST_LINES: usize = 30;
/// Clock ticks a second in /proc: Linux shows the same number everywhere, whatever its HZ.
const TICKS: f64 = 100.0;

/// A command that has ended.
pub struct Finished {
    /// Just before it was started.
    pub started: Timestamp,
    /// As soon as it had ended.
    pub ended: Timestamp,
    pub seconds: f64,
    /// CPU seconds of the process itself.
    pub own_cpu: f64,
    /// CPU seconds of the processes that it has waited for, such as QEMUs.
    pub children_cpu: f64,
    /// Standard output and error.
    pub said: String,
    status: ExitStatus,
}

impl Finished {
    /// CPU seconds of all that ran.
    pub fn cpu(&self) -> f64 {
        self.own_cpu + self.children_cpu
    }
}

/// Runs a command that must succeed. `look` gets its pid now and then while it runs.
pub fn run(command: &mut Command, look: impl FnMut(u32) + Send) -> Result<Finished> {
    let finished = attempt(command, look)?;
    if !finished.status.success() {
        let Finished { status, said, .. } = finished;
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        return Err(format!("{command:?}: {status}\n{last}").into());
    }
    Ok(finished)
}

/// Runs a command that may fail.
pub fn attempt(command: &mut Command, mut look: impl FnMut(u32) + Send) -> Result<Finished> {
    let mut file = tempfile::tempfile()?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?);
    let (started, clock) = (Timestamp::now(), Instant::now());
    let mut child = Running(command.spawn()?);
    let pid = child.0.id();
    let over = AtomicBool::new(false);
    let (ended, seconds) = std::thread::scope(|scope| -> Result<_> {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look(pid);
                std::thread::sleep(LOOK);
            }
        });
        let waited = wait(pid);
        let ended = (Timestamp::now(), clock.elapsed().as_secs_f64());
        over.store(true, Ordering::Relaxed);
        waited.map(|()| ended)
    })?;
    // It is still there to be looked at, since nobody has reaped it.
    let (own_cpu, children_cpu) = cpu(pid);
    let status = child.0.wait()?;
    let mut said = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(Finished {
        started,
        ended,
        seconds,
        own_cpu,
        children_cpu,
        said,
        status,
    })
}

/// Runs a command that must succeed and that nobody looks at.
pub fn time(command: &mut Command) -> Result<f64> {
    Ok(run(command, |_| {})?.seconds)
}

/// Waits for the end of a child, and leaves it to be reaped.
fn wait(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or("a child has no pid")?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// A child that does not outlive a failure: SIGTERM lets lab stop its guests.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = self.0.wait();
        }
    }
}

/// The fields of /proc/PID/stat from the state on: the name before it may have spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// CPU seconds of a process, and of the children that it has waited for.
fn cpu(pid: u32) -> (f64, f64) {
    // utime, stime, cutime and cstime are the 14th to 17th of all fields.
    let fields = stat(pid).unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    let seconds = |indices: [usize; 2]| indices.into_iter().filter_map(ticks).sum::<f64>() / TICKS;
    (seconds([11, 12]), seconds([13, 14]))
}

/// The machines among the descendants of a process.
pub fn guests(of: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: BTreeMap<u32, u32> = pids
        .filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let descends = |mut pid: u32| {
        while let Some(&parent) = parents.get(&pid) {
            if parent == of {
                return true;
            }
            pid = parent;
        }
        false
    };
    // Not the QEMU that is asked for its version.
    let is_machine = |pid: u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        let program = words.next().unwrap_or_default();
        program.contains("qemu-system") && words.any(|word| word == "-machine")
    };
    parents
        .keys()
        .copied()
        .filter(|&pid| descends(pid) && is_machine(pid))
        .collect()
}

/// Fields of a file like /proc/PID/status, such as `VmHWM:`, added up, in bytes.
pub fn memory(pid: u32, file: &str, names: &[&str]) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let kib = |name: &&str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let fields: Option<Vec<u64>> = names.iter().map(kib).collect();
    Some(fields?.iter().sum::<u64>() * 1024)
}
