// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recordings of runs: what is in a record beside the console so that the same can happen again,
//! instruction by instruction, and whether it still can.
//!
//! A recording is QEMU's log (`replay.bin`) and what it rests on (`replay.json`): QEMU, the machine,
//! the kernel and the image. With another one of these the guest would go astray, so they are
//! compared before anything is started. The manifest is written last: without it there is none.

pub mod play;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::arch::Arch;
use crate::cache::{self, sha256_of, write_atomically};
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::RunId;
use crate::files::read_regular;
use crate::process::Cmd;
use crate::size::Size;
use crate::vm::args;
use crate::vm::args::Parts;

/// QEMU's log in a record.
pub const LOG: &str = "replay.bin";
/// The log while it is written, and what is left of one that QEMU did not end.
pub const UNFINISHED: &str = "replay.bin.part";
/// What it rests on, and what is known of it.
pub const MANIFEST: &str = "replay.json";
/// The version of [`MANIFEST`].
const VERSION: u32 = 1;
/// The longest manifest; one of a thousand steps has 100 KiB.
const MANIFEST_MAX: u64 = 4 << 20;
/// The console in a record.
const CONSOLE: &str = "console.log";

/// A file that must be the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Where it was.
    pub path: PathBuf,
    /// Its sum.
    pub sha256: String,
}

impl Sealed {
    fn of(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            sha256: sha256_of(path)?,
        })
    }
}

/// Where a step begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The step, from 1.
    pub step: usize,
    /// What it does.
    pub label: String,
    /// The instructions that the guest had executed when it was asked for the step.
    pub icount: u64,
}

/// What a recording rests on, and what is known of it: `replay.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The version of this file's format.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// What QEMU says of its version.
    pub qemu: String,
    /// The machine as the lab made it, without the names of files.
    pub machine: String,
    /// Whether its firmware was qboot.
    pub qboot: bool,
    /// How large the guest was.
    #[serde(default)]
    pub size: Size,
    /// What was booted.
    pub kernel: Sealed,
    /// The initramfs.
    pub image: Sealed,
    /// The sum of the log.
    pub log: String,
    /// The sum of the console.
    pub console: String,
    /// The kernel's symbols, for gdb.
    pub vmlinux: PathBuf,
    /// The whole command line, for people.
    pub command: String,
    /// How many instructions the guest executed in all.
    pub icount: u64,
    /// Milliseconds that it took.
    pub ms: u64,
    /// Where its steps begin.
    pub steps: Vec<Mark>,
}

/// What the runner knows of a recording when its machine has ended.
#[derive(Debug)]
pub struct Recorded<'a> {
    /// The run.
    pub run: RunId,
    /// What the machine was made from.
    pub parts: Parts<'a>,
    /// Whether its firmware was qboot.
    pub qboot: bool,
    /// The kernel's symbols.
    pub vmlinux: PathBuf,
    /// How many instructions it executed; `None` if QEMU did not say.
    pub icount: Option<u64>,
    /// Milliseconds that it took.
    pub ms: u64,
    /// Where its steps begin.
    pub steps: Vec<Mark>,
}

impl Recorded<'_> {
    /// Makes a recording of what QEMU has left in the record. Returns it with the bytes of its log.
    ///
    /// # Errors
    ///
    /// `Host` if QEMU did not end the log, which nothing can be replayed from.
    pub async fn keep(self) -> Result<(Recording, u64)> {
        let dir = self.parts.record;
        let (unfinished, log) = (dir.join(UNFINISHED), dir.join(LOG));
        let ended = is_ended(&unfinished)?;
        let Some(icount) = self.icount.filter(|_| ended) else {
            return Err(Error::host(
                "QEMU was ended before it could end the recording",
            ));
        };
        fs::rename(&unfinished, &log).at("rename", &unfinished)?;
        // A run that was interrupted has its recording all the same.
        let qemu = qemu_version(self.parts.arch, &CancellationToken::new()).await?;
        let script = fs::read_to_string(dir.join("qemu.sh")).unwrap_or_default();
        let (kernel, image) = (self.parts.kernel.clone(), self.parts.image.to_path_buf());
        let (log_at, console) = (log.clone(), dir.join(CONSOLE));
        let sums = cache::blocking(move || {
            Ok((
                Sealed::of(&kernel)?,
                Sealed::of(&image)?,
                sha256_of(&log_at)?,
                sha256_of(&console)?,
            ))
        });
        let (kernel, image, sum, console) = sums.await?;
        let recording = Recording {
            version: VERSION,
            run: self.run,
            qemu,
            machine: args::recorded_machine(self.parts.arch, &self.parts.size, self.qboot),
            qboot: self.qboot,
            size: self.parts.size,
            kernel,
            image,
            log: sum,
            console,
            vmlinux: self.vmlinux,
            command: script.lines().last().unwrap_or_default().to_owned(),
            icount,
            ms: self.ms,
            steps: self.steps,
        };
        let json = serde_json::to_vec_pretty(&recording)
            .map_err(|error| Error::lab(format!("cannot write {MANIFEST}: {error}")))?;
        write_atomically(&dir.join(MANIFEST), &json)?;
        let length = log.metadata().at("read", &log)?.len();
        Ok((recording, length))
    }
}

