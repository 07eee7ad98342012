// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads a target or a livepatch.

use std::time::Duration;

use serde::Serialize;

use super::bash::Command;
use super::details::{self, ERRNO, HELD_IN, TRANSITION, TRANSITION_RULES, Transition};
use super::kind::{Change, Effects, Place, StepKind, Syntax};
use super::operations::{Host, Operations};
use super::perform::{Spawned, Stage, Stopped};
use super::reader::Reader;
use crate::klp::shape::MODULE;
use crate::klp::{Errno, insmod, kernel_module_name, names};
use crate::yaml::{Field, Lexis, MapOf, Node, Shape, Text};

const PARAMS: Shape = Shape::MapOf(&MapOf {
    what: "a mapping of parameters to values",
    example: "{ verbose: \"1\" }",
    key: &PARAM_NAME,
    value: Shape::Text(&PARAM_VALUE),
    non_empty: true,
});

const PARAM_NAME: Text = Text {
    what: "a parameter name",
    example: "verbose",
    lexis: Lexis::Word {
        first: "A-Za-z_",
        rest: "A-Za-z0-9_",
        max: 64,
    },
    rule: "is a C identifier",
};

const PARAM_VALUE: Text = Text {
    what: "a parameter value",
    example: "fast",
    lexis: Lexis::Custom {
        accepts: names::is_param_value,
        pattern: r#"^[^\s\u0000-\u001f\u007f"]{0,256}$"#,
    },
    rule: "has neither white space nor quotes, because the kernel splits parameters there",
};

/// Loads a target or a livepatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// The target or livepatch.
    pub module: String,
    /// The module's parameters; `${NAME.pids}` stands for the processes of a `spawn` step,
    /// separated by commas.
    pub params: Vec<(String, String)>,
    /// It must fail, and with this.
    pub errno: Option<Errno>,
    /// What must become of the transition.
    pub transition: Transition,
}

impl StepKind for Load {
    const SYNTAX: Syntax = Syntax {
        key: Some(
            Field::optional(
                "load",
                Shape::Text(&MODULE),
                "Load a target or a livepatch.",
            )
            .also(&["insmod", "modprobe", "finit_module", "enable"]),
        ),
        details: &[
            Field::optional("params", PARAMS, "Module parameters."),
            ERRNO,
            TRANSITION,
            HELD_IN,
        ],
        rules: TRANSITION_RULES,
    };

    fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
        let module = node
            .get("load")
            .map(|module| reader.references.module(module));
        let module = module.unwrap_or_default();
        Self {
            transition: reader.transition(node, Some(&module)),
            module,
            params: params(node, reader),
            errno: details::errno(node),
        }
    }

    fn label(&self) -> String {
        format!("load {}", self.module)
    }

    fn effects(&self) -> Effects<'_> {
        Effects {
            place: Place::Guest,
            errno: self.errno,
            loads: Some(&self.module),
            unloads: &[],
            switches: None,
            transition: Some(&self.transition),
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
        let Self {
            module,
            params,
            errno,
            transition,
        } = self;
        let params: Vec<_> = params
            .iter()
            .map(|(name, value)| (name.clone(), interpolated(value, stage.spawned)))
            .collect();
        let begins = *transition != Transition::None;
        let outcome = stage.guest.load(module, &params, begins).await?;
        stage.note(outcome, *errno, &format!("loading {module}"));
        stage.follow(outcome, transition).await?;
        Ok(())
    }

    fn bash(&self, _limit: Option<Duration>) -> Result<Vec<Command>, String> {
        let expected = self.errno.map_or("", insmod);
        let mut words = vec![expected.to_owned(), kernel_module_name(&self.module)];
        for (name, value) in &self.params {
            if spawned_pids(value).is_some() {
                return Err(format!(
                    "the parameter `{name}` wants the pids of a `spawn`"
                ));
            }
            words.push(format!("{name}={value}"));
        }
        Ok(vec![Command::new("lab_load", words)])
    }
}

/// The parameters of a `load`; those with `${NAME.pids}` in them refer to a `spawn`.
fn params(node: &Node, reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let mut params = Vec::new();
    for (key, value) in node.entries_of("params") {
        let Some(text) = value.as_str() else {
            continue;
        };
        if let Some(name) = spawned_pids(text) {
            reader.spawned_before(name, value.span);
        }
        params.push((key.name.clone(), text.to_owned()));
    }
    params
}

/// The name in a value that is `${NAME.pids}`.
fn spawned_pids(value: &str) -> Option<&str> {
    value.strip_prefix("${")?.strip_suffix(".pids}")
}

/// A parameter's value, with the pids that it asks for.
fn interpolated(value: &str, spawned: &Spawned) -> String {
    let pids = spawned_pids(value).and_then(|name| spawned.get(name));
    pids.map_or(value, String::as_str).to_owned()
}

/// Whether a module can be loaded with this parameter.
pub(crate) fn is_param(name: &str, value: &str) -> bool {
    PARAM_NAME.lexis.accepts(name) && names::is_param_value(value)
}
