// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives options to a kernel's klp-build, without building anything.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::details::NEEDLE;
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::klp::{names, text, texts};
use crate::yaml::{Field, Lexis, List, Node, Shape, Text};

/// klp-build looks for its patches right after its options, so that the complaint about this one
/// says that the options were accepted.
const NO_SUCH_PATCH: &str = "lab-no-such.patch";

const OPTIONS: List = List {
    what: "a list of options",
    example: "[-t, \"1\"]",
    item: Shape::Text(&OPTION),
    non_empty: true,
    unique: false,
};

const OPTION: Text = Text {
    what: "an option",
    example: "--no-replace",
    lexis: Lexis::Custom {
        accepts: names::is_option,
        pattern: r"^[A-Za-z0-9_.+,=-]{0,256}$",
    },
    rule: "has letters, digits and `_.+,=-` only, because klp-build is a script on the host",
};

/// Gives options to the kernel's own klp-build, on the host. Nothing is built: klp-build must
/// accept the options, or reject them at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KlpBuild {
    /// The options.
    pub options: Vec<String>,
    /// They must be rejected, and this must occur in the error.
    pub rejects: Option<String>,
}

impl StepKind for KlpBuild {
    const SYNTAX: Syntax = Syntax {
        key: Some(Field::optional(
            "klp-build",
            Shape::OneOrMany(&OPTIONS),
            "Give options to the kernel's klp-build, which must accept them; nothing is built.",
        )),
        details: &[Field::optional(
            "rejects",
            Shape::Text(&NEEDLE),
            "klp-build must reject the options at once, with this in its error.",
        )],
        rules: &[],
    };

    fn read(node: &Node, _reader: &mut Reader<'_>) -> Self {
        Self {
            options: texts(node.get("klp-build")),
            rejects: text(node, "rejects"),
        }
    }

    fn label(&self) -> String {
        format!("klp-build {}", shell_words(&self.options))
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Host,
            errno: None,
            loads: None,
            unloads: &[],
            switches: None,
            transition: None,
            function: None,
            file: None,
            begins: None,
            ends: None,
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let mut words: Vec<_> = self.options.iter().map(String::as_str).collect();
        words.push(NO_SUCH_PATCH);
        let said = stage.host.klp_build(&words).await.map_err(Stopped::Host)?;
        let (result, problem) = judge(&said, self.rejects.as_deref());
        stage.done.result = Some(result);
        stage.done.problems.extend(problem);
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        Err("klp-build runs on the machine that builds, not in the test".to_owned())
    }
}

/// Options as one would type them, as far as options of scenarios go.
fn shell_words(options: &[String]) -> String {
    let word = |option: &String| match option.as_str() {
        "" => "''".to_owned(),
        option => option.to_owned(),
    };
    options.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// What klp-build's first words mean, and what is wrong with that.
fn judge(said: &str, rejects: Option<&str>) -> (String, Option<String>) {
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
    let result = if accepted { "accepted" } else { said };
    (result.to_owned(), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_about_the_patch_means_that_the_options_are_right() {
        let accepted = "error: klp-build: lab-no-such.patch doesn't exist";
        assert_eq!(judge(accepted, None), ("accepted".to_owned(), None));
        assert_eq!(
            judge(accepted, Some("invalid")).1.as_deref(),
            Some("klp-build accepts the options")
        );
        let rejected = "error: klp-build: invalid replace tag 'abc'";
        assert_eq!(judge(rejected, Some("invalid replace tag")).1, None);
        assert!(judge(rejected, Some("combined")).1.is_some());
        assert!(judge(rejected, None).1.is_some());
    }
}
