// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults in a guest: what a kernel and its programs can do wrong.

use livepatch_lab::error::Blame;
use livepatch_lab::verdict::{Outcome, SplatKind};

/// A fault, and what must come of it.
pub struct Fault {
    /// The name of the scenario in `scenarios/` that provokes it.
    pub scenario: &'static str,
    /// What happens in the guest.
    pub what: &'static str,
    pub outcome: Outcome,
    pub kind: Option<SplatKind>,
    pub blame: Option<Blame>,
    pub code: u8,
    /// What the first reason says.
    pub reason: &'static str,
    /// Titles of what shows it.
    pub evidence: &'static [&'static str],
    /// What the reasons, the evidence and the next step say as well, each somewhere.
    pub says: &'static [&'static str],
}

pub const SAID: &str = "what the kernel said";
pub const TAIL: &str = "the console's last lines";
pub const DEBUG: &str = "the kernel's last debug messages";
pub const QEMU: &str = "QEMU's command line";
pub const CPUS: &str = "where its CPUs are";
pub const SYSRQ: &str = "blocked tasks and the stacks of all CPUs (SysRq w, l)";
pub const STUCK: &[&str] = &[CPUS, SYSRQ, SAID, TAIL, QEMU];

const fn splat(
    scenario: &'static str,
    what: &'static str,
    kind: SplatKind,
    reason: &'static str,
) -> Fault {
    Fault {
        scenario,
        what,
        outcome: Outcome::Splat,
        kind: Some(kind),
        blame: Some(Blame::Kernel),
        code: 1,
        reason,
        evidence: &[SAID, QEMU],
        says: &[],
    }
}

const fn stuck(
    scenario: &'static str,
    what: &'static str,
    kind: SplatKind,
    reason: &'static str,
) -> Fault {
    let mut fault = splat(scenario, what, kind, reason);
    fault.evidence = STUCK;
    fault
}

const fn panic(scenario: &'static str, what: &'static str) -> Fault {
    let mut fault = splat(
        scenario,
        what,
        SplatKind::Panic,
        "Kernel panic - not syncing: provoked",
    );
    fault.outcome = Outcome::Panicked;
    fault
}

/// What a livepatch leaves behind when it goes: an oops long after the last step.
const fn late(scenario: &'static str, what: &'static str, outcome: Outcome) -> Fault {
    let mut fault = splat(scenario, what, SplatKind::Oops, "after the last step: ");
    fault.outcome = outcome;
    fault
}

const fn gone(
    scenario: &'static str,
    what: &'static str,
    outcome: Outcome,
    reason: &'static str,
) -> Fault {
    let mut fault = splat(scenario, what, SplatKind::Panic, reason);
    fault.outcome = outcome;
    fault.kind = None;
    fault.evidence = &[TAIL, QEMU];
    fault
}

const fn passes(scenario: &'static str, what: &'static str) -> Fault {
    let mut fault = gone(scenario, what, Outcome::Passed, "");
    fault.blame = None;
    fault.code = 0;
    fault.evidence = &[];
    fault
}

