// SPDX-License-Identifier: MIT OR Apache-2.0
//! An initramfs: a cpio archive in the kernel's "newc" format, made without root.
//!
//! Everything belongs to root and has the time 0: the same content gives the same bytes.

use std::collections::BTreeSet;
use std::io::Write;

use cpio::newc::{self, ModeFileType};

use crate::error::{Error, Result};

/// An archive in memory.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// Adds a folder and those above it.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent)?;
        }
        let mode = if path == "root" || path.starts_with("root/") {
            0o700
        } else {
            0o755
        };
        self.entry(path, mode, ModeFileType::Directory, b"")
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.parent_of(path)?;
        self.entry(path, mode, ModeFileType::Regular, data)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.parent_of(path)?;
        self.entry(path, 0o777, ModeFileType::Symlink, target.as_bytes())
    }

    fn parent_of(&mut self, path: &str) -> Result<()> {
        path.rsplit_once('/')
            .map_or(Ok(()), |(parent, _)| self.folder(parent))
    }

    fn entry(&mut self, path: &str, mode: u32, kind: ModeFileType, data: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(data.len())
            .map_err(|_| Error::host(format!("{path} is too large for an initramfs")))?;
        let builder = newc::Builder::new(path)
            .ino(self.entries)
            .nlink(1)
            .mode(mode)
            .set_mode_file_type(kind);
        let mut writer = builder.write(&mut self.bytes, size);
        writer
            .write_all(data)
            .and_then(|()| writer.finish().map(drop))
            .map_err(|error| Error::lab(format!("cannot archive {path}: {error}")))
    }

    /// The finished archive; a further one may follow it directly.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        newc::trailer(&mut self.bytes)
            .map_err(|error| Error::lab(format!("cannot finish the archive: {error}")))?;
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive
            .file("root/.ssh/authorized_keys", 0o600, b"key")
            .unwrap();
        archive.file("root/.ssh/other", 0o600, b"").unwrap();
        let bytes = archive.finish().unwrap();
        let mut names = Vec::new();
        let mut rest = &bytes[..];
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push((
                reader.entry().name().to_owned(),
                reader.entry().mode() & 0o777,
            ));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("root", 0o700),
            ("root/.ssh", 0o700),
            ("root/.ssh/authorized_keys", 0o600),
            ("root/.ssh/other", 0o600),
        ];
        assert_eq!(names, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }
}
