// SPDX-License-Identifier: MIT OR Apache-2.0
//! Livepatch selftests in bash, above all the kernel's own: played unmodified in a guest, and what
//! they say set beside what the scenarios say.

pub mod compare;
pub mod mutations;
pub mod originals;
pub mod output;
pub mod play;
