// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that were booted once and kept while their init waited to be told who they are. Each
//! fork goes on from there as somebody else, with a clock, entropy and keys of its own.
//!
//! A template is its memory, a file that forks map privately, and the rest of the machine's state
//! as QEMU migrates it (without shared memory: `x-ignore-shared`). Its key holds all that could
//! make another one of it: kernel, image, QEMU and its arguments. Whoever makes one goes on as its
//! first fork, so that none is kept that was not seen to work.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qapi::qmp::{
    self, MigrationCapability, MigrationCapabilityStatus, MigrationStatus, migrate_set_capabilities,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Accel;
use super::args::{self, MachineSpec, Memory, Parts, Spec};
use super::console::CONSOLE_MAX;
use super::machine::Machine;
use super::qmp::Qmp;
use crate::cache::{self, Claim, KeyBuilder, identity};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::host;

/// Counts up when the way a template is made changes.
const RECIPE: &str = "template-1";
/// The files of a template.
const MEMORY: &str = "memory";
const STATE: &str = "state";
const CONSOLE: &str = "console.log";
/// Written last.
const MANIFEST: &str = "template.json";
/// How long saving and loading a state of some hundred KiB may take.
const MIGRATION: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// A guest that was kept.
#[derive(Debug, Clone)]
pub struct Template {
    dir: PathBuf,
    made: Manifest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    /// What it is, for people.
    what: String,
    /// Whether its firmware is qboot: a fork's has to be the same.
    qboot: bool,
    /// How many times the time of a quick host its boot took; its forks are as slow.
    #[serde(default = "quick")]
    pace: u32,
}

/// The pace of templates from before it was kept.
fn quick() -> u32 {
    1
}

/// A template that is there, or is to be made.
#[derive(Debug)]
pub enum Found {
    /// It is there.
    Template(Template),
    /// It is to be made of the guest that is booted next.
    Missing(Making),
}

/// A template in the making.
#[derive(Debug)]
pub struct Making {
    staging: TempDir,
    what: String,
    /// The right to make the cache's entry.
    entry: cache::Making,
}

/// Finds the template of `parts`. `Ok(None)` if none can be made here, for a reason that was told.
pub async fn find(ctx: &Context, parts: &Parts<'_>) -> Result<Option<Found>> {
    let key = key(parts)?;
    let entry = ctx
        .entry("templates", &key)?
        .locked_as(format!("template-{key}"));
    let entry = entry.whole_if(|dir| Template::load(dir).is_some());
    // Not by `get_or_make`: it is made of a guest that the caller boots.
    let making = match entry.claim().await? {
        Claim::Found(dir) => return Ok(Template::load(&dir).map(Found::Template)),
        Claim::Missing(making) => making,
    };
    // Memory that is used to its last byte, and as much again.
    let room_mib = 2 * u64::from(parts.size.memory_mib);
    if !has_room(ctx.cache.dir(), room_mib)? {
        ctx.events.note(format!(
            "guests are booted one by one: a template needs {room_mib} MiB of the cache's disk"
        ));
        return Ok(None);
    }
    Ok(Some(Found::Missing(Making {
        staging: cache::staging_dir(making.path())?,
        what: what(parts),
        entry: making,
    })))
}

/// Whether the disk has room for one more template: a full one would kill QEMU where it writes to
/// the memory.
fn has_room(dir: &Path, mib: u64) -> Result<bool> {
    let disk = rustix::fs::statvfs(dir).map_err(std::io::Error::from);
    let disk = disk.at("look at the disk of", dir)?;
    Ok(disk.f_blocks == 0 || disk.f_bavail * disk.f_frsize >= mib << 20)
}

impl Making {
    /// The file for the memory of the guest that is to be kept.
    pub fn memory(&self) -> PathBuf {
        self.staging.path().join(MEMORY)
    }

    /// Keeps `machine`, to which nobody is connected. It is stopped, also when this fails.
    pub async fn keep(self, machine: &mut Machine, cancel: &CancellationToken) -> Result<Template> {
        let saved = tokio::select! {
            saved = self.save(machine.qmp()) => saved,
            () = cancel.cancelled() => Err(Error::interrupted()),
        };
        let (qboot, pace) = (machine.qboot, machine.pace);
        let stopped = machine.stop().await;
        saved?;
        stopped?;
        let dir = self.staging.path();
        let console = dir.join(CONSOLE);
        fs::copy(machine.console.path(), &console).at("copy", machine.console.path())?;
        let made = Manifest {
            what: self.what,
            qboot,
            pace,
        };
        let json = serde_json::to_vec_pretty(&made)
            .map_err(|error| Error::lab(format!("cannot write the manifest: {error}")))?;
        cache::write_atomically(&dir.join(MANIFEST), &json)?;
        let sealed = [MEMORY, STATE, CONSOLE].map(str::to_owned).to_vec();
        Ok(Template {
            dir: self.entry.publish(self.staging, sealed).await?,
            made,
        })
    }

    async fn save(&self, qmp: &mut Qmp) -> Result<()> {
        qmp.execute(qmp::stop {}).await?;
        ignore_shared(qmp).await?;
        let uri = Some(uri(self.staging.path()));
        let (channels, detach, resume) = (None, None, None);
        qmp.execute(qmp::migrate {
            uri,
            channels,
            detach,
            resume,
        })
        .await?;
        migrated(qmp).await
    }
}

