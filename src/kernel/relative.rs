// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel takes from a relative: a finished kernel of the same source, config and compiler
//! that has other patches, or that was made before an edit. For the first kernel of one's own tree
//! that is one of a source in the cache: which files they have in common is found by content.
//!
//! Its objects are copied, never linked: compilers and linkers write into the file that is there.
//! To make, the copy is the relative's own build folder, in which nothing is out of date but what
//! depends on the files that differ. That the new kernel has another release, by its key, would be
//! a difference, too: the configuration would be made anew, objtool be compiled for the name of its
//! folder, and with it what it checks. But keys have all the same length, so the new one is written
//! in place of the old one wherever that is, also in objects.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use memchr::memmem;
use tokio_util::sync::CancellationToken;

use super::tree::{Earlier, Stamp, is_equal, walk};
use super::{BUILD, BuiltKernel, MANIFEST, RELEASE_DIGITS, patches};
use crate::cache::{self, seal, write_atomically};
use crate::error::{Error, IoContext, Result};
use crate::files::read_regular;

/// The coarsest times that a file system keeps.
const TICK: Duration = Duration::from_secs(2);
/// The record of renewed files in an entry.
const RENEWED: &str = "renewed.json";
/// Its longest: an entry may have been imported.
const RENEWED_MAX: u64 = 1 << 26;

/// A kernel to take from.
#[derive(Debug, Clone)]
pub(super) struct Relative {
    /// The kernel.
    pub kernel: BuiltKernel,
    /// Files of its tree that are what they were in the user's own tree, and have another time.
    renewed: BTreeMap<PathBuf, Stamp>,
    /// Whether its build knows its release from what can be rewritten only.
    can_be_renamed: bool,
}

impl Relative {
    /// The most recent finished kernel of the family: of the same definition if there is one, since
    /// another one may have another series.
    pub fn closest(kernels: &Path, family: &str, definition: &str) -> Option<Self> {
        let modified = |kernel: &BuiltKernel| fs::metadata(kernel.dir.join(MANIFEST))?.modified();
        let mut relatives: Vec<_> = fs::read_dir(kernels)
            .ok()?
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(cache::is_key))
            .filter_map(|entry| BuiltKernel::load(&entry.path()))
            .filter(|kernel| kernel.family == family)
            .collect();
        relatives.sort_by_key(|kernel| (kernel.name == definition, modified(kernel).ok()));
        let whole = |kernel: &BuiltKernel| seal::damage(&kernel.dir).is_none();
        let kernel = relatives.into_iter().rev().find(whole)?;
        let config = fs::read_to_string(kernel.tree().join(BUILD).join(".config"));
        Some(Self {
            renewed: read_renewed(&kernel.dir),
            can_be_renamed: config.is_ok_and(|config| !hides_release(&config)),
            kernel,
        })
    }

    /// Its tree, for a clone of what it is a clone of; or, if it is not of this family, of another
    /// tree.
    pub fn earlier(&self, family: &str) -> Earlier<'_> {
        Earlier {
            tree: self.kernel.tree(),
            renewed: &self.renewed,
            foreign: self.kernel.family != family,
        }
    }

    /// Whether its configuration is also that of a kernel whose source differs in some files.
    pub fn shares_config(&self, different: &[PathBuf]) -> bool {
        self.can_be_renamed && !different.iter().any(|file| is_asked_by_kconfig(file))
    }

    /// Sees to it that make compiles what depends on those of `files` that differ from its own, and
    /// nothing else: they get a new time and are returned, the others are linked to its own. A patch
    /// that both kernels have makes no difference.
    pub fn renew_differences(
        &self,
        tree: &Path,
        files: BTreeSet<PathBuf>,
        now: SystemTime,
    ) -> Result<Vec<PathBuf>> {
        let mut different = Vec::new();
        for file in files {
            let (old, new) = (self.kernel.tree().join(&file), tree.join(&file));
            if is_equal(&old, &new) {
                fs::remove_file(&new).at("replace", &new)?;
                fs::hard_link(&old, &new).at("link", &new)?;
            } else {
                patches::renew(tree, &file, now)?;
                different.push(file);
            }
        }
        Ok(different)
    }

    /// Copies its objects to `build`, for the kernel with `key`, as they were before `now`.
    ///
    /// They may be dated in the future, if the clock was set back since they were made: what
    /// changes now, sources and config, must be later than all of them. Those of a finished build
    /// are all up to date, so which of them is older says nothing.
    pub fn copy_objects(
        &self,
        build: &Path,
        key: &str,
        now: SystemTime,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let objects = self.kernel.tree().join(BUILD);
        let keys = self
            .can_be_renamed
            .then(|| Keys::new(&self.kernel.key, key));
        let keys = keys.as_ref();
        walk(&objects, is_linked_anew, |folder, files| {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let (from, to) = (objects.join(folder), build.join(folder));
            fs::create_dir_all(&to).at("create", &to)?;
            for (name, entry) in files {
                let (from, to) = (from.join(name), to.join(name));
                if entry.file_type().at("read", &from)?.is_symlink() {
                    let target = fs::read_link(&from).at("read", &from)?;
                    symlink(target, &to).at("create", &to)?;
                } else {
                    copy_object(&from, &to, keys, now - TICK)?;
                }
            }
            Ok(())
        })
        .map(drop)
    }
}

