// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do next about a guest that was lost or whose kernel complained.

use crate::verdict::SplatKind;

/// About a guest that does not answer.
pub(super) const SILENCE: &str = "see where its CPUs are; `--pause-on-failure` keeps the guest, and \
    with `--gdb` a debugger can look into it";
/// The same if it has one CPU: its console is written by a task.
pub(super) const ONE_CPU: &str =
    "a stuck CPU writes nothing: with --cpus 2 the other one writes the kernel's complaint";
/// About a panic.
pub(super) const PANIC: &str = "look at the function that the trace names; `--dump-on-panic` keeps the \
    guest's memory for crash and drgn";
/// About a machine that was reset.
pub(super) const RESET: &str =
    "a triple fault, or a call that resets the machine, leaves no message";
/// About a flood.
pub(super) const FLOOD: &str = "the record's console.log begins with the messages before the flood";
/// About a run that met `--timeout`.
pub(super) const LIMIT: &str =
    "give it more time with --timeout, or find out what it waits for (`--pause-on-failure`)";
/// About a warning whose text no console has.
pub(super) const TAINTED: &str = "the console does not say it: a step lowers the level of what it shows, \
    or it was lost; kernel.log in the record may have it";
/// About an answer that makes no sense.
pub(super) const NONSENSE: &str = "what the guest runs is broken: look at its console, and at the image \
    if that is one of your own";
/// About states that nobody can read.
pub(super) const STATES: &str = "a file that a step reads, or the log of a step, is too long: the record's \
    states/ has what came before";
/// About a guest that had too little memory.
const MORE_MEMORY: &str =
    "a step or a livepatch needs more memory: --memory 1G, or `machine: { memory: 1G }`";

/// About a kernel's complaint.
pub(super) fn about(kind: SplatKind, fatal: bool) -> &'static str {
    match kind {
        SplatKind::OutOfMemory => MORE_MEMORY,
        _ if fatal => PANIC,
        SplatKind::Panic => PANIC,
        SplatKind::Lockup => {
            "a loop in the kernel does not give its CPU back: its stack shows where. One that may take \
             long calls cond_resched()"
        }
        SplatKind::HungTask => {
            "the task waits for what does not come: its stack names what it waits in, and who should \
             wake it is to be found from there"
        }
        SplatKind::RcuStall => {
            "a CPU or a task stays between rcu_read_lock() and rcu_read_unlock(), or does not schedule: \
             the stacks show where"
        }
        SplatKind::LostMessages => FLOOD,
        SplatKind::Warning | SplatKind::Lockdep | SplatKind::Sanitizer => {
            "look at the function that it names; a scenario that provokes it on purpose says so with \
             `allow_splats`"
        }
        SplatKind::Oops | SplatKind::Bug => {
            "look at the function that it names; `--pause-on-failure` keeps the guest, and with `--gdb` a \
             debugger can look into it"
        }
    }
}
