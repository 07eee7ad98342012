// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nothing happens: only the expectation is checked.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Stage, Stopped};
use super::reader::Reader;
use crate::yaml::Node;

/// Nothing happens: only the expectation is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nothing;

impl StepKind for Nothing {
    const SYNTAX: Syntax = Syntax {
        key: None,
        details: &[],
        rules: &[],
    };

    fn read(_node: &Node, _reader: &mut Reader<'_>) -> Self {
        Self
    }

    fn label(&self) -> String {
        "expect".to_owned()
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Nowhere,
            errno: None,
            loads: None,
            unloads: &[],
            switches: None,
            transition: None,
            function: None,
            file: None,
            begins: None,
            ends: None,
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        _stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        Ok(Vec::new())
    }
}
