// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments that stop a run with its guest alive.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use super::{duration, runs_in_ci};
use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::event::Events;
use crate::host;
use crate::runner::pause::{At, Keyboard, Pause};
use crate::scenario::Scenario;
use crate::vm::gdb;
use crate::yaml::suggest;

/// How long a run is paused where nobody sits at a terminal, if nobody says how long.
const LIMIT: Duration = Duration::from_hours(1);

/// When to stop with the guest alive.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Stop after STEP (its number or its `name:`; 0 is before the first) with the guest alive, say
    /// how to enter it, and go on at Enter or `lab continue`.
    #[arg(long, value_name = "STEP")]
    pause_at: Option<String>,
    /// The same at a failure: a failed expectation, a stalled transition, a kernel splat, a
    /// difference from the snapshot.
    #[arg(long)]
    pause_on_failure: bool,
    /// Time limit of a pause [default: none; 1h without a terminal].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pause_limit: Option<Duration>,
    /// Let QEMU wait for gdb on a unix socket, from a boot of its own on; without --pause-… it stops
    /// before the first step. No limit of the lab's holds then.
    #[arg(long, conflicts_with = "timeout")]
    gdb: bool,
}

impl PauseArgs {
    /// When the runs of these scenarios pause.
    pub fn pause(&self, scenarios: &[Scenario]) -> Result<Pause> {
        let mut at = self.pause_at.as_deref().map(At::parse);
        if let Some(at) = &at {
            require_step(at, scenarios, "--pause-at")?;
        } else if self.gdb && !self.pause_on_failure {
            at = Some(At::Number(0));
        }
        let keyboard = std::io::stdin().is_terminal() && !runs_in_ci();
        Ok(Pause {
            at,
            on_failure: self.pause_on_failure,
            limit: self.pause_limit.or((!keyboard).then_some(LIMIT)),
            gdb: self.gdb,
            keyboard: keyboard.then(Keyboard::default),
            visitor: None,
        })
    }
}

/// One of the scenarios must have the step.
pub fn require_step(at: &At, scenarios: &[Scenario], option: &str) -> Result<()> {
    if scenarios.iter().any(|all| at.step_of(all).is_some()) {
        return Ok(());
    }
    let steps = || scenarios.iter().flat_map(|scenario| &scenario.steps);
    let names: Vec<_> = steps().filter_map(|step| step.name.as_deref()).collect();
    let most = scenarios.iter().map(|s| s.steps.len()).max().unwrap_or(0);
    let help = match at {
        At::Name(name) if suggest(name, names.iter().copied()).is_some() => {
            let meant = suggest(name, names.iter().copied()).unwrap_or_default();
            format!("did you mean `{meant}`?")
        }
        _ if names.is_empty() => format!("write a number from 0 to {most}"),
        _ => format!(
            "write a number from 0 to {most}, or a name: {}",
            names.join(", ")
        ),
    };
    let what = format!("{option}: no scenario has a step {at}");
    Err(Error::new(Blame::Usage, what).help(help))
}

/// Says what gdb lacks.
pub fn note_gdb(events: &Events, archs: &[Arch]) {
    for program in archs.iter().map(|&arch| gdb::program(arch)) {
        if host::find_tool(program).is_none() {
            events.note(format!(
                "`{program}` is not installed here: `apt-get install {program}`"
            ));
        }
    }
}
