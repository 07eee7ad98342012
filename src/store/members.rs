// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading a stranger's archive (tar, compressed with zstd), member by member and within limits.
//! Whoever reads one decides where a member may go: see `cache::unpack` and `bundle::read`.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tar::{Archive, Entry, EntryType};
use tokio_util::sync::CancellationToken;

use crate::error::{Blame, Error, IoContext, Result};

/// The longest name in bytes: with the folder before it, Linux takes 4095.
const NAME_MAX: u64 = 2048;
/// Bytes that may follow tar's own end: zeros.
const REST_MAX: u64 = 1 << 20;

/// What an archive may have at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes that it unpacks to.
    pub bytes: u64,
    /// Members.
    pub members: u64,
}

/// Errors that are the archive's fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bad<'a> {
    /// The archive.
    pub file: &'a Path,
    /// What cannot be done with it: `imported`.
    pub done: &'static str,
    /// What to do instead.
    pub help: &'static str,
}

impl Bad<'_> {
    /// The archive is not as it must be.
    pub fn error(self, why: &str) -> Error {
        let what = format!("{} cannot be {}: {why}", self.file.display(), self.done);
        Error::new(Blame::File, what).help(self.help)
    }

    /// One of its members is not as it must be.
    pub fn member(self, name: &OsStr, why: &str) -> Error {
        self.error(&format!("{} {why}", name.to_string_lossy().escape_debug()))
    }

    /// It is no archive, or not whole.
    pub fn unreadable(self, error: &io::Error) -> Error {
        self.error(&format!("it is damaged or no such archive ({error})"))
    }
}

/// A reader that ends with an error after so many bytes.
struct Bounded<R> {
    input: R,
    left: u64,
    max: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| {
            let max = match self.max >> 30 {
                0 => format!("{} MiB", self.max >> 20),
                gib => format!("{gib} GiB"),
            };
            io::Error::other(format!("it unpacks to more than {max}"))
        })?;
        Ok(length)
    }
}

/// A member of an archive that is being read.
pub(crate) struct Member<'a> {
    /// Its number, from 1. Those that only hold the name of the next one count as well.
    pub number: u64,
    /// Its name, whatever that is.
    pub name: OsString,
    /// Where it leads, if it is a link.
    pub target: Option<OsString>,
    /// What it is.
    pub kind: EntryType,
    /// Its mode, whatever that is.
    pub mode: u32,
    /// Its time, in seconds since 1970.
    pub mtime: u64,
    /// Its bytes.
    pub size: u64,
    input: &'a mut dyn Read,
    bad: Bad<'a>,
}

impl Member<'_> {
    /// All of it, if it is no longer than `max`.
    pub fn text(&mut self, max: u64) -> Result<Vec<u8>> {
        if self.size > max {
            return Err(self.bad.member(&self.name, "is too long"));
        }
        let mut text = Vec::new();
        self.input
            .read_to_end(&mut text)
            .map_err(|error| self.bad.unreadable(&error))?;
        Ok(text)
    }

    /// Writes it to a file that is not there yet, and shows each block to `see`.
    pub fn write(&mut self, path: &Path, mode: u32, mut see: impl FnMut(&[u8])) -> Result<File> {
        let bad = self.bad;
        let mut options = OpenOptions::new();
        let mut file = match options.write(true).create_new(true).mode(mode).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let name = path.file_name().unwrap_or_default();
                return Err(bad.member(name, "is in the archive twice"));
            }
            file => file.at("create", path)?,
        };
        let mut block = vec![0; usize::try_from(self.size.min(1 << 16)).unwrap_or(1 << 16)];
        let mut left = self.size;
        while left > 0 {
            let length = self
                .input
                .read(&mut block)
                .map_err(|error| bad.unreadable(&error))?;
            if length == 0 {
                return Err(bad.error("it ends within a file"));
            }
            see(&block[..length]);
            file.write_all(&block[..length]).at("write", path)?;
            left = left.saturating_sub(length as u64);
        }
        Ok(file)
    }
}

/// Hands each member on to `each`, and reads the archive to its end, checksum included.
///
/// # Errors
///
/// `File` for whatever is wrong with the archive, `Interrupted`, and what `each` says.
pub(crate) fn read(
    bad: Bad<'_>,
    limits: Limits,
    cancel: &CancellationToken,
    mut each: impl FnMut(&mut Member<'_>) -> Result<()>,
) -> Result<()> {
    let unreadable = |error: io::Error| bad.unreadable(&error);
    let input = File::open(bad.file)
        .at("open", bad.file)
        .map_err(|mut error| {
            error.blame = Blame::File;
            error
        })?;
    let mut archive = Archive::new(Bounded {
        input: zstd::Decoder::new(input).map_err(unreadable)?,
        left: limits.bytes,
        max: limits.bytes,
    });
    // Raw: the crate would read names of any length into memory.
    let members = archive.entries().map_err(unreadable)?.raw(true);
    let (mut name, mut target) = (None, None);
    let mut number = 0;
    for member in members {
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let mut member = member.map_err(unreadable)?;
        number += 1;
        if number > limits.members {
            return Err(bad.error(&format!("it has more than {} members", limits.members)));
        }
        let header = member.header();
        let kind = header.entry_type();
        match kind {
            EntryType::GNULongName => name = Some(long_name(bad, &mut member)?),
            EntryType::GNULongLink => target = Some(long_name(bad, &mut member)?),
            _ => {
                let mode = header.mode().map_err(unreadable)?;
                let mtime = header.mtime().map_err(unreadable)?;
                each(&mut Member {
                    number,
                    name: name.take().unwrap_or_else(|| owned(&member.path_bytes())),
                    target: target
                        .take()
                        .or_else(|| member.link_name_bytes().map(|bytes| owned(&bytes))),
                    kind,
                    mode,
                    mtime,
                    size: member.size(),
                    input: &mut member,
                    bad,
                })?;
            }
        }
    }
    if number == 0 {
        return Err(bad.error("it is empty"));
    }
    // The checksum comes last; after tar's own end there are zeros at most.
    let mut rest = Vec::new();
    let mut input = archive.into_inner().take(REST_MAX);
    input.read_to_end(&mut rest).map_err(unreadable)?;
    if input.limit() == 0 || rest.iter().any(|&byte| byte != 0) {
        return Err(bad.error("something follows its end"));
    }
    Ok(())
}

/// The name in a member that only holds the next one's name.
fn long_name(bad: Bad<'_>, member: &mut Entry<'_, impl Read>) -> Result<OsString> {
    let mut bytes = Vec::new();
    let mut limited = member.take(NAME_MAX + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| bad.unreadable(&error))?;
    if limited.limit() == 0 {
        return Err(bad.error("a name in it is too long"));
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(OsString::from_vec(bytes))
}

fn owned(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}
