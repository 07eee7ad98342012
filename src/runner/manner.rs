// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which manner a run failed, and whether another one failed in the same. Pure.

use serde::{Deserialize, Serialize};

use crate::verdict::{Complaint, Failing, Outcome, SplatKind, Verdict};

/// What two runs have in common that fail in the same way: the step, the outcome, what was not as
/// expected, and the kernel's complaint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    /// How it ended.
    pub outcome: Outcome,
    /// Where.
    pub failing: Option<Failing>,
    /// The first line of the kernel's complaint, without what differs from run to run.
    pub splat: Option<String>,
    /// The function that it is about, if that is known, and the same in every run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Manner {
    /// The manner of a verdict. A flaky run's is that of its first attempt's.
    pub fn of(verdict: &Verdict) -> Self {
        let splat = verdict.splat.as_ref();
        Self {
            outcome: verdict.outcome,
            failing: verdict.failing.clone(),
            splat: splat.map(|splat| without_numbers(first_line(splat))),
            code: splat.and_then(code).map(str::to_owned),
        }
    }

    /// Whether two runs ended in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.outcome == other.outcome && self.is_at_the_same(other)
    }

    /// Whether two runs failed at the same step, with the same problem and the same complaint,
    /// whatever their outcomes are called.
    pub fn is_at_the_same(&self, other: &Self) -> bool {
        self.failing == other.failing && self.has_the_splat_of(other)
    }

    /// Whether the complaints are the same: the same words about the same code. One of a record of
    /// earlier versions does not say which.
    fn has_the_splat_of(&self, other: &Self) -> bool {
        let words = |manner: &Self| manner.splat.as_deref().map(without_numbers);
        let codes = self.code.as_ref().zip(other.code.as_ref());
        words(self) == words(other) && codes.is_none_or(|(one, other)| one == other)
    }

    /// Where and how it failed, without the outcome's name.
    pub fn details(&self) -> String {
        let (place, words) = (self.place(), self.words());
        let parts: Vec<_> = place.into_iter().chain(words).collect();
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
    fn words(&self) -> impl Iterator<Item = String> {
        let problem = self.failing.as_ref().map(|failing| failing.problem.clone());
        let splat = self.splat.as_ref().map(|splat| match &self.code {
            Some(code) if !splat.contains(code.as_str()) => format!("{splat} in {code}"),
            _ => splat.clone(),
        });
        splat
            .into_iter()
            .chain(problem.filter(|problem| !problem.is_empty()))
    }

    /// Whether it is the same but for the number of the step, which another scenario may count
    /// otherwise.
    pub fn is_like(&self, other: &Self) -> bool {
        let what = |manner: &Self| {
            let failing = manner.failing.as_ref();
            failing.map(|failing| (failing.label.clone(), failing.problem.clone()))
        };
        self.outcome == other.outcome && self.has_the_splat_of(other) && what(self) == what(other)
    }
}

/// The title of a complaint without the code that was added to it.
fn first_line(splat: &Complaint) -> &str {
    let code = splat.code.as_deref().unwrap_or_default();
    let title = splat.title.strip_suffix(code);
    let first = title.and_then(|title| title.strip_suffix(" in "));
    first.unwrap_or(&splat.title)
}

