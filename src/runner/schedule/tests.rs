// SPDX-License-Identifier: MIT OR Apache-2.0
//! Schedules without a guest: each test says what happens and what has to be done then.

use super::*;

const ONE: Limits = Limits {
    jobs: 1,
    attempts: 1,
    fail_fast: false,
};

type Kinds = Schedule<&'static str>;

fn schedule(runs: usize, limits: Limits) -> Kinds {
    Schedule::new(runs, limits)
}

/// A run whose guest may be handed on.
fn prepared(run: RunIndex, kind: &'static str, expected: u64) -> Input<&'static str> {
    Input::Prepared {
        run,
        kind,
        shares: true,
        expected,
    }
}

/// A run whose guest is not used again.
fn prepared_alone(run: RunIndex, kind: &'static str) -> Input<&'static str> {
    Input::Prepared {
        run,
        kind,
        shares: false,
        expected: 1,
    }
}

/// The guest of an attempt has ended with it.
fn ended(run: RunIndex, end: End) -> Input<&'static str> {
    Input::AttemptEnded {
        run,
        end,
        guest: false,
    }
}

/// The guest of an attempt was kept.
fn handed_on(run: RunIndex, end: End) -> Input<&'static str> {
    Input::AttemptEnded {
        run,
        end,
        guest: true,
    }
}

fn free(run: RunIndex) -> Input<&'static str> {
    Input::GuestFree { run }
}

fn new(run: RunIndex, attempt: u32, guest: usize) -> Action {
    Action::Start {
        run,
        attempt,
        guest: GuestNumber(guest),
        new: true,
    }
}

fn used(run: RunIndex, guest: usize) -> Action {
    Action::Start {
        run,
        attempt: 1,
        guest: GuestNumber(guest),
        new: false,
    }
}

fn finish(run: RunIndex, shown: u32, attempts: u32) -> Action {
    Action::Finish {
        run,
        shown,
        attempts,
    }
}

fn failed(run: RunIndex) -> Action {
    Action::FailAttempt { run, counts: true }
}

fn answer(run: RunIndex, hand_on: bool) -> Action {
    Action::Answer { run, hand_on }
}

/// A schedule of `runs` runs of one kind, the first of which has handed its guest on to the second.
fn second_in_a_used_guest(runs: usize, limits: Limits) -> Kinds {
    let mut schedule = schedule(runs, limits);
    assert_eq!(schedule.on(prepared(0, "a", 9)), [new(0, 1, 1)]);
    for run in 1..runs {
        assert_eq!(schedule.on(prepared(run, "a", 5)), []);
    }
    assert_eq!(schedule.on(free(0)), [answer(0, true)]);
    let actions = schedule.on(handed_on(0, End::AsExpected));
    assert_eq!(actions, [used(1, 1), finish(0, 1, 1)]);
    schedule
}

#[test]
fn the_longest_run_starts_first_and_of_equals_the_first() {
    let mut schedule = schedule(4, ONE);
    assert_eq!(schedule.on(prepared_alone(0, "a")), [new(0, 1, 1)]);
    for (run, expected) in [(1, 3), (2, 7), (3, 7)] {
        assert_eq!(schedule.on(prepared(run, "b", expected)), []);
    }
    let order = [(0, 2, 2), (2, 3, 3), (3, 1, 4)];
    for (over, next, guest) in order {
        let actions = schedule.on(ended(over, End::AsExpected));
        assert_eq!(actions, [finish(over, 1, 1), new(next, 1, guest)]);
    }
}

#[test]
fn no_more_guests_than_jobs_run_at_the_same_time() {
    let mut schedule = schedule(3, Limits { jobs: 2, ..ONE });
    assert_eq!(schedule.on(prepared_alone(0, "a")), [new(0, 1, 1)]);
    assert_eq!(schedule.on(prepared_alone(1, "a")), [new(1, 1, 2)]);
    assert_eq!(schedule.on(prepared_alone(2, "a")), []);
    let actions = schedule.on(ended(1, End::AsExpected));
    assert_eq!(actions, [finish(1, 1, 1), new(2, 1, 3)]);
    assert_eq!(schedule.most(), 2);
}

