// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is fuzzed: everything that reads what a guest, QEMU or a stranger has written. Shared by
//! the targets of cargo-fuzz and by `tests/fast/hostile.rs`.
//!
//! No panic is the least that must hold. Each target also says what must be so of the outcome.

mod archive;
mod bundle;
mod intake;
mod scenario;

use livepatch_lab::arch::Arch;
use livepatch_lab::event::RunId;
use livepatch_lab::report::paint::{Color, Paint};
use livepatch_lab::report::screen::Screen;
use livepatch_lab::report::{github, human, junit, ktap, read};
use livepatch_lab::scenario::SnapshotScope;
use livepatch_lab::state::observed::run_text;
use livepatch_lab::state::snapshot::{self, SnapshotFile, Subject};
use livepatch_lab::state::stall::{ENDS, Stall};
use livepatch_lab::state::{Names, Observed, diff, witness};
use livepatch_lab::visible::{is_hidden, visible};
use livepatch_lab::vm::console::first_splat;
use livepatch_lab::vm::kernel_log;
use livepatch_lab::vm::modules::{Header, Modules, Table};
use livepatch_lab::vm::qmp::{Lines, Message};
use livepatch_lab::vm::registers::{self, Symbols};
use livepatch_lab::vm::ring::{self, Ring};

/// What is done with an input. It panics if something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("scenario", scenario::scenario),
    ("console", console),
    ("state", state),
    ("snapshot", snapshot),
    ("qmp", qmp),
    ("events", events),
    ("archive", archive::archive),
    ("bundle", bundle::bundle),
    ("module", intake::module),
    ("report", intake::report),
];

/// The target of this name.
pub fn named(name: &str) -> Target {
    let (_, target) = TARGETS
        .iter()
        .find(|(of, _)| *of == name)
        .expect("its name");
    *target
}

/// Text that is shown may break lines, and do nothing else that nobody sees.
fn assert_shows(text: &str) {
    let hidden = |c: char| is_hidden(c) && c != '\n' && c != '\t';
    assert!(!text.contains(hidden), "{text:?}");
}

/// What a guest writes to its console.
fn console(data: &[u8]) {
    let allowed = ["kernel/livepatch/core.c"];
    // Whole lines: half of one may be another one.
    let data = [data, b"\n"].concat();
    let found = first_splat(&data[..], &allowed);
    if let Some(splat) = &found {
        assert_shows(&splat.title);
        assert_shows(&splat.text);
        // Four bytes of the guest at most become three times as many, and a function is named.
        assert!(splat.title.len() <= 3 * 4096 + 600 && splat.text.lines().count() <= 80);
        let mut words = splat.title.split(' ');
        assert!(words.all(|word| word == "in" || splat.text.contains(word)));
        assert!(splat.fatal || !splat.title.contains(allowed[0]));
    }
    // Whatever a guest has said before: it cannot hide that its kernel stopped.
    let panic = b"[    9.000000][    T1] Kernel panic - not syncing: kernel/livepatch/core.c\n";
    let stopped = first_splat(&[&data[..], panic].concat()[..], &allowed);
    let stopped = stopped.expect("a panic is found");
    assert!(stopped.fatal);
    // And the first complaint stays the first.
    if let Some(splat) = found {
        assert_eq!((splat.kind, splat.title), (stopped.kind, stopped.title));
    }
}

/// What a guest says of its state, and of a transition that goes on.
fn state(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let names = Names::default();
    let mut observed = match Observed::parse(&text, &names) {
        Ok(observed) => observed,
        Err(unknown) => {
            let shown = unknown.to_string();
            assert_shows(&shown);
            assert!(!shown.contains('\n') && shown.len() < 2000, "{shown:?}");
            Observed::default()
        }
    };
    let listed = observed.text();
    observed.result = Some(text.clone().into_owned());
    let whole = observed.text();
    for state in [&listed, &whole] {
        assert_shows(state);
        // A guest cannot make what it says look like a step.
        assert!(state.lines().all(|line| line.starts_with("  ")), "{state}");
    }
    // What is shown of a state is no longer than what was said of it, but for its labels and escapes.
    assert!(listed.len() <= 64 * (text.len() + 1));
    assert_eq!(diff::render(&whole, &whole), "");
    assert_eq!(
        diff::render(&listed, &whole).is_empty(),
        listed.trim_end() == whole.trim_end()
    );
    for complaint in witness::complaints(&text) {
        assert!(text.contains("tainted\t"), "{complaint}");
    }
    for record in kernel_log::records(&text) {
        let line = record.line();
        assert_shows(&line);
        assert!(!line.contains('\n'));
    }
    memory(data);
    let stall = Stall::parse(&text, &text, &names);
    assert!(stall.tasks.len() <= 20 && stall.text().lines().count() < 2000);
    if let Some(help) = stall.help() {
        assert_shows(&help);
        // What a guest says of it is in the first line.
        let rest = help.split_once('\n').map_or("", |(_, rest)| rest);
        assert!(rest.is_empty() || rest == ENDS, "{help:?}");
    }
    assert_shows(&visible(&text));
    assert_eq!(visible(&visible(&text)), visible(&text));
}