/// Some end as others do.
pub const FAULTS: [Fault; 33] = [
    splat(
        "warn",
        "WARN() in a patched function",
        SplatKind::Warning,
        "/warn.yaml:12 at lab_new_0_cmdline_proc_show",
    ),
    passes("warn-allowed", "the same, allowed by the scenario"),
    gone(
        "tainted",
        "a warning that the console does not show",
        Outcome::Splat,
        "the kernel is tainted (W: a warning) without a message on the console",
    ),
    splat(
        "oops",
        "a write to a bad address",
        SplatKind::Oops,
        "NULL pointer dereference",
    ),
    splat("bug", "BUG()", SplatKind::Oops, "/bug.yaml:12!"),
    splat(
        "atomic",
        "sleeping in atomic context",
        SplatKind::Bug,
        "BUG: scheduling while atomic: lab-agent/",
    ),
    {
        let mut fault = panic("panic", "a panic in a step");
        fault.evidence = &[SAID, DEBUG, QEMU];
        fault
    },
    panic("late-panic", "a panic right after the last step"),
    late(
        "late-timer",
        "a timer of a livepatch that is gone",
        Outcome::Panicked,
    ),
    late(
        "late-hrtimer",
        "a high resolution timer with a function of a livepatch that is gone",
        Outcome::Panicked,
    ),
    late(
        "late-work",
        "delayed work with a function of a livepatch that is gone",
        Outcome::Splat,
    ),
    late(
        "late-sleeper",
        "a task that sleeps in a function of a livepatch that is gone",
        Outcome::Splat,
    ),
    {
        let mut fault = late(
            "late-callback",
            "an RCU callback of a livepatch that is gone",
            Outcome::Panicked,
        );
        // Grace periods are short: it may come before the answer to the last step. What is in the
        // place of its function differs.
        fault.reason = ": ";
        fault
    },
    stuck(
        "hung-task",
        "a task that sleeps for ever",
        SplatKind::HungTask,
        "INFO: task lab-agent:",
    ),
    stuck(
        "soft-lockup",
        "a CPU that never schedules",
        SplatKind::Lockup,
        "watchdog: BUG: soft lockup - CPU#",
    ),
    {
        let mut fault = splat(
            "only-cpu",
            "the only CPU never schedules, so that nothing writes to the console",
            SplatKind::Lockup,
            "in the kernel's log, not on its console: watchdog: BUG: soft lockup - CPU#0",
        );
        fault.evidence = &[CPUS, SAID, TAIL, QEMU];
        fault.says = &["CPU 0 at lab_new_0_cmdline_proc_show+0x", " [culprit]"];
        fault
    },
    stuck(
        "rcu-stall",
        "a grace period that cannot end",
        SplatKind::RcuStall,
        "rcu: INFO: rcu_sched ",
    ),
    {
        let mut fault = gone(
            "silence",
            "no CPU takes interrupts",
            Outcome::Hung,
            "no answer to `read /proc/cmdline` within ",
        );
        fault.evidence = &[CPUS, TAIL, DEBUG, QEMU];
        fault
    },
    gone(
        "triple-fault",
        "a triple fault",
        Outcome::Reset,
        "shut down by itself (guest-reset)",
    ),
    gone(
        "silent-reset",
        "a reset without a word",
        Outcome::Reset,
        "shut down by itself (guest-reset)",
    ),
    {
        let mut fault = splat(
            "out-of-memory",
            "all memory is taken",
            SplatKind::OutOfMemory,
            "Out of memory: Killed process",
        );
        fault.blame = Some(Blame::Guest);
        fault
    },
    {
        let mut fault = gone(
            "full-disk",
            "the guest's disk is full",
            Outcome::Failed,
            "the guest's disk is full: reading /proc/cmdline failed: ENOSPC",
        );
        fault.blame = Some(Blame::Guest);
        fault.evidence = &[];
        fault
    },
    {
        let mut fault = gone(
            "big-module",
            "a module that the guest's disk has no room for",
            Outcome::Infra,
            "copying culprit into the guest: ENOSPC",
        );
        fault.blame = Some(Blame::Guest);
        fault.code = 3;
        fault.evidence = &[QEMU];
        fault
    },
    {
        let mut fault = gone(
            "sshd-killed",
            "the ssh servers are killed",
            Outcome::Infra,
            "the connection to the guest was lost",
        );
        fault.blame = Some(Blame::Guest);
        fault.code = 3;
        fault
    },
    {
        let mut fault = splat(
            "flood",
            "100 MB on the console",
            SplatKind::LostMessages,
            " printk messages dropped **",
        );
        fault.outcome = Outcome::Flooded;
        fault
    },
    {
        let mut fault = gone(
            "stalled-transition",
            "a transition that never ends",
            Outcome::StalledTransition,
            "the transition of culprit did not end in 3s",
        );
        fault.evidence = &[
            "the transition",
            SYSRQ,
            "the console's last lines before that",
            DEBUG,
            QEMU,
        ];
        fault
    },
    {
        let mut fault = gone(
            "never-sleeps",
            "a transition waits for a task that never sleeps, on a CPU of its own",
            Outcome::StalledTransition,
            "the transition of culprit did not end in 3s",
        );
        fault.evidence = &["the transition", SYSRQ, QEMU];
        fault.says = &[
            "▶ net_kthread+0x",
            " [busy]   net_kthread changes",
            "net-fix never sleeps and never leaves net_kthread",
        ];
        fault
    },
    {
        let mut fault = gone(
            "callback-hangs",
            "a pre_patch callback that never returns",
            Outcome::Hung,
            "no answer to `load /lab/culprit.ko` within ",
        );
        fault.evidence = &[CPUS, SYSRQ, TAIL, DEBUG, QEMU];
        fault.says = &[
            "culprit is being enabled: its pre_patch callback of shop has not returned",
            "lab_pre_patch_0+0x",
            "see what pre_patch of shop waits for",
        ];
        fault
    },
    {
        let mut fault = gone(
            "callback-spins",
            "a pre_patch callback that keeps the only CPU",
            Outcome::Splat,
            "in the kernel's log, not on its console: watchdog: BUG: soft lockup - CPU#0",
        );
        fault.kind = Some(SplatKind::Lockup);
        fault.evidence = &[CPUS, SAID, TAIL, DEBUG, QEMU];
        fault.says = &[
            "CPU 0 at lab_pre_patch_0+0x",
            " [culprit]",
            "culprit is being enabled: its pre_patch callback of shop has not returned",
        ];
        fault
    },
    {
        let mut fault = splat(
            "stale-int3",
            "QEMU executes an int3 that is no longer in memory (tried again once)",
            SplatKind::Oops,
            "Oops: int3: 0000 [#1] SMP NOPTI in crate_update",
        );
        fault.outcome = Outcome::Infra;
        fault.blame = Some(Blame::Host);
        fault.code = 3;
        fault.says = &[
            "QEMU made this: there is no int3 in memory before RIP (0f <1f> 44 00 00)",
            "With one CPU (--cpus 1), or under KVM, it does not happen",
        ];
        fault
    },
    {
        let mut fault = panic(
            "panic-later",
            "a panic after an expectation that did not hold",
        );
        fault.says = &["before that, step 1 (line 15, load culprit): "];
        fault
    },
    {
        let mut fault = gone(
            "load-errno",
            "a livepatch of a function that the kernel does not have",
            Outcome::Failed,
            "loading culprit failed: EINVAL",
        );
        fault.blame = Some(Blame::File);
        fault.says = &["lab_no_such_function: this kernel has no function of that name"];
        fault.evidence = &[];
        fault
    },
    passes("clock-jump", "the clock jumps to 1970 and to 2100"),
];

