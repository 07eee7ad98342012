// SPDX-License-Identifier: MIT OR Apache-2.0
//! Source trees: which of a tree's files are source, what identifies them, and cloning a tree.
//!
//! A tree has about 100 000 files, and all that is done here is done to each: so a tree is walked
//! by as many threads as there are CPUs, a folder at a time.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, open, statat};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::cache::{KeyBuilder, sha256_of};
use crate::error::{Error, IoContext, Result};

/// A file and its name. Pipes and the like are no files here: whoever opened a pipe would wait for
/// its other end.
type Named = (OsString, DirEntry);

/// Calls `visit` for each folder of a tree, a parent before its children, with the folder's path
/// relative to the tree and its files by name; returns what it made of them, sorted by folder. What `skips` says of a
/// folder and a name in it is left out, with all that is below.
pub(super) fn walk<T: Send>(
    tree: &Path,
    skips: impl Fn(&Path, &OsStr) -> bool + Sync,
    visit: impl Fn(&Path, &[Named]) -> Result<T> + Sync,
) -> Result<Vec<(PathBuf, T)>> {
    let queue = Queue::default();
    queue.lock().folders.push(PathBuf::new());
    let work = || -> Result<Vec<(PathBuf, T)>> {
        let mut made = Vec::new();
        while let Some(mut visited) = queue.next() {
            let (files, folders) = read(&tree.join(&visited.folder), &visited.folder, &skips)?;
            let result = visit(&visited.folder, &files)?;
            visited.inside = folders;
            made.push((visited.folder.clone(), result));
        }
        Ok(made)
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| {
            let result = worker.join();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(all)
}

/// The files and the folders of a folder.
fn read(
    path: &Path,
    folder: &Path,
    skips: impl Fn(&Path, &OsStr) -> bool,
) -> Result<(Vec<Named>, Vec<PathBuf>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).at("read", path)? {
        let entry = entry.at("read", path)?;
        let name = entry.file_name();
        if skips(folder, &name) {
            continue;
        }
        let kind = entry.file_type().at("read", path)?;
        if kind.is_dir() {
            folders.push(folder.join(name));
        } else if kind.is_file() || kind.is_symlink() {
            files.push((name, entry));
        }
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((files, folders))
}

/// The folders that are still to be visited.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    folders: Vec<PathBuf>,
    /// How many folders are being visited, each of which may have others inside.
    visited: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next folder; waits as long as some may still be found.
    fn next(&self) -> Option<Visited<'_>> {
        let mut waiting = self.lock();
        loop {
            if let Some(folder) = waiting.folders.pop() {
                waiting.visited += 1;
                return Some(Visited {
                    queue: self,
                    folder,
                    inside: Vec::new(),
                });
            }
            if waiting.visited == 0 {
                return None;
            }
            let changed = self.changed.wait(waiting);
            waiting = changed.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A folder while it is visited. Its end, in whatever way it comes, lets the others go on.
struct Visited<'a> {
    queue: &'a Queue,
    folder: PathBuf,
    inside: Vec<PathBuf>,
}

impl Drop for Visited<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.folders.append(&mut self.inside);
        waiting.visited -= 1;
        self.queue.changed.notify_all();
    }
}

/// Whether it is what `make mrproper` would remove, as far as it would disturb a build elsewhere,
/// or git's own folder: a tree that has been built in can be used.
fn is_build_product(folder: &Path, name: &OsStr) -> bool {
    let endings = [
        ".o", ".a", ".ko", ".cmd", ".mod", ".mod.c", ".order", ".symvers",
    ];
    let at_the_top = [
        ".git",
        "build",
        ".config",
        ".config.old",
        "vmlinux",
        "System.map",
        ".version",
        "source",
    ];
    let bytes = name.as_encoded_bytes();
    let is = |names: &[&str]| names.iter().any(|one| name == *one);
    endings.iter().any(|end| bytes.ends_with(end.as_bytes()))
        || folder.as_os_str().is_empty() && is(&at_the_top)
        || is(&["config", "generated"]) && folder == Path::new("include")
        || is(&["generated"]) && folder.starts_with("arch") && folder.ends_with("include")
}

/// The files of a tree that are source, sorted, relative.
///
/// # Errors
///
/// The tree cannot be read.
pub fn source_files(tree: &Path) -> Result<Vec<PathBuf>> {
    let folders = walk(tree, is_build_product, |folder, files| {
        let paths = files.iter().map(|(name, _)| folder.join(name));
        Ok(paths.collect::<Vec<_>>())
    })?;
    let mut files: Vec<_> = folders.into_iter().flat_map(|(_, files)| files).collect();
    files.sort();
    Ok(files)
}

