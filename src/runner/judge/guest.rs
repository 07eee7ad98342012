// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict on a guest: what its kernel said, and what became of it.

use crate::error::{Blame, Error};
use crate::runner::next;
use crate::verdict::evidence::{CONSOLE, SAID};
use crate::verdict::{Complaint, Evidence, Outcome, Problem, SplatKind, Verdict};
use crate::vm::Accel;
use crate::vm::accel::describe;
use crate::vm::console::Console;
use crate::vm::emulator;
use crate::vm::machine::Gone;
use crate::vm::splat::Splat;

/// The kernel complained.
pub fn of_splat(splat: &Splat, during: &str) -> Verdict {
    let outcome = match splat.kind {
        _ if splat.fatal => Outcome::Panicked,
        SplatKind::LostMessages => Outcome::Flooded,
        _ => Outcome::Splat,
    };
    let blame = match splat.kind {
        SplatKind::OutOfMemory => Blame::Guest,
        _ => Blame::Kernel,
    };
    let mut verdict = Verdict::against(outcome, blame, format!("{during}: {}", splat.title));
    verdict.splat = Some(Complaint {
        kind: splat.kind,
        title: splat.title.clone(),
        code: splat.code.clone(),
    });
    verdict
        .help(next::about(splat.kind, splat.fatal))
        .with(&format!("{SAID} ({})", splat.kind), &splat.text)
}

/// The verdict after what executed the guest: an `int3` that memory does not have is no fault of the
/// kernel's if an emulator met it, with several CPUs.
pub fn as_executed(mut verdict: Verdict, accel: Accel, cpus: u16) -> Verdict {
    if accel != Accel::Tcg || cpus < 2 {
        return verdict;
    }
    let said = |piece: &&Evidence| piece.title.starts_with(SAID);
    let text = verdict.evidence.iter().find(said);
    let Some(bytes) = text.and_then(|said| emulator::stale_int3(&said.text)) else {
        return verdict;
    };
    verdict.outcome = Outcome::Infra;
    verdict.blame = Some(Blame::Host);
    verdict.exit_code = Error::host("").exit_code();
    let why = format!(
        "QEMU made this: there is no int3 in memory before RIP ({bytes}), so a CPU executed a \
         translation that is out of date"
    );
    verdict.reasons.insert(verdict.reasons.len().min(1), why);
    verdict.help(
        "a run that meets it is tried again once by itself. With one CPU (--cpus 1), or under KVM, it does \
         not happen",
    )
}

/// A guest that was silent when `--timeout` was met: that it would not have gone on is not known.
pub(in crate::runner) fn of_limit(mut verdict: Verdict) -> Verdict {
    if verdict.outcome == Outcome::Hung && verdict.splat.is_none() {
        verdict.outcome = Outcome::TimedOut;
        verdict.blame = Some(Blame::Limit);
        verdict.help = None;
    }
    verdict
}

/// The verdict on a run that ended early, with what was not as expected before.
pub(in crate::runner) fn with_earlier(mut verdict: Verdict, problems: &[Problem]) -> Verdict {
    if verdict.is_as_expected() || verdict.outcome == Outcome::Cancelled {
        return verdict;
    }
    let is_said = |problem: &&Problem| {
        let mut reasons = verdict.reasons.iter();
        reasons.any(|reason| reason.contains(&problem.what))
    };
    let earlier: Vec<_> = problems.iter().filter(|it| !is_said(it)).collect();
    let shown = earlier.iter().take(EARLIER_MAX);
    let mut lines: Vec<_> = shown
        .map(|problem| format!("before that, {problem}"))
        .collect();
    if let Some(more @ 1..) = earlier.len().checked_sub(EARLIER_MAX) {
        lines.push(format!(
            "and {more} more problems before that: verdict.json has them"
        ));
    }
    verdict.reasons.extend(lines);
    verdict
}

/// A guest has fallen silent, and its memory has the kernel's complaint, which its console has not.
pub(in crate::runner) fn of_silent_splat(silence: Verdict, splat: &Splat) -> Verdict {
    let mut verdict = of_splat(splat, NOT_WRITTEN);
    verdict.reasons.extend(silence.reasons);
    verdict.evidence.extend(silence.evidence);
    verdict
}

/// Where a complaint is that nobody has written to the console.
const NOT_WRITTEN: &str = "in the kernel's log, not on its console";
/// Problems of earlier steps that are shown.
const EARLIER_MAX: usize = 5;

