// SPDX-License-Identifier: MIT OR Apache-2.0
//! The smallest scenario that still fails in the same manner.
//!
//! The same words are not always the same failure: a function answers with its original's value where a
//! livepatch does not take effect, and also where it was never loaded. So what the failing step did to
//! the functions that it is about must be the same as well ([`Symptom`]); and if the user names a kernel
//! on which the scenario passes, what is left must pass there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::cut;
use super::ddmin::removable;
use super::play::Player;
use super::summary::{Size, shown, sizes};
use super::symptom::Symptom;
use super::units::{self, Stage, Unit};
use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::event::{Events, Phase};
use crate::kernel::Definition;
use crate::plan::{self, Run};
use crate::report::text::{count, one_line};
use crate::runner::manner::Manner;
use crate::runner::run::Ended;
use crate::scenario::{self, Scenario};
use crate::size::Choices;
use crate::verdict::{Outcome, Verdict};
use crate::yaml::{self, Source};

/// How often the later stages come again: what one lets go may free what another one held.
const ROUNDS: usize = 5;

/// What is made smaller.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The scenario's file.
    pub source: &'a Source,
    /// Its name.
    pub name: &'a str,
    /// On which kernel it fails.
    pub kernel: &'a Definition,
    /// On which architecture.
    pub arch: Arch,
    /// On which kernel it passes, if that is to remain so.
    pub passes_on: Option<&'a Definition>,
    /// How often each candidate is played, at most until it fails.
    pub times: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Minimized {
    /// The text of the smaller scenario.
    pub text: String,
    /// How it fails.
    pub manner: Manner,
    /// In how many of the first tries the scenario failed so, and the tries.
    pub seen: (usize, usize),
    /// Its size before and now.
    pub sizes: [Size; 2],
    /// The record of the last run that failed.
    pub record: PathBuf,
    /// Whether the user had enough.
    pub interrupted: bool,
}

/// Makes a scenario smaller. A scenario that is known to fail on the kernel
/// (`expect_failure`) fails.
///
/// # Errors
///
/// It does not fail there, or the lab could not find out.
pub async fn minimize(player: &Player<'_>, subject: &Subject<'_>) -> Result<Minimized> {
    let mut search = Search::begin(player, subject).await?;
    let result = search.all().await;
    let interrupted = match result {
        Ok(()) => false,
        Err(error) if error.blame == Blame::Interrupted => true,
        Err(error) => return Err(error),
    };
    let mut made = Minimized {
        text: search.best.text,
        seen: search.seen,
        sizes: [search.before, search.best.size],
        record: search.best.record,
        manner: search.best.manner,
        interrupted,
    };
    made.text = with_header(subject, &made);
    Ok(made)
}

/// Its text with where it came from as the first comment, after its licence.
fn with_header(subject: &Subject<'_>, made: &Minimized) -> String {
    let text = &*made.text;
    let (licence, rest) = match text.split_once('\n') {
        Some((first, rest)) if first.contains("SPDX-License-Identifier") => (first, rest),
        _ => ("", text),
    };
    let sizes = sizes(made.sizes);
    let (seen, tries) = made.seen;
    let file = Path::new(&subject.source.path);
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    let mut lines = vec![
        format!("Made from {} by `lab minimize`: {sizes}.", one_line(&file)),
        format!("On {} ({}) it ends so:", subject.kernel.name, subject.arch),
        format!("  {}", shown(&made.manner)),
    ];
    if let Some(kernel) = subject.passes_on {
        lines.push(format!("On {} it passes.", kernel.name));
    }
    if tries > 1 {
        lines.push(format!("The original did so in {seen} of {tries} tries."));
    }
    let mut header = String::new();
    if !licence.is_empty() {
        header = format!("{licence}\n#\n");
    }
    for line in lines {
        header += &format!("# {line}\n");
    }
    let rest = rest.trim_start_matches('\n');
    match rest.starts_with('#') {
        true if rest.starts_with("#\n") => header + rest,
        true => header + "#\n" + rest,
        false => header + rest,
    }
}

/// A candidate that failed.
#[derive(Debug, Clone)]
struct Best {
    text: String,
    size: Size,
    manner: Manner,
    record: PathBuf,
}

