// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which manner a run failed, and whether another one failed in the same. Pure.

use serde::{Deserialize, Serialize};

use crate::verdict::{Failing, Outcome, Verdict};

/// What two runs have in common that fail in the same way: the step, the outcome, what was not as
/// expected, and the kernel's complaint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    /// How it ended.
    pub outcome: Outcome,
    /// Where.
    pub failing: Option<Failing>,
    /// The title of the kernel's complaint, without what differs from run to run.
    pub splat: Option<String>,
}

impl Manner {
    /// The manner of a verdict. A flaky run's is that of its first attempt's.
    pub fn of(verdict: &Verdict) -> Self {
        let title = verdict
            .splat
            .as_ref()
            .map(|splat| without_numbers(&splat.title));
        Self {
            outcome: verdict.outcome,
            failing: verdict.failing.clone(),
            splat: title,
        }
    }

    /// Where and how it failed, without the outcome's name.
    pub fn details(&self) -> String {
        let (place, words) = (self.place(), self.words());
        let parts: Vec<_> = place.as_deref().into_iter().chain(words).collect();
        parts.join(": ")
    }

    fn place(&self) -> Option<String> {
        let failing = self.failing.as_ref()?;
        Some(match failing.step {
            0 => "while booting".to_owned(),
            step => format!("at step {step} ({})", failing.label),
        })
    }

    /// The kernel's complaint, and what was not as expected.
    fn words(&self) -> impl Iterator<Item = &str> {
        let problem = self.failing.as_ref().map(|failing| &failing.problem);
        let problem = problem.filter(|problem| !problem.is_empty());
        self.splat.iter().chain(problem).map(String::as_str)
    }

    /// Whether it is the same but for the number of the step, which another scenario may count
    /// otherwise.
    pub fn is_like(&self, other: &Self) -> bool {
        let what = |manner: &Self| {
            let failing = manner.failing.as_ref();
            failing.map(|failing| (failing.label.clone(), failing.problem.clone()))
        };
        (self.outcome, &self.splat) == (other.outcome, &other.splat) && what(self) == what(other)
    }
}

impl std::fmt::Display for Manner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.outcome.name())?;
        if let Some(place) = self.place() {
            write!(f, " {place}")?;
        }
        self.words().try_for_each(|words| write!(f, ": {words}"))
    }
}

/// A splat's title with `N` for each number that has a digit of its own: processes, CPUs, addresses
/// and offsets differ from run to run, names with digits in them do not.
fn without_numbers(title: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut text = String::new();
    for word in title.split_inclusive(|c| !is_word(c)) {
        let (word, end) = match word.char_indices().next_back() {
            Some((at, last)) if !is_word(last) => word.split_at(at),
            _ => (word, ""),
        };
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let hex = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Seconds, as in `stuck for 23s`, are a number as well.
        let digits = digits.strip_suffix('s').unwrap_or(digits);
        let number = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        text.push_str(if number || hex { "N" } else { word });
        text.push_str(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_no_part_of_a_title() {
        for (title, same) in [
            (
                "WARNING: kernel/context_tracking.c:107 at ct_exit.constprop.0+0x8c/0x98, CPU#1: swapper/1/0",
                "WARNING: kernel/context_tracking.c:N at ct_exit.constprop.N+N/N, CPU#N: swapper/N/N",
            ),
            (
                "BUG: unable to handle page fault for address: ffffffffc0401000",
                "BUG: unable to handle page fault for address: N",
            ),
            (
                "kernel BUG at lib/list_debug.c:59!",
                "kernel BUG at lib/list_debug.c:N!",
            ),
            (
                "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [lab-agent:97]",
                "watchdog: BUG: soft lockup - CPU#N stuck for N! [lab-agent:N]",
            ),
            ("Oops: 0002 [#1] SMP PTI", "Oops: N [#N] SMP PTI"),
            (
                "BUG: KASAN: use-after-free in f2_read",
                "BUG: KASAN: use-after-free in f2_read",
            ),
        ] {
            assert_eq!(without_numbers(title), same);
        }
    }

    #[test]
    fn another_number_of_the_step_is_still_alike() {
        let at = |step, problem: &str| Manner {
            outcome: Outcome::Failed,
            failing: Some(Failing {
                step,
                label: "load n".into(),
                problem: problem.into(),
            }),
            splat: None,
        };
        assert!(at(7, "shop.stock answers 20").is_like(&at(3, "shop.stock answers 20")));
        assert!(!at(7, "shop.stock answers 20").is_like(&at(7, "shop.stock answers 22")));
        assert_eq!(
            at(7, "shop.stock answers 20").to_string(),
            "failed at step 7 (load n): shop.stock answers 20"
        );
    }
}
