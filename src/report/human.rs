// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for people: progress on standard error, results on standard output.
//!
//! On a terminal there are rows that say what is under way; elsewhere one line per phase, when it has
//! ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::paint::{Color, Paint};
use super::results::{Finished, Results, RunResult, State};
use super::rows::{Key, Progress, Rows};
use super::screen::Screen;
use super::text::{count, one_line, seconds};
use super::{to_stderr, to_stdout, verdict};
use crate::error::{Blame, Error};
use crate::event::{Event, RunId, Skipped, Way};
use crate::plan;
use crate::verdict::{Outcome, Verdict};
use crate::visible::visible;

/// Runs that the summary lists with their records, and without.
const WITH_RECORDS: usize = 8;
const LISTED: usize = 20;

/// The report and what it has shown so far.
pub struct Human {
    out: Paint,
    err: Paint,
    rows: Option<Rows>,
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
            rows: Rows::of_terminal(),
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
            Event::PhaseStarted { id, what } => self.row(Key::Phase(*id), what),
            Event::PhaseProgress {
                id,
                done,
                total,
                detail,
            } => {
                if let Some(rows) = &mut self.rows {
                    let (done, total, detail) = (*done, *total, one_line(detail));
                    let progress = Progress {
                        done,
                        total,
                        detail,
                    };
                    rows.progress(&Key::Phase(*id), progress);
                }
            }
            Event::PhaseFinished {
                id, result, ms, ok, ..
            } => {
                self.end_row(&Key::Phase(*id));
                let mark = if *ok {
                    self.err.green("done")
                } else {
                    self.err.red("fail")
                };
                let text = format!("{}, {}", visible(result), seconds(*ms));
                self.progress_line(&mark, 4, &text);
            }
            Event::Note { message } => {
                let mark = self.err.yellow("note");
                self.progress_line(&mark, 4, &visible(message));
            }
            Event::Planned { runs, skipped, .. } => {
                for line in skip_lines(skipped) {
                    let mark = format!("{}  ", self.out.dim("skipped"));
                    let lines = Screen::behind(std::io::stdout()).text(&mark, 9, &line, 9);
                    self.result_lines(&lines);
                }
                if runs.len() > 1 {
                    self.show_whole(results);
                }
            }
            Event::RunStarted { run, attempt, .. } => {
                let again = match attempt {
                    0 | 1 => String::new(),
                    attempt => format!(", attempt {attempt}"),
                };
                self.row(Key::Run(run.clone()), &format!("{run}: boots{again}"));
                self.show_whole(results);
            }
            Event::Booted { run, accel, ms, .. } => {
                let text = format!("{run}: booted ({accel}, {})", seconds(*ms));
                self.row(Key::Run(run.clone()), &text);
            }
            Event::StepStarted {
                run,
                step,
                of,
                label,
            } => {
                let text = format!("{run}: step {step}/{of} {label}");
                self.row(Key::Run(run.clone()), &text);
            }
            Event::Paused {
                run,
                at,
                why,
                enter,
                ..
            } => {
                self.hide(run);
                let text = match self.visits {
                    true => {
                        let gdb: Vec<_> = enter.iter().filter(|way| way.name == "gdb").collect();
                        paused_text(run, at, "here is its guest", &gdb, self.err)
                    }
                    false => paused_text(run, at, why, &enter.iter().collect::<Vec<_>>(), self.err),
                };
                self.above(&[text], to_stderr);
            }
            Event::Resumed { run, ms, why } => {
                self.show(run);
                let (paused, why) = (seconds(*ms), visible(why));
                let text = format!("{run}, paused for {paused}: {why}");
                let mark = self.err.green("goes on");
                self.progress_line(&mark, 7, &text);
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
                let text = format!("{run}: attempt {attempt} {how}: {reason}");
                let mark = self.err.yellow("again");
                self.progress_line(&mark, 5, &text);
            }
            Event::RunFinished {
                run,
                verdict,
                ms,
                record,
            } => {
                self.end_run(run, results);
                if !self.visits || verdict.outcome != Outcome::Cancelled {
                    let screen = Screen::behind(std::io::stdout());
                    let text = verdict::text(run, verdict, *ms, record, screen, self.out);
                    self.result_lines(&[text]);
                }
            }
            Event::Started { .. }
            | Event::StepFinished { .. }
            | Event::NotRun { .. }
            | Event::Ended { .. }
            | Event::Unknown => {}
        }
    }

    /// Whether there is something to draw now and then.
    pub fn is_drawn(&self) -> bool {
        self.rows.is_some()
    }

    /// Draws what is under way.
    pub fn tick(&mut self) {
        if let Some(rows) = &mut self.rows {
            rows.tick();
        }
    }

    fn row(&mut self, key: Key, text: &str) {
        if let Some(rows) = &mut self.rows {
            rows.set(key, one_line(text));
        }
    }

    fn end_row(&mut self, key: &Key) {
        if let Some(rows) = &mut self.rows {
            rows.remove(key);
        }
    }

    /// Takes the rows from the terminal, on which people type to a guest or for a run to go on.
    fn hide(&mut self, run: &RunId) {
        self.paused.insert(run.clone());
        if let Some(rows) = &mut self.rows {
            rows.hide(true);
        }
    }

    fn show(&mut self, run: &RunId) {
        if self.paused.remove(run)
            && self.paused.is_empty()
            && let Some(rows) = &mut self.rows
        {
            rows.hide(false);
        }
    }

    fn end_run(&mut self, run: &RunId, results: &Results) {
        self.show(run);
        self.end_row(&Key::Run(run.clone()));
        self.show_whole(results);
    }

    fn show_whole(&mut self, results: &Results) {
        let Some(rows) = self.rows.as_mut().filter(|_| results.runs.len() > 1) else {
            return;
        };
        let running = |run: &&RunResult| run.state == State::Running;
        let verdicts = || results.runs.iter().filter_map(|run| run.verdict());
        let bad = verdicts().filter(|verdict| !verdict.is_as_expected());
        let mut text = format!("{} running", results.runs.iter().filter(running).count());
        if let bad @ 1.. = bad.count() {
            let _ = write!(text, ", {bad} not as expected");
        }
        rows.set(Key::Whole, text);
        let progress = Progress {
            done: verdicts().count() as u64,
            total: Some(results.runs.len() as u64),
            detail: String::new(),
        };
        rows.progress(&Key::Whole, progress);
    }

    /// Ends the report: the rows go, and what came out is summed up if anything was planned.
    pub fn finish(&mut self, results: &Results) {
        if let Some(rows) = &mut self.rows {
            rows.end();
        }
        let summary = summary(results, Screen::behind(std::io::stdout()), self.out);
        if !summary.is_empty() && !self.visits {
            self.result_lines(&summary);
        }
    }

    /// Shows text after a mark of so many columns.
    fn progress_line(&mut self, mark: &str, columns: usize, text: &str) {
        let indent = columns + 2;
        let screen = Screen::behind(std::io::stderr());
        let lines = screen.text(&format!("{mark}  "), indent, text, indent);
        self.above(&lines, to_stderr);
    }

    fn result_lines(&mut self, lines: &[String]) {
        self.above(lines, to_stdout);
    }

    fn above(&mut self, lines: &[String], to: fn(&str)) {
        let write = || lines.iter().for_each(|line| to(line));
        match &mut self.rows {
            Some(rows) => rows.above(write),
            None => write(),
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

/// The whole report on what was read from event files, as it is shown on this screen.
pub fn whole(results: &Results, screen: Screen, paint: Paint) -> String {
    let mut lines = Vec::new();
    for line in skip_lines(&results.skipped) {
        lines.extend(screen.text(&format!("{}  ", paint.dim("skipped")), 9, &line, 9));
    }
    for run in &results.runs {
        let without = |mark: String, columns: usize, why: &str| {
            let text = format!("{}: {why}", run.run);
            screen.text(&format!("{mark}  "), columns, &text, columns)
        };
        match &run.state {
            State::Finished(finished) => {
                let Finished {
                    verdict,
                    ms,
                    record,
                    ..
                } = &**finished;
                lines.push(verdict::text(&run.run, verdict, *ms, record, screen, paint));
            }
            State::NotRun(reason) => {
                lines.extend(without(paint.yellow("not run"), 9, &visible(reason)));
            }
            State::Planned | State::Running => {
                let what = "its lab was ended before it had a verdict";
                lines.extend(without(paint.red("no result"), 11, what));
            }
        }
    }
    lines.extend(summary(results, screen, paint));
    lines
        .iter()
        .fold(String::new(), |text, line| text + line + "\n")
}

/// What did not end as expected, a line each where that is not on the screen any more, and the
/// totals. Empty if nothing was planned.
fn summary(results: &Results, screen: Screen, paint: Paint) -> Vec<String> {
    if results.runs.is_empty() && results.skipped.is_empty() {
        return Vec::new();
    }
    let mut lines = match results.runs.len() {
        0 | 1 => Vec::new(),
        _ => not_as_expected(results, screen, paint),
    };
    if let Some(line) = plan::nowhere_line(&results.played_nowhere()) {
        let (mark, painted) = match results.every_scenario {
            true => ("failed", paint.red("failed")),
            false => ("note", paint.yellow("note")),
        };
        lines.extend(screen.text(&format!("{painted}  "), mark.len() + 2, &line, 6));
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
    let mut rest = String::new();
    if let Some(ended) = results.ended {
        let _ = write!(rest, " in {}", seconds(ended.ms));
        if ended.guests > 1 {
            let (guests, memory) = (ended.guests, ended.memory_mib);
            let _ = write!(rest, "; {guests} guests at once, {memory} MiB at most");
        }
    }
    let parts = parts.join(", ");
    // Painted when its length is known.
    let total = screen.text("", 0, &format!("{parts}{rest}"), 2);
    lines.extend(match &total[..] {
        [one] => vec![one.replacen(&parts, &paint.bold(&parts), 1)],
        several => several.iter().map(|row| paint.bold(row)).collect(),
    });
    lines
}

/// The runs that did not end as expected, the first ones with their records.
fn not_as_expected(results: &Results, screen: Screen, paint: Paint) -> Vec<String> {
    let finished = |run: &RunResult| match &run.state {
        State::Finished(finished) => Some((run.run.clone(), finished.clone())),
        _ => None,
    };
    let is_bad = |verdict: &Verdict| match verdict.outcome {
        Outcome::Flaky => true,
        // Its own line says all that there is.
        Outcome::Cancelled => false,
        _ => !verdict.is_as_expected(),
    };
    let all = results.runs.iter().filter_map(finished);
    let bad: Vec<_> = all
        .filter(|(_, finished)| is_bad(&finished.verdict))
        .collect();
    let mut lines = Vec::new();
    for (run, finished) in bad.iter().take(LISTED) {
        let name = finished.verdict.outcome.name();
        let reason = finished.verdict.reasons.first().map_or("", String::as_str);
        let line = screen.cut(&format!("{name}  {run}: {}", visible(reason)));
        let painted = match finished.verdict.outcome {
            Outcome::New => paint.yellow(name),
            _ => paint.red(name),
        };
        lines.push(line.replacen(name, &painted, 1));
        if bad.len() <= WITH_RECORDS {
            lines.push(format!("  record: {}", visible(&finished.record)));
        }
    }
    if let Some(more @ 1..) = bad.len().checked_sub(LISTED) {
        lines.push(format!(
            "(and {} more that did not end as expected)",
            count(more, "run")
        ));
    }
    lines
}

/// Where a run is paused, and how to enter its guest.
fn paused_text(run: &RunId, at: &str, why: &str, enter: &[&Way], paint: Paint) -> String {
    let (at, why) = (visible(at), one_line(why));
    let mut text = format!("{}  {run}, {at}: {why}", paint.yellow("paused"));
    // Commands are copied: their lines stay whole.
    for way in enter {
        let name = paint.bold(&format!("{:<8}", visible(&way.name)));
        let _ = write!(text, "\n  {name} {}", visible(&way.command));
    }
    text
}

/// An error as it is shown on this screen.
pub fn error_text(error: &Error, screen: Screen, paint: Paint) -> String {
    let mark = match error.blame {
        Blame::Interrupted => return paint.yellow("interrupted"),
        Blame::Usage | Blame::File => "error:".to_owned(),
        blame => format!("error ({blame}):"),
    };
    // Even a file's name may be a stranger's.
    let what = visible(&error.what);
    let (painted, columns) = (format!("{} ", paint.red(&mark)), mark.len() + 1);
    let mut lines = screen.text(&painted, columns, &what, 2);
    for line in &error.evidence {
        let line = visible(line);
        lines.extend(line.lines().flat_map(|line| screen.line(line, 2)));
    }
    if let Some(help) = &error.help {
        let mark = format!("{} ", paint.bold("next:"));
        lines.extend(screen.text(&mark, 6, &visible(help), 6));
    }
    lines.join("\n")
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
        verdict::text(&run(), verdict, 4210, ".lab/runs/x", Screen::PAGE, paint)
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
          next: lab review
          states by step (- accepted, + observed):
              step 4
            - a
            + b
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
        insta::assert_snapshot!(error_text(&error, Screen::PAGE, Paint::stdout(Color::Never)), @r"
        error (host): `flex` is not installed
        next: run `lab setup`
        ");
    }
}
