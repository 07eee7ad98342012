// SPDX-License-Identifier: MIT OR Apache-2.0
//! Event files read back: the results of shards, and of labs that ended before their plan did.
//!
//! A stream ends wherever its lab was killed, so half a last line is left out. Anything else that
//! does not read is an error: results that are silently missing would look like a plan without
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::results::{Ended, Finished, Results, RunResult, State};
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::{Event, RunId, Skipped, Stamped, VERSION};
use crate::verdict::{Outcome, Verdict};
use crate::visible::visible;

/// The longest event file that is read.
const FILE_MAX: u64 = 1 << 30;

/// The longest line. A verdict holds a console's last lines, not a console.
const LINE_MAX: u64 = 16 << 20;

/// What the streams of a file can be about: far more than any lab plays, and few enough that each
/// can be compared with each.
const RUNS_MAX: usize = 20_000;
const ATTEMPTS_MAX: usize = 200;
const STREAMS_MAX: usize = 1_000;

/// What the event files of some folders amount to.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// All of it.
    pub results: Results,
    /// The files, in the order in which their labs began.
    pub files: Vec<PathBuf>,
}

/// Reads `*.jsonl` of a folder that is taken up again, but not below it. It may have none yet.
///
/// # Errors
///
/// It is no folder, or a file is no event stream of this version.
pub fn read_dir(dir: &Path) -> Result<Results> {
    let files = event_files(dir)?;
    Ok(read_files(files)?.results)
}

/// Reads `*.jsonl` of each folder, but not below it.
///
/// # Errors
///
/// A folder has none, or a file is no event stream of this version.
pub fn read_dirs(dirs: &[PathBuf]) -> Result<Merged> {
    let mut all = Vec::new();
    for dir in dirs {
        let files = event_files(dir)?;
        if files.is_empty() {
            let what = format!("{} has no event files (*.jsonl)", dir.display());
            return Err(Error::new(Blame::Usage, what)
                .help("name the folder that `lab run --output` was given"));
        }
        all.extend(files);
    }
    read_files(all)
}

fn read_files(files: Vec<PathBuf>) -> Result<Merged> {
    let mut found = Vec::new();
    for file in files {
        found.push((streams(&file)?, file));
    }
    let began = |streams: &[Results]| streams.first().and_then(began);
    found.sort_by_key(|(streams, _)| began(streams));
    let (streams, files): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    Ok(Merged {
        results: merge(streams.into_iter().flatten().collect()),
        files,
    })
}

/// The event files of a folder, by name.
fn event_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| {
        let what = format!("cannot read {}: {error}", folder.display());
        Error::new(Blame::Usage, what).help("name a folder that `lab run --output` was given")
    })?;
    for entry in entries {
        let path = entry.at("read", folder)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
            && path.is_file()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The streams in a file: one, or several that were joined. None if its lab was killed before it
/// wrote anything.
///
/// # Errors
///
/// The file is too long, is no event stream, or one of another version.
pub fn streams(path: &Path) -> Result<Vec<Results>> {
    let file = File::open(path).at("open", path)?;
    let size = file.metadata().at("read", path)?.len();
    if size > FILE_MAX {
        return Err(refuse(path, None, "is longer than 1 GiB"));
    }
    // A lab may be writing to it at this moment: what comes after `size` is not looked at.
    let mut reader = BufReader::new(file.take(size));
    let mut streams = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut reader)
            .take(LINE_MAX + 1)
            .read_until(b'\n', &mut line);
        if read.at("read", path)? == 0 {
            break;
        }
        if line.len() as u64 > LINE_MAX {
            return Err(refuse(path, Some(number), "is longer than 16 MiB"));
        }
        take(&mut streams, &line).map_err(|why| refuse(path, Some(number), &why))?;
    }
    Ok(streams)
}