/// What is where a guest's memory should have a module and its symbols.
fn modules(data: &[u8]) -> Modules {
    let mut modules = Modules::default();
    if let Some(table) = Table::parse(data) {
        assert!(table.symbols.1 <= 4 << 20 && table.strings.1 <= 4 << 20);
    }
    let mut head = [0; 24].to_vec();
    head.extend(b"shop\0");
    head.resize(80, 0);
    head.extend(data);
    if let Some(header) = Header::parse(&head) {
        assert_eq!(header.name, "shop");
        modules.add(header, &[(data.to_vec(), data.to_vec())]);
    }
    modules
}

/// What is where a guest's memory should have its log.
fn memory(data: &[u8]) {
    let found = modules(data);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    for place in data.chunks(8).filter_map(|word8| found.place(word(word8))) {
        assert!(place.ends_with(" [shop]"), "{place}");
        assert_shows(&place);
    }
    assert!(Ring::parse(data).is_none() || data.len() >= ring::HEAD);
    // A ring of 32 descriptors and 1 KiB, with anything in it.
    let word = |word: u64| word.to_le_bytes();
    let place = !0u64 << 30;
    let head = [5, place, place, 0, 0, 0, 10, place].map(word).concat();
    let ring = Ring::parse(&head).expect("a ring");
    let part = |(_, length)| {
        data.iter()
            .copied()
            .cycle()
            .take(length)
            .collect::<Vec<_>>()
    };
    let size = ring.info_size(data).unwrap_or(88);
    let records = ring.records(size, &ring.parts(size).map(part));
    assert!(records.len() <= 32);
    assert!(records.iter().all(|record| record.text.len() <= 3 * 1024));
}

/// A snapshot file, and what becomes of a guest's words in one.
fn snapshot(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let run = RunId {
        scenario: "s".to_owned(),
        kernel: "k".to_owned(),
        arch: Arch::X86_64,
        cpus: None,
    };
    let subject = Subject {
        run: &run,
        file: &dir.path().join("scenarios/s.yaml"),
        scope: SnapshotScope::PerKernel,
        bases: &[],
    };
    let file = SnapshotFile::of(dir.path(), &subject);
    let state = Observed {
        result: Some(String::from_utf8_lossy(data).into_owned()),
        ..Observed::default()
    };
    let said = run_text(&[("read /proc/version".to_owned(), state)]);
    file.accept(&said).expect("writing it");
    let read = snapshot::read(file.path()).expect("reading what was written");
    assert_eq!(read.as_deref(), Some(said.trim_end()));

    std::fs::write(file.path(), data).expect("writing it");
    match snapshot::read(file.path()) {
        Ok(text) => {
            let length = text.expect("it is there").len();
            assert!(data.starts_with(b"---") && length <= data.len());
        }
        Err(error) => assert!(error.help.is_some(), "{error}"),
    }
}

/// What QEMU, or who took its socket, sends. The first byte says in which pieces it comes.
fn qmp(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else {
        return;
    };
    let mut whole = Vec::new();
    Lines::default().take(data, |line| whole.push(line.to_vec()));
    let mut pieces = Vec::new();
    let mut lines = Lines::default();
    for piece in data.chunks(usize::from(size).max(1)) {
        lines.take(piece, |line| pieces.push(line.to_vec()));
    }
    assert_eq!(whole, pieces);
    let ended = data.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(whole.len(), ended, "no line here is too long");
    for line in &whole {
        assert!(!line.contains(&b'\n'));
        let text = String::from_utf8_lossy(line);
        if let Message::Event(_) = Message::parse(&text) {
            assert!(text.contains("event"));
        }
        for place in registers::places(&text, &Symbols::new(MAP, modules(line))) {
            assert!(place.starts_with("CPU ") && !place.contains('\n'));
        }
    }
}

const MAP: &str = "ffffffff81000000 T _text\nffffffff81000100 t cpu_idle_poll\n\
    ffffffff81000200 D data\nffffffff81000300 T last\n";

/// The event file of another lab, in a report.
fn events(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("events.jsonl");
    std::fs::write(&file, data).expect("writing it");
    let results = match read::streams(&file) {
        Ok(streams) => read::merge(streams),
        Err(error) => {
            assert!(error.help.is_some(), "{error}");
            return;
        }
    };
    for screen in [Screen::PAGE, Screen::of(20, 5)] {
        assert_shows(&human::whole(&results, screen, Paint::stdout(Color::Never)));
    }
    assert_shows(&github::render(&results, 1 << 20));
    let junit = junit::render(&results).expect("a report");
    assert_shows(&junit);
    assert_shows(&ktap::render(&results));
}