/// What make knows a file by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    length: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(super) fn of(data: &Metadata) -> Self {
        Self {
            length: data.len(),
            seconds: data.mtime(),
            nanoseconds: data.mtime_nsec(),
        }
    }
}

/// Identifies a tree by the names, sizes and times of its source files. A call to the kernel for
/// each is what this takes; less would miss what an editor writes in place.
pub(super) fn identify(tree: &Path) -> Result<String> {
    let folders = walk(tree, is_build_product, |folder, files| {
        let mut key = KeyBuilder::new("folder-1");
        for (name, entry) in files {
            let stamp = Stamp::of(&entry.metadata().at("read", &folder.join(name))?);
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&stamp.length.to_le_bytes());
            bytes[8..16].copy_from_slice(&stamp.seconds.to_le_bytes());
            bytes[16..].copy_from_slice(&stamp.nanoseconds.to_le_bytes());
            key.part(&name.to_string_lossy(), &bytes);
        }
        Ok((!files.is_empty()).then(|| key.finish()))
    })?;
    let mut key = KeyBuilder::new("path-2");
    for (folder, files) in folders {
        if let Some(files) = files {
            key.part(&folder.to_string_lossy(), files.as_bytes());
        }
    }
    Ok(key.finish())
}

/// The sum of all source files of a tree.
pub(super) fn sum(tree: &Path) -> Result<String> {
    let folders = walk(tree, is_build_product, |folder, files| {
        let content = |(name, entry): &Named| {
            let path = tree.join(folder).join(name);
            let content = if entry.file_type().at("read", &path)?.is_symlink() {
                let target = fs::read_link(&path).at("read", &path)?;
                target.into_os_string().into_encoded_bytes()
            } else {
                sha256_of(&path)?.into_bytes()
            };
            Ok((folder.join(name), content))
        };
        files.iter().map(content).collect::<Result<Vec<_>>>()
    })?;
    let mut files: Vec<_> = folders.into_iter().flat_map(|(_, files)| files).collect();
    files.sort();
    let mut key = KeyBuilder::new("source-sum-1");
    for (file, content) in files {
        key.part(&file.to_string_lossy(), &content);
    }
    Ok(key.finish())
}

/// An earlier clone of the same tree, or of one that differs little.
#[derive(Debug)]
pub(crate) struct Earlier<'a> {
    /// The tree.
    pub tree: PathBuf,
    /// Those of its files that are what they were in the original, and have another time; and what
    /// the original had.
    pub renewed: &'a BTreeMap<PathBuf, Stamp>,
    /// Whether it is a clone of another tree: a file of the same size and time need not be the same
    /// then, and is compared.
    pub foreign: bool,
}

/// What a clone has of an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Cloned {
    /// Files that the earlier one has not, or not so.
    pub changed: BTreeMap<PathBuf, Stamp>,
    /// Files that were linked from there, and are in its [`Earlier::renewed`].
    pub renewed: BTreeMap<PathBuf, Stamp>,
}

/// Clones the source files of a tree. An immutable one is linked to. Of any other, files are
/// copied with their times; but what has not changed since an earlier clone is linked from there.
pub(crate) fn clone_tree(
    from: &Path,
    to: &Path,
    immutable: bool,
    earlier: Option<Earlier<'_>>,
    cancel: &CancellationToken,
) -> Result<Cloned> {
    let folders = walk(from, is_build_product, |folder, files| {
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let (source, target) = (from.join(folder), to.join(folder));
        fs::create_dir_all(&target).at("create", &target)?;
        let (from, to) = (handle(&source)?, handle(&target)?);
        let earlier = earlier
            .as_ref()
            .and_then(|it| Some((handle(&it.tree.join(folder)).ok()?, it)));
        let mut cloned = Cloned::default();
        for (name, entry) in files {
            let (source, target) = (source.join(name), target.join(name));
            let data = entry.metadata().at("read", &source)?;
            if data.is_symlink() {
                let to = fs::read_link(&source).at("read", &source)?;
                symlink(to, &target).at("create", &target)?;
                continue;
            }
            let path = folder.join(name);
            let stamp = Stamp::of(&data);
            let unchanged = earlier.as_ref().filter(|(dir, earlier)| {
                let related = !earlier.foreign;
                if related && is_like(dir, name, &data) {
                    return true;
                }
                // Also what git has checked out anew is often what it was.
                let renewed = related && earlier.renewed.get(&path) == Some(&stamp)
                    || !immutable && is_equal(&earlier.tree.join(&path), &source);
                // An immutable original is linked to, and has its own time again.
                if renewed && !immutable {
                    cloned.renewed.insert(path.clone(), stamp);
                }
                renewed
            });
            let link = |dir: &OwnedFd| {
                let linked = linkat(dir, name, &to, name, AtFlags::empty());
                linked.map_err(std::io::Error::from).at("link", &target)
            };
            match unchanged {
                _ if immutable => link(&from)?,
                Some((earlier, _)) => link(earlier)?,
                None => copy(&source, &target, &data)?,
            }
            if unchanged.is_none() {
                cloned.changed.insert(path, stamp);
            }
        }
        Ok(cloned)
    })?;
    let mut all = Cloned::default();
    for (_, cloned) in folders {
        // `append` would build the whole map anew, for each of some thousand folders.
        all.changed.extend(cloned.changed);
        all.renewed.extend(cloned.renewed);
    }
    Ok(all)
}

