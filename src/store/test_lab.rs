// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cache of made-up entries, for tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::export::export;
use super::import::{Imported, import};
use super::prune::{Policy, Pruned, prune};
use crate::cache::{Cache, NOTES, USED, mark_used, sha256_of};
use crate::context::Context;
use crate::error::Result;
use crate::event::Events;
use crate::image::build::BuiltImage;
use crate::kernel::BuiltKernel;

pub(super) const SOURCE: &str = "509fdf4316897b0b57f4";
pub(super) const RECORD: &str = "c7b09fc58b33bf5c0502.json";
pub(super) const KERNEL: &str = "c725e1fd43b9bf22f95b";
pub(super) const IMAGE: &str = "987ada7ab860a55e8bae";
pub(super) const VERSIONS: &str = "packages-1ec5cc80b690a5bfc5be.json";
pub(super) const MODULES: &str = "00e2c93596e0ee99ae1b";
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A cache, and the folder that goes with it.
pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) ctx: Context,
}

impl Lab {
    pub(super) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let ctx = Context {
            project: PathBuf::new(),
            cache: Cache::at(&cache),
            events: Events::channel().0,
            cancel: CancellationToken::new(),
        };
        Self { dir, ctx }
    }

    /// With a source, a kernel of it, klp-build's copy of that, an image and some modules.
    pub(super) fn full() -> Self {
        let lab = Self::empty();
        let long = format!("drivers/{}/{}.c", "d".repeat(60), "f".repeat(60));
        let source = format!("sources/{SOURCE}");
        for (name, text) in [
            ("Makefile", "all:\n"),
            ("kernel/livepatch/core.c", "int x;\n"),
            ("scripts/run.sh", "#!/bin/sh\n"),
            (&*long, "long\n"),
        ] {
            lab.write(&format!("{source}/{name}"), text.as_bytes());
            for copy in ["kernels", "klp"] {
                let link = lab.path(&format!("{copy}/{KERNEL}/tree/{name}"));
                fs::create_dir_all(link.parent().unwrap()).unwrap();
                fs::hard_link(lab.path(&format!("{source}/{name}")), link).unwrap();
            }
        }
        let script = lab.path(&format!("{source}/scripts/run.sh"));
        fs::set_permissions(&script, fs::Permissions::from_mode(0o4775)).unwrap();
        symlink(
            ".././scripts/run.sh",
            lab.path(&format!("{source}/kernel/run")),
        )
        .unwrap();
        let far = format!("../{}", "f".repeat(120));
        symlink(far, lab.path(&format!("{source}/kernel/far"))).unwrap();
        lab.write(
            &format!("sources/{RECORD}"),
            // As an older lab wrote it, with a path that means nothing on another machine.
            format!(
                r#"{{"id":"{SOURCE}","label":"linux-source-7.3 7.3.4-1","dir":"/old",
                    "immutable":true}}"#
            )
            .as_bytes(),
        );
        let kernel = format!("kernels/{KERNEL}");
        lab.write(&format!("{kernel}/tree/build/.config"), b"CONFIG_X=y\n");
        lab.write(&format!("{kernel}/tree/build/vmlinux"), &[7; 40_000]);
        symlink("..", lab.path(&format!("{kernel}/tree/build/source"))).unwrap();
        let manifest = format!(
            r#"{{"key":"{KERNEL}","release":"7.3.4-lab-{}","source":"linux-source-7.3 7.3.4-1",
                "family":"10c0d82a1a42d19a5e86","objects":84}}"#,
            &KERNEL[..12]
        );
        lab.write(&format!("{kernel}/kernel.json"), manifest.as_bytes());
        lab.write(&format!("images/{IMAGE}/initramfs.cpio"), &[1; 9000]);
        lab.write(&format!("images/{VERSIONS}"), br#"[["busybox","1"]]"#);
        lab.write(&format!("modules/{MODULES}/x.ko"), &[2; 9000]);
        mark_used(&lab.path(&kernel));
        lab
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.ctx.cache.dir().join(name)
    }

    pub(super) fn write(&self, name: &str, data: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        let time = SystemTime::now() - 9 * DAY - Duration::from_millis(name.len() as u64 * 7);
        File::open(&path).unwrap().set_modified(time).unwrap();
    }

    /// Says that an entry was last used so many days ago.
    pub(super) fn used(&self, name: &str, days: u32) {
        mark_used(&self.path(name));
        let path = self.path(name);
        let mark = if path.is_dir() { path.join(USED) } else { path };
        let time = SystemTime::now() - DAY * days;
        File::open(mark).unwrap().set_modified(time).unwrap();
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    pub(super) async fn export(&self) -> PathBuf {
        let kernel = BuiltKernel::load(&self.path(&format!("kernels/{KERNEL}"))).unwrap();
        let image = BuiltImage {
            initramfs: self.path(&format!("images/{IMAGE}/initramfs.cpio")),
            key: IMAGE.to_owned(),
            record: self.path(&format!("images/{VERSIONS}")),
        };
        let file = self.dir.path().join("cache.tar.zst");
        let exported = export(&self.ctx, &[kernel], &[image], &file).await.unwrap();
        assert_eq!(exported.bytes, fs::metadata(&file).unwrap().len());
        assert_eq!(exported.entries.len(), 5);
        file
    }

    pub(super) async fn import(&self, file: &Path) -> Result<Imported> {
        import(&self.ctx, file).await
    }

    pub(super) fn prune(&self, policy: Policy) -> Pruned {
        prune(&self.ctx.cache, &policy, &self.ctx.cancel).unwrap()
    }

    /// Every name in the cache but locks, with what it is.
    pub(super) fn contents(&self) -> BTreeMap<PathBuf, String> {
        let mut contents = BTreeMap::new();
        let mut left = vec![PathBuf::new()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(self.ctx.cache.dir().join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let name = folder.join(entry.file_name());
                if NOTES.iter().any(|note| name.ends_with(note)) || name.starts_with("locks") {
                    continue;
                }
                let data = entry.metadata().unwrap();
                let what = if data.is_dir() {
                    left.push(name.clone());
                    "folder".to_owned()
                } else if data.is_symlink() {
                    format!("-> {}", fs::read_link(entry.path()).unwrap().display())
                } else {
                    let text = sha256_of(&entry.path()).unwrap();
                    // A record's time is that of its last use.
                    let record = name.components().count() == 2;
                    let time = if record { 0 } else { data.mtime() };
                    format!("{:o} {time} {text}", data.mode() & 0o7777)
                };
                contents.insert(name, what);
            }
        }
        contents
    }
}
