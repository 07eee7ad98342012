// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a wait for a guest goes on: judged by samples of its QEMU. Pure.
//!
//! A limit counts the time in which the guest *could run*: the wall's time without the time in which
//! QEMU was stopped, or had something to execute and got no CPU. Why neither of the simple clocks:
//!
//! - the wall blames the kernel for a busy host;
//! - the CPU time of QEMU stands still in a guest that waits for nothing: such a guest would be waited
//!   for for ever, and it has all the time there is;
//! - the places of its CPUs change for ever in an endless loop, and never in an idle guest. They are
//!   evidence for who looks for the reason, and nothing to judge by.
//!
//! New output on the console is progress where the console is what is waited for: of a boot. An agent
//! does not come nearer to its answer by messages of the kernel.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

/// A stretch between two samples counts as so much at most. A lab that was itself without CPU, or was
/// stopped, does not know what the guest could do meanwhile.
const LONGEST: Duration = Duration::from_secs(2);
/// The host gives no time if the guest could run for less than this part of it.
const SLOWEST: u32 = 20;
/// What moves for ever ends after so many limits.
pub(super) const ENDLESS: u32 = 10;
/// A part of the time that is worth a word is more than this one.
const NOTABLE: u32 = 20;

/// What is known of a QEMU at a moment. The counts go up, from any start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// The moment.
    pub at: Duration,
    /// Bytes on its console.
    pub console: u64,
    /// Its threads, by their ids.
    pub threads: BTreeMap<u32, Thread>,
    /// For how long it was seen stopped by a signal or a debugger.
    pub stopped: Duration,
    /// The host's CPUs.
    pub host: Ticks,
}

/// A thread of QEMU's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thread {
    /// For how long a CPU has executed it.
    pub ran: Duration,
    /// For how long it has waited for a CPU in the waits that are over; `None` if the host does not
    /// say so.
    pub waited: Option<Duration>,
    /// Whether it would go on if the host let it: it waits for a CPU, or for the host's disk or memory.
    pub wants: bool,
}

/// Time of all CPUs of the host, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    /// They executed something.
    pub busy: u64,
    /// They would have, and were not executed themselves: the host is a virtual machine.
    pub stolen: u64,
}

/// Some time, and what QEMU had of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// The time.
    pub time: Duration,
    /// The CPU time of all its threads.
    pub ran: Duration,
    /// For how long it was stopped.
    pub stopped: Duration,
    /// For how long a thread of it waited for a CPU: the one that waited longest.
    pub waited: Duration,
}

impl Share {
    /// What QEMU had between two samples.
    pub fn between(before: &Sample, after: &Sample) -> Self {
        let time = after.at.saturating_sub(before.at);
        let mut share = Self {
            time,
            stopped: after.stopped.saturating_sub(before.stopped).min(time),
            ..Self::default()
        };
        let busy = after.host.busy.saturating_sub(before.host.busy);
        let stolen = after.host.stolen.saturating_sub(before.host.stolen);
        for (id, now) in &after.threads {
            // One that is new began at nothing.
            let then = before.threads.get(id).copied().unwrap_or_default();
            let ran = now.ran.saturating_sub(then.ran);
            let waited = waited(&then, now, ran, time);
            let stolen = u128::from(stolen) * ran.as_nanos() / u128::from((busy + stolen).max(1));
            let stolen = Duration::from_nanos(u64::try_from(stolen).unwrap_or(u64::MAX));
            share.ran += ran;
            share.waited = share.waited.max(waited + stolen);
        }
        // What is stopped waits for nothing.
        share.waited = share.waited.min(time - share.stopped);
        share
    }

    /// The part of the time in which its guest could run, also if it had nothing to do.
    pub fn could_run(&self) -> Duration {
        self.time.saturating_sub(self.stopped + self.waited)
    }

    /// Whether the host gave it less than half of the time: nothing that did not happen in it is the
    /// guest's fault.
    pub fn is_hosts(&self) -> bool {
        self.could_run() * 2 < self.time
    }

    fn add(&mut self, more: &Self) {
        self.time += more.time;
        self.ran += more.ran;
        self.stopped += more.stopped;
        self.waited += more.waited;
    }

    /// Of a stretch that is too long to be known, a part that counts.
    fn bounded(mut self) -> Self {
        let could_run = self.could_run().min(LONGEST);
        self.time = self.time.min(LONGEST);
        self.stopped = self.stopped.min(self.time - could_run.min(self.time));
        self.waited = self.time - could_run.min(self.time) - self.stopped;
        self
    }
}

