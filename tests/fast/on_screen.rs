// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports for people: the cause of a failure is on one screen, whatever the evidence, and
//! `docs/screens.md` shows such screens.

use std::collections::BTreeSet;
use std::fmt::Write;

use livepatch_lab::error::Blame;
use livepatch_lab::event::{Event, Stamped};
use livepatch_lab::report::junit;
use livepatch_lab::report::results::Results;
use livepatch_lab::report::screen::Screen;
use livepatch_lab::runner::judge;
use livepatch_lab::verdict::Verdict;

use crate::corpus;
use crate::screens::{SIZES, hold, recorded, run, shown, terminal, verdict};

/// Rows and columns that a report may take where there is no terminal.
const ROWS: usize = 30;
const COLUMNS: usize = 100;

/// The rows of a text on a screen of so many columns.
fn rows(text: &str, columns: usize) -> usize {
    let row = |line: &str| line.chars().count().div_ceil(columns).max(1);
    text.lines().map(row).sum()
}

/// The evidence: between what to do and where the rest is.
fn frames(text: &str) -> Vec<&str> {
    let is_frame = |line: &&str| line.contains("+0x") && line.starts_with("     ");
    text.lines().filter(is_frame).map(str::trim).collect()
}

/// Holds a report against what each of them has to be.
fn examine(name: &str, event: &Stamped, screen: Screen, most: usize, columns: usize) -> String {
    let text = shown(std::slice::from_ref(event), screen);
    let (_, verdict) = verdict(event);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        rows(&text, columns) <= most,
        "{name}: {} rows\n{text}",
        rows(&text, columns)
    );
    assert!(
        lines[0].starts_with(verdict.outcome.name()),
        "{name}\n{text}"
    );
    // What happened, then what to do, then the evidence, then where the rest is, and the sum.
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (all, first) = (
        flat(&text),
        verdict.reasons.first().map(|reason| flat(reason)),
    );
    let place = |what: &str| {
        all.find(what)
            .unwrap_or_else(|| panic!("{name}: no {what}\n{text}"))
    };
    let mut last = first.map_or(0, |reason| place(&reason));
    if let Some(help) = &verdict.help {
        let next = place(&format!("next: {}", flat(help)));
        assert!(next > last, "{name}\n{text}");
        last = next;
    }
    let record = place("record: ");
    assert!(record > last, "{name}\n{text}");
    assert!(lines[lines.len() - 1].starts_with("1 "), "{name}\n{text}");
    assert!(
        !text.contains("-nodefaults"),
        "{name}: QEMU's command line\n{text}"
    );
    assert!(
        verdict.evidence.is_empty() || all.contains(" in the record "),
        "{name}\n{text}"
    );
    text
}

#[test]
fn each_recorded_failure_is_on_one_screen() {
    for event in recorded() {
        let (run, verdict) = verdict(&event);
        let name = run.to_string();
        let mut texts = vec![examine(&name, &event, Screen::PAGE, ROWS, COLUMNS)];
        for (columns, rows) in SIZES {
            // One is the shell's prompt.
            let (most, wide) = (usize::from(rows) - 1, usize::from(columns));
            let text = examine(&name, &event, terminal((columns, rows)), most, wide);
            // A path stays whole.
            let broken = |line: &&str| line.chars().count() > wide && !line.contains("record: ");
            assert_eq!(text.lines().find(broken), None, "{name}");
            texts.push(text);
        }
        for text in texts {
            let frames = frames(&text);
            let different: BTreeSet<_> = frames.iter().collect();
            assert_eq!(
                frames.len(),
                different.len(),
                "{name}: a trace is there twice\n{text}"
            );
            let code = verdict
                .splat
                .as_ref()
                .and_then(|splat| splat.code.as_deref());
            if let Some(code) = code {
                let place = |line: &str| line.starts_with("    ") && line.contains(code);
                assert!(text.lines().any(place), "{name}: where?\n{text}");
            }
            if verdict
                .evidence
                .iter()
                .any(|piece| piece.text.contains('▶'))
            {
                let marked = |line: &str| line.starts_with("      ▶ ");
                assert!(
                    text.lines().any(marked),
                    "{name}: which task, where?\n{text}"
                );
            }
        }
        // Programs get all of it.
        let mut results = Results::default();
        results.event(&event);
        let document = junit::render(&results).unwrap();
        for piece in &verdict.evidence {
            let last = piece.text.lines().last().unwrap().trim();
            let escapes = [
                ('&', "&amp;"),
                ('<', "&lt;"),
                ('>', "&gt;"),
                ('"', "&quot;"),
                ('\'', "&apos;"),
            ];
            let escape = |text: String, (c, escape): (char, &str)| text.replace(c, escape);
            let quoted = escapes.into_iter().fold(last.to_owned(), escape);
            assert!(
                document.contains(last) || document.contains(&quoted),
                "{name}: {}: {last}",
                piece.title
            );
        }
    }
}

