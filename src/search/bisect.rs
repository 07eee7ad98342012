// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commit of a history, or the patch of a series, from which on a scenario behaves otherwise.

use std::fmt::Write;
use std::path::PathBuf;

use super::compare::states;
use super::play::Player;
use super::summary::shown as in_one_line;
use crate::arch::Arch;
use crate::error::{Blame, Error, IoContext, Result};
use crate::files;
use crate::kernel::Definition;
use crate::plan::{self, Run};
use crate::report::text::{count, one_line};
use crate::runner::manner::Manner;
use crate::runner::run::Ended;
use crate::scenario::Scenario;
use crate::state::{Observed, diff};
use crate::verdict::{Outcome, Verdict};

/// Lines of a difference that are shown.
const DIFF_MAX: usize = 60;

/// What to search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The first that fails.
    Bad,
    /// The first that passes.
    Good,
}

/// What a kernel does with the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It passes.
    Good,
    /// It fails in the manner that is looked for.
    Bad,
    /// It cannot be said, and why: what does not build or boot, or fails otherwise.
    Skip(String),
}

impl Said {
    /// In a log, as git calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Said::Good => "good",
            Said::Bad => "bad",
            Said::Skip(_) => "skip",
        }
    }
}

/// A revision that was tested.
#[derive(Debug, Clone)]
pub struct Tested {
    /// Which: a commit, or how many patches.
    pub revision: String,
    /// What it does.
    pub said: Said,
    /// All states after its steps, as the text of a run.
    pub observed: String,
}

/// Plays the scenario on one kernel after the other, and remembers.
#[derive(Debug)]
pub struct Judge<'a> {
    /// Who plays.
    pub player: &'a Player<'a>,
    scenario: Scenario,
    arch: Arch,
    times: usize,
    /// How it fails at the bad end.
    wanted: Option<Manner>,
    /// All that was tested, in this order.
    pub tested: Vec<Tested>,
}

/// How the tries on a kernel ended.
enum Tries {
    Pass,
    Fail(Manner),
    Nothing(String),
}

impl Tries {
    /// What one run says of its kernel.
    ///
    /// # Errors
    ///
    /// What failed in the lab itself or its host, or the user's interruption: the next kernel would say
    /// the same.
    fn of(verdict: &Verdict) -> Result<Self> {
        Ok(match verdict.outcome {
            Outcome::Passed => Tries::Pass,
            Outcome::Infra => {
                let reason = verdict.reasons.first().map_or("", String::as_str);
                let blame = verdict.blame.unwrap_or(Blame::Lab);
                // Of these, the next revision would say the same.
                if matches!(
                    blame,
                    Blame::Host | Blame::Lab | Blame::Interrupted | Blame::Usage
                ) {
                    let mut error = Error::new(blame, reason);
                    error.help.clone_from(&verdict.help);
                    return Err(error);
                }
                let evidence = verdict.evidence.first();
                let why = evidence.and_then(|evidence| evidence.text.lines().next());
                let why = why.map_or(String::new(), |why| format!(": {why}"));
                Tries::Nothing(one_line(&format!("{reason}{why}")))
            }
            Outcome::Cancelled => return Err(Error::interrupted()),
            Outcome::TimedOut => {
                let reason = verdict.reasons.first().map_or("", String::as_str);
                Tries::Nothing(one_line(&format!("it timed out: {reason}")))
            }
            Outcome::Flaky => Tries::Nothing("it fails and passes in turn".to_owned()),
            _ => Tries::Fail(Manner::of(verdict)),
        })
    }
}

impl<'a> Judge<'a> {
    /// A judge who plays the scenario `times` times on each kernel. Its known defects are none here:
    /// that it fails is what the search is about.
    pub fn new(player: &'a Player<'a>, scenario: &Scenario, arch: Arch, times: usize) -> Self {
        let mut scenario = scenario.clone();
        scenario.expect_failure.clear();
        Self {
            player,
            scenario,
            arch,
            times: times.max(1),
            wanted: None,
            tested: Vec::new(),
        }
    }

