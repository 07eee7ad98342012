// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unloads modules.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, expected};
use super::details::{self, ERRNO};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Answer, Host, Operations, Outcome};
use super::perform::{POLL, Patience, Stage, Stopped};
use super::reader::Reader;
use crate::klp::shape::MODULES;
use crate::klp::{Errno, kernel_module_name};
use crate::yaml::{Field, Node, Shape};

/// How long a module's last reference may outlive the transition.
const LAST_REFERENCE: Duration = Duration::from_secs(3);
/// `delete_module(O_NONBLOCK)` of a module that is in use.
const EAGAIN: i32 = 11;

/// Unloads modules, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unload {
    /// The targets and livepatches.
    pub modules: Vec<String>,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
}

impl StepKind for Unload {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "unload",
                Shape::OneOrMany(&MODULES),
                "Unload modules in this order.",
            )
            .also(&["rmmod", "delete_module", "remove"]),
        ),
        details: &[ERRNO],
        rules: &[],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        let modules = node.get("unload").map_or(&[][..], Node::one_or_many).iter();
        let modules = modules.map(|module| reader.references.module(module));
        Self {
            modules: modules.collect(),
            errno: details::errno(node),
        }
    }

    fn label(&self) -> String {
        format!("unload {}", self.modules.join(", "))
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: self.errno,
            loads: None,
            unloads: &self.modules,
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
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self { modules, errno } = self;
        for module in modules {
            let outcome = unload(stage.guest, module, errno.is_none()).await?;
            stage.note(outcome, *errno, &format!("unloading {module}"));
        }
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let unload = |module: &String| {
            let words = [expected(self.errno), &kernel_module_name(module)];
            Command::new("lab_unload", words)
        };
        Ok(self.modules.iter().map(unload).collect())
    }
}

/// Unloads a module; one that is only just being released gets a little time.
async fn unload(guest: &impl Operations, module: &str, patient: bool) -> Answer<Outcome> {
    let mut patience = Patience::new(LAST_REFERENCE);
    loop {
        let outcome = guest.unload(module).await?;
        if outcome.0 != EAGAIN || !patient || patience.is_over() {
            return Ok(outcome);
        }
        tokio::time::sleep(POLL).await;
    }
}
