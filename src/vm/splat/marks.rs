// SPDX-License-Identifier: MIT OR Apache-2.0
//! What splats begin with: the table, and how it is read. Pure.

use super::pattern::{begins, find};
use crate::verdict::SplatKind::{
    self, Bug, HungTask, Lockdep, Lockup, Oops, OutOfMemory, Panic, RcuStall, Sanitizer, Warning,
};

/// Where a splat says which code it is about, if its first line does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// In RIP or pc, or in the frames after `Call Trace:`, whatever comes first.
    Stack,
    /// The same, but its frames have no heading.
    Frames,
    /// In the frames after `stack backtrace:`. What stands before are the stacks of earlier locks.
    Backtrace,
    /// Where the lock that is still held was taken: `#0: … (lock){…}, at: function+0x1/0x2`.
    Held,
    /// In RIP or pc of a CPU that was stopped somewhere in its work.
    Sampled,
    /// Nowhere.
    Unsaid,
}

/// Whether a message is a splat by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// It is.
    Always,
    /// It is if one of the next lines of the same task is one of these.
    Before(&'static [&'static str]),
    /// It is the first part of a line that goes on in one of the next lines in this way.
    GoesOn(&'static str),
    /// It is unless the splat follows for which it prepares.
    Alone,
}

/// What a splat begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// How the message begins; `*` is anything.
    begins: &'static str,
    /// What it is about.
    pub kind: SplatKind,
    /// Where it says in which code.
    pub code: Code,
    /// Whether it is one by itself.
    pub counts: Counts,
    /// Whether it says so much that it is one in the middle of a message as well.
    anywhere: bool,
    /// A splat that begins so and has not ended goes on with this.
    after: &'static [&'static str],
}

const fn mark(begins: &'static str, kind: SplatKind) -> Mark {
    let code = match kind {
        Lockup | RcuStall => Code::Sampled,
        Lockdep => Code::Backtrace,
        OutOfMemory | SplatKind::LostMessages => Code::Unsaid,
        Sanitizer => Code::Frames,
        _ => Code::Stack,
    };
    Mark {
        begins,
        kind,
        code,
        counts: Counts::Always,
        anywhere: false,
        after: &[],
    }
}

impl Mark {
    const fn anywhere(mut self) -> Self {
        self.anywhere = true;
        self
    }

    const fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    const fn counts(mut self, counts: Counts) -> Self {
        self.counts = counts;
        self
    }

    const fn after(mut self, first: &'static [&'static str]) -> Self {
        self.after = first;
        self
    }

    /// Whether it belongs to a splat that began with another mark and this title.
    pub fn continues(&self, first: &Self, title: &str) -> bool {
        let dies = self.kind == Oops && first.kind == Oops;
        dies || self.after.iter().any(|after| begins(title, after))
    }
}

/// `lib/dump_stack.c: dump_stack_print_info()`; before 3.10 `Pid: 1, comm: swapper Not tainted`.
const WHO: &[&str] = &["CPU: *Comm: ", "Pid: *, comm: "];

const SLUB: &[&str] = &["BUG * (*ainted*): "];

