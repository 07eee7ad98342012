// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that source patches change and that the kernel is built without: klp-build says nothing of
//! them, and makes a livepatch of the rest. They are found before it begins, by the objects and the
//! dependencies in the kernel's own build.
//!
//! A file for another architecture belongs to many fixes and to no kernel of this one: it is told.
//! A file that the configuration leaves out is an error, also if other files are compiled: a test of
//! half a fix would pass for a test of the fix.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::makefile::missing_options;
use super::patch::{Change, changes};
use crate::arch::{Arch, Toolchain};
use crate::cache::blocking;
use crate::context::Context;
use crate::error::{Blame, Error, Result};
use crate::kernel::BuiltKernel;
use crate::kernel::patches::Patch;

/// Folders of the source in which nothing is a kernel's code.
const NO_KERNEL: [&str; 4] = ["Documentation", "scripts", "tools", "usr"];

/// Why a file is in no object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// It is another architecture's.
    Foreign,
    /// These options are not set.
    Options(String),
    /// The patch adds it, and nothing builds it.
    NoRule,
    /// Its Makefile does not say.
    Unknown,
}

/// Makes sure that what the patches change is in the kernel. Returns what there is to say of files
/// that cannot be.
///
/// # Errors
///
/// `File` if the configuration leaves files out, with their names and the options.
pub(super) async fn check(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    livepatch: &str,
    patches: &[Patch],
) -> Result<Vec<String>> {
    let texts = patches
        .iter()
        .map(|patch| String::from_utf8_lossy(&patch.text));
    let changes: Vec<_> = texts.flat_map(|text| changes(&text)).collect();
    let tree = Tree::of(kernel, arch);
    let cancel = ctx.cancel.clone();
    let (sources, unbuilt) = blocking(move || {
        let sources = sources(&changes);
        let unbuilt = tree.unbuilt(&changes, &sources);
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        Ok((sources.len(), unbuilt))
    })
    .await?;
    judge(livepatch, arch, sources, unbuilt)
}

/// The files of the patches that are compiled, if anything compiles them. Headers are in the objects
/// of others.
fn sources(changes: &[Change]) -> Vec<PathBuf> {
    let new = changes.iter().filter_map(|change| change.new.clone());
    let is_source = |file: &PathBuf| {
        file.extension().is_some_and(|ending| ending == "c")
            && !NO_KERNEL.iter().any(|folder| file.starts_with(folder))
    };
    let mut sources: Vec<_> = new.filter(is_source).collect();
    sources.sort();
    sources.dedup();
    sources
}

fn judge(
    livepatch: &str,
    arch: Arch,
    sources: usize,
    unbuilt: Vec<(PathBuf, Why)>,
) -> Result<Vec<String>> {
    let is_foreign = |(_, why): &(PathBuf, Why)| *why == Why::Foreign;
    let (foreign, missing): (Vec<_>, Vec<_>) = unbuilt.into_iter().partition(is_foreign);
    let said = |(file, why): &(PathBuf, Why)| {
        let file = file.display();
        match why {
            Why::Foreign => format!("{file} is not in the livepatch: it is no file of {arch}'s"),
            Why::Options(options) => format!("{file} (needs {options})"),
            Why::NoRule => format!("{file} (new, and the patch adds it to no Makefile)"),
            Why::Unknown => format!("{file} (its Makefile does not say what it needs)"),
        }
    };
    let what = match &missing[..] {
        [] => return Ok(foreign.iter().map(said).collect()),
        [only] => format!(
            "livepatch {livepatch}: this kernel is built without {}",
            said(only)
        ),
        all => format!(
            "livepatch {livepatch}: this kernel is built without {} of the {sources} files of its \
             patches",
            all.len()
        ),
    };
    let mut error = Error::new(Blame::File, what);
    if missing.len() > 1 {
        error = error.evidence(&missing.iter().map(said).collect::<Vec<_>>().join("\n"));
    }
    let can_be_set = missing
        .iter()
        .any(|(_, why)| matches!(why, Why::Options(_)));
    let set = match can_be_set {
        true => "set the options in the kernel's config, or ",
        false => "",
    };
    Err(error.help(format!(
        "{set}take the files out of the patch (`filterdiff -x`)"
    )))
}

/// Where a kernel was built.
struct Tree {
    source: PathBuf,
    build: PathBuf,
    /// The folder below `arch` that it is built from.
    arch: &'static str,
    /// `.config`.
    config: String,
}

impl Tree {
    fn of(kernel: &BuiltKernel, arch: Arch) -> Self {
        Self {
            source: kernel.tree(),
            build: kernel.build_dir(),
            arch: match Toolchain::of(arch).kernel_arch {
                "x86_64" => "x86",
                same => same,
            },
            config: fs::read_to_string(kernel.config()).unwrap_or_default(),
        }
    }

