// SPDX-License-Identifier: MIT OR Apache-2.0
//! A verdict for people, on one screen: how it ended and whose fault that is, what happened, what to
//! do, and of the evidence what a person needs first. The record has all of it, and the rows say
//! where. Pure.

use std::collections::BTreeSet;

use super::paint::Paint;
use super::screen::Screen;
use super::text::seconds;
use super::trace::{essence, said};
use crate::error::Blame;
use crate::event::RunId;
use crate::verdict::evidence::Kind;
use crate::verdict::{Evidence, Outcome, Verdict};
use crate::visible::visible;

/// Rows that a piece of evidence may be sure of, if there are several.
const ROWS_EACH: usize = 5;
/// Lines of the console before a complaint.
const BEFORE: usize = 4;
/// What an interrupted run says of itself, which its first row says already.
const INTERRUPTED: &str = "interrupted";

/// A run's result: one row if it passed, else all that one needs to know first.
pub fn text(
    run: &RunId,
    verdict: &Verdict,
    ms: u64,
    record: &str,
    screen: Screen,
    paint: Paint,
) -> String {
    let mut page = head(run, verdict, ms, screen, paint);
    if matches!(verdict.outcome, Outcome::Passed | Outcome::Cancelled) {
        return page.join("\n");
    }
    if verdict.outcome == Outcome::ExpectedFailure {
        let reasons = verdict.reasons.iter();
        page.extend(reasons.flat_map(|reason| screen.text("  ", 2, &visible(reason), 4)));
        return page.join("\n");
    }
    let mut left_out = BTreeSet::new();
    let mut end = next(verdict, screen, paint);
    // Paths are copied: the line stays whole.
    let record = vec![format!("  record: {}", visible(record))];
    let used = cost(screen, &page) + cost(screen, &end) + cost(screen, &record) + 1;
    let room = screen.rows.saturating_sub(used);
    let reasons = reasons(verdict, room, screen, paint, &mut left_out);
    let room = room.saturating_sub(cost(screen, &reasons));
    let evidence = evidence(verdict, room, screen, paint, &mut left_out);
    page.extend(reasons);
    page.append(&mut end);
    page.extend(evidence);
    if !left_out.is_empty() {
        let files: Vec<_> = left_out.into_iter().collect();
        let rest = format!("the rest: {} in the record", files.join(", "));
        page.extend(screen.text("  ", 2, &rest, 4));
    }
    page.extend(record);
    page.join("\n")
}

/// `failed  tagged-replace on tags (x86_64), 4.2 s  [kernel]`
fn head(run: &RunId, verdict: &Verdict, ms: u64, screen: Screen, paint: Paint) -> Vec<String> {
    let name = verdict.outcome.name();
    let mark = match verdict.outcome {
        Outcome::Passed | Outcome::ExpectedFailure => paint.green(name),
        Outcome::Flaky | Outcome::Cancelled | Outcome::New => paint.yellow(name),
        _ => paint.red(name),
    };
    let mut line = format!("{run}, {}", seconds(ms));
    if let Some(base) = &verdict.snapshot_of {
        line += &format!(" (snapshot of {})", visible(base));
    }
    if verdict.outcome == Outcome::Cancelled {
        let said = |reason: &&String| *reason != INTERRUPTED;
        if let Some(reason) = verdict.reasons.iter().find(said) {
            line += &format!(": {}", visible(reason));
        }
    }
    let mut rows = screen.text(&format!("{mark}  "), name.len() + 2, &line, 2);
    let has_blame = !matches!(verdict.outcome, Outcome::Passed | Outcome::Cancelled);
    let blame = verdict.blame.filter(|blame| *blame != Blame::Interrupted);
    if let (Some(blame), true, Some(last)) = (blame, has_blame, rows.last_mut()) {
        let blame = format!("[{blame}]");
        let fits = screen.fits(&format!("{last}  {blame}"));
        let blame = format!("  {}", paint.dim(&blame));
        match fits {
            true => *last += &blame,
            false => rows.push(blame),
        }
    }
    rows
}

/// What to do.
fn next(verdict: &Verdict, screen: Screen, paint: Paint) -> Vec<String> {
    let Some(help) = &verdict.help else {
        return Vec::new();
    };
    let mark = format!("  {} ", paint.bold("next:"));
    screen.text(&mark, 8, &visible(help), 8)
}

