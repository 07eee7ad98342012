// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is fuzzed: everything that reads what a guest, QEMU or a stranger has written. Shared by
//! the targets of cargo-fuzz and by `tests/hostile.rs`.

use livepatch_lab::scenario;
use livepatch_lab::state::stall::Stall;
use livepatch_lab::state::{Names, Observed, snapshot, witness};
use livepatch_lab::vm::qmp::Message;
use livepatch_lab::vm::splat::Finder;
use livepatch_lab::yaml::Source;

/// What is done with an input. It panics if something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 5] = [
    ("scenario", scenario),
    ("console", console),
    ("state", state),
    ("snapshot", snapshot),
    ("qmp", qmp),
];

/// A scenario file of a bug report.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let source = Source::new("scenarios/fuzz.yaml", text);
    match scenario::parse("fuzz", &source) {
        Ok(scenario) => {
            for file in livepatch_lab::module::generate::sources(&scenario) {
                assert!(!file.name.contains('/') && !file.name.starts_with('.'));
            }
        }
        Err(diagnostics) => {
            let text = diagnostics.render(&source, false);
            assert!(!text.is_empty() && !text.contains('\u{1b}'));
        }
    }
}

/// What a guest writes to its console.
pub fn console(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut finder = Finder::allowing(&["kernel/livepatch/core.c"]);
    text.lines().for_each(|line| finder.line(line));
    if let Some(splat) = finder.finish() {
        assert!(text.contains(&splat.title));
        assert!(splat.text.lines().count() <= 100);
    }
}

/// What a guest says of its state, and of a transition that goes on.
pub fn state(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let names = Names::default();
    let _ = Observed::parse(&text, &names).text();
    let _ = (witness::complaints(&text), witness::disk_is_full(&text));
    let shown = Stall::parse(&text, &text, &names).text();
    assert!(shown.lines().count() < 2000);
}

/// A snapshot file.
pub fn snapshot(data: &[u8]) {
    let file = tempfile::NamedTempFile::with_suffix(".snap").expect("a temporary file");
    std::fs::write(file.path(), data).expect("writing it");
    let _ = snapshot::read(file.path());
}

/// What QEMU, or who took its socket, sends.
pub fn qmp(data: &[u8]) {
    for line in String::from_utf8_lossy(data).lines() {
        let _ = Message::parse(line);
    }
}
