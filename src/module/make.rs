// SPDX-License-Identifier: MIT OR Apache-2.0
//! One `make` of modules in their kernel's tree, and what its failure means.

use std::path::Path;

use crate::arch::{Arch, Toolchain};
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::kernel::build::build_error;
use crate::kernel::{self, BuiltKernel};

/// Bytes of a make's output that are kept: a compiler in a loop must not fill the memory.
const OUTPUT_MAX: usize = 1 << 20;

/// Runs make in the kernel's tree for the modules in `folder`. The inner `Err` is its output.
pub(super) async fn make(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    folder: &Path,
    arguments: &[String],
    mut on_line: impl FnMut(&str),
) -> Result<std::result::Result<(), String>> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut output = String::new();
    let finished = kernel::build::make(&kernel.tree(), Toolchain::of(arch))
        .arg(format!("-j{jobs}"))
        .arg(format!("M={}", folder.display()))
        .args(arguments.iter().cloned())
        .run(&ctx.cancel, |line| {
            on_line(line);
            if output.len() < OUTPUT_MAX {
                output += line;
                output.push('\n');
            }
        })
        .await?;
    let made = finished.status.success();
    Ok(if made { Ok(()) } else { Err(output) })
}

/// What make said, as an error of whose modules do not build.
pub(super) fn failure(of: &str, output: &str) -> Error {
    let error = build_error(&format!("building the modules of {of}"), output);
    if error.blame != Blame::Kernel {
        return error;
    }
    let mut error = Error {
        blame: Blame::ModuleBuild,
        ..error
    };
    // That a recipe failed is news only if nobody says why.
    let is_recipe = |line: &String| line.contains("*** [");
    if !error.evidence.iter().all(is_recipe) {
        error.evidence.retain(|line| !is_recipe(line));
    }
    error.help(
        "the generated C is in the run record; correct the `body:` or the names in the scenario",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_that_failed_is_shown_only_if_nobody_says_why() {
        let recipe = "make[4]: *** [Makefile.build:295: fix.o] Error 1";
        let why = "fix.c:9:10: fatal error: linux/x.h: No such file or directory";
        let error = failure("x", &format!("{why}\n{recipe}\n"));
        assert_eq!(
            (error.blame, error.evidence),
            (Blame::ModuleBuild, vec![why.to_owned()])
        );
        assert_eq!(failure("x", recipe).evidence, [recipe]);
    }
}
