// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes of a scenario's author that only a guest shows: the scenarios are in `mistakes/`. Those that
//! `lab check` finds are in `tests/fast/scenario_errors/`.

use livepatch_lab::error::Blame;
use livepatch_lab::verdict::Outcome;

use super::guest::Fault;

const fn mistake(scenario: &'static str, what: &'static str, reason: &'static str) -> Fault {
    Fault {
        scenario,
        what,
        outcome: Outcome::Failed,
        kind: None,
        blame: Some(Blame::File),
        code: 1,
        reason,
        evidence: &[],
        says: &[],
    }
}

const fn stalls(scenario: &'static str, what: &'static str, reason: &'static str) -> Fault {
    let mut fault = mistake(scenario, what, reason);
    fault.outcome = Outcome::StalledTransition;
    fault.evidence = &["the transition"];
    fault
}

const fn passes(scenario: &'static str, what: &'static str) -> Fault {
    let mut fault = mistake(scenario, what, "");
    fault.outcome = Outcome::Passed;
    fault.blame = None;
    fault.code = 0;
    fault
}

pub const MISTAKES: [Fault; 18] = [
    mistake(
        "loaded-twice",
        "a module is loaded that is loaded",
        "shop is loaded already (step 1): loading shop failed: EEXIST",
    ),
    mistake(
        "hold-without-target",
        "a function of a target is held that is not loaded",
        "shop is not loaded: holding shop.price failed: ENOENT",
    ),
    mistake(
        "call-without-target",
        "a function of a target is called that is not loaded",
        "shop is not loaded: calling shop.price failed: ENOENT",
    ),
    mistake(
        "answers-without-target",
        "an answer is expected of a target that is not loaded",
        "shop is not loaded: shop.price cannot be called",
    ),
    mistake(
        "never-enabled",
        "a livepatch is disabled that was never loaded",
        "fix is not loaded: disabling fix failed: ENOENT",
    ),
    mistake(
        "still-enabled",
        "a livepatch is unloaded that is enabled",
        "fix is enabled (step 1): unloading fix failed: EAGAIN",
    ),
    mistake(
        "another-transition",
        "a livepatch is loaded while another one is in transition",
        "fix is in transition (begun in step 3): loading other failed: EBUSY",
    ),
    stalls(
        "held-by-itself",
        "a transition must complete, whose function the scenario holds",
        "step 2 holds shop.price, which fix changes: the transition of fix did not end in 3s",
    ),
    stalls(
        "released-in-part",
        "the same, where only the guest can say it",
        "only what the scenario holds keeps it open: shop.price (step 3)",
    ),
    mistake(
        "newline",
        "`equals` has the newline at a file's end",
        "leaves out the newline at a file's end: /proc/sys/kernel/ostype holds \"Linux\", not \"Linux\\n\"",
    ),
    mistake(
        "kill-of-nothing",
        "processes are killed that were not spawned",
        "hammers are not running: killing hammers failed: ESRCH",
    ),
    mistake(
        "read-of-a-folder",
        "a folder is read like a file",
        "/sys/kernel/livepatch is a folder: reading /sys/kernel/livepatch failed: EISDIR",
    ),
    mistake(
        "no-query",
        "dynamic_debug does not understand a query",
        "the kernel does not understand the query: the query \"nonsense\" failed: EINVAL",
    ),
    {
        let mut fault = mistake(
            "splat-that-must-come",
            "a splat that must come does not",
            "the kernel has not said \"WARNING: culprit.c\", and must",
        );
        fault.blame = Some(Blame::Kernel);
        fault
    },
    passes("splat-that-may-come", "an allowed splat does not come"),
    passes(
        "two-releases",
        "of two held functions, one is released and then the other",
    ),
    passes(
        "init-fails",
        "a target that a livepatch patches fails in its init, as the scenario says",
    ),
    passes(
        "lacking-target",
        "a target lacks what a livepatch patches, and must be refused",
    ),
];
