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
use crate::state::stall::{self, Stall};
use crate::state::transition::{Phase, Transition};
use crate::step::Operations;
use crate::verdict::Evidence;
use crate::verdict::evidence::{CPUS, TASKS, TRANSITION};
use crate::vm::machine::Machine;
use crate::vm::registers;

/// What SysRq is asked for: blocked tasks, and the stacks of all CPUs.
const DUMPS: [&str; 2] = ["w", "l"];
/// How long the console must be quiet for a dump to be over.
const QUIET: Duration = Duration::from_millis(300);
/// Tasks that run whose places are looked for, how often, and the pause between.
const RUNNING_MAX: usize = 4;
const SAMPLES: usize = 5;
const BETWEEN: Duration = Duration::from_millis(20);
/// Lines of a dump in a report.
const LINES_MAX: usize = 60;

/// What a guest that is stuck says.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What shows it.
    pub(super) evidence: Vec<Evidence>,
    /// The transition that is open, in a line.
    pub(super) transition: Option<String>,
    /// What to do about that.
    pub(super) help: Option<String>,
    /// Whether its agent answers to a connection of its own.
    pub(super) answers: bool,
}

/// Of a guest whose agent answers: what keeps a transition from its end. `tree` is the kernel's.
pub(super) async fn of_stall(
    machine: &mut Machine,
    guest: &Guest,
    log: &KernelLog,
    names: &Names,
    tree: &Path,
) -> Answer<Found> {
    let blocked = guest.blocked().await?;
    let mut stall = Stall::parse(&blocked, &log.text(), names);
    find_running(machine, guest, &mut stall, tree).await?;
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
    Ok(Found {
        evidence,
        transition: stall.summary(),
        help: stall.help(),
        answers: true,
    })
}

/// Finds out where tasks are that run, from the CPUs that execute them: the kernel reads no stack of
/// such a task.
async fn find_running(
    machine: &mut Machine,
    guest: &Guest,
    stall: &mut Stall,
    tree: &Path,
) -> Answer<()> {
    if stall.unread().next().is_none() {
        return Ok(());
    }
    let symbols = machine.symbols(&system_map(tree)).await;
    for task in stall.unread().take(RUNNING_MAX) {
        let (_, stat) = guest.read(&format!("/proc/{}/stat", task.tid)).await?;
        let Some(cpu) = processor(&stat) else {
            continue;
        };
        let mut places: Vec<String> = Vec::new();
        for _ in 0..SAMPLES {
            // What cannot be had is left out.
            let registers = machine.registers().await.unwrap_or_default();
            let pc = registers::counter_of(&registers, cpu);
            places.extend(pc.map(|pc| symbols.place(pc)));
            tokio::time::sleep(BETWEEN).await;
        }
        // An interrupt may be seen as well.
        task.at = most_common(places).map(|place| (cpu.to_owned(), place));
    }
    Ok(())
}

/// The place in the function that most of the places are in; the first of several.
fn most_common(places: Vec<String>) -> Option<String> {
    let function = |place: &String| place.split('+').next().map(str::to_owned);
    let count = |place: &String| {
        let same = places.iter().filter(|it| function(it) == function(place));
        same.count()
    };
    let first = places.iter().rev().max_by_key(|place| count(place));
    first.cloned()
}

/// The CPU that executes a task or did so last, of `/proc/PID/stat` (`fs/proc/array.c: do_task_stat()`).
fn processor(stat: &str) -> Option<&str> {
    // The name may have spaces and brackets in it; the state is the third field.
    const PROCESSOR: usize = 39;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_whitespace().nth(PROCESSOR - 3)
}

/// Of a guest that does not answer: over a connection of its own, and from outside.
pub(super) async fn of_silence(live: &mut Live, names: &Names, tree: &Path) -> Found {
    let Live {
        machine, keys, log, ..
    } = live;
    let mut found = Found::default();
    // What cannot be had is left out: the verdict stands without it.
    let places = places(machine, tree).await.ok();
    let limit = machine.deadlines.overdue;
    if let Ok(port) = machine.ssh_port().await
        && let Ok(Ok(guest)) = Guest::connect(port, keys, machine.vitals(), limit).await
    {
        // Of a kernel whose memory cannot be read. A full disk shows elsewhere.
        let _ = log.take(guest.log().await.unwrap_or_default());
        let stall = of_stall(machine, &guest, log, names, tree).await;
        found = stall.unwrap_or_default();
        let _ = guest.close().await;
    }
    found.evidence.splice(..0, places);
    // The log is in memory also if nobody answers.
    if found.transition.is_none()
        && let Some(open) = Transition::open(&log.text())
    {
        let livepatch = names.of_module(&open.module);
        found.transition = Some(format!("{livepatch} is {open}"));
        found.help = (open.phase != Phase::Switches).then(|| stall::of_phase(&open));
    }
    found
}

/// Where a guest's CPUs are, now and a moment later: QEMU knows, whatever the guest does. `tree` is
/// the kernel's.
///
/// # Errors
///
/// `Host` if QEMU does not answer.
pub async fn places(machine: &mut Machine, tree: &Path) -> Result<Evidence> {
    let first = machine.registers().await?;
    tokio::time::sleep(QUIET).await;
    let later = machine.registers().await?;
    let symbols = machine.symbols(&system_map(tree)).await;
    let mut places = registers::places(&first, &symbols);
    let later = registers::places(&later, &symbols);
    places.extend(later.into_iter().map(|place| format!("later, {place}")));
    Ok(Evidence {
        title: CPUS.to_owned(),
        text: places.join("\n"),
    })
}

/// The addresses of a kernel's own code; nothing of a kernel that was built elsewhere.
fn system_map(tree: &Path) -> String {
    std::fs::read_to_string(tree.join("build/System.map")).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_found_behind_any_name() {
        let fields: Vec<_> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("39 (a) (b c) R {}", fields.join(" "));
        assert_eq!(processor(&stat), Some("39"));
        assert_eq!(processor("39 (x) R 1 2"), None);
        assert_eq!(processor(""), None);
    }

    #[test]
    fn an_interrupt_among_the_samples_does_not_count() {
        let places = ["sysvec+0x1", "loop+0x9/0x20 [busy]", "loop+0x4/0x20 [busy]"];
        let most = most_common(places.map(str::to_owned).to_vec());
        assert_eq!(most.unwrap(), "loop+0x9/0x20 [busy]");
        assert_eq!(most_common(Vec::new()), None);
    }
}
