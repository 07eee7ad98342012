// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults in real guests and around them, each with the verdict, the blame and the evidence of its
//! table in `tests/faults/`.

mod console;
mod disk;
mod guest;
mod host;
mod hostile;
mod interrupts;
mod mistakes;
mod ports;
mod slow;
