// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether what a run observed may be accepted: it was the same twice, and has no addresses. Forks of
//! one template have addresses in common, and other guests have others.

use std::sync::OnceLock;

use crate::error::Blame;
use crate::state::{diff, mask};
use crate::verdict::{Outcome, Verdict};

/// The title of lines with addresses.
pub(super) const ADDRESSES: &str =
    "what looks like an address, and is another one in the next guest";
const MASK: &str =
    "mask it in the scenario: `mask: [{ text: \"log shop: at *\", reason: an address }]`";

/// Whether what an attempt observes may be accepted.
#[derive(Debug, Default)]
pub(super) struct Confirmation {
    /// What was observed the first time; `None` if this is the first time.
    first: Option<String>,
    refused: OnceLock<Refusal>,
}

/// Why it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It was played once only.
    Once { observed: String },
    /// It was not the same the second time: the difference.
    Differs(String),
    /// These lines have what looks like an address.
    Addresses(String),
}

impl Confirmation {
    /// Of what was observed the first time.
    pub(super) fn of_second(first: String) -> Self {
        Self {
            first: Some(first),
            refused: OnceLock::new(),
        }
    }

    /// Whether what was observed may be accepted; if not, why is kept.
    pub(super) fn takes(&self, observed: &str) -> bool {
        let addresses = mask::with_addresses(observed).join("\n");
        let refusal = match &self.first {
            _ if !addresses.is_empty() => Refusal::Addresses(addresses),
            None => Refusal::Once {
                observed: observed.to_owned(),
            },
            Some(first) if first != observed => Refusal::Differs(diff::render(first, observed)),
            Some(_) => return true,
        };
        let _ = self.refused.set(refusal);
        false
    }

    /// Why it may not be accepted, if it was observed and may not.
    pub(super) fn into_refusal(self) -> Option<Refusal> {
        self.refused.into_inner()
    }
}

/// The verdict on a run that would have passed, were it the same twice.
pub(super) fn refused(verdict: Verdict, refusal: &Refusal) -> Verdict {
    let (reason, title, text) = match refusal {
        // It did not get as far as that the second time.
        Refusal::Once { .. } => return verdict,
        Refusal::Differs(difference) => (
            "not accepted: it was played twice and was not the same",
            "states by step (- the first time, + the second time)",
            difference,
        ),
        Refusal::Addresses(lines) => (
            "not accepted: it is not the same in every guest",
            ADDRESSES,
            lines,
        ),
    };
    let mut refused = Verdict::against(Outcome::Failed, Blame::File, reason).with(title, text);
    refused.problems = verdict.problems;
    refused.failing = verdict.failing;
    refused.help(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_was_the_same_twice_and_has_no_address() {
        let first = Confirmation::default();
        assert!(!first.takes("a\n"));
        let observed = "a\n".to_owned();
        assert_eq!(first.refused.get(), Some(&Refusal::Once { observed }));
        assert!(Confirmation::of_second("a\n".into()).takes("a\n"));
        let second = Confirmation::of_second("step 1: x\n  log at 7\n".into());
        assert!(!second.takes("step 1: x\n  log at 8\n"));
        let differs = "  step 1: x\n-   log at 7\n+   log at 8\n".to_owned();
        let refusal = Refusal::Differs(differs);
        assert_eq!(second.refused.get(), Some(&refusal));
        let verdict = refused(Verdict::passed(), &refusal);
        assert_eq!(
            (verdict.outcome, verdict.blame),
            (Outcome::Failed, Some(Blame::File))
        );
        assert!(verdict.help.unwrap().contains("mask:"));

        let address = "  log shop: at ffff888003c4a000\n";
        for confirmation in [
            Confirmation::default(),
            Confirmation::of_second(address.into()),
        ] {
            assert!(!confirmation.takes(address));
            let lines = "log shop: at ffff888003c4a000".to_owned();
            assert_eq!(confirmation.refused.get(), Some(&Refusal::Addresses(lines)));
        }
    }
}
