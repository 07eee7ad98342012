// SPDX-License-Identifier: MIT OR Apache-2.0
//! What livepatch selftests say: which cases a script has, how each ended, how long it took. Pure.
//!
//! A script says `TEST: name ... ` when a case begins, and `ok` or `not ok` on the same line when
//! it ends (`functions.sh: start_test(), check_result()`). Some cases say `FAIL` instead. The first
//! case that fails ends the script, so the later ones are not reached.

use std::collections::BTreeMap;

use crate::guest;

/// The exit code of a script that cannot run here (`functions.sh: ksft_skip`).
pub const SKIP: i32 = 4;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It said `ok`.
    Ok,
    /// It said anything else; what came after.
    NotOk(String),
    /// The script did not run: its reason.
    Skipped(String),
    /// An earlier case ended the script, or it left this one out.
    NotReached,
}

/// A case and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The text of its `start_test`.
    pub test: String,
    /// How it ended.
    pub ending: Ending,
}

/// The cases that a script has, in its order: `start_test "…"`, or in single quotes.
pub fn cases(script: &str) -> Vec<String> {
    let begin = |line: &str| {
        let rest = line.trim_start().strip_prefix("start_test ")?;
        if let Some(rest) = rest.strip_prefix('"') {
            return rest.split_once('"').map(|(test, _)| test.to_owned());
        }
        // The shell's way to write a single quote between two.
        let rest = rest.strip_prefix('\'')?.replace("'\\''", "\0");
        let (test, _) = rest.split_once('\'')?;
        Some(test.replace('\0', "'"))
    };
    script.lines().filter_map(begin).collect()
}

/// How the cases of a script ended, by its output and its own end.
pub fn endings(cases: &[String], output: &str, end: guest::Ending) -> Vec<Case> {
    let begun = begun(output);
    let skips = end == guest::Ending::Exit(SKIP);
    let ending = |test: &String| match begun.iter().find(|(begun, _)| begun == test) {
        Some((_, said)) => said_ending(said, skips),
        None if skips => Ending::Skipped(skip_reason(output)),
        None => Ending::NotReached,
    };
    let mut endings: Vec<_> = cases
        .iter()
        .map(|test| Case {
            test: test.clone(),
            ending: ending(test),
        })
        .collect();
    // A script can fail between its cases.
    let failed = |case: &Case| matches!(case.ending, Ending::NotOk(_));
    if !skips && end != guest::Ending::Exit(0) && !endings.iter().any(failed) {
        let at = endings
            .iter()
            .position(|case| case.ending == Ending::NotReached)
            .or(endings.len().checked_sub(1));
        if let Some(case) = at.and_then(|at| endings.get_mut(at)) {
            let lines: Vec<_> = output.lines().collect();
            let tail = lines[lines.len().saturating_sub(10)..].join("\n");
            case.ending = Ending::NotOk(format!("the script ended: {end}\n{tail}"));
        }
    }
    endings
}

/// Milliseconds of each case by the time stamps of the kernel's log, into which a script writes
/// `===== TEST: name =====` when a case begins. A case ends with the next one, or with the log.
pub fn durations(log: &str) -> BTreeMap<String, u64> {
    let mut durations = BTreeMap::new();
    let mut begun: Option<(&str, f64)> = None;
    let mut last = 0.0;
    let mut end = |begun: Option<(&str, f64)>, at: f64| {
        if let Some((test, since)) = begun {
            let taken = std::time::Duration::try_from_secs_f64(at - since).unwrap_or_default();
            durations.insert(test.to_owned(), crate::event::millis(taken));
        }
    };
    for line in log.lines() {
        let stamped = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "));
        let Some((stamp, message)) = stamped else {
            continue;
        };
        last = stamp.trim().parse().unwrap_or(last);
        if let Some((_, rest)) = message.split_once("===== TEST: ")
            && let Some((test, _)) = rest.split_once(" =====")
        {
            end(begun.replace((test, last)), last);
        }
    }
    end(begun, last);
    durations
}

/// Each case that has begun, and all that was said until the next one.
fn begun(output: &str) -> Vec<(&str, String)> {
    let mut begun: Vec<(&str, String)> = Vec::new();
    for line in output.lines() {
        // Something else may stand before it on the line: a script's own messages.
        if let Some((_, rest)) = line.split_once("TEST: ")
            && let Some((test, said)) = rest.split_once(" ... ")
        {
            begun.push((test, said.to_owned()));
        } else if let Some((_, said)) = begun.last_mut() {
            said.push('\n');
            said.push_str(line);
        }
    }
    begun
}

