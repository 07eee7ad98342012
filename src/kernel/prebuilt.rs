// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels that were built elsewhere: an image, and the build folder that it came from.
//!
//! Such a kernel is booted as it is. The image is copied into the cache; the build folder is only
//! linked to from there, since modules are built against it and it may have gigabytes. The release
//! of such a kernel does not carry its key, so the key holds what can tell two of them apart: the
//! image, the symbols and the config.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::definition::{Definition, Prebuilt};
use super::{BOOT, BUILD, BuiltKernel, EARLY, MANIFEST, TREE, early, entry, loaded};
use crate::arch::Arch;
use crate::cache::{KeyBuilder, blocking, sha256_of, write_atomically};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};

/// Counts up when the way such a kernel is taken changes.
const RECIPE: &str = "prebuilt-kernel-1";
/// The longest release that a kernel has.
const RELEASE_MAX: usize = 64;

/// What a guest of every architecture needs built in, and why. `kernels/config/base.config` has all
/// that the lab's own kernels have.
const NEEDED: [(&str, &str); 15] = [
    ("LIVEPATCH", "there is nothing to test without it"),
    ("MODULES", "livepatches are modules"),
    ("MODULE_UNLOAD", "scenarios unload modules"),
    ("BLK_DEV_INITRD", "the guest's programs are in an initramfs"),
    ("BINFMT_ELF", "the guest's programs are ELF files"),
    ("DEVTMPFS", "the guest's init mounts it"),
    ("PROC_FS", "the guest's init mounts it"),
    ("SYSFS", "livepatches are seen and disabled through it"),
    ("DEBUG_FS", "what is observed of ftrace is in it"),
    ("PRINTK", "the console is the evidence"),
    ("UNIX98_PTYS", "the guest's init mounts their file system"),
    ("INET", "the lab talks to the guest over ssh"),
    ("PCI", "the guest's devices are on it"),
    ("VIRTIO_PCI", "the network is a virtio device"),
    ("VIRTIO_NET", "the lab talks to the guest over ssh"),
];

/// What the lab is better off with, and why.
const WANTED: [(&str, &str); 3] = [
    ("PVPANIC_PCI", "a panic is only seen on the console"),
    ("HW_RANDOM_VIRTIO", "programs may wait for randomness"),
    (
        "DYNAMIC_DEBUG",
        "livepatching logs less, so that `log:` may not find its lines",
    ),
];

/// Takes a kernel into the cache, or finds it there.
///
/// # Errors
///
/// `File` if the files are not there or are for another architecture; `Kernel` if the kernel cannot
/// be a guest's.
pub async fn take(
    ctx: &Context,
    definition: &Definition,
    prebuilt: &Prebuilt,
    arch: Arch,
) -> Result<BuiltKernel> {
    let name = &definition.name;
    let facts = Facts::read(name, prebuilt)?;
    if arch != prebuilt.arch {
        let what = format!("kernel {name} is for {} only", prebuilt.arch);
        return Err(Error::new(Blame::Usage, what).help(format!("--arch {}", prebuilt.arch)));
    }
    check_config(name, &facts.config, arch, prebuilt.modules.is_some())?;
    let key = key(prebuilt, &facts, arch).await?;
    let make = async |stage: &Path| {
        note_missing(ctx, name, prebuilt, &facts);
        fill(ctx, stage, name, prebuilt, &facts, &key).await
    };
    loaded(&entry(ctx, &key)?.get_or_make(make).await?)
}

/// Says what the lab is better off with and such a kernel does not have.
fn note_missing(ctx: &Context, name: &str, prebuilt: &Prebuilt, facts: &Facts) {
    let is_loaded =
        |option: &str| prebuilt.modules.is_some() && early::is_module(&facts.config, option);
    let missing = WANTED
        .iter()
        .filter(|(option, _)| !has(&facts.config, option) && !is_loaded(option));
    for (option, why) in missing {
        ctx.events
            .note(format!("kernel {name} has no CONFIG_{option}: {why}"));
    }
}

