// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consoles of real guests in `splats/`, and written ones in `splats/written/`: the recogniser must
//! find in each what its first line says. `none` is a console on which nothing is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_lab::vm::splat::{Finder, Splat};

/// What is on a console.
pub fn splat(text: &str) -> Option<Splat> {
    let mut finder = Finder::default();
    text.lines().for_each(|line| finder.line(line));
    finder.finish()
}

/// The files: what must be found, and the console.
pub fn consoles() -> Vec<(PathBuf, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/splats");
    let entries = [&folder, &folder.join("written")].map(|folder| fs::read_dir(folder).unwrap());
    let mut files: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 90);
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let (wanted, console) = text.split_once('\n').unwrap();
        (file, wanted.to_owned(), console.to_owned())
    };
    files.into_iter().map(read).collect()
}

/// What is found, as the first lines say it.
fn found(console: &str) -> String {
    match splat(console) {
        Some(splat) => {
            let fatal = if splat.fatal { ", fatal" } else { "" };
            format!("{}{fatal}: {}", splat.kind, splat.title)
        }
        None => "none".to_owned(),
    }
}

#[test]
fn the_recogniser_finds_what_is_on_consoles() {
    let mut wrong = Vec::new();
    for (file, wanted, console) in consoles() {
        let found = found(&console);
        if found != wanted {
            wrong.push(format!("{}: {found:?}, not {wanted:?}", file.display()));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// What becomes of a time and a message.
type Style = fn(&str, &str) -> String;

/// A line in another style, if it has a time.
fn restyled(line: &str, style: Style) -> String {
    let timed = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let timed = timed.filter(|(time, _)| time.trim().parse::<f64>().is_ok());
    timed.map_or(line.to_owned(), |(time, rest)| {
        style(time, rest.strip_prefix(' ').unwrap_or(rest))
    })
}

#[test]
fn they_are_the_same_in_the_style_of_other_kernels() {
    // What is only told apart by the time or the task.
    let apart = [
        "a-program-quotes",
        "no-stack-of-another",
        "behind-a-message",
        "two-at-once",
    ];
    let mut wrong = Vec::new();
    for (file, wanted, console) in consoles() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        if apart.contains(&name) || console.contains("][") {
            continue;
        }
        let styles: [(&str, Style); 3] = [
            ("without times", |_, message| message.to_owned()),
            ("with callers", |time, message| {
                format!("[{time}][  T412] {message}")
            }),
            ("with levels", |time, message| {
                format!("<4>[{time}] {message}")
            }),
        ];
        for (style, restyle) in styles {
            let lines = console.lines().map(|line| restyled(line, restyle));
            let found = found(&lines.collect::<Vec<_>>().join("\n"));
            if found != wanted {
                wrong.push(format!("{name} {style}: {found:?}, not {wanted:?}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The console of a file in `written/`.
fn written(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/splats/written");
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn the_text_of_a_long_splat_has_its_beginning_and_the_frame_that_matters() {
    let console = written("long-chain.txt");
    assert!(console.lines().count() > 200);
    let text = splat(&console).unwrap().text;
    assert!(text.lines().count() <= 80, "{text}");
    assert!(
        text.contains("WARNING: possible circular locking"),
        "{text}"
    );
    assert!(text.contains("crate_circle+0x5c/0xc0 [crate]\n"), "{text}");
    assert!(text.contains(" lines are left out]\n"), "{text}");
}

#[test]
fn a_splat_is_settled_when_its_code_was_said() {
    let console = written("null-in-memcpy.txt");
    let until = |mark: &str| &console[..console.find(mark).unwrap()];
    assert!(!splat(until("RIP: ")).unwrap().settled);
    assert!(!splat(until("crate_copy")).unwrap().settled);
    assert!(splat(until("entry_SYSCALL")).unwrap().settled);
    // Of a lone line nothing more comes.
    assert!(splat(&written("netdevice.txt")).unwrap().settled);
}

#[test]
fn a_splat_is_allowed_by_its_first_line_or_by_its_code() {
    let console = written("null-in-memcpy.txt");
    let find = |allowed: &[&str], text: &str| {
        let mut finder = Finder::allowing(allowed);
        text.lines().for_each(|line| finder.line(line));
        finder.finish().map(|splat| splat.title)
    };
    // `Oops:` is not another one.
    assert_eq!(find(&["NULL pointer dereference"], &console), None);
    assert_eq!(find(&["0000000000000000 in crate_copy"], &console), None);
    assert!(find(&["0000000000000000 in crate_move"], &console).is_some());
    // What follows it is, at once or of another task.
    let two = written("two-at-once.txt");
    let other = find(&["in crate_weigh"], &two).unwrap();
    assert!(other.ends_with(" in shelf_other"), "{other}");
    let next = console + &written("warning-with-a-stack.txt");
    assert!(
        find(&["NULL pointer"], &next)
            .unwrap()
            .ends_with(" in crate_seal")
    );
}