/// The function by which two complaints are told apart. Where a CPU is found that hangs, or that the
/// kernel waits for, differs from run to run.
fn code(splat: &Complaint) -> Option<&str> {
    match splat.kind {
        SplatKind::Lockup | SplatKind::RcuStall => None,
        _ => splat.code.as_deref(),
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

/// The first line of a splat with `N` for each number that has a digit of its own: processes, CPUs,
/// addresses, sizes and offsets differ from run to run, names with digits in them do not. Of a warning
/// without the task that came to it.
fn without_numbers(line: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let line = match line.split_once(", CPU#") {
        Some((place, _)) if line.starts_with("WARNING: ") => place,
        _ => line,
    };
    let line = line.trim_end_matches('.');
    let mut text = String::new();
    for word in line.split_inclusive(|c| !is_word(c)) {
        let (word, end) = match word.char_indices().next_back() {
            Some((at, last)) if !is_word(last) => word.split_at(at),
            _ => (word, ""),
        };
        text.push_str(if is_number(word) { "N" } else { word });
        text.push_str(end);
    }
    text
}

/// `7`, `0x1f`, `ffffffffc0401000`, and with a unit: `stuck for 23s`, `total-vm:4736kB`.
fn is_number(word: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digits) = word.strip_prefix("0x") {
        return is_hex(digits);
    }
    let units = ["kB", "KiB", "MB", "MiB", "ms", "us", "ns", "s"];
    let digits = units.iter().find_map(|unit| word.strip_suffix(unit));
    let digits = digits.unwrap_or(word);
    let begins = digits.starts_with(|c: char| c.is_ascii_digit());
    is_hex(digits) && (begins || word.len() >= 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_no_part_of_a_title() {
        for (title, same) in [
            (
                "WARNING: kernel/context_tracking.c:107 at ct_exit.constprop.0+0x8c/0x98, CPU#1: swapper/1/0",
                "WARNING: kernel/context_tracking.c:N at ct_exit.constprop.N+N/N",
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
            (
                "Out of memory: Killed process 55 (dropbear) total-vm:4736kB, oom_score_adj:0",
                "Out of memory: Killed process N (dropbear) total-vm:N, oom_score_adj:N",
            ),
            (
                "BUG: KASAN: x in klp_x+0xfe/0x1a0 [mod]",
                "BUG: KASAN: x in klp_x+N/N [mod]",
            ),
        ] {
            assert_eq!(without_numbers(title), same);
            // What an earlier version has written is held against what this one writes.
            assert_eq!(without_numbers(same), same);
        }
    }

    fn complaint(kind: SplatKind, line: &str, code: Option<&str>) -> Manner {
        let mut verdict = Verdict::against(Outcome::Splat, crate::error::Blame::Kernel, "x");
        verdict.splat = Some(Complaint {
            kind,
            title: code.map_or(line.to_owned(), |code| format!("{line} in {code}")),
            code: code.map(str::to_owned),
        });
        Manner::of(&verdict)
    }

    #[test]
    fn the_same_words_about_other_code_are_another_fault() {
        let null = |address: &str, code| {
            let line = format!("BUG: kernel NULL pointer dereference, address: {address}");
            complaint(SplatKind::Oops, &line, code)
        };
        let one = null("0000000000000008", Some("shop_price"));
        let elsewhere = null("0000000000000008", Some("shop_stock"));
        let at_another_offset = null("0000000000000010", Some("shop_price"));
        assert!(
            !one.is_same(&elsewhere) && !one.is_like(&elsewhere) && !one.is_at_the_same(&elsewhere)
        );
        assert!(one.is_same(&at_another_offset) && one.is_like(&at_another_offset));
        assert_eq!(
            one.details(),
            "BUG: kernel NULL pointer dereference, address: N in shop_price"
        );
        // A bundle of an earlier version does not name the code.
        let earlier: Manner = serde_json::from_str(
            r#"{"outcome": "splat", "failing": null,
                "splat": "BUG: kernel NULL pointer dereference, address: N"}"#,
        )
        .unwrap();
        assert!(earlier.is_same(&one) && earlier.is_like(&elsewhere));
    }

    #[test]
    fn where_a_cpu_is_found_does_not_tell_lockups_apart() {
        let of = |code| {
            complaint(
                SplatKind::Lockup,
                "watchdog: BUG: soft lockup - CPU#1",
                code,
            )
        };
        assert_eq!(of(Some("shop_price")), of(Some("shop_stock")));
        let of = |code| complaint(SplatKind::HungTask, "INFO: task x:7 blocked for more", code);
        assert_ne!(of(Some("shop_price")), of(Some("shop_stock")));
    }

    #[test]
    fn a_warning_is_the_same_whoever_comes_to_it() {
        let at = |place: &str, who: &str| {
            let line = format!("WARNING: kernel/x.c:12 at {place}, CPU#1: {who}");
            complaint(SplatKind::Warning, &line, None)
        };
        let one = at("klp_x+0x1/0x2", "lab-agent/57");
        assert_eq!(one, at("klp_x+0x1a/0x20", "kworker/u8:3/12"));
        assert_ne!(one, at("klp_y+0x1/0x2", "lab-agent/57"));
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
            code: None,
        };
        assert!(at(7, "shop.stock answers 20").is_like(&at(3, "shop.stock answers 20")));
        assert!(!at(7, "shop.stock answers 20").is_like(&at(7, "shop.stock answers 22")));
        assert_eq!(
            at(7, "shop.stock answers 20").to_string(),
            "failed at step 7 (load n): shop.stock answers 20"
        );
    }
}
