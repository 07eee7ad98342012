// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bundle.json`, a bundle's first member: what the others are. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{PROJECT, RUN};
use crate::runner::manner::Manner;
use crate::runner::origin::{self, CONFIG, INITRAMFS, KERNEL, Origin};
use crate::size;
use crate::visible::is_hidden;

/// The member's name.
pub const NAME: &str = "bundle.json";
/// The version of a bundle's layout.
pub const VERSION: u32 = 1;
/// Bytes of all files. A kernel and an initramfs have some 25 MiB, kernels with everything in them
/// ten times as much.
pub const BYTES_MAX: u64 = 2 << 30;
/// Files of a bundle at most.
pub const FILES_MAX: usize = 10_000;
/// Bytes of a file that was not built.
pub const TEXT_MAX: u64 = 64 << 20;
/// Bytes of a path: more would not fit behind the folders that it is unpacked to.
const PATH_MAX: usize = 1000;
/// Bytes of a part of a path.
const PART_MAX: usize = 255;

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The version of the lab that wrote it.
    pub lab: String,
    /// What the run was made from.
    pub origin: Origin,
    /// In which manner it ended.
    pub manner: Manner,
    /// Whether what can be built is left out.
    pub slim: bool,
    /// The other members, in their order.
    pub files: Vec<Part>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its path, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its sha256 in hex.
    pub sha256: String,
}

impl Manifest {
    /// The scenario's file.
    pub fn scenario(&self) -> String {
        format!("{PROJECT}/scenarios/{}.yaml", self.origin.run.scenario)
    }

    /// The kernel's definition.
    pub fn kernel(&self) -> String {
        format!("{PROJECT}/kernels/{}.yaml", self.origin.run.kernel)
    }

    /// Whether a file is in the bundle.
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    /// Bytes of the files in a folder.
    pub fn bytes_in(&self, folder: &str) -> u64 {
        let inside = |file: &&Part| file.path.split('/').next() == Some(folder);
        self.files
            .iter()
            .filter(inside)
            .map(|file| file.bytes)
            .sum()
    }

    /// Whether it is one that the lab may have written.
    ///
    /// # Errors
    ///
    /// Why it is not, in words that can be shown.
    pub fn check(&self) -> Result<(), String> {
        let run = &self.origin.run;
        let modules = &self.origin.modules;
        let names = [&run.scenario, &run.kernel].into_iter().chain(modules);
        for name in names {
            if !is_name(name) {
                return Err(format!("{} is no name", shown(name)));
            }
        }
        if modules.iter().collect::<BTreeSet<_>>().len() != modules.len() {
            return Err("it has two modules of the same name".to_owned());
        }
        self.origin.size.check()?;
        size::check_words(&self.origin.append)?;
        self.check_files()?;
        let mut needed = vec![self.scenario(), self.kernel(), CONFIG.to_owned()];
        needed.push(format!("{RUN}/verdict.json"));
        if !self.slim {
            needed.extend([KERNEL, INITRAMFS].map(str::to_owned));
            needed.extend(modules.iter().map(|name| origin::module(name)));
        }
        match needed.iter().find(|path| !self.has(path)) {
            Some(path) => Err(format!("it lacks {path}")),
            None => Ok(()),
        }
    }

    fn check_files(&self) -> Result<(), String> {
        if self.files.len() > FILES_MAX {
            return Err(format!("it has more than {FILES_MAX} files"));
        }
        let mut left = BYTES_MAX;
        for file in &self.files {
            let path = &file.path;
            let max = match path.starts_with("built/") {
                true => BYTES_MAX,
                false => TEXT_MAX,
            };
            if !is_path(path) {
                return Err(format!("{} is no path in a bundle", shown(path)));
            }
            let rest = left.checked_sub(file.bytes).filter(|_| file.bytes <= max);
            left = rest.ok_or_else(|| format!("{} is too large", shown(path)))?;
            if !is_sum(&file.sha256) {
                return Err(format!("{} has no sha256", shown(path)));
            }
        }
        if !self.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err("its files are not in order".to_owned());
        }
        let paths: BTreeSet<_> = self.files.iter().map(|file| file.path.as_str()).collect();
        for path in &paths {
            let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
            if folders.any(|folder| paths.contains(folder)) {
                return Err(format!("{} is in a file", shown(path)));
            }
        }
        Ok(())
    }
}

/// A text of a stranger, as short as it can be shown.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    short.escape_debug().to_string()
}

/// A name of a scenario, a kernel or a module: it becomes one of files and folders.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.bytes().all(plain)
}

fn is_path(path: &str) -> bool {
    let folder = path.split_once('/').map(|(folder, _)| folder);
    let proper = |part: &str| {
        let odd = matches!(part, "" | "." | "..") || part.contains(is_hidden);
        !odd && part.len() <= PART_MAX
    };
    folder.is_some_and(|folder| ["built", PROJECT, RUN].contains(&folder))
        && path.len() <= PATH_MAX
        && path.split('/').all(proper)
}