impl Template {
    fn load(dir: &Path) -> Option<Self> {
        let made = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).ok()?).ok()?;
        Some(Self {
            dir: dir.to_path_buf(),
            made,
        })
    }

    /// Its memory.
    fn memory(&self) -> PathBuf {
        self.dir.join(MEMORY)
    }

    /// Whether its firmware is qboot.
    fn has_qboot(&self) -> bool {
        self.made.qboot
    }

    /// What its kernel and its init have said.
    fn console(&self) -> Result<Vec<u8>> {
        let path = self.dir.join(CONSOLE);
        let mut text = Vec::new();
        let file = File::open(&path).at("open", &path)?;
        file.take(CONSOLE_MAX)
            .read_to_end(&mut text)
            .at("read", &path)?;
        Ok(text)
    }

    /// Loads it into a QEMU that was started with `-incoming`.
    async fn load_into(&self, qmp: &mut Qmp) -> Result<()> {
        ignore_shared(qmp).await?;
        let (uri, channels, exit_on_error) = (Some(uri(&self.dir)), None, None);
        qmp.execute(qmp::migrate_incoming {
            uri,
            channels,
            exit_on_error,
        })
        .await?;
        migrated(qmp).await
    }

    /// Takes it away: it does not do what it should. Its other forks have its files open.
    pub fn discard(&self) -> Result<()> {
        let aside = cache::staging_dir(&self.dir)?;
        match fs::rename(&self.dir, aside.path().join(MEMORY)) {
            // Somebody else was first.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            moved => moved.at("remove", &self.dir),
        }
    }
}

impl Machine {
    /// Lets a guest go on where a template was kept. Its console begins with the template's.
    pub async fn fork(
        parts: &Parts<'_>,
        template: &Template,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let spec = Spec {
            boot: None,
            memory: Memory::Private(template.memory()),
            qboot: template.has_qboot(),
            log: None,
        };
        let console = template.console()?;
        let mut machine = Self::start(parts, spec, &console, cancel).await?;
        machine.go_at(template.made.pace);
        let loaded = tokio::select! {
            loaded = template.load_into(machine.qmp()) => loaded,
            () = cancel.cancelled() => Err(Error::interrupted()),
        };
        if let Err(error) = loaded {
            return Err(machine.stop_after(error).await);
        }
        machine.go_on(cancel).await?;
        Ok(machine)
    }
}

/// `migrate` and `migrate-incoming` take addresses.
fn uri(dir: &Path) -> String {
    format!("file:{}", dir.join(STATE).display())
}

async fn ignore_shared(qmp: &mut Qmp) -> Result<()> {
    let capabilities = vec![MigrationCapabilityStatus {
        capability: MigrationCapability::x_ignore_shared,
        state: true,
    }];
    qmp.execute(migrate_set_capabilities { capabilities })
        .await
        .map(drop)
}

/// Waits until the state is written, or read.
async fn migrated(qmp: &mut Qmp) -> Result<()> {
    let mut wait = qmp.vitals().wait(MIGRATION);
    loop {
        let info = qmp.execute(qmp::query_migrate {}).await?;
        let why = match info.status {
            Some(MigrationStatus::completed) => return Ok(()),
            Some(MigrationStatus::failed) => info.error_desc.unwrap_or_default(),
            _ => match wait.over() {
                Some(overdue) => format!("not {overdue}; {}", overdue.seen),
                None => {
                    sleep(POLL).await;
                    continue;
                }
            },
        };
        return Err(Error::host(format!("QEMU cannot keep a guest: {why}"))
            .help("--cold boots each guest afresh"));
    }
}

/// The key of a template. It holds QEMU's arguments with the names of a run's files left out, and
/// which QEMU it is.
fn key(parts: &Parts<'_>) -> Result<String> {
    let file = |name: &str| PathBuf::from(name);
    let command = args::command(&MachineSpec {
        arch: parts.arch,
        accel: parts.accel,
        size: parts.size.clone(),
        boot: Some((parts.kernel.clone(), parts.image.to_path_buf())),
        memory: Memory::Shared(file(MEMORY)),
        console: file(CONSOLE),
        input: file("input"),
        qmp: file("qmp"),
        sandbox: false,
        qboot: true,
        log: None,
    });
    let mut key = KeyBuilder::new(RECIPE);
    key.part("command", command.to_string().as_bytes());
    for path in [&parts.kernel, parts.image] {
        key.part("booted", identity(path)?.as_bytes());
    }
    key.part("qemu", host::installed(parts.arch)?.as_bytes());
    if parts.accel == Accel::Kvm {
        // A guest under KVM has the host's own CPU.
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = |line: &&str| line.starts_with("model") || line.starts_with("CPU part");
        key.part(
            "cpu",
            cpu.lines().find(model).unwrap_or_default().as_bytes(),
        );
    }
    Ok(key.finish())
}

/// `x86_64 guest of kernel 0123456789abcdef0123, tcg`
fn what(parts: &Parts<'_>) -> String {
    let mut above = parts.kernel.ancestors().filter_map(Path::file_name);
    let kernel = above.find(|name| name.to_str().is_some_and(cache::is_key));
    let kernel = kernel.unwrap_or_default().to_string_lossy();
    format!("{} guest of kernel {kernel}, {}", parts.arch, parts.accel)
}

/// What an entry is, for people; `None` if it is unreadable.
pub(crate) fn describe(dir: &Path) -> Option<String> {
    Template::load(dir).map(|template| template.made.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_from_before_the_pace_was_kept_are_of_a_quick_host() {
        let text = r#"{ "what": "x86_64 guest", "qboot": true }"#;
        let made: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(made.pace, 1);
    }
}
