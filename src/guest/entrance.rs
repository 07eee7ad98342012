// SPDX-License-Identifier: MIT OR Apache-2.0
//! How another lab, or ssh by hand, gets into the guest of a run that is paused.
//!
//! `guest.json` in the record says it. The key that lets one in is in the machine's own folder, as is
//! the socket for gdb: records are shown to others. All of it goes when the run goes on, and the
//! folder of a lab that was killed when the next one starts a machine.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::ssh::Login;
use crate::cache::write_atomically;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::RunId;
use crate::files::read_regular;
use crate::image::keys::RunKeys;
use crate::process::Cmd;

/// The version of `guest.json`.
const VERSION: u32 = 1;
/// Its name in the record.
pub const FILE: &str = "guest.json";
/// Its length, and that of the files that it names.
const FILE_MAX: u64 = 64 << 10;
/// The private key, and the guest's public one, in the machine's folder.
const KEY: &str = "key";
const KNOWN_HOSTS: &str = "known_hosts";

/// What is needed to enter a guest: `guest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    version: u32,
    /// The run.
    pub run: RunId,
    /// The lab's process.
    pub pid: u32,
    /// Where the run is paused: `after step 2 of 5 (load pricing-v1)`.
    pub at: String,
    /// How to log in, if the guest still takes anybody.
    pub ssh: Option<Ssh>,
    /// The unix socket on which QEMU waits for gdb, if it does.
    pub gdb: Option<PathBuf>,
}

/// How to log into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// The port of 127.0.0.1.
    pub port: u16,
    /// The file of the private key.
    pub key: PathBuf,
    /// The file with the guest's public key.
    pub known_hosts: PathBuf,
    /// The guest's public key.
    pub host_key: String,
}

impl Ssh {
    /// The login for ssh by hand.
    pub fn command(&self) -> Cmd {
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts.display());
        Cmd::new("ssh")
            .args(["-F", "none", "-p", &self.port.to_string(), "-i"])
            .arg(&self.key)
            .args(["-o", &known_hosts, "root@127.0.0.1"])
    }

    /// What the lab's own ssh needs.
    ///
    /// # Errors
    ///
    /// `Host` if the key is not there any more.
    pub fn login(&self) -> Result<Login> {
        let host_key = PublicKey::from_openssh(&self.host_key).and_then(|key| key.to_bytes());
        let host_key = host_key
            .map_err(|error| Error::new(Blame::File, format!("{FILE} has no key: {error}")))?;
        let private_key = read_regular(&self.key, FILE_MAX)?;
        Ok(Login {
            port: self.port,
            private_key: String::from_utf8_lossy(&private_key).into_owned(),
            host_key,
        })
    }
}

/// An entrance that is open until this is dropped.
#[derive(Debug)]
pub struct Open {
    /// What it is.
    pub entrance: Entrance,
    file: PathBuf,
}

impl Open {
    /// Opens an entrance: `guest.json` goes into `record`. With `port` and `keys` one can log in.
    ///
    /// # Errors
    ///
    /// `Host` if a file cannot be written.
    pub fn new(record: &Path, scratch: &Path, inside: Inside<'_>) -> Result<Self> {
        // From here on, what is dropped removes what there is.
        let mut open = Self {
            entrance: Entrance {
                version: VERSION,
                run: inside.run.clone(),
                pid: std::process::id(),
                at: inside.at,
                ssh: None,
                gdb: inside.gdb,
            },
            file: record.join(FILE),
        };
        if let Some((port, keys)) = inside.login {
            let ssh = open.entrance.ssh.insert(Ssh {
                port,
                key: scratch.join(KEY),
                known_hosts: scratch.join(KNOWN_HOSTS),
                host_key: keys.host_public_text()?,
            });
            write_secret(&ssh.key, &keys.client_private()?)?;
            let known = format!("[127.0.0.1]:{port} {}\n", ssh.host_key);
            write_secret(&ssh.known_hosts, &known)?;
        }
        let json = serde_json::to_vec_pretty(&open.entrance)
            .map_err(|error| Error::lab(format!("cannot write {FILE}: {error}")))?;
        write_atomically(&open.file, &json)?;
        Ok(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
        if let Some(ssh) = &self.entrance.ssh {
            let _ = fs::remove_file(&ssh.key);
            let _ = fs::remove_file(&ssh.known_hosts);
        }
    }
}

/// What is behind an entrance.
pub struct Inside<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Where it is paused.
    pub at: String,
    /// The port of the guest's ssh and its keys, if it still takes anybody.
    pub login: Option<(u16, &'a RunKeys)>,
    /// The socket for gdb.
    pub gdb: Option<PathBuf>,
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .at("create", path)?;
    file.write_all(text.as_bytes()).at("write", path)
}

impl Entrance {
    /// The entrance of the run with this record; `Ok(None)` if there is none. Whether the run is
    /// still on is not asked.
    ///
    /// # Errors
    ///
    /// `File` if what says so makes no sense.
    pub fn of(record: &Path) -> Result<Option<Self>> {
        let file = record.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let nonsense = |why: String| {
            let what = format!("{} makes no sense: {why}", file.display());
            Error::new(Blame::File, what).help("another lab has written it: use that one")
        };
        let json = read_regular(&file, FILE_MAX)?;
        let entrance: Self =
            serde_json::from_slice(&json).map_err(|error| nonsense(error.to_string()))?;
        if entrance.version != VERSION {
            return Err(nonsense(format!("it has version {}", entrance.version)));
        }
        Ok(Some(entrance))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::arch::Arch;

    #[test]
    fn an_entrance_is_for_its_owner_and_goes_without_a_trace() {
        let (record, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = RunKeys::generate().unwrap();
        let run = RunId {
            scenario: "s".into(),
            kernel: "tags".into(),
            arch: Arch::X86_64,
            cpus: None,
        };
        let inside = Inside {
            run: &run,
            at: "before the first step".into(),
            login: Some((40000, &keys)),
            gdb: None,
        };
        let open = Open::new(record.path(), scratch.path(), inside).unwrap();
        let found = Entrance::of(record.path()).unwrap().unwrap();
        assert_eq!(found, open.entrance);
        let ssh = found.ssh.unwrap();
        let mode = fs::metadata(&ssh.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let login = ssh.login().unwrap();
        assert_eq!(login.host_key, keys.host_public().unwrap());
        assert_eq!(login.private_key, keys.client_private().unwrap());
        // What others may see of it has no key that lets one in.
        let json = fs::read_to_string(record.path().join(FILE)).unwrap();
        assert!(!json.contains("PRIVATE KEY"));
        drop(open);
        for folder in [record.path(), scratch.path()] {
            assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        }
        assert_eq!(Entrance::of(record.path()).unwrap(), None);
    }

    #[test]
    fn a_strangers_file_is_refused() {
        let record = tempfile::tempdir().unwrap();
        for text in ["{}", "nonsense", "{\"version\": 2}"] {
            fs::write(record.path().join(FILE), text).unwrap();
            assert_eq!(Entrance::of(record.path()).unwrap_err().blame, Blame::File);
        }
    }
}
