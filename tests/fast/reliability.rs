// SPDX-License-Identifier: MIT OR Apache-2.0
//! `docs/reliability.md`: what happens to a run when something goes wrong, from the tables of the
//! tests that provoke it.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::faults::{
    self, clock, damage, disk, guest, host, interrupts, klp_build, mistakes, ports, snapshots,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const HEAD: &str = "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->
<!-- Written by the test `the_page_is_what_the_tests_say`; do not edit. -->
# Reliability

Each fault below is provoked by a test of `tests/tools/` or `tests/guests/`, which fails if the
verdict, the blame, the exit code or the evidence is another one. No process is left behind, and the next run succeeds.

## In the guest

Provoked in real guests of x86_64 and arm64 by the scenarios in `tests/faults/scenarios/`.
";

const BOOT: &str = "
Before the first step, by an init that goes wrong:
";

const DEBUG: &str = "
On the kernel `debug` (lockdep, KASAN, UBSAN), by the scenarios in `tests/faults/debug/`; nightly, since
building it takes minutes.
";

const MISTAKES: &str = "
By the author of a scenario, in `tests/faults/mistakes/`, and what only looks like a mistake; `lab check`
finds those that can be known before anything boots:
";

const AROUND: &str = "
## Around the guests
";

const INTERRUPTS: &str = "
## Ctrl-C, and a lab that is killed

In each of these phases, once: lab tells what runs to end, and ends with 130 when it has. Twice: it kills
what runs and ends with 130 at once, also if that does not listen. Killed itself (SIGKILL): the kernel
kills what it had started. Each time nothing half-made counts as finished.

";

fn page() -> String {
    let mut text = HEAD.to_owned();
    text += &table(guest::FAULTS.iter());
    text += BOOT;
    text += &table(guest::BOOT_FAULTS.iter().map(|(fault, _)| fault));
    text += DEBUG;
    text += &table(guest::DEBUG_FAULTS.iter());
    text += MISTAKES;
    text += &table(mistakes::MISTAKES.iter());
    text += AROUND;
    let all = host::FAULTS.iter().chain(&disk::FAULTS);
    text += &around(
        all.chain(&clock::FAULTS)
            .chain(&damage::FAULTS)
            .chain(&klp_build::FAULTS)
            .chain(&ports::FAULTS)
            .chain(&snapshots::FAULTS)
            .chain(&interrupts::FAULTS)
            .copied(),
    );
    text += INTERRUPTS;
    let phases = interrupts::PHASES.iter().map(|phase| phase.what);
    for phase in phases.chain(interrupts::OTHERS) {
        let _ = writeln!(text, "- {phase}");
    }
    text
}

fn around(faults: impl Iterator<Item = &'static faults::Fault>) -> String {
    let mut text = "\n| fault | what the lab does | blame | exit | its message says |\n".to_owned();
    text += "|---|---|---|---|---|\n";
    for fault in faults {
        let (what, outcome, blame, code) = (fault.what, fault.outcome, fault.blame, fault.code);
        let says = if fault.says == outcome {
            ""
        } else {
            fault.says
        };
        let _ = writeln!(text, "| {what} | {outcome} | {blame} | {code} | {says} |");
    }
    text
}

fn table<'a>(faults: impl Iterator<Item = &'a guest::Fault>) -> String {
    let mut text = "\n| fault | verdict | kind of splat | blame | exit | evidence |\n".to_owned();
    text += "|---|---|---|---|---|---|\n";
    for fault in faults {
        let kind = fault.kind.map_or("", |kind| kind.name());
        let blame = fault
            .blame
            .map(|blame| blame.to_string())
            .unwrap_or_default();
        let (what, outcome, code) = (fault.what, fault.outcome.name(), fault.code);
        let evidence = fault.evidence.join("; ");
        let _ = writeln!(
            text,
            "| {what} | {outcome} | {kind} | {blame} | {code} | {evidence} |"
        );
    }
    text
}

#[test]
fn the_page_is_what_the_tests_say() {
    let page = page();
    let file = Path::new(ROOT).join("docs/reliability.md");
    if fs::read_to_string(&file).unwrap_or_default() != page {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reliability.md");
        fs::write(&new, &page).unwrap();
        panic!(
            "docs/reliability.md is out of date: cp {} docs/",
            new.display()
        );
    }
}