/// Files that every link makes anew: a third of a build folder's bytes.
fn is_linked_anew(folder: &Path, name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    folder.as_os_str().is_empty()
        && (name == b"vmlinux"
            || name == b"vmlinux.unstripped"
            || name.starts_with(b".tmp_vmlinux"))
}

/// Whether something in a build has the release in a form that cannot be rewritten: compressed, or
/// signed.
fn hides_release(config: &str) -> bool {
    let hiding = ["IKCONFIG", "IKHEADERS", "MODULE_SIG"];
    let set = |line: &str| {
        line.strip_prefix("CONFIG_")?
            .strip_suffix("=y")
            .map(str::to_owned)
    };
    config
        .lines()
        .filter_map(set)
        .any(|option| hiding.contains(&&*option))
}

/// Whether a configuration may depend on what is in a file of the source.
fn is_asked_by_kconfig(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b"Kconfig") || name.ends_with(b".sh") || file.starts_with("scripts")
}

/// Puts one key in place of another: whole in names of folders, its beginning in releases.
struct Keys<'a> {
    old: &'a [u8],
    new: &'a [u8],
    finder: memmem::Finder<'a>,
}

impl<'a> Keys<'a> {
    fn new(old: &'a str, new: &'a str) -> Self {
        Self {
            old: old.as_bytes(),
            new: new.as_bytes(),
            finder: memmem::Finder::new(&old[..RELEASE_DIGITS]),
        }
    }

    /// Whether anything was replaced.
    fn replace(&self, data: &mut [u8]) -> bool {
        let mut from = 0;
        while let Some(found) = self.finder.find(&data[from..]) {
            let start = from + found;
            let whole = data[start..].starts_with(self.old);
            let end = start
                + if whole {
                    self.old.len()
                } else {
                    RELEASE_DIGITS
                };
            data[start..end].copy_from_slice(&self.new[..end - start]);
            from = end;
        }
        from > 0
    }
}

/// Copies a file with its mode and, if it is not later than `latest`, its time.
fn copy_object(from: &Path, to: &Path, keys: Option<&Keys<'_>>, latest: SystemTime) -> Result<()> {
    let mut source = File::open(from).at("open", from)?;
    let data = source.metadata().at("read", from)?;
    let mode = data.mode();
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(to);
    let mut target = created.at("copy the object", to)?;
    let mut text = Vec::new();
    if let Some(keys) = keys {
        source.read_to_end(&mut text).at("read", from)?;
        if keys.replace(&mut text) {
            target.write_all(&text).at("copy the object", to)?;
        } else {
            text.clear();
        }
    }
    if text.is_empty() {
        // By the kernel: file systems that can, share the blocks.
        source.rewind().at("read", from)?;
        std::io::copy(&mut source, &mut target).at("copy the object", to)?;
    }
    let time = data.modified().at("read", from)?;
    target
        .set_modified(time.min(latest))
        .at("copy the object", to)?;
    target
        .set_permissions(data.permissions())
        .at("copy the object", to)
}