/// The special before the general. The message after the time must *begin* so, unless it is to be
/// found anywhere: a livepatch called "BUG" in the middle of a line is none.
const MARKS: &[Mark] = &[
    mark("Kernel panic - ", Panic).anywhere(),
    // Tools that look at each access. They name the code in their first line.
    mark("BUG: KASAN: ", Sanitizer).anywhere(),
    mark("BUG: KASan: ", Sanitizer).anywhere(),
    mark("BUG: KFENCE: ", Sanitizer).anywhere(),
    mark("BUG: KMSAN: ", Sanitizer).anywhere(),
    mark("BUG: KCSAN: ", Sanitizer).anywhere(),
    mark("UBSAN: ", Sanitizer).code(Code::Stack),
    // arch/x86/mm/fault.c: show_fault_oops(); arch/*/kernel/traps.c; lib/bug.c. See also `DIES`.
    mark("BUG: kernel NULL pointer dereference, ", Oops).anywhere(),
    mark("BUG: kernel NULL pointer dereference", Oops),
    mark("BUG: unable to handle kernel ", Oops).anywhere(),
    mark("BUG: unable to handle page fault for address", Oops).anywhere(),
    mark("BUG: unable to handle", Oops),
    mark("BUG: * stack guard page was hit", Oops),
    mark("BUG: stack guard page was hit", Oops),
    mark("kernel BUG at *:*!", Oops).anywhere(),
    mark("kernel BUG at ", Oops),
    mark("Kernel BUG at ", Oops),
    mark("PANIC: ", Oops),
    mark("general protection fault", Oops),
    mark("Unable to handle kernel * at ", Oops).anywhere(),
    mark("Unable to handle kernel", Oops),
    mark("Insufficient stack space to handle exception!", Oops),
    mark("Unexpected kernel BRK exception", Oops),
    mark("Unexpected kernel single-step exception", Oops),
    mark("Unhandled * exception on CPU*, ESR ", Oops),
    mark("SError Interrupt on CPU", Oops),
    // kernel/watchdog.c, kernel/watchdog_perf.c, lib/spinlock_debug.c, kernel/smp.c
    mark("BUG: soft lockup - CPU#", Lockup).anywhere(),
    mark("Watchdog detected hard LOCKUP", Lockup),
    mark("CPU*: Watchdog detected hard LOCKUP", Lockup),
    mark("BUG: workqueue lockup", Lockup).code(Code::Unsaid),
    mark("BUG: spinlock lockup", Lockup).code(Code::Stack),
    mark("BUG: rwlock-lockup", Lockup).code(Code::Stack),
    mark("csd: Detected non-responsive CSD lock", Lockup),
    // kernel/locking/lockdep.c, and kernel/rcu/update.c by way of it
    mark("[ BUG: * ]", Lockdep),
    mark("[ INFO: * ]", Lockdep),
    mark("WARNING: possible circular locking", Lockdep),
    mark("WARNING: possible recursive locking", Lockdep),
    mark("WARNING: possible irq lock inversion", Lockdep),
    mark("WARNING: *-safe -> *-unsafe lock order detected", Lockdep),
    mark("WARNING: inconsistent lock state", Lockdep),
    mark("WARNING: Nested lock was not taken", Lockdep),
    mark("WARNING: bad unlock balance detected", Lockdep),
    mark("WARNING: bad contention detected", Lockdep),
    mark("WARNING: held lock freed", Lockdep),
    mark("WARNING: chain_key collision", Lockdep),
    mark("WARNING: suspicious RCU usage", Lockdep),
    mark("WARNING: lock held when returning to user space", Lockdep).code(Code::Held),
    mark("WARNING: */* still has locks held", Lockdep).code(Code::Held),
    mark("WARNING: ", Lockdep)
        .code(Code::Held)
        .counts(Counts::GoesOn("*/* still has locks held")),
    mark("INFO: trying to register non-static key", Lockdep).code(Code::Stack),
    mark("BUG: MAX_* too low!", Lockdep).code(Code::Stack),
    mark("BUG: looking up invalid subclass", Lockdep).code(Code::Stack),
    mark("BUG: key * has not been registered", Lockdep).code(Code::Stack),
    // Whatever it was: from now on it sees nothing.
    mark("turning off the locking correctness validator", Lockdep)
        .code(Code::Stack)
        .after(&["INFO: trying to register", "BUG: "]),
    // mm/slub.c: __slab_bug(), which ends in a WARN() since 6.15; mm/slab.c before 6.5
    mark("BUG * (Not tainted*): ", Bug),
    mark("BUG * (Tainted: *): ", Bug),
    mark("slab error in *(): cache ", Bug),
    mark("Slab corruption", Bug),
    mark("BUG: ", Bug),
    // kernel/trace/ftrace.c: ftrace_bug(). It warns the first time only.
    mark("------------[ ftrace bug ]------------", Bug)
        .code(Code::Frames)
        .counts(Counts::Alone),
    // fs/super.c: generic_shutdown_super(), which has warned since 6.1
    mark("VFS: Busy inodes after unmount of ", Bug)
        .code(Code::Unsaid)
        .counts(Counts::Alone),
    // kernel/panic.c: __warn(), by version. Older ones have the place first or last.
    mark("WARNING: mm/slub.c:* at ", Warning).after(SLUB),
    mark("WARNING: CPU: * PID: * at mm/slub.c:", Warning).after(SLUB),
    mark("WARNING: CPU: * PID: * at ", Warning).anywhere(),
    mark("WARNING: *:* at *, CPU#*: ", Warning),
    mark("WARNING: *.c:* at ", Warning),
    mark("WARNING: *.h:* at ", Warning),
    mark("WARNING: at *, CPU#*: ", Warning),
    mark("WARNING: at *.c:* ", Warning),
    mark("WARNING: at *.h:* ", Warning),
    mark("WARNING: * at *.c:*", Warning),
    mark("WARNING: * at *+0x*/0x*", Warning),
    // Without a place, and a splat all the same: arch/x86/kernel/unwind_{frame,orc}.c found a stack or
    // its own tables broken. Livepatches rest on them, and it cannot show a stack.
    mark("WARNING: kernel stack regs at * has bad ", Warning).code(Code::Unsaid),
    mark(
        "WARNING: kernel stack frame pointer at * has bad value",
        Warning,
    )
    .code(Code::Unsaid),
    mark("WARNING: stack recursion on stack type", Warning).code(Code::Unsaid),
    mark("WARNING: WARNING: bad lookup ", Warning).code(Code::Unsaid),
    mark("WARNING: WARNING: * .orc_unwind table", Warning).code(Code::Unsaid),
    mark("WARNING: unknown *.orc_unwind entry", Warning).code(Code::Unsaid),
    // Any other is what a driver has to say, unless a stack comes with it.
    mark("WARNING: ", Warning).counts(Counts::Before(WHO)),
    // kernel/hung_task.c: of its messages, those that say for how long. A name may have newlines.
    mark("INFO: task * blocked* for more than * seconds", HungTask).anywhere(),
    mark("INFO: task * can't die in more than * seconds", HungTask),
    mark("INFO: task ", HungTask).counts(Counts::GoesOn("*:* blocked* for more than * seconds")),
    // net/core/dev.c: netdev_wait_allrefs_any(): a task that waits for references that nobody drops
    mark(
        "unregister_netdevice: waiting for * to become free",
        HungTask,
    )
    .code(Code::Unsaid)
    .anywhere(),
    // kernel/rcu/tree_stall.h, kernel/rcu/tasks.h
    mark("INFO: rcu_* self-detected stall", RcuStall).anywhere(),
    mark("INFO: rcu_* detected *stall", RcuStall).anywhere(),
    mark("INFO: rcu_", RcuStall),
    // mm/oom_kill.c; `Kill process` before 5.3
    mark("Out of memory: Kill", OutOfMemory),
    mark("Memory cgroup out of memory: Kill", OutOfMemory),
];