fn handle(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = open(folder, flags, Mode::empty());
    opened.map_err(std::io::Error::from).at("read", folder)
}

fn copy(source: &Path, target: &Path, data: &Metadata) -> Result<()> {
    fs::copy(source, target).at("copy", source)?;
    let time = data.modified().at("read", source)?;
    // The owner may set times through any descriptor, also of a read-only file.
    let file = File::open(target).at("open", target)?;
    file.set_modified(time).at("write", target)
}

/// Whether the file in a folder is the one with `data`, or a faithful copy of it.
fn is_like(folder: &OwnedFd, name: &OsStr, data: &Metadata) -> bool {
    let Ok(other) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    let stamp = Stamp {
        length: u64::try_from(other.st_size).unwrap_or_default(),
        seconds: other.st_mtime as _,
        nanoseconds: other.st_mtime_nsec as _,
    };
    FileType::from_raw_mode(other.st_mode).is_file()
        && ((other.st_dev, other.st_ino) == (data.dev(), data.ino()) || stamp == Stamp::of(data))
}

/// Whether two files have the same content and mode.
pub(super) fn is_equal(old: &Path, new: &Path) -> bool {
    let data = |path| {
        fs::symlink_metadata(path)
            .ok()
            .filter(fs::Metadata::is_file)
    };
    let (Some(one), Some(other)) = (data(old), data(new)) else {
        return false;
    };
    let content = |path| fs::read(path).ok();
    (one.len(), one.mode()) == (other.len(), other.mode())
        && content(old).is_some_and(|text| Some(text) == content(new))
}

