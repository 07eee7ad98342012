// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports into files: which formats there are, and how each is written while results come.
//!
//! `jsonl` and `ktap` are appended to. The others are written anew whenever a run ends, under
//! another name that then takes the file's place: a lab that is killed leaves a whole document,
//! which says what has no result.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::ktap::Ktap;
use super::results::Results;
use super::{github, junit, ktap, table};
use crate::cache::write_atomically;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::{Event, Stamped};

/// GitHub's variable with the name of the file that a step's summary goes to.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// A format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The events: one JSON object per line, see docs/events.md.
    Jsonl,
    /// JUnit XML.
    Junit,
    /// The kernel's test protocol.
    Ktap,
    /// Markdown for the step summary of GitHub Actions.
    Github,
    /// A Markdown table in its place within a document.
    Table,
}

impl Format {
    /// Every format, in the order in which they are listed.
    pub const ALL: [Self; 5] = [
        Self::Jsonl,
        Self::Junit,
        Self::Ktap,
        Self::Github,
        Self::Table,
    ];

    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Junit => "junit",
            Self::Ktap => "ktap",
            Self::Github => "github",
            Self::Table => "table",
        }
    }
}

/// A report that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its format.
    pub format: Format,
    /// Its file.
    pub path: PathBuf,
    /// Whether what is in the file already stays above it: GitHub's summary belongs to the whole
    /// step.
    pub keep: bool,
}

impl Report {
    /// Reads `FORMAT=FILE`, or `github` alone. `variable` looks up the environment.
    ///
    /// # Errors
    ///
    /// There is no such format, the file is missing, or GitHub did not name one.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let (name, file) = match text.split_once('=') {
            Some((name, file)) => (name, Some(file)),
            None => (text, None),
        };
        let Some(format) = Format::ALL.into_iter().find(|format| format.name() == name) else {
            let names = Format::ALL.map(Format::name).join(", ");
            return Err(
                no_report(text, &format!("`{name}` is no format")).help(format!(
                    "the formats are {names}; write --report junit=FILE"
                )),
            );
        };
        match (format, file) {
            (Format::Github, None) => step_summary(variable(STEP_SUMMARY)),
            (_, None | Some("")) => {
                Err(no_report(text, "its file is missing")
                    .help(format!("write --report {name}=FILE")))
            }
            (format, Some(file)) => Ok(Self {
                format,
                path: PathBuf::from(file),
                keep: false,
            }),
        }
    }
}

/// The files that a command writes reports to.
#[derive(Debug, Clone, Default)]
pub struct Files {
    reports: Vec<Report>,
}

impl Files {
    /// Reads all `--report FORMAT=FILE` of a command line.
    ///
    /// # Errors
    ///
    /// One of them is no report, or two have the same file.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut reports: Vec<Report> = Vec::new();
        for text in texts {
            let report = Report::parse(text, |name| std::env::var_os(name))?;
            if reports.iter().any(|other| other.path == report.path) {
                let why = "another report goes to the same file";
                return Err(no_report(text, why).help("give each report a file of its own"));
            }
            reports.push(report);
        }
        Ok(Self { reports })
    }

    /// Adds a report that was not asked for with `--report`.
    pub fn add(&mut self, format: Format, path: PathBuf) {
        self.reports.push(Report {
            format,
            path,
            keep: false,
        });
    }

    /// Begins them all, for results that are to come.
    pub(super) fn open(self) -> Result<Vec<ReportFile>> {
        self.reports.iter().map(ReportFile::open).collect()
    }

    /// Writes reports on results that are complete. `streams` are the event files that they come
    /// from: for `jsonl`, they are put one after the other, which reads as the same results.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written, or is no document with a place for the table.
    pub fn write(&self, results: &Results, streams: &[PathBuf]) -> Result<()> {
        let mut reports = self.reports.iter();
        reports.try_for_each(|report| report.write(results, streams))
    }
}

fn no_report(text: &str, why: &str) -> Error {
    Error::new(Blame::Usage, format!("`--report {text}`: {why}"))
}

fn step_summary(file: Option<OsString>) -> Result<Report> {
    let Some(file) = file.filter(|file| !file.is_empty()) else {
        return Err(no_report("github", &format!("{STEP_SUMMARY} is not set"))
            .help("it is set in GitHub Actions; elsewhere write --report github=FILE"));
    };
    Ok(Report {
        format: Format::Github,
        path: PathBuf::from(file),
        keep: true,
    })
}

/// The file of a report while results come.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    kind: Sink,
}

/// What is kept between events, by format.
#[derive(Debug)]
enum Sink {
    Jsonl(File),
    Ktap(File, Ktap),
    Junit,
    /// With what stands above.
    Github(String),
    Table,
}

