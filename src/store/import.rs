// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab cache import`: entries from another machine's `lab cache export`.
//!
//! **The archive is a stranger's.** Everything is unpacked into staging folders of the lab's own,
//! and nothing is published before the archive was read to its end, checksum included, and each
//! entry looks like what it claims to be. A folder is only made in a folder that this import made,
//! a file only where nothing is yet: so nothing is ever written through a link. Symbolic links stay
//! within their entry, hard links lead to files of the same archive. What the `tar` crate offers
//! for unpacking is not used: it has a history of writing through links.
//!
//! **What it cannot prove.** A key is made from what an entry was built from, not from what is in
//! it. The kernel's build system, which runs on this machine for each module, comes from the
//! archive: who imports it trusts its maker like one whose program one runs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{Item, ItemKind, is_printable};
use super::members::Bad;
use super::unpack::{Staged, TEXT_MAX, bad, unpack};
use crate::cache::{blocking, is_key, publish};
use crate::context::Context;
use crate::error::{IoContext, Result};
use crate::kernel::source::SourceTree;
use crate::kernel::{BUILD, BuiltKernel};

/// What an import did.
#[derive(Debug, Default)]
pub struct Imported {
    /// Now in the cache.
    pub added: Vec<Item>,
    /// There before, and left as they were.
    pub kept: Vec<Item>,
}

/// Puts the entries of an archive into the cache. What is there already is kept.
///
/// # Errors
///
/// `File` for whatever is wrong with the archive; then nothing of it is in the cache. `Host` for
/// the disk, `Interrupted`.
pub async fn import(ctx: &Context, file: &Path) -> Result<Imported> {
    let mut phase = ctx.events.phase(format!("read {}", file.display()));
    let (cache, cancel) = (ctx.cache.dir().to_path_buf(), ctx.cancel.clone());
    let path = file.to_path_buf();
    let staged = blocking(move || {
        let staged = unpack(&path, &cache, &cancel, &mut phase)?;
        check(bad(&path), &staged, &cache)?;
        phase.done(format!("read {}", path.display()));
        Ok(staged)
    })
    .await?;
    let mut imported = Imported::default();
    let mut superfluous = Vec::new();
    for Staged { item, dir, .. } in staged {
        let place = ctx.cache.kind(item.kind.name())?.join(&item.key);
        let _lock = match item.lock() {
            Some(name) => {
                let note = format!(
                    "waiting for another lab that makes {}",
                    item.path().display()
                );
                Some(
                    ctx.cache
                        .lock(&name, &ctx.cancel, || ctx.events.note(note))
                        .await?,
                )
            }
            None => None,
        };
        if place.symlink_metadata().is_ok() {
            imported.kept.push(item);
            superfluous.push(dir);
            continue;
        }
        if item.is_record() {
            fs::rename(dir.path().join(&item.key), &place).at("publish", &place)?;
        } else {
            publish(dir, &place)?;
        }
        imported.added.push(item);
    }
    blocking(move || {
        drop(superfluous);
        Ok(())
    })
    .await?;
    Ok(imported)
}

/// Looks whether the entries are what they claim to be.
fn check(bad: Bad<'_>, staged: &[Staged], cache: &Path) -> Result<()> {
    let declared: HashSet<PathBuf> = staged.iter().map(|entry| entry.item.path()).collect();
    let has = |path: &Path| declared.contains(path) || cache.join(path).is_dir();
    for entry in staged {
        if !entry.begun || !is_sound(entry, has) {
            let path = entry.item.path();
            return Err(bad.member(
                path.as_os_str(),
                "is not there, or not what it claims to be",
            ));
        }
    }
    Ok(())
}

/// `has` tells whether an entry is in the archive or in the cache.
fn is_sound(entry: &Staged, has: impl Fn(&Path) -> bool) -> bool {
    let dir = entry.dir.path();
    let is_file = |name: &str| is_short_file(&dir.join(name), u64::MAX);
    let key = &entry.item.key;
    match (entry.item.kind, entry.item.is_record()) {
        (ItemKind::Sources, false) => is_file("Makefile") && is_file("kernel/livepatch/core.c"),
        (ItemKind::Images, false) => is_file("initramfs.cpio"),
        (ItemKind::Kernels, _) => {
            let build = dir.join("tree").join(BUILD);
            is_short_file(&dir.join("kernel.json"), TEXT_MAX)
                && BuiltKernel::load(dir).is_some_and(|kernel| is_kernel(&kernel, key))
                && is_file("tree/Makefile")
                && fs::symlink_metadata(build).is_ok_and(|data| data.is_dir())
        }
        (ItemKind::Sources, true) => json(&dir.join(key)).is_some_and(|tree: SourceTree| {
            is_key(&tree.id)
                && tree.immutable
                && is_printable(&tree.label)
                && has(&Path::new(ItemKind::Sources.name()).join(&tree.id))
        }),
        (ItemKind::Images, true) => json::<Vec<(String, String)>>(&dir.join(key)).is_some(),
    }
}

/// The key is in the release, to the kernel's last word.
fn is_kernel(kernel: &BuiltKernel, key: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    kernel.key == key
        && is_key(&kernel.family)
        && is_printable(&kernel.source)
        && kernel.release.ends_with(&format!("-lab-{}", &key[..12]))
        && kernel.release.len() < 65
        && kernel.release.chars().all(plain)
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let text = is_short_file(path, TEXT_MAX).then(|| fs::read(path).ok())??;
    serde_json::from_slice(&text).ok()
}

fn is_short_file(path: &Path, max: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.len() <= max)
}
