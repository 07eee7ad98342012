// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts that give a QEMU little time, or none: what is theirs is not the kernel's, and a guest that
//! stands still is ended all the same.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use livepatch_lab::arch::Arch;
use livepatch_lab::error::Blame;
use livepatch_lab::guest::Guest;
use livepatch_lab::image::keys::RunKeys;
use livepatch_lab::runner::judge;
use livepatch_lab::verdict::{Outcome, Verdict};
use livepatch_lab::vm::machine::{Gone, Machine};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::host::{RUN, assert_well, project, qemu_of};
use crate::common::{Output, assert_is, ended, signal, wait_for};
use crate::faults::host::*;
use crate::real::built;
use crate::warm::{Made, context};

const ARCH: Arch = Arch::X86_64;

/// Stops a QEMU and lets it go on, in turn, until it is dropped.
struct Throttle {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Throttle {
    /// Of the QEMU with its console below `folder`; milliseconds.
    fn new(folder: &Path, stopped: u64, goes_on: u64) -> Self {
        let pid = qemu_of(folder).unwrap();
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) && kill_process(pid, Signal::STOP).is_ok() {
                std::thread::sleep(Duration::from_millis(stopped));
                let _ = kill_process(pid, Signal::CONT);
                std::thread::sleep(Duration::from_millis(goes_on));
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A guest that has just been started.
struct Booting {
    made: Made,
    machine: Machine,
    cancel: CancellationToken,
}

impl Booting {
    async fn new() -> Self {
        built();
        let ctx = context();
        let made = Made::of(&ctx, ARCH).await;
        let machine = Machine::boot(&made.parts(ARCH), None, &ctx.cancel).await;
        Self {
            machine: machine.unwrap(),
            made,
            cancel: ctx.cancel,
        }
    }

    fn throttle(&self, stopped: u64, goes_on: u64) -> Throttle {
        Throttle::new(self.made.record.path(), stopped, goes_on)
    }

    /// Waits until the init waits, for a time with a `limit`.
    async fn waits(&mut self, limit: Duration) -> Result<(), Gone> {
        let waiting = self.machine.wait_waiting(limit, &self.cancel).await;
        waiting.unwrap()
    }

    /// Ends it; the verdict on what became of it.
    async fn verdict(&mut self, gone: &Gone) -> Verdict {
        let verdict = judge::of_gone(gone, "booting", &self.machine.console, &[]);
        self.machine.stop().await.unwrap();
        verdict
    }
}

/// A verdict as a command shows it.
fn shown(verdict: &Verdict) -> Output {
    let blame = verdict.blame.map(|blame| format!(" [{blame}]"));
    let outcome = verdict.outcome.name();
    let reasons = verdict.reasons.join("\n");
    Output {
        code: i32::from(verdict.exit_code),
        stdout: format!("{outcome}{}\n{reasons}", blame.unwrap_or_default()),
        stderr: String::new(),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_with_a_tenth_of_its_time_boots_and_answers() {
    let mut booting = Booting::new().await;
    // A quick host needs less for each, a tenth of one needs far more.
    booting.machine.deadlines.boot = Duration::from_millis(2500);
    booting.machine.deadlines.answer = Duration::from_millis(1500);
    let throttle = booting.throttle(90, 10);
    let keys = RunKeys::generate().unwrap();
    let identity = keys.identity().unwrap();
    let Booting {
        machine, cancel, ..
    } = &mut booting;
    let ready = machine.wait_ready(&identity, cancel).await.unwrap();
    assert_eq!(ready, Ok(()), "{}", TENTH.what);
    let port = machine.ssh_port().await.unwrap();
    let limit = machine.deadlines.answer;
    let guest = Guest::connect(port, &keys, machine.vitals(), limit).await;
    let guest = guest.unwrap().unwrap();
    let release = guest.release().await.unwrap();
    assert!(release.contains("-lab-"), "{release}");
    guest.close().await.unwrap();
    drop(throttle);
    machine.stop().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_boot_that_stands_still_is_the_kernels() {
    let mut booting = Booting::new().await;
    let limit = booting.machine.deadlines.boot;
    assert_eq!(booting.waits(limit).await, Ok(()));
    // Nobody tells it who it is: it waits for ever, and no CPU has anything to do.
    let limit = Duration::from_secs(2);
    let Booting {
        machine, cancel, ..
    } = &mut booting;
    let ready = machine.identify("", limit, cancel).await.unwrap();
    let verdict = booting.verdict(&ready.unwrap_err()).await;
    let found = (verdict.outcome, verdict.blame, verdict.exit_code);
    assert_eq!(found, (Outcome::Hung, Some(Blame::Kernel), 1));
    let reasons = &verdict.reasons;
    assert_eq!(
        reasons[0],
        "booting: the guest's ssh server did not start within 2s"
    );
    let seen = &reasons[1];
    assert!(seen.starts_with("QEMU had "), "{reasons:?}");
    assert!(seen.contains("; its console "), "{reasons:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn qemu_is_stopped_during_a_boot() {
    let mut booting = Booting::new().await;
    signal(qemu_of(booting.made.record.path()).unwrap(), "STOP");
    let gone = booting.waits(Duration::from_secs(2)).await.unwrap_err();
    let verdict = booting.verdict(&gone).await;
    assert_is(&STOPPED_AT_BOOT, &shown(&verdict));
}

#[tokio::test(flavor = "current_thread")]
async fn the_host_gives_qemu_hardly_any_time() {
    let mut booting = Booting::new().await;
    let throttle = booting.throttle(490, 10);
    let limit = Duration::from_millis(500);
    let gone = booting.waits(limit).await.unwrap_err();
    drop(throttle);
    let verdict = booting.verdict(&gone).await;
    assert_is(&STARVED, &shown(&verdict));
    let help = verdict.help.unwrap();
    assert!(help.contains("--jobs 1"), "{help}");
}

#[test]
fn a_timeout_on_a_slow_host_is_the_hosts() {
    let project = project();
    let lab = project.spawn(&[&RUN[..], &["--cold", "--timeout=6s"]].concat());
    let folder = project.path(".lab");
    wait_for(|| qemu_of(&folder).is_some());
    let throttle = Throttle::new(&folder, 90, 10);
    assert_is(&EXPIRED, &ended(lab));
    drop(throttle);
    assert_well(&project);
}