/// Takes in a line; the error says what is wrong with it.
fn take(streams: &mut Vec<Results>, line: &[u8]) -> std::result::Result<(), String> {
    let is_whole = line.ends_with(b"\n");
    let head = match serde_json::from_slice::<Head>(line) {
        Ok(head) => head,
        Err(_) if !is_whole => return Ok(()),
        Err(error) => return Err(format!("is no event: {error}")),
    };
    // Before the rest of it: what else a `started` of another version holds is not known.
    if head.kind == "started" {
        check_version(&head)?;
        streams.push(Results::default());
    }
    let Some(stream) = streams.last_mut() else {
        return Err("is not `started`, with which a stream begins".to_owned());
    };
    let no_event = |error: serde_json::Error| format!("is no event: {error}");
    let mut value: Value = serde_json::from_slice(line).map_err(no_event)?;
    make_visible(&mut value);
    let stamped: Stamped = serde_json::from_value(value).map_err(no_event)?;
    stream.event(&stamped);
    let of_run = match &stamped.event {
        Event::AttemptFailed { run, .. } => stream.get(run),
        _ => None,
    };
    if stream.runs.len() + stream.skipped.len() > RUNS_MAX {
        Err(format!("is about more than {RUNS_MAX} runs"))
    } else if of_run.is_some_and(|run| run.failed_attempts.len() > ATTEMPTS_MAX) {
        Err(format!("has more than {ATTEMPTS_MAX} attempts at one run"))
    } else if streams.len() > STREAMS_MAX {
        Err(format!("begins more than {STREAMS_MAX} streams"))
    } else {
        Ok(())
    }
}

