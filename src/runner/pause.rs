// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run that stops with its guest alive, for somebody to enter it.
//!
//! While it is paused nothing is asked of the guest, so that no limit of the lab's is met, and
//! `--timeout` does not count. It goes on when it is told so: by Enter on the lab's own terminal, by
//! a file in its record (`lab continue`), or when it was paused for as long as it may.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::attempt::{Attempt, EarlyEnd, Played};
use super::judge::is_known;
use super::live::Live;
use super::paused::LOOK;
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::event::{Event, Way};
use crate::guest::entrance::{Entrance, Inside, Open};
use crate::process::Cmd;
use crate::scenario::{Scenario, kernel_module_name};
use crate::verdict::{Outcome, Problem, Verdict};
use crate::vm::gdb::{self, Places};
use crate::vm::machine::{Gone, Machine};

/// The file in a record that tells its run to go on.
pub const CONTINUE: &str = "continue";
/// How gdb sees the guest, in the record.
pub const GDB_SCRIPT: &str = "gdb.init";
/// When a run goes on that was paused.
const AFTER_PAUSE: &str = "after the pause";
/// What the reports take to clear the terminal for a visitor.
const CLEARED: Duration = Duration::from_millis(100);

/// When runs pause, and until when.
#[derive(Debug, Default)]
pub struct Pause {
    /// After this step.
    pub at: Option<At>,
    /// Where something is not as expected.
    pub on_failure: bool,
    /// For how long at most.
    pub limit: Option<Duration>,
    /// Whether QEMU waits for gdb.
    pub gdb: bool,
    /// Enter on the lab's own terminal, if it has one.
    pub keyboard: Option<Keyboard>,
    /// Who enters at once, in place of a pause; then the run ends.
    pub visitor: Option<Visitor>,
}

impl Pause {
    /// Whether a guest may have been entered: no other run must go on in it.
    pub fn is_possible(&self) -> bool {
        self.at.is_some() || self.on_failure || self.gdb
    }
}

/// A step, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// Its number, from 1; 0 is before the first step.
    Number(usize),
    /// Its `name:`.
    Name(String),
}

impl At {
    /// Reads a number or a name.
    pub fn parse(text: &str) -> Self {
        let number = text.parse().map(At::Number);
        number.unwrap_or_else(|_| At::Name(text.to_owned()))
    }

    /// The number of the step in a scenario, if it has it.
    pub fn step_of(&self, scenario: &Scenario) -> Option<usize> {
        match self {
            At::Number(number) => (*number <= scenario.steps.len()).then_some(*number),
            At::Name(name) => {
                let mut names = scenario.steps.iter().map(|step| step.name.as_ref());
                names.position(|of| of == Some(name)).map(|at| at + 1)
            }
        }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Number(number) => write!(f, "{number}"),
            At::Name(name) => f.write_str(name),
        }
    }
}

/// Enter on the lab's own terminal. Of several runs that are paused, it is for the one that was
/// first.
#[derive(Debug, Default)]
pub struct Keyboard(tokio::sync::Mutex<Option<UnboundedReceiver<()>>>);

impl Keyboard {
    /// Resolves when Enter is pressed from now on.
    async fn enter(&self) {
        let mut lines = self.0.lock().await;
        let lines = lines.get_or_insert_with(lines_typed);
        while lines.try_recv().is_ok() {}
        if lines.recv().await.is_none() {
            // Nobody types there any more.
            std::future::pending().await
        }
    }
}

/// Each line that is typed, read in a thread of its own: nothing else ends a wait for the keyboard.
fn lines_typed() -> UnboundedReceiver<()> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        while matches!(std::io::stdin().read_line(&mut line), Ok(length) if length > 0) {
            if sender.send(()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

type Visited = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Somebody who enters a guest as soon as the run is where it shall pause.
pub struct Visitor(pub Box<dyn Fn(Entrance) -> Visited + Send + Sync>);

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a visitor")
    }
}

