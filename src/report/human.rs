// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for people: progress on standard error, results on standard output.
//!
//! On a terminal there are bars; elsewhere one line per phase, when it has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::paint::{Color, Paint};
use super::results::{Finished, Results, RunResult, State};
use super::text::{one_line, seconds};
use super::{to_stderr, to_stdout};
use crate::error::{Blame, Error};
use crate::event::{Event, RunId, Skipped, Way};
use crate::plan;
use crate::verdict::{Outcome, Verdict};
use crate::visible::visible;

/// The report and what it has shown so far.
pub struct Human {
    out: Paint,
    err: Paint,
    bars: Option<MultiProgress>,
    phases: HashMap<u64, ProgressBar>,
    runs: HashMap<RunId, ProgressBar>,
    /// All runs of the plan, below everything else.
    whole: Option<ProgressBar>,
    /// The runs that are paused: people type meanwhile.
    paused: BTreeSet<RunId>,
    /// Whether only what goes wrong is a result: somebody wants to enter a guest.
    visits: bool,
}

impl Human {
    /// A report on this process's standard streams.
    pub fn new(color: Color) -> Self {
        Self {
            out: Paint::stdout(color),
            err: Paint::stderr(color),
            bars: std::io::stderr().is_terminal().then(MultiProgress::new),
            phases: HashMap::new(),
            runs: HashMap::new(),
            whole: None,
            paused: BTreeSet::new(),
            visits: false,
        }
    }

    /// The same for a command that enters a guest: that its run then ends is no news.
    #[must_use]
    pub fn of_visit(color: Color) -> Self {
        Self {
            visits: true,
            ..Self::new(color)
        }
    }

    /// Shows an event; `results` has taken it in already.
    pub fn event(&mut self, event: &Event, results: &Results) {
        match event {
            Event::PhaseStarted { id, what } => {
                if let Some(bars) = &self.bars {
                    let bar = bars.insert(0, spinner());
                    bar.set_message(what.clone());
                    self.phases.insert(*id, bar);
                }
            }
            Event::PhaseProgress {
                id,
                done,
                total,
                detail,
            } => {
                if let Some(bar) = self.phases.get(id) {
                    show_progress(bar, *done, *total, detail);
                }
            }
            Event::PhaseFinished {
                id, result, ms, ok, ..
            } => {
                if let Some(bar) = self.phases.remove(id) {
                    bar.finish_and_clear();
                }
                let mark = if *ok {
                    self.err.green("done")
                } else {
                    self.err.red("fail")
                };
                self.progress_line(&format!("{mark}  {}, {}", visible(result), seconds(*ms)));
            }
            Event::Note { message } => {
                let message = visible(message);
                self.progress_line(&format!("{}  {message}", self.err.yellow("note")));
            }
            Event::Planned { runs, skipped, .. } => {
                for line in skip_lines(skipped) {
                    self.result_line(&format!("{}  {line}", self.out.dim("skipped")));
                }
                if let Some(bars) = self.bars.as_ref().filter(|_| runs.len() > 1) {
                    let bar = bars.add(ProgressBar::new(runs.len() as u64));
                    bar.set_style(style("[{bar:24}] {pos}/{len} {msg} ({elapsed})"));
                    bar.enable_steady_tick(Duration::from_millis(500));
                    self.whole = Some(bar);
                }
            }
            Event::RunStarted { run, attempt, .. } => {
                let again = match attempt {
                    0 | 1 => String::new(),
                    attempt => format!(", attempt {attempt}"),
                };
                let bar = self
                    .bars
                    .as_ref()
                    .map(|bars| bars.insert_from_back(1, spinner()));
                if let Some(bar) = bar {
                    bar.set_message(format!("{run}: boots{again}"));
                    self.runs.insert(run.clone(), bar);
                }
                self.show_whole(results);
            }
            Event::Booted { run, accel, ms, .. } => {
                if let Some(bar) = self.runs.get(run) {
                    bar.set_message(format!("{run}: booted ({accel}, {})", seconds(*ms)));
                }
            }
            Event::StepStarted {
                run,
                step,
                of,
                label,
            } => {
                if let Some(bar) = self.runs.get(run) {
                    bar.set_message(format!("{run}: step {step}/{of} {label}"));
                }
            }
            Event::Paused {
                run,
                at,
                why,
                enter,
                ..
            } => {
                self.hide_bars(run);
                let text = match self.visits {
                    true => {
                        let gdb: Vec<_> = enter.iter().filter(|way| way.name == "gdb").collect();
                        paused_text(run, at, "here is its guest", &gdb, self.err)
                    }
                    false => paused_text(run, at, why, &enter.iter().collect::<Vec<_>>(), self.err),
                };
                self.progress_line(&text);
            }
            Event::Resumed { run, ms, why } => {
                self.show_bars(run);
                let (mark, paused) = (self.err.green("goes on"), seconds(*ms));
                let why = visible(why);
                self.progress_line(&format!("{mark}  {run}, paused for {paused}: {why}"));
            }
            Event::AttemptFailed {
                run,
                attempt,
                verdict,
                ..
            } => {
                self.end_run(run, results);
                let how = verdict.outcome.name();
                let reason = one_line(verdict.reasons.first().map_or("", String::as_str));
                let mark = self.err.yellow("again");
                self.progress_line(&format!("{mark}  {run}: attempt {attempt} {how}: {reason}"));
            }
            Event::RunFinished {
                run,
                verdict,
                ms,
                record,
            } => {
                self.end_run(run, results);
                if !self.visits || verdict.outcome != Outcome::Cancelled {
                    let text = verdict_text(run, verdict, *ms, record, self.out);
                    self.result_line(&text);
                }
            }
            Event::Started { .. }
            | Event::StepFinished { .. }
            | Event::NotRun { .. }
            | Event::Ended { .. }
            | Event::Unknown => {}
        }
    }

