// SPDX-License-Identifier: MIT OR Apache-2.0
//! Turns pr_debug() messages on or off.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, no_nul, write};
use super::details::DATA;
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::mistake::{Fails, Mistake};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::klp::texts;
use crate::yaml::{Field, List, Node, Shape};

/// What a query is answered with that cannot be parsed (`lib/dynamic_debug.c: ddebug_exec_query()`).
const EINVAL: i32 = 22;

/// Where pr_debug() messages are turned on and off.
const CONTROL: &str = "/sys/kernel/debug/dynamic_debug/control";

const QUERIES: List = List {
    what: "a list of queries",
    example: "[file kernel/livepatch/* +p]",
    item: Shape::Text(&DATA),
    non_empty: true,
    unique: true,
};

/// Turns pr_debug() messages on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DynamicDebug {
    /// Queries as `/sys/kernel/debug/dynamic_debug/control` takes them.
    pub queries: Vec<String>,
}

impl StepKind for DynamicDebug {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "dynamic-debug",
                Shape::OneOrMany(&QUERIES),
                "Turn pr_debug() messages on or off.",
            )
            .also(&["dyndbg", "pr_debug"]),
        ),
        details: &[],
        rules: &[],
    };

    fn read(node: &Node, _reader: &mut Reader<'_>) -> Self {
        Self {
            queries: texts(node.get("dynamic-debug")),
        }
    }

    fn label(&self) -> String {
        format!("dynamic-debug {}", self.queries.join("; "))
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
            ends: None,
            changes: Change::Watched,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        for query in &self.queries {
            let outcome = stage.guest.write(CONTROL, query).await?;
            stage.note(outcome, None, &format!("the query {query:?}"));
            if outcome.0 == EINVAL {
                let what = "the kernel does not understand the query".to_owned();
                let help = "see Documentation/admin-guide/dynamic-debug-howto.rst, for example \
                            `file kernel/livepatch/core.c +p`";
                stage.done.mistake = Some(Mistake::new(what, Fails::With(EINVAL), help));
            }
        }
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let query = |query: &String| Ok(write(None, CONTROL, no_nul(query)?));
        self.queries.iter().map(query).collect()
    }
}