/// What happened, as far as half of the room has it.
fn reasons(
    verdict: &Verdict,
    room: usize,
    screen: Screen,
    paint: Paint,
    left_out: &mut BTreeSet<&'static str>,
) -> Vec<String> {
    let most = if verdict.evidence.is_empty() {
        room
    } else {
        room / 2
    };
    let (mut rows, mut taken) = (Vec::new(), 0);
    for (index, reason) in verdict.reasons.iter().enumerate() {
        let reason = screen.text("  ", 2, &visible(reason), 4);
        taken += cost(screen, &reason);
        if taken >= most && index > 0 {
            let more = verdict.reasons.len() - index;
            rows.push(format!("  (and {more} more)"));
            left_out.insert("verdict.json");
            break;
        }
        rows.extend(reason.iter().map(|row| paint.bold(row)));
    }
    rows
}

/// A piece of evidence that is shown.
struct Piece {
    kind: Kind,
    title: String,
    lines: Vec<String>,
    /// Where all of it is.
    file: &'static str,
}

/// The pieces that matter, the first one first, in the rows that are left.
fn evidence(
    verdict: &Verdict,
    mut room: usize,
    screen: Screen,
    paint: Paint,
    left_out: &mut BTreeSet<&'static str>,
) -> Vec<String> {
    let pieces = pieces(verdict, left_out);
    let mut rows = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let after = &pieces[index + 1..];
        let reserved: usize = after
            .iter()
            .map(|piece| ROWS_EACH.min(piece.lines.len() + 1))
            .sum();
        let least = if index == 0 { room / 2 } else { ROWS_EACH };
        let most = room.saturating_sub(reserved).max(least).min(room);
        let (body, complete) = match most {
            0..2 => (Vec::new(), false),
            most => body(piece, most - 1, screen),
        };
        if !complete {
            left_out.insert(piece.file);
        }
        if body.is_empty() {
            continue;
        }
        let title = screen.cut(&format!("  {}:", piece.title));
        room = room.saturating_sub(1 + cost(screen, &body));
        rows.push(title);
        rows.extend(body.iter().map(|row| match piece.kind {
            Kind::States => paint.diff_row(row),
            _ => row.clone(),
        }));
    }
    rows
}

/// What is shown of the evidence, and in which order.
fn pieces(verdict: &Verdict, left_out: &mut BTreeSet<&'static str>) -> Vec<Piece> {
    let all = &verdict.evidence;
    let has = |kind| all.iter().any(|piece| piece.kind() == kind);
    let (stalled, complained) = (has(Kind::Transition), has(Kind::Said));
    let mut shown: Vec<String> = Vec::new();
    let mut pieces = Vec::new();
    let mut order: Vec<&Evidence> = all.iter().collect();
    order.sort_by_key(|piece| match piece.kind() {
        Kind::Transition => 0,
        Kind::Said => 1,
        Kind::Console => 4,
        Kind::Debug => 5,
        Kind::Tasks => 3,
        _ => 2,
    });
    for piece in order {
        let (kind, text) = (piece.kind(), visible(&piece.text));
        let (file, lines) = match kind {
            Kind::CommandLine => ("qemu.sh", Vec::new()),
            Kind::Tasks if stalled || complained => ("console.log", Vec::new()),
            Kind::Console if stalled => ("console.log", Vec::new()),
            // What it says of each task is among what holds up the transition.
            Kind::Debug if stalled => ("kernel.log", Vec::new()),
            Kind::Said | Kind::Tasks => ("console.log", essence(&text).lines),
            Kind::Console if complained => ("console.log", before(&text, &shown)),
            Kind::Console => ("console.log", lines(&text)),
            Kind::Debug => ("kernel.log", unknown(&text, &shown)),
            Kind::States => ("diff.txt", lines(&text)),
            Kind::Transition => ("verdict.json", text.lines().map(str::to_owned).collect()),
            Kind::Cpus | Kind::Other => ("verdict.json", lines(&text)),
        };
        let title = match (kind, essence(&text).at) {
            (Kind::Said, Some(at)) => format!("{}, at {at}", visible(&piece.title)),
            (Kind::Console, _) if complained => "before that, on the console".to_owned(),
            _ => visible(&piece.title),
        };
        if lines.is_empty() || kind == Kind::Said {
            left_out.insert(file);
        }
        shown.extend(text.lines().map(|line| said(line).1.trim().to_owned()));
        let lines = match kind {
            Kind::Said => without_reasons(lines, verdict),
            _ => lines,
        };
        if !lines.is_empty() {
            pieces.push(Piece {
                kind,
                title,
                lines,
                file,
            });
        }
    }
    pieces
}

