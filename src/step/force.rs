// SPDX-License-Identifier: MIT OR Apache-2.0
//! Forces a transition to complete: writes 1 to `force`.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, write};
use super::details::{self, ERRNO, Transition};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped, attribute};
use super::reader::Reader;
use crate::klp::Errno;
use crate::klp::shape::MODULE;
use crate::yaml::{Field, Node, Shape};

/// Forces a transition to complete: writes 1 to `force`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Force {
    /// The livepatch in transition.
    pub livepatch: String,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
}

impl StepKind for Force {
    const SYNTAX: Syntax = Syntax {
        key: Some(Field::optional(
            "force",
            Shape::Text(&MODULE),
            "Force a livepatch's transition to complete.",
        )),
        details: &[ERRNO],
        rules: &[],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            livepatch: reader.livepatch(node.get("force")),
            errno: details::errno(node),
        }
    }

    fn label(&self) -> String {
        format!("force {}", self.livepatch)
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: self.errno,
            loads: None,
            unloads: &[],
            switches: Some(&self.livepatch),
            transition: Some(&Transition::Completes),
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
        let Self { livepatch, errno } = self;
        let outcome = stage
            .guest
            .write(&attribute(livepatch, "force"), "1")
            .await?;
        stage.note(outcome, *errno, &format!("forcing {livepatch}"));
        stage.follow(outcome, &Transition::Completes).await?;
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let force = attribute(&self.livepatch, "force");
        Ok(vec![write(self.errno, &force, "1")])
    }
}
