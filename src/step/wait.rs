// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for a file of the guest.

use std::time::Duration;

use serde::Serialize;

use super::bash::{Command, own_process, with_newline, within};
use super::details::{EQUALS, PATH};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Answer, Host, Operations};
use super::perform::{POLL, Patience, Stage, Stopped};
use super::reader::Reader;
use crate::klp::text;
use crate::yaml::{Field, Node, Rule, Shape};

/// Waits for a file of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// Its absolute path.
    pub path: String,
    /// What to wait for.
    pub until: WaitUntil,
}

/// What a [`Wait`] waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitUntil {
    /// The file holds this, without the newline at its end.
    Equals(String),
    /// The file is there.
    Exists,
    /// The file is not there.
    Absent,
}

impl StepKind for Wait {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional("wait", Shape::Text(&PATH), "Wait for a file of the guest.")
                .also(&["sleep", "wait_for"]),
        ),
        details: &[
            EQUALS,
            Field::optional("exists", Shape::True, "Wait until the file is there."),
            Field::optional("absent", Shape::True, "Wait until the file is gone."),
        ],
        rules: &[
            Rule::Needs {
                field: "wait",
                one_of: &["equals", "exists", "absent"],
            },
            Rule::AtMostOne(&["equals", "exists", "absent"]),
        ],
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        let until = match reader.content(node.get("equals")) {
            Some(text) => WaitUntil::Equals(text),
            None if node.get("absent").is_some() => WaitUntil::Absent,
            None => WaitUntil::Exists,
        };
        Self {
            path: text(node, "wait").unwrap_or_default(),
            until,
        }
    }

    fn label(&self) -> String {
        format!("wait for {}", self.path)
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
            file: Some(&self.path),
            begins: None,
            ends: None,
            changes: Change::Nothing,
        }
    }

    async fn perform(
        &self,
        stage: &mut Stage<'_, impl Operations, impl Host>,
    ) -> Result<(), Stopped> {
        let Self { path, until } = self;
        let limit = stage.limit;
        let mut patience = Patience::new(limit);
        while let Some(Unmet { found, data }) = unmet(stage.guest, path, until).await? {
            if patience.is_over() {
                let problem = format!("{path} {found} for {limit:?}");
                stage.done.problems.push(problem);
                if let WaitUntil::Equals(wanted) = until {
                    stage.note_newline(&data, wanted);
                }
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn bash(&self, limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let path = &self.path;
        own_process(path)?;
        let (function, words) = match &self.until {
            WaitUntil::Equals(text) => ("lab_wait_equals", vec![path.clone(), with_newline(text)?]),
            WaitUntil::Exists => ("lab_wait_exists", vec![path.clone()]),
            WaitUntil::Absent => ("lab_wait_absent", vec![path.clone()]),
        };
        Ok(vec![Command::new(within(limit, function), words)])
    }
}

/// A file that is not yet what is waited for.
struct Unmet {
    /// What it is instead, in words.
    found: String,
    /// What it holds.
    data: String,
}

/// What a file is instead of what is waited for; `None` once it is.
async fn unmet(guest: &impl Operations, path: &str, until: &WaitUntil) -> Answer<Option<Unmet>> {
    let (outcome, data) = guest.read(path).await?;
    let found = match until {
        WaitUntil::Equals(wanted) => {
            let found = if outcome.is_ok() {
                format!("{data:?}")
            } else {
                outcome.to_string()
            };
            let ok = outcome.is_ok() && data == *wanted;
            (!ok).then(|| format!("was {found} and not {wanted:?}"))
        }
        WaitUntil::Exists => (!outcome.is_ok()).then(|| format!("gave {outcome}")),
        WaitUntil::Absent => outcome.is_ok().then(|| "was still there".to_owned()),
    };
    Ok(found.map(|found| Unmet { found, data }))
}
