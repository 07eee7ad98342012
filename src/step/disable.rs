// SPDX-License-Identifier: MIT OR Apache-2.0
//! Disables a livepatch: writes 0 to `enabled`.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, write};
use super::details::{self, ERRNO, HELD_IN, TRANSITION, TRANSITION_RULES, Transition};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped, attribute};
use super::reader::Reader;
use crate::klp::Errno;
use crate::klp::shape::MODULE;
use crate::yaml::{Field, Node, Shape};

/// Disables a livepatch: writes 0 to `enabled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disable {
    /// The livepatch.
    pub livepatch: String,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
    /// What must become of the transition.
    pub transition: Transition,
}

impl StepKind for Disable {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional("disable", Shape::Text(&MODULE), "Disable a livepatch.")
                .also(&["disabled"]),
        ),
        details: &[ERRNO, TRANSITION, HELD_IN],
        rules: TRANSITION_RULES,
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            livepatch: reader.livepatch(node.get("disable")),
            errno: details::errno(node),
            transition: reader.transition(node, None),
        }
    }

    fn label(&self) -> String {
        format!("disable {}", self.livepatch)
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: self.errno,
            loads: None,
            unloads: &[],
            switches: Some(&self.livepatch),
            transition: Some(&self.transition),
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
        let Self {
            livepatch,
            errno,
            transition,
        } = self;
        let outcome = stage
            .guest
            .switch(&attribute(livepatch, "enabled"), "0")
            .await?;
        stage.note(outcome, *errno, &format!("disabling {livepatch}"));
        stage.follow(outcome, transition).await?;
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let enabled = attribute(&self.livepatch, "enabled");
        Ok(vec![write(self.errno, &enabled, "0")])
    }
}
