// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab cache export`: built kernels and images in one file, for machines that shall not build.
//!
//! Another machine finds a kernel by its key, and makes the key from the source that a record in
//! `sources/` names. So the archive holds records, source trees, kernels, images and the records of
//! their packages; what is not in it is the compiler, whose version is in the key as well.
//!
//! **Hard links stay.** A kernel's tree is hard links to its source; the second name of a file is a
//! hard-link member, so that neither the archive nor the other machine holds a file twice.
//!
//! **Times are whole seconds.** make compares them only with each other. Cutting off fractions
//! never puts a file in front of one that was older, so that nothing that was up to date needs to
//! be made again; and entries are finished builds, in which nothing is out of date.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tar::EntryType;
use tokio_util::sync::CancellationToken;

use super::archive::{Item, ItemKind, MANIFEST, Manifest, VERSION};
use super::pack::{Pack, header};
use crate::cache::{NOTES, blocking, is_key};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::Phase;
use crate::image::build::BuiltImage;
use crate::kernel::{BuiltKernel, source};

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// The entries, in the order of the archive.
    pub entries: Vec<Item>,
    /// The archive's size in bytes.
    pub bytes: u64,
}

/// Writes `kernels` and `images` with all that another machine needs to find them to `file`, which
/// is replaced if it exists.
///
/// # Errors
///
/// `Usage` if a kernel has a source that other machines do not have (one's own tree), `Host` for
/// the disk, `Interrupted`.
pub async fn export(
    ctx: &Context,
    kernels: &[BuiltKernel],
    images: &[BuiltImage],
    file: &Path,
) -> Result<Exported> {
    let cache = ctx.cache.dir().to_path_buf();
    let entries = select(&cache, kernels, images)?;
    let phase = ctx.events.phase(format!("write {}", file.display()));
    let (file, cancel) = (file.to_path_buf(), ctx.cancel.clone());
    blocking(move || write(&cache, entries, &file, &cancel, phase)).await
}

/// The entries to write: sources before the kernels that hold links to them.
fn select(cache: &Path, kernels: &[BuiltKernel], images: &[BuiltImage]) -> Result<Vec<Item>> {
    let mut entries = Vec::new();
    let item = |kind, key: &str, label: &str| Item {
        kind,
        key: key.to_owned(),
        label: label.to_owned(),
    };
    let records = source_records(&cache.join(ItemKind::Sources.name()));
    for kernel in kernels {
        let from: Vec<_> = records
            .iter()
            .filter(|(_, tree)| tree.label == kernel.source)
            .collect();
        if from.is_empty() {
            let what = format!("no source in the cache is {}", kernel.source);
            return Err(Error::new(Blame::Usage, what).help(format!(
                "{} can only be exported if its source was fetched by the lab and is still there",
                kernel.release
            )));
        }
        for (record, tree) in from {
            entries.push(item(ItemKind::Sources, &tree.id, &tree.label));
            entries.push(item(ItemKind::Sources, record, &tree.label));
        }
        entries.push(item(ItemKind::Kernels, &kernel.key, &kernel.release));
    }
    for image in images {
        let record = image.record.file_name().unwrap_or_default();
        let record = record.to_string_lossy();
        entries.push(item(ItemKind::Images, &image.key, "guest image"));
        entries.push(item(ItemKind::Images, &record, "package versions"));
    }
    if let Some(odd) = entries.iter().find(|item| !item.is_valid()) {
        let what = format!("{} is no entry of the cache", odd.path().display());
        return Err(Error::lab(what));
    }
    entries.sort_by(|a, b| (a.kind, a.is_record(), &a.key).cmp(&(b.kind, b.is_record(), &b.key)));
    entries.dedup();
    Ok(entries)
}

/// The records whose trees are there, by name.
pub(super) fn source_records(sources: &Path) -> Vec<(String, source::SourceTree)> {
    let records = fs::read_dir(sources).into_iter().flatten().flatten();
    let mut records: Vec<_> = records
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let tree = source::recorded(&entry.path())?;
            is_key(name.strip_suffix(".json")?).then_some((name, tree))
        })
        .collect();
    records.sort_by(|a, b| a.0.cmp(&b.0));
    records
}

