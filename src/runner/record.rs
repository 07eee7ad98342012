// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record of an attempt at a run: `runs/<time>-<scenario>-<kernel>-<arch>/`, written as it
//! happens.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::cache::write_atomically;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::{Event, Events, RunId};
use crate::files::{read_regular, shown};
use crate::module::generate::SourceFile;
use crate::module::{Module, klp_build};
use crate::scenario::Scenario;
use crate::state::Observed;
use crate::verdict::Verdict;

/// The events of a run, which are locked as long as the run is on.
const EVENTS: &str = "events.jsonl";

/// The longest state of a record, which the runner has kept below that.
const STATE_MAX: u64 = 16 << 20;

/// The file of a record with the state after a step, from 1, as data.
fn state_file(step: usize) -> String {
    format!("states/{step:02}.json")
}

/// The states of a run's record after its steps, as far as it got; nothing of a record that has
/// their text alone. `read` may change the file's text before it becomes data.
pub fn states(dir: &Path, steps: usize, read: impl Fn(&str) -> String) -> Vec<Observed> {
    let state = |step: usize| {
        let bytes = read_regular(&dir.join(state_file(step)), STATE_MAX).ok()?;
        serde_json::from_str(&read(&String::from_utf8_lossy(&bytes))).ok()
    };
    (1..=steps).map_while(state).collect()
}

/// Whether a folder is the record of a run.
pub fn is_record(dir: &Path) -> bool {
    dir.join(EVENTS).is_file()
}

/// The record of a run that somebody names: its folder, or the folder's name below `.lab/runs` of the
/// current folder, where `lab repro` puts them, or of the project.
///
/// # Errors
///
/// `Usage` if there is none.
pub fn find(named: &Path, project: Option<&Path>) -> Result<PathBuf> {
    let here = Path::new("");
    let folders = [Some(here), project].into_iter().flatten();
    let runs: Vec<_> = folders.map(|folder| folder.join(".lab/runs")).collect();
    let is_name = named.components().count() == 1;
    let below = runs.iter().map(|runs| runs.join(named));
    let mut records = std::iter::once(named.to_path_buf()).chain(below.filter(|_| is_name));
    records.find(|dir| is_record(dir)).ok_or_else(|| {
        if named == Path::new("latest") {
            return Error::new(Blame::Usage, "no run has a record yet")
                .help("`lab run SCENARIO` plays one; or name the folder of a record");
        }
        let what = format!("{} is no run's record", named.display());
        let last = runs.last().map(|runs| runs.display().to_string());
        let help = format!(
            "name a folder below {}, or `latest`",
            last.unwrap_or_default()
        );
        Error::new(Blame::Usage, what).help(help)
    })
}

/// Whether the run with this record is over, also if its lab was killed, or the record removed.
pub fn is_over(dir: &Path) -> bool {
    match File::open(dir.join(EVENTS)) {
        Ok(events) => events.try_lock_shared().is_ok(),
        Err(_) => true,
    }
}

/// A run's folder and its events.
#[derive(Debug, Clone)]
pub struct Record {
    dir: PathBuf,
    log: Arc<Mutex<File>>,
    events: Events,
}

impl Record {
    /// Makes the folder below `runs` and points `latest` at it.
    pub fn create(runs: &Path, run: &RunId, events: &Events) -> Result<Self> {
        fs::create_dir_all(runs).at("create", runs)?;
        let time = jiff::Timestamp::now()
            .strftime("%Y%m%d-%H%M%S%.3f")
            .to_string();
        let machine = run.machine_name().replace('.', "-");
        let first = format!("{time}-{}-{}-{machine}", run.scenario, run.kernel);
        // A clock that was set back, and another lab, may have come to the same name.
        let mut number = 1;
        let (name, dir) = loop {
            let name = match number {
                1 => first.clone(),
                _ => format!("{first}-{number}"),
            };
            let dir = runs.join(&name);
            match fs::create_dir(&dir) {
                Ok(()) => break (name, dir),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error).at("create", &dir),
            }
        };
        // Renamed into place: there is always a latest run.
        let (latest, new) = (runs.join("latest"), runs.join(format!(".latest-{name}")));
        std::os::unix::fs::symlink(&name, &new).at("create", &new)?;
        fs::rename(&new, &latest).at("write", &latest)?;
        let path = dir.join(EVENTS);
        let log = File::create(&path).at("create", &path)?;
        // Where files cannot be locked, nobody can tell that the run is on.
        let _ = log.try_lock();
        let log = Arc::new(Mutex::new(log));
        Ok(Self {
            dir,
            log,
            events: events.clone(),
        })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its folder as it is shown: relative to where the lab was started, if it is below.
    pub fn shown(&self) -> String {
        shown(&self.dir)
    }