/// The file may be a stranger's: none of its texts, whether a name, a title or a folder, must steer
/// the terminal of whoever reads the report.
fn make_visible(value: &mut Value) {
    match value {
        Value::String(text) => *text = visible(text),
        Value::Array(items) => items.iter_mut().for_each(make_visible),
        Value::Object(entries) => entries.values_mut().for_each(make_visible),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// As much of an event as every version has.
#[derive(Debug, Deserialize)]
struct Head {
    kind: String,
    version: Option<u64>,
    lab: Option<String>,
}

fn check_version(head: &Head) -> std::result::Result<(), String> {
    if head.version == Some(u64::from(VERSION)) {
        return Ok(());
    }
    let version = head
        .version
        .map_or("unknown".to_owned(), |version| version.to_string());
    let lab = head.lab.as_deref().map_or("unknown", |lab| lab);
    Err(format!(
        "is of version {version} of the stream, written by lab {lab}; this lab reads version \
         {VERSION}"
    ))
}

fn refuse(path: &Path, line: Option<u64>, why: &str) -> Error {
    let place = match line {
        Some(line) => format!("{}:{line}", path.display()),
        None => path.display().to_string(),
    };
    Error::new(Blame::File, format!("{place} {why}"))
        .help("read it with the lab that wrote it, or move it out of the folder")
}

/// Joins the results of several labs; the order in which they are given does not matter.
///
/// What no shard has anything of stays in `elsewhere`. The runs are in the order of their names: the
/// shards do not know the order of the whole plan.
pub fn merge(mut streams: Vec<Results>) -> Results {
    streams.sort_by_key(began);
    let started = streams.iter().find_map(|results| results.started.clone());
    let ended = streams
        .iter()
        .filter_map(|results| results.ended)
        .reduce(longest);
    let mut runs = BTreeMap::<RunId, Vec<RunResult>>::new();
    let mut skipped = BTreeMap::<RunId, Skipped>::new();
    let mut elsewhere = BTreeSet::new();
    let every_scenario = streams.iter().any(|results| results.every_scenario);
    for results in streams {
        elsewhere.extend(results.elsewhere);
        for run in results.runs {
            runs.entry(run.run.clone()).or_default().push(run);
        }
        for skip in results.skipped {
            skipped.insert(skip.run.clone(), skip);
        }
    }
    skipped.retain(|run, _| !runs.contains_key(run));
    let runs = runs.into_values().filter_map(join).collect();
    let mut merged = Results::new(runs, skipped.into_values().collect(), started, ended);
    merged.elsewhere = elsewhere;
    merged.every_scenario = every_scenario;
    merged
}

fn began(results: &Results) -> Option<Timestamp> {
    results
        .started
        .as_deref()
        .and_then(|time| time.parse().ok())
}

/// Shards run at the same time on machines of their own, so nothing is added up.
fn longest(a: Ended, b: Ended) -> Ended {
    Ended {
        ms: a.ms.max(b.ms),
        guests: a.guests.max(b.guests),
        memory_mib: a.memory_mib.max(b.memory_mib),
    }
}

/// One run from what several labs say of it, the earliest lab first.
///
/// A settled verdict counts more than one that is not, and that more than none; of equals the later
/// one. A run that ended as expected in one lab and otherwise in another is flaky, and one that was
/// flaky once stays so.
fn join(found: Vec<RunResult>) -> Option<RunResult> {
    let found = without_repeats(found);
    let mut failed_attempts = attempts(&found);
    let rank = |run: &RunResult| match run.verdict() {
        _ if !run.is_settled() => (u8::from(run.verdict().is_some()), false),
        Some(verdict) if verdict.is_as_expected() => (3, verdict.outcome == Outcome::Flaky),
        _ => (2, false),
    };
    let otherwise = found.iter().filter(|run| rank(run).0 == 2);
    let otherwise: Vec<_> = otherwise.filter_map(finished).cloned().collect();
    let mut run = found.into_iter().max_by_key(rank)?;
    let is_flaky = rank(&run).0 == 3 && !otherwise.is_empty();
    if is_flaky {
        for attempt in &otherwise {
            add_attempt(&mut failed_attempts, attempt);
        }
    }
    run.failed_attempts = failed_attempts;
    if is_flaky {
        make_flaky(&mut run);
    }
    Some(run)
}

/// A lab that takes up the work of another repeats its verdicts, without the steps: those are no
/// further results.
fn without_repeats(found: Vec<RunResult>) -> Vec<RunResult> {
    let mut kept: Vec<RunResult> = Vec::new();
    for run in found {
        let says = |run: &RunResult| finished(run).map(|f| (f.verdict.clone(), f.record.clone()));
        let said = says(&run);
        if said.is_none() || !kept.iter().any(|other| says(other) == said) {
            kept.push(run);
        }
    }
    kept
}

/// The verdict and the record are those of the first attempt that was not as expected: there is
/// something to see.
fn make_flaky(run: &mut RunResult) {
    let State::Finished(finished) = &mut run.state else {
        return;
    };
    if let Some(first) = run.failed_attempts.first() {
        let attempts = u32::try_from(run.failed_attempts.len() + 1).unwrap_or(u32::MAX);
        finished.verdict = Verdict::flaky(&first.verdict, attempts);
        finished.record.clone_from(&first.record);
    }
}

fn finished(run: &RunResult) -> Option<&Finished> {
    match &run.state {
        State::Finished(finished) => Some(&**finished),
        _ => None,
    }
}

/// All attempts that failed and were followed by another one in the same lab.
fn attempts(found: &[RunResult]) -> Vec<Finished> {
    let mut all = Vec::new();
    for attempt in found.iter().flat_map(|run| &run.failed_attempts) {
        add_attempt(&mut all, attempt);
    }
    all
}

/// Adds an attempt in the order of time, unless it is known: the same file may be read twice.
fn add_attempt(attempts: &mut Vec<Finished>, attempt: &Finished) {
    if attempts.contains(attempt) {
        return;
    }
    let time = |attempt: &Finished| attempt.time.parse::<Timestamp>().ok();
    let place = attempts.partition_point(|other| time(other) <= time(attempt));
    attempts.insert(place, attempt.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use serde_json::json;

    const EVENTS: &str = include_str!("../../tests/events.jsonl");

    fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The events of one of three shards: the plan's runs and what belongs to them.
    fn shard(number: usize) -> Vec<Stamped> {
        let of_shard =
            |run: &RunId| run.name().bytes().map(usize::from).sum::<usize>() % 3 == number;
        let mut events = sample::events();
        events.retain_mut(|stamped| match &mut stamped.event {
            Event::Planned { runs, .. } => {
                runs.retain(of_shard);
                true
            }
            Event::RunStarted { run, .. }
            | Event::Booted { run, .. }
            | Event::StepStarted { run, .. }
            | Event::StepFinished { run, .. }
            | Event::AttemptFailed { run, .. }
            | Event::RunFinished { run, .. }
            | Event::NotRun { run, .. } => of_shard(run),
            _ => true,
        });
        events
    }

    #[test]
    fn a_scenario_that_no_shard_plays_fails_those_that_must_play_each() {
        let skip = |scenario: &str| Skipped {
            run: sample::run(scenario),
            reason: "it requires replace: tags, the kernel has bool".into(),
        };
        let shard = |run: &str, skipped: Skipped, every_scenario| {
            let planned = Event::Planned {
                runs: vec![sample::run(run)],
                skipped: vec![skipped],
                elsewhere: Vec::new(),
                jobs: 1,
                every_scenario,
            };
            let finished = Event::RunFinished {
                run: sample::run(run),
                verdict: Verdict::passed(),
                ms: 1,
                record: String::new(),
            };
            sample::of(&[planned, finished].map(sample::stamped))
        };
        for every_scenario in [false, true] {
            let first = shard("a", skip("nowhere"), every_scenario);
            let second = shard("elsewhere", skip("a"), false);
            let merged = merge(vec![first, second]);
            assert_eq!(merged.played_nowhere(), ["nowhere"]);
            assert_eq!(merged.exit_code(), u8::from(every_scenario));
        }
    }

    #[test]
    fn what_was_new_is_as_it_is_after_its_review_and_no_flaky_run() {
        use Outcome::{Failed, New, Passed};
        for after in [Passed, Failed] {
            let (outcome, record) = merged(&[Some(New), Some(after)]);
            assert_eq!((outcome, &*record), (Some(after), "record-1"));
        }
        assert_eq!(merged(&[Some(New), None]).0, Some(New));
    }

    #[test]
    fn three_shards_in_any_order_are_the_whole() {
        let whole = merge(vec![sample::results()]);
        assert_eq!(whole.runs.len(), sample::results().runs.len());
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let shards = order.map(|number| sample::of(&shard(number)));
            assert!(shards.iter().all(|shard| shard.runs.len() > 2));
            assert_eq!(merge(shards.to_vec()), whole);
        }
        assert_eq!(merge(vec![whole.clone(), whole.clone()]), whole);
    }

    /// A lab that began at this minute and ended a run in this way.
    fn lab(minute: u8, outcome: Option<Outcome>) -> Results {
        let stamped = |event| Stamped {
            time: format!("2026-11-24T02:{minute:02}:00Z"),
            event,
        };
        let run = sample::run("x");
        let mut events = vec![
            Event::Started {
                version: VERSION,
                lab: "0.1.0".into(),
                command: Vec::new(),
            },
            Event::Planned {
                runs: vec![run.clone()],
                skipped: Vec::new(),
                elsewhere: Vec::new(),
                jobs: 1,
                every_scenario: false,
            },
        ];
        if let Some(outcome) = outcome {
            let mut verdict = Verdict::against(outcome, Blame::Kernel, "reason");
            verdict.exit_code = u8::from(!verdict.is_as_expected());
            events.push(Event::RunFinished {
                run,
                verdict,
                ms: 1,
                record: format!("record-{minute}"),
            });
        }
        sample::of(&events.into_iter().map(stamped).collect::<Vec<_>>())
    }

    fn merged(outcomes: &[Option<Outcome>]) -> (Option<Outcome>, String) {
        let labs = (0..)
            .zip(outcomes)
            .map(|(minute, outcome)| lab(minute, *outcome));
        let forwards: Vec<_> = labs.collect();
        let backwards = forwards.iter().rev().cloned().collect();
        let results = merge(forwards);
        assert_eq!(merge(backwards), results);
        let run = results.get(&sample::run("x")).unwrap();
        let record = finished(run).map_or(String::new(), |finished| finished.record.clone());
        (run.verdict().map(|verdict| verdict.outcome), record)
    }

    #[test]
    fn of_several_verdicts_the_settled_and_later_one_counts() {
        use Outcome::{Cancelled, Failed, Flaky, Infra, Panicked, Passed, TimedOut};
        let of = |outcomes: &[Outcome]| {
            let outcomes: Vec<_> = outcomes.iter().copied().map(Some).collect();
            let (outcome, record) = merged(&outcomes);
            (outcome.unwrap(), record)
        };
        assert_eq!(of(&[Passed, Cancelled]), (Passed, "record-0".into()));
        assert_eq!(of(&[Infra, Failed]), (Failed, "record-1".into()));
        assert_eq!(of(&[Infra, Cancelled]), (Cancelled, "record-1".into()));
        assert_eq!(of(&[Failed, Panicked]), (Panicked, "record-1".into()));
        assert_eq!(of(&[Failed, Passed]), (Flaky, "record-0".into()));
        assert_eq!(of(&[Passed, Infra, Failed]), (Flaky, "record-2".into()));
        assert_eq!(of(&[Flaky, Passed]), (Flaky, "record-0".into()));
        // A limit says nothing about the kernel: what did not meet one counts.
        assert_eq!(of(&[TimedOut, Passed]), (Passed, "record-1".into()));
        assert_eq!(of(&[Failed, TimedOut]), (Failed, "record-0".into()));
        assert_eq!(of(&[Infra, TimedOut]), (TimedOut, "record-1".into()));
        assert_eq!(
            merged(&[Some(Infra), None]),
            (Some(Infra), "record-0".into())
        );
        assert_eq!(merged(&[None, None]), (None, String::new()));
    }

    #[test]
    fn a_flaky_run_keeps_what_its_failure_showed() {
        let labs = vec![lab(0, Some(Outcome::Failed)), lab(1, Some(Outcome::Passed))];
        let results = merge(labs);
        let run = results.get(&sample::run("x")).unwrap();
        let verdict = run.verdict().unwrap();
        assert_eq!(verdict.reasons, ["attempt 1 of 2: reason"]);
        assert_eq!((run.failed_attempts.len(), results.exit_code()), (1, 0));
    }

    #[test]
    fn a_verdict_that_a_later_lab_repeats_keeps_its_steps() {
        let earlier = sample::results();
        let mut repeats = vec![sample::events()[0].clone()];
        for run in &earlier.runs {
            let Some(earlier) = finished(run) else {
                continue;
            };
            repeats.push(Stamped {
                time: "2026-11-25T00:00:00Z".into(),
                event: Event::RunFinished {
                    run: run.run.clone(),
                    verdict: earlier.verdict.clone(),
                    ms: earlier.ms,
                    record: earlier.record.clone(),
                },
            });
        }
        repeats[0].time = "2026-11-25T00:00:00Z".into();
        let merged = merge(vec![sample::of(&repeats), earlier.clone()]);
        assert_eq!(merged.runs, merge(vec![earlier]).runs);
    }

    #[test]
    fn what_somebody_ran_is_not_skipped() {
        let mut skips = Results::default();
        let skipped = |scenario: &str| Skipped {
            run: sample::run(scenario),
            reason: "no tags".into(),
        };
        skips.skipped = vec![skipped("x"), skipped("y")];
        let results = merge(vec![lab(0, Some(Outcome::Passed)), skips.clone(), skips]);
        assert_eq!(results.skipped, [skipped("y")]);
    }

    #[test]
    fn a_folder_of_files_is_read_in_the_order_of_time() {
        let dir = tempfile::tempdir().unwrap();
        let later = EVENTS.replace("T02:", "T03:");
        let files = [
            write(dir.path(), "b.jsonl", EVENTS),
            write(dir.path(), "a.jsonl", later),
            write(dir.path(), "c.jsonl", ""),
        ];
        write(dir.path(), "notes.txt", "no events");
        fs::create_dir(dir.path().join("d.jsonl")).unwrap();
        let read = read_dirs(&[dir.path().to_path_buf()]).unwrap();
        let [b, a, c] = files;
        assert_eq!(read.files, [c, b, a]);
        assert_eq!(read.results.tally(), merge(vec![sample::results()]).tally());
    }

    #[test]
    fn half_a_last_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let last = EVENTS.trim_end().rfind('\n').unwrap() + 1;
        let whole = streams(&write(dir.path(), "a", EVENTS.trim_end())).unwrap();
        assert!(whole[0].ended.is_some());
        for end in [last, last + 1, EVENTS.len() - 2] {
            let cut = streams(&write(dir.path(), "a", &EVENTS[..end])).unwrap();
            assert!(cut[0].ended.is_none());
            assert_eq!(cut[0].runs, whole[0].runs);
        }
    }

    #[test]
    fn what_does_not_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            let error = streams(&write(dir.path(), "e.jsonl", text)).unwrap_err();
            assert_eq!(error.blame, Blame::File);
            error
                .what
                .replace(&format!("{}/", dir.path().display()), "")
        };
        let first = EVENTS.lines().next().unwrap();
        insta::assert_snapshot!(error(&format!("{first}\n{{\"kind\":\n{first}\n")), @"e.jsonl:2 is no event: EOF while parsing a value at line 2 column 0");
        insta::assert_snapshot!(error(&format!("{first}\n{{\"kind\":\"note\",\"time\":\"x\"}}\n")), @"e.jsonl:2 is no event: missing field `message`");
        insta::assert_snapshot!(error("{\"kind\":\"note\",\"message\":\"x\"}\n"), @"e.jsonl:1 is not `started`, with which a stream begins");
        insta::assert_snapshot!(error(&first.replace("\"version\":1", "\"version\":2")), @"e.jsonl:1 is of version 2 of the stream, written by lab 0.1.0; this lab reads version 1");
        insta::assert_snapshot!(error("{\"kind\":\"started\",\"version\":9,\"new\":[]}"), @"e.jsonl:1 is of version 9 of the stream, written by lab unknown; this lab reads version 1");
        let long = "x".repeat(17 << 20);
        insta::assert_snapshot!(error(&format!("{first}\n{long}\n")), @"e.jsonl:2 is longer than 16 MiB");
        let huge = File::create(dir.path().join("e.jsonl")).unwrap();
        huge.set_len(FILE_MAX + 1).unwrap();
        let error = streams(&dir.path().join("e.jsonl")).unwrap_err();
        assert!(error.what.ends_with("is longer than 1 GiB"));
    }

    #[test]
    fn a_stranger_cannot_keep_the_lab_busy_nor_steer_the_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let read = |events: &[String]| {
            let text = format!(
                "{}\n{}\n",
                EVENTS.lines().next().unwrap(),
                events.join("\n")
            );
            streams(&write(dir.path(), "a", text))
        };
        let why = |events: &[String]| read(events).unwrap_err().what;
        let run = |name: &str| {
            let run = json!({"scenario": name, "kernel": "k", "arch": "x86_64"});
            json!({"run": run, "reason": "\u{1b}[2J"})
        };
        let planned = |skipped: Vec<Value>| {
            json!({"time": "x", "kind": "planned", "runs": [], "skipped": skipped, "jobs": 1})
                .to_string()
        };
        let many = (0..=RUNS_MAX).map(|number| run(&number.to_string()));
        assert!(why(&[planned(many.collect())]).ends_with("is about more than 20000 runs"));
        let mut attempt = run("x");
        let verdict = Verdict::against(Outcome::Hung, Blame::Guest, "reason");
        let more = json!({"time": "x", "kind": "attempt-failed", "attempt": 1, "verdict": verdict,
            "ms": 1, "record": ""});
        let more = more.as_object().unwrap().clone();
        attempt.as_object_mut().unwrap().extend(more);
        let attempts = vec![attempt.to_string(); ATTEMPTS_MAX + 1];
        assert!(why(&attempts).ends_with("has more than 200 attempts at one run"));
        let began = vec![EVENTS.lines().next().unwrap().to_owned(); STREAMS_MAX];
        assert!(why(&began).ends_with("begins more than 1000 streams"));

        let visible = read(&[planned(vec![run("\u{202e}x")])]).unwrap();
        let Skipped { run, reason } = &visible[0].skipped[0];
        assert_eq!((&*run.scenario, &**reason), ("\\u{202e}x", "\\u{1b}[2J"));
    }

    #[test]
    fn a_kind_of_a_later_lab_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let first = EVENTS.lines().next().unwrap();
        let text = format!("{first}\n{{\"time\":\"x\",\"kind\":\"novel\",\"run\":[1]}}\n");
        let streams = streams(&write(dir.path(), "a", text)).unwrap();
        assert_eq!(streams[0].runs, []);
    }

    #[test]
    fn only_a_folder_that_is_taken_up_again_may_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_dir(dir.path()).unwrap(), Results::default());
        let missing = dir.path().join("missing");
        assert_eq!(read_dir(&missing).unwrap_err().blame, Blame::Usage);
        for path in [dir.path().to_path_buf(), missing] {
            assert_eq!(read_dirs(&[path]).unwrap_err().blame, Blame::Usage);
        }
    }
}
