// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends processes that were spawned.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::details::PROCESSES;
use super::kind::{Change, Effects, Lasting, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use super::spawn::IN_BASH;
use crate::yaml::{Field, Node, Shape};

/// Sends SIGTERM to processes that were spawned, and waits until they have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kill {
    /// What they are called.
    pub name: String,
}

impl StepKind for Kill {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "kill",
                Shape::Text(&PROCESSES),
                "Send SIGTERM to spawned processes, and wait until they have ended.",
            )
            .also(&["stop", "pkill"]),
        ),
        details: &[],
        rules: &[],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        let name = node.get("kill").map(|node| {
            let name = node.as_str().unwrap_or_default();
            reader.spawned_before(name, node.span);
            name.to_owned()
        });
        Self {
            name: name.unwrap_or_default(),
        }
    }

    fn label(&self) -> String {
        format!("kill {}", self.name)
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: None,
            loads: None,
            unloads: &[],
            switches: None,
            transition: None,
            function: None,
            file: None,
            begins: None,
            ends: Some(Lasting::Spawned(&self.name)),
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self { name } = self;
        let outcome = stage.guest.kill(name).await?;
        stage.note(outcome, None, &format!("killing {name}"));
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        Err(IN_BASH.to_owned())
    }
}
