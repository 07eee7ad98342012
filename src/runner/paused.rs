// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long an attempt has been paused, which no limit of its time counts.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::millis;

/// How often a paused run is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How long an attempt has been paused.
#[derive(Debug, Default)]
pub(super) struct Paused(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    before: Duration,
    since: Option<Instant>,
    /// Something was not as expected, and it paused for that.
    failed: bool,
}

impl Paused {
    /// All pauses so far, the one that it is in included.
    pub(super) fn for_how_long(&self) -> Duration {
        let state = self.lock();
        state.before + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A pause begins.
    pub(super) fn begin(&self) {
        self.lock().since = Some(Instant::now());
    }

    /// The milliseconds of the pause that ends.
    pub(super) fn end(&self) -> u64 {
        let mut state = self.lock();
        let pause = state.since.take().map_or(Duration::ZERO, |s| s.elapsed());
        state.before += pause;
        millis(pause)
    }

    /// Whether this is the first failure, which is paused for.
    pub(super) fn fails_first(&self) -> bool {
        !std::mem::replace(&mut self.lock().failed, true)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when an attempt has taken as long as it may, without its pauses.
pub(super) async fn expiry(limit: Option<Duration>, paused: &Paused) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    let started = Instant::now();
    loop {
        let taken = started.elapsed().saturating_sub(paused.for_how_long());
        let Some(left) = limit.checked_sub(taken).filter(|left| !left.is_zero()) else {
            return limit;
        };
        tokio::time::sleep(left.max(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_pause_does_not_count() {
        let paused = Paused::default();
        let limit = Duration::from_millis(100);
        let started = Instant::now();
        let pause = async {
            paused.begin();
            tokio::time::sleep(Duration::from_millis(400)).await;
            paused.end();
        };
        let (expired, ()) = tokio::join!(expiry(Some(limit), &paused), pause);
        assert_eq!(expired, limit);
        assert!(started.elapsed() >= Duration::from_millis(480));
        assert!(paused.fails_first() && !paused.fails_first());
    }
}
