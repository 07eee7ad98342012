// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts processes that do nothing but make a system call, over and over.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::details::PROCESSES;
use super::kind::{Change, Effects, Lasting, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::yaml::{Diagnostic, Field, Int, Node, OneOf, Rule, Shape};

const HAMMER: Shape = Shape::OneOf(&OneOf {
    what: "a system call",
    names: &Hammer::NAMES,
});

const COUNT: Int = Int {
    what: "a number of processes",
    min: 1,
    max: 64,
};

/// Why no script can have such processes.
pub(super) const IN_BASH: &str = "bash has no process that does nothing but a system call";

/// Starts processes that do nothing but make a system call, over and over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spawn {
    /// What they are called.
    pub name: String,
    /// The system call.
    pub hammer: Hammer,
    /// How many; one for each CPU of the guest if it is not said.
    pub count: Option<u32>,
}

/// What the processes of a [`Spawn`] do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hammer {
    /// `getpid(2)`.
    Getpid,
}

impl Hammer {
    /// The names of all, as they are written in YAML files.
    pub const NAMES: [&'static str; 1] = ["getpid"];
}

impl StepKind for Spawn {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "spawn",
                Shape::Text(&PROCESSES),
                "Start processes of this name that make a system call over and over.",
            )
            .also(&["fork", "start"]),
        ),
        details: &[
            Field::optional("hammer", HAMMER, "The system call that the processes make."),
            Field::optional(
                "count",
                Shape::Int(&COUNT),
                "How many processes; one for each CPU by default.",
            ),
        ],
        rules: &[Rule::Needs {
            field: "spawn",
            one_of: &["hammer"],
        }],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        Self {
            name: node
                .get("spawn")
                .map(|name| new_name(name, reader))
                .unwrap_or_default(),
            hammer: Hammer::Getpid,
            count: node.get("count").and_then(Node::as_int),
        }
    }

    fn label(&self) -> String {
        format!("spawn {}", self.name)
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
            begins: Some(Lasting::Spawned(&self.name)),
            ends: None,
            changes: Change::Watched,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self {
            name,
            hammer: Hammer::Getpid,
            count,
        } = self;
        let (outcome, pids) = stage.guest.spawn(name, "getpid", *count).await?;
        stage.note(outcome, None, &format!("spawning {name}"));
        stage.spawned.insert(name.clone(), pids);
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        Err(IN_BASH.to_owned())
    }
}

/// A name that no processes have yet.
fn new_name(node: &Node, reader: &mut Reader<'_>) -> String {
    let name = node.as_str().unwrap_or_default().to_owned();
    if reader.spawned.contains(&name) {
        let message = format!("there are processes called `{name}` already");
        reader
            .references
            .report(Diagnostic::new(node.span, message).label("again here"));
    }
    reader.spawned.push(name.clone());
    name
}
