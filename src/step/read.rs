// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a file of the guest.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, expected, no_nul, own_process, with_newline};
use super::details::{self, EQUALS, ERRNO, NEEDLE, PATH};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::klp::{Errno, text};
use crate::yaml::{Field, Node, Rule, Shape};

/// Reads a file of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Its absolute path.
    pub path: String,
    /// What it must hold, without the newline at its end.
    pub equals: Option<String>,
    /// What must occur in it.
    pub contains: Option<String>,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
}

impl StepKind for Read {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional("read", Shape::Text(&PATH), "Read a file of the guest.")
                .also(&["cat", "file"]),
        ),
        details: &[
            EQUALS,
            Field::optional(
                "contains",
                Shape::Text(&NEEDLE),
                "What must occur in the file.",
            ),
            ERRNO,
        ],
        rules: &[
            // What fails reads nothing.
            Rule::AtMostOne(&["equals", "contains", "errno"]),
        ],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            path: text(node, "read").unwrap_or_default(),
            equals: reader.content(node.get("equals")),
            contains: text(node, "contains"),
            errno: details::errno(node),
        }
    }

    fn label(&self) -> String {
        format!("read {}", self.path)
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
            equals,
            contains,
            errno,
        } = self;
        let (outcome, data) = stage.guest.read(path).await?;
        stage.note(outcome, *errno, &format!("reading {path}"));
        stage.note_folder(outcome, path);
        if !outcome.is_ok() {
            return Ok(());
        }
        if let Some(wanted) = equals
            && data != *wanted
        {
            let problem = format!("{path} holds {data:?}, not {wanted:?}");
            stage.done.problems.push(problem);
            stage.note_newline(&data, wanted);
        }
        if let Some(part) = contains
            && !data.contains(part)
        {
            let problem = format!("{path} holds {data:?}, without {part:?}");
            stage.done.problems.push(problem);
        }
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let Self {
            path,
            equals,
            contains,
            errno,
        } = self;
        own_process(path)?;
        let mut commands = Vec::new();
        if let Some(text) = equals {
            let words = [path, &with_newline(text)?];
            commands.push(Command::new("lab_read_equals", words));
        }
        if let Some(text) = contains {
            commands.push(Command::new("lab_read_contains", [path, no_nul(text)?]));
        }
        if commands.is_empty() || errno.is_some() {
            commands.push(Command::new("lab_read", [expected(*errno), path]));
        }
        Ok(commands)
    }
}