/// The lines with something on them.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(str::to_owned).collect()
}

/// Without the line that is a reason already.
fn without_reasons(mut lines: Vec<String>, verdict: &Verdict) -> Vec<String> {
    // Before "in FUNCTION", the sentence has no end.
    let is_reason = |line: &String| {
        let line = line.trim().trim_end_matches('.');
        let mut reasons = verdict.reasons.iter();
        reasons.any(|reason| visible(reason).contains(line))
    };
    let found = lines.iter().enumerate().filter(|(_, line)| is_reason(line));
    // The message of a warning may be a word that is in the reason by chance.
    let title = found.max_by_key(|(_, line)| line.len());
    if let Some((title, _)) = title {
        lines.remove(title);
    }
    lines
}

/// The last lines before the first that has been shown.
fn before(text: &str, shown: &[String]) -> Vec<String> {
    let all = lines(text);
    let is_shown = |line: &String| shown.iter().any(|it| it == said(line).1.trim());
    let end = all.iter().position(is_shown).unwrap_or(0);
    all[end.saturating_sub(BEFORE)..end].to_vec()
}

/// The lines that have not been shown.
fn unknown(text: &str, shown: &[String]) -> Vec<String> {
    let mut all = lines(text);
    all.retain(|line| !shown.iter().any(|it| it == said(line).1.trim()));
    all
}

/// The rows of a piece, at most so many, and whether they are all.
fn body(piece: &Piece, most: usize, screen: Screen) -> (Vec<String>, bool) {
    let lines = match piece.kind {
        Kind::Transition => of_tasks(&piece.lines, most),
        _ => piece.lines.clone(),
    };
    let mut rows: Vec<Vec<String>> = lines.iter().map(|line| screen.line(line, 4)).collect();
    // Of a console the end matters.
    let from_end = piece.kind == Kind::Console;
    if from_end {
        rows.reverse();
    }
    let all: usize = rows.iter().map(|rows| cost(screen, rows)).sum();
    let written = |line: &&String| !line.trim().is_empty();
    let complete = all <= most && lines.len() == piece.lines.iter().filter(written).count();
    if all > most {
        let (mut taken, mut kept) = (1, 0);
        while kept < rows.len() && taken + cost(screen, &rows[kept]) <= most {
            taken += cost(screen, &rows[kept]);
            kept += 1;
        }
        if kept == 0 {
            return (Vec::new(), false);
        }
        let more = rows.len() - kept;
        rows.truncate(kept);
        rows.push(vec![format!("    ({more} lines more)")]);
    }
    if from_end {
        rows.reverse();
    }
    (rows.into_iter().flatten().collect(), complete)
}

/// What holds a transition up in few lines: of each task what it is, what the kernel says of it, and
/// the frame that changes; then the other frames, the innermost first. A paragraph is a task.
fn of_tasks(lines: &[String], most: usize) -> Vec<String> {
    let paragraphs: Vec<&[String]> = lines
        .split(|line| line.trim().is_empty())
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    let each = (most / paragraphs.len().max(1)).max(4);
    let (mut kept, mut tasks) = (Vec::new(), 0);
    for paragraph in &paragraphs {
        let mut chosen: Vec<usize> = (0..paragraph.len()).collect();
        let matters = |index: usize| index < 2 || paragraph[index].contains('▶');
        chosen.sort_by_key(|&index| !matters(index));
        chosen.truncate(each);
        chosen.sort_unstable();
        if kept.len() + chosen.len() + 1 > most && tasks > 0 {
            let more = paragraphs.len() - tasks;
            kept.push(format!("(and {more} more)"));
            break;
        }
        kept.extend(chosen.into_iter().map(|index| paragraph[index].clone()));
        tasks += 1;
    }
    kept
}

fn cost(screen: Screen, rows: &[String]) -> usize {
    rows.iter().map(|row| screen.cost(row)).sum()
}
