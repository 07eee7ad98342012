// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked of the guest of an attempt, while its machine and its console are watched.

use super::attempt::{Attempt, EarlyEnd};
use super::judge;
use super::live::Live;
use super::next;
use crate::error::Blame;
use crate::guest::{self, Answer, Silence};
use crate::state::witness;
use crate::verdict::evidence::CONSOLE;
use crate::verdict::{Outcome, Verdict};
use crate::vm::kernel_log;
use crate::vm::machine::{Gone, Machine};
use crate::vm::splat::Splat;

impl Attempt<'_> {
    /// Waits for an answer while watching the machine: a dead guest ends the wait at once.
    pub(super) async fn ask<T>(
        &self,
        machine: &mut Machine,
        doing: &str,
        answer: impl Future<Output = Answer<T>>,
    ) -> std::result::Result<T, EarlyEnd> {
        let allowed = self.allowed();
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            gone = machine.wait_gone_or_stuck(&allowed) => {
                tokio::time::sleep(machine.deadlines.last_words).await;
                return Err(self.gone(machine, &gone, doing).into());
            }
        };
        self.answered(machine, doing, answer).await
    }

    /// Turns a silence into a verdict; what the console and QEMU say comes first.
    pub(super) async fn answered<T>(
        &self,
        machine: &mut Machine,
        doing: &str,
        answer: Answer<T>,
    ) -> std::result::Result<T, EarlyEnd> {
        let silence = match answer {
            Ok(value) => return Ok(value),
            Err(silence) => silence,
        };
        tokio::time::sleep(machine.deadlines.last_words).await;
        if let Silence::Nonsense(_) = &silence {
            let reason = format!("{doing}: {silence}");
            return Err(Verdict::against(Outcome::Hung, Blame::Guest, reason)
                .help(next::NONSENSE)
                .with(CONSOLE, &machine.console.tail(25))
                .into());
        }
        let gone = guest::why(machine, &silence).await;
        Err(self.gone(machine, &gone, doing).into())
    }

    /// The verdict on a guest that has gone.
    pub(super) fn gone(&self, machine: &Machine, gone: &Gone, doing: &str) -> Verdict {
        let verdict = judge::of_gone(gone, doing, &machine.console, &self.allowed());
        verdict.with("what QEMU said", &machine.stderr())
    }

    /// Ends the run if the kernel has complained, on its console or by its taint flags.
    pub(super) async fn no_complaint(
        &self,
        machine: &Machine,
        doing: &str,
        dump: &str,
    ) -> std::result::Result<(), EarlyEnd> {
        let allowed = self.allowed();
        let complaints = witness::complaints(dump);
        let mut splat = machine.console.splat(&allowed);
        let is_silent = |splat: &Option<Splat>| {
            splat.is_none() && !complaints.is_empty() && machine.console.splat(&[]).is_none()
        };
        // A kernel may still be writing it: the function that it is about comes late.
        if is_silent(&splat) || splat.as_ref().is_some_and(|splat| !splat.settled) {
            tokio::time::sleep(machine.deadlines.last_words).await;
            splat = machine.console.splat(&allowed);
            if is_silent(&splat) {
                let flags = complaints.join(", ");
                let reason = format!(
                    "{doing}: the kernel is tainted ({flags}) without a message on the console"
                );
                let verdict = Verdict::against(Outcome::Splat, Blame::Kernel, reason);
                let verdict = verdict.help(next::TAINTED);
                return Err(verdict.with(CONSOLE, &machine.console.tail(25)).into());
            }
        }
        match splat {
            Some(splat) => Err(judge::of_splat(&splat, doing).into()),
            None => Ok(()),
        }
    }

    /// What the log said before the next step belongs to the boot, or to what was done in a pause:
    /// it is kept, and no step has it.
    pub(super) async fn skip_log(
        &self,
        live: &mut Live,
        doing: &str,
    ) -> std::result::Result<(), EarlyEnd> {
        let (machine, guest, log) = live.split()?;
        let dump = self.ask(machine, doing, guest.state()).await?;
        log.take(kernel_log::records(&dump))?;
        self.no_complaint(machine, doing, &dump).await
    }

    /// Waits until the console has come to its end, where the kernel must not have complained.
    pub(super) async fn drain(
        &self,
        live: &mut Live,
        doing: &str,
    ) -> std::result::Result<(), EarlyEnd> {
        let (machine, guest, log) = live.split()?;
        let limit = machine.deadlines.answer;
        let console = machine.console.clone();
        let drained = guest.drain(&console, limit);
        let (end, said) = self.ask(machine, doing, drained).await?;
        log.take(said)?;
        self.answered(machine, doing, end).await?;
        match console.splat(&self.allowed()) {
            Some(splat) => Err(judge::of_splat(&splat, doing).into()),
            None => Ok(()),
        }
    }
}
