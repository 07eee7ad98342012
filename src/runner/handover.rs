// SPDX-License-Identifier: MIT OR Apache-2.0
//! From one run to the next: a guest that is as it was after its boot.

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::schedule::RunIndex;

/// A run asks whether another one goes on in its guest.
pub(super) type Question = (RunIndex, oneshot::Sender<bool>);

/// Where a run asks what becomes of its guest.
pub(super) struct Handover {
    pub(super) run: RunIndex,
    pub(super) questions: UnboundedSender<Question>,
}

impl Handover {
    /// Whether another run goes on in the guest, which is as it was after its boot.
    pub(super) async fn is_wanted(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.questions.send((self.run, answer)).is_ok() && answered.await.unwrap_or(false)
    }
}
