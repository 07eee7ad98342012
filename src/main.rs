// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `lab` program; see `livepatch_lab::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    livepatch_lab::cli::main()
}