/// `QEMU had 3.1 s of CPU time in 120.0 s, and waited 110.2 s for a CPU`
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ran, time) = (Seconds(self.ran), Seconds(self.time));
        write!(f, "QEMU had {ran} of CPU time in {time}")?;
        if self.waited * NOTABLE > self.time {
            write!(f, ", and waited {} for a CPU", Seconds(self.waited))?;
        }
        if self.stopped * NOTABLE > self.time {
            write!(f, ", and was stopped for {}", Seconds(self.stopped))?;
        }
        Ok(())
    }
}

/// How long a thread waited for a CPU. The kernel says it once the wait is over: one that goes on
/// shows by a thread that would run and has not.
fn waited(then: &Thread, now: &Thread, ran: Duration, time: Duration) -> Duration {
    let wants = then.wants && now.wants;
    match (then.waited, now.waited) {
        _ if wants && ran.is_zero() => time,
        (before, Some(now)) => now.saturating_sub(before.unwrap_or_default()).min(time),
        _ if wants => time.saturating_sub(ran),
        _ => Duration::ZERO,
    }
}

/// Seconds with one decimal.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The guest could run for the whole limit, and nothing moved.
    Still,
    /// It goes on, and comes to no end.
    Endless,
    /// The host gave QEMU no time.
    Starved,
}

/// A wait.
#[derive(Debug)]
pub struct Progress {
    limit: Duration,
    /// Whether output on the console is progress.
    by_console: bool,
    last: Sample,
    /// Since something moved.
    since: Share,
    /// Since the beginning.
    all: Share,
    /// For how long QEMU has not executed anything although it would.
    dead: Duration,
    /// How much of the time was over when the console last said something.
    spoke: Option<Duration>,
}

impl Progress {
    /// A wait that began with a console of so many bytes at a moment, and the first sample since. All
    /// time until then counts.
    pub fn new(limit: Duration, by_console: bool, began: (Duration, u64), first: Sample) -> Self {
        let (at, console) = began;
        let until = Share {
            time: first.at.saturating_sub(at).min(LONGEST),
            ..Share::default()
        };
        Self {
            limit,
            by_console,
            since: until,
            all: until,
            dead: Duration::ZERO,
            spoke: (first.console > console).then_some(until.time),
            last: first,
        }
    }

    /// From now on output on the console is no progress any more: its kernel has complained, and may
    /// do so for ever.
    pub fn disregard_console(&mut self) {
        self.by_console = false;
    }

    /// Takes in a sample; whether the wait is over now.
    pub fn take(&mut self, sample: Sample) -> Option<Over> {
        let step = Share::between(&self.last, &sample).bounded();
        let has_spoken = sample.console > self.last.console;
        self.last = sample;
        self.all.add(&step);
        self.since.add(&step);
        if has_spoken {
            self.spoke = Some(self.all.time);
            if self.by_console {
                self.since = Share::default();
            }
        }
        let is_dead = step.ran.is_zero() && step.could_run() * 10 < step.time;
        self.dead = if is_dead {
            self.dead + step.time
        } else {
            Duration::ZERO
        };
        if self.since.could_run() >= self.limit {
            return Some(Over::Still);
        }
        if self.dead >= self.limit || self.since.time >= self.limit * SLOWEST {
            return Some(Over::Starved);
        }
        (self.all.could_run() >= self.limit * ENDLESS).then_some(Over::Endless)
    }

    /// How many limits the guest has needed so far, rounded up.
    pub fn limits(&self) -> u32 {
        let limit = self.limit.as_nanos().max(1);
        u32::try_from(self.all.could_run().as_nanos().div_ceil(limit)).unwrap_or(u32::MAX)
    }

