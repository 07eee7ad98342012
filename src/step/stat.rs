// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks at the rights of a file of the guest.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, expected, own_process};
use super::details::{self, ERRNO, PATH};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::klp::{Errno, names, text};
use crate::yaml::{Field, Lexis, Node, Rule, Shape, Text};

const RIGHTS: Text = Text {
    what: "a list of rights",
    example: "-rw-r--r--",
    lexis: Lexis::Custom {
        accepts: names::is_rights,
        pattern: "^[-bcdlps]([-r][-w][-xsStT]){3}$",
    },
    rule: "is what ls shows: a letter for the kind of file, and three times `rwx` or `-`",
};

/// Looks at the rights of a file of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// Its absolute path.
    pub path: String,
    /// As ls(1) shows them: `-rw-r--r--`.
    pub rights: Option<String>,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
}

impl StepKind for Stat {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "stat",
                Shape::Text(&PATH),
                "Look at the rights of a file of the guest.",
            )
            .also(&["ls"]),
        ),
        details: &[
            Field::optional(
                "rights",
                Shape::Text(&RIGHTS),
                "The rights as ls shows them.",
            ),
            ERRNO,
        ],
        rules: &[
            Rule::Needs {
                field: "stat",
                one_of: &["rights", "errno"],
            },
            Rule::AtMostOne(&["rights", "errno"]),
        ],
    };

    fn read(node: &Node, _reader: &mut Reader<'_>) -> Self {
        Self {
            path: text(node, "stat").unwrap_or_default(),
            rights: text(node, "rights"),
            errno: details::errno(node),
        }
    }

    fn label(&self) -> String {
        format!("stat {}", self.path)
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: self.errno,
            loads: None,
            unloads: &[],
            switches: None,
            transition: None,
            function: None,
            file: Some(&self.path),
            begins: None,
            ends: None,
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self {
            path,
            rights,
            errno,
        } = self;
        let (outcome, found) = stage.guest.stat(path).await?;
        stage.note(outcome, *errno, &format!("looking at {path}"));
        if let Some(rights) = rights
            && outcome.is_ok()
            && found != *rights
        {
            let problem = format!("the rights of {path} are {found}, not {rights}");
            stage.done.problems.push(problem);
        }
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        own_process(&self.path)?;
        let rights = self.rights.as_deref().unwrap_or_default();
        let words = [expected(self.errno), &self.path, rights];
        Ok(vec![Command::new("lab_stat", words)])
    }
}