    /// Sends an event of this run and keeps it.
    pub fn event(&self, event: Event) {
        let stamped = self.events.send(event);
        if let (Ok(json), Ok(mut log)) = (serde_json::to_string(&stamped), self.log.lock()) {
            // The stream has the event as well; a full disk shows elsewhere.
            let _ = writeln!(log, "{json}");
        }
    }

    /// Keeps a file.
    pub fn write(&self, name: &str, data: &str) -> Result<()> {
        self.write_bytes(name, data.as_bytes())
    }

    /// Keeps the state after a step, from 1: for people, and as data.
    pub fn write_state(&self, step: usize, state: &Observed) -> Result<()> {
        let json = serde_json::to_string(state)
            .map_err(|error| Error::lab(format!("cannot write a state: {error}")))?;
        self.write(&format!("states/{step:02}.txt"), &state.text())?;
        self.write(&state_file(step), &json)
    }

    /// Keeps a file that need not be text.
    pub fn write_bytes(&self, name: &str, data: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        fs::write(&path, data).at("write", &path)
    }

    /// Keeps and reports the verdict.
    pub fn finish(&self, run: &RunId, verdict: &Verdict, ms: u64) -> Result<()> {
        self.write_verdict(verdict)?;
        self.event(Event::RunFinished {
            run: run.clone(),
            verdict: verdict.clone(),
            ms,
            record: self.shown(),
        });
        Ok(())
    }

    /// Keeps and reports the verdict on an attempt that another one follows.
    pub fn fail_attempt(
        &self,
        run: &RunId,
        attempt: u32,
        verdict: &Verdict,
        ms: u64,
    ) -> Result<()> {
        self.write_verdict(verdict)?;
        self.event(Event::AttemptFailed {
            run: run.clone(),
            attempt,
            verdict: verdict.clone(),
            ms,
            record: self.shown(),
        });
        Ok(())
    }

    fn write_verdict(&self, verdict: &Verdict) -> Result<()> {
        let json = serde_json::to_string_pretty(verdict)
            .map_err(|error| Error::lab(format!("cannot write the verdict: {error}")))?;
        // Half a verdict is none.
        write_atomically(&self.dir.join("verdict.json"), json.as_bytes())
    }

    /// Keeps the generated sources.
    pub fn write_sources(&self, sources: &[SourceFile]) -> Result<()> {
        sources
            .iter()
            .try_for_each(|file| self.write(&format!("sources/{}", file.name), &file.text))
    }

    /// Keeps what klp-build said of the livepatches that it made: warnings and functions.
    pub fn write_findings(&self, scenario: &Scenario, modules: &[Module]) -> Result<()> {
        let made = |module: &&Module| {
            let mut names = scenario
                .from_klp_build()
                .map(|(livepatch, _)| &livepatch.name);
            names.any(|name| *name == module.name)
        };
        for module in modules.iter().filter(made) {
            let said = klp_build::findings(module);
            if !said.is_empty() {
                self.write(&format!("klp-build/{}.log", module.name), &said)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Names;

    #[test]
    fn states_are_kept_as_text_and_as_data() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunId {
            scenario: "x".into(),
            kernel: "k".into(),
            arch: crate::arch::Arch::X86_64,
            cpus: None,
        };
        let (events, _receiver) = Events::channel();
        let record = Record::create(dir.path(), &run, &events).unwrap();
        let mut state = Observed::parse(
            "livepatch\tv1\t1\t0\t7\t1\nobject\tshop\t1\nfunction\tprice,1\n\
             module\tshop 16384 0\ncall\tshop\tprice\t11\nlog\tlivepatch: enabling patch 'v1'\n",
            &Names::default(),
        )
        .unwrap();
        state.result = Some("a\u{1b}\nb".into());
        record.write_state(1, &state).unwrap();
        assert_eq!(states(record.dir(), 2, str::to_owned), [state.clone()]);
        let text = fs::read_to_string(record.dir().join("states/01.txt")).unwrap();
        assert_eq!(text, state.text());
    }

    #[test]
    fn a_run_is_named_by_its_folder_or_below_the_projects() {
        let project = tempfile::tempdir().unwrap();
        let runs = project.path().join(".lab/runs");
        fs::create_dir_all(runs.join("one")).unwrap();
        fs::create_dir_all(runs.join("no-record")).unwrap();
        fs::write(runs.join("one").join(EVENTS), "").unwrap();
        let found = |named: &Path| find(named, Some(project.path()));
        assert_eq!(found(Path::new("one")).unwrap(), runs.join("one"));
        assert_eq!(found(&runs.join("one")).unwrap(), runs.join("one"));
        for none in ["two", "no-record", "../runs/one"] {
            let error = found(Path::new(none)).unwrap_err();
            assert_eq!(error.what, format!("{none} is no run's record"));
        }
    }
}
