// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps: what each kind does in the guest, and whether the state after it is as expected.

pub mod expect;

use std::time::{Duration, Instant};

use crate::guest::{Answer, Guest, Outcome, Unsettled};
use crate::scenario::{Action, Errno, FunctionRef, Step, WaitUntil, kernel_module_name};
use crate::vm::Deadlines;

/// How often a file is looked at by `wait`.
const POLL: Duration = Duration::from_millis(10);
/// How long a module's last reference may outlive the transition.
const LAST_REFERENCE: Duration = Duration::from_secs(3);
/// `delete_module(O_NONBLOCK)` of a module that is in use.
const EAGAIN: i32 = 11;

/// What a step did.
#[derive(Debug, Default)]
pub struct Performed {
    /// What it found out, for the snapshot: an errno, what a file held.
    pub result: Option<String>,
    /// What was not as the step itself demands.
    pub problems: Vec<String>,
    /// A livepatch whose transition did not end in time.
    pub stalled: Option<String>,
}

/// Performs a step's action.
pub async fn perform(guest: &Guest, step: &Step, deadlines: Deadlines) -> Answer<Performed> {
    let limit = step.timeout.unwrap_or(deadlines.transition);
    let mut done = Performed::default();
    match &step.action {
        Action::Load {
            module,
            params,
            errno,
        } => {
            let outcome = guest.load(module, params).await?;
            done.note(outcome, *errno, &format!("loading {module}"));
            done.settle(guest, limit).await?;
        }
        Action::Disable { livepatch, errno } => {
            let path = format!(
                "/sys/kernel/livepatch/{}/enabled",
                kernel_module_name(livepatch)
            );
            let outcome = guest.write(&path, "0").await?;
            done.note(outcome, *errno, &format!("disabling {livepatch}"));
            done.settle(guest, limit).await?;
        }
        Action::Unload { modules, errno } => {
            for module in modules {
                let outcome = unload(guest, module, errno.is_none()).await?;
                done.note(outcome, *errno, &format!("unloading {module}"));
            }
        }
        Action::Call { function, returns } => {
            let (outcome, answer) = guest.read(&call_path(function)).await?;
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
        } => {
            let (outcome, data) = guest.read(path).await?;
            done.note(outcome, None, &format!("reading {path}"));
            if outcome.is_ok() {
                done.compare(path, &data, equals.as_deref(), contains.as_deref());
            }
        }
        Action::Wait { path, until } => {
            let started = Instant::now();
            while let Some(found) = unmet(guest, path, until).await? {
                if started.elapsed() >= limit {
                    done.problems.push(format!("{path} {found} for {limit:?}"));
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Action::Expect => {}
    }
    Ok(done)
}

/// The file whose reading calls a function; see `module::generate`.
fn call_path(function: &FunctionRef) -> String {
    format!(
        "/sys/kernel/debug/lab-{}/{}",
        function.target, function.function
    )
}

/// Unloads a module; one that is only just being released gets a little time.
async fn unload(guest: &Guest, module: &str, patient: bool) -> Answer<Outcome> {
    let started = Instant::now();
    loop {
        let outcome = guest.unload(module).await?;
        if outcome.0 != EAGAIN || !patient || started.elapsed() > LAST_REFERENCE {
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
