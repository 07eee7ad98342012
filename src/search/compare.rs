// SPDX-License-Identifier: MIT OR Apache-2.0
//! How kernels behave with the same scenario: where they begin to differ, step by step.

use std::fmt::Write;
use std::path::Path;

use super::play::Player;
use super::side_by_side;
use crate::arch::Arch;
use crate::error::Result;
use crate::kernel::Definition;
use crate::plan;
use crate::report::text::one_line;
use crate::runner::manner::Manner;
use crate::runner::record;
use crate::runner::run::Ended;
use crate::scenario::Scenario;
use crate::state::Observed;
use crate::verdict::{Outcome, Verdict};

/// The digits of a kernel's key in its release.
const KEY_DIGITS: usize = 12;

/// A scenario on several kernels.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The scenario.
    pub scenario: String,
    /// The architecture of the guests.
    pub arch: Arch,
    /// What its steps do.
    pub labels: Vec<String>,
    /// The kernels, in the order in which they were named.
    pub columns: Vec<Column>,
    /// The kernels that it was not played on, with the reasons.
    pub skipped: Vec<(String, String)>,
}

/// A scenario on one of them.
#[derive(Debug, Clone)]
pub struct Column {
    /// The kernel.
    pub kernel: String,
    /// How it ended.
    pub outcome: Outcome,
    /// In which manner, as far as it does not pass.
    pub manner: String,
    /// The states after the steps that were reached.
    pub states: Vec<Observed>,
}

/// Plays scenarios on kernels.
///
/// # Errors
///
/// What failed in the lab itself, or the user's interruption.
pub async fn compare(
    player: &Player<'_>,
    scenarios: &[Scenario],
    kernels: &[Definition],
    archs: &[Arch],
) -> Result<Vec<Comparison>> {
    let plan = plan::plan(scenarios, kernels, archs, &player.how.sizes);
    let ended = player.play(plan.runs.clone()).await?;
    let mut comparisons = Vec::new();
    for scenario in scenarios {
        for &arch in archs {
            let is_of = |run: &crate::event::RunId, kernel: &Definition| {
                (&run.scenario, &run.kernel, run.arch) == (&scenario.name, &kernel.name, arch)
            };
            let column = |kernel: &Definition| {
                let ended = ended.iter().find(|ended| is_of(&ended.run, kernel))?;
                Some(column(scenario, ended))
            };
            let skipped = |kernel: &Definition| {
                let skipped = plan.skipped.iter().find(|skip| is_of(&skip.run, kernel))?;
                Some((kernel.name.clone(), skipped.reason.clone()))
            };
            comparisons.push(Comparison {
                scenario: scenario.name.clone(),
                arch,
                labels: scenario
                    .steps
                    .iter()
                    .map(|step| step.action.label())
                    .collect(),
                columns: kernels.iter().filter_map(column).collect(),
                skipped: kernels.iter().filter_map(skipped).collect(),
            });
        }
    }
    Ok(comparisons)
}

fn column(scenario: &Scenario, ended: &Ended) -> Column {
    let verdict = &ended.verdict;
    Column {
        kernel: ended.run.kernel.clone(),
        outcome: verdict.outcome,
        manner: manner(verdict),
        states: states(&ended.record, scenario.steps.len()),
    }
}

/// How a run ended that did not pass, in one line.
fn manner(verdict: &Verdict) -> String {
    match verdict.outcome {
        Outcome::Passed => String::new(),
        Outcome::Infra | Outcome::TimedOut => {
            one_line(verdict.reasons.first().map_or("", String::as_str))
        }
        _ => one_line(&Manner::of(verdict).details()),
    }
}

/// The states of a run's record, as far as it got.
pub fn states(record: &Path, steps: usize) -> Vec<Observed> {
    record::states(record, steps, comparable)
}

/// A state without what differs from kernel to kernel whatever they do: the key in the release.
fn comparable(state: &str) -> String {
    let mark = "-lab-";
    let mut text = String::new();
    let mut rest = state;
    while let Some(at) = rest.find(mark) {
        let (before, after) = rest.split_at(at + mark.len());
        text += before;
        let is_digit = |c: &u8| c.is_ascii_digit() || (b'a'..=b'f').contains(c);
        let digits = after
            .bytes()
            .take(KEY_DIGITS)
            .take_while(|c| is_digit(c))
            .count();
        rest = match digits {
            KEY_DIGITS => {
                text.push_str("<key>");
                &after[digits..]
            }
            _ => after,
        };
    }
    text + rest
}

impl Comparison {
    /// Those that have something to compare.
    fn played(&self) -> Vec<&Column> {
        let played = |column: &&Column| !is_unknown(column.outcome);
        self.columns.iter().filter(played).collect()
    }

    /// Whether there are two kernels to compare.
    pub fn is_one(&self) -> bool {
        self.played().len() >= 2
    }

    /// Whether the kernels behave in the same way.
    pub fn is_same(&self) -> bool {
        self.different_steps().is_empty() && self.same_verdicts()
    }

