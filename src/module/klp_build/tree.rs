// SPDX-License-Identifier: MIT OR Apache-2.0
//! The copy of a kernel's tree that klp-build works in: making it, and mending it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cache::{self, blocking, write_atomically};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::kernel::tree::{clone_tree, is_same, source_files};
use crate::kernel::{BUILD, BuiltKernel};

/// Where klp-build keeps the original build, in its tree.
const KLP_TMP: &str = "klp-tmp";
/// klp-build's own mark, in its tree, that the original build is complete.
const ORIGINAL: &str = "klp-tmp/1-orig/.complete";
/// How often to look whether the survivors of a killed lab have gone.
const SURVIVORS_POLL: Duration = Duration::from_millis(200);

/// The copy of a kernel's tree that klp-build works in.
pub(super) struct PrivateTree {
    dir: PathBuf,
    /// Where ccache keeps what all of them have compiled.
    pub(super) objects: PathBuf,
}

impl PrivateTree {
    pub(super) fn of(ctx: &Context, kernel: &BuiltKernel) -> Result<Self> {
        let private = Self {
            dir: ctx.cache.kind("klp")?.join(&kernel.key),
            objects: ctx.cache.kind("ccache")?,
        };
        cache::mark_used(&private.dir);
        Ok(private)
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// There while klp-build runs, and after it was interrupted. It holds the names of the files that
    /// the patches touch, and every process of that klp-build has it locked.
    pub(super) fn running(&self) -> PathBuf {
        self.dir.join("running")
    }

    pub(super) fn has_original(&self) -> bool {
        self.tree().join(ORIGINAL).is_file()
    }

    /// Whether what is patched now would look older than its object, and what an interrupted
    /// klp-build has made older than the original build.
    fn clock_was_set_back(&self) -> bool {
        let now = SystemTime::now();
        let made = [self.running(), self.tree().join(ORIGINAL)];
        made.iter()
            .any(|file| modified(file).is_ok_and(|time| time > now))
    }

    /// Makes the copy, or mends what an interrupted klp-build left behind.
    pub(super) async fn prepare(&self, ctx: &Context, kernel: &BuiltKernel) -> Result<()> {
        let unclean = self.running().exists();
        if unclean {
            self.wait_for_survivors(ctx).await?;
        }
        if !self.has_original() || self.clock_was_set_back() {
            // klp-build cannot resume an original build: it begins with `make clean`.
            return self.make(ctx, kernel).await;
        }
        if !unclean {
            return Ok(());
        }
        let mut phase = ctx
            .events
            .phase("mend what an interrupted klp-build left behind");
        phase.progress(0, None, "looking for changed files");
        self.mend(kernel).await?;
        phase.done("mended what an interrupted klp-build left behind");
        Ok(())
    }

    /// Marks the tree as one in which klp-build runs, with the files that its patches touch.
    pub(super) fn begin<'a>(&self, touched: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
        let touched: String = touched
            .map(|file| format!("{}\n", file.display()))
            .collect();
        write_atomically(&self.running(), touched.as_bytes())
    }

    /// klp-build has ended by itself, and well.
    pub(super) fn succeeded(&self) -> Result<()> {
        let running = self.running();
        fs::remove_file(&running).at("remove", &running)
    }

    /// klp-build has ended by itself, and failed. It reverts its patches then too, but does not say
    /// whether it could.
    pub(super) async fn failed(&self, ctx: &Context, kernel: &BuiltKernel) -> Result<()> {
        self.wait_for_survivors(ctx).await?;
        match self.has_original() {
            true => self.mend(kernel).await,
            // It is made anew.
            false => self.succeeded(),
        }
    }

    /// Gives the tree its sources again, and no object that may hold the code of patches.
    async fn mend(&self, kernel: &BuiltKernel) -> Result<()> {
        let (running, original) = (self.running(), self.tree().join(ORIGINAL));
        let (from, to) = (kernel.tree(), self.tree());
        blocking(move || {
            let touched = fs::read_to_string(&running).at("read", &running)?;
            // A first klp-build that failed later on made all objects, and its original is good.
            let started = modified(&running)?.max(modified(&original)?);
            remove_objects(&to, started)?;
            restore(&from, &to, touched.lines().map(Path::new))?;
            remove_if_there(&running)
        })
        .await
    }

    async fn wait_for_survivors(&self, ctx: &Context) -> Result<()> {
        let path = self.running();
        let running = File::open(&path).at("open", &path)?;
        let mut told = false;
        loop {
            match running.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error).at("lock", &path),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                ctx.events.note("waiting for the end of a killed klp-build");
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(SURVIVORS_POLL) => {}
                () = ctx.cancel.cancelled() => return Err(Error::interrupted()),
            }
        }
    }

    async fn make(&self, ctx: &Context, kernel: &BuiltKernel) -> Result<()> {
        let phase = ctx
            .events
            .phase(format!("copy the tree of {} for klp-build", kernel.release));
        let staging = cache::staging_dir(&self.dir)?;
        let (from, to) = (kernel.tree(), staging.path().join("tree"));
        let (old, cancel) = (self.dir.clone(), ctx.cancel.clone());
        blocking(move || {
            if old.exists() {
                fs::remove_dir_all(&old).at("remove", &old)?;
            }
            clone_tree(&from, &to, true, None, &cancel)?;
            let config = from.join(BUILD).join(".config");
            fs::copy(&config, to.join(".config")).at("copy", &config)?;
            Ok(())
        })
        .await?;
        cache::publish(staging, &self.dir)?;
        phase.done(format!(
            "copied the tree of {} for klp-build",
            kernel.release
        ));
        Ok(())
    }
}

