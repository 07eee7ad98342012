// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts ftrace's function tracer on a function, or stops it.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::kind::{Change, Effects, Lasting, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::klp::shape::FUNCTION_NAME;
use crate::klp::{NONE, text};
use crate::yaml::{Field, Node, Shape, Text};

const TRACED: Text = Text {
    what: "a function to trace or `none`",
    example: "cmdline_proc_show",
    ..FUNCTION_NAME
};

/// Starts ftrace's function tracer on a function, or stops it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The function; `None` to stop, and forget what was traced.
    pub function: Option<String>,
}

impl StepKind for Trace {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "trace",
                Shape::Text(&TRACED),
                "Start ftrace's function tracer on a function; `none` stops it.",
            )
            .also(&["ftrace"]),
        ),
        details: &[],
        rules: &[],
    };

    fn read(node: &Node, _reader: &mut Reader<'_>) -> Self {
        Self {
            function: text(node, "trace").filter(|function| function != NONE),
        }
    }

    fn label(&self) -> String {
        match &self.function {
            Some(function) => format!("trace {function}"),
            None => "stop tracing".to_owned(),
        }
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
            begins: self.function.is_some().then_some(Lasting::Traced),
            ends: self.function.is_none().then_some(Lasting::Traced),
            changes: Change::Watched,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let outcome = stage.guest.trace(self.function.as_deref()).await?;
        stage.note(outcome, None, "tracing");
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let function = self.function.as_deref().unwrap_or_default();
        Ok(vec![Command::new("lab_trace", [function])])
    }
}