/// On the kernel `debug`, which finds them. The scenarios are in `debug/`.
pub const DEBUG_FAULTS: [Fault; 4] = [
    splat(
        "lock-order",
        "locks in both orders",
        SplatKind::Lockdep,
        "WARNING: possible circular locking dependency detected",
    ),
    splat(
        "bad-access",
        "a write behind what was allocated",
        SplatKind::Sanitizer,
        "BUG: KASAN: slab-out-of-bounds in lab_new_0_cmdline_proc_show",
    ),
    splat(
        "bad-index",
        "an index behind the end of an array",
        SplatKind::Sanitizer,
        "/bad-index.yaml:15",
    ),
    splat(
        "bad-context",
        "sleeping where it is not allowed",
        SplatKind::Bug,
        "/bad-context.yaml:13",
    ),
];

/// Before the first step, by inits that do no more than this.
pub const BOOT_FAULTS: [(Fault, &str); 3] = [
    (
        {
            let mut fault = panic("", "a panic at boot");
            fault.reason = "booting: Kernel panic - not syncing: Attempted to kill init!";
            fault
        },
        // A terminal sends in its own time.
        "echo last words\n/bin/busybox sleep 1\nexit 3",
    ),
    (
        {
            let mut fault = gone(
                "",
                "a boot that does not end before --timeout",
                Outcome::TimedOut,
                "booting: the run took longer than --timeout",
            );
            fault.blame = Some(Blame::Limit);
            fault.evidence = &[CPUS, TAIL, QEMU];
            fault
        },
        "while :; do /bin/busybox sleep 60; done",
    ),
    (
        {
            let mut fault = gone(
                "",
                "the ssh server does not start",
                Outcome::Infra,
                "booting: its ssh server did not start",
            );
            fault.blame = Some(Blame::Guest);
            fault.code = 3;
            fault
        },
        "echo 'lab: waiting for an identity'\nread identity\n\
         echo 'lab: dropbear did not start'\nwhile :; do /bin/busybox sleep 60; done",
    ),
];