/// Whether the file at `path` is the one with `data`, or a faithful copy of it.
pub(crate) fn is_same(path: &Path, data: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|other| {
        (other.dev(), other.ino()) == (data.dev(), data.ino())
            || Stamp::of(&other) == Stamp::of(data)
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn build_products_of_a_users_tree_are_not_source() {
        let skips = |path: &str| {
            let path = Path::new(path);
            is_build_product(path.parent().unwrap(), path.file_name().unwrap())
        };
        for product in [
            "kernel/fork.o",
            ".config",
            "arch/x86/include/generated",
            "include/config",
            ".git",
        ] {
            assert!(skips(product), "{product}");
        }
        for source in [
            "kernel/fork.c",
            "include/linux/livepatch.h",
            "Makefile",
            "tools/build",
            "drivers/config",
        ] {
            assert!(!skips(source), "{source}");
        }
    }

    /// A tree with some files, all of the same time.
    fn tree(dir: &Path, files: &[&str]) -> SystemTime {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for name in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            File::open(path).unwrap().set_modified(time).unwrap();
        }
        time
    }

    #[test]
    fn files_are_sorted_by_path_and_summed_in_that_order() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a-b/c", "a/b.c", "a/b/d", "a.c", "z"];
        tree(dir.path(), &names);
        tree(dir.path(), &["vmlinux", "a/b.o"]);
        symlink("a.c", dir.path().join("link")).unwrap();
        let mut sorted: Vec<_> = names.iter().map(PathBuf::from).collect();
        sorted.push("link".into());
        sorted.sort();
        assert_eq!(source_files(dir.path()).unwrap(), sorted);
        let mut key = KeyBuilder::new("source-sum-1");
        for file in sorted {
            let content = match file.to_str().unwrap() {
                "link" => "a.c".to_owned(),
                name => sha256_of(&dir.path().join(name)).unwrap(),
            };
            key.part(&file.to_string_lossy(), content.as_bytes());
        }
        assert_eq!(sum(dir.path()).unwrap(), key.finish());
    }

    #[test]
    fn a_tree_is_another_after_each_edit() {
        let dir = tempfile::tempdir().unwrap();
        let time = tree(dir.path(), &["a.c", "a/b.c", "a/c.c"]);
        let mut seen = vec![identify(dir.path()).unwrap()];
        assert_eq!(identify(dir.path()).unwrap(), seen[0]);
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("a/b.o"), "object").unwrap();
        assert_eq!(identify(dir.path()).unwrap(), seen[0]);
        let mut is_new = |what: &str| {
            let id = identify(dir.path()).unwrap();
            assert!(!seen.contains(&id), "{what}");
            seen.push(id);
        };
        let b = dir.path().join("a/b.c");
        let date = |time| File::open(&b).unwrap().set_modified(time).unwrap();
        date(time + Duration::from_nanos(1000));
        is_new("a time");
        fs::write(&b, "longer than it was").unwrap();
        date(time);
        is_new("a size");
        fs::rename(&b, dir.path().join("b.c")).unwrap();
        is_new("another folder");
        fs::remove_file(dir.path().join("b.c")).unwrap();
        is_new("removed");
    }

    #[test]
    fn an_own_tree_is_copied_but_for_what_an_earlier_clone_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let cancel = CancellationToken::new();
        let time = tree(
            &path("own"),
            &["same.c", "edited.c", "touched.c", "x/renewed.c", "x/new.c"],
        );
        tree(
            &path("old"),
            &["same.c", "edited.c", "touched.c", "x/renewed.c"],
        );
        for (file, later) in [("own/edited.c", 5), ("old/x/renewed.c", 7)] {
            let file = File::open(path(file)).unwrap();
            file.set_modified(time + Duration::from_secs(later))
                .unwrap();
        }
        fs::write(path("own/edited.c"), "edited").unwrap();
        let touched = File::open(path("own/touched.c")).unwrap();
        touched.set_modified(time + Duration::from_secs(9)).unwrap();
        let stamp = |file: &str| Stamp::of(&fs::metadata(path(file)).unwrap());
        let renewed = BTreeMap::from([("x/renewed.c".into(), stamp("own/x/renewed.c"))]);
        let earlier = Earlier {
            tree: path("old"),
            renewed: &renewed,
            foreign: false,
        };
        let (own, new) = (path("own"), path("new"));
        let cloned = clone_tree(&own, &new, false, Some(earlier), &cancel).unwrap();
        let changed = ["edited.c", "x/new.c"].map(PathBuf::from);
        assert!(cloned.changed.keys().eq(&changed), "{cloned:?}");
        let touched = BTreeMap::from([("touched.c".into(), stamp("own/touched.c"))]);
        assert_eq!(
            cloned.renewed,
            renewed.clone().into_iter().chain(touched).collect()
        );
        let inode = |file: &str| fs::metadata(path(file)).unwrap().ino();
        for file in ["same.c", "touched.c", "x/renewed.c"] {
            assert_eq!(inode(&format!("new/{file}")), inode(&format!("old/{file}")));
        }
        for file in changed {
            let file = file.display();
            assert_ne!(inode(&format!("new/{file}")), inode(&format!("own/{file}")));
            assert_eq!(stamp(&format!("new/{file}")), stamp(&format!("own/{file}")));
        }
        // An immutable one is linked to, whatever an earlier clone has.
        let earlier = Earlier {
            tree: path("old"),
            renewed: &renewed,
            foreign: false,
        };
        let cloned = clone_tree(&own, &path("links"), true, Some(earlier), &cancel).unwrap();
        assert_eq!((cloned.changed.len(), cloned.renewed.len()), (3, 0));
        // Of another tree, what has the same size and time is not trusted.
        fs::write(path("old/same.c"), "SAME.C").unwrap();
        File::open(path("old/same.c"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        let earlier = Earlier {
            tree: path("old"),
            renewed: &renewed,
            foreign: true,
        };
        let cloned = clone_tree(&own, &path("foreign"), false, Some(earlier), &cancel).unwrap();
        let changed = ["edited.c", "same.c", "x/new.c"].map(PathBuf::from);
        assert!(cloned.changed.keys().eq(&changed), "{cloned:?}");
        assert_eq!(cloned.renewed.len(), 2);
        for file in source_files(&own).unwrap() {
            let file = file.display();
            assert_eq!(
                inode(&format!("links/{file}")),
                inode(&format!("own/{file}"))
            );
        }
        cancel.cancel();
        assert!(clone_tree(&own, &path("cancelled"), true, None, &cancel).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_read_ends_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["a/b/c", "d/e/f"]);
        let visit = |folder: &Path, _: &[Named]| match folder.ends_with("b") {
            true => Err(Error::interrupted()),
            false => Ok(()),
        };
        assert!(walk(dir.path(), |_, _| false, visit).is_err());
        let all = walk(dir.path(), |_, _| false, |_, files| Ok(files.len())).unwrap();
        let counts: Vec<_> = all
            .iter()
            .map(|(path, n)| (path.to_str().unwrap(), *n))
            .collect();
        assert_eq!(
            counts,
            [("", 0), ("a", 0), ("a/b", 1), ("d", 0), ("d/e", 1)]
        );
    }
}