    /// Takes the bars from the terminal, on which people type to a guest or for a run to go on.
    fn hide_bars(&mut self, run: &RunId) {
        self.paused.insert(run.clone());
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    fn show_bars(&mut self, run: &RunId) {
        if self.paused.remove(run)
            && self.paused.is_empty()
            && let Some(bars) = &self.bars
        {
            bars.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    fn end_run(&mut self, run: &RunId, results: &Results) {
        self.show_bars(run);
        if let Some(bar) = self.runs.remove(run) {
            bar.finish_and_clear();
        }
        self.show_whole(results);
    }

    fn show_whole(&self, results: &Results) {
        let Some(bar) = &self.whole else { return };
        let verdicts = || results.runs.iter().filter_map(|run| run.verdict());
        let bad = verdicts()
            .filter(|verdict| !verdict.is_as_expected())
            .count();
        let mut text = format!("done, {} running", self.runs.len());
        if bad > 0 {
            let _ = write!(
                text,
                ", {}",
                self.err.red(&format!("{bad} not as expected"))
            );
        }
        bar.set_position(verdicts().count() as u64);
        bar.set_message(text);
    }

    /// Ends the report: the bars go, and what came out is summed up if anything was planned.
    pub fn finish(&mut self, results: &Results) {
        let bars = self.phases.values().chain(self.runs.values());
        for bar in bars.chain(&self.whole) {
            bar.finish_and_clear();
        }
        let summary = summary(results, self.out);
        if !summary.is_empty() && !self.visits {
            self.result_line(&summary);
        }
    }

    fn progress_line(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| to_stderr(line)),
            None => to_stderr(line),
        }
    }

    fn result_line(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| to_stdout(line)),
            None => to_stdout(line),
        }
    }
}

/// One line for all that is left out on a kernel and an architecture for the same reason.
fn skip_lines(skipped: &[Skipped]) -> Vec<String> {
    let mut groups: Vec<(&Skipped, Vec<&str>)> = Vec::new();
    for skip in skipped {
        let alike = |(first, _): &&mut (&Skipped, Vec<&str>)| {
            let key = |skip: &Skipped| {
                let run = &skip.run;
                (run.kernel.clone(), run.machine(), skip.reason.clone())
            };
            key(first) == key(skip)
        };
        match groups.iter_mut().find(alike) {
            Some((_, names)) => names.push(&skip.run.scenario),
            None => groups.push((skip, vec![&skip.run.scenario])),
        }
    }
    let line = |(first, names): &(&Skipped, Vec<&str>)| {
        let what = match names.len() {
            1..=3 => names.join(", "),
            n => format!("{n} scenarios"),
        };
        let (kernel, machine, reason) = (&first.run.kernel, first.run.machine(), &first.reason);
        format!("{what} on {kernel} ({machine}): {reason}")
    };
    groups.iter().map(line).collect()
}

/// The whole report on what was read from event files.
pub fn whole(results: &Results, paint: Paint) -> String {
    let mut text = String::new();
    for line in skip_lines(&results.skipped) {
        let _ = writeln!(text, "{}  {line}", paint.dim("skipped"));
    }
    for run in &results.runs {
        let line = match &run.state {
            State::Finished(finished) => {
                let Finished {
                    verdict,
                    ms,
                    record,
                    ..
                } = &**finished;
                verdict_text(&run.run, verdict, *ms, record, paint)
            }
            State::NotRun(reason) => format!("{}  {}: {reason}", paint.yellow("not run"), run.run),
            State::Planned | State::Running => {
                let what = "its lab was ended before it had a verdict";
                format!("{}  {}: {what}", paint.red("no result"), run.run)
            }
        };
        let _ = writeln!(text, "{line}");
    }
    let summary = summary(results, paint);
    if !summary.is_empty() {
        let _ = writeln!(text, "{summary}");
    }
    text
}