    /// How it fails at the bad end, in one line.
    pub fn wanted(&self) -> String {
        self.wanted.as_ref().map_or_else(String::new, in_one_line)
    }

    /// Makes sure that an end is what it was said to be: good or bad. The bad one comes first, and
    /// how it fails is what is looked for.
    ///
    /// # Errors
    ///
    /// It is not, or the lab could not find out.
    pub async fn end(
        &mut self,
        said: Said,
        revision: &str,
        shown: &str,
        kernel: &Definition,
    ) -> Result<()> {
        let (tries, observed) = self.try_on(shown, kernel).await?;
        let otherwise = match (tries, &said) {
            (Tries::Pass, Said::Good) => None,
            (Tries::Pass, _) => Some("it passes there".to_owned()),
            (Tries::Fail(manner), Said::Bad) => {
                self.wanted = Some(manner);
                None
            }
            (Tries::Fail(manner), _) => Some(in_one_line(&manner)),
            (Tries::Nothing(why), _) => Some(why),
        };
        if let Some(what) = otherwise {
            return Err(self.not_so(shown, said.name(), &what));
        }
        self.remember(revision, said, observed);
        Ok(())
    }

    /// What a kernel between them does.
    ///
    /// # Errors
    ///
    /// What failed in the lab itself or its host, or the user's interruption.
    pub async fn judge(
        &mut self,
        revision: &str,
        shown: &str,
        kernel: &Definition,
    ) -> Result<Said> {
        let (tries, observed) = self.try_on(shown, kernel).await?;
        let said = match tries {
            Tries::Pass => Said::Good,
            Tries::Fail(manner) if self.wanted.as_ref().is_some_and(|it| it.is_like(&manner)) => {
                Said::Bad
            }
            Tries::Fail(manner) => {
                Said::Skip(format!("it fails otherwise: {}", in_one_line(&manner)))
            }
            Tries::Nothing(why) => Said::Skip(why),
        };
        self.remember(revision, said.clone(), observed);
        Ok(said)
    }

    fn remember(&mut self, revision: &str, said: Said, observed: String) {
        self.tested.push(Tested {
            revision: revision.to_owned(),
            said,
            observed,
        });
    }

    fn not_so(&self, shown: &str, end: &str, what: &str) -> Error {
        let name = &self.scenario.name;
        let what = format!("{shown} is not {end} for {name}: {what}");
        let records = files::shown(&self.player.records);
        Error::new(Blame::Usage, one_line(&what))
            .evidence(&format!("records: {records}"))
            .help("the scenario has to pass at --good and to fail at --bad")
    }

    async fn try_on(&self, shown: &str, kernel: &Definition) -> Result<(Tries, String)> {
        let events = &self.player.ctx.events;
        let phase = events.phase(format!("test {shown}"));
        let scenarios: Vec<_> = (1..=self.times)
            .map(|number| self.numbered(number))
            .collect();
        let kernels = std::slice::from_ref(kernel);
        let sizes = &self.player.how.sizes;
        let plan = plan::plan(&scenarios, kernels, &[self.arch], sizes);
        if let Some(skipped) = plan.skipped.first() {
            let (name, reason) = (&self.scenario.name, &skipped.reason);
            let what = format!("{name} cannot be played there: {reason}");
            return Err(Error::new(Blame::Usage, what).help("name another kernel with --kernel"));
        }
        let run = |scenario| Run {
            scenario,
            kernel,
            arch: self.arch,
            choice: sizes.first(),
        };
        let ended = self
            .player
            .play(scenarios.iter().map(run).collect())
            .await?;
        let (tries, record) = self.sum_up(&ended)?;
        let how = match &tries {
            Tries::Pass => "passes".to_owned(),
            Tries::Fail(manner) => in_one_line(manner),
            Tries::Nothing(why) => why.clone(),
        };
        phase.done(format!("tested {shown}: {how}"));
        let states = record.map_or_else(Vec::new, |record| {
            states(&record, self.scenario.steps.len())
        });
        Ok((tries, self.run_text(&states)))
    }