/// Fills the folder of such a kernel. Returns what is sealed.
async fn fill(
    ctx: &Context,
    stage: &Path,
    name: &str,
    prebuilt: &Prebuilt,
    facts: &Facts,
    key: &str,
) -> Result<Vec<String>> {
    let kernel = BuiltKernel {
        name: name.to_owned(),
        key: key.to_owned(),
        release: facts.release.clone(),
        source: format!("built elsewhere ({name})"),
        family: key.to_owned(),
        objects: 0,
        prebuilt: Some(prebuilt.arch),
        dir: PathBuf::new(),
    };
    let tree = stage.join(TREE);
    fs::create_dir(&tree).at("create", &tree)?;
    let link =
        |from: &Path, name: &str| symlink(from, tree.join(name)).at("link", &tree.join(name));
    link(&prebuilt.build, BUILD)?;
    // Where the source is beside the objects, the selftests' modules can be built from it.
    let source = [prebuilt.build.join("source"), prebuilt.build.clone()];
    let tools = source.map(|source| source.join("tools"));
    if let Some(tools) = tools.iter().find(|tools| tools.is_dir()) {
        link(tools, "tools")?;
    }
    let image = stage.join(BOOT);
    fs::copy(&prebuilt.image, &image).at("copy", &prebuilt.image)?;
    let mut sealed = vec![BOOT.to_owned()];
    if let Some(modules) = &prebuilt.modules
        && let Some(archive) = early::archive(ctx, modules, &facts.config).await?
    {
        let path = stage.join(EARLY);
        fs::write(&path, archive).at("write", &path)?;
        sealed.push(EARLY.to_owned());
    }
    let manifest = serde_json::to_vec_pretty(&kernel)
        .map_err(|error| Error::lab(format!("cannot write the manifest: {error}")))?;
    write_atomically(&stage.join(MANIFEST), &manifest)?;
    Ok(sealed)
}

/// What a build folder says.
struct Facts {
    config: String,
    release: String,
}

impl Facts {
    fn read(name: &str, prebuilt: &Prebuilt) -> Result<Self> {
        let missing = |what: &str, path: &Path| {
            let what = format!(
                "kernel {name} has no {what}: there is no {}",
                path.display()
            );
            Error::new(Blame::File, what)
        };
        if !prebuilt.image.is_file() {
            return Err(missing("image", &prebuilt.image)
                .help("paths after `prebuilt:` are relative to kernels/"));
        }
        let help = "name the folder in which the image was built, with all that make left there; \
                    of a package, that of its headers";
        let read = |file: &str, what: &str| {
            let path = prebuilt.build.join(file);
            fs::read_to_string(&path).map_err(|_| missing(what, &path).help(help))
        };
        let config = read(".config", "config")?;
        // What modules get: the other file of a package's headers may say something else.
        let header = read("include/generated/utsrelease.h", "release")?;
        let release = header.split('"').nth(1).unwrap_or_default();
        let release = release.trim().to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
        if release.is_empty() || release.len() > RELEASE_MAX || !release.chars().all(plain) {
            let what = format!("the build folder of kernel {name} names no release");
            return Err(Error::new(Blame::File, what).help(help));
        }
        for (file, what) in [
            ("Module.symvers", "list of symbols"),
            ("Makefile", "Makefile"),
        ] {
            let path = prebuilt.build.join(file);
            if !path.is_file() {
                return Err(missing(what, &path).help(help));
            }
        }
        // `make O=` leaves a Makefile with the whole paths of source and build.
        let makefile = read("Makefile", "Makefile")?;
        let path = |line: &str| {
            let path = ["include ", "export KBUILD_OUTPUT = "];
            let path = path.iter().find_map(|before| line.strip_prefix(before))?;
            path.starts_with('/').then(|| PathBuf::from(path.trim()))
        };
        let mut paths = makefile.lines().filter_map(path);
        if let Some(gone) = paths.find(|path| !path.exists()) {
            let what = format!("kernel {name} was moved: there is no {}", gone.display());
            return Err(Error::new(Blame::File, what)
                .evidence(&format!("{}/Makefile names it", prebuilt.build.display()))
                .help("move it back, or correct the paths in that Makefile"));
        }
        Ok(Self { config, release })
    }
}

async fn key(prebuilt: &Prebuilt, facts: &Facts, arch: Arch) -> Result<String> {
    let (image, build) = (prebuilt.image.clone(), prebuilt.build.clone());
    let sums = blocking(move || {
        let symbols = build.join("Module.symvers");
        Ok([sha256_of(&image)?, sha256_of(&symbols)?])
    });
    let [image, symbols] = sums.await?;
    let mut key = KeyBuilder::new(RECIPE);
    key.part("arch", arch.name().as_bytes())
        .part("image", image.as_bytes())
        .part("symbols", symbols.as_bytes())
        .part("config", facts.config.as_bytes())
        .part("release", facts.release.as_bytes())
        // Where modules are built.
        .part("build", prebuilt.build.as_os_str().as_encoded_bytes());
    Ok(key.finish())
}

fn has(config: &str, option: &str) -> bool {
    let line = format!("CONFIG_{option}=y");
    config.lines().any(|other| other == line)
}