fn write(
    cache: &Path,
    entries: Vec<Item>,
    file: &Path,
    cancel: &CancellationToken,
    phase: Phase,
) -> Result<Exported> {
    let mut writer = Writer {
        pack: Pack::create(file, 0)?,
        links: HashMap::new(),
        cancel,
        phase,
        bytes: 0,
    };
    let manifest = Manifest {
        version: VERSION,
        lab: env!("CARGO_PKG_VERSION").to_owned(),
        entries,
    };
    let json = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Error::lab(format!("cannot write the manifest: {error}")))?;
    writer.pack.bytes(MANIFEST, &json)?;
    for item in &manifest.entries {
        writer.tree(cache, item.path())?;
    }
    let Writer { pack, phase, .. } = writer;
    let wrote = format!("wrote {}", pack.file.display());
    let bytes = pack.finish(true)?;
    phase.done(wrote);
    Ok(Exported {
        entries: manifest.entries,
        bytes,
    })
}

/// The archive under way.
struct Writer<'a> {
    pack: Pack,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    cancel: &'a CancellationToken,
    phase: Phase,
    /// Bytes of files so far.
    bytes: u64,
}

impl Writer<'_> {
    /// Writes what is at `top`, folders before what is in them, by name.
    fn tree(&mut self, cache: &Path, top: PathBuf) -> Result<()> {
        let notes = NOTES.map(|note| top.join(note));
        let mut left = vec![top];
        while let Some(path) = left.pop() {
            if self.cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let from = cache.join(&path);
            let data = fs::symlink_metadata(&from).at("read", &from)?;
            self.member(&from, &path, &data)?;
            if !data.is_dir() {
                continue;
            }
            let mut names = Vec::new();
            for entry in fs::read_dir(&from).at("read", &from)? {
                names.push(path.join(entry.at("read", &from)?.file_name()));
            }
            names.retain(|name| !notes.contains(name));
            // Taken from the end.
            names.sort_by(|a, b| b.cmp(a));
            left.append(&mut names);
        }
        Ok(())
    }

    fn member(&mut self, from: &Path, path: &Path, data: &fs::Metadata) -> Result<()> {
        let Pack { file, archive } = &mut self.pack;
        let mode = data.mode() & 0o755;
        let seconds = u64::try_from(data.mtime()).unwrap_or(0);
        if data.is_dir() {
            let mut header = header(EntryType::Directory, mode, seconds);
            return archive
                .append_data(&mut header, path, std::io::empty())
                .at("write", file);
        }
        if data.is_symlink() {
            let target = fs::read_link(from).at("read", from)?;
            let mut header = header(EntryType::Symlink, mode, seconds);
            // The crate leaves `.` out of a target that it is to take care of.
            let written = if header
                .set_link_name_literal(target.as_os_str().as_bytes())
                .is_ok()
            {
                archive.append_data(&mut header, path, std::io::empty())
            } else {
                archive.append_link(&mut header, path, target)
            };
            return written.at("write", file);
        }
        if !data.is_file() {
            let what = format!("{} is not a file, a folder or a link", from.display());
            return Err(Error::host(what).help("build it anew: remove the entry from the cache"));
        }
        if data.nlink() > 1 {
            let inode = (data.dev(), data.ino());
            if let Some(first) = self.links.get(&inode) {
                let mut header = header(EntryType::Link, mode, seconds);
                return archive
                    .append_link(&mut header, path, first)
                    .at("write", file);
            }
            self.links.insert(inode, path.to_path_buf());
        }
        let mut header = header(EntryType::Regular, mode, seconds);
        header.set_size(data.len());
        self.pack.content(header, path, from)?;
        self.bytes += data.len();
        let detail = path.to_string_lossy();
        self.phase.progress(self.bytes >> 20, None, &detail);
        Ok(())
    }
}
