// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk that becomes full, at every stage of a build and of a run.

use super::{Fault, infra};

pub const SOURCE: Fault = infra("the disk is full: unpacking a source", FULL);
pub const PATCHES: Fault = infra("the disk is full: patching a tree", FULL);
pub const CONFIG: Fault = infra("the disk is full: configuring a kernel", FULL);
pub const OBJECTS: Fault = infra("the disk is full: building a kernel", FULL);
pub const COPY: Fault = infra("the disk is full: copying one's own tree", FULL);
pub const SHARED: Fault = infra("the disk is full: copying a relative's objects", FULL);
pub const LISTS: Fault = infra("the disk is full: reading package lists", FULL);
pub const PACKAGES: Fault = infra("the disk is full: fetching packages", FULL);
pub const IMAGE: Fault = infra("the disk is full: building an image", FULL);
pub const MODULES: Fault = infra("the disk is full: building modules", FULL);
pub const RECORDS: Fault = infra("the disk is full: recording a run", FULL);

pub const GUEST: Fault = infra("the disk is full: a guest boots, or plays its steps", FULL);
pub const MEMORY: Fault = Fault {
    what: "the disk is too small for a guest's memory (--dump-on-panic)",
    outcome: "panicked",
    blame: "kernel",
    code: 1,
    says: "not kept: ",
};

pub const FULL: &str = "No space left on device";

pub const FAULTS: [&Fault; 13] = [
    &SOURCE, &PATCHES, &CONFIG, &OBJECTS, &COPY, &SHARED, &LISTS, &PACKAGES, &IMAGE, &MODULES,
    &RECORDS, &GUEST, &MEMORY,
];
