// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing an archive (tar, compressed with zstd): the same content gives the same bytes, and the
//! file is there when it is whole.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};
use tempfile::NamedTempFile;

use crate::error::{Blame, Error, IoContext, Result};

/// An archive under way, under a temporary name.
pub(crate) struct Pack {
    /// What it is going to be called.
    pub file: PathBuf,
    /// Its members.
    pub archive: tar::Builder<zstd::Encoder<'static, BufWriter<NamedTempFile>>>,
}

impl Pack {
    /// Begins an archive, compressed by zstd's `level`; 0 is its default. One thread compresses:
    /// with more of them, the bytes depend on how many there are.
    pub fn create(file: &Path, level: i32) -> Result<Self> {
        let file = std::path::absolute(file).at("resolve", file)?;
        let parent = file.parent().unwrap_or(Path::new("/"));
        let temporary = NamedTempFile::new_in(parent).at("create a file in", parent)?;
        let mut encoder =
            zstd::Encoder::new(BufWriter::new(temporary), level).at("write", &file)?;
        encoder.include_checksum(true).at("write", &file)?;
        Ok(Self {
            file,
            archive: tar::Builder::new(encoder),
        })
    }

    /// Adds a file with this content.
    pub fn bytes(&mut self, name: &str, data: &[u8]) -> Result<()> {
        let mut header = header(EntryType::Regular, 0o644, 0);
        header.set_size(data.len() as u64);
        self.archive
            .append_data(&mut header, name, data)
            .at("write", &self.file)
    }

    /// Adds the first bytes of a file, as many as the header says.
    pub fn content(&mut self, mut header: Header, name: &Path, from: &Path) -> Result<()> {
        let size = header.size().at("write", &self.file)?;
        // A longer or shorter member than its header says would spoil the archive.
        let mut content = File::open(from).at("open", from)?.take(size);
        self.archive
            .append_data(&mut header, name, &mut content)
            .at("write", &self.file)?;
        if content.limit() > 0 {
            let what = format!("{} became shorter while it was read", from.display());
            return Err(Error::host(what).help("try again when nothing changes it"));
        }
        Ok(())
    }

    /// Ends the archive and gives it its name, which may be another file's if it is to `replace`
    /// that. Returns its size in bytes.
    ///
    /// # Errors
    ///
    /// `Usage` if there is such a file that is not to be replaced, `Host` for the disk.
    pub fn finish(self, replace: bool) -> Result<u64> {
        let file = &self.file;
        let encoder = self.archive.into_inner().at("write", file)?;
        let output = encoder.finish().at("write", file)?;
        let temporary = output
            .into_inner()
            .map_err(|error| error.into_error())
            .at("write", file)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        temporary
            .as_file()
            .set_permissions(readable)
            .at("write", file)?;
        let bytes = temporary.as_file().metadata().at("read", file)?.len();
        let named = match replace {
            true => temporary.persist(file),
            false => temporary.persist_noclobber(file),
        };
        match named {
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(is_there(file))
            }
            named => named
                .map(|_| bytes)
                .map_err(|error| error.error)
                .at("write", file),
        }
    }
}

/// The error of a file that is not to be replaced.
pub(crate) fn is_there(file: &Path) -> Error {
    let what = format!("{} is there already", file.display());
    Error::new(Blame::Usage, what).help("name another file, or replace it with --force")
}

/// Nothing of the machine that writes: no owner, no group.
pub(crate) fn header(kind: EntryType, mode: u32, seconds: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(seconds);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}
