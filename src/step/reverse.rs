// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reverses a transition: writes to `enabled` what it is not.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, expected};
use super::details::{self, ERRNO, HELD_IN, TRANSITION, TRANSITION_RULES, Transition};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped, attribute};
use super::reader::Reader;
use crate::klp::shape::MODULE;
use crate::klp::{Errno, kernel_module_name};
use crate::yaml::{Field, Node, Shape};

/// Reverses a transition: writes to `enabled` what it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reverse {
    /// The livepatch in transition.
    pub livepatch: String,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
    /// What must become of the transition.
    pub transition: Transition,
}

impl StepKind for Reverse {
    const SYNTAX: Syntax = Syntax {
        key: Some(Field::optional(
            "reverse",
            Shape::Text(&MODULE),
            "Reverse a livepatch's transition: write to `enabled` what it is not.",
        )),
        details: &[ERRNO, TRANSITION, HELD_IN],
        rules: TRANSITION_RULES,
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            livepatch: reader.livepatch(node.get("reverse")),
            errno: details::errno(node),
            transition: reader.transition(node, None),
        }
    }

    fn label(&self) -> String {
        format!("reverse {}", self.livepatch)
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
        let path = attribute(livepatch, "enabled");
        let (mut outcome, enabled) = stage.guest.read(&path).await?;
        if outcome.is_ok() {
            let reversed = if enabled == "0" { "1" } else { "0" };
            outcome = stage.guest.write(&path, reversed).await?;
        }
        stage.note(outcome, *errno, &format!("reversing {livepatch}"));
        stage.follow(outcome, transition).await?;
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let words = [expected(self.errno), &kernel_module_name(&self.livepatch)];
        Ok(vec![Command::new("lab_reverse", words)])
    }
}