#[test]
fn no_jobs_at_all_are_one() {
    let mut schedule = schedule(1, Limits { jobs: 0, ..ONE });
    assert_eq!(schedule.on(prepared(0, "a", 1)), [new(0, 1, 1)]);
}

#[test]
fn no_guest_is_booted_while_one_is_about_to_be_free() {
    let mut schedule = schedule(4, Limits { jobs: 8, ..ONE });
    assert_eq!(schedule.on(prepared(0, "a", 1)), [new(0, 1, 1)]);
    // One run waits, and one guest of its kind will be free.
    assert_eq!(schedule.on(prepared(1, "a", 1)), []);
    // Two wait for one guest. Another kind is no help.
    assert_eq!(schedule.on(prepared(2, "a", 1)), [new(1, 1, 2)]);
    assert_eq!(schedule.on(prepared(3, "b", 1)), [new(3, 1, 3)]);
    // The guest is lost: the run that waited for it or the other one waits for that now.
    assert_eq!(schedule.on(ended(0, End::Broken)), [finish(0, 1, 1)]);
    let actions = schedule.on(ended(1, End::Broken));
    assert_eq!(actions, [finish(1, 1, 1), new(2, 1, 4)]);
}

#[test]
fn a_guest_that_is_not_used_again_is_not_waited_for() {
    let mut schedule = schedule(2, Limits { jobs: 2, ..ONE });
    assert_eq!(schedule.on(prepared_alone(0, "a")), [new(0, 1, 1)]);
    assert_eq!(schedule.on(prepared(1, "a", 1)), [new(1, 1, 2)]);
}

#[test]
fn a_guest_goes_to_the_longest_run_of_its_kind() {
    let mut schedule = schedule(4, ONE);
    assert_eq!(schedule.on(prepared(0, "a", 1)), [new(0, 1, 1)]);
    schedule.on(prepared(1, "b", 9));
    schedule.on(prepared(2, "a", 3));
    schedule.on(prepared(3, "a", 7));
    assert_eq!(schedule.on(free(0)), [answer(0, true)]);
    let actions = schedule.on(handed_on(0, End::AsExpected));
    assert_eq!(actions, [used(3, 1), finish(0, 1, 1)]);
    assert_eq!(schedule.on(free(3)), [answer(3, true)]);
    let actions = schedule.on(handed_on(3, End::AsExpected));
    assert_eq!(actions, [used(2, 1), finish(3, 1, 1)]);
    // Nothing of its kind waits.
    assert_eq!(schedule.on(free(2)), [answer(2, false)]);
    let actions = schedule.on(ended(2, End::AsExpected));
    assert_eq!(actions, [finish(2, 1, 1), new(1, 1, 2)]);
}

#[test]
fn a_guest_is_handed_on_after_a_run_whose_states_differ() {
    let mut schedule = schedule(2, ONE);
    schedule.on(prepared(0, "a", 2));
    schedule.on(prepared(1, "a", 1));
    assert_eq!(schedule.on(free(0)), [answer(0, true)]);
    let actions = schedule.on(handed_on(0, End::Differs));
    assert_eq!(actions, [used(1, 1), finish(0, 1, 1)]);
}

#[test]
fn a_run_whose_guest_is_lost_on_the_way_to_it_is_the_next_one_to_start() {
    let mut schedule = schedule(3, ONE);
    schedule.on(prepared(0, "a", 9));
    schedule.on(prepared(1, "a", 2));
    assert_eq!(schedule.on(free(0)), [answer(0, true)]);
    schedule.on(prepared(2, "a", 5));
    let actions = schedule.on(ended(0, End::Broken));
    assert_eq!(actions, [finish(0, 1, 1), new(1, 1, 2)]);
}