/// Removes the objects that were made at or after `started`: they may hold the code of patches, and
/// a killed compiler leaves half an object, which make takes for a new one.
fn remove_objects(tree: &Path, started: SystemTime) -> Result<()> {
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let path = entry.at("read", &folder)?.path();
            let data = fs::symlink_metadata(&path).at("read", &path)?;
            if data.is_dir() && path != tree.join(KLP_TMP) {
                folders.push(path);
            } else if data.is_file() && is_object(&path) && modified(&path)? >= started {
                remove_if_there(&path)?;
            }
        }
    }
    Ok(())
}

fn is_object(path: &Path) -> bool {
    let endings = ["o", "a", "ko", "mod", "order", "symvers"];
    let ending = path.extension().unwrap_or_default();
    endings.iter().any(|&one| ending == one) || path.ends_with("vmlinux")
}

fn modified(path: &Path) -> Result<SystemTime> {
    fs::metadata(path)
        .and_then(|data| data.modified())
        .at("read", path)
}

/// Gives each file of `to` that differs from that in `from` its text, and a new time so that make
/// compiles it again; removes the files of `touched` that are not in `from`.
fn restore<'a>(from: &Path, to: &Path, touched: impl Iterator<Item = &'a Path>) -> Result<()> {
    for file in source_files(from)? {
        let (original, copy) = (from.join(&file), to.join(&file));
        let data = fs::symlink_metadata(&original).at("read", &original)?;
        if !data.is_file() || is_same(&copy, &data) {
            continue;
        }
        let text = fs::read(&original).at("read", &original)?;
        // Patched and reverted, by this klp-build or an earlier one.
        if fs::read(&copy).is_ok_and(|copy| copy == text) {
            continue;
        }
        // Written in place, it could be written through a link.
        remove_if_there(&copy)?;
        if let Some(parent) = copy.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        fs::write(&copy, text).at("write", &copy)?;
        fs::set_permissions(&copy, data.permissions()).at("write", &copy)?;
    }
    for file in touched {
        if !from.join(file).exists() {
            remove_if_there(&to.join(file))?;
        }
    }
    let stash = to.join(KLP_TMP).join("stash");
    if stash.exists() {
        fs::remove_dir_all(&stash).at("remove", &stash)?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).at("replace", path)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn what_klp_build_left_behind_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("kernel"), dir.path().join("private"));
        fs::create_dir(&from).unwrap();
        for name in ["same.c", "patched.c", "reverted.c", "deleted.c"] {
            fs::write(from.join(name), name).unwrap();
        }
        clone_tree(&from, &to, true, None, &CancellationToken::new()).unwrap();
        for (name, text) in [
            ("patched.c", "patched"),
            ("reverted.c", "reverted.c"),
            ("added.c", ""),
        ] {
            remove_if_there(&to.join(name)).unwrap();
            fs::write(to.join(name), text).unwrap();
        }
        fs::remove_file(to.join("deleted.c")).unwrap();
        fs::create_dir_all(to.join("klp-tmp/stash/scripts")).unwrap();
        let time = |name: &str| modified(&to.join(name)).unwrap();
        let (patched, reverted) = (time("patched.c"), time("reverted.c"));
        std::thread::sleep(Duration::from_millis(20));
        let touched = ["added.c", "deleted.c", "patched.c", "never/there.c"];
        restore(&from, &to, touched.iter().map(Path::new)).unwrap();
        let text = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!(text("patched.c"), "patched.c");
        assert_eq!(text("deleted.c"), "deleted.c");
        assert!(!to.join("added.c").exists() && !to.join("klp-tmp/stash").exists());
        assert!(time("patched.c") > patched);
        assert_eq!(time("reverted.c"), reverted, "nothing to compile again");
        let inode = |dir: &Path| fs::metadata(dir.join("same.c")).unwrap().ino();
        assert_eq!(inode(&from), inode(&to));
    }

    #[test]
    fn only_the_objects_of_the_failed_build_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path();
        for folder in ["fs", "klp-tmp"] {
            fs::create_dir(tree.join(folder)).unwrap();
        }
        let write = |name: &str| fs::write(tree.join(name), "").unwrap();
        write("fs/old.o");
        std::thread::sleep(Duration::from_millis(20));
        for name in [
            "running",
            "fs/new.o",
            "fs/new.c",
            "vmlinux",
            "klp-tmp/kept.o",
        ] {
            write(name);
        }
        remove_objects(tree, modified(&tree.join("running")).unwrap()).unwrap();
        for kept in ["fs/old.o", "fs/new.c", "klp-tmp/kept.o"] {
            assert!(tree.join(kept).exists(), "{kept}");
        }
        for removed in ["fs/new.o", "vmlinux"] {
            assert!(!tree.join(removed).exists(), "{removed}");
        }
    }
}