/// Whether a kernel with this config can be a guest's.
fn check_config(name: &str, config: &str, arch: Arch, has_modules: bool) -> Result<()> {
    if !has(config, arch.row().config) {
        let what = format!("the build folder of kernel {name} is not for {arch}");
        return Err(Error::new(Blame::File, what)
            .help("correct `arch:` in its definition, or name another build folder"));
    }
    let is_loaded = |option: &str| has_modules && early::is_module(config, option);
    let missing = NEEDED
        .iter()
        .chain(arch.row().needed)
        .filter(|(option, _)| !has(config, option) && !is_loaded(option));
    let line = |(option, why): &(&str, &str)| {
        let module = format!("CONFIG_{option}=m");
        match config.lines().any(|line| line == module) {
            true => format!("CONFIG_{option} is a module, and must be built in: {why}"),
            false => format!("CONFIG_{option} is not set: {why}"),
        }
    };
    let lines: Vec<_> = missing.map(line).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let what = format!("kernel {name} lacks what a guest needs");
    Err(Error::new(Blame::Kernel, what)
        .evidence(&lines.join("\n"))
        .help("set these to y and build it again; kernels/config/ has what the lab's own have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config that has all that is needed on x86_64.
    fn config() -> String {
        let options = NEEDED.iter().chain(Arch::X86_64.row().needed);
        let lines: String = options
            .map(|(option, _)| format!("CONFIG_{option}=y\n"))
            .collect();
        format!("CONFIG_X86_64=y\n{lines}")
    }

    #[test]
    fn a_config_that_lacks_something_is_refused_with_the_reasons() {
        assert!(check_config("mine", &config(), Arch::X86_64, false).is_ok());
        let lacking = config()
            .replace("CONFIG_VIRTIO_NET=y", "CONFIG_VIRTIO_NET=m")
            .replace("CONFIG_LIVEPATCH=y", "# CONFIG_LIVEPATCH is not set");
        let error = check_config("mine", &lacking, Arch::X86_64, false).unwrap_err();
        assert_eq!((error.blame, error.exit_code()), (Blame::Kernel, 3));
        assert_eq!(
            error.evidence,
            [
                "CONFIG_LIVEPATCH is not set: there is nothing to test without it",
                "CONFIG_VIRTIO_NET is a module, and must be built in: the lab talks to the guest over ssh"
            ]
        );
        let error = check_config("mine", &config(), Arch::Arm64, false).unwrap_err();
        assert_eq!(
            error.what,
            "the build folder of kernel mine is not for arm64"
        );
    }

    /// Every option that is needed is one that the lab's own kernels have.
    #[test]
    fn the_labs_own_kernels_have_what_is_needed() {
        let fragments = [
            include_str!("../../kernels/config/base.config"),
            include_str!("../../kernels/config/x86_64.config"),
            include_str!("../../kernels/config/arm64.config"),
        ];
        let all = fragments.concat();
        let own = Arch::ALL.iter().flat_map(|arch| arch.row().needed);
        for (option, _) in NEEDED.iter().chain(own) {
            assert!(has(&all, option), "{option}");
        }
        for (option, _) in WANTED {
            assert!(has(&all, option), "{option}");
        }
    }

    #[test]
    fn files_that_are_missing_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let prebuilt = Prebuilt {
            image: dir.path().join("bzImage"),
            build: dir.path().join("build"),
            arch: Arch::X86_64,
            modules: None,
        };
        let read = || Facts::read("mine", &prebuilt);
        let missing = || read().err().unwrap().what;
        assert!(missing().starts_with("kernel mine has no image: "));
        write("bzImage", "");
        assert!(missing().starts_with("kernel mine has no config: "));
        write("build/.config", "");
        assert!(missing().starts_with("kernel mine has no release: "));
        write(
            "build/include/generated/utsrelease.h",
            "#define UTS_RELEASE \"6.1-x\"\n",
        );
        assert!(missing().starts_with("kernel mine has no list of symbols: "));
        write("build/Module.symvers", "");
        write("build/Makefile", "");
        assert_eq!(read().unwrap().release, "6.1-x");
        write(
            "build/Makefile",
            "export KBUILD_OUTPUT = .\ninclude /no/such/Makefile\n",
        );
        assert_eq!(
            missing(),
            "kernel mine was moved: there is no /no/such/Makefile"
        );
        write(
            "build/include/generated/utsrelease.h",
            "#define UTS_RELEASE \"../x\"\n",
        );
        assert_eq!(
            missing(),
            "the build folder of kernel mine names no release"
        );
    }
}