    fn same_verdicts(&self) -> bool {
        // An expected failure is one: what is expected is the scenario's word, not the kernel's.
        let how = |column: &Column| match column.outcome {
            Outcome::ExpectedFailure => (Outcome::Failed, column.manner.clone()),
            outcome => (outcome, column.manner.clone()),
        };
        let played = self.played();
        let mut verdicts = played.windows(2);
        verdicts.all(|pair| how(pair[0]) == how(pair[1]))
    }

    /// The steps after which the states differ, from 0.
    fn different_steps(&self) -> Vec<usize> {
        let played = self.played();
        let differs = |&step: &usize| {
            let mut states = played.windows(2);
            states.any(|pair| pair[0].states.get(step) != pair[1].states.get(step))
        };
        (0..self.labels.len()).filter(differs).collect()
    }

    /// For people: the verdicts, and the first step after which the states differ, or `all` of them.
    pub fn render(&self, all: bool) -> String {
        let mut text = format!("{} ({})\n", self.scenario, self.arch);
        let names = self.columns.iter().map(|column| &column.kernel);
        let names = names.chain(self.skipped.iter().map(|(kernel, _)| kernel));
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
        for column in &self.columns {
            let Column { kernel, manner, .. } = column;
            let outcome = column.outcome.name();
            let colon = if manner.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "  {kernel:width$}  {outcome}{colon}{manner}");
        }
        for (kernel, reason) in &self.skipped {
            let _ = writeln!(text, "  {kernel:width$}  not played: {reason}");
        }
        if !self.is_one() {
            return text + "  there is nothing to compare\n";
        }
        let different = self.different_steps();
        let Some((first, more)) = different.split_first() else {
            text += match self.same_verdicts() {
                true => "  the states are equal after each step\n",
                false => "  the states are equal after each step, the verdicts are not\n",
            };
            return text;
        };
        let mut equal_from = 0;
        for &step in &different {
            if step > *first && !all {
                break;
            }
            text += &equal(equal_from, step);
            text += &self.render_step(step);
            equal_from = step + 1;
        }
        if all {
            text += &equal(equal_from, self.labels.len());
        } else if !more.is_empty() {
            let steps: Vec<_> = more.iter().map(|step| (step + 1).to_string()).collect();
            let steps = match &steps[..] {
                [one] => format!("step {one}"),
                steps => format!("steps {}", steps.join(", ")),
            };
            let _ = writeln!(text, "  they differ after {steps} as well (--all shows it)");
        }
        text
    }

    fn render_step(&self, step: usize) -> String {
        let mut text = format!("  step {} ({}): different\n", step + 1, self.labels[step]);
        let played = self.played();
        let names: Vec<_> = played.iter().map(|column| &*column.kernel).collect();
        let state = |column: &&Column| match column.states.get(step) {
            Some(state) => state.lines(),
            None => "(not reached)".to_owned(),
        };
        let states: Vec<_> = played.iter().map(state).collect();
        let states: Vec<_> = states.iter().map(String::as_str).collect();
        for line in side_by_side::render(&names, &states).lines() {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// A line for the steps from `from` up to `to` after which the states are equal.
fn equal(from: usize, to: usize) -> String {
    match to - from {
        0 => String::new(),
        1 => format!("  step {to}: equal\n"),
        _ => format!("  steps {} to {to}: equal\n", from + 1),
    }
}

/// Whether any of the runs could not be played.
pub fn any_infra(comparisons: &[Comparison]) -> bool {
    let mut columns = comparisons
        .iter()
        .flat_map(|comparison| &comparison.columns);
    columns.any(|column| is_unknown(column.outcome))
}

/// Whether it says nothing about the kernel: it could not be played, or met a limit.
fn is_unknown(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Infra | Outcome::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Names;

    fn column(kernel: &str, outcome: Outcome, manner: &str, states: &[&str]) -> Column {
        Column {
            kernel: kernel.to_owned(),
            outcome,
            manner: manner.to_owned(),
            states: states.iter().map(|dump| parsed(dump)).collect(),
        }
    }

    fn comparison(columns: Vec<Column>) -> Comparison {
        Comparison {
            scenario: "tagged-window".to_owned(),
            arch: Arch::X86_64,
            labels: ["load shop", "load v1", "load v2", "release shop.price"]
                .map(str::to_owned)
                .into(),
            columns,
            skipped: vec![(
                "mainline".to_owned(),
                "it requires replace: tags".to_owned(),
            )],
        }
    }

    fn parsed(dump: &str) -> Observed {
        Observed::parse(dump, &Names::default()).unwrap()
    }

    const SHOP: &str = "module\tshop 16384 0\ncall\tshop\tprice\t10\n";
    const V1: &str = "module\tshop 16384 0\ncall\tshop\tprice\t11\ncall\tshop\tstock\t21\n";

    #[test]
    fn the_first_difference_is_shown_and_the_others_are_named() {
        let bad = V1.replace("stock\t21", "stock\t20");
        let good = column("tags", Outcome::Passed, "", &[SHOP, V1, V1, V1]);
        let manner = "at step 3 (load v2): shop.stock answers 20, not 21";
        let fails = column(
            "rfc",
            Outcome::ExpectedFailure,
            manner,
            &[SHOP, V1, &bad, &bad],
        );
        let comparison = comparison(vec![good, fails]);
        assert!(!comparison.is_same());
        insta::assert_snapshot!(comparison.render(false), @r"
        tagged-window (x86_64)
          tags      passed
          rfc       expected failure: at step 3 (load v2): shop.stock answers 20, not 21
          mainline  not played: it requires replace: tags
          steps 1 to 2: equal
          step 3 (load v2): different
            tags                 rfc
            …
            call shop.price: 11
          ! call shop.stock: 21  call shop.stock: 20
          they differ after step 4 as well (--all shows it)
        ");
        insta::assert_snapshot!(comparison.render(true), @r"
        tagged-window (x86_64)
          tags      passed
          rfc       expected failure: at step 3 (load v2): shop.stock answers 20, not 21
          mainline  not played: it requires replace: tags
          steps 1 to 2: equal
          step 3 (load v2): different
            tags                 rfc
            …
            call shop.price: 11
          ! call shop.stock: 21  call shop.stock: 20
          step 4 (release shop.price): different
            tags                 rfc
            …
            call shop.price: 11
          ! call shop.stock: 21  call shop.stock: 20
        ");
    }

    #[test]
    fn a_kernel_that_did_not_get_as_far_is_different() {
        let good = column("tags", Outcome::Passed, "", &[SHOP, V1, V1, V1]);
        let lost = column("rfc", Outcome::Panicked, "at step 3 (load v2)", &[SHOP, V1]);
        insta::assert_snapshot!(comparison(vec![good, lost]).render(false), @r"
        tagged-window (x86_64)
          tags      passed
          rfc       panicked: at step 3 (load v2)
          mainline  not played: it requires replace: tags
          steps 1 to 2: equal
          step 3 (load v2): different
            tags                       rfc
          ! module shop: 0 references  (not reached)
          ! call shop.price: 11
          ! call shop.stock: 21
          they differ after step 4 as well (--all shows it)
        ");
    }

    #[test]
    fn a_run_that_could_not_be_played_is_no_behaviour() {
        let states = [SHOP, V1, V1, V1];
        let good = column("tags", Outcome::Passed, "", &states);
        let infra = column("rfc", Outcome::Infra, "building v1 failed", &[]);
        let two = comparison(vec![good.clone(), infra.clone()]);
        assert!(!two.is_one());
        assert!(any_infra(std::slice::from_ref(&two)));
        let late = column("rfc", Outcome::TimedOut, "it took longer", &[SHOP]);
        let late = comparison(vec![good.clone(), late]);
        assert!(!late.is_one() && any_infra(std::slice::from_ref(&late)));
        insta::assert_snapshot!(two.render(false), @r"
        tagged-window (x86_64)
          tags      passed
          rfc       could not run: building v1 failed
          mainline  not played: it requires replace: tags
          there is nothing to compare
        ");
        let other = Column {
            kernel: "x".into(),
            ..good.clone()
        };
        assert!(comparison(vec![good, infra, other]).is_same());
    }

    #[test]
    fn the_same_states_with_other_verdicts_are_different() {
        let states = [SHOP, V1, V1, V1];
        let good = column("tags", Outcome::Passed, "", &states);
        let same = comparison(vec![
            good.clone(),
            Column {
                kernel: "x".into(),
                ..good.clone()
            },
        ]);
        assert!(same.is_same() && same.is_one());
        insta::assert_snapshot!(same.render(false), @r"
        tagged-window (x86_64)
          tags      passed
          x         passed
          mainline  not played: it requires replace: tags
          the states are equal after each step
        ");
        let splat = column(
            "rfc",
            Outcome::Splat,
            "after the last step: WARNING: x",
            &states,
        );
        let other = comparison(vec![good.clone(), splat]);
        assert!(!other.is_same());
        insta::assert_snapshot!(other.render(false), @r"
        tagged-window (x86_64)
          tags      passed
          rfc       splat: after the last step: WARNING: x
          mainline  not played: it requires replace: tags
          the states are equal after each step, the verdicts are not
        ");
        let alone = comparison(vec![good]);
        assert!(!alone.is_one());
        insta::assert_snapshot!(alone.render(false), @r"
        tagged-window (x86_64)
          tags      passed
          mainline  not played: it requires replace: tags
          there is nothing to compare
        ");
    }

    #[test]
    fn a_kernels_key_is_no_difference() {
        let state = r#"{"result":"7.3.4-lab-0123456789ab x-lab-7.3-lab-0123456789ag"}"#;
        let expected = r#"{"result":"7.3.4-lab-<key> x-lab-7.3-lab-0123456789ag"}"#;
        assert_eq!(comparable(state), expected);
    }
}