#[test]
fn a_run_is_tried_as_often_as_it_may_be_and_not_once_more() {
    let mut schedule = schedule(1, Limits { attempts: 3, ..ONE });
    assert_eq!(schedule.on(prepared(0, "a", 1)), [new(0, 1, 1)]);
    for attempt in [2, 3] {
        let guest = usize::try_from(attempt).unwrap();
        let actions = schedule.on(ended(0, End::Broken));
        let expected = [failed(0), new(0, attempt, guest)];
        assert_eq!(actions, expected);
    }
    assert_eq!(schedule.on(ended(0, End::Broken)), [finish(0, 3, 3)]);
}

#[test]
fn no_attempts_at_all_are_one() {
    let mut schedule = schedule(1, Limits { attempts: 0, ..ONE });
    assert_eq!(schedule.on(prepared(0, "a", 1)), [new(0, 1, 1)]);
    assert_eq!(schedule.on(ended(0, End::Differs)), [finish(0, 1, 1)]);
}

#[test]
fn a_flaky_run_shows_its_first_attempt() {
    let mut schedule = schedule(1, Limits { attempts: 4, ..ONE });
    schedule.on(prepared(0, "a", 1));
    schedule.on(ended(0, End::Differs));
    schedule.on(ended(0, End::Broken));
    assert_eq!(schedule.on(ended(0, End::AsExpected)), [finish(0, 1, 3)]);
}

#[test]
fn a_run_keeps_its_place_among_the_guests_while_it_is_tried_again() {
    let mut schedule = schedule(2, Limits { attempts: 2, ..ONE });
    schedule.on(prepared_alone(0, "a"));
    assert_eq!(schedule.on(prepared(1, "b", 9)), []);
    let actions = schedule.on(ended(0, End::Differs));
    assert_eq!(actions, [failed(0), new(0, 2, 2)]);
    let actions = schedule.on(ended(0, End::AsExpected));
    assert_eq!(actions, [finish(0, 1, 2), new(1, 1, 3)]);
}

#[test]
fn what_differs_in_a_used_guest_is_tried_once_more_in_its_own() {
    let mut schedule = second_in_a_used_guest(2, ONE);
    let actions = schedule.on(ended(1, End::Differs));
    assert_eq!(actions, [failed(1), new(1, 2, 2)]);
    // There it counts.
    assert_eq!(schedule.on(ended(1, End::Differs)), [finish(1, 2, 2)]);

    let mut schedule = second_in_a_used_guest(2, ONE);
    schedule.on(ended(1, End::Differs));
    assert_eq!(schedule.on(ended(1, End::AsExpected)), [finish(1, 1, 2)]);
}

#[test]
fn that_attempt_comes_on_top_of_those_that_were_asked_for() {
    let mut schedule = second_in_a_used_guest(2, Limits { attempts: 2, ..ONE });
    for attempt in [2, 3] {
        let guest = usize::try_from(attempt).unwrap();
        let actions = schedule.on(ended(1, End::Differs));
        let expected = [failed(1), new(1, attempt, guest)];
        assert_eq!(actions, expected);
    }
    assert_eq!(schedule.on(ended(1, End::Differs)), [finish(1, 3, 3)]);
}

#[test]
fn what_a_kernel_complains_of_in_a_used_guest_is_not_tried_away() {
    let mut schedule = second_in_a_used_guest(2, ONE);
    assert_eq!(schedule.on(ended(1, End::Broken)), [finish(1, 1, 1)]);
}

#[test]
fn a_kept_guest_is_stopped_before_its_run_is_tried_again() {
    let mut schedule = second_in_a_used_guest(3, ONE);
    assert_eq!(schedule.on(free(1)), [answer(1, true)]);
    let actions = schedule.on(handed_on(1, End::Differs));
    let again = [Action::Stop(GuestNumber(1)), failed(1), new(1, 2, 2)];
    assert_eq!(actions, again);
    // The run that was to go on in it is the next one.
    assert_eq!(schedule.on(free(1)), [answer(1, true)]);
    let actions = schedule.on(handed_on(1, End::AsExpected));
    assert_eq!(actions, [used(2, 2), finish(1, 1, 2)]);
}

