// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host's kernel knows of a QEMU, and waits that go by it: `/proc/PID`, and the length of the
//! console.
//!
//! A look at QEMU's state took 65 µs, and a sample of its four threads 0.5 ms, in a debug build on a busy
//! host. A wait that is over within a quarter of a second needs none.

use std::fmt;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::console::Console;
use super::progress::{ENDLESS, Over, Progress, Sample, Share, Thread, Ticks};

/// How often it is looked whether QEMU is stopped.
const LOOK: Duration = Duration::from_millis(40);
/// What was seen counts for so long at most.
const SEEN: Duration = Duration::from_millis(500);
/// How often a sample is taken.
const STEP: Duration = Duration::from_millis(250);
/// A tick of `/proc`, on all architectures: `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// The moment from which all samples count.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A view of a QEMU, and of its guest's console. Clones look at the same.
#[derive(Debug, Clone, Default)]
pub struct Vitals {
    of: Option<Arc<Qemu>>,
}

#[derive(Debug)]
struct Qemu {
    process: u32,
    console: Console,
    looks: Mutex<Looks>,
}

/// What was seen of it, by looks: the kernel counts no time in which a process is stopped.
#[derive(Debug, Default)]
struct Looks {
    last: Duration,
    stopped: Duration,
}

impl Vitals {
    /// Of a process that has this console. One of which nothing is known has all the time of the
    /// wall.
    pub fn of(process: Option<u32>, console: &Console) -> Self {
        let qemu = |process| {
            Arc::new(Qemu {
                process,
                console: console.clone(),
                looks: Mutex::default(),
            })
        };
        Self {
            of: process.map(qemu),
        }
    }

    /// A wait for `limit` of the time in which the guest can run.
    pub fn wait(&self, limit: Duration) -> Wait {
        let began = START.elapsed();
        Wait {
            vitals: self.clone(),
            limit,
            by_console: false,
            began: (began, self.console()),
            // A short limit has many samples as well.
            step: (limit / 8).clamp(Duration::from_millis(1), STEP),
            sampled: began,
            progress: None,
            over: None,
        }
    }

    /// Waits for `coming`.
    ///
    /// # Errors
    ///
    /// It has not come within `limit`, and why not.
    pub async fn within<T>(
        &self,
        limit: Duration,
        coming: impl Future<Output = T>,
    ) -> Result<T, Overdue> {
        let mut wait = self.wait(limit);
        let mut coming = pin!(coming);
        loop {
            tokio::select! {
                biased;
                it = &mut coming => return Ok(it),
                () = sleep(wait.step.min(LOOK)) => {}
            }
            if let Some(overdue) = wait.over() {
                return Err(overdue);
            }
        }
    }

    /// All that is known now.
    pub fn sample(&self) -> Sample {
        let at = START.elapsed();
        let Some(qemu) = &self.of else {
            return Sample {
                at,
                ..Sample::default()
            };
        };
        Sample {
            at,
            console: qemu.console.len(),
            threads: threads(qemu.process).into_iter().flatten().collect(),
            stopped: self.look(at, true),
            host: ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        }
    }

    /// What QEMU had since a sample, which may be one of the machine before it.
    pub fn since(&self, before: &Sample) -> Share {
        Share::between(before, &self.sample())
    }

    /// Looks whether QEMU is stopped, at once or if it is due; for how long it was.
    fn look(&self, at: Duration, at_once: bool) -> Duration {
        let Some(qemu) = &self.of else {
            return Duration::ZERO;
        };
        let mut looks = qemu.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let since = at.saturating_sub(looks.last);
        if at_once || since >= LOOK {
            looks.last = at;
            if is_stopped(qemu.process) {
                looks.stopped += since.min(SEEN);
            }
        }
        looks.stopped
    }

    fn console(&self) -> u64 {
        self.of.as_ref().map_or(0, |qemu| qemu.console.len())
    }
}

/// A wait for something that a guest or its QEMU shall do.
#[derive(Debug)]
pub struct Wait {
    vitals: Vitals,
    limit: Duration,
    by_console: bool,
    began: (Duration, u64),
    step: Duration,
    sampled: Duration,
    progress: Option<Progress>,
    over: Option<Overdue>,
}

/// That a wait is over, and what was seen until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    limit: Duration,
    /// Why.
    pub over: Over,
    /// What moved and what did not.
    pub seen: String,
}

impl Wait {
    /// Output on the console is progress, from which the limit counts anew.
    #[must_use]
    pub fn by_console(mut self) -> Self {
        self.by_console = true;
        self
    }

    /// Output on the console is no progress any more.
    pub fn disregard_console(&mut self) {
        self.by_console = false;
        if let Some(progress) = &mut self.progress {
            progress.disregard_console();
        }
    }

    /// How many limits the guest has needed so far, rounded up; one at least.
    pub fn limits(&self) -> u32 {
        self.progress.as_ref().map_or(1, Progress::limits).max(1)
    }

    /// Whether it is over. To be asked often: each time QEMU is looked at that is due.
    pub fn over(&mut self) -> Option<Overdue> {
        if self.over.is_some() {
            return self.over.clone();
        }
        let at = START.elapsed();
        if at < self.sampled + self.step {
            // What comes before the first sample counts in any case.
            if self.progress.is_some() {
                self.vitals.look(at, false);
            }
            return None;
        }
        self.sampled = at;
        let sample = self.vitals.sample();
        let Some(progress) = &mut self.progress else {
            self.progress = Some(Progress::new(
                self.limit,
                self.by_console,
                self.began,
                sample,
            ));
            return None;
        };
        let over = progress.take(sample)?;
        let mut seen = progress.seen();
        if over == Over::Starved {
            seen += &load();
        }
        self.over = Some(Overdue {
            limit: self.limit,
            over,
            seen,
        });
        self.over.clone()
    }
}