/// `arch/*/kernel/: die()`: `divide error: 0000 [#1] SMP`, `Internal error: Oops: 96000044 [#1] SMP`.
const DIES: Mark = mark("", Oops);

// `Oops: ` and `Internal error: ` alone are what a driver says of itself.

/// What some of them have before their first words.
const PREFIXES: [&str; 5] = ["NMI watchdog: ", "watchdog: ", "rcu: ", "traps: ", "smp: "];

impl Counts {
    /// Lines of the same task in which it is decided.
    pub fn within(self) -> usize {
        match self {
            Self::Always => 0,
            Self::Before(_) => 6,
            // A name has 15 characters; `ftrace_bug()` writes up to 12 lines before it warns.
            Self::GoesOn(_) | Self::Alone => 16,
        }
    }
}

/// The mark with which a message begins, or all that may turn out to be it.
pub fn of(message: &str) -> Vec<&'static Mark> {
    let stripped = PREFIXES
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix));
    let text = stripped.unwrap_or(message);
    let all = MARKS.iter().filter(|mark| begins(text, mark.begins));
    let always = all.clone().find(|mark| mark.counts == Counts::Always);
    match always {
        Some(mark) => vec![mark],
        None if dies(message) => vec![&DIES],
        None => all.collect(),
    }
}

/// The mark in the middle of a message, and the title from there on.
pub fn within(message: &str) -> Option<(&'static Mark, &str)> {
    // What ends a splat names it again.
    if message.starts_with("---[ end ") {
        return None;
    }
    let mut marks = MARKS.iter().filter(|mark| mark.anywhere);
    marks.find_map(|mark| Some((mark, find(message, mark.begins)?)))
}

/// Whether a message is `name: 0000 [#1]`.
fn dies(message: &str) -> bool {
    let Some((before, after)) = message.split_once(" [#") else {
        return false;
    };
    let (count, end) = after.split_at(after.bytes().take_while(u8::is_ascii_digit).count());
    let code = before.rsplit_once(": ").map(|(_, code)| code);
    let is_code = |code: &str| {
        (1..=16).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    !count.is_empty() && end.starts_with(']') && code.is_some_and(is_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_can_be_reached() {
        for mark in MARKS {
            let filled = mark.begins.replace('*', "x");
            let marks = of(&filled);
            let same = |one: &&Mark| one.kind == mark.kind;
            assert!(marks.iter().any(same), "{filled}");
        }
    }

    #[test]
    fn a_task_that_dies_says_how_and_how_often() {
        for (message, is) in [
            ("divide error: 0000 [#1] SMP KASAN", true),
            ("Oops: stack segment: 0000 [#12] SMP", true),
            (
                "Internal error: synchronous external abort: 96000210 [#1]",
                true,
            ),
            ("CPU: 0 PID: 1 Comm: swapper Not tainted 4.9.0 #1", false),
            ("usb: endpoint [#1]", false),
            ("x: 0000 [#]", false),
            ("x: 0000 [#1", false),
        ] {
            assert_eq!(dies(message), is, "{message}");
        }
    }
}
