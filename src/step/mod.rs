// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps: a file for each kind, which says how a step of it is written, what it does to the world,
//! how it is performed and what it is in bash.
//!
//! All but [`perform`] is pure, and that knows a guest and the host as operations only: who
//! carries them out stands above.

pub(crate) mod bash;
mod call;
mod details;
mod disable;
mod dynamic_debug;
mod expect;
mod force;
mod held;
mod hold;
mod kill;
mod kind;
mod klp_build;
mod load;
mod log_lines;
mod mistake;
mod nothing;
mod operations;
mod perform;
mod read;
mod reader;
mod release;
mod reverse;
pub(crate) mod shape;
mod spawn;
mod stat;
mod trace;
mod unload;
mod wait;
mod write;

pub use details::Transition;
pub use expect::Expect;
pub use kind::{Change, Effects, Lasting, Place};
pub use mistake::{Fails, Mistake, Subject};
pub use operations::{Answer, Outcome, Silence, Unsettled};
pub use perform::{Performed, Spawned, Stopped};
pub use spawn::Hammer;
pub use wait::WaitUntil;

pub(crate) use details::STEP_NAME;
pub(crate) use load::is_param;
pub(crate) use log_lines::{taints, varies};
pub(crate) use operations::{Host, Operations};

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::klp::{Errno, Livepatch, References, Target, text};
use crate::yaml::{Diagnostic, Diagnostics, Node, Source, Span};
use bash::Command;
use held::Held;
use kind::{StepKind, Syntax};
use perform::Stage;
use reader::Reader;

/// Makes the table of kinds an [`Action`].
macro_rules! kinds {
    ($($file:ident::$kind:ident),* $(,)?) => {
        $(pub use $file::$kind;)*

        /// What happens in a [`Step`].
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Action {
            $(
                #[doc = concat!("See [`", stringify!($kind), "`].")]
                $kind($kind),
            )*
        }

        /// How each kind is written.
        const SYNTAXES: &[Syntax] = &[$($kind::SYNTAX),*];

        impl Action {
            /// Reads what a step does.
            fn read(node: &Node, reader: &mut Reader<'_>) -> Self {
                $(
                    if $kind::SYNTAX.key.is_some_and(|key| node.get(key.name).is_some()) {
                        return Self::$kind($kind::read(node, reader));
                    }
                )*
                Self::Nothing(Nothing)
            }

            /// The key under which the action is written; `None` if nothing happens.
            #[must_use]
            pub fn key(&self) -> Option<&'static str> {
                let syntax = match self {
                    $(Self::$kind(_) => $kind::SYNTAX,)*
                };
                syntax.key.map(|key| key.name)
            }

            /// The action in a few words, for reports and snapshots: "load pricing-v1".
            #[must_use]
            pub fn label(&self) -> String {
                match self {
                    $(Self::$kind(kind) => kind.label(),)*
                }
            }

            /// What it does to the world.
            #[must_use]
            pub fn effects(&self) -> Effects<'_> {
                match self {
                    $(Self::$kind(kind) => kind.effects(),)*
                }
            }

            async fn perform(
                &self,
                stage: &mut Stage<'_, impl Operations, impl Host>,
            ) -> Result<(), Stopped> {
                match self {
                    $(Self::$kind(kind) => kind.perform(stage).await,)*
                }
            }

            fn bash(&self, limit: Option<Duration>) -> Result<Vec<Command>, String> {
                match self {
                    $(Self::$kind(kind) => kind.bash(limit),)*
                }
            }
        }
    };
}

// The table of kinds, in the order in which messages list them.
kinds! {
    load::Load,
    disable::Disable,
    reverse::Reverse,
    force::Force,
    unload::Unload,
    hold::Hold,
    release::Release,
    call::Call,
    read::Read,
    write::Write,
    wait::Wait,
    stat::Stat,
    spawn::Spawn,
    kill::Kill,
    trace::Trace,
    dynamic_debug::DynamicDebug,
    klp_build::KlpBuild,
    nothing::Nothing,
}

impl Action {
    /// The errno with which the action must fail, if it must.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.effects().errno
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

/// Whether a step begins with this key.
#[must_use]
pub fn is_action(key: &str) -> bool {
    let mut keys = SYNTAXES.iter().filter_map(|syntax| syntax.key);
    keys.any(|known| known.name == key)
}

/// One thing that happens, and what must be so afterwards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The line of the file on which it starts, from 1.
    pub line: usize,
    /// What it is called, if anything refers to it.
    pub name: Option<String>,
    /// What happens.
    pub action: Action,
    /// What must be so afterwards.
    pub expect: Option<Expect>,
    /// How long it may take, if not as long as usual.
    pub timeout: Option<Duration>,
    /// A file that must be there, or else the step is skipped: not every kernel has each attribute.
    pub requires: Option<String>,
}

impl Step {
    /// The calls in bash that perform the action and wait for its transition.
    ///
    /// # Errors
    ///
    /// What a script cannot do.
    pub(crate) fn bash(&self) -> Result<Vec<Command>, String> {
        if let Some(file) = &self.requires {
            bash::own_process(file)?;
        }
        let mut commands = self.action.bash(self.timeout)?;
        let Effects {
            errno, transition, ..
        } = self.action.effects();
        commands.extend(transition.and_then(|it| bash::follow(errno, it, self.timeout)));
        Ok(commands)
    }
}

/// The steps of a scenario.
pub(crate) fn read(
    root: &Node,
    source: &Source,
    targets: &[Target],
    livepatches: &[Livepatch],
    diagnostics: &mut Diagnostics,
) -> Vec<Step> {
    let steps = root.get("steps").map_or(&[][..], Node::items);
    unique_names(steps, diagnostics);
    let mut reader = Reader {
        references: References {
            targets,
            livepatches,
            diagnostics,
        },
        held: Held::default(),
        spawned: Vec::new(),
        text: &source.text,
    };
    steps
        .iter()
        .map(|node| Step {
            line: source.line(node.span.start),
            name: text(node, "name"),
            action: Action::read(node, &mut reader),
            expect: node
                .get("expect")
                .map(|node| expect::read(node, &mut reader.references)),
            timeout: node.get("timeout").and_then(Node::as_duration),
            requires: node.get("requires").and_then(|node| text(node, "file")),
        })
        .collect()
}

fn unique_names(steps: &[Node], diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for node in steps.iter().filter_map(|step| step.get("name")) {
        if let Some(name) = node.as_str()
            && let Some(first) = seen.insert(name, node.span)
        {
            let message = format!("two steps are called `{name}`");
            let diagnostic = Diagnostic::new(node.span, message)
                .label("again here")
                .related(first, "first here");
            diagnostics.push(diagnostic);
        }
    }
}

/// Performs a step's action, unless the kernel lacks what the step requires. What is waited for may
/// take `limit`, or as long as the step says itself.
pub(crate) async fn perform(
    step: &Step,
    guest: &impl Operations,
    host: &impl Host,
    spawned: &mut Spawned,
    limit: Duration,
) -> Result<Performed, Stopped> {
    let mut stage = Stage {
        guest,
        host,
        spawned,
        limit: step.timeout.unwrap_or(limit),
        done: Performed::default(),
    };
    if let Some(file) = &step.requires
        && !guest.stat(file).await?.0.is_ok()
    {
        stage.done.skipped = true;
        stage.done.result = Some(format!("skipped: there is no {file}"));
        return Ok(stage.done);
    }
    step.action.perform(&mut stage).await?;
    Ok(stage.done)
}