/// A case is ok only if it says so. The last one of a script that was cut off did not.
fn said_ending(said: &str, skips: bool) -> Ending {
    let mut lines = said.lines().map(str::trim_end);
    if lines.any(|line| line == "ok") {
        return Ending::Ok;
    }
    if skips {
        return Ending::Skipped(skip_reason(said));
    }
    Ending::NotOk(said.trim().to_owned())
}

/// `SKIP: …` or `skip all tests: …`.
fn skip_reason(output: &str) -> String {
    let reason = |line: &str| {
        let line = line.trim();
        line.strip_prefix("SKIP: ")
            .or_else(|| line.strip_prefix("skip all tests: "))
            .map(str::to_owned)
    };
    output
        .lines()
        .find_map(reason)
        .unwrap_or_else(|| "the script gives no reason".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn of(names: &[&str], output: &str, code: i32) -> Vec<Ending> {
        let cases = endings(&named(names), output, guest::Ending::Exit(code));
        cases.into_iter().map(|case| case.ending).collect()
    }

    #[test]
    fn a_script_names_its_cases() {
        let script = "setup_config\nstart_test \"one\"\nif x; then\n\tstart_test \"two: $x\"\nfi\n";
        assert_eq!(cases(script), ["one", "two: $x"]);
        let quoted = "start_test 'nobody'\\''s \"case\"'\n# start_test 'x'\n";
        assert_eq!(cases(quoted), ["nobody's \"case\""]);
    }

    #[test]
    fn a_failure_hides_the_cases_after_it() {
        let output = "TEST: one ... ok\nTEST: two ... not ok\n\n--- expected\n+++ result\n\n\
                      ERROR: livepatch kselftest(s) failed\n";
        assert_eq!(
            of(&["one", "two", "three"], output, 1),
            [
                Ending::Ok,
                Ending::NotOk(
                    "not ok\n\n--- expected\n+++ result\n\n\
                     ERROR: livepatch kselftest(s) failed"
                        .into()
                ),
                Ending::NotReached,
            ]
        );
    }

    #[test]
    fn a_script_that_cannot_run_skips_its_cases() {
        let output = "SKIP: test-kprobe requires CONFIG_KPROBES_ON_FTRACE\n";
        let skipped = Ending::Skipped("test-kprobe requires CONFIG_KPROBES_ON_FTRACE".into());
        assert_eq!(of(&["one", "two"], output, 4), [skipped.clone(), skipped]);
    }

    #[test]
    fn a_script_that_fails_between_its_cases_is_no_pass() {
        let output = "TEST: one ... ok\nERROR: unexpected rights\n";
        let ended = of(&["one", "two", "three"], output, 1);
        assert!(matches!(&ended[1], Ending::NotOk(said) if said.contains("unexpected rights")));
        assert_eq!((&ended[0], &ended[2]), (&Ending::Ok, &Ending::NotReached));
        assert!(matches!(&of(&["one"], output, 1)[0], Ending::NotOk(_)));
    }

    #[test]
    fn the_log_says_how_long_a_case_took() {
        let log = "[    3.500000] ===== TEST: one =====\n[    4.000000] livepatch: x\nnoise\n\
                   [    5.750000] [  T12] ===== TEST: two: 2 =====\n[    6.000000] end\n";
        let expected = [("one".to_owned(), 2250), ("two: 2".to_owned(), 250)];
        assert_eq!(durations(log), BTreeMap::from(expected));
        // A guest's clock may say anything.
        durations("[ 1e308] ===== TEST: one =====\n[ -1e308] x\n[ NaN] y\n");
    }

    #[test]
    fn silence_is_not_ok() {
        assert_eq!(
            of(&["one"], "TEST: one ... ", 137),
            [Ending::NotOk(String::new())]
        );
        assert_eq!(of(&["one"], "", 0), [Ending::NotReached]);
        assert_eq!(
            of(&["one"], "TEST: one ... FAIL\n\n", 1),
            [Ending::NotOk("FAIL".into())]
        );
        // Not a case of the script: whoever wrote it.
        assert_eq!(
            of(&["one"], "TEST: forged ... ok\n", 0),
            [Ending::NotReached]
        );
    }
}
