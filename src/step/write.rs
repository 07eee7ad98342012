// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a file of the guest.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, own_process, write};
use super::details::{self, DATA, ERRNO, PATH};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::klp::{Errno, text};
use crate::yaml::{Field, Node, Rule, Shape};

/// Writes a file of the guest. No transition is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Its absolute path.
    pub path: String,
    /// What is written, in one `write(2)`.
    pub data: String,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
}

impl StepKind for Write {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional("write", Shape::Text(&PATH), "Write a file of the guest.")
                .also(&["echo", "tee"]),
        ),
        details: &[
            Field::optional("data", Shape::Text(&DATA), "What is written, all at once."),
            ERRNO,
        ],
        rules: &[Rule::Needs {
            field: "write",
            one_of: &["data"],
        }],
    };

    fn read(node: &Node, _reader: &mut Reader<'_>) -> Self {
        Self {
            path: text(node, "write").unwrap_or_default(),
            data: text(node, "data").unwrap_or_default(),
            errno: details::errno(node),
        }
    }

    fn label(&self) -> String {
        format!("write {}", self.path)
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
            changes: Change::File(&self.path),
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self { path, data, errno } = self;
        let outcome = stage.guest.write(path, data).await?;
        stage.note(outcome, *errno, &format!("writing {path}"));
        stage.note_folder(outcome, path);
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        own_process(&self.path)?;
        Ok(vec![write(self.errno, &self.path, &self.data)])
    }
}
