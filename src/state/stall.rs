// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stall forensics: which tasks keep a transition from its end, where they are, and what the
//! kernel says of them. Pure.
//!
//! A task is switched when none of the functions that change is on its stack
//! (`kernel/livepatch/transition.c: klp_check_stack()`); the kernel tries again every second.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::observed::Names;

/// Tasks that are shown, and lines of a stack.
const TASKS_MAX: usize = 20;
const FRAMES_MAX: usize = 32;

/// A transition that goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stall {
    /// The livepatch by the scenario's name; `None` if there is no transition.
    pub livepatch: Option<String>,
    /// What each task's `patch_state` is to become: 1 patched, 0 unpatched.
    pub target: String,
    /// The functions that change: `price`, without a position.
    pub functions: BTreeSet<String>,
    /// The first of the tasks that have not switched.
    pub tasks: Vec<Task>,
    /// How many have not.
    pub blocked: usize,
    /// How many there are in all.
    pub all: usize,
}

/// A task that has not switched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// Its thread id.
    pub tid: String,
    /// Its name.
    pub comm: String,
    /// What the scheduler makes of it: `S`.
    pub state: char,
    /// `/proc/<pid>/patch_state`.
    pub patch_state: String,
    /// `kthreadd+0x99/0x2b0`, the innermost first.
    pub frames: Vec<String>,
    /// Why `klp_try_switch_task()` could not switch it the last time: `is sleeping on function x`.
    pub why: Option<String>,
}

impl Stall {
    /// Reads the agent's `blocked` reply, and what the kernel's log says of the tasks in it.
    pub fn parse(dump: &str, log: &str, names: &Names) -> Self {
        let mut stall = Self::default();
        for line in dump.lines() {
            match line.splitn(5, '\t').collect::<Vec<_>>()[..] {
                ["transition", module, target] => {
                    stall.livepatch = Some(names.of_module(module));
                    target.clone_into(&mut stall.target);
                }
                ["function", _, function] => {
                    let name = function.split(',').next().unwrap_or(function);
                    stall.functions.insert(name.to_owned());
                }
                ["task", tid, state, patch_state, comm] => {
                    stall.blocked += 1;
                    // The whole log is searched for each.
                    if stall.blocked <= TASKS_MAX {
                        stall.tasks.push(Task {
                            tid: tid.to_owned(),
                            comm: comm.to_owned(),
                            state: state.chars().next().unwrap_or('?'),
                            patch_state: patch_state.to_owned(),
                            frames: Vec::new(),
                            why: why(log, comm, tid),
                        });
                    }
                }
                ["tasks", all] => stall.all = all.parse().unwrap_or_default(),
                [frame] if stall.blocked <= TASKS_MAX => {
                    if let Some(task) = stall.tasks.last_mut() {
                        let frame = frame.trim_start_matches("[<0>]").trim();
                        task.frames.push(frame.to_owned());
                    }
                }
                _ => {}
            }
        }
        stall
    }

    /// For people.
    pub fn text(&self) -> String {
        let Some(livepatch) = &self.livepatch else {
            return String::new();
        };
        let doing = match &*self.target {
            "0" => "being disabled",
            _ => "being enabled",
        };
        let mut text = format!(
            "{livepatch} is {doing}; tasks that have not switched to patch_state {}: {} of {}\n",
            self.target, self.blocked, self.all,
        );
        for task in &self.tasks {
            text += &self.task(task);
        }
        if let Some(more @ 1..) = self.blocked.checked_sub(TASKS_MAX) {
            let _ = writeln!(text, "\nand {more} more");
        }
        text
    }

    fn task(&self, task: &Task) -> String {
        let doing = match task.state {
            'R' => "running or ready to run",
            'S' => "sleeping",
            'D' => "in uninterruptible sleep",
            'T' | 't' => "stopped",
            'I' => "idle",
            'Z' | 'X' => "dead",
            _ => "in an unknown state",
        };
        let (comm, tid, state) = (&task.comm, &task.tid, task.patch_state.as_str());
        let mut text = format!("\n{comm}, pid {tid}, {doing}, patch_state {state}\n");
        if let Some(why) = &task.why {
            let _ = writeln!(text, "  the kernel: {why}");
        }
        if task.frames.is_empty() {
            text += "    (it has no kernel stack that can be read)\n";
        }
        for frame in task.frames.iter().take(FRAMES_MAX) {
            let (mark, note) = match self.changed(frame) {
                Some(function) => ("▶", format!("   {function} changes")),
                None => (" ", String::new()),
            };
            let _ = writeln!(text, "  {mark} {frame}{note}");
        }
        if let Some(more @ 1..) = task.frames.len().checked_sub(FRAMES_MAX) {
            let _ = writeln!(text, "    (and {more} more)");
        }
        text
    }