#[test]
fn a_run_that_cannot_be_prepared_has_its_verdict_and_the_others_go_on() {
    let mut schedule = schedule(2, ONE);
    let actions = schedule.on(Input::NotPrepared { run: 0 });
    assert_eq!(actions, [finish(0, 0, 0)]);
    assert_eq!(schedule.on(prepared(1, "a", 1)), [new(1, 1, 1)]);
    assert_eq!(schedule.on(Input::AllPrepared), []);
    assert!(!schedule.is_over());
    assert_eq!(schedule.on(ended(1, End::AsExpected)), [finish(1, 1, 1)]);
    assert!(schedule.is_over());
}

#[test]
fn a_task_that_panics_costs_its_own_run_only() {
    let mut schedule = schedule(3, Limits { jobs: 2, ..ONE });
    schedule.on(prepared(0, "a", 1));
    schedule.on(prepared(1, "b", 1));
    schedule.on(prepared(2, "b", 1));
    // Its guest has gone with it, while it was to be handed on.
    assert_eq!(schedule.on(free(1)), [answer(1, true)]);
    let actions = schedule.on(ended(1, End::Broken));
    assert_eq!(actions, [finish(1, 1, 1), new(2, 1, 3)]);
    schedule.on(Input::AllPrepared);
    assert_eq!(schedule.on(ended(0, End::AsExpected)), [finish(0, 1, 1)]);
    assert_eq!(schedule.on(ended(2, End::AsExpected)), [finish(2, 1, 1)]);
    assert!(schedule.is_over());
}

const FAIL_FAST: Limits = Limits {
    jobs: 2,
    attempts: 1,
    fail_fast: true,
};

#[test]
fn fail_fast_lets_running_guests_finish_and_names_the_runs_that_are_left_out() {
    let mut schedule = schedule(5, FAIL_FAST);
    schedule.on(prepared(0, "a", 1));
    schedule.on(prepared(1, "b", 1));
    assert_eq!(schedule.on(prepared(2, "a", 1)), []);
    let actions = schedule.on(ended(0, End::Differs));
    assert_eq!(actions, [finish(0, 1, 1), Action::CancelBuilds]);
    // What is prepared later starts no more, and what is not is left out, not failed.
    assert_eq!(schedule.on(prepared(3, "b", 9)), []);
    assert_eq!(schedule.on(Input::NotPrepared { run: 4 }), []);
    assert_eq!(schedule.on(Input::AllPrepared), []);
    assert_eq!(schedule.on(free(1)), [answer(1, false)]);
    assert!(!schedule.is_over());
    // A second failure is not the reason.
    let left = |run| Action::NotRun { run, after: 0 };
    let actions = schedule.on(ended(1, End::Broken));
    assert_eq!(actions, [finish(1, 1, 1), left(2), left(3), left(4)]);
    assert!(schedule.is_over());
}

#[test]
fn fail_fast_waits_for_the_last_attempt() {
    let limits = Limits {
        attempts: 2,
        ..FAIL_FAST
    };
    let mut schedule = schedule(1, limits);
    schedule.on(prepared(0, "a", 1));
    let actions = schedule.on(ended(0, End::Differs));
    assert_eq!(actions, [failed(0), new(0, 2, 2)]);
    // A flaky run is as expected.
    assert_eq!(schedule.on(ended(0, End::AsExpected)), [finish(0, 1, 2)]);
}

#[test]
fn fail_fast_counts_what_cannot_be_prepared() {
    let mut schedule = schedule(2, FAIL_FAST);
    let actions = schedule.on(Input::NotPrepared { run: 0 });
    assert_eq!(actions, [finish(0, 0, 0), Action::CancelBuilds]);
    let left = Action::NotRun { run: 1, after: 0 };
    assert_eq!(schedule.on(Input::AllPrepared), [left]);
}