    /// Those of the files that are in no object, and why.
    fn unbuilt(&self, changes: &[Change], sources: &[PathBuf]) -> Vec<(PathBuf, Why)> {
        // A kernel that has lost its objects would be built without all of them.
        if !self.build.join("init/main.o").is_file() {
            return Vec::new();
        }
        let has_no_object = |file: &&PathBuf| !self.build.join(file.with_extension("o")).is_file();
        let mut unbuilt: Vec<_> = sources.iter().filter(has_no_object).cloned().collect();
        if !unbuilt.is_empty() {
            // `kernel/sched/rt.c` is a part of `build_policy.c`.
            self.without_parts(&self.build, &mut unbuilt);
        }
        let why = |file: PathBuf| self.why(changes, &file).map(|why| (file, why));
        unbuilt.into_iter().filter_map(why).collect()
    }

    /// Takes away the files that are compiled as a part of others: make's notes of what an object was
    /// made from name them.
    fn without_parts(&self, folder: &Path, files: &mut Vec<PathBuf>) {
        // What cannot be read names nothing.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is = |ending: &str| path.extension().is_some_and(|it| it == ending);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.without_parts(&path, files);
            } else if is("cmd") && !files.is_empty() {
                let notes = fs::read(&path).unwrap_or_default();
                let notes = String::from_utf8_lossy(&notes);
                files.retain(|file| !names(&notes, file));
            }
        }
    }

    /// Why a file is in no object; `None` if the patches themselves may put it there.
    fn why(&self, changes: &[Change], file: &Path) -> Option<Why> {
        if let Ok(below) = file.strip_prefix("arch")
            && !below.starts_with(self.arch)
        {
            return Some(Why::Foreign);
        }
        let name = file.file_name()?.to_str()?;
        let object = Path::new(name).with_extension("o").display().to_string();
        let is_added_to = |change: &Change, word: &str| {
            let words = change
                .added
                .split(|c: char| c.is_whitespace() || "\"/,()".contains(c));
            change.new.is_some() && words.clone().any(|it| it == word)
        };
        let is_makefile = |change: &&Change| {
            let names = [Path::new("Makefile"), Path::new("Kbuild")];
            change
                .new
                .as_ref()
                .is_some_and(|file| names.iter().any(|name| file.ends_with(name)))
        };
        let makefile = |folder: &Path| self.makefile(changes, folder);
        let options = missing_options(file, makefile, |option| self.is_set(option));
        let added_by = |change: &Change| match is_makefile(&change) {
            true => is_added_to(change, &object),
            false => is_added_to(change, name),
        };
        match options {
            Some(options) => Some(Why::Options(options)),
            None if changes.iter().any(added_by) => None,
            None if is_new(changes, file) => Some(Why::NoRule),
            None => Some(Why::Unknown),
        }
    }

    /// A folder's rules, with those that the patches add.
    fn makefile(&self, changes: &[Change], folder: &Path) -> Option<String> {
        // Kbuild's own order.
        let names = ["Kbuild", "Makefile"].map(|name| folder.join(name));
        let texts = names.iter().map(|name| {
            let own = fs::read_to_string(self.source.join(name)).ok();
            let mut added = changes
                .iter()
                .filter(|change| change.new.as_ref() == Some(name));
            let added = added.next().map(|change| change.added.clone());
            (own.is_some() || added.is_some()).then(|| {
                [own, added]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("\n")
            })
        });
        texts.into_iter().flatten().next()
    }

    fn is_set(&self, option: &str) -> bool {
        let value = |line: &str| {
            line.strip_prefix(option)?
                .strip_prefix('=')
                .map(str::to_owned)
        };
        let mut values = self.config.lines().filter_map(value);
        values
            .next()
            .is_some_and(|value| value == "y" || value == "m")
    }
}

fn is_new(changes: &[Change], file: &Path) -> bool {
    let of_file = |change: &&Change| change.new.as_deref() == Some(file);
    changes
        .iter()
        .filter(of_file)
        .any(|change| change.old.is_none())
}

/// Whether make's notes on an object name a source file: `  ../kernel/sched/rt.c \`.
fn names(notes: &str, file: &Path) -> bool {
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    notes.match_indices(&format!("/{name}")).any(|(at, found)| {
        let after = notes[at + found.len()..].chars().next();
        let start = notes[..at]
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + 1);
        after.is_none_or(char::is_whitespace) && plain(&notes[start..at + found.len()]) == file
    })
}