/// `within 30s`
impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.over {
            Over::Still => write!(f, "within {limit:?}"),
            Over::Endless => write!(
                f,
                "within {ENDLESS} times {limit:?}, although its console goes on"
            ),
            Over::Starved => write!(f, "within {limit:?}: the host gave QEMU no time"),
        }
    }
}

/// `; the host's load is 40.12`
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().filter(|load| !load.is_empty());
    load.map_or_else(String::new, |load| format!("; the host's load is {load}"))
}

/// Whether a process was stopped by a signal or a debugger.
fn is_stopped(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    matches!(state(&stat), Some('T' | 't'))
}

/// The letter of what a process or a thread does; see `proc_pid_stat(5)`.
fn state(stat: &str) -> Option<char> {
    // Its name may have anything in it.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The threads of a process; what has just ended is left out.
fn threads(process: u32) -> Option<Vec<(u32, Thread)>> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let thread = |dir: &Path| {
        let id = dir.file_name()?.to_str()?.parse().ok()?;
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        let schedstat = fs::read_to_string(dir.join("schedstat")).unwrap_or_default();
        Some((id, thread(&stat, &schedstat)?))
    };
    let all = entries.flatten();
    Some(all.filter_map(|entry| thread(&entry.path())).collect())
}

/// A thread by its `stat`, and by its `schedstat` (nanoseconds on a CPU, and waiting for one), which
/// some kernels do not have, or have with nothing in it.
fn thread(stat: &str, schedstat: &str) -> Option<Thread> {
    let (_, fields) = stat.rsplit_once(") ")?;
    // From the third field on: the 14th and the 15th are in ticks, in user mode and in the kernel.
    let mut ticks = fields.split(' ').skip(11).take(2);
    let mut next = || ticks.next()?.parse::<u32>().ok();
    let (user, kernel) = (next()?, next()?);
    let mut nanoseconds = schedstat.split_whitespace().map(str::parse::<u64>);
    let counted = match (nanoseconds.next(), nanoseconds.next()) {
        (Some(Ok(ran)), Some(Ok(waited))) if ran > 0 => Some((ran, waited)),
        _ => None,
    };
    let ran = match counted {
        Some((ran, _)) => Duration::from_nanos(ran),
        None => TICK * user.saturating_add(kernel),
    };
    Some(Thread {
        ran,
        waited: counted.map(|(_, waited)| Duration::from_nanos(waited)),
        wants: matches!(state(stat), Some('R' | 'D')),
    })
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks(stat: &str) -> Ticks {
    let line = stat.lines().next().unwrap_or_default();
    let numbers = line.split_whitespace().skip(1).map(str::parse);
    let numbers: Vec<u64> = numbers.map_while(Result::ok).collect();
    match numbers[..] {
        [user, nice, system, _, _, irq, softirq, stolen, ..] => Ticks {
            busy: user + nice + system + irq + softirq,
            stolen,
        },
        _ => Ticks::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_read_whatever_its_name_is() {
        let stat = "29789 (CPU 0) R (TCG) R 29705 1 1 0 -1 4194304 1 0 0 0 250 50 0 0 39 19 1 0";
        let counted = thread(stat, "3141000000 25148020 7\n");
        assert_eq!(
            counted,
            Some(Thread {
                ran: Duration::from_millis(3141),
                waited: Some(Duration::from_nanos(25_148_020)),
                wants: true,
            })
        );
        for schedstat in ["", "0 0 0\n", "nonsense"] {
            let thread = thread(&stat.replace(" R 29705", " S 29705"), schedstat).unwrap();
            assert_eq!(thread.ran, Duration::from_secs(3), "{schedstat:?}");
            assert_eq!((thread.waited, thread.wants), (None, false));
        }
        assert_eq!(thread("", ""), None);
        assert_eq!(thread("1 (x) R 2", ""), None);
    }

    #[test]
    fn the_hosts_ticks_are_those_of_all_cpus() {
        let text = "cpu  100 20 30 4000 50 6 7 89 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        let all = Ticks {
            busy: 163,
            stolen: 89,
        };
        assert_eq!(ticks(text), all);
        assert_eq!(ticks("cpu  1 2"), Ticks::default());
    }

    #[test]
    fn this_very_process_has_threads_that_run() {
        let all = threads(std::process::id()).unwrap();
        assert!(all.iter().any(|(_, thread)| !thread.ran.is_zero()));
        assert!(!is_stopped(std::process::id()));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_does_not_come_is_overdue_and_what_comes_is_not() {
        let vitals = Vitals::default();
        let limit = Duration::from_millis(50);
        assert_eq!(vitals.within(limit, async { 7 }).await, Ok(7));
        let overdue = vitals.within(limit, std::future::pending::<()>()).await;
        let overdue = overdue.unwrap_err();
        assert_eq!(overdue.over, Over::Still);
        assert_eq!(overdue.to_string(), "within 50ms");
        let seen = overdue.seen;
        assert!(seen.starts_with("QEMU had 0.0 s of CPU time in "), "{seen}");
    }
}
