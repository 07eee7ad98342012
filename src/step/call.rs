// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls a function of a target.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped, target_file};
use super::reader::Reader;
use crate::klp::FunctionRef;
use crate::klp::shape::{FUNCTION_REF, RETURN_VALUE};
use crate::yaml::{Field, Node, Shape};

/// Calls a function of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The function.
    pub function: FunctionRef,
    /// What it must return.
    pub returns: Option<i32>,
}

impl StepKind for Call {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "call",
                Shape::Text(&FUNCTION_REF),
                "Call a function of a target.",
            )
            .also(&["calls", "invoke"]),
        ),
        details: &[Field::optional(
            "returns",
            Shape::Int(&RETURN_VALUE),
            "What the call must return.",
        )],
        rules: &[],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            function: reader.function(node.get("call")),
            returns: node.get("returns").and_then(Node::as_int),
        }
    }

    fn label(&self) -> String {
        format!("call {}", self.function)
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
            begins: None,
            ends: None,
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self { function, returns } = self;
        let file = target_file(function, &function.symbol.to_string());
        let (outcome, answer) = stage.guest.read(&file).await?;
        stage.note(outcome, None, &format!("calling {function}"));
        let done = &mut stage.done;
        if let Some(wanted) = returns
            && outcome.is_ok()
            && answer != wanted.to_string()
        {
            done.problems
                .push(format!("{function} answered {answer}, not {wanted}"));
        }
        done.result.get_or_insert(answer);
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let returns = self.returns.map(|value| value.to_string());
        let symbol = self.function.symbol.to_string();
        let words = [&returns.unwrap_or_default(), &self.function.object, &symbol];
        Ok(vec![Command::new("lab_call", words)])
    }
}