struct Search<'a> {
    player: &'a Player<'a>,
    subject: &'a Subject<'a>,
    seen: (usize, usize),
    before: Size,
    /// The failure to keep.
    wanted: Manner,
    symptom: Symptom,
    /// The smallest candidate that failed so far.
    best: Best,
    /// Whether what was played failed in the same manner, by what it says.
    known: HashMap<String, bool>,
    /// Candidates that were given a name.
    named: usize,
    /// What is going on.
    round: Option<Round>,
}

/// The candidates of a stage.
struct Round {
    stage: Stage,
    /// Since the first one is played.
    phase: Option<Phase>,
    /// How many are, or were, played.
    played: usize,
    /// How many of them still failed.
    kept: usize,
}

impl Round {
    fn new(stage: Stage) -> Self {
        Self {
            stage,
            phase: None,
            played: 0,
            kept: 0,
        }
    }

    /// Some more are played.
    fn begins(&mut self, candidates: usize, events: &Events) {
        let begin = || events.phase(format!("leave out {}", self.stage.name()));
        let phase = self.phase.get_or_insert_with(begin);
        self.played += candidates;
        let played = u64::try_from(self.played).unwrap_or(u64::MAX);
        phase.progress(played, None, "candidates");
    }
}

impl<'a> Search<'a> {
    /// Finds out how the scenario fails.
    async fn begin(player: &'a Player<'a>, subject: &'a Subject<'a>) -> Result<Self> {
        let text = &subject.source.text;
        let unusable = || Error::lab(format!("{} cannot be taken apart", subject.source.path));
        let root = yaml::parse(subject.source).map_err(|_| unusable())?;
        let marks = units::marks(&root);
        let text = match marks.is_empty() {
            true => text.clone(),
            false => cut::without(text, &marks).ok_or_else(unusable)?,
        };
        let scenario = parse(subject, "candidate", &text).ok_or_else(unusable)?;
        requirements(subject, &scenario, &player.how.sizes)?;
        let size = Size::of(&scenario, &text);
        let phase = player.ctx.events.phase(format!("play {}", subject.name));
        let first = [named(&scenario, "candidate-0")];
        let ended = play(player, subject, subject.kernel, &first).await?;
        let failed: Vec<_> = ended.iter().filter(|ended| fails(&ended.verdict)).collect();
        let Some(first) = failed.first() else {
            return Err(nothing_to_keep(subject, &ended));
        };
        let wanted = Manner::of(&first.verdict);
        let symptom = Symptom::of(first);
        let same = failed
            .iter()
            .filter(|ended| wanted.is_like(&Manner::of(&ended.verdict)));
        let seen = (same.count(), ended.len());
        phase.done(format!("played {}: {}", subject.name, shown(&wanted)));
        if let Some(kernel) = subject.passes_on {
            must_pass(player, subject, kernel, &scenario).await?;
        }
        let best = Best {
            text: text.clone(),
            size,
            manner: wanted.clone(),
            record: first.record.clone(),
        };
        player.forget(&[&best.record]);
        let known = cut::content(&text).map(|content| (content.to_string(), true));
        Ok(Self {
            player,
            subject,
            seen,
            before: Size::of(&scenario, &subject.source.text),
            wanted,
            symptom,
            best,
            known: known.into_iter().collect(),
            named: 0,
            round: None,
        })
    }

    async fn all(&mut self) -> Result<()> {
        for stage in Stage::FIRST {
            self.stage(stage).await?;
        }
        for _ in 0..ROUNDS {
            let before = self.best.text.clone();
            for stage in Stage::AGAIN {
                self.stage(stage).await?;
            }
            if self.best.text == before {
                break;
            }
        }
        Ok(())
    }

    async fn stage(&mut self, stage: Stage) -> Result<()> {
        let base = self.best.text.clone();
        let source = Source::new(self.subject.source.path.clone(), base.clone());
        let scenario = parse(self.subject, "candidate", &base);
        let (Ok(root), Some(scenario)) = (yaml::parse(&source), scenario) else {
            return Err(Error::lab("a candidate that was played cannot be read"));
        };
        let failing = self.best.manner.failing.as_ref();
        let failing = failing.map_or(usize::MAX, |failing| failing.step);
        let units = stage.units(&root, &scenario, failing);
        if units.is_empty() {
            return Ok(());
        }
        let before = self.best.size;
        self.round = Some(Round::new(stage));
        let width = self.player.how.jobs / self.subject.times.max(1);
        let still = async |candidates: Vec<Vec<usize>>| {
            let texts = candidates.iter().map(|gone| {
                let unit = |&index: &usize| units[index].iter().cloned();
                let paths: Unit = gone.iter().flat_map(unit).collect();
                cut::without(&base, &paths)
            });
            self.ask(texts.collect()).await
        };
        removable(units.len(), width, still).await?;
        // Without a phase, all that there was to ask was known.
        if let Some(Round {
            phase: Some(phase),
            played,
            kept,
            ..
        }) = self.round.take()
        {
            let (sizes, played) = (sizes([before, self.best.size]), count(played, "candidate"));
            let name = stage.name();
            phase.done(format!(
                "{name}: {sizes}; {played} played, {kept} still failed"
            ));
        }
        Ok(())
    }