/// Whether QEMU has ended a log: it writes the version at the beginning when it does.
fn is_ended(log: &Path) -> Result<bool> {
    let mut version = [0; 4];
    let mut file = fs::File::open(log).at("open", log)?;
    let read = std::io::Read::read_exact(&mut file, &mut version);
    Ok(read.is_ok() && version != [0; 4])
}

/// The first line of what QEMU says of its version.
async fn qemu_version(arch: Arch, cancel: &CancellationToken) -> Result<String> {
    let asked = Cmd::new(args::program(arch)).arg("--version");
    let said = asked.output(cancel).await?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

impl Recording {
    /// The recording in a run's record.
    ///
    /// # Errors
    ///
    /// `Usage` if there is none, `File` if it cannot be understood.
    pub fn read(record: &Path) -> Result<Self> {
        let path = record.join(MANIFEST);
        if !path.is_file() {
            let shown = record.display();
            let what = match record.join(UNFINISHED).is_file() {
                true => format!("the recording in {shown} has no end: QEMU was killed"),
                false => format!("there is no recording in {shown}"),
            };
            return Err(Error::new(Blame::Usage, what).help("`lab run --record …` makes one"));
        }
        let bytes = read_regular(&path, MANIFEST_MAX)?;
        let wrong = |why: String| {
            let what = format!("{} is no recording: {why}", path.display());
            Error::new(Blame::File, what).help("record the run again with `lab run --record`")
        };
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if json.get("version") != Some(&VERSION.into()) {
            return Err(wrong(format!("this lab reads version {VERSION}")));
        }
        serde_json::from_value(json).map_err(|error| wrong(error.to_string()))
    }

    /// Makes sure that all is as it was when it was recorded.
    ///
    /// # Errors
    ///
    /// `Host` for the first thing that is not.
    pub async fn check(&self, record: &Path, cancel: &CancellationToken) -> Result<()> {
        let again = "a recording is of use only with what it was made with: install that again, or \
                     record the run again with `lab run --record`";
        let qemu = qemu_version(self.run.arch, cancel).await?;
        if qemu != self.qemu {
            return Err(Error::host("the recording was made with another QEMU")
                .evidence(&format!("recorded:  {}\ninstalled: {qemu}", self.qemu))
                .help(again));
        }
        let machine = args::recorded_machine(self.run.arch, &self.size, self.qboot);
        if machine != self.machine {
            return Err(
                Error::host("this lab makes another machine than the one that recorded")
                    .evidence(&format!("recorded: {}\nhere:     {machine}", self.machine))
                    .help(again),
            );
        }
        let build = format!(
            "`lab build kernel {} --arch {}`",
            self.run.kernel, self.run.arch
        );
        let files = [
            ("kernel", self.kernel.clone(), build.as_str()),
            ("image", self.image.clone(), "`lab build image default`"),
            ("log", sealed(record.join(LOG), &self.log), ""),
            ("console", sealed(record.join(CONSOLE), &self.console), ""),
        ];
        for (what, file, build) in files {
            let path = file.path.clone();
            if !path.is_file() {
                let error = format!("the recorded {what} is gone: {}", path.display());
                return Err(Error::host(error).help(match build {
                    "" => again.to_owned(),
                    build => format!("if {build} does not make the same again: {again}"),
                }));
            }
            if cache::blocking(move || sha256_of(&path)).await? != file.sha256 {
                let what = format!(
                    "the {what} is not what was recorded: {}",
                    file.path.display()
                );
                return Err(Error::host(what).help(again));
            }
        }
        Ok(())
    }

    /// Where a step begins.
    ///
    /// # Errors
    ///
    /// `Usage` if the run did not come to it.
    pub fn step(&self, step: usize) -> Result<u64> {
        let found = self.steps.iter().find(|mark| mark.step == step);
        found.map(|mark| mark.icount).ok_or_else(|| {
            let what = format!("the recording has no step {step}");
            let last = self.steps.last();
            Error::new(Blame::Usage, what).help(last.map_or_else(
                || "the guest came to no step".to_owned(),
                |last| format!("the last one is step {} ({})", last.step, last.label),
            ))
        })
    }

    /// The step that is under way after so many instructions.
    pub fn at(&self, icount: u64) -> Option<&Mark> {
        self.steps.iter().rfind(|mark| mark.icount <= icount)
    }
}

fn sealed(path: PathBuf, sum: &str) -> Sealed {
    Sealed {
        path,
        sha256: sum.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(dir: &Path) -> Recording {
        let file = |name: &str| {
            let path = dir.join(name);
            fs::write(&path, name).unwrap();
            Sealed::of(&path).unwrap()
        };
        let mark = |step, icount| Mark {
            step,
            label: format!("load v{step}"),
            icount,
        };
        Recording {
            version: VERSION,
            run: RunId {
                scenario: "tagged-replace".into(),
                kernel: "tags".into(),
                arch: Arch::X86_64,
                cpus: None,
            },
            qemu: "QEMU emulator version 10.0.2".into(),
            machine: args::recorded_machine(Arch::X86_64, &Size::default(), true),
            qboot: true,
            size: Size::default(),
            kernel: file("vmlinux"),
            image: file("initramfs.cpio"),
            log: file(LOG).sha256,
            console: file(CONSOLE).sha256,
            vmlinux: dir.join("vmlinux"),
            command: "qemu-system-x86_64".into(),
            icount: 1000,
            ms: 5000,
            steps: vec![mark(1, 300), mark(2, 700)],
        }
    }

    fn write(dir: &Path, recording: &Recording) {
        let json = serde_json::to_string_pretty(recording).unwrap();
        fs::write(dir.join(MANIFEST), json).unwrap();
    }

    #[test]
    fn a_recording_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path());
        write(dir.path(), &recording);
        assert_eq!(Recording::read(dir.path()).unwrap(), recording);
    }

    #[test]
    fn a_recording_that_does_not_say_how_large_the_guest_was_had_one_cpu() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path());
        let mut json = serde_json::to_value(&recording).unwrap();
        assert!(json.as_object_mut().unwrap().remove("size").is_some());
        fs::write(dir.path().join(MANIFEST), json.to_string()).unwrap();
        assert_eq!(Recording::read(dir.path()).unwrap(), recording);
    }

    #[test]
    fn without_a_manifest_there_is_no_recording() {
        let dir = tempfile::tempdir().unwrap();
        let error = Recording::read(dir.path()).unwrap_err();
        assert!(error.what.starts_with("there is no recording in "));
        assert_eq!(error.blame, Blame::Usage);
        fs::write(dir.path().join(UNFINISHED), "\0\0\0\0").unwrap();
        let error = Recording::read(dir.path()).unwrap_err();
        assert!(
            error.what.ends_with("has no end: QEMU was killed"),
            "{error}"
        );
    }

    #[test]
    fn a_manifest_of_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut recording = recording(dir.path());
        recording.version += 1;
        write(dir.path(), &recording);
        let error = Recording::read(dir.path()).unwrap_err();
        assert!(error.what.ends_with("this lab reads version 1"), "{error}");
        fs::write(dir.path().join(MANIFEST), "{ \"version\": 1 }").unwrap();
        let error = Recording::read(dir.path()).unwrap_err();
        assert!(error.what.contains("missing field `run`"), "{error}");
    }

    #[test]
    fn qemu_ends_a_log_with_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(UNFINISHED);
        for (bytes, ended) in [
            (&b""[..], false),
            (b"\0\0\0\0rest", false),
            (b"\0\xe0\x20\x0c", true),
        ] {
            fs::write(&log, bytes).unwrap();
            assert_eq!(is_ended(&log).unwrap(), ended, "{bytes:?}");
        }
    }

    #[test]
    fn an_instruction_belongs_to_the_step_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path());
        let step = |icount| recording.at(icount).map(|mark| mark.step);
        assert_eq!([step(299), step(300), step(999)], [None, Some(1), Some(2)]);
        assert_eq!(recording.step(2).unwrap(), 700);
        let error = recording.step(3).unwrap_err();
        assert_eq!(error.help.unwrap(), "the last one is step 2 (load v2)");
    }
}
