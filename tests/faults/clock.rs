// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that was set back.

use super::{Fault, passes};

pub const OBJECTS: Fault = passes(
    "the clock is set back, then a source changes",
    "what changed is built anew, and nothing else",
);
pub const RESUMED: Fault = passes(
    "the clock is set back while a build is interrupted",
    "the build goes on",
);
pub const CACHE: Fault = passes(
    "the clock is set back, then the cache is pruned",
    "all counts as used now",
);
pub const RECORDS: Fault = passes(
    "the clock is set back between two runs",
    "`latest` is the last one",
);

pub const FAULTS: [&Fault; 4] = [&OBJECTS, &RESUMED, &CACHE, &RECORDS];