fn is_sum(sum: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    sum.len() == 64 && sum.bytes().all(hex)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::event::RunId;
    use crate::runner::origin::{ImageOrigin, KernelOrigin};
    use crate::size::Size;
    use crate::verdict::Outcome;

    /// A manifest of a run with one module, with these files.
    pub fn manifest(files: &[(&str, &[u8])]) -> Manifest {
        let part = |(path, data): &(&str, &[u8])| Part {
            path: (*path).to_owned(),
            bytes: data.len() as u64,
            sha256: crate::cache::hex(&<sha2::Sha256 as sha2::Digest>::digest(data)),
        };
        Manifest {
            version: VERSION,
            lab: "0.1.0".into(),
            origin: Origin {
                run: RunId {
                    scenario: "window".into(),
                    kernel: "tags-rfc".into(),
                    arch: Arch::X86_64,
                    cpus: None,
                },
                lab: "0.1.0".into(),
                kernel: KernelOrigin {
                    key: "01146171a7218bd6567e".into(),
                    release: "7.3.4-lab-01146171a721".into(),
                    source: "linux-source-7.3 7.3.4-1".into(),
                },
                image: ImageOrigin {
                    key: "9f923fdffadbe8c861b3".into(),
                    sum: "9f923fdffadbe8c861b3".into(),
                    packages: vec![("busybox-static".into(), "1:1.37.0-6".into())],
                },
                modules: vec!["shop".into()],
                accel: "tcg".into(),
                qemu: "QEMU emulator version 10.0.2".into(),
                timeout_ms: None,
                warm: true,
                size: Size::default(),
                append: String::new(),
                patient: false,
            },
            manner: Manner {
                outcome: Outcome::Failed,
                failing: None,
                splat: None,
                code: None,
            },
            slim: false,
            files: files.iter().map(part).collect(),
        }
    }

    /// The least that a bundle has.
    pub const WHOLE: [(&str, &[u8]); 7] = [
        ("built/initramfs.cpio", b"initramfs"),
        ("built/kernel", b"kernel"),
        ("built/kernel.config", b"CONFIG_LIVEPATCH=y\n"),
        ("built/modules/shop.ko", b"module"),
        ("project/kernels/tags-rfc.yaml", b"version: 1\n"),
        ("project/scenarios/window.yaml", b"version: 1\n"),
        ("run/verdict.json", b"{}"),
    ];

    #[test]
    fn what_is_written_is_read() {
        let whole = manifest(&WHOLE);
        assert_eq!(whole.check(), Ok(()));
        let json = serde_json::to_vec(&whole).unwrap();
        assert_eq!(serde_json::from_slice::<Manifest>(&json).unwrap(), whole);
        assert_eq!(whole.bytes_in("built"), 9 + 6 + 19 + 6);
    }

    #[test]
    fn a_bundle_that_does_not_say_how_large_the_guest_was_had_two_cpus() {
        let mut json = serde_json::to_value(manifest(&WHOLE)).unwrap();
        let origin = json["origin"].as_object_mut().unwrap();
        assert!(origin.remove("size").is_some() && !origin.contains_key("append"));
        let old: Manifest = serde_json::from_value(json).unwrap();
        assert_eq!(old.origin.size, Size::before());
        assert_eq!((old.origin.size.cpus, old.check()), (2, Ok(())));
    }

    #[test]
    fn what_a_bundle_needs_must_be_there() {
        for (index, (path, _)) in WHOLE.iter().enumerate() {
            let mut files = WHOLE.to_vec();
            files.remove(index);
            let error = manifest(&files).check().unwrap_err();
            assert_eq!(error, format!("it lacks {path}"));
        }
        let mut slim = manifest(&WHOLE[2..]);
        slim.files.retain(|file| !file.path.ends_with(".ko"));
        assert!(slim.check().is_err());
        slim.slim = true;
        assert_eq!(slim.check(), Ok(()));
    }

    #[test]
    fn no_path_leads_anywhere_else() {
        for path in [
            "/etc/passwd",
            "run/../../x",
            "run//x",
            "run/./x",
            "run/",
            "run",
            "x",
            "",
            "other/x",
            "run/a\0b",
            "run/\u{1b}[2J",
            "run/\u{202e}x",
            "project/kernels/tags-rfc.yaml/x",
        ] {
            let mut files = WHOLE.to_vec();
            files.push((path, b""));
            files.sort_unstable();
            let error = manifest(&files).check().unwrap_err();
            let why = error.ends_with("is no path in a bundle") || error.ends_with("is in a file");
            assert!(why && !error.contains(is_hidden), "{path:?}: {error}");
        }
    }

    #[test]
    fn names_order_and_sizes_are_held_to() {
        let whole = || manifest(&WHOLE);
        let refused = |change: fn(&mut Manifest), why: &str| {
            let mut manifest = whole();
            change(&mut manifest);
            let error = manifest.check().unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(|m| m.origin.run.scenario = "../x".into(), "is no name");
        refused(|m| m.origin.run.kernel = "-x".into(), "is no name");
        refused(|m| m.origin.modules.push("a b".into()), "is no name");
        refused(|m| m.origin.modules.push("shop".into()), "same name");
        refused(|m| m.origin.size.cpus = 1000, "no guest has 1000 CPUs");
        refused(|m| m.origin.size.memory_mib = 1, "no guest has 1 MiB");
        refused(
            |m| m.origin.size.append = "a rdinit=/x".into(),
            "`rdinit=/x`",
        );
        refused(|m| m.origin.append = "a\nb".into(), "`\\n` is no part of");
        refused(|m| m.files.swap(0, 1), "not in order");
        refused(|m| m.files.insert(0, m.files[0].clone()), "not in order");
        refused(|m| m.files[0].bytes = BYTES_MAX + 1, "is too large");
        refused(|m| m.files[0].bytes = BYTES_MAX, "is too large");
        refused(|m| m.files[6].bytes = TEXT_MAX + 1, "is too large");
        refused(|m| m.files[0].sha256 = "x".repeat(64), "has no sha256");
        refused(
            |m| m.files = vec![m.files[0].clone(); FILES_MAX + 1],
            "more than",
        );
    }
}