/// What did not end as expected, a line each where that is not on the screen any more, and the
/// totals. Empty if nothing was planned.
fn summary(results: &Results, paint: Paint) -> String {
    if results.runs.is_empty() && results.skipped.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let bad = |run: &&RunResult| {
        let verdict = run.verdict();
        verdict
            .is_some_and(|verdict| !verdict.is_as_expected() || verdict.outcome == Outcome::Flaky)
    };
    if results.runs.len() > 1 {
        for run in results.runs.iter().filter(bad) {
            let State::Finished(finished) = &run.state else {
                continue;
            };
            let name = match finished.verdict.outcome {
                Outcome::New => paint.yellow(Outcome::New.name()),
                outcome => paint.red(outcome.name()),
            };
            let reason = finished.verdict.reasons.first().map_or("", String::as_str);
            let _ = writeln!(text, "{name}  {}: {reason}", run.run);
            let _ = writeln!(text, "  record: {}", finished.record);
        }
    }
    if let Some(line) = plan::nowhere_line(&results.played_nowhere()) {
        let mark = match results.every_scenario {
            true => paint.red("failed"),
            false => paint.yellow("note"),
        };
        let _ = writeln!(text, "{mark}  {line}");
    }
    let mut not_run: BTreeMap<&str, usize> = BTreeMap::new();
    for run in results.without_verdict() {
        let why = match &run.state {
            State::NotRun(reason) => reason,
            _ => "no result",
        };
        *not_run.entry(why).or_default() += 1;
    }
    let tally = results.tally();
    let mut parts: Vec<String> = tally
        .iter()
        .map(|(outcome, count)| format!("{count} {}", outcome.name()))
        .collect();
    if !results.skipped.is_empty() {
        parts.push(format!("{} skipped", results.skipped.len()));
    }
    for (why, count) in not_run {
        parts.push(match why {
            "no result" => format!("{count} without a result"),
            why => format!("{count} not run ({why})"),
        });
    }
    text += &paint.bold(&parts.join(", "));
    if let Some(ended) = results.ended {
        let _ = write!(text, " in {}", seconds(ended.ms));
        if ended.guests > 1 {
            let (guests, memory) = (ended.guests, ended.memory_mib);
            let _ = write!(text, "; {guests} guests at once, {memory} MiB at most");
        }
    }
    text
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(style("{spinner} {msg} ({elapsed})"));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn show_progress(bar: &ProgressBar, done: u64, total: Option<u64>, detail: &str) {
    let detail: String = visible(detail).chars().take(48).collect();
    match total {
        Some(total) => {
            bar.set_length(total.max(done));
            bar.set_position(done);
            bar.set_style(style("{spinner} {msg} [{bar:24}] {pos}/{len} {prefix}"));
            bar.set_prefix(detail);
        }
        None => {
            bar.set_style(style("{spinner} {msg} ({elapsed}) {prefix}"));
            bar.set_prefix(if done > 0 {
                format!("{done} {detail}")
            } else {
                detail
            });
        }
    }
}

/// Where a run is paused, and how to enter its guest.
fn paused_text(run: &RunId, at: &str, why: &str, enter: &[&Way], paint: Paint) -> String {
    let (at, why) = (visible(at), one_line(why));
    let mut text = format!("{}  {run}, {at}: {why}", paint.yellow("paused"));
    for way in enter {
        let name = paint.bold(&format!("{:<8}", visible(&way.name)));
        let _ = write!(text, "\n  {name} {}", visible(&way.command));
    }
    text
}

/// A run's result: one line if it passed, else all that one needs to know.
fn verdict_text(run: &RunId, verdict: &Verdict, ms: u64, record: &str, paint: Paint) -> String {
    let name = verdict.outcome.name();
    let mark = match verdict.outcome {
        Outcome::Passed | Outcome::ExpectedFailure => paint.green(name),
        Outcome::Flaky | Outcome::Cancelled | Outcome::New => paint.yellow(name),
        _ => paint.red(name),
    };
    let mut text = format!("{mark}  {run}, {}", seconds(ms));
    if let Some(base) = &verdict.snapshot_of {
        let _ = write!(text, " (snapshot of {})", visible(base));
    }
    if verdict.outcome == Outcome::Passed {
        return text;
    }
    if let Some(blame) = verdict.blame.filter(|blame| *blame != Blame::Interrupted) {
        let _ = write!(text, "  {}", paint.dim(&format!("[{blame}]")));
    }
    let as_expected = verdict.outcome == Outcome::ExpectedFailure;
    for reason in &verdict.reasons {
        let reason = visible(reason);
        let reason = if as_expected {
            reason
        } else {
            paint.bold(&reason)
        };
        let _ = write!(text, "\n  {reason}");
    }
    if as_expected {
        return text;
    }
    for evidence in &verdict.evidence {
        let _ = write!(text, "\n  {}:", evidence.title);
        let body = paint.diff(&visible(&evidence.text));
        for line in body.lines() {
            let _ = write!(text, "\n    {line}");
        }
    }
    if let Some(help) = &verdict.help {
        let _ = write!(text, "\n  {} {help}", paint.bold("next:"));
    }
    let _ = write!(text, "\n  record: {record}");
    text
}

/// An error as it is shown.
pub fn error_text(error: &Error, paint: Paint) -> String {
    // Even a file's name may be a stranger's.
    let what = visible(&error.what);
    let mut text = match error.blame {
        Blame::Interrupted => return paint.yellow("interrupted"),
        Blame::Usage | Blame::File => format!("{} {what}", paint.red("error:")),
        blame => format!("{} {what}", paint.red(&format!("error ({blame}):"))),
    };
    for line in &error.evidence {
        let _ = write!(text, "\n  {}", visible(line));
    }
    if let Some(help) = &error.help {
        let _ = write!(text, "\n{} {}", paint.bold("next:"), visible(help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    fn run() -> RunId {
        RunId {
            scenario: "tagged-replace".into(),
            kernel: "tags".into(),
            arch: Arch::X86_64,
            cpus: None,
        }
    }

    fn plain(verdict: &Verdict) -> String {
        let paint = Paint::stdout(Color::Never);
        verdict_text(&run(), verdict, 4210, ".lab/runs/x", paint)
    }

    #[test]
    fn a_pass_is_one_line() {
        insta::assert_snapshot!(plain(&Verdict::passed()), @"passed  tagged-replace on tags (x86_64), 4.2 s");
    }

    #[test]
    fn a_failure_says_what_whose_and_what_next() {
        let reason = "step 4 (line 38, load pricing-v2): shop.stock answers 20, not 21";
        let verdict = Verdict::against(Outcome::Failed, Blame::Kernel, reason)
            .with(
                "states by step (- accepted, + observed)",
                "  step 4\n- a\n+ b",
            )
            .help("lab review");
        insta::assert_snapshot!(plain(&verdict), @r"
        failed  tagged-replace on tags (x86_64), 4.2 s  [kernel]
          step 4 (line 38, load pricing-v2): shop.stock answers 20, not 21
          states by step (- accepted, + observed):
              step 4
            - a
            + b
          next: lab review
          record: .lab/runs/x
        ");
    }

    #[test]
    fn a_kernel_with_anothers_snapshot_says_so_and_a_new_scenario_is_no_failure() {
        let passed = Verdict {
            snapshot_of: Some("mainline".into()),
            ..Verdict::passed()
        };
        insta::assert_snapshot!(plain(&passed), @"passed  tagged-replace on tags (x86_64), 4.2 s (snapshot of mainline)");
        let reason = "all 14 steps as expected; there is no snapshot snapshots/x@tags.snap yet";
        let new = Verdict::new(Outcome::New, None, reason.into(), 1).help("`lab review`");
        insta::assert_snapshot!(plain(&new), @r"
        new  tagged-replace on tags (x86_64), 4.2 s
          all 14 steps as expected; there is no snapshot snapshots/x@tags.snap yet
          next: `lab review`
          record: .lab/runs/x
        ");
    }

    #[test]
    fn a_pause_says_how_to_enter() {
        let way = |name: &str, command: &str| Way {
            name: name.into(),
            command: command.into(),
        };
        let (shell, go_on) = (way("shell", "lab shell .lab/runs/x"), way("go on", "Enter"));
        let enter = [&shell, &go_on];
        let (at, why) = ("after step 2 of 5 (load v1)", "--pause-at 2");
        let text = paused_text(&run(), at, why, &enter, Paint::stdout(Color::Never));
        insta::assert_snapshot!(text, @r"
        paused  tagged-replace on tags (x86_64), after step 2 of 5 (load v1): --pause-at 2
          shell    lab shell .lab/runs/x
          go on    Enter
        ");
    }

    #[test]
    fn an_error_names_who_has_to_act() {
        let error = Error::host("`flex` is not installed").help("run `lab setup`");
        insta::assert_snapshot!(error_text(&error, Paint::stdout(Color::Never)), @r"
        error (host): `flex` is not installed
        next: run `lab setup`
        ");
    }
}