/// What became of a guest, read from its console first: a panic explains a silence. Splats
/// whose title has one of the `allowed` parts in it explain nothing.
pub fn of_gone(gone: &Gone, during: &str, console: &Console, allowed: &[&str]) -> Verdict {
    let reason = format!("{during}: {}", describe(gone));
    let splat = console.splat(allowed);
    // A kernel that gets no time takes that for a stall of its own.
    let splat = splat.filter(|it| !it.kind.is_stall() || !matches!(gone, Gone::Starved(_)));
    let mut verdict = match (splat, gone) {
        (Some(splat), _) => of_splat(&splat, during),
        (None, Gone::Panicked) => {
            Verdict::against(Outcome::Panicked, Blame::Kernel, reason).help(next::PANIC)
        }
        (None, Gone::Reset(_)) => {
            Verdict::against(Outcome::Reset, Blame::Kernel, reason).help(next::RESET)
        }
        (None, Gone::Silent(_)) => {
            Verdict::against(Outcome::Hung, Blame::Kernel, reason).help(next::SILENCE)
        }
        (None, Gone::Flooded) => {
            Verdict::against(Outcome::Flooded, Blame::Kernel, reason).help(next::FLOOD)
        }
        (None, Gone::Qemu(_)) => Verdict::infra(&Error::host(reason).help(
            "the guest did not cause this: find out what ended or stopped QEMU (out of memory? \
                 see dmesg)",
        )),
        (None, Gone::Starved(_)) => Verdict::infra(&Error::host(reason).help(
            "the guest did not cause this: run fewer guests at once (--jobs 1), or on a host with time",
        )),
        (None, Gone::Lost(_)) => Verdict::infra(&Error::new(Blame::Guest, reason).help(
            "the guest's kernel is alive without a splat; its ssh server or the lab's agent has ended",
        )),
    };
    let lines = verdict.reasons.iter().flat_map(|reason| reason.lines());
    verdict.reasons = lines.map(str::to_owned).collect();
    verdict.with(CONSOLE, &console.tail(25))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> (tempfile::TempDir, Console) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, text).unwrap();
        (dir, Console::new(path))
    }

    #[test]
    fn a_lost_connection_is_a_panic_if_the_console_says_so() {
        let text = "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n";
        let (_dir, console) = console(text);
        let verdict = of_gone(&Gone::Silent("no answer".into()), "step 2", &console, &[]);
        assert_eq!(verdict.outcome, Outcome::Panicked);
        assert!(verdict.reasons[0].contains("Attempted to kill init"));
    }

    #[test]
    fn a_host_without_time_is_to_blame_also_for_stalls() {
        let starved = Gone::Starved("no answer\nQEMU had 0.1 s".into());
        let stall = "[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [init:1]\n";
        for text in ["[    1.0] fine\n", stall] {
            let (_dir, console) = console(text);
            let verdict = of_gone(&starved, "step 2", &console, &[]);
            let found = (verdict.outcome, verdict.blame, verdict.exit_code);
            assert_eq!(found, (Outcome::Infra, Some(Blame::Host), 3));
            assert_eq!(
                verdict.reasons,
                ["step 2: no answer", "QEMU had 0.1 s"],
                "one line each"
            );
            assert!(verdict.help.unwrap().contains("--jobs 1"));
            let silent = Gone::Silent("no answer".into());
            let verdict = of_gone(&silent, "step 2", &console, &[]);
            assert_eq!(verdict.blame, Some(Blame::Kernel));
        }
        let (_dir, console) = console("[    1.0] BUG: kernel NULL pointer dereference\n");
        let verdict = of_gone(&starved, "step 2", &console, &[]);
        assert_eq!(verdict.blame, Some(Blame::Kernel));
    }

    #[test]
    fn whatever_was_lost_or_said_has_a_next_step() {
        use SplatKind::*;
        for kind in [
            Panic,
            Oops,
            Bug,
            Warning,
            Lockdep,
            Sanitizer,
            Lockup,
            HungTask,
            RcuStall,
            OutOfMemory,
            LostMessages,
        ] {
            let splat = Splat {
                kind,
                title: "x".into(),
                code: None,
                fatal: kind == Panic,
                settled: true,
                text: "x".into(),
            };
            assert!(of_splat(&splat, "step 2").help.is_some(), "{kind}");
        }
        let (_dir, console) = console("[    1.0] fine\n");
        for gone in [
            Gone::Panicked,
            Gone::Reset("guest-reset".into()),
            Gone::Qemu("x".into()),
            Gone::Lost("x".into()),
            Gone::Silent("x".into()),
            Gone::Starved("x".into()),
            Gone::Flooded,
        ] {
            let verdict = of_gone(&gone, "step 2", &console, &[]);
            assert!(verdict.help.is_some(), "{gone:?}");
        }
    }

    #[test]
    fn a_limit_makes_no_kernel_guilty() {
        let silent = Gone::Silent("the run took longer than --timeout 20s\nQEMU had 9 s".into());
        let (_dir, fine) = console("[    1.0] fine\n");
        let verdict = of_limit(of_gone(&silent, "during step 2 (load x)", &fine, &[]));
        let found = (verdict.outcome, verdict.blame, verdict.exit_code);
        assert_eq!(found, (Outcome::TimedOut, Some(Blame::Limit), 1));
        // What the guest has said against itself stands, and so does what the host did.
        for (text, gone, outcome, blame) in [
            (
                "[    1.0] Kernel panic - not syncing: provoked\n",
                &silent,
                Outcome::Panicked,
                Blame::Kernel,
            ),
            (
                "[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [init:1]\n",
                &silent,
                Outcome::Splat,
                Blame::Kernel,
            ),
            (
                "[    1.0] fine\n",
                &Gone::Starved("x".into()),
                Outcome::Infra,
                Blame::Host,
            ),
        ] {
            let (_dir, console) = console(text);
            let verdict = of_limit(of_gone(gone, "during step 2 (load x)", &console, &[]));
            assert_eq!(
                (verdict.outcome, verdict.blame),
                (outcome, Some(blame)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_oops_that_the_emulator_made_is_the_hosts() {
        let of = |text: &str| {
            let (_dir, console) = console(text.split_once('\n').unwrap().1);
            of_splat(&console.splat(&[]).unwrap(), "step 3 (trace shop.price)")
        };
        let stale = of(include_str!(
            "../../../tests/faults/splats/written/int3-stale.txt"
        ));
        assert_eq!(stale.blame, Some(Blame::Kernel));
        assert!(!stale.is_emulators());
        // On a real CPU it is the kernel's.
        for (accel, cpus) in [(Accel::Kvm, 2), (Accel::Tcg, 1)] {
            assert_eq!(as_executed(stale.clone(), accel, cpus), stale);
        }
        let emulated = as_executed(stale, Accel::Tcg, 2);
        let found = (emulated.outcome, emulated.blame, emulated.exit_code);
        assert_eq!(found, (Outcome::Infra, Some(Blame::Host), 3));
        assert!(emulated.is_emulators() && !emulated.evidence.is_empty());
        insta::assert_snapshot!(emulated.reasons.join("\n"), @r"
        step 3 (trace shop.price): Oops: int3: 0000 [#1] SMP NOPTI in crate_update
        QEMU made this: there is no int3 in memory before RIP (0f <1f> 44 00 00), so a CPU executed a translation that is out of date
        ");
        let real = of(include_str!(
            "../../../tests/faults/splats/written/int3-real.txt"
        ));
        assert_eq!(as_executed(real.clone(), Accel::Tcg, 2), real);
    }

    #[test]
    fn what_went_wrong_before_a_guest_was_lost_is_kept() {
        let problem = |step| Problem {
            step,
            line: 9 + step,
            label: "read x".into(),
            what: format!("it holds {step}"),
            blame: Blame::Kernel,
            help: None,
        };
        let (_dir, console) = console("[    1.0] fine\n");
        let hung = of_gone(&Gone::Silent("no answer".into()), "step 4", &console, &[]);
        let verdict = with_earlier(hung.clone(), &[problem(2), problem(3)]);
        assert_eq!(
            verdict.reasons,
            [
                "step 4: no answer",
                "before that, step 2 (line 11, read x): it holds 2",
                "before that, step 3 (line 12, read x): it holds 3",
            ]
        );
        // Once each, and not without end.
        assert_eq!(
            with_earlier(verdict.clone(), &[problem(2), problem(3)]),
            verdict
        );
        let many: Vec<_> = (1..=9).map(problem).collect();
        let reasons = with_earlier(hung, &many).reasons;
        assert_eq!(reasons.len(), 1 + EARLIER_MAX + 1);
        assert!(reasons.last().unwrap().starts_with("and 4 more problems"));
    }

    #[test]
    fn silence_without_a_word_on_the_console_is_a_hang() {
        let (_dir, console) = console("[    1.0] fine\n");
        let verdict = of_gone(&Gone::Silent("no answer".into()), "step 2", &console, &[]);
        assert_eq!((verdict.outcome, verdict.exit_code), (Outcome::Hung, 1));
        assert_eq!(verdict.evidence[0].text, "[    1.0] fine");
    }
}
