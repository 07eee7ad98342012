// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for people: progress on standard error, results on standard output.
//!
//! On a terminal there are bars; elsewhere one line per phase, when it has ended.

use std::collections::HashMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::paint::{Color, Paint};
use crate::error::{Blame, Error};
use crate::event::{Event, RunId};
use crate::runner::verdict::{Outcome, Verdict};

/// The report and what it has shown so far.
pub struct Human {
    out: Paint,
    err: Paint,
    bars: Option<MultiProgress>,
    phases: HashMap<u64, ProgressBar>,
    runs: HashMap<String, ProgressBar>,
    tally: Vec<(Outcome, usize)>,
    skipped: usize,
    started: Instant,
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
            tally: Vec::new(),
            skipped: 0,
            started: Instant::now(),
        }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::PhaseStarted { id, what } => {
                if let Some(bars) = &self.bars {
                    let bar = bars.add(spinner());
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
            Event::PhaseFinished { id, result, ms, ok } => {
                if let Some(bar) = self.phases.remove(id) {
                    bar.finish_and_clear();
                }
                let mark = if *ok {
                    self.err.green("done")
                } else {
                    self.err.red("fail")
                };
                self.progress_line(&format!("{mark}  {result}, {}", seconds(*ms)));
            }
            Event::Note { message } => {
                self.progress_line(&format!("{}  {message}", self.err.yellow("note")));
            }
            Event::Planned { skipped, .. } => {
                self.skipped = skipped.len();
                for (run, reason) in skipped {
                    self.result_line(&format!("{}  {run}: {reason}", self.out.dim("skipped")));
                }
            }
            Event::RunStarted { run, .. } => {
                if let Some(bars) = &self.bars {
                    let bar = bars.add(spinner());
                    bar.set_message(run.to_string());
                    self.runs.insert(run.to_string(), bar);
                }
            }
            Event::Booted { run, accel, ms } => {
                if let Some(bar) = self.runs.get(&run.to_string()) {
                    bar.set_message(format!("{run}: booted ({accel}, {})", seconds(*ms)));
                }
            }
            Event::StepStarted {
                run,
                step,
                of,
                label,
            } => {
                if let Some(bar) = self.runs.get(&run.to_string()) {
                    bar.set_message(format!("{run}: step {step}/{of} {label}"));
                }
            }
            Event::StepFinished { .. } => {}
            Event::RunFinished {
                run,
                verdict,
                ms,
                record,
            } => {
                if let Some(bar) = self.runs.remove(&run.to_string()) {
                    bar.finish_and_clear();
                }
                self.count(verdict.outcome);
                let text = verdict_text(run, verdict, *ms, record, self.out);
                self.result_line(&text);
            }
        }
    }

    /// Ends the report: the bars go, and the totals are shown if anything ran.
    pub fn finish(&mut self) {
        for bar in self.phases.values().chain(self.runs.values()) {
            bar.finish_and_clear();
        }
        if self.tally.is_empty() && self.skipped == 0 {
            return;
        }
        let mut parts: Vec<String> = self
            .tally
            .iter()
            .map(|(outcome, count)| format!("{count} {}", outcome.name()))
            .collect();
        if self.skipped > 0 {
            parts.push(format!("{} skipped", self.skipped));
        }
        let took = self.started.elapsed().as_secs_f64();
        self.result_line(&format!(
            "{} in {took:.1} s",
            self.out.bold(&parts.join(", "))
        ));
    }

    fn count(&mut self, outcome: Outcome) {
        match self.tally.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += 1,
            None => self.tally.push((outcome, 1)),
        }
    }

    #[expect(clippy::print_stderr, reason = "this is the report")]
    fn progress_line(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    #[expect(clippy::print_stdout, reason = "this is the report")]
    fn result_line(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }
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
    let detail: String = detail.chars().take(48).collect();
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

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// A run's result: one line if it passed, else all that one needs to know.
fn verdict_text(run: &RunId, verdict: &Verdict, ms: u64, record: &str, paint: Paint) -> String {
    let name = verdict.outcome.name();
    let mark = match verdict.outcome {
        Outcome::Passed | Outcome::ExpectedFailure => paint.green(name),
        Outcome::Cancelled => paint.yellow(name),
        _ => paint.red(name),
    };
    let mut text = format!("{mark}  {run}, {}", seconds(ms));
    if verdict.outcome == Outcome::Passed {
        return text;
    }
    if let Some(blame) = verdict.blame.filter(|blame| *blame != Blame::Interrupted) {
        let _ = write!(text, "  {}", paint.dim(&format!("[{blame}]")));
    }
    let as_expected = verdict.outcome == Outcome::ExpectedFailure;
    for reason in &verdict.reasons {
        let reason = if as_expected {
            reason.clone()
        } else {
            paint.bold(reason)
        };
        let _ = write!(text, "\n  {reason}");
    }
    if as_expected {
        return text;
    }
    for evidence in &verdict.evidence {
        let _ = write!(text, "\n  {}:", evidence.title);
        let body = paint.diff(&evidence.text);
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
    let mut text = match error.blame {
        Blame::Interrupted => return paint.yellow("interrupted"),
        Blame::Usage | Blame::File => format!("{} {}", paint.red("error:"), error.what),
        blame => format!("{} {}", paint.red(&format!("error ({blame}):")), error.what),
    };
    for line in &error.evidence {
        let _ = write!(text, "\n  {line}");
    }
    if let Some(help) = &error.help {
        let _ = write!(text, "\n{} {help}", paint.bold("next:"));
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
    fn an_error_names_who_has_to_act() {
        let error = Error::host("`flex` is not installed").help("run `lab setup`");
        insta::assert_snapshot!(error_text(&error, Paint::stdout(Color::Never)), @r"
        error (host): `flex` is not installed
        next: run `lab setup`
        ");
    }
}
