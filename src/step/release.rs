// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lets the task leave a function that was held; a transition must then complete.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::details::Transition;
use super::held::Held;
use super::kind::{Change, Effects, Lasting, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped, target_file};
use super::reader::Reader;
use crate::klp::FunctionRef;
use crate::klp::shape::FUNCTION_REF;
use crate::yaml::{Field, Node, Shape};

/// Lets the task leave a function that was held; a transition must then complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// The function.
    pub function: FunctionRef,
}

impl StepKind for Release {
    const SYNTAX: Syntax = Syntax {
        key: Some(Field::optional(
            "release",
            Shape::Text(&FUNCTION_REF),
            "Let the task leave a function that is held.",
        )),
        details: &[],
        rules: &[],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            function: reader.held_function(node.get("release"), Held::release),
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
            transition: Some(&Transition::Completes),
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
        let Self { function } = self;
        let symbol = function.symbol.to_string();
        let file = target_file(function, ".release");
        let outcome = stage.guest.write(&file, &symbol).await?;
        stage.note(outcome, None, &format!("releasing {function}"));
        stage.follow(outcome, &Transition::Completes).await?;
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let symbol = self.function.symbol.to_string();
        let words = [&self.function.object, &symbol];
        Ok(vec![Command::new("lab_release", words)])
    }
}
