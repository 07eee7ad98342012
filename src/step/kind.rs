// SPDX-License-Identifier: MIT OR Apache-2.0
//! What makes a kind of step, and what a step does to the world, as data.

use std::fmt;
use std::time::Duration;

use super::bash::Command;
use super::details::Transition;
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::klp::{Errno, FunctionRef};
use crate::yaml::{Field, Node, Rule};

/// A kind of step. Nothing here has a default: a kind without one of its parts does not compile.
pub(super) trait StepKind: Sized {
    /// How it is written.
    const SYNTAX: Syntax;

    /// Reads it from a step, and reports what in it refers to nothing.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Self;

    /// It in a few words, for reports and snapshots: "load pricing-v1".
    fn label(&self) -> String;

    /// What it does to the world.
    fn effects(&self) -> Effects<'_>;

    /// Does it.
    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped>;

    /// It in bash, without the wait for its transition. `limit` is the step's own. An `Err` says
    /// what a script cannot do.
    fn bash(&self, limit: Option<Duration>) -> Result<Vec<Command>, String>;
}

/// How a kind of step is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    /// The key that says what happens; `None` if nothing does.
    pub(super) key: Option<Field>,
    /// What may stand beside it. The same detail may be one of several kinds.
    pub(super) details: &'static [Field],
    /// Which keys go together. That a detail needs one of its kinds goes without saying, unless a
    /// rule here says what else it needs.
    pub(super) rules: &'static [Rule],
}

/// What a step does to the world, as far as its scenario says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects<'a> {
    /// Where it happens.
    pub place: Place,
    /// The errno with which it must fail; the other effects are then only tried.
    pub errno: Option<Errno>,
    /// The module that it loads.
    pub loads: Option<&'a str>,
    /// The modules that it unloads, in this order.
    pub unloads: &'a [String],
    /// The livepatch that it disables, reverses or forces.
    pub switches: Option<&'a str>,
    /// What must become of the transition that it starts, or lets go on.
    pub transition: Option<&'a Transition>,
    /// The function of a target that it calls, holds or releases.
    pub function: Option<&'a FunctionRef>,
    /// The file of the guest that it looks at or writes.
    pub file: Option<&'a str>,
    /// What it begins that another step ends.
    pub begins: Option<Lasting<'a>>,
    /// What it ends that another step has begun.
    pub ends: Option<Lasting<'a>>,
    /// What else it changes.
    pub changes: Change<'a>,
}

/// Where a step happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the guest.
    Guest,
    /// On the host, where the kernel's own tree must be.
    Host,
    /// Nowhere: without its expectation the step is none.
    Nowhere,
}

/// What lasts from one step to another. Steps of the same one can only be left out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting<'a> {
    /// A task in a function.
    Held(&'a FunctionRef),
    /// Processes.
    Spawned(&'a str),
    /// What the function tracer records.
    Traced,
}

impl fmt::Display for Lasting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(function) => write!(f, "{function}"),
            Self::Spawned(name) => write!(f, "spawned {name}"),
            Self::Traced => f.write_str("traced"),
        }
    }
}

/// What a step changes of a guest besides its modules and livepatches. Another run may play in
/// the guest only if the agent can say that it is as it was (`agent.c: do_settings()`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Nothing.
    Nothing,
    /// Something that the agent looks at or takes back.
    Watched,
    /// What is in this file. Whether the agent looks at it depends on the scenario's modules.
    File(&'a str),
    /// Something that the agent does not look at: the guest is the scenario's alone.
    Unwatched,
}
