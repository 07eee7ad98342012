// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine of a run without the lab: QEMU alone with the same command line, but for what only
//! the lab needs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use livepatch_lab::image::keys::RunKeys;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::Result;

/// What the init says before it reads who it is, and what it says last.
const WAITING: &str = "lab: waiting";
const READY: &str = "lab: ready";
/// How often the console is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A machine that can be booted again and again.
#[derive(Debug, Clone)]
pub struct Bare {
    words: Vec<String>,
}

impl Bare {
    /// The machine of a record's `qemu.sh`, with the image as its initramfs.
    pub fn of(record: &Path) -> Result<Self> {
        let script = fs::read_to_string(record.join("qemu.sh"))?;
        let image = script
            .lines()
            .find_map(|line| line.strip_prefix("# image: "));
        let command = script.lines().last().ok_or("qemu.sh is empty")?;
        let mut words = Vec::new();
        let mut rest = shell_words(command).into_iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                // Stopped, and waiting for QMP: nobody would let it run.
                "-S" => {}
                "-chardev" | "-serial" | "-mon" | "-qmp" => drop(rest.next()),
                _ => words.push(word),
            }
        }
        let mut bare = Self { words };
        bare.set("-initrd", image.ok_or("qemu.sh names no image")?);
        Ok(bare)
    }

    /// The same machine with another value of an option; one that it has not is added.
    pub fn set(&mut self, option: &str, value: &str) {
        match self.words.iter().position(|word| word == option) {
            Some(place) => value.clone_into(&mut self.words[place + 1]),
            None => self.words.extend([option.to_owned(), value.to_owned()]),
        }
    }

    /// The same machine without an option and its value.
    pub fn unset(&mut self, option: &str) {
        if let Some(place) = self.words.iter().position(|word| word == option) {
            self.words.drain(place..place + 2);
        }
    }

    /// Boots until the guest can be logged into, as its init says; the seconds that it took.
    pub fn boot(&self) -> Result<f64> {
        let dir = tempfile::tempdir()?;
        let console = dir.path().join("console");
        let fifo = fifo(&dir)?;
        let (to, from) = (console.display(), fifo.display());
        let chardev = format!("file,id=console,path={to},input-path={from}");
        // Read and write: neither QEMU nor this process waits for the other one to open it.
        let mut input = fs::File::options().read(true).write(true).open(&fifo)?;
        let mut identity = Some(RunKeys::generate()?.identity()?);
        let started = Instant::now();
        let mut qemu = Qemu(
            Command::new(&self.words[0])
                .args(&self.words[1..])
                .args(["-chardev", &chardev, "-serial", "chardev:console"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?,
        );
        loop {
            let said = fs::read(&console).unwrap_or_default();
            let says = |line: &str| contains(&said, line.as_bytes());
            if says(READY) {
                return Ok(started.elapsed().as_secs_f64());
            }
            if says(WAITING)
                && let Some(identity) = identity.take()
            {
                input.write_all(identity.as_bytes())?;
            }
            let said = || String::from_utf8_lossy(&said).into_owned();
            if let Some(status) = qemu.0.try_wait()? {
                return Err(format!("bare QEMU ended ({status}):\n{}", said()).into());
            }
            if started.elapsed() > LIMIT {
                return Err(format!("bare QEMU did not boot in {LIMIT:?}:\n{}", said()).into());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// A QEMU that ends with its measurement, whatever comes of that.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fifo(dir: &TempDir) -> Result<PathBuf> {
    let path = dir.path().join("input");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    Ok(path)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Splits a command line that quotes with `'` only, as the lab writes it.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