    /// What moved and what did not, since the beginning.
    pub fn seen(&self) -> String {
        let mut text = self.all.to_string();
        let _ = match self.spoke {
            None => write!(text, "; its console has said nothing new"),
            Some(at) => {
                let ago = Seconds(self.all.time.saturating_sub(at));
                write!(text, "; its console said something {ago} before the end")
            }
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// What goes on in each second of a wait.
    #[derive(Clone, Copy, Default)]
    struct Second {
        /// Milliseconds that a vCPU's thread executes.
        ran: u64,
        /// Milliseconds that it waits for a CPU, which the host says at once.
        waited: u64,
        /// It waits for a CPU at the end of the second.
        wants: bool,
        /// Milliseconds that QEMU is stopped.
        stopped: u64,
        /// Bytes on the console.
        said: u64,
        /// Of all ticks of the host, a hundred, so many are stolen.
        stolen: u64,
    }

    const IDLE: Second = Second {
        ran: 0,
        waited: 0,
        wants: false,
        stopped: 0,
        said: 0,
        stolen: 0,
    };
    /// It executes and says nothing: a loop, with or without interrupts.
    const LOOPS: Second = Second {
        ran: 1000,
        wants: true,
        ..IDLE
    };
    /// The host has ten things to do in place of one.
    const A_TENTH: Second = Second {
        ran: 100,
        waited: 900,
        wants: true,
        ..IDLE
    };
    /// It waits for a CPU, of which the host has said nothing yet.
    const WAITS: Second = Second {
        wants: true,
        ..IDLE
    };
    const STOPPED: Second = Second {
        stopped: 1000,
        ..IDLE
    };
    /// As by SIGSTOP and SIGCONT in turn.
    const MOSTLY_STOPPED: Second = Second {
        ran: 100,
        stopped: 900,
        ..IDLE
    };
    const SPEAKS: Second = Second {
        ran: 1000,
        wants: true,
        said: 80,
        ..IDLE
    };
    const STOLEN: Second = Second {
        ran: 1000,
        wants: true,
        stolen: 90,
        ..IDLE
    };

    /// Samples, each a second after the one before.
    struct Seconds {
        now: Sample,
        tells_waits: bool,
    }

    impl Seconds {
        fn next(&mut self, second: Second) -> Sample {
            let ms = Duration::from_millis;
            let thread = self.now.threads.entry(7).or_default();
            thread.ran += ms(second.ran);
            thread.wants = second.wants;
            if self.tells_waits {
                let waited = thread.waited.get_or_insert_default();
                *waited += ms(second.waited);
            }
            // Another thread, which does nothing.
            self.now.threads.entry(8).or_default();
            self.now.at += ms(1000);
            self.now.stopped += ms(second.stopped);
            self.now.console += second.said;
            self.now.host.busy += 100 - second.stolen;
            self.now.host.stolen += second.stolen;
            self.now.clone()
        }
    }

    /// Plays seconds, the last for ever; the second in which the wait is over, and why.
    fn ends_if(by_console: bool, tells_waits: bool, seconds: &[(usize, Second)]) -> (usize, Over) {
        let mut samples = Seconds {
            now: Sample::default(),
            tells_waits,
        };
        let first = samples.next(IDLE);
        let mut progress = Progress::new(LIMIT, by_console, (first.at, 0), first);
        let all = seconds.iter();
        let played = all.flat_map(|(times, second)| std::iter::repeat_n(*second, *times));
        let last = seconds.last().unwrap().1;
        for (number, second) in (1..).zip(played.chain(std::iter::repeat_n(last, 10_000))) {
            if let Some(over) = progress.take(samples.next(second)) {
                return (number, over);
            }
        }
        panic!("it is never over");
    }

    fn ends(by_console: bool, seconds: &[(usize, Second)]) -> (usize, Over) {
        ends_if(by_console, true, seconds)
    }

    #[test]
    fn a_guest_that_stands_still_has_its_limit_and_no_more() {
        // Idle for ever, in a loop for ever, and both in turn.
        for still in [IDLE, LOOPS] {
            for by_console in [false, true] {
                assert_eq!(ends(by_console, &[(1, still)]), (30, Over::Still));
            }
        }
        assert_eq!(
            ends(true, &[(10, LOOPS), (10, IDLE), (1, LOOPS)]),
            (30, Over::Still)
        );
    }

    #[test]
    fn a_slow_host_stretches_the_limit() {
        assert_eq!(ends(false, &[(1, A_TENTH)]), (300, Over::Still));
        assert_eq!(ends(false, &[(1, MOSTLY_STOPPED)]), (300, Over::Still));
        assert_eq!(ends(false, &[(1, STOLEN)]), (300, Over::Still));
        // A host that becomes free: 2 s and 28 s.
        assert_eq!(ends(false, &[(20, A_TENTH), (1, LOOPS)]), (48, Over::Still));
        assert_eq!(ends(false, &[(20, STOPPED), (1, IDLE)]), (50, Over::Still));
        // Without the kernel's word on waits: the first second looks like one without.
        assert_eq!(ends_if(false, false, &[(1, A_TENTH)]), (291, Over::Still));
        assert_eq!(ends_if(false, false, &[(1, LOOPS)]), (30, Over::Still));
    }

    #[test]
    fn a_host_that_gives_no_time_is_found_out() {
        // In the time of the limit, if QEMU executes nothing at all.
        assert_eq!(ends(true, &[(1, STOPPED)]), (30, Over::Starved));
        let waits = ends(true, &[(5, LOOPS), (1, WAITS)]);
        assert_eq!(waits, (35, Over::Starved));
        // Else when it was less than a twentieth.
        let hardly = Second {
            ran: 10,
            waited: 990,
            ..A_TENTH
        };
        assert_eq!(ends(true, &[(1, hardly)]), (600, Over::Starved));
    }

    #[test]
    fn a_wait_that_is_told_late_counts_once() {
        let told = Second {
            ran: 1000,
            waited: 20_000,
            wants: true,
            ..IDLE
        };
        // 20 s without a word, the word, and then 30 s; a second of which the word covers.
        let late = ends(false, &[(1, LOOPS), (20, WAITS), (1, told), (1, LOOPS)]);
        assert_eq!(late, (51, Over::Still));
    }

    #[test]
    fn output_is_progress_where_the_console_is_what_is_waited_for() {
        // A line every 20 s, for 200 s, and then none.
        let steady: Vec<_> = (0..10).flat_map(|_| [(19, LOOPS), (1, SPEAKS)]).collect();
        let steady = [&steady[..], &[(1, LOOPS)]].concat();
        assert_eq!(ends(true, &steady), (230, Over::Still));
        assert_eq!(ends(false, &steady), (30, Over::Still));
    }

    #[test]
    fn a_guest_that_prints_for_ever_comes_to_an_end() {
        assert_eq!(ends(true, &[(1, SPEAKS)]), (300, Over::Endless));
        let slowly = Second {
            said: 80,
            ..A_TENTH
        };
        assert_eq!(ends(true, &[(1, slowly)]), (3000, Over::Endless));
    }

    #[test]
    fn a_kernel_that_has_complained_makes_no_progress_by_more_complaints() {
        let mut samples = Seconds {
            now: Sample::default(),
            tells_waits: true,
        };
        let first = samples.next(IDLE);
        let mut progress = Progress::new(LIMIT, true, (first.at, 0), first);
        for _ in 0..40 {
            assert_eq!(progress.take(samples.next(SPEAKS)), None);
        }
        progress.disregard_console();
        let over = (1..).find_map(|number| Some((number, progress.take(samples.next(SPEAKS))?)));
        assert_eq!(over, Some((30, Over::Still)));
        assert_eq!(progress.limits(), 3);
    }

    #[test]
    fn a_lab_that_was_away_does_not_know_what_the_guest_could_do() {
        let first = Sample::default();
        let mut progress = Progress::new(LIMIT, false, (first.at, 0), first);
        for number in 1..15 {
            let at = Duration::from_secs(3600 * number);
            let sample = Sample {
                at,
                ..Sample::default()
            };
            assert_eq!(progress.take(sample), None, "{number}");
        }
        let at = Duration::from_secs(3600 * 15);
        let sample = Sample {
            at,
            ..Sample::default()
        };
        assert_eq!(progress.take(sample), Some(Over::Still));
    }

    #[test]
    fn without_a_word_on_qemu_the_wall_counts() {
        let first = Sample::default();
        let mut progress = Progress::new(LIMIT, true, (first.at, 0), first);
        let over = (1..).find_map(|number| {
            let at = Duration::from_secs(number);
            let sample = Sample {
                at,
                ..Sample::default()
            };
            progress.take(sample).map(|over| (number, over))
        });
        assert_eq!(over, Some((30, Over::Still)));
    }

    #[test]
    fn what_moved_is_said_in_numbers() {
        let mut samples = Seconds {
            now: Sample::default(),
            tells_waits: true,
        };
        let first = samples.next(IDLE);
        let mut progress = Progress::new(LIMIT, true, (first.at, 0), first);
        progress.take(samples.next(SPEAKS));
        for _ in 0..9 {
            progress.take(samples.next(A_TENTH));
        }
        for _ in 0..10 {
            progress.take(samples.next(STOPPED));
        }
        assert_eq!(
            progress.seen(),
            "QEMU had 1.9 s of CPU time in 20.0 s, and waited 8.1 s for a CPU, and was stopped for \
             10.0 s; its console said something 19.0 s before the end"
        );
        let idle = Share {
            time: LIMIT,
            ..Share::default()
        };
        assert_eq!(idle.to_string(), "QEMU had 0.0 s of CPU time in 30.0 s");
    }

    #[test]
    fn a_run_belongs_to_the_host_that_gave_it_less_than_half() {
        let shares = [
            (30, 0, false),
            (20, 11, true),
            (0, 31, true),
            (10, 10, false),
        ];
        for (waited, stopped, is_hosts) in shares {
            let share = Share {
                time: Duration::from_secs(60),
                ran: Duration::ZERO,
                stopped: Duration::from_secs(stopped),
                waited: Duration::from_secs(waited),
            };
            assert_eq!(share.is_hosts(), is_hosts, "{share}");
        }
    }
}
