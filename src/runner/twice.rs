// SPDX-License-Identifier: MIT OR Apache-2.0
//! An attempt at a run, and with `--accept` a second one before its new or changed snapshot is
//! accepted, in a guest of its own.

use tokio::sync::mpsc::unbounded_channel;

use super::attempt::{Attempt, PreparedRun};
use super::confirm::{ADDRESSES, Confirmation, Refusal, refused};
use super::handover::Handover;
use super::live::Live;
use super::record::Record;
use super::run::{self, Made};
use crate::context::Context;
use crate::error::Result;
use crate::event::Events;
use crate::state::{SnapshotPolicy, mask};
use crate::verdict::{Outcome, Verdict};

/// Below the record of a run: that of the second time.
const AGAIN: &str = "again";

impl Attempt<'_> {
    /// Whether what meets its expectations may become a snapshot, if that is wanted.
    pub(super) fn is_confirmed(&self, observed: &str) -> bool {
        let options = &self.of.options;
        // Somebody looks at a run that can be paused.
        let asks =
            options.snapshots.policy() == SnapshotPolicy::Accept && !options.pause.on_failure;
        !asks || self.confirmation.takes(observed)
    }
}

/// Makes an attempt at a run, and another one before its snapshot is accepted. `None` if it was
/// cancelled before it began.
pub(super) async fn attempt(
    ctx: &Context,
    of: &PreparedRun,
    record: Record,
    number: u32,
    guest: Option<Live>,
    handover: &Handover,
) -> Option<Made> {
    let first = Confirmation::default();
    let mut made = run::attempt(ctx, of, record.clone(), number, guest, handover, &first).await?;
    if matches!(
        made.verdict.outcome,
        Outcome::Passed | Outcome::ExpectedFailure
    ) {
        return Some(made);
    }
    made.verdict = match first.into_refusal() {
        None => with_hint(made.verdict, &record),
        Some(Refusal::Once { observed }) => {
            ctx.events.note(format!(
                "{}: played once more, since its snapshot is new or changes",
                of.run
            ));
            let second = Confirmation::of_second(observed);
            let verdict = match again(ctx, of, &record, number, &second).await {
                Ok(again) => again?.verdict,
                Err(error) => Verdict::infra(&error),
            };
            match second.into_refusal() {
                Some(refusal) => refused(verdict, &refusal),
                None => of_second(verdict),
            }
        }
        Some(refusal) => refused(made.verdict, &refusal),
    };
    Some(made)
}

/// Plays a run once more, in a guest that is not handed on. The record is below that of the first
/// time, and only there are its events.
async fn again(
    ctx: &Context,
    of: &PreparedRun,
    record: &Record,
    number: u32,
    confirmation: &Confirmation,
) -> Result<Option<Made>> {
    let (events, _) = Events::channel();
    let record = Record::create(&record.dir().join(AGAIN), &of.run, &events)?;
    let nobody = Handover {
        run: 0,
        questions: unbounded_channel().0,
    };
    Ok(run::attempt(ctx, of, record, number, None, &nobody, confirmation).await)
}

/// The verdict on the second time, if that did not come to its states as the first time did.
fn of_second(mut verdict: Verdict) -> Verdict {
    if !verdict.is_as_expected() {
        let when =
            format!("this was the second time, before it is accepted: {AGAIN}/ in the record");
        verdict.reasons.push(when);
    }
    verdict
}

/// A verdict on states that differ, or are the first ones, with what is another one in other guests.
fn with_hint(verdict: Verdict, record: &Record) -> Verdict {
    // Somebody may review what is not as it was accepted.
    if !verdict.problems.is_empty() || !record.dir().join("diff.txt").exists() {
        return verdict;
    }
    let observed = std::fs::read_to_string(record.dir().join("observed.txt")).unwrap_or_default();
    verdict.with(ADDRESSES, &mask::with_addresses(&observed).join("\n"))
}
