// SPDX-License-Identifier: MIT OR Apache-2.0
//! Source patches of which klp-build makes no livepatch, and a klp-build that ends otherwise.

use super::{Fault, passes};

const fn patch(what: &'static str, says: &'static str) -> Fault {
    Fault {
        what,
        outcome: "could not run",
        blame: "module build",
        code: 3,
        says,
    }
}

pub const UNBUILT: Fault = Fault {
    what: "a source patch is for a file that the kernel's config leaves out",
    outcome: "could not run",
    blame: "file",
    code: 2,
    says: "this kernel is built without kernel/kprobes.c (needs CONFIG_KPROBES)",
};
pub const DATA: Fault = patch(
    "a source patch changes data",
    "livepatch v1 does not build: changed data: jiffies",
);
pub const COMPILER: Fault = patch(
    "a source patch is no C",
    "livepatch v1 does not build: kernel/fork.c:1:1: error: x",
);
pub const HUNK: Fault = patch(
    "a source patch does not apply",
    "klp/x.patch does not apply: kernel/fork.c: Hunk #1 FAILED at 7",
);
pub const COMMENT: Fault = patch(
    "a source patch changes comments only",
    "livepatch v1 does not build: no changes detected",
);
pub const IDLE: Fault = patch(
    "a source patch only adds functions",
    "livepatch v1 changes no function of the kernel",
);
pub const INTERRUPTED: Fault = passes(
    "klp-build is interrupted",
    "mended what an interrupted klp-build left behind",
);

pub const FAULTS: [&Fault; 7] = [
    &UNBUILT,
    &DATA,
    &COMPILER,
    &HUNK,
    &COMMENT,
    &IDLE,
    &INTERRUPTED,
];
