// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is found out about a guest that was lost, or whose time was up, before it is ended.

use std::time::Duration;

use super::attempt::{Attempt, Played};
use super::live::Live;
use super::log::LAST_DEBUG;
use super::{forensics, judge, next};
use crate::error::{Blame, Result};
use crate::state::Names;
use crate::verdict::{Outcome, Verdict};
use crate::vm::console::first_splat;
use crate::vm::machine::Gone;
use crate::vm::progress::Share;

impl Attempt<'_> {
    /// The verdict on a guest that was lost: with its last messages, and what it says if it is stuck.
    pub(super) async fn on_loss(&self, live: &mut Live, verdict: Verdict) -> Result<Verdict> {
        let verdict = self.last_messages(live, verdict).await?;
        let is_there = verdict.is_stuck() && live.machine.gone().is_none();
        let verdict = match is_there {
            true => self.ask_from_outside(live, verdict).await,
            false => verdict,
        };
        Ok(self.as_executed(verdict))
    }

    /// What an emulator made is not the kernel's.
    pub(super) fn as_executed(&self, verdict: Verdict) -> Verdict {
        judge::as_executed(verdict, self.of.accel, self.of.size.cpus)
    }

    /// Reads what the kernel has said in the step that was the last one, whether or not the guest
    /// answers.
    async fn last_messages(&self, live: &mut Live, mut verdict: Verdict) -> Result<Verdict> {
        let Live { machine, log, .. } = live;
        // A guest in a QEMU that has ended has no memory, and one that was stopped gives none.
        let is_there = matches!(machine.gone(), None | Some(Gone::Panicked | Gone::Flooded));
        if is_there && verdict.blame != Some(Blame::Host) {
            let said = log.take_from_memory(machine, &self.of.tree).await?;
            // A task writes to the console, and gets no CPU where the only one is stuck.
            if matches!(verdict.outcome, Outcome::Hung | Outcome::TimedOut)
                && verdict.splat.is_none()
                && let Some(splat) = first_splat(said.as_bytes(), &self.allowed())
            {
                verdict = judge::of_silent_splat(verdict, &splat);
            }
        }
        Ok(verdict.with(LAST_DEBUG, &log.last_debug()))
    }

    /// The verdict on a run that took longer than `--timeout`: what it was doing, and what the guest says
    /// of itself. What the guest has said against itself stands; a host that gave it a small `share` of
    /// the time is to blame.
    pub(super) async fn expired(
        &self,
        live: &mut Live,
        played: &Played,
        limit: Duration,
        share: Share,
    ) -> Result<Verdict> {
        let done = played.states.len();
        let doing = match (done, self.of.scenario.steps.get(done)) {
            _ if live.guest.is_none() => "booting".to_owned(),
            (_, Some(step)) => format!("during step {} ({})", done + 1, step.action.label()),
            (_, None) => "after the last step".to_owned(),
        };
        let why = format!("the run took longer than --timeout {limit:?}\n{share}");
        let gone = match live.machine.why_silent(why).await {
            Gone::Silent(why) if share.is_hosts() => Gone::Starved(why),
            gone => gone,
        };
        let verdict = judge::of_limit(self.gone(&live.machine, &gone, &doing));
        if matches!(gone, Gone::Qemu(_)) {
            return Ok(verdict);
        }
        self.on_loss(live, verdict).await
    }

    /// Adds what a guest that does not answer says all the same.
    async fn ask_from_outside(&self, live: &mut Live, mut verdict: Verdict) -> Verdict {
        let names = Names::of(&self.of.scenario);
        let found = forensics::of_silence(live, &names, &self.of.tree).await;
        // A transition that has one line is a reason, and no evidence of it.
        let said = found.transition.as_deref();
        let evidence = found.evidence.into_iter();
        let evidence = evidence.filter(|piece| Some(piece.text.trim_end()) != said);
        verdict.evidence.splice(..0, evidence);
        verdict.reasons.extend(found.transition);
        let silent = verdict.outcome == Outcome::Hung && verdict.splat.is_none();
        let other = match verdict.outcome {
            Outcome::TimedOut => Some(next::LIMIT),
            // A guest that answers to somebody else has a CPU that writes to its console.
            _ if silent && self.of.size.cpus == 1 && !found.answers => Some(next::ONE_CPU),
            _ => None,
        };
        match found.help.or_else(|| other.map(str::to_owned)) {
            Some(help) => verdict.help(help),
            None => verdict,
        }
    }
}
