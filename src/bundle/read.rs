// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading a bundle of a stranger into a folder of its own.
//!
//! Each member must be the next file that `bundle.json` declares: a plain file of that name, with
//! that many bytes and that sum. So a folder that is made on the way holds nothing but such files,
//! and nothing is ever written through a link.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::EntryType;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::PROJECT;
use super::manifest::{BYTES_MAX, FILES_MAX, Manifest, NAME, VERSION};
use crate::cache::{hex, publish, staging_dir, write_atomically};
use crate::error::{Blame, IoContext, Result};
use crate::event::Phase;
use crate::image;
use crate::module::Module;
use crate::runner::origin::{self, INITRAMFS, KERNEL};
use crate::runner::shipped::Shipped;
use crate::store::members::{self, Bad, Limits, Member};

/// The longest `bundle.json`.
const MANIFEST_MAX: u64 = 4 << 20;
/// A header for each file, and another two for a long name.
const LIMITS: Limits = Limits {
    bytes: BYTES_MAX + MANIFEST_MAX + (FILES_MAX as u64 + 1) * 4096,
    members: 2 * FILES_MAX as u64 + 2,
};

/// A bundle that was unpacked; its folder goes with it.
#[derive(Debug)]
pub struct Bundle {
    /// What is in it.
    pub manifest: Manifest,
    dir: TempDir,
}

/// Unpacks a bundle into a new folder beside `place`.
///
/// # Errors
///
/// `File` for whatever is wrong with the bundle, `Host` for the disk, `Interrupted`.
pub fn read(
    file: &Path,
    place: &Path,
    cancel: &CancellationToken,
    phase: &mut Phase,
) -> Result<Bundle> {
    let bad = Bad {
        file,
        done: "used",
        help: "nothing of it was run; ask its author for a new one",
    };
    // To open a pipe is to wait for its other end.
    let data = fs::metadata(file).at("open", file).map_err(|mut error| {
        error.blame = Blame::File;
        error.or_help("name a file that `lab bundle` wrote")
    })?;
    if !data.is_file() {
        return Err(bad.error("it is no regular file"));
    }
    let dir = staging_dir(place)?;
    let mut manifest = None;
    let mut next = 0;
    members::read(bad, LIMITS, cancel, |member| {
        let Some(manifest) = &manifest else {
            manifest = Some(read_manifest(bad, member)?);
            return Ok(());
        };
        unpack(bad, manifest, next, member, dir.path())?;
        next += 1;
        phase.progress(next as u64, Some(manifest.files.len() as u64), "");
        Ok(())
    })?;
    let manifest = manifest.ok_or_else(|| bad.error("it is empty"))?;
    if let Some(missing) = manifest.files.get(next) {
        return Err(bad.member(OsStr::new(&missing.path), "is not there"));
    }
    Ok(Bundle { manifest, dir })
}

fn read_manifest(bad: Bad<'_>, member: &mut Member<'_>) -> Result<Manifest> {
    if member.name != NAME || member.kind != EntryType::Regular {
        return Err(bad.error(&format!("it does not begin with {NAME}")));
    }
    // serde quotes what it does not like.
    let wrong = |error: serde_json::Error| {
        let why = error.to_string();
        bad.error(&format!("{NAME}: {}", why.escape_debug()))
    };
    let text = member.text(MANIFEST_MAX)?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
    if json["version"] != VERSION {
        let found = json["version"].as_u64();
        let found = found.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
        let why = format!("its version is {found}, not {VERSION}");
        return Err(bad
            .error(&why)
            .help("use a lab of the version that wrote it"));
    }
    let manifest: Manifest = serde_json::from_value(json).map_err(wrong)?;
    manifest.check().map_err(|why| bad.error(&why))?;
    Ok(manifest)
}

/// Writes a member, which must be the next file of the manifest.
fn unpack(
    bad: Bad<'_>,
    manifest: &Manifest,
    next: usize,
    member: &mut Member<'_>,
    dir: &Path,
) -> Result<()> {
    let name = member.name.clone();
    let part = manifest.files.get(next);
    let Some(part) = part.filter(|part| name == *part.path) else {
        return Err(bad.member(&name, "is not what comes next"));
    };
    if member.kind != EntryType::Regular || member.size != part.bytes {
        return Err(bad.member(&name, "is no file of its size"));
    }
    let path = dir.join(&part.path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at("create", folder)?;
    }
    let mut sum = Sha256::new();
    member.write(&path, 0o644, |block| sum.update(block))?;
    if hex(&sum.finalize()) != part.sha256 {
        return Err(bad.member(&name, "is not what its sum says"));
    }
    Ok(())
}

