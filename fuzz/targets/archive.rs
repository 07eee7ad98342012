// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab cache import` of a stranger's archive: whatever is in it, nothing happens but within the
//! cache's own folders, and nothing at all if it is refused.
//!
//! The checksums of tar and zstd would keep a fuzzer outside, so an input is a list of members, each
//! a line: its kind, its name, and what it holds or where it leads.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use livepatch_lab::cache::Cache;
use livepatch_lab::context::Context;
use livepatch_lab::event::Events;
use livepatch_lab::store::import::import;
use tar::{EntryType, Header};

const SOURCE: &str = "sources/509fdf4316897b0b57f4";
const IMAGE: &str = "images/987ada7ab860a55e8bae";
const RECORD: &str = "images/packages-1ec5cc80b690a5bfc5be.json";
/// What stands outside the cache.
const VICTIM: &str = "victim";

/// An archive of a stranger.
pub fn archive(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let cache = dir.path().join("cache");
    let victim = dir.path().join(VICTIM);
    let file = dir.path().join("cache.tar.zst");
    fs::create_dir(&cache).expect("a cache");
    fs::write(&victim, VICTIM).expect("a file");
    let text = String::from_utf8_lossy(data);
    fs::write(
        &file,
        packed(&text.replace("OUT", &dir.path().to_string_lossy())),
    )
    .expect("a file");

    let ctx = Context {
        project: PathBuf::new(),
        cache: Cache::at(&cache),
        events: Events::channel().0,
        cancel: Default::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let imported = runtime.expect("a runtime").block_on(import(&ctx, &file));

    let mut outside: Vec<_> = names(dir.path());
    outside.sort();
    assert_eq!(outside, ["cache", "cache.tar.zst", VICTIM]);
    assert_eq!(fs::read(&victim).expect("the victim"), VICTIM.as_bytes());
    assert_eq!(victim.metadata().expect("the victim").nlink(), 1);
    let mut entries = Vec::new();
    for kind in ["sources", "kernels", "images"] {
        let folder = cache.join(kind);
        entries.extend(names(&folder).into_iter().map(|name| folder.join(name)));
    }
    match imported {
        Ok(imported) => {
            assert_eq!(entries.len(), imported.added.len());
            entries.iter().for_each(|entry| stays_inside(entry, entry));
        }
        Err(error) => {
            assert!(error.help.is_some(), "{error}");
            assert!(entries.is_empty(), "{error}, but there is {entries:?}");
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

/// Files, folders and links in an entry, and no link that leads out of it.
fn stays_inside(path: &Path, entry: &Path) {
    let data = fs::symlink_metadata(path).expect("its metadata");
    if data.is_symlink() {
        // One that leads nowhere is none that leads out.
        if let Ok(end) = fs::canonicalize(path) {
            let entry = fs::canonicalize(entry).expect("the entry");
            assert!(end.starts_with(entry), "{path:?} leads to {end:?}");
        }
        let target = fs::read_link(path).expect("its target");
        assert!(target.is_relative(), "{path:?} leads to {target:?}");
        return;
    }
    assert!(data.is_file() || data.is_dir(), "{path:?} is a device");
    assert_eq!(data.permissions().mode() & 0o7022, 0, "{path:?}");
    if data.is_dir() {
        for name in names(path) {
            stays_inside(&path.join(name), entry);
        }
    }
}

/// The archive of a list of members. In names and targets, `@s`, `@i` and `@r` stand for a source
/// tree, an image and a record; those that the first line has are declared.
fn packed(text: &str) -> Vec<u8> {
    let (declared, members) = text.split_once('\n').unwrap_or((text, ""));
    let entries: Vec<_> = [('s', SOURCE), ('i', IMAGE), ('r', RECORD)]
        .into_iter()
        .filter(|(letter, _)| declared.contains(*letter))
        .map(|(_, path)| {
            let (kind, key) = path.split_once('/').unwrap_or_default();
            serde_json::json!({"kind": kind, "key": key, "label": declared})
        })
        .collect();
    let manifest = serde_json::json!({"version": 1, "lab": "x", "entries": entries});
    let encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    let mut archive = tar::Builder::new(encoder);
    let mut add = |kind: EntryType, name: &str, target: &str, data: &str| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o7777);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        // Past the crate's own checks.
        let gnu = header.as_gnu_mut().expect("a header");
        for (field, text) in [(&mut gnu.name, name), (&mut gnu.linkname, target)] {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text.as_bytes()[..length]);
        }
        header.set_cksum();
        archive.append(&header, data.as_bytes()).expect("a member");
    };
    add(
        EntryType::Regular,
        "lab-cache.json",
        "",
        &manifest.to_string(),
    );
    for line in members.lines() {
        let line = line
            .replace("@s", SOURCE)
            .replace("@i", IMAGE)
            .replace("@r", RECORD);
        let mut words = line.splitn(3, ' ');
        let (kind, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let rest = words.next().unwrap_or("");
        match kind {
            "f" => add(EntryType::Regular, name, "", rest),
            "d" => add(EntryType::Directory, name, "", ""),
            "s" => add(EntryType::Symlink, name, rest, ""),
            "h" => add(EntryType::Link, name, rest, ""),
            "L" => add(EntryType::GNULongName, "", "", name),
            "K" => add(EntryType::GNULongLink, "", "", name),
            _ => {
                let byte = kind.bytes().next().unwrap_or(b'3');
                add(EntryType::new(byte), name, rest, "data");
            }
        }
    }
    let encoder = archive.into_inner().expect("an archive");
    encoder.finish().expect("an archive")
}
