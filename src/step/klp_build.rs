// SPDX-License-Identifier: MIT OR Apache-2.0
//! Giving options to a kernel's klp-build, without building anything.

use std::path::Path;

use super::Performed;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::process::Cmd;

/// klp-build looks for its patches right after its options, so that the complaint about this one
/// says that the options were accepted.
const NO_SUCH_PATCH: &str = "lab-no-such.patch";

/// Gives `options` to the klp-build of the kernel source in `tree`. It must accept them, or reject
/// them with an error that has `rejects` in it.
pub async fn try_options(
    ctx: &Context,
    tree: &Path,
    options: &[String],
    rejects: Option<&str>,
) -> Result<Performed> {
    // An empty folder of its own: if klp-build went on, it would have nothing to spoil.
    let dir = tempfile::tempdir()
        .map_err(|error| Error::host(format!("cannot make a temporary folder: {error}")))?;
    let mut output = String::new();
    let script = tree.join("scripts/livepatch/klp-build");
    Cmd::new("bash")
        .arg(script)
        .args(options)
        .arg(NO_SUCH_PATCH)
        .dir(dir.path())
        .env("LC_ALL", "C")
        .run(&ctx.cancel, |line| {
            if output.is_empty() && !line.trim().is_empty() {
                line.clone_into(&mut output);
            }
        })
        .await?;
    Ok(judge(&output, rejects))
}

/// Compares klp-build's first words with what must happen.
fn judge(said: &str, rejects: Option<&str>) -> Performed {
    let said = said.strip_prefix("error: klp-build: ").unwrap_or(said);
    let accepted = said.contains(NO_SUCH_PATCH);
    let problem = match rejects {
        None if !accepted => Some(format!("klp-build rejects the options: {said}")),
        Some(_) if accepted => Some("klp-build accepts the options".to_owned()),
        Some(wanted) if !said.contains(wanted) => {
            Some(format!("klp-build says {said:?}, without {wanted:?}"))
        }
        _ => None,
    };
    Performed {
        result: Some(if accepted { "accepted" } else { said }.to_owned()),
        problems: problem.into_iter().collect(),
        ..Performed::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_about_the_patch_means_that_the_options_are_right() {
        let accepted = "error: klp-build: lab-no-such.patch doesn't exist";
        assert!(judge(accepted, None).problems.is_empty());
        assert_eq!(
            judge(accepted, Some("invalid")).problems,
            ["klp-build accepts the options"]
        );
        let rejected = "error: klp-build: invalid replace tag 'abc'";
        assert!(
            judge(rejected, Some("invalid replace tag"))
                .problems
                .is_empty()
        );
        assert_eq!(judge(rejected, Some("combined")).problems.len(), 1);
        assert_eq!(judge(rejected, None).problems.len(), 1);
    }
}