impl Bundle {
    #[cfg(test)]
    pub(super) fn at(manifest: Manifest, dir: TempDir) -> Self {
        Self { manifest, dir }
    }

    /// Where a file of it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder of its project, which [`Bundle::complete`] makes whole.
    pub fn project(&self) -> PathBuf {
        self.path(PROJECT)
    }

    /// Adds what its project lacks: the guest's image, which is this lab's own, and a folder for
    /// snapshots. What the bundle has in their places is replaced: the guest's agent is what this
    /// lab talks to, and its C is compiled on this machine.
    ///
    /// # Errors
    ///
    /// `Host` for the disk.
    pub fn complete(&self) -> Result<()> {
        let project = self.project();
        for folder in ["images", "snapshots"].map(|name| project.join(name)) {
            if folder.exists() {
                fs::remove_dir_all(&folder).at("remove", &folder)?;
            }
            fs::create_dir_all(&folder).at("create", &folder)?;
        }
        for (name, text) in image::OWN {
            write_atomically(&project.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// What it has of a run that is not to be built; `None` if that was left out.
    pub fn shipped(&self) -> Option<Shipped> {
        let module = |name: &String| Module {
            name: name.clone(),
            path: self.path(&origin::module(name)),
        };
        let origin = &self.manifest.origin;
        (!self.manifest.slim).then(|| Shipped {
            kernel: self.path(KERNEL),
            initramfs: self.path(INITRAMFS),
            modules: origin.modules.iter().map(module).collect(),
            origin: origin.clone(),
        })
    }

    /// Keeps it, in a folder that must not be there yet.
    ///
    /// # Errors
    ///
    /// `Host` for the disk.
    pub fn keep(self, folder: &Path) -> Result<()> {
        publish(self.dir, folder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::{WHOLE, manifest};
    use super::*;
    use crate::event::Events;
    use crate::store::pack::{Pack, header};

    fn phase() -> Phase {
        Events::channel().0.phase("x")
    }

    /// What becomes of a bundle with this manifest and these members.
    fn read_back(manifest: &serde_json::Value, members: &[(&str, &[u8])]) -> Result<Bundle> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.tar.zst");
        let mut pack = Pack::create(&file, 0).unwrap();
        pack.bytes(NAME, manifest.to_string().as_bytes()).unwrap();
        for (name, data) in members {
            // Past the crate's own checks.
            let mut header = header(EntryType::Regular, 0o644, 0);
            let gnu = header.as_gnu_mut().unwrap();
            gnu.name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(data.len() as u64);
            header.set_cksum();
            pack.archive.append(&header, *data).unwrap();
        }
        pack.finish(false).unwrap();
        let place = dir.path().join("place/x");
        let read = read(&file, &place, &CancellationToken::new(), &mut phase());
        let left = fs::read_dir(dir.path().join("place")).unwrap().count();
        assert_eq!(left, usize::from(read.is_ok()));
        if let Ok(bundle) = &read {
            for (name, data) in members {
                assert_eq!(fs::read(bundle.path(name)).unwrap(), *data);
            }
        }
        read
    }

    fn json(files: &[(&str, &[u8])]) -> serde_json::Value {
        serde_json::to_value(manifest(files)).unwrap()
    }

    #[test]
    fn a_whole_bundle_is_unpacked_and_its_project_completed() {
        let bundle = read_back(&json(&WHOLE), &WHOLE).unwrap();
        assert_eq!(bundle.manifest, manifest(&WHOLE));
        let shipped = bundle.shipped().unwrap();
        assert!(shipped.modules[0].path.ends_with("built/modules/shop.ko"));
    }

    #[test]
    fn the_guests_programs_are_never_the_bundles() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = WHOLE.to_vec();
        files.push(("project/images/guest/agent.c", b"int main(void);"));
        files.sort_unstable();
        let file = dir.path().join("report.tar.zst");
        let mut pack = Pack::create(&file, 0).unwrap();
        pack.bytes(NAME, json(&files).to_string().as_bytes())
            .unwrap();
        for (name, data) in &files {
            pack.bytes(name, data).unwrap();
        }
        pack.finish(false).unwrap();
        let place = dir.path().join("x");
        let bundle = read(&file, &place, &CancellationToken::new(), &mut phase()).unwrap();
        bundle.complete().unwrap();
        let definition = image::Definition::read(&bundle.project(), image::DEFAULT).unwrap();
        assert_eq!(
            fs::read_to_string(definition.agent).unwrap(),
            image::OWN[1].1
        );
        let own = image::Definition::read(env!("CARGO_MANIFEST_DIR").as_ref(), image::DEFAULT);
        let completed = image::Definition::read(&bundle.project(), image::DEFAULT).unwrap();
        assert_eq!(completed.sum().unwrap(), own.unwrap().sum().unwrap());
    }

    #[test]
    fn what_is_not_as_declared_is_refused() {
        let whole = json(&WHOLE);
        let swapped = {
            let mut files = WHOLE.to_vec();
            files.swap(0, 1);
            files
        };
        let other = {
            let mut files = WHOLE.to_vec();
            files[1].1 = b"kernex";
            files
        };
        let longer = {
            let mut files = WHOLE.to_vec();
            files[1].1 = b"kernel and more";
            files
        };
        let more = [&WHOLE[..], &[("run/x", b"x")]].concat();
        let outside = [&WHOLE[..], &[("../x", b"x")]].concat();
        for (members, why) in [
            (&WHOLE[..6], "run/verdict.json is not there"),
            (&swapped, "built/kernel is not what comes next"),
            (&other, "built/kernel is not what its sum says"),
            (&longer, "built/kernel is no file of its size"),
            (&more, "run/x is not what comes next"),
            (&outside, "../x is not what comes next"),
        ] {
            let error = read_back(&whole, members).unwrap_err();
            assert_eq!(error.blame, Blame::File);
            assert!(error.what.ends_with(why), "{error}");
            assert!(error.help.is_some());
        }
    }

    #[test]
    fn manifests_that_no_lab_writes_are_refused() {
        let with = |key: &str, value: serde_json::Value| {
            let mut json = json(&WHOLE);
            json[key] = value;
            read_back(&json, &WHOLE).unwrap_err()
        };
        let error = with("version", 2.into());
        assert!(error.what.ends_with("its version is 2, not 1"), "{error}");
        assert!(error.help.unwrap().contains("lab of the version"));
        let error = with("version", "\u{1b}[2J".into());
        assert!(error.what.ends_with("its version is unknown, not 1"));
        let error = with("manner", serde_json::json!({"outcome": "\u{1b}[2J"}));
        assert!(!error.what.contains('\u{1b}'), "{error}");
        let error = with("files", serde_json::json!([]));
        assert!(
            error
                .what
                .contains("it lacks project/scenarios/window.yaml")
        );
        let error = read_back(&serde_json::json!("x"), &[]).unwrap_err();
        assert!(error.what.contains("its version is unknown"), "{error}");
    }

    #[test]
    fn what_is_no_bundle_is_the_files_fault() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let place = dir.path().join("place/x");
        let refused = |data: &[u8]| {
            fs::write(&file, data).unwrap();
            let error = read(&file, &place, &CancellationToken::new(), &mut phase());
            let error = error.unwrap_err();
            assert_eq!((error.blame, error.exit_code()), (Blame::File, 2));
            error.what
        };
        assert!(refused(b"").contains("cannot be used"));
        assert!(refused(b"#!/bin/sh\n").contains("damaged or no such archive"));
        let empty = zstd::encode_all(&[0; 1024][..], 0).unwrap();
        assert!(refused(&empty).ends_with("it is empty"));
        // A bomb: what it unpacks to has an end.
        let zeros = vec![0x41; 1 << 20];
        assert!(refused(&zstd::encode_all(&zeros[..], 0).unwrap()).contains("cannot be used"));
        assert!(
            !place.parent().unwrap().exists()
                || fs::read_dir(place.parent().unwrap()).unwrap().count() == 0
        );
    }
}