/// A path from the build's folder, a child of the source's, as one of the source. An `#include` may
/// have gone up and down in it.
fn plain(path: &str) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            // Above the build is the source.
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A built kernel: `fs/proc.c` and `kernel/policy.c`, which includes `kernel/rt.c`.
    fn kernel() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("Kbuild", "obj-y += fs/\nobj-y += kernel/\nobj-y += net/\n"),
            (
                "fs/Makefile",
                "obj-y += proc.o\nobj-$(CONFIG_NEW) += off.o\n",
            ),
            ("kernel/Makefile", "obj-y += policy.o\n"),
            ("net/Makefile", "obj-$(CONFIG_IPV6) += ipv6/\n"),
            ("net/ipv6/Makefile", "obj-y += ping.o\n"),
            ("build/init/main.o", ""),
            ("build/fs/proc.o", ""),
            ("build/kernel/policy.o", ""),
            (
                "build/kernel/.policy.o.cmd",
                "deps_kernel/policy.o := \\\n  ../include/linux/rt.h \\\n  ../kernel/../kernel/rt.c \\\n",
            ),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree {
            source: dir.path().into(),
            build: dir.path().join("build"),
            arch: "x86",
            config: "# CONFIG_IPV6 is not set\nCONFIG_NET=y\nCONFIG_MAX=0\n".into(),
        };
        (dir, tree)
    }

    fn change(old: &str, new: &str, added: &str) -> Change {
        Change {
            old: (!old.is_empty()).then(|| old.into()),
            new: (!new.is_empty()).then(|| new.into()),
            added: added.into(),
        }
    }

    /// What comes of patches that change these files.
    fn checked(tree: &Tree, changes: &[Change]) -> std::result::Result<Vec<String>, Error> {
        let sources = sources(changes);
        let unbuilt = tree.unbuilt(changes, &sources);
        judge("fix", Arch::X86_64, sources.len(), unbuilt)
    }

    #[test]
    fn what_is_in_an_object_is_built_and_what_is_no_code_does_not_matter() {
        let (_dir, tree) = kernel();
        let same = |file: &str| change(file, file, "");
        let all = [
            "fs/proc.c",
            "kernel/rt.c",
            "kernel/rt.h",
            "net/ipv6/Kconfig",
            "tools/perf/x.c",
            "Documentation/x.c",
        ];
        assert_eq!(checked(&tree, &all.map(same)).unwrap(), [""; 0]);
        let foreign = [same("fs/proc.c"), same("arch/arm64/kvm/x.c")];
        assert_eq!(
            checked(&tree, &foreign).unwrap(),
            ["arch/arm64/kvm/x.c is not in the livepatch: it is no file of x86_64's"]
        );
        assert_eq!(
            checked(&tree, &[change("net/ipv6/ping.c", "", "")]).unwrap(),
            [""; 0]
        );
    }

    #[test]
    fn what_is_not_built_is_an_error_with_the_option() {
        let (_dir, tree) = kernel();
        let same = |file: &str| change(file, file, "");
        let error = checked(&tree, &[same("net/ipv6/ping.c")]).unwrap_err();
        assert_eq!(
            (error.blame, &*error.what),
            (
                Blame::File,
                "livepatch fix: this kernel is built without net/ipv6/ping.c (needs CONFIG_IPV6)"
            )
        );
        // Half a fix is no fix either.
        let files = ["fs/proc.c", "net/ipv6/ping.c", "fs/off.c", "fs/unknown.c"];
        let error = checked(&tree, &files.map(same)).unwrap_err();
        assert_eq!(
            error.what,
            "livepatch fix: this kernel is built without 3 of the 4 files of its patches"
        );
        assert_eq!(
            error.evidence,
            [
                "fs/off.c (needs CONFIG_NEW)",
                "fs/unknown.c (its Makefile does not say what it needs)",
                "net/ipv6/ping.c (needs CONFIG_IPV6)",
            ]
        );
    }

    #[test]
    fn of_a_kernel_without_objects_nothing_is_known() {
        let (dir, tree) = kernel();
        fs::remove_dir_all(dir.path().join("build")).unwrap();
        let file = "net/ipv6/ping.c";
        assert_eq!(checked(&tree, &[change(file, file, "")]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_new_file_is_built_if_the_patch_says_so() {
        let (_dir, tree) = kernel();
        let new = change("", "fs/new.c", "int x;\n");
        let with =
            |file: &str, added: &str| checked(&tree, &[new.clone(), change(file, file, added)]);
        assert!(with("fs/Makefile", "obj-y += new.o\n").is_ok());
        assert!(with("fs/Makefile", "\tnew.o other.o \\\n").is_ok());
        assert!(with("fs/proc.c", "#include \"new.c\"\n").is_ok());
        let error = with("fs/Makefile", "obj-$(CONFIG_OFF) += new.o\n").unwrap_err();
        assert!(
            error.what.ends_with("fs/new.c (needs CONFIG_OFF)"),
            "{error}"
        );
        let error = with("fs/Makefile", "obj-y += renew.o\n").unwrap_err();
        assert!(
            error
                .what
                .ends_with("(new, and the patch adds it to no Makefile)"),
            "{error}"
        );
    }

    #[test]
    fn a_path_of_a_build_is_one_of_the_source() {
        let file = Path::new("kernel/sched/rt.c");
        assert!(names("  ../kernel/sched/rt.c \\\n", file));
        assert!(names("x ../kernel/sched/../sched/rt.c", file));
        for other in [
            "  ../kernel/rt.c \\",
            "  ../kernel/sched/rt.c.x",
            "  ../kernel/sched/xrt.c ",
        ] {
            assert!(!names(other, file), "{other}");
        }
    }
}