    /// Whether candidates fail in the same manner. What is no scenario is not played, and nothing
    /// is played twice.
    async fn ask(&mut self, texts: Vec<Option<String>>) -> Result<Vec<bool>> {
        let sizes = &self.player.how.sizes;
        let keys: Vec<_> = texts.iter().map(|text| key(text.as_deref())).collect();
        let mut new: BTreeMap<&str, (&str, Scenario)> = BTreeMap::new();
        for (text, key) in texts.iter().zip(&keys) {
            let (Some(text), Some(key)) = (text, key) else {
                continue;
            };
            if self.known.contains_key(key) || new.contains_key(key.as_str()) {
                continue;
            }
            self.named += 1;
            let name = format!("candidate-{}", self.named);
            match parse(self.subject, &name, text) {
                Some(scenario) if requirements(self.subject, &scenario, sizes).is_ok() => {
                    new.insert(key, (text, scenario));
                }
                _ => drop(self.known.insert(key.clone(), false)),
            }
        }
        let scenarios: Vec<_> = new.values().map(|(_, scenario)| scenario.clone()).collect();
        let mut ended = Vec::new();
        if !scenarios.is_empty() {
            if let Some(round) = &mut self.round {
                round.begins(scenarios.len(), &self.player.ctx.events);
            }
            let Subject { kernel, .. } = self.subject;
            ended = play(self.player, self.subject, kernel, &scenarios).await?;
        }
        let same = |ended: &&Ended| {
            let manner = Manner::of(&ended.verdict);
            self.wanted.is_like(&manner) && self.symptom.is_in(&Symptom::of(ended))
        };
        let mut failed: BTreeMap<&str, &Ended> = BTreeMap::new();
        for scenario in &scenarios {
            let mut tries = ended.iter().filter(|ended| is_of(ended, &scenario.name));
            if let Some(ended) = tries.find(same) {
                failed.insert(&scenario.name, ended);
            }
        }
        if let Some(kernel) = self.subject.passes_on {
            let candidates = scenarios.iter().filter(|it| failed.contains_key(&*it.name));
            let candidates: Vec<_> = candidates.cloned().collect();
            if !candidates.is_empty() {
                let there = play(self.player, self.subject, kernel, &candidates).await?;
                let passes = |name: &str| {
                    let mut tries = there.iter().filter(|ended| is_of(ended, name));
                    tries.all(|ended| ended.verdict.outcome == Outcome::Passed)
                };
                failed.retain(|name, _| passes(name));
            }
        }
        for (key, (text, scenario)) in new {
            let failed = failed.get(&*scenario.name);
            self.known.insert(key.to_owned(), failed.is_some());
            let Some(failed) = failed else { continue };
            if let Some(round) = &mut self.round {
                round.kept += 1;
            }
            let size = Size::of(&scenario, text);
            if (size, text.len()) < (self.best.size, self.best.text.len()) {
                self.best = Best {
                    text: text.to_owned(),
                    size,
                    manner: Manner::of(&failed.verdict),
                    record: failed.record.clone(),
                };
            }
        }
        self.player.forget(&[&self.best.record]);
        let known = |key: &Option<String>| key.as_ref().is_some_and(|key| self.known[key]);
        Ok(keys.iter().map(known).collect())
    }
}

/// What a candidate is known by.
fn key(text: Option<&str>) -> Option<String> {
    Some(cut::content(text?)?.to_string())
}

/// A text as a scenario, unless it has mistakes.
fn parse(subject: &Subject<'_>, name: &str, text: &str) -> Option<Scenario> {
    // Paths in it are relative to the file's folder.
    let source = Source::new(subject.source.path.clone(), text);
    scenario::parse(name, &source).ok()
}

fn named(scenario: &Scenario, name: &str) -> Scenario {
    Scenario {
        name: name.to_owned(),
        ..scenario.clone()
    }
}

