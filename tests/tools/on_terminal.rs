// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stays on the screen of a terminal: no row of what is over, none that the terminal had to
//! break, one line for each run that Ctrl-C ends.

use std::fs;

use livepatch_lab::event::{Event, Stamped, VERSION};

use crate::common::terminal::Terminal;
use crate::common::{Project, wait_for};
use crate::faults::interrupts::{IMAGE, KERNEL};
use crate::screens::{SIZES, hold, recorded, shown, terminal, verdict};
use crate::stages::is_through;

/// The screen when the lab has ended.
fn last_rows(terminal: &mut Terminal, last: &str) -> Vec<String> {
    terminal.status();
    wait_for(|| {
        terminal
            .rows()
            .0
            .last()
            .is_some_and(|row| row.contains(last))
    });
    let (rows, broken) = terminal.rows();
    assert!(!broken, "{rows:#?}");
    rows
}

/// An event file.
fn stream(event: &Stamped) -> String {
    let started = Stamped {
        time: event.time.clone(),
        event: Event::Started {
            version: VERSION,
            lab: "0.1.0".into(),
            command: Vec::new(),
        },
    };
    let line = |event: &Stamped| serde_json::to_string(event).unwrap();
    format!("{}\n{}\n", line(&started), line(event))
}

#[test]
fn a_report_is_what_the_terminal_shows() {
    for event in recorded() {
        let project = Project::new();
        let (run, verdict) = verdict(&event);
        project.write("results/events.jsonl", &stream(&event));
        for size in SIZES {
            let args = ["--color=never", "report", "merge", "results"];
            let mut screen = Terminal::of_size(&project, &args, size);
            screen.status();
            let wanted = shown(std::slice::from_ref(&event), terminal(size));
            let wanted: Vec<_> = wanted.lines().map(str::trim_end).collect();
            wait_for(|| screen.rows().0.len() >= wanted.len());
            let (rows, broken) = screen.rows();
            assert_eq!(rows, wanted, "{run} on {size:?}");
            assert!(!broken, "{run} on {size:?}: {rows:#?}");
            // All of it, with the prompt below.
            assert!(rows.len() < usize::from(size.1), "{rows:#?}");
            assert!(rows[0].starts_with(verdict.outcome.name()));
        }
    }
}

/// A project with three scenarios, whose guests are QEMUs that wait.
fn with_three() -> Project {
    let project = Project::with_stages();
    let text = fs::read_to_string(project.path("scenarios/s.yaml")).unwrap();
    fs::remove_file(project.path("scenarios/s.yaml")).unwrap();
    for name in ["first", "second", "third"] {
        project.write(&format!("scenarios/{name}.yaml"), &text);
    }
    for args in [KERNEL, IMAGE] {
        assert!(is_through(&project.lab(args)));
    }
    project.before(
        "qemu-system-x86_64",
        "\ncase \"$*\" in *-qmp*|*-mon*) exec sleep 600;; esac\n",
    );
    project
}

const RUN: [&str; 7] = [
    "run",
    "scenarios",
    "--kernel=fake",
    "--arch=x86_64",
    "--accel=tcg",
    "--cold",
    "--jobs=2",
];

/// Times are those of the day.
fn timeless(rows: &[String]) -> Vec<String> {
    let word = |word: &str| {
        let number = word.trim_end_matches([',', ';', ':']);
        let is_time = number.parse::<f64>().is_ok() && number.contains('.');
        if is_time {
            word.replace(number, "2.0")
        } else {
            word.to_owned()
        }
    };
    let row = |row: &String| {
        let words: Vec<_> = row.split(' ').map(word).collect();
        let row = words.join(" ");
        match row.find(" s  ").filter(|_| row.starts_with("  ")) {
            Some(at) => format!("{:>4}{}", 2, &row[at..]),
            None => match row.split_once(" MiB at most") {
                Some((before, _)) => {
                    let (before, _) = before.rsplit_once(' ').unwrap();
                    format!("{before} 30 MiB at most")
                }
                None => row,
            },
        }
    };
    rows.iter().map(row).collect()
}

#[test]
fn ctrl_c_leaves_a_line_for_each_run_and_no_row_of_what_is_over() {
    // As many boot at once as the host has CPUs.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let runs = cpus.min(2);
    for size in SIZES {
        let project = with_three();
        let mut screen = Terminal::of_size(&project, &RUN, size);
        let boots = |row: &String| row.contains(": boots");
        let mut before = Vec::new();
        wait_for(|| {
            let (rows, broken) = screen.rows();
            assert!(!broken, "{rows:#?}");
            let there = rows.iter().filter(|row| boots(row)).count() == runs
                && rows.last().is_some_and(|row| row.ends_with("0/3"));
            before = rows;
            there
        });
        // What is under way is below all that has been said.
        let said = before.iter().position(boots).unwrap();
        assert_eq!(before.len() - said, runs + 1, "{before:#?}");
        screen.type_in("\u{3}");
        let rows = last_rows(&mut screen, "interrupted");
        assert_eq!(screen.status(), Some(130));
        assert_eq!(rows[..said], before[..said], "{rows:#?}");
        let rest = &rows[said..];
        assert_eq!(rest.len(), runs + 2, "{rows:#?}");
        let ended = |row: &&String| row.starts_with("cancelled  ");
        let mut ended: Vec<_> = rest.iter().filter(ended).collect();
        ended.sort();
        ended.dedup();
        assert_eq!(ended.len(), runs, "{rows:#?}");
        let sum = format!("{runs} cancelled, {} without a result in ", 3 - runs);
        assert!(rest[runs].starts_with(&sum), "{rows:#?}");
        assert_eq!(rest[runs + 1], "interrupted");
        if size == SIZES[0] && runs == 2 {
            let (mut before, mut after) = (timeless(&before[said..]), timeless(rest));
            before[..runs].sort();
            after[..runs].sort();
            let text = format!("{}\n\n{}\n", before.join("\n"), after.join("\n"));
            hold("tests/screens/ctrl-c.txt", &text);
        }
    }
}

#[test]
fn phases_leave_a_line_each() {
    let project = Project::with_stages();
    let mut screen = Terminal::of_size(&project, KERNEL, SIZES[0]);
    assert_eq!(screen.status(), Some(0));
    wait_for(|| {
        let (rows, _) = screen.rows();
        rows.iter().any(|row| row.starts_with("fake x86_64 "))
    });
    let rows = screen.rows().0;
    assert!(
        rows.iter().all(|row| !row.contains(" s  ")),
        "a row of what is over: {rows:#?}"
    );
    // What is too long for one row goes on where its text began.
    let results = rows.iter().position(|row| row.starts_with("fake x86_64 "));
    let is_phase = |row: &&String| row.starts_with("done  ") || row.starts_with("      ");
    let phases = rows.iter().take_while(is_phase).count();
    assert_eq!(Some(phases), results, "{rows:#?}");
    assert!(phases >= 3, "{rows:#?}");
}

#[test]
fn without_a_terminal_there_is_no_colour_and_no_cursor() {
    let project = with_three();
    let environment = [("TERM", "xterm")];
    project.write("results/events.jsonl", &stream(&recorded()[0]));
    let report = project.lab_with(&["report", "merge", "results"], &environment);
    let failed = project.lab_with(&["run", "nothing"], &environment);
    for text in [report.stdout, report.stderr, failed.stdout, failed.stderr] {
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
