// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ports of 127.0.0.1 that others have.

use super::{Fault, infra, passes};

pub const FEW: Fault = passes("nearly all ports of 127.0.0.1 are taken", "passed");
pub const NONE: Fault = infra(
    "no port of 127.0.0.1 is free",
    "no port of 127.0.0.1 is free",
);

pub const FAULTS: [&Fault; 2] = [&FEW, &NONE];