    /// The function of the livepatch that a frame is in: itself, or what a generated livepatch
    /// has put in its place.
    fn changed(&self, frame: &str) -> Option<&str> {
        let symbol = frame.split('+').next()?;
        let replaced = symbol
            .strip_prefix("lab_new_")
            .and_then(|rest| rest.split_once('_'))
            .map(|(_, function)| function);
        let known = |name: &str| self.functions.get(name).map(String::as_str);
        known(symbol).or_else(|| known(replaced?))
    }
}

/// `… livepatch: klp_try_switch_task: kthreadd:2 is sleeping on function kthreadd`: its last words
/// on a task.
fn why(log: &str, comm: &str, tid: &str) -> Option<String> {
    let task = format!("klp_try_switch_task: {comm}:{tid} ");
    let said = log.lines().rev().find_map(|line| line.split_once(&task));
    said.map(|(_, why)| why.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "transition\tvendor_v2\t1\nfunction\tvmlinux\tkthreadd\n\
        function\tshop\tprice,1\ntask\t2\tS\t0\tkthreadd\n\
        [<0>] kthreadd+0x99/0x2b0\n[<0>] ret_from_fork+0x31/0x50\n\
        task\t71\tD\t0\tlab hold\ttab\n[<0>] lab_new_0_price+0x4/0x10 [vendor_v1]\n\
        task\t72\tR\t0\tbusy\ntasks\t61\n";
    const LOG: &str = "[ 1.0] livepatch: klp_try_switch_task: kthreadd:2 is running\n\
        [ 2.0] livepatch: klp_try_switch_task: kthreadd:2 is sleeping on function kthreadd\n\
        [ 2.0] livepatch: klp_try_switch_task: busy:720 has an unreliable stack\n";

    #[test]
    fn each_task_has_its_reason_and_the_frame_that_changes() {
        let stall = Stall::parse(DUMP, LOG, &Names::default());
        insta::assert_snapshot!(stall.text(), @r"
        vendor_v2 is being enabled; tasks that have not switched to patch_state 1: 3 of 61

        kthreadd, pid 2, sleeping, patch_state 0
          the kernel: is sleeping on function kthreadd
          ▶ kthreadd+0x99/0x2b0   kthreadd changes
            ret_from_fork+0x31/0x50

        lab hold	tab, pid 71, in uninterruptible sleep, patch_state 0
          ▶ lab_new_0_price+0x4/0x10 [vendor_v1]   price changes

        busy, pid 72, running or ready to run, patch_state 0
            (it has no kernel stack that can be read)
        ");
    }

    #[test]
    fn many_tasks_are_counted_and_not_listed() {
        let tasks = "task\t7\tS\t1\tx\n[<0>] a+0x1/0x2\n".repeat(1000);
        let dump = format!("transition\tv\t0\n{tasks}tasks\t1000\n");
        let text = Stall::parse(&dump, "", &Names::default()).text();
        assert!(text.starts_with(
            "v is being disabled; tasks that have not switched to patch_state 0: 1000 of 1000"
        ));
        assert!(text.ends_with("and 980 more\n") && text.lines().count() < 70);
    }

    #[test]
    fn the_log_is_searched_for_the_tasks_that_are_shown_only() {
        let dump = format!("transition\tv\t0\n{}", "task\t7\tS\t1\tx\n".repeat(50_000));
        let log = "klp_try_switch_task: y:7 is running\n".repeat(30_000);
        let started = std::time::Instant::now();
        let stall = Stall::parse(&dump, &log, &Names::default());
        assert_eq!((stall.tasks.len(), stall.blocked), (TASKS_MAX, 50_000));
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    #[test]
    fn without_a_transition_there_is_nothing_to_list() {
        let stall = Stall::parse("tasks\t61\n", "", &Names::default());
        assert_eq!((stall.livepatch.is_none(), &*stall.text()), (true, ""));
    }
}
