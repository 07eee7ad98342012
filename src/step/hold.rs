// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lets a task enter a function, as it is now, and stay in it.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::held::Held;
use super::kind::{Change, Effects, Lasting, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped, target_file};
use super::reader::Reader;
use crate::klp::FunctionRef;
use crate::klp::shape::FUNCTION_REF;
use crate::yaml::{Field, Node, Shape};

/// Lets a task enter a function, as it is now, and stay in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// The function.
    pub function: FunctionRef,
}

impl StepKind for Hold {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "hold",
                Shape::Text(&FUNCTION_REF),
                "Let a task enter a function of a target and stay in it.",
            )
            .also(&["block", "pin"]),
        ),
        details: &[],
        rules: &[],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            function: reader.held_function(node.get("hold"), Held::hold),
        }
    }

    fn label(&self) -> String {
        format!("hold {}", self.function)
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: None,
            loads: None,
            unloads: &[],
            switches: None,
            transition: None,
            function: Some(&self.function),
            file: None,
            begins: Some(Lasting::Held(&self.function)),
            ends: None,
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self { function } = self;
        let symbol = function.symbol.to_string();
        let file = target_file(function, ".hold");
        let outcome = stage.guest.write(&file, &symbol).await?;
        stage.note(outcome, None, &format!("holding {function}"));
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let symbol = self.function.symbol.to_string();
        let words = [&self.function.object, &symbol];
        Ok(vec![Command::new("lab_hold", words)])
    }
}
