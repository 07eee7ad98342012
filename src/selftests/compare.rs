// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets what each original says beside what its scenario says. Pure.

use super::output::Ending;
use super::play::Played;
use crate::event::RunId;
use crate::scenario::Scenario;
use crate::verdict::Verdict;

/// What one side says of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It holds.
    Ok,
    /// It does not.
    NotOk,
    /// It cannot be tried here.
    Skipped,
    /// Nothing: an earlier case ended the script, or there is no scenario.
    Nothing,
}

impl Word {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Word::Ok => "ok",
            Word::NotOk => "NOT OK",
            Word::Skipped => "skipped",
            Word::Nothing => "-",
        }
    }

    fn of_ending(ending: &Ending) -> Self {
        match ending {
            Ending::Ok => Word::Ok,
            Ending::NotOk(_) => Word::NotOk,
            Ending::Skipped(_) => Word::Skipped,
            Ending::NotReached => Word::Nothing,
        }
    }

    /// A scenario's word. One that was planned and ended without a verdict says nothing.
    pub fn of_verdict(verdict: &Verdict) -> Self {
        use crate::verdict::Outcome::New;
        match verdict.outcome {
            // Its steps hold; a snapshot that is not there yet notices no defect.
            New => Word::Ok,
            outcome if !outcome.is_settled() => Word::Nothing,
            _ if verdict.is_as_expected() => Word::Ok,
            _ => Word::NotOk,
        }
    }
}

/// A case, as both see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The case: `test-livepatch.sh: basic function patching`.
    pub case: String,
    /// The scenario that expresses it.
    pub scenario: Option<String>,
    /// What the script says.
    pub original: Word,
    /// What the scenario says.
    pub lab: Word,
}

impl Pair {
    /// Whether both say the same. An original that was not reached contradicts nobody; a scenario
    /// that says nothing contradicts everybody.
    pub fn agrees(&self) -> bool {
        match (self.original, self.lab) {
            (_, Word::Nothing) => false,
            (Word::Nothing, _) => true,
            (original, lab) => original == lab,
        }
    }
}

/// Pairs the cases of a kernel and an architecture with the scenarios that express them.
/// `skipped` are the runs that the plan left out, `verdicts` those of the others.
pub fn pairs(
    (kernel, arch): (&str, crate::arch::Arch),
    played: &[Played],
    scenarios: &[Scenario],
    skipped: &[RunId],
    verdicts: &[(RunId, Verdict)],
) -> Vec<Pair> {
    let pair = |played: &Played| {
        let expresses = |scenario: &&Scenario| {
            let original = scenario.original.as_ref();
            original.is_some_and(|original| {
                original.script == played.script && original.test == played.case.test
            })
        };
        let scenario = scenarios.iter().find(expresses);
        let name = scenario.map(|scenario| scenario.name.clone());
        let is = |run: &RunId| {
            Some(&run.scenario) == name.as_ref() && run.kernel == kernel && run.arch == arch
        };
        let lab = if skipped.iter().any(is) {
            Word::Skipped
        } else {
            let verdict = verdicts.iter().find(|(run, _)| is(run));
            verdict.map_or(Word::Nothing, |(_, verdict)| Word::of_verdict(verdict))
        };
        Pair {
            case: format!("{}: {}", played.script, played.case.test),
            original: Word::of_ending(&played.case.ending),
            scenario: name,
            lab,
        }
    };
    played.iter().map(pair).collect()
}

/// The pairs of a kernel and an architecture as a table of text, within 100 columns, and the sum.
pub fn table(title: &str, pairs: &[Pair]) -> String {
    let mut text = format!("\n{title}\n  {:<80}{:<10}scenario\n", "case", "original");
    for pair in pairs {
        let mark = if pair.agrees() { ' ' } else { '!' };
        let mut case: String = pair.case.chars().take(78).collect();
        if case.len() < pair.case.len() {
            case.pop();
            case.push('…');
        }
        let (original, lab) = (pair.original.name(), pair.lab.name());
        text += &format!("{mark} {case:<80}{original:<10}{lab}\n");
    }
    let agree = pairs.iter().filter(|pair| pair.agrees()).count();
    text + &format!("  they agree on {agree} of {}\n", pairs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(original: Word, lab: Word) -> Pair {
        Pair {
            case: "test-sysfs.sh: sysfs test".into(),
            scenario: Some("upstream-sysfs".into()),
            original,
            lab,
        }
    }

    #[test]
    fn only_an_original_may_say_nothing() {
        for word in [Word::Ok, Word::NotOk, Word::Skipped] {
            assert!(pair(word, word).agrees());
            assert!(pair(Word::Nothing, word).agrees());
            assert!(!pair(word, Word::Nothing).agrees());
        }
        assert!(!pair(Word::Ok, Word::NotOk).agrees());
        assert!(!pair(Word::NotOk, Word::Ok).agrees());
        assert!(!pair(Word::Skipped, Word::Ok).agrees());
        assert!(!pair(Word::Nothing, Word::Nothing).agrees());
    }

    #[test]
    fn a_table_marks_what_disagrees() {
        let mut long = pair(Word::NotOk, Word::Ok);
        long.case = format!("test-ftrace.sh: {}", "long ".repeat(20));
        let text = table("mainline on x86_64", &[pair(Word::Ok, Word::Ok), long]);
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        insta::assert_snapshot!(text);
    }
}