impl ReportFile {
    /// Begins a report. An older one is gone from here on: nobody shall take it for this lab's.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or is no document with a place for the table.
    pub fn open(report: &Report) -> Result<Self> {
        let path = report.path.clone();
        let kind = match report.format {
            Format::Jsonl => Sink::Jsonl(create(&path)?),
            Format::Ktap => Sink::Ktap(create(&path)?, Ktap::default()),
            Format::Junit => Sink::Junit,
            Format::Github => Sink::Github(if report.keep {
                above(&path)?
            } else {
                String::new()
            }),
            Format::Table => {
                table::replace(&read(&path)?, &path, "")?;
                Sink::Table
            }
        };
        let file = Self { path, kind };
        // A document of the user's is left as it is until there is something to say.
        if !matches!(file.kind, Sink::Table) {
            file.rewrite(&Results::default())?;
        }
        Ok(file)
    }

    /// Takes in an event, which `results` has taken in already.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn event(&mut self, stamped: &Stamped, results: &Results) -> Result<()> {
        let (file, text) = match &mut self.kind {
            Sink::Jsonl(file) => (file, line(stamped)?),
            Sink::Ktap(file, ktap) => (file, ktap.event(&stamped.event, results)),
            Sink::Junit | Sink::Github(_) | Sink::Table => {
                let shows = matches!(
                    stamped.event,
                    Event::Planned { .. }
                        | Event::RunFinished { .. }
                        | Event::NotRun { .. }
                        | Event::Ended { .. }
                );
                return if shows { self.rewrite(results) } else { Ok(()) };
            }
        };
        // In one piece, for a lab that is killed between two.
        file.write_all(text.as_bytes()).at("write", &self.path)
    }

    /// Writes the whole document, if the format is one that is not appended to.
    fn rewrite(&self, results: &Results) -> Result<()> {
        let text = match &self.kind {
            Sink::Jsonl(_) | Sink::Ktap(..) => return Ok(()),
            Sink::Junit => junit::render(results)?,
            Sink::Github(above) => summary(above, results),
            Sink::Table => table::replace(&read(&self.path)?, &self.path, &table::render(results))?,
        };
        write_atomically(&self.path, text.as_bytes())
    }
}

impl Report {
    fn write(&self, results: &Results, streams: &[PathBuf]) -> Result<()> {
        let path = &self.path;
        let text = match self.format {
            Format::Jsonl => return join(path, streams),
            Format::Ktap => ktap::render(results),
            Format::Junit => junit::render(results)?,
            Format::Github if self.keep => summary(&above(path)?, results),
            Format::Github => summary("", results),
            Format::Table => table::replace(&read(path)?, path, &table::render(results))?,
        };
        write_atomically(path, text.as_bytes())
    }
}

fn join(path: &Path, streams: &[PathBuf]) -> Result<()> {
    let mut text = Vec::new();
    for stream in streams {
        let bytes = std::fs::read(stream).at("read", stream)?;
        text.extend_from_slice(&bytes);
        // A lab that was killed may have left half a line. It is dropped, unless it is whole.
        if text.last().is_some_and(|&last| last != b'\n') {
            let start = text
                .iter()
                .rposition(|&b| b == b'\n')
                .map_or(0, |end| end + 1);
            match serde_json::from_slice::<Stamped>(&text[start..]) {
                Ok(_) => text.push(b'\n'),
                Err(_) => text.truncate(start),
            }
        }
    }
    write_atomically(path, &text)
}

fn line(stamped: &Stamped) -> Result<String> {
    let line = serde_json::to_string(stamped)
        .map_err(|error| Error::lab(format!("cannot write an event: {error}")))?;
    Ok(line + "\n")
}

fn summary(above: &str, results: &Results) -> String {
    let room = github::SUMMARY_MAX.saturating_sub(above.len());
    format!("{above}{}", github::render(results, room))
}

fn create(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).at("create", folder)?;
    }
    File::create(path).at("create", path)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).at("read", path)
}