/// A run that ended with this verdict.
fn ended(verdict: Verdict) -> Stamped {
    let mut stamped = run("warn");
    if let Event::RunFinished { verdict: it, .. } = &mut stamped.event {
        *it = verdict;
    }
    stamped
}

#[test]
fn each_console_of_the_corpus_is_on_one_screen() {
    let mut seen = 0;
    for (file, _, console) in corpus::consoles() {
        let Some(splat) = corpus::splat(&console) else {
            continue;
        };
        let tail: Vec<_> = console.lines().rev().take(25).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        let event = ended(
            judge::of_splat(&splat, "step 2 (read /proc/cmdline)")
                .with("the console's last lines", &tail.join("\n"))
                .with(
                    "QEMU's command line",
                    "qemu-system-x86_64 \\\n  -nodefaults",
                ),
        );
        let name = file.display().to_string();
        examine(&name, &event, Screen::PAGE, ROWS, COLUMNS);
        for (columns, rows) in SIZES {
            let (most, wide) = (usize::from(rows) - 1, usize::from(columns));
            examine(&name, &event, terminal((columns, rows)), most, wide);
        }
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn evidence_without_end_is_cut_and_the_first_task_is_not() {
    let task = |n: usize| {
        let frames = "    schedule+0x1/0x2\n".repeat(20);
        format!(
            "\nworker-{n}, pid {n}, sleeping, patch_state 0\n  the kernel: is sleeping on function x\n{frames}  ▶ x{n}+0x1/0x2   x changes\n"
        )
    };
    let tasks: String = (1..=20).map(task).collect();
    let text = format!(
        "v2 is being enabled; tasks that have not switched to patch_state 1: 90 of 99\n{tasks}\nand 70 more\n"
    );
    let long = "word ".repeat(2000);
    let mut many = run("stalled-transition");
    if let Event::RunFinished { verdict, .. } = &mut many.event {
        verdict.evidence[0].text = text;
        verdict
            .reasons
            .extend((0..500).map(|n| format!("step {n}: something else {long}")));
        *verdict = verdict
            .clone()
            .with("something of a later lab", &long.repeat(20));
    }
    for (screen, most, wide) in [(Screen::PAGE, ROWS, COLUMNS), (terminal(SIZES[0]), 23, 80)] {
        let text = shown(&[many.clone()], screen);
        assert!(
            rows(&text, wide) <= most,
            "{} rows\n{text}",
            rows(&text, wide)
        );
        for part in ["worker-1,", "▶ x1+", "(and ", "verdict.json", "record: "] {
            assert!(text.contains(part), "no {part}\n{text}");
        }
    }
    // A word of the message that is in the reason as well; and pieces without number.
    let mut verdict = verdict(&run("warn")).1.clone();
    for piece in &mut verdict.evidence {
        piece.text = piece.text.replace("] provoked\n", "] culprit\n");
    }
    for number in 0..20 {
        verdict = verdict.with(&format!("something else {number}"), &"a line\n".repeat(9));
    }
    let text = shown(&[ended(verdict)], Screen::PAGE);
    assert!(rows(&text, COLUMNS) <= ROWS, "{text}");
    assert_eq!(text.matches("warn.yaml:12").count(), 1, "{text}");
    for part in [
        "    culprit\n",
        "    RIP: 0010:lab_new_0_cmdline_proc_show+",
        "something else 0:",
    ] {
        assert!(text.contains(part), "no {part}\n{text}");
    }
    let nothing = ended(Verdict::against(
        livepatch_lab::verdict::Outcome::Hung,
        Blame::Kernel,
        "",
    ));
    assert!(rows(&shown(&[nothing], Screen::PAGE), COLUMNS) <= 4);
}

#[test]
fn of_several_failures_the_end_is_the_summary() {
    let events = recorded();
    for screen in [Screen::PAGE, terminal(SIZES[0])] {
        let text = shown(&events, screen);
        let (reports, summary) = text.rsplit_once("\n  record: ").unwrap();
        assert_eq!(reports.matches("\n  record: ").count(), events.len() - 1);
        let lines: Vec<_> = summary.lines().skip(1).collect();
        for event in &events {
            let (run, verdict) = verdict(event);
            let begins = format!("{}  {run}: ", verdict.outcome.name());
            let listed = lines.iter().filter(|line| line.starts_with(&begins));
            assert_eq!(listed.count(), 1, "{begins}\n{summary}");
        }
        assert!(lines.len() <= events.len() + 2, "{summary}");
        if let Some(columns) = screen.columns {
            let long = |line: &&&str| line.chars().count() > columns;
            assert_eq!(lines.iter().find(long), None);
        }
    }
}

const HEAD: &str = "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->
<!-- Written by the test `the_page_is_what_the_lab_shows`; do not edit. -->
# Screens

What `lab run` shows on a terminal of 80 columns and 24 rows. A failure fits on it: how the run ended and
whose fault that is, what happened, what to do, then the evidence that is needed first. The last rows name the
files of the record with the rest. Reports for programs (`--report junit=…`, `jsonl=…`) and `verdict.json`
have all of the evidence. Where the output is no terminal, lines stay whole, so that they can be searched.
";

/// What each screen shows, and of which run.
const PAGES: [(&str, &str, &str); 4] = [
    (
        "A transition that does not end",
        "stalled-transition",
        "[stalls.md](stalls.md) says how to go on from here.",
    ),
    (
        "A kernel that complains",
        "warn",
        "Registers, opcodes and unreliable frames are in `console.log`.",
    ),
    (
        "A kernel that panics",
        "panic",
        "What the console said before is there as well.",
    ),
    (
        "A new scenario",
        "my-first",
        "Nobody has accepted a snapshot of it yet; `lab review` shows all of the states.",
    ),
];

const INTERRUPTED: &str = "
## Ctrl-C

While runs are under way, a row each says what they do. Nothing of that stays on the screen.
";

#[test]
fn the_page_is_what_the_lab_shows() {
    let mut page = HEAD.to_owned();
    for (title, scenario, text) in PAGES {
        let screen = shown(&[run(scenario)], terminal(SIZES[0]));
        let _ = write!(page, "\n## {title}\n\n{text}\n\n{}", indented(&screen));
    }
    page += INTERRUPTED;
    // Held against a terminal by tests/tools/on_terminal.rs.
    let screens = include_str!("../screens/ctrl-c.txt");
    for (screen, what) in screens.split("\n\n").zip(["Before:", "After:"]) {
        let _ = write!(page, "\n{what}\n\n{}", indented(screen));
    }
    hold("docs/screens.md", &page);
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| {
        let line = format!("    {line}");
        all + line.trim_end() + "\n"
    })
}