    fn numbered(&self, number: usize) -> Scenario {
        let mut scenario = self.scenario.clone();
        if number > 1 {
            scenario.name = format!("{}-{number}", scenario.name);
        }
        scenario
    }

    /// All tries as one: it fails if one of them does, in the manner that is looked for if there is
    /// one of these.
    fn sum_up(&self, ended: &[Ended]) -> Result<(Tries, Option<PathBuf>)> {
        let mut sum: Option<(Tries, Option<PathBuf>)> = None;
        for ended in ended {
            let (verdict, record) = (&ended.verdict, Some(ended.record.clone()));
            let tries = Tries::of(verdict)?;
            let is_wanted = |tries: &Tries| match (tries, &self.wanted) {
                (Tries::Fail(manner), Some(wanted)) => wanted.is_like(manner),
                _ => false,
            };
            let rank = |tries: &Tries| match tries {
                tries if is_wanted(tries) => 3,
                Tries::Fail(_) => 2,
                Tries::Nothing(_) => 1,
                Tries::Pass => 0,
            };
            if sum
                .as_ref()
                .is_none_or(|(so_far, _)| rank(&tries) > rank(so_far))
            {
                sum = Some((tries, record));
            }
        }
        sum.ok_or_else(|| Error::lab("a run has no verdict"))
    }

    fn run_text(&self, states: &[Observed]) -> String {
        let steps = self.scenario.steps.iter().zip(states).enumerate();
        let text = steps.map(|(index, (step, state))| {
            format!(
                "step {}: {}\n{}",
                index + 1,
                step.action.label(),
                state.text()
            )
        });
        text.collect()
    }

    fn observed(&self, revision: &str) -> Option<&str> {
        let mut tested = self
            .tested
            .iter()
            .filter(|tested| tested.revision == revision);
        tested.next_back().map(|tested| tested.observed.as_str())
    }

    /// How the states differ between two revisions that were tested.
    pub fn difference(&self, before: &str, with: &str) -> Option<String> {
        Some(diff::render(self.observed(before)?, self.observed(with)?))
    }

    /// How many of the revisions said nothing.
    pub fn skipped(&self) -> usize {
        let skips = |tested: &&Tested| matches!(tested.said, Said::Skip(_));
        self.tested.iter().filter(skips).count()
    }

    /// Keeps a log beside the records.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write_log(&self, text: &str) -> Result<PathBuf> {
        let path = self.player.records.join("bisect.log");
        crate::cache::write_atomically(&path, text.as_bytes()).map(|()| path)
    }
}

/// A commit or a patch, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The commit's name, or the patch's file.
    pub id: String,
    /// Its first line.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub date: String,
}

/// What came of a search.
#[derive(Debug, Clone)]
pub struct Found {
    /// What was looked for.
    pub first: First,
    /// `commit` or `patch`.
    pub kind: &'static str,
    /// The change, or those of which one is it.
    pub changes: Vec<Change>,
    /// How it fails where it fails.
    pub manner: String,
    /// How the states differ with it; `None` if what is before it was not tested.
    pub difference: Option<String>,
    /// The log, and what it is good for.
    pub log: String,
    /// How much work it was.
    pub effort: String,
}

