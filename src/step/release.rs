// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lets the task leave a function that was held; a transition must then complete, unless other
//! functions are held.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::details::{HELD_IN, TRANSITION, TRANSITION_RULES, Transition};
use super::held::Held;
use super::kind::{Change, Effects, Lasting, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped, target_file};
use super::reader::Reader;
use crate::klp::FunctionRef;
use crate::klp::shape::FUNCTION_REF;
use crate::yaml::{Field, Node, Shape};

/// Lets the task leave a function that was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// The function.
    pub function: FunctionRef,
    /// What must become of the transition.
    pub transition: Transition,
}

impl StepKind for Release {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "release",
                Shape::Text(&FUNCTION_REF),
                "Let the task leave a function that is held.",
            )
            .also(&["unhold", "unblock"]),
        ),
        details: &[TRANSITION, HELD_IN],
        rules: TRANSITION_RULES,
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            function: reader.held_function(node.get("release"), Held::release),
            // What is held is what is left.
            transition: reader.transition(node, None),
        }
    }

    fn label(&self) -> String {
        format!("release {}", self.function)
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: None,
            loads: None,
            unloads: &[],
            switches: None,
            transition: Some(&self.transition),
            function: Some(&self.function),
            file: None,
            begins: None,
            ends: Some(Lasting::Held(&self.function)),
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self {
            function,
            transition,
        } = self;
        let symbol = function.symbol.to_string();
        let file = target_file(function, ".release");
        let outcome = stage.guest.write(&file, &symbol).await?;
        stage.note(outcome, None, &format!("releasing {function}"));
        stage.follow(outcome, transition).await?;
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let symbol = self.function.symbol.to_string();
        let words = [&self.function.object, &symbol];
        Ok(vec![Command::new("lab_release", words)])
    }
}
