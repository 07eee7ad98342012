// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way of a guest from QEMU's start to its ssh server, by what its init says on the console.

use std::io::{self, Write};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::machine::{Gone, Machine, POLL};
use super::vitals::Wait;
use crate::error::{Error, Result};

/// What the init says when it can be told who it is, when it can be logged into, and what it says
/// instead if it cannot.
const WAITING: &str = "lab: waiting for an identity";
const READY: &str = "lab: ready";
const NOT_READY: &str = "lab: dropbear did not start";
/// What fits into half of a serial port.
const PORT: usize = 8;
/// Some of a guest's timer ticks. It takes what was typed at the next.
const TICKS: Duration = Duration::from_millis(20);
/// How often a guest is looked at that is typed to.
const TYPED: Duration = Duration::from_millis(1);
/// How often the console is searched for a complaint.
const LOOK: Duration = Duration::from_secs(1);

impl Machine {
    /// Waits until the init can be told who it is, tells it, and waits until it can be logged into.
    pub async fn wait_ready(
        &mut self,
        identity: &str,
        cancel: &CancellationToken,
    ) -> Result<std::result::Result<(), Gone>> {
        match self.wait_waiting(self.deadlines.boot, cancel).await? {
            Ok(()) => {
                let limit = self.deadlines.answer;
                self.identify(identity, limit, cancel).await
            }
            gone => Ok(gone),
        }
    }

    /// Waits until the init can be told who it is, for `limit` after each new output of the boot. One
    /// that takes longer in all says how slow the guest is: its other limits grow with it.
    pub async fn wait_waiting(
        &mut self,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<std::result::Result<(), Gone>> {
        let too_soon = "its init did not ask who it is, as images/guest/init.c does";
        let said = [(WAITING, None), (READY, Some(too_soon))];
        let doing = "the guest did not finish booting";
        let mut wait = self.vitals().wait(limit).by_console();
        let waiting = self.wait_said(0, &said, doing, &mut wait, cancel).await?;
        if waiting.is_ok() {
            self.go_at(wait.limits());
        }
        Ok(waiting)
    }

    /// Gives the guest so many times the time of a quick one.
    pub(super) fn go_at(&mut self, pace: u32) {
        self.deadlines = self.deadlines.times(pace);
        self.pace *= pace;
    }

    /// Tells the init who it is ([`crate::image::keys::RunKeys::identity`]), and waits until it
    /// can be logged into.
    pub async fn identify(
        &mut self,
        identity: &str,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<std::result::Result<(), Gone>> {
        let from = self.console.len();
        let typed = match &self.recorder {
            Some(_) => self.type_slowly(identity.as_bytes(), limit).await,
            None => self.input.write_all(identity.as_bytes()),
        };
        typed.map_err(|error| Error::host(format!("cannot type on a guest's console: {error}")))?;
        let said = [
            (READY, None),
            (NOT_READY, Some("its ssh server did not start")),
        ];
        let doing = "the guest's ssh server did not start";
        let mut wait = self.vitals().wait(limit).by_console();
        self.wait_said(from, &said, doing, &mut wait, cancel).await
    }

    /// Waits until the console, from byte `from` on, has a line that ends in one of `said`; what
    /// stands with it is why the guest is lost.
    async fn wait_said(
        &mut self,
        from: u64,
        said: &[(&str, Option<&str>)],
        doing: &str,
        wait: &mut Wait,
        cancel: &CancellationToken,
    ) -> Result<std::result::Result<(), Gone>> {
        let (mut seen, mut looked) = (0, Instant::now());
        loop {
            // The console first: the line may be there although the guest has gone since.
            let len = self.console.len();
            if len != seen {
                seen = len;
                let text = self.console.text_from(from);
                let ends = |last: &str| text.lines().any(|line| line.ends_with(last));
                if let Some((_, lost)) = said.iter().find(|(last, _)| ends(last)) {
                    return Ok(match lost {
                        None => Ok(()),
                        Some(why) => Err(Gone::Lost((*why).to_owned())),
                    });
                }
                // A kernel that stands still says so again and again.
                if looked.elapsed() > LOOK {
                    looked = Instant::now();
                    if self.console.splat(&[]).is_some() {
                        wait.disregard_console();
                    }
                }
            }
            if let Some(gone) = self.gone() {
                return Ok(Err(gone));
            }
            if let Some(overdue) = wait.over() {
                return Ok(Err(self.why_overdue(doing, &overdue).await));
            }
            tokio::select! {
                () = sleep(POLL) => {}
                () = cancel.cancelled() => return Err(Error::interrupted()),
            }
        }
    }

    /// Types on the console of a guest that is recorded, for `limit` at most: what comes later is
    /// lost, and the guest does not say that it is ready. QEMU puts what was typed into the log
    /// before it puts it into the serial port, and asks the port for room too early: what is typed
    /// at once overruns it.
    async fn type_slowly(&mut self, text: &[u8], limit: Duration) -> io::Result<()> {
        let mut wait = self.vitals().wait(limit);
        for part in text.chunks(PORT) {
            self.input.write_all(part)?;
            let before = self.icount().await;
            let typed = Instant::now();
            // QEMU has taken it, and the guest has gone on since.
            while wait.over().is_none()
                && (typed.elapsed() < TICKS
                    || ioctl_fionread(&self.input)? > 0
                    || self.icount().await == before)
            {
                sleep(TYPED).await;
            }
        }
        Ok(())
    }
}