#[test]
fn a_run_that_was_promised_a_guest_starts_in_it_in_spite_of_fail_fast() {
    let mut schedule = schedule(2, FAIL_FAST);
    schedule.on(prepared(0, "a", 2));
    schedule.on(prepared(1, "a", 1));
    assert_eq!(schedule.on(free(0)), [answer(0, true)]);
    let actions = schedule.on(handed_on(0, End::Differs));
    assert_eq!(actions, [used(1, 1), finish(0, 1, 1), Action::CancelBuilds]);
}

#[test]
fn after_a_cancellation_nothing_starts_and_nothing_is_tried_again() {
    let limits = Limits {
        jobs: 2,
        attempts: 3,
        fail_fast: true,
    };
    let mut schedule = schedule(4, limits);
    schedule.on(prepared(0, "a", 1));
    schedule.on(prepared(1, "b", 1));
    schedule.on(prepared(2, "a", 1));
    assert_eq!(schedule.on(free(0)), [answer(0, true)]);
    assert_eq!(schedule.on(Input::Cancelled), []);
    assert_eq!(schedule.on(prepared(3, "c", 1)), []);
    // No run goes on in a guest that was kept. A cancelled run is no failure that stops others.
    let actions = schedule.on(handed_on(0, End::AsExpected));
    assert_eq!(actions, [Action::Stop(GuestNumber(1)), finish(0, 1, 1)]);
    assert_eq!(schedule.on(ended(1, End::Broken)), [finish(1, 1, 1)]);
    assert_eq!(schedule.on(Input::AllPrepared), []);
    assert!(schedule.is_over());
}

#[test]
fn an_attempt_that_was_cancelled_before_it_began_has_no_verdict() {
    let mut schedule = schedule(1, Limits { attempts: 2, ..ONE });
    schedule.on(prepared(0, "a", 1));
    schedule.on(Input::AllPrepared);
    schedule.on(Input::Cancelled);
    assert_eq!(schedule.on(ended(0, End::NotBegun)), []);
    assert!(schedule.is_over());
}

/// Whatever happens in whatever order: each run has one verdict, guests are not more than there may
/// be, and none is used by two runs or after its end.
#[test]
fn every_run_ends_once_in_any_order_of_events() {
    const RUNS: usize = 12;
    for seed in 0..2000 {
        let mut random = Random(seed);
        let limits = Limits {
            jobs: 1 + random.below(4),
            attempts: 1 + u32::try_from(random.below(3)).unwrap(),
            fail_fast: false,
        };
        let mut world = World::new(schedule(RUNS, limits));
        let mut unprepared: Vec<_> = (0..RUNS).collect();
        while !world.schedule.is_over() {
            let prepares = !unprepared.is_empty() && random.below(3) == 0;
            if prepares || world.running.is_empty() {
                let happened = match unprepared.pop() {
                    Some(run) if random.below(9) == 0 => Input::NotPrepared { run },
                    Some(run) => Input::Prepared {
                        run,
                        kind: ["a", "b"][random.below(2)],
                        shares: random.below(4) > 0,
                        expected: u64::try_from(random.below(5)).unwrap(),
                    },
                    None => Input::AllPrepared,
                };
                world.on(happened);
            } else {
                world.go_on(&mut random);
            }
            assert!(world.running.len() <= limits.jobs, "seed {seed}");
        }
        assert_eq!(world.finished, [1; RUNS], "seed {seed}");
        assert!(world.kept.is_empty(), "seed {seed}");
    }
}

/// What the actions of a schedule have led to.
struct World {
    schedule: Kinds,
    /// Each with its guest, and whether that is handed on.
    running: BTreeMap<RunIndex, (GuestNumber, bool)>,
    kept: Vec<GuestNumber>,
    finished: Vec<u32>,
}

