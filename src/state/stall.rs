// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stall forensics: which tasks keep a transition from its end, where they are, and what the
//! kernel says of them. Pure.
//!
//! A task is switched when none of the functions that change is on its stack
//! (`kernel/livepatch/transition.c: klp_check_stack()`); the kernel tries again every second.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::observed::Names;
use super::transition::{self, Phase, Transition};
use crate::visible::visible;

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
    /// What the log says of it.
    pub transition: Option<Transition>,
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
    /// Where the CPU is that executes it, which has no stack to be read: `1`, `net_kthread+0x9/0x20 [busy]`.
    pub at: Option<(String, String)>,
    /// Why `klp_try_switch_task()` could not switch it the last time: `is sleeping on function x`.
    pub why: Option<String>,
}

impl Stall {
    /// Reads the agent's `blocked` reply, and what the kernel's log says of the tasks in it.
    pub fn parse(dump: &str, log: &str, names: &Names) -> Self {
        let mut stall = Self::default();
        let open = Transition::open(log);
        for line in dump.lines() {
            match line.splitn(5, '\t').collect::<Vec<_>>()[..] {
                ["transition", module, target] => {
                    stall.livepatch = Some(names.of_module(module));
                    stall.transition = open.clone().filter(|open| open.module == module);
                    let said = stall.transition.as_ref().map(|it| u8::from(it.patches));
                    stall.target = said.map_or_else(|| target.to_owned(), |it| it.to_string());
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
                            at: None,
                            why: why(log, comm, tid),
                        });
                    }
                }
                ["tasks", all] => stall.all = all.parse().unwrap_or_default(),
                [frame] if stall.blocked <= TASKS_MAX => {
                    if let Some(task) = stall.tasks.last_mut() {
                        let frame = frame.trim_start_matches("[<0>]").trim();
                        // The stack of a task that runs is an empty line.
                        task.frames
                            .extend((!frame.is_empty()).then(|| frame.to_owned()));
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
        let mut text = match &self.transition {
            Some(transition) if transition.phase != Phase::Switches => {
                return format!("{livepatch} is {transition}\n");
            }
            _ => format!(
                "{livepatch} is {}; tasks that have not switched to patch_state {}: {} of {}\n",
                transition::doing(self.target != "0"),
                self.target,
                self.blocked,
                self.all,
            ),
        };
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
        let mut frames = &task.frames[..];
        match &task.at {
            Some((cpu, place)) => {
                frames = &[];
                let (mark, note) = self.marks(place);
                let _ = writeln!(text, "  {mark} {place}{note}");
                let why = "the stack of a task cannot be read while it runs";
                let _ = writeln!(text, "    (where CPU {cpu} is: {why})");
            }
            None if frames.is_empty() => text += "    (it has no kernel stack that can be read)\n",
            None => {}
        }
        for frame in frames.iter().take(FRAMES_MAX) {
            let (mark, note) = self.marks(frame);
            let _ = writeln!(text, "  {mark} {frame}{note}");
        }
        if let Some(more @ 1..) = frames.len().checked_sub(FRAMES_MAX) {
            let _ = writeln!(text, "    (and {more} more)");
        }
        text
    }

    /// What stands before a frame, and after it.
    fn marks(&self, frame: &str) -> (&'static str, String) {
        match self.changed(frame) {
            Some(function) => ("▶", format!("   {function} changes")),
            None => (" ", String::new()),
        }
    }

    /// The tasks that run, and whose stack cannot be read: there is none, or what is left of an earlier
    /// one, which has no symbols.
    pub fn unread(&mut self) -> impl Iterator<Item = &mut Task> {
        let is_left = |frame: &String| frame.starts_with("0x");
        let is_unread =
            move |task: &&mut Task| task.state == 'R' && task.frames.iter().all(is_left);
        self.tasks.iter_mut().filter(is_unread)
    }

    /// What goes on, in a line: the first one of the text.
    pub fn summary(&self) -> Option<String> {
        self.text().lines().next().map(str::to_owned)
    }

    /// What to do about it. One task is enough to hold a transition up: the first one that explains it
    /// speaks for all.
    pub fn help(&self) -> Option<String> {
        self.livepatch.as_ref()?;
        if let Some(transition) = &self.transition
            && transition.phase != Phase::Switches
        {
            return Some(of_phase(transition));
        }
        let reason = self.tasks.iter().find_map(|task| self.reason(task))?;
        Some(format!("{};\n{ENDS}", in_a_line(&reason)))
    }

    /// Why a task does not switch, and what would change it.
    fn reason(&self, task: &Task) -> Option<String> {
        let places = task.at.iter().map(|(_, place)| place).chain(&task.frames);
        let changed = places.filter_map(|place| self.changed(place)).next();
        let why = task.why.as_deref().unwrap_or_default();
        let runs = task.state == 'R' || why == "is running";
        let comm = &task.comm;
        Some(match (changed, runs) {
            (Some(function), true) => format!(
                "{comm} never sleeps and never leaves {function}, which changes: a task switches only \
                 outside of it, so change what {function} calls, or stop {comm} before"
            ),
            (Some(function), false) => format!(
                "{comm} sleeps in {function}, which changes: wake it, or end what it waits for"
            ),
            (None, true) => format!(
                "{comm} never sleeps: the kernel switches a task that runs only when it schedules or \
                 leaves the kernel, so its loop has to call cond_resched() or schedule()"
            ),
            (None, false) if why.contains("unreliable stack") => {
                format!(
                    "the stack of {comm} is not reliable: it switches when it leaves the kernel"
                )
            }
            (None, false) => return None,
        })
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

/// What ends a transition all the same.
pub const ENDS: &str = "`timeout:` waits longer, `reverse:` takes it back, `force:` ends it;
look around: `lab run … --pause-on-failure`, then `lab shell`;
on a live host: docs/stalls.md";

/// What to do about a transition in which no task can switch yet, or none has to any more.
pub fn of_phase(transition: &Transition) -> String {
    match transition.stuck_in() {
        Some((kind, object)) => in_a_line(&format!(
            "see what {kind} of {object} waits for: until it returns, no livepatch can be loaded, enabled \
             or disabled, since callbacks run with the livepatch core's lock held"
        )),
        None => {
            "see what the task waits for that loads, enables or disables it: the livepatch core's \
                 lock is held meanwhile"
                .to_owned()
        }
    }
}

/// A guest chooses the names of tasks and modules.
fn in_a_line(text: &str) -> String {
    visible(text).replace('\n', "\\n")
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

    /// A stall of one task, of which the kernel's log says why.
    fn of_task(state: char, why: &str, at: Option<&str>, frames: &str) -> Stall {
        let dump = format!(
            "transition\tnet_fix\t1\nfunction\tbusy\tnet_kthread,1\ntask\t39\t{state}\t0\tnet-fix\n\
             {frames}tasks\t37\n"
        );
        let log = format!(
            "[ 1.0] livepatch: 'net_fix': starting patching transition\n\
             [ 2.0] livepatch: klp_try_switch_task: net-fix:39 {why}\n"
        );
        let mut stall = Stall::parse(&dump, &log, &Names::default());
        let place = at.map(|place| ("1".to_owned(), place.to_owned()));
        stall.unread().for_each(|task| task.at = place.clone());
        stall
    }

    #[test]
    fn a_task_that_never_sleeps_is_where_its_cpu_is() {
        let place = Some("net_kthread+0x9/0x20 [busy]");
        // x86_64 shows an empty line, arm64 what is left of an earlier stack.
        let stall = of_task('R', "is running", place, "\n");
        let left = of_task('R', "is running", place, "[<0>] 0xffff7fff8f865000\n");
        assert_eq!(left.text(), stall.text());
        insta::assert_snapshot!(stall.text(), @r"
        net_fix is being enabled; tasks that have not switched to patch_state 1: 1 of 37

        net-fix, pid 39, running or ready to run, patch_state 0
          the kernel: is running
          ▶ net_kthread+0x9/0x20 [busy]   net_kthread changes
            (where CPU 1 is: the stack of a task cannot be read while it runs)
        ");
    }

    #[test]
    fn what_to_do_depends_on_what_the_task_does() {
        let help = |state, why, at, frames| of_task(state, why, at, frames).help();
        let changes = "[<0>] net_kthread+0x9/0x20 [busy]\n";
        let other = "[<0>] kthread+0x9/0x20\n";
        let never = help('R', "is running", Some("cpu_relax+0x1/0x2"), "").unwrap();
        assert!(never.contains("net-fix never sleeps: "), "{never}");
        assert!(never.contains("cond_resched()"), "{never}");
        let sleeps = "is sleeping on function net_kthread";
        for help in [
            help('R', "is running", Some("net_kthread+0x9/0x20 [busy]"), ""),
            help('R', sleeps, None, changes),
        ] {
            let help = help.unwrap();
            assert!(help.contains("never leaves net_kthread"), "{help}");
            // It would not help.
            assert!(!help.contains("cond_resched()"), "{help}");
        }
        let asleep = help('S', sleeps, None, changes).unwrap();
        assert!(asleep.contains("net-fix sleeps in net_kthread"), "{asleep}");
        let unreliable = help('S', "has an unreliable stack", None, other).unwrap();
        assert!(unreliable.contains("is not reliable"), "{unreliable}");
        for help in [never, asleep, unreliable] {
            let all = ["`timeout:`", "`reverse:`", "`force:`"];
            assert!(all.iter().all(|word| help.contains(word)), "{help}");
        }
        assert_eq!(help('S', "", None, other), None);
        // Whatever a task calls itself.
        let dump = "transition\tfix\t1\ntask\t7\tR\t0\tx\u{1b}[2J\ntasks\t9\n";
        let help = Stall::parse(dump, "", &Names::default()).help().unwrap();
        assert!(
            !help.contains('\u{1b}') && help.contains("[2J never sleeps"),
            "{help}"
        );
    }

    #[test]
    fn a_callback_that_does_not_return_is_named() {
        let dump = "transition\tfix\t0\ntasks\t37\n";
        let log = "[ 1.0] livepatch: 'fix': initializing patching transition\n\
                   [ 1.0] fix: pre_patch: shop\n";
        let stall = Stall::parse(dump, log, &Names::default());
        let said = "fix is being enabled: its pre_patch callback of shop has not returned";
        assert_eq!(stall.summary().unwrap(), said);
        assert!(stall.help().unwrap().contains("pre_patch of shop"));
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
