// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest that is stuck says of itself, taken before it is ended: for the person who has to
//! find out why.

use std::path::Path;
use std::time::Duration;

use super::live::Live;
use super::log::KernelLog;
use crate::error::Result;
use crate::guest::{Answer, Guest};
use crate::state::Names;
use crate::state::stall::Stall;
use crate::step::Operations;
use crate::verdict::Evidence;
use crate::verdict::evidence::{CPUS, TASKS, TRANSITION};
use crate::vm::machine::Machine;
use crate::vm::registers;

/// What SysRq is asked for: blocked tasks, and the stacks of all CPUs.
const DUMPS: [&str; 2] = ["w", "l"];
/// How long the console must be quiet for a dump to be over.
const QUIET: Duration = Duration::from_millis(300);
/// Lines of a dump in a report.
const LINES_MAX: usize = 60;

/// Of a guest whose agent answers: what keeps a transition from its end.
pub(super) async fn of_stall(
    machine: &Machine,
    guest: &Guest,
    log: &KernelLog,
    names: &Names,
) -> Answer<Vec<Evidence>> {
    let blocked = guest.blocked().await?;
    let stall = Stall::parse(&blocked, &log.text(), names);
    let mut evidence = Vec::new();
    if stall.livepatch.is_some() {
        evidence.push(Evidence {
            title: TRANSITION.to_owned(),
            text: stall.text(),
        });
    }
    let before = machine.console.len();
    for dump in DUMPS {
        guest.write("/proc/sysrq-trigger", dump).await?;
    }
    quiet(machine).await;
    let dump = machine.console.text_from(before);
    let lines: Vec<_> = dump.lines().filter(|line| !is_register(line)).collect();
    if !lines.is_empty() {
        let mut text = lines[..lines.len().min(LINES_MAX)].join("\n");
        if lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            text += &format!(
                "\n(and {more} lines more, the registers left out as well, in the record's console.log)"
            );
        }
        evidence.push(Evidence {
            title: format!("{TASKS} and the stacks of all CPUs (SysRq w, l)"),
            text,
        });
    }
    Ok(evidence)
}

/// Of a guest that does not answer: over a connection of its own, and from outside.
pub(super) async fn of_silence(live: &mut Live, names: &Names, tree: &Path) -> Vec<Evidence> {
    let Live {
        machine, keys, log, ..
    } = live;
    // What cannot be had is left out: the verdict stands without it.
    let mut evidence = Vec::from_iter(places(machine, tree).await.ok());
    let limit = machine.deadlines.overdue;
    if let Ok(port) = machine.ssh_port().await
        && let Ok(Ok(guest)) = Guest::connect(port, keys, machine.vitals(), limit).await
    {
        // Of a kernel whose memory cannot be read. A full disk shows elsewhere.
        let _ = log.take(guest.log().await.unwrap_or_default());
        let stall = of_stall(machine, &guest, log, names).await;
        evidence.extend(stall.unwrap_or_default());
        let _ = guest.close().await;
    }
    evidence
}

/// Where a guest's CPUs are, now and a moment later: QEMU knows, whatever the guest does. `tree` is
/// the kernel's.
///
/// # Errors
///
/// `Host` if QEMU does not answer.
pub async fn places(machine: &mut Machine, tree: &Path) -> Result<Evidence> {
    let map = std::fs::read_to_string(tree.join("build/System.map")).unwrap_or_default();
    let mut places = registers::places(&machine.registers().await?, &map);
    tokio::time::sleep(QUIET).await;
    let later = registers::places(&machine.registers().await?, &map);
    places.extend(later.into_iter().map(|place| format!("later, {place}")));
    Ok(Evidence {
        title: CPUS.to_owned(),
        text: places.join("\n"),
    })
}

/// Registers of a trace: nobody looks at them first.
fn is_register(line: &str) -> bool {
    let said = line.split_once("] ").map_or(line, |(_, said)| said);
    let name = said.split(':').next().unwrap_or_default();
    let user_space = said.starts_with("RIP: 0033:");
    let x86 = matches!(name, "Code" | "RSP" | "FS" | "CS" | "CR2" | "DR0" | "DR3")
        || (name.len() == 3 && name.starts_with('R') && name != "RIP");
    let arm64 = matches!(name, "pc " | "lr " | "sp " | "pstate" | "Code")
        || (name.starts_with('x') && name.trim_end().len() <= 3);
    user_space || x86 || arm64
}

/// Waits until the console says no more.
async fn quiet(machine: &Machine) {
    let started = tokio::time::Instant::now();
    let mut seen = 0;
    while seen != machine.console.len() && started.elapsed() < machine.deadlines.sysrq {
        seen = machine.console.len();
        tokio::time::sleep(QUIET).await;
    }
}