impl World {
    fn new(schedule: Kinds) -> Self {
        Self {
            finished: vec![0; schedule.finished.len()],
            schedule,
            running: BTreeMap::new(),
            kept: Vec::new(),
        }
    }

    fn on(&mut self, happened: Input<&'static str>) {
        for action in self.schedule.on(happened) {
            match action {
                Action::Start {
                    run, guest, new, ..
                } => {
                    let kept = self.kept.iter().position(|kept| *kept == guest);
                    assert_eq!(kept.is_none(), new);
                    kept.map(|at| self.kept.remove(at));
                    assert!(self.running.insert(run, (guest, false)).is_none());
                }
                Action::Answer { run, hand_on } => {
                    self.running.get_mut(&run).unwrap().1 = hand_on;
                }
                Action::Stop(guest) => {
                    let kept = self.kept.iter().position(|kept| *kept == guest);
                    self.kept.remove(kept.unwrap());
                }
                Action::Finish { run, .. } => self.finished[run] += 1,
                Action::FailAttempt { .. } => {}
                Action::NotRun { .. } | Action::CancelBuilds => panic!("{action:?}"),
            }
        }
    }

    /// Ends the attempt at one of the runs.
    fn go_on(&mut self, random: &mut Random) {
        let at = random.below(self.running.len());
        let run = *self.running.keys().nth(at).unwrap();
        if random.below(2) == 0 {
            self.on(Input::GuestFree { run });
        }
        let (guest, hand_on) = self.running.remove(&run).unwrap();
        let kept = hand_on && random.below(5) > 0;
        if kept {
            self.kept.push(guest);
        }
        self.on(Input::AttemptEnded {
            run,
            end: [End::AsExpected, End::Differs, End::Broken][random.below(3)],
            guest: kept,
        });
    }
}

/// Numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

#[test]
fn what_the_emulator_broke_is_tried_again_once_and_counts_as_no_attempt() {
    let broken = Action::FailAttempt {
        run: 0,
        counts: false,
    };
    // It passes then, and is not flaky.
    let mut kinds = schedule(1, ONE);
    kinds.on(prepared_alone(0, "a"));
    let actions = kinds.on(ended(0, End::Emulator));
    assert_eq!(actions, [broken, new(0, 2, 2)]);
    let actions = kinds.on(ended(0, End::AsExpected));
    assert_eq!(actions, [finish(0, 1, 1)]);
    // Not without end.
    let mut kinds = schedule(1, ONE);
    kinds.on(prepared_alone(0, "a"));
    kinds.on(ended(0, End::Emulator));
    let actions = kinds.on(ended(0, End::Emulator));
    assert_eq!(actions, [finish(0, 1, 1)]);
    // `--retries` is for what fails.
    let mut kinds = schedule(1, Limits { attempts: 2, ..ONE });
    kinds.on(prepared_alone(0, "a"));
    kinds.on(ended(0, End::Emulator));
    let actions = kinds.on(ended(0, End::Broken));
    assert_eq!(actions, [failed(0), new(0, 3, 3)]);
    let actions = kinds.on(ended(0, End::AsExpected));
    assert_eq!(actions, [finish(0, 1, 2)]);
}

#[test]
fn what_every_attempt_would_say_again_is_tried_once_however_many_there_may_be() {
    let limits = Limits { attempts: 3, ..ONE };
    let mut alone = schedule(1, limits);
    assert_eq!(alone.on(prepared(0, "a", 9)), [new(0, 1, 1)]);
    assert_eq!(alone.on(ended(0, End::Settled)), [finish(0, 1, 1)]);
    // In a guest that others have used, too.
    let mut used = second_in_a_used_guest(2, limits);
    assert_eq!(used.on(ended(1, End::Settled)), [finish(1, 1, 1)]);
    let mut later = schedule(1, limits);
    later.on(prepared(0, "a", 9));
    later.on(ended(0, End::Differs));
    assert_eq!(later.on(ended(0, End::Settled)), [finish(0, 2, 2)]);
}
