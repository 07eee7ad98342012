// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps: what each kind does in the guest, and whether the state after it is as expected.

pub mod expect;
pub mod klp_build;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::guest::{Answer, Guest, Outcome, Unsettled};
use crate::scenario::{
    Action, Errno, FunctionRef, Hammer, Step, Transition, WaitUntil, kernel_module_name,
    spawned_pids,
};
use crate::vm::Deadlines;

/// How often a file is looked at by `wait`.
const POLL: Duration = Duration::from_millis(10);
/// How long a module's last reference may outlive the transition.
const LAST_REFERENCE: Duration = Duration::from_secs(3);
/// Where pr_debug() messages are turned on and off.
const DYNAMIC_DEBUG: &str = "/sys/kernel/debug/dynamic_debug/control";
/// There is no transition.
const ENOENT: i32 = 2;
/// `delete_module(O_NONBLOCK)` of a module that is in use.
const EAGAIN: i32 = 11;

/// What a step did.
#[derive(Debug, Clone, Default)]
pub struct Performed {
    /// What it found out, for the snapshot: an errno, what a file held.
    pub result: Option<String>,
    /// What was not as the step itself demands.
    pub problems: Vec<String>,
    /// The kernel lacks what the step requires, so it was not performed.
    pub skipped: bool,
    /// A livepatch whose transition did not end in time.
    pub stalled: Option<String>,
}

/// The pids of the processes that a run has spawned, by their name.
pub type Spawned = BTreeMap<String, String>;