/// Records which files of a tree are what they were in the user's own, and have another time.
/// Without it each would count as changed, and be compiled again, after every further edit.
pub(super) fn write_renewed(entry: &Path, files: &BTreeMap<PathBuf, Stamp>) -> Result<()> {
    let nameable = |(file, _): &(&PathBuf, &Stamp)| file.to_str().is_some();
    let files: BTreeMap<_, _> = files.iter().filter(nameable).collect();
    let json = serde_json::to_vec_pretty(&files)
        .map_err(|error| Error::lab(format!("cannot record the source's times: {error}")))?;
    write_atomically(&entry.join(RENEWED), &json)
}

/// No record is no error: all that differs is then compiled again.
fn read_renewed(entry: &Path) -> BTreeMap<PathBuf, Stamp> {
    let json = read_regular(&entry.join(RENEWED), RENEWED_MAX).unwrap_or_default();
    serde_json::from_slice(&json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef0123";
    const NEW: &str = "fedcba9876543210fedc";

    /// A relative in a folder, whose tree has some files.
    fn relative(dir: &Path, files: &[(&str, &str)]) -> Relative {
        for (name, text) in files {
            let path = dir.join("tree").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Relative {
            kernel: BuiltKernel {
                name: "x".to_owned(),
                key: OLD.to_owned(),
                release: "7.3.4-lab-0123456789ab".to_owned(),
                source: "x".to_owned(),
                family: "x".to_owned(),
                objects: 0,
                prebuilt: None,
                dir: dir.to_path_buf(),
            },
            renewed: BTreeMap::new(),
            can_be_renamed: true,
        }
    }

    fn modified(path: &Path) -> SystemTime {
        fs::metadata(path).unwrap().modified().unwrap()
    }

    #[test]
    fn objects_are_of_the_new_kernel_and_not_out_of_date() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("build/vmlinux", "linked"),
            ("build/.tmp_vmlinux1", "linked"),
            ("build/vmlinux.o", "object"),
            (
                "build/kernel/sys.o",
                "\0 7.3.4-lab-0123456789ab\0 0123456789abcdef0124",
            ),
            (
                "build/tools/.a.o.cmd",
                "gcc /kernels/work-0123456789abcdef0123/a.c",
            ),
        ];
        let relative = relative(dir.path(), &files);
        let (old, new) = (dir.path().join("tree/build"), dir.path().join("new"));
        symlink("..", old.join("source")).unwrap();
        let now = SystemTime::now();
        let early = now - Duration::from_secs(1000);
        for (file, time) in [("kernel/sys.o", early), ("vmlinux.o", now + TICK)] {
            let file = File::open(old.join(file)).unwrap();
            file.set_modified(time).unwrap();
        }
        let copied = relative.copy_objects(&new, NEW, now, &CancellationToken::new());
        copied.unwrap();
        let text = |name: &str| fs::read_to_string(new.join(name)).unwrap();
        assert_eq!(text("vmlinux.o"), "object");
        assert_eq!(
            text("kernel/sys.o"),
            "\0 7.3.4-lab-fedcba987654\0 fedcba987654cdef0124"
        );
        assert_eq!(
            text("tools/.a.o.cmd"),
            "gcc /kernels/work-fedcba9876543210fedc/a.c"
        );
        assert_eq!(modified(&new.join("kernel/sys.o")), early);
        assert_eq!(
            modified(&new.join("vmlinux.o")),
            now - TICK,
            "not the future"
        );
        assert_eq!(fs::read_link(new.join("source")).unwrap(), Path::new(".."));
        assert!(!new.join("vmlinux").exists() && !new.join(".tmp_vmlinux1").exists());
        let objects = fs::read_to_string(old.join("kernel/sys.o")).unwrap();
        assert!(
            objects.contains("0123456789ab"),
            "the relative is as it was"
        );
    }

    #[test]
    fn only_what_differs_gets_a_new_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("both.c", "patched"),
            ("patched.c", "text"),
            ("mode.sh", ""),
        ];
        let relative = relative(dir.path(), &files);
        let new = dir.path().join("new");
        fs::create_dir(&new).unwrap();
        for (name, text) in [
            ("both.c", "patched"),
            ("patched.c", "TEXT"),
            ("mode.sh", ""),
        ] {
            fs::write(new.join(name), text).unwrap();
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(new.join("mode.sh"), mode).unwrap();
        let later = SystemTime::now() + Duration::from_secs(1000);
        let names = ["both.c", "patched.c", "mode.sh", "removed.c"].map(PathBuf::from);
        let different = relative.renew_differences(&new, names.into(), later);
        let expected = ["mode.sh", "patched.c", "removed.c"].map(PathBuf::from);
        assert_eq!(different.unwrap(), expected);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let old = dir.path().join("tree");
        assert_eq!(inode(&new.join("both.c")), inode(&old.join("both.c")));
        assert_eq!(modified(&new.join("patched.c")), later);
        assert_eq!(modified(&new.join("mode.sh")), later);
        assert!(modified(&old.join("patched.c")) < later);
    }

    #[test]
    fn a_configuration_is_shared_unless_the_difference_may_matter_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut relative = relative(dir.path(), &[]);
        let shares = |relative: &Relative, file: &str| relative.shares_config(&[file.into()]);
        assert!(relative.shares_config(&[]));
        assert!(shares(&relative, "kernel/livepatch/core.c"));
        for file in [
            "kernel/livepatch/Kconfig",
            "kernel/Kconfig.hz",
            "scripts/cc.py",
            "a/x.sh",
        ] {
            assert!(!shares(&relative, file), "{file}");
        }
        let config = "CONFIG_IKCONFIG_PROC=y\n# CONFIG_MODULE_SIG is not set\n";
        assert!(!hides_release(config));
        assert!(hides_release(&format!("{config}CONFIG_IKCONFIG=y\n")));
        relative.can_be_renamed = false;
        assert!(!shares(&relative, "kernel/livepatch/core.c"));
    }

    #[test]
    fn the_closest_is_the_newest_of_its_definition() {
        let dir = tempfile::tempdir().unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let add = |age: u64, name: &str, family: &str| {
            let key = format!("0123456789abcdef012{age}");
            let entry = dir.path().join(&key);
            let mut kernel = relative(&entry, &[]).kernel;
            kernel.key.clone_from(&key);
            (kernel.name, kernel.family) = (name.to_owned(), family.to_owned());
            fs::create_dir(&entry).unwrap();
            let manifest = entry.join(MANIFEST);
            fs::write(&manifest, serde_json::to_vec(&kernel).unwrap()).unwrap();
            let file = File::open(manifest).unwrap();
            file.set_modified(time - Duration::from_secs(age)).unwrap();
            fs::write(entry.join("vmlinux"), "x").unwrap();
            seal::seal(&entry, &["vmlinux".to_owned()]).unwrap();
            entry
        };
        let closest = |definition: &str| {
            let found = Relative::closest(dir.path(), "f", definition);
            found.map(|relative| relative.kernel.dir)
        };
        add(0, "mine", "another");
        assert_eq!(closest("mine"), None);
        let other = add(1, "other", "f");
        assert_eq!(closest("mine"), Some(other));
        let newest = add(2, "mine", "f");
        let older = add(3, "mine", "f");
        assert_eq!(closest("mine"), Some(newest.clone()));
        fs::write(newest.join("vmlinux"), "y").unwrap();
        assert_eq!(closest("mine"), Some(older));
    }

    #[test]
    fn the_record_of_renewed_files_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_renewed(dir.path()), BTreeMap::new());
        let file = dir.path().join("a.c");
        fs::write(&file, "text").unwrap();
        let stamp = Stamp::of(&fs::metadata(&file).unwrap());
        let record = BTreeMap::from([(PathBuf::from("a.c"), stamp)]);
        write_renewed(dir.path(), &record).unwrap();
        assert_eq!(read_renewed(dir.path()), record);
    }
}