impl Attempt<'_> {
    fn pauses(&self) -> &Pause {
        &self.of.options.pause
    }

    /// Pauses before the first step, if it shall.
    pub(super) async fn before_steps(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &Played,
    ) -> std::result::Result<(), EarlyEnd> {
        self.tell_gdb(live).await?;
        self.pause_at(ctx, live, played).await
    }

    /// Pauses after a step, if it shall; `problems` are how many there were before it.
    pub(super) async fn after_step(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &Played,
        problems: usize,
    ) -> std::result::Result<(), EarlyEnd> {
        self.tell_gdb(live).await?;
        let new = &played.problems[problems..];
        let known = |problem: &&Problem| {
            let mut all = self.expected_failures().into_iter();
            all.any(|failure| is_known(problem, failure))
        };
        let unknown = new.iter().find(|problem| !known(problem));
        match unknown {
            Some(problem) if self.pauses().on_failure && self.paused.fails_first() => {
                self.pause(ctx, live, played, &problem.to_string()).await?;
                self.skip_log(live, AFTER_PAUSE).await
            }
            _ => self.pause_at(ctx, live, played).await,
        }
    }

    async fn pause_at(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &Played,
    ) -> std::result::Result<(), EarlyEnd> {
        let Some(at) = &self.pauses().at else {
            return Ok(());
        };
        if at.step_of(&self.of.scenario) != Some(played.states.len()) {
            return Ok(());
        }
        self.pause(ctx, live, played, &format!("--pause-at {at}"))
            .await?;
        // What a visitor made the kernel say is not the next step's.
        self.skip_log(live, AFTER_PAUSE).await
    }

    /// Pauses a run that has failed for good, if it shall, while its guest is there.
    pub(super) async fn before_the_end(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &Played,
        verdict: &Verdict,
    ) -> Result<()> {
        let why = verdict.reasons.first().map_or("", String::as_str);
        // What is new has not failed.
        let as_expected = verdict.is_as_expected() || verdict.outcome == Outcome::New;
        if as_expected || !self.pauses().on_failure || !self.paused.fails_first() {
            return Ok(());
        }
        match self.pause(ctx, live, played, why).await {
            Err(EarlyEnd::Error(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Pauses.
    async fn pause(
        &self,
        ctx: &Context,
        live: &mut Live,
        played: &Played,
        why: &str,
    ) -> std::result::Result<(), EarlyEnd> {
        let gone = live.machine.gone();
        if matches!(gone, Some(Gone::Qemu(_) | Gone::Reset(_))) {
            return Ok(());
        }
        let answers = gone.is_none() && live.guest.is_some();
        let port = match answers {
            true => Some(live.machine.ssh_port().await?),
            false => None,
        };
        let gdb = live.machine.gdb().map(Path::to_path_buf);
        let inside = Inside {
            run: &self.of.run,
            at: self.place(played),
            login: port.map(|port| (port, &live.keys)),
            gdb,
        };
        let open = Open::new(self.record.dir(), live.machine.scratch(), inside)?;
        let go_on = self.record.dir().join(CONTINUE);
        let _ = std::fs::remove_file(&go_on);
        self.record.event(Event::Paused {
            run: self.of.run.clone(),
            step: played.states.len(),
            of: self.of.scenario.steps.len(),
            at: open.entrance.at.clone(),
            why: why.to_owned(),
            enter: self.ways(&open.entrance),
            record: self.record.shown(),
        });
        self.paused.begin();
        if let Some(visitor) = &self.pauses().visitor {
            tokio::time::sleep(CLEARED).await;
            visitor.0(open.entrance.clone()).await?;
            self.paused.end();
            return Err(EarlyEnd::Left(open.entrance.at.clone()));
        }
        let told = tokio::select! {
            told = self.told(&go_on) => told,
            gone = without_machine(live) => gone,
            // Also where nobody else looks.
            () = ctx.cancel.cancelled() => return Err(Error::interrupted().into()),
        };
        drop(open);
        // It may have been told twice.
        let _ = std::fs::remove_file(&go_on);
        self.record.event(Event::Resumed {
            run: self.of.run.clone(),
            ms: self.paused.end(),
            why: told,
        });
        Ok(())
    }

    /// Where a run is paused.
    fn place(&self, played: &Played) -> String {
        let (done, steps) = (played.states.len(), &self.of.scenario.steps);
        match done.checked_sub(1).and_then(|last| steps.get(last)) {
            Some(step) => {
                let label = step.action.label();
                format!("after step {done} of {} ({label})", steps.len())
            }
            None => "before the first step".to_owned(),
        }
    }

    /// How to enter, and how to go on.
    fn ways(&self, entrance: &Entrance) -> Vec<Way> {
        let lab = |verb: &str| Cmd::new("lab").arg(verb).arg(self.record.shown());
        let way = |name: &str, command: String| Way {
            name: name.to_owned(),
            command,
        };
        let mut ways = Vec::new();
        if let Some(ssh) = &entrance.ssh {
            ways.push(way("shell", lab("shell").to_string()));
            ways.push(way("command", format!("{} -- CMD", lab("exec"))));
            ways.push(way("ssh", ssh.command().to_string()));
        }
        ways.push(way("console", lab("console").to_string()));
        if entrance.gdb.is_some() {
            let script = Path::new(&self.record.shown()).join(GDB_SCRIPT);
            let gdb = Cmd::new(gdb::program(self.of.run.arch)).arg("-x");
            ways.push(way("gdb", gdb.arg(script).to_string()));
        }
        if self.pauses().visitor.is_none() {
            let limit = match self.pauses().limit {
                Some(limit) => format!(" (by itself after {limit:?})"),
                None => String::new(),
            };
            let enter = match self.pauses().keyboard {
                Some(_) => "Enter, or ",
                None => "",
            };
            let command = format!("{enter}{}{limit}", lab("continue"));
            ways.push(way("go on", command));
        }
        ways
    }

    /// Resolves when the run shall go on: why.
    async fn told(&self, file: &Path) -> String {
        let entered = async {
            match &self.pauses().keyboard {
                Some(keyboard) => keyboard.enter().await,
                None => std::future::pending().await,
            }
        };
        let limit = async {
            match self.pauses().limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = entered => "Enter".to_owned(),
            () = limit => "--pause-limit".to_owned(),
            () = removed(file) => "lab continue".to_owned(),
        }
    }

    /// Lets gdb attach, from the first instruction that is still to come.
    pub(super) async fn open_gdb(&self, live: &mut Live) -> Result<()> {
        if !self.pauses().gdb {
            return Ok(());
        }
        live.machine.open_gdb().await?;
        self.write_gdb_script(&live.machine, &Places::default())
    }

    /// Tells gdb where the kernel and its modules are now.
    async fn tell_gdb(&self, live: &mut Live) -> std::result::Result<(), EarlyEnd> {
        if !self.pauses().gdb {
            return Ok(());
        }
        let (machine, guest, _) = live.split()?;
        let modules = self.of.modules.iter();
        let names: Vec<_> = modules.map(|m| kernel_module_name(&m.name)).collect();
        let (question, limit) = (gdb::question(&names), machine.deadlines.transition);
        let asked = guest.exec("/", &question, limit);
        let doing = "asking where its modules are";
        let said = self.ask(machine, doing, asked).await?;
        self.write_gdb_script(machine, &Places::parse(&said.output))?;
        Ok(())
    }

    fn write_gdb_script(&self, machine: &Machine, places: &Places) -> Result<()> {
        let Some(socket) = machine.gdb() else {
            return Ok(());
        };
        let modules = self.of.modules.iter();
        let modules = modules.map(|m| (kernel_module_name(&m.name), m.path.clone()));
        let modules: Vec<_> = modules.collect();
        let kernel = gdb::Kernel::built(&self.of.tree.join("build"));
        // gdb may be started from any folder.
        let record = std::path::absolute(self.record.dir()).at("find", self.record.dir())?;
        let sources = record.join("sources");
        let script = gdb::script(&kernel, socket, places, &modules, &sources);
        self.record.write(GDB_SCRIPT, &script)
    }
}

/// Resolves when a file is there, which is then removed.
async fn removed(file: &Path) {
    while std::fs::remove_file(file).is_err() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Resolves when there is nothing left to enter: why.
async fn without_machine(live: &mut Live) -> String {
    loop {
        if let Some(Gone::Qemu(why) | Gone::Reset(why)) = live.machine.gone() {
            return why;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Source;

    #[test]
    fn a_step_has_a_number_and_may_have_a_name() {
        let text = "version: 1\nsummary: x\nlivepatches: { v1: { patches: { vmlinux: {} } } }\n";
        let text = text.replace("vmlinux: {}", "shop: { price: 11 }")
            + "targets: { shop: { functions: { price: 10 } } }\n\
               steps:\n  - load: shop\n  - { name: patched, load: v1 }\n";
        let scenario = crate::scenario::parse("x", &Source::new("x.yaml", text)).unwrap();
        let step = |text: &str| At::parse(text).step_of(&scenario);
        assert_eq!(step("0"), Some(0));
        assert_eq!(step("2"), Some(2));
        assert_eq!(step("3"), None);
        assert_eq!(step("patched"), Some(2));
        assert_eq!(step("load"), None);
    }
}