/// Performs a step's action.
pub async fn perform(
    guest: &Guest,
    step: &Step,
    spawned: &mut Spawned,
    deadlines: Deadlines,
) -> Answer<Performed> {
    let limit = step.timeout.unwrap_or(deadlines.transition);
    let mut done = Performed::default();
    if let Some(file) = &step.requires
        && !guest.stat(file).await?.0.is_ok()
    {
        done.skipped = true;
        done.result = Some(format!("skipped: there is no {file}"));
        return Ok(done);
    }
    match &step.action {
        Action::Load {
            module,
            params,
            errno,
            transition,
        } => {
            let params: Vec<_> = params
                .iter()
                .map(|(name, value)| (name.clone(), interpolated(value, spawned)))
                .collect();
            let outcome = guest.load(module, &params).await?;
            done.note(outcome, *errno, &format!("loading {module}"));
            done.follow(guest, outcome, transition, limit).await?;
        }
        Action::Disable {
            livepatch,
            errno,
            transition,
        } => {
            let outcome = guest.write(&attribute(livepatch, "enabled"), "0").await?;
            done.note(outcome, *errno, &format!("disabling {livepatch}"));
            done.follow(guest, outcome, transition, limit).await?;
        }
        Action::Reverse {
            livepatch,
            errno,
            transition,
        } => {
            let path = attribute(livepatch, "enabled");
            let (outcome, enabled) = guest.read(&path).await?;
            let outcome = if outcome.is_ok() {
                let reversed = if enabled == "0" { "1" } else { "0" };
                guest.write(&path, reversed).await?
            } else {
                outcome
            };
            done.note(outcome, *errno, &format!("reversing {livepatch}"));
            done.follow(guest, outcome, transition, limit).await?;
        }
        Action::Force { livepatch, errno } => {
            let outcome = guest.write(&attribute(livepatch, "force"), "1").await?;
            done.note(outcome, *errno, &format!("forcing {livepatch}"));
            done.follow(guest, outcome, &Transition::Completes, limit)
                .await?;
        }
        Action::Hold { function } => {
            let symbol = function.symbol.to_string();
            let outcome = guest
                .write(&target_file(function, ".hold"), &symbol)
                .await?;
            done.note(outcome, None, &format!("holding {function}"));
        }
        Action::Release { function } => {
            let symbol = function.symbol.to_string();
            let outcome = guest
                .write(&target_file(function, ".release"), &symbol)
                .await?;
            done.note(outcome, None, &format!("releasing {function}"));
            done.follow(guest, outcome, &Transition::Completes, limit)
                .await?;
        }
        Action::Unload { modules, errno } => {
            for module in modules {
                let outcome = unload(guest, module, errno.is_none()).await?;
                done.note(outcome, *errno, &format!("unloading {module}"));
            }
        }
        Action::Call { function, returns } => {
            let (outcome, answer) = guest
                .read(&target_file(function, &function.symbol.to_string()))
                .await?;
            done.note(outcome, None, &format!("calling {function}"));
            if let Some(wanted) = returns
                && outcome.is_ok()
                && answer != wanted.to_string()
            {
                done.problems
                    .push(format!("{function} answered {answer}, not {wanted}"));
            }
            done.result.get_or_insert(answer);
        }
        Action::Read {
            path,
            equals,
            contains,
            errno,
        } => {
            let (outcome, data) = guest.read(path).await?;
            done.note(outcome, *errno, &format!("reading {path}"));
            if outcome.is_ok() {
                done.compare(path, &data, equals.as_deref(), contains.as_deref());
            }
        }
        Action::Write { path, data, errno } => {
            let outcome = guest.write(path, data).await?;
            done.note(outcome, *errno, &format!("writing {path}"));
        }
        Action::Wait { path, until } => {
            let mut patience = Patience::new(limit);
            while let Some(found) = unmet(guest, path, until).await? {
                if patience.is_over() {
                    done.problems.push(format!("{path} {found} for {limit:?}"));
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Action::Stat {
            path,
            rights,
            errno,
        } => {
            let (outcome, found) = guest.stat(path).await?;
            done.note(outcome, *errno, &format!("looking at {path}"));
            if let Some(rights) = rights
                && outcome.is_ok()
                && found != *rights
            {
                done.problems
                    .push(format!("the rights of {path} are {found}, not {rights}"));
            }
        }
        Action::Spawn {
            name,
            hammer: Hammer::Getpid,
            count,
        } => {
            let (outcome, pids) = guest.spawn(name, "getpid", *count).await?;
            done.note(outcome, None, &format!("spawning {name}"));
            spawned.insert(name.clone(), pids);
        }
        Action::Kill { name } => {
            let outcome = guest.kill(name).await?;
            done.note(outcome, None, &format!("killing {name}"));
        }
        Action::Trace { function } => {
            let outcome = guest.trace(function.as_deref()).await?;
            done.note(outcome, None, "tracing");
        }
        Action::DynamicDebug { queries } => {
            for query in queries {
                let outcome = guest.write(DYNAMIC_DEBUG, query).await?;
                done.note(outcome, None, &format!("the query {query:?}"));
            }
        }
        // The one is the host's, see `klp_build`; the other is checked with the state.
        Action::KlpBuild { .. } | Action::Expect => {}
    }
    Ok(done)
}

/// The longest time between two looks that counts: an answer takes no longer from a guest that goes
/// on, and one that a debugger has stopped does not do what it is waited for.
const COUNTS: Duration = Duration::from_secs(2);

/// How long something is waited for that a guest shall do.
struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self {
            left: limit,
            looked: Instant::now(),
        }
    }

    fn is_over(&mut self) -> bool {
        let since = self.looked.elapsed();
        self.looked = Instant::now();
        self.left = self.left.saturating_sub(since.min(COUNTS));
        self.left.is_zero()
    }
}

/// A parameter's value, with the pids that it asks for.
fn interpolated(value: &str, spawned: &Spawned) -> String {
    let pids = spawned_pids(value).and_then(|name| spawned.get(name));
    pids.map_or(value, String::as_str).to_owned()
}

/// A file of a function's target; see `module/c/target.h`.
fn target_file(function: &FunctionRef, name: &str) -> String {
    format!("/sys/kernel/debug/lab-{}/{name}", function.object)
}

/// An attribute of a livepatch in sysfs.
fn attribute(livepatch: &str, name: &str) -> String {
    let module = kernel_module_name(livepatch);
    format!("/sys/kernel/livepatch/{module}/{name}")
}

/// Unloads a module; one that is only just being released gets a little time.
async fn unload(guest: &Guest, module: &str, patient: bool) -> Answer<Outcome> {
    let mut patience = Patience::new(LAST_REFERENCE);
    loop {
        let outcome = guest.unload(module).await?;
        if outcome.0 != EAGAIN || !patient || patience.is_over() {
            return Ok(outcome);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What a file is instead of what is waited for; `None` once it is.
async fn unmet(guest: &Guest, path: &str, until: &WaitUntil) -> Answer<Option<String>> {
    let (outcome, data) = guest.read(path).await?;
    Ok(match until {
        WaitUntil::Equals(wanted) => {
            let wanted = wanted.strip_suffix('\n').unwrap_or(wanted);
            let found = if outcome.is_ok() {
                format!("{data:?}")
            } else {
                outcome.to_string()
            };
            let ok = outcome.is_ok() && data == wanted;
            (!ok).then(|| format!("was {found} and not {wanted:?}"))
        }
        WaitUntil::Exists => (!outcome.is_ok()).then(|| format!("gave {outcome}")),
        WaitUntil::Absent => outcome.is_ok().then(|| "was still there".to_owned()),
    })
}

impl Performed {
    /// Compares a system call's outcome with what must happen.
    fn note(&mut self, outcome: Outcome, wanted: Option<Errno>, doing: &str) {
        if !outcome.is_ok() {
            self.result = Some(outcome.to_string());
        }
        match wanted {
            None if !outcome.is_ok() => self.problems.push(format!("{doing} failed: {outcome}")),
            Some(errno) if outcome.0 != errno.number() => {
                self.problems
                    .push(format!("{doing} gave {outcome}, not {errno}"));
            }
            _ => {}
        }
    }

    fn compare(&mut self, path: &str, data: &str, equals: Option<&str>, contains: Option<&str>) {
        if let Some(wanted) = equals.map(|text| text.strip_suffix('\n').unwrap_or(text))
            && data != wanted
        {
            self.problems
                .push(format!("{path} holds {data:?}, not {wanted:?}"));
        }
        if let Some(part) = contains
            && !data.contains(part)
        {
            self.problems
                .push(format!("{path} holds {data:?}, without {part:?}"));
        }
    }

    /// Waits until the transition is as it must be. What failed has started none; another one
    /// may be held open.
    async fn follow(
        &mut self,
        guest: &Guest,
        outcome: Outcome,
        transition: &Transition,
        limit: Duration,
    ) -> Answer<()> {
        if !outcome.is_ok() {
            return Ok(());
        }
        let function = match transition {
            Transition::None => return Ok(()),
            Transition::Completes => return self.settle(guest, limit).await,
            Transition::Held => None,
            Transition::HeldIn(function) => Some(function.as_str()),
        };
        let outcome = guest.held(function, limit).await?;
        if outcome.0 == ENOENT {
            let problem = "the transition completed, although a function is held";
            self.problems.push(problem.to_owned());
        } else if !outcome.is_ok() {
            let problem = format!("not only held tasks keep the transition open for {limit:?}");
            self.problems.push(problem);
        }
        Ok(())
    }

    /// Waits for the end of every transition, and of what comes after it.
    async fn settle(&mut self, guest: &Guest, limit: Duration) -> Answer<()> {
        match guest.settle(limit).await? {
            // A forced livepatch keeps its reference: nothing to wait for.
            Ok(()) | Err(Unsettled::Reference(_)) => {}
            Err(Unsettled::Transition(livepatch)) => self.stalled = Some(livepatch),
            Err(Unsettled::Free(livepatch)) => {
                self.problems
                    .push(format!("{livepatch} is disabled but was not freed"));
            }
        }
        Ok(())
    }
}
