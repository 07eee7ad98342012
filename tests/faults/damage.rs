// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is cached is not what was written.

use super::{Fault, passes};

pub const KERNEL: Fault = passes("a bit flips in a cached kernel", FLIPPED);
pub const MANIFEST: Fault = passes("a cached kernel's manifest is truncated", TRUNCATED);
pub const IMAGE: Fault = passes("a bit flips in a cached image", FLIPPED);
pub const PACKAGES: Fault = passes(
    "the list of an image's packages is truncated",
    "they are looked up anew",
);
pub const MODULE: Fault = passes("a bit flips in a cached module", FLIPPED);
pub const LOST_MODULE: Fault = passes("a cached module is truncated", FLIPPED);
pub const SOURCE: Fault = passes("a bit flips in a cached source tree", TRUNCATED);
pub const LOST_SOURCE: Fault = passes("a file of a cached source tree is lost", TRUNCATED);
pub const RECORD: Fault = passes(
    "the record of a source is truncated",
    "it is looked up anew",
);

pub const FLIPPED: &str = "is not what was written): making it anew";
pub const TRUNCATED: &str = "it is not whole): making it anew";

pub const FAULTS: [&Fault; 9] = [
    &KERNEL,
    &MANIFEST,
    &IMAGE,
    &PACKAGES,
    &MODULE,
    &LOST_MODULE,
    &SOURCE,
    &LOST_SOURCE,
    &RECORD,
];