/// What is in the summary already, with an empty line below.
fn above(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(String::new()),
        Ok(text) => Ok(format!("{}\n\n", text.trim_end())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).at("read", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{read, sample};

    fn parse(text: &str) -> Result<Report> {
        Report::parse(text, |_| Some("/summary".into()))
    }

    #[test]
    fn a_report_has_a_format_and_a_file() {
        let report = parse("junit=out/a=b.xml").unwrap();
        assert_eq!(
            (report.format, report.path),
            (Format::Junit, "out/a=b.xml".into())
        );
        let report = parse("github").unwrap();
        assert_eq!((report.path, report.keep), ("/summary".into(), true));
        assert!(!parse("github=s.md").unwrap().keep);
    }

    #[test]
    fn what_is_no_report_is_an_error_that_helps() {
        let error = |text| {
            let error = Report::parse(text, |_| None).unwrap_err();
            assert_eq!(error.blame, Blame::Usage);
            format!("{} / {}", error.what, error.help.unwrap())
        };
        insta::assert_snapshot!(error("html=x"), @"`--report html=x`: `html` is no format / the formats are jsonl, junit, ktap, github, table; write --report junit=FILE");
        insta::assert_snapshot!(error("junit"), @"`--report junit`: its file is missing / write --report junit=FILE");
        insta::assert_snapshot!(error("github="), @"`--report github=`: its file is missing / write --report github=FILE");
        insta::assert_snapshot!(error("github"), @"`--report github`: GITHUB_STEP_SUMMARY is not set / it is set in GitHub Actions; elsewhere write --report github=FILE");
        let twice = ["junit=x".to_owned(), "ktap=x".to_owned()];
        assert!(Files::parse(&twice).unwrap_err().what.contains("same file"));
    }

    /// All formats in a folder, fed with the sample; `check` sees the folder after each event.
    fn play(dir: &Path, check: impl Fn(&Path, &Results)) -> Results {
        let document = "<!-- lab: verdicts -->\n<!-- lab: end of verdicts -->\n";
        std::fs::write(dir.join("table"), document).unwrap();
        std::fs::write(dir.join("github"), "from before\n").unwrap();
        let open = |format: Format| {
            ReportFile::open(&Report {
                format,
                path: dir.join(format.name()),
                keep: format == Format::Github,
            })
        };
        let mut files: Vec<_> = Format::ALL.into_iter().map(|f| open(f).unwrap()).collect();
        let mut results = Results::default();
        for stamped in sample::events() {
            results.event(&stamped);
            for file in &mut files {
                file.event(&stamped, &results).unwrap();
            }
            check(dir, &results);
        }
        results
    }

    #[test]
    fn a_killed_lab_leaves_whole_files() {
        let dir = tempfile::tempdir().unwrap();
        play(dir.path(), |dir, results| {
            let junit = std::fs::read_to_string(dir.join("junit")).unwrap();
            let document = roxmltree::Document::parse(&junit).unwrap();
            let cases = document
                .descendants()
                .filter(|n| n.has_tag_name("testcase"));
            assert_eq!(cases.count(), results.runs.len() + results.skipped.len());
            let github = std::fs::read_to_string(dir.join("github")).unwrap();
            assert!(github.starts_with("from before\n\n## lab: "));
        });
    }

    #[test]
    fn what_is_written_as_it_comes_is_what_is_written_at_once() {
        let (live, once) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let results = play(live.path(), |_, _| {});
        std::fs::copy(live.path().join("table"), once.path().join("table")).unwrap();
        let stream = live.path().join("jsonl");
        for format in [Format::Jsonl, Format::Junit, Format::Table] {
            let report = Report {
                format,
                path: once.path().join(format.name()),
                keep: false,
            };
            let streams = std::slice::from_ref(&stream);
            report.write(&results, streams).unwrap();
            let text = |dir: &Path| std::fs::read_to_string(dir.join(format.name())).unwrap();
            assert_eq!(text(live.path()), text(once.path()), "{format:?}");
        }
    }

    #[test]
    fn streams_that_are_joined_lose_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let events = include_str!("../../tests/events.jsonl");
        let whole = dir.path().join("whole");
        std::fs::write(&whole, events.trim_end()).unwrap();
        let cut = dir.path().join("cut");
        std::fs::write(&cut, &events[..events.len() - 10]).unwrap();
        let joined = dir.path().join("joined.jsonl");
        join(&joined, &[cut, whole]).unwrap();
        let lines = std::fs::read_to_string(&joined).unwrap().lines().count();
        assert_eq!(lines, 2 * events.lines().count() - 1);
        assert_eq!(read::streams(&joined).unwrap().len(), 2);
    }

    #[test]
    fn an_older_report_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        for format in [Format::Jsonl, Format::Junit, Format::Ktap, Format::Github] {
            let path = dir.path().join("new").join(format.name());
            let report = Report {
                format,
                path: path.clone(),
                keep: false,
            };
            ReportFile::open(&report).unwrap();
            std::fs::write(&path, "old").unwrap();
            ReportFile::open(&report).unwrap();
            assert!(!std::fs::read_to_string(&path).unwrap().contains("old"));
        }
    }
}