impl Found {
    /// For people.
    pub fn render(&self) -> String {
        let (how, kind) = match self.first {
            First::Bad => ("bad", self.kind),
            First::Good => ("good", self.kind),
        };
        let mut text = String::new();
        match &self.changes[..] {
            [change] => {
                let _ = writeln!(text, "first {how} {kind}: {}", one_line(&change.id));
                let _ = writeln!(text, "  {}", one_line(&change.subject));
                let _ = writeln!(
                    text,
                    "  {}, {}",
                    one_line(&change.author),
                    one_line(&change.date)
                );
            }
            changes => {
                let _ = writeln!(
                    text,
                    "the first {how} {kind} is one of these {}, most of which could not be tested:",
                    changes.len()
                );
                for change in changes {
                    let id: String = change.id.chars().take(12).collect();
                    let id = if self.kind == "commit" {
                        id
                    } else {
                        change.id.clone()
                    };
                    let _ = writeln!(text, "  {} {}", one_line(&id), one_line(&change.subject));
                }
            }
        }
        let without = match self.first {
            First::Bad => "with it",
            First::Good => "before it",
        };
        let _ = writeln!(text, "{without}: {}", self.manner);
        match &self.difference {
            Some(difference) if difference.is_empty() => {
                text += "the states are equal before it and with it\n";
            }
            Some(difference) => {
                text += "states by step (- before it, + with it)\n";
                let lines: Vec<_> = difference.lines().collect();
                for line in lines.iter().take(DIFF_MAX) {
                    let _ = writeln!(text, "{line}");
                }
                if lines.len() > DIFF_MAX {
                    let more = count(lines.len() - DIFF_MAX, "more line");
                    let _ = writeln!(text, "  … {more}");
                }
            }
            None => {}
        }
        let _ = writeln!(text, "log: {}", self.log);
        let _ = writeln!(text, "{}", self.effort);
        text
    }
}

/// A folder for the patches of a kernel that has not all of them.
pub(super) fn make_dir(path: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(path).at("create", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_met_says_nothing_of_a_kernel() {
        let of = |outcome| Tries::of(&Verdict::against(outcome, Blame::Limit, "it took longer"));
        assert!(matches!(of(Outcome::Hung), Ok(Tries::Fail(_))));
        let Ok(Tries::Nothing(why)) = of(Outcome::TimedOut) else {
            panic!("it says something");
        };
        assert_eq!(why, "it timed out: it took longer");
    }

    fn found(changes: &[(&str, &str)]) -> Found {
        let change = |(id, subject): &(&str, &str)| Change {
            id: (*id).to_owned(),
            subject: (*subject).to_owned(),
            author: "Jane Doe <jane@example.org>".to_owned(),
            date: "2026-01-02".to_owned(),
        };
        Found {
            first: First::Bad,
            kind: "commit",
            changes: changes.iter().map(change).collect(),
            manner: "failed at step 3 (load v2): shop.stock answers 20, not 21".to_owned(),
            difference: Some(
                "  step 3: load v2\n-   call shop.stock: 21\n+   call shop.stock: 20\n".into(),
            ),
            log: ".lab/bisect/x/bisect.log (git bisect replay)".to_owned(),
            effort: "5 revisions tested".to_owned(),
        }
    }

    #[test]
    fn the_first_bad_commit_is_shown_with_what_it_changes() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let one = found(&[(id, "livepatch: Break\u{1b}[2J it")]);
        insta::assert_snapshot!(one.render(), @r"
        first bad commit: 0123456789abcdef0123456789abcdef01234567
          livepatch: Break\u{1b}[2J it
          Jane Doe <jane@example.org>, 2026-01-02
        with it: failed at step 3 (load v2): shop.stock answers 20, not 21
        states by step (- before it, + with it)
          step 3: load v2
        -   call shop.stock: 21
        +   call shop.stock: 20
        log: .lab/bisect/x/bisect.log (git bisect replay)
        5 revisions tested
        ");
    }

    #[test]
    fn several_are_named_if_it_may_be_any_of_them() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let mut several = found(&[(id, "Does not build"), (id, "Is built again")]);
        several.difference = None;
        several.first = First::Good;
        insta::assert_snapshot!(several.render(), @r"
        the first good commit is one of these 2, most of which could not be tested:
          0123456789ab Does not build
          0123456789ab Is built again
        before it: failed at step 3 (load v2): shop.stock answers 20, not 21
        log: .lab/bisect/x/bisect.log (git bisect replay)
        5 revisions tested
        ");
    }
}