/// The kernels must have what the scenario needs.
fn requirements(subject: &Subject<'_>, scenario: &Scenario, sizes: &Choices) -> Result<()> {
    let scenarios = std::slice::from_ref(scenario);
    let kernels: Vec<_> = [Some(subject.kernel), subject.passes_on]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let plan = plan::plan(scenarios, &kernels, &[subject.arch], sizes);
    match plan.skipped.first() {
        None => Ok(()),
        Some(skipped) => {
            let (name, kernel) = (subject.name, &skipped.run.kernel);
            let what = format!("{name} cannot be played on {kernel}: {}", skipped.reason);
            Err(Error::new(Blame::Usage, what).help("name another kernel with --kernel"))
        }
    }
}

/// Plays each scenario as often as it is to be played.
async fn play(
    player: &Player<'_>,
    subject: &Subject<'_>,
    kernel: &Definition,
    scenarios: &[Scenario],
) -> Result<Vec<Ended>> {
    let again = scenarios.iter().flat_map(|scenario| {
        let numbers = 1..=subject.times;
        numbers.map(move |number| match number {
            1 => scenario.clone(),
            number => named(scenario, &format!("{}-again-{number}", scenario.name)),
        })
    });
    let again: Vec<Scenario> = again.collect();
    let run = |scenario| Run {
        scenario,
        kernel,
        arch: subject.arch,
        choice: player.how.sizes.first(),
    };
    player.play(again.iter().map(run).collect()).await
}

/// The scenario has to pass on the other kernel, or else no candidate could.
async fn must_pass(
    player: &Player<'_>,
    subject: &Subject<'_>,
    kernel: &Definition,
    scenario: &Scenario,
) -> Result<()> {
    let ended = play(player, subject, kernel, &[named(scenario, "candidate-0")]).await?;
    let Some(fails) = ended
        .iter()
        .find(|ended| ended.verdict.outcome != Outcome::Passed)
    else {
        return Ok(());
    };
    let (name, kernel) = (subject.name, &kernel.name);
    let manner = shown(&Manner::of(&fails.verdict));
    let what = format!("{name} does not pass on {kernel}: {manner}");
    Err(Error::new(Blame::Usage, what).help("name a kernel without the defect with --passes-on"))
}

/// Whether it is a run of the scenario with this name.
fn is_of(ended: &Ended, name: &str) -> bool {
    let run = &ended.run.scenario;
    run == name || run.starts_with(&format!("{name}-again-"))
}

/// Whether there is something to keep: a flaky run has failed and passed.
fn fails(verdict: &Verdict) -> bool {
    verdict.outcome.is_settled() && !matches!(verdict.outcome, Outcome::Passed | Outcome::Flaky)
}

fn nothing_to_keep(subject: &Subject<'_>, ended: &[Ended]) -> Error {
    let (name, kernel, arch) = (subject.name, &subject.kernel.name, subject.arch);
    let infra = ended
        .iter()
        .find(|ended| matches!(ended.verdict.outcome, Outcome::Infra | Outcome::TimedOut));
    if let Some(ended) = infra {
        let blame = ended.verdict.blame.unwrap_or(Blame::Lab);
        let what = format!("{name} could not be played on {kernel} ({arch})");
        let reasons = ended.verdict.reasons.join("\n");
        return Error::new(blame, what).evidence(&reasons);
    }
    let flaky = ended
        .iter()
        .filter(|ended| ended.verdict.outcome == Outcome::Flaky);
    let tries = match ended.len() {
        1 => "one try".to_owned(),
        tries => format!("{tries} tries"),
    };
    let what = match flaky.count() {
        0 => format!("{name} passes on {kernel} ({arch}) in {tries}: there is no failure to keep"),
        _ => format!(
            "{name} fails only sometimes on {kernel} ({arch}): it passed when it was repeated"
        ),
    };
    Error::new(Blame::Usage, what).help(
        "name the kernel on which it fails with --kernel; with --times N each candidate gets N \
         tries. A difference from the snapshot is no failure here",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_met_is_no_failure_to_keep() {
        let of = |outcome| Verdict::against(outcome, Blame::Kernel, "x");
        assert!(fails(&of(Outcome::Hung)) && fails(&of(Outcome::StalledTransition)));
        for outcome in [
            Outcome::TimedOut,
            Outcome::Infra,
            Outcome::Cancelled,
            Outcome::Passed,
        ] {
            assert!(!fails(&of(outcome)), "{outcome:?}");
        }
    }
}
