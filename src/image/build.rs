// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building an image: packages → files → agent → initramfs, in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use super::Definition;
use crate::apt::{self, AptRoot, Package};
use crate::arch::{Arch, Toolchain};
use crate::cache::{self, Claim, Entry, KeyBuilder, write_atomically};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::initramfs::Archive;
use crate::kernel::BuiltKernel;
use crate::process::Cmd;

/// Counts up when the way an image is built changes.
const RECIPE: &str = "image-3";
/// The kind of entries that images are.
const CACHE: &str = "images";
/// The archive's name in its entry.
const INITRAMFS: &str = "initramfs.cpio";
/// Root's shell is the agent; see `images/guest/agent.c`.
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/lab-agent\n";
/// Folders that the init and the kernel expect.
const FOLDERS: [&str; 7] = ["proc", "sys", "dev", "tmp", "root", "lab", "etc/dropbear"];

/// An image in the cache.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The initramfs, to be followed by a run's own archive.
    pub initramfs: PathBuf,
    /// Its cache key.
    pub key: String,
    /// The file that says which versions of the packages were taken.
    pub record: PathBuf,
}

impl BuiltImage {
    /// The packages and their versions; none if the record cannot be read.
    pub fn packages(&self) -> Vec<(String, String)> {
        recorded(&self.record).unwrap_or_default()
    }
}

/// Builds `definition` for `arch`, or finds it in the cache. Which versions were taken is
/// recorded, so that a later run asks nobody; `refresh` looks for newer ones.
pub async fn build(
    ctx: &Context,
    definition: &Definition,
    arch: Arch,
    refresh: bool,
) -> Result<BuiltImage> {
    let images = ctx.cache.kind(CACHE)?;
    let plan = Plan::make(ctx, definition, arch).await?;
    let wish = plan.wish();
    let record = plan.record(&images);
    let _lock = ctx
        .cache
        .lock(&format!("image-{wish}"), &ctx.cancel, || {
            ctx.events
                .note("waiting for another lab to build the image");
        })
        .await?;
    cache::mark_used(&record);
    if !refresh
        && let Some(versions) = recorded(&record)
        && let Claim::Found(dir) = entry(ctx, &plan.key(&versions))?.claim().await?
    {
        return Ok(plan.built(&dir, &versions, record));
    }
    let apt = AptRoot::open(ctx, &definition.suite, arch.row().debian).await?;
    let versions = resolve(ctx, &apt, definition).await?;
    let json = serde_json::to_vec(&versions)
        .map_err(|error| Error::lab(format!("cannot record packages: {error}")))?;
    write_atomically(&record, &json)?;
    let make = async |stage: &Path| plan.assemble(ctx, &apt, &versions, stage).await;
    let dir = entry(ctx, &plan.key(&versions))?.get_or_make(make).await?;
    Ok(plan.built(&dir, &versions, record))
}

/// The image for a kernel that needs modules before it can be reached: both archives, one after the
/// other. Of most kernels, the image as it is.
pub async fn for_kernel(
    ctx: &Context,
    image: BuiltImage,
    kernel: &BuiltKernel,
) -> Result<BuiltImage> {
    let Some(early) = kernel.early() else {
        return Ok(image);
    };
    let mut key = KeyBuilder::new(RECIPE);
    key.part("image", image.key.as_bytes())
        .part("kernel", kernel.key.as_bytes());
    let key = key.finish();
    let make = async |stage: &Path| {
        let mut bytes = fs::read(&image.initramfs).at("read", &image.initramfs)?;
        // Each archive begins at a multiple of four.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(fs::read(&early).at("read", &early)?);
        let path = stage.join(INITRAMFS);
        fs::write(&path, &bytes).at("write", &path)?;
        Ok(vec![INITRAMFS.to_owned()])
    };
    Ok(BuiltImage {
        initramfs: entry(ctx, &key)?.get_or_make(make).await?.join(INITRAMFS),
        key,
        record: image.record,
    })
}

/// The entry of an image.
fn entry<'a>(ctx: &'a Context, key: &str) -> Result<Entry<'a>> {
    let entry = ctx.entry(CACHE, key)?.locked_as(format!("image-{key}"));
    Ok(entry.whole_if(|dir| dir.join(INITRAMFS).is_file()))
}

/// Everything that determines the result but the versions of the packages.
struct Plan<'a> {
    definition: &'a Definition,
    arch: Arch,
    init: Vec<u8>,
    agent: Vec<u8>,
    gcc: String,
    compiler: String,
}

impl<'a> Plan<'a> {
    async fn make(ctx: &Context, definition: &'a Definition, arch: Arch) -> Result<Self> {
        let gcc = Toolchain::of(arch).gcc();
        let compiler = Cmd::new(&gcc).arg("--version").output(&ctx.cancel).await?;
        Ok(Self {
            definition,
            arch,
            init: fs::read(&definition.init).at("read", &definition.init)?,
            agent: fs::read(&definition.agent).at("read", &definition.agent)?,
            gcc,
            compiler: compiler.lines().next().unwrap_or_default().to_owned(),
        })
    }

    /// The key of what is wished for: suite, architecture and packages.
    fn wish(&self) -> String {
        let mut key = KeyBuilder::new(RECIPE);
        key.part("suite", self.definition.suite.as_bytes())
            .part("arch", self.arch.name().as_bytes());
        for (package, patterns) in &self.definition.packages {
            key.part("package", package.as_bytes());
            for pattern in patterns {
                key.part("take", pattern.as_bytes());
            }
        }
        key.finish()
    }

    /// The key of what comes out.
    fn key(&self, versions: &Versions) -> String {
        let mut key = KeyBuilder::new(RECIPE);
        key.part("wish", self.wish().as_bytes())
            .part("init", &self.init)
            .part("agent", &self.agent)
            .part("compiler", self.compiler.as_bytes());
        for (package, version) in versions {
            key.part(package, version.as_bytes());
        }
        key.finish()
    }

    /// Where the versions of the packages are recorded.
    fn record(&self, images: &Path) -> PathBuf {
        images.join(format!("packages-{}.json", self.wish()))
    }

    /// The image in an entry.
    fn built(&self, dir: &Path, versions: &Versions, record: PathBuf) -> BuiltImage {
        BuiltImage {
            initramfs: dir.join(INITRAMFS),
            key: self.key(versions),
            record,
        }
    }

    /// Makes the archive. What it is made from is in a folder of its own.
    async fn assemble(
        &self,
        ctx: &Context,
        apt: &AptRoot,
        versions: &Versions,
        stage: &Path,
    ) -> Result<Vec<String>> {
        let package = |(name, version): &(String, String)| Package {
            name: name.clone(),
            version: version.clone(),
        };
        let packages: Vec<_> = versions.iter().map(package).collect();
        let parts = cache::staging_dir(stage)?;
        let downloads = parts.path().join("packages");
        fs::create_dir(&downloads).at("create", &downloads)?;
        let debs = apt.download(ctx, &packages, &downloads).await?;

        let name = format!("{} {}", self.definition.name, self.arch);
        let phase = ctx.events.phase(format!("build image {name}"));
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.folder(folder)?;
        }
        for folder in ["bin", "lib", "lib64", "sbin"] {
            archive.link(folder, &format!("usr/{folder}"))?;
        }
        for (deb, (package, patterns)) in debs.iter().zip(&self.definition.packages) {
            let root = parts.path().join("root").join(package);
            apt::unpack(ctx, deb, &root).await?;
            take(&mut archive, &root, package, patterns)?;
        }
        let agent = self.compile(ctx, &self.definition.agent, parts.path());
        archive.file("usr/bin/lab-agent", 0o755, &agent.await?)?;
        archive.link("usr/bin/sh", "busybox")?;
        archive.link("usr/bin/dropbear", "../sbin/dropbear")?;
        archive.file("etc/passwd", 0o644, PASSWD)?;
        archive.file("etc/shells", 0o644, b"/bin/lab-agent\n")?;
        let init = match self.definition.init_is_source() {
            true => {
                self.compile(ctx, &self.definition.init, parts.path())
                    .await?
            }
            false => self.init.clone(),
        };
        archive.file("init", 0o755, &init)?;
        let bytes = archive.finish()?;

        let initramfs = stage.join(INITRAMFS);
        fs::write(&initramfs, &bytes).at("write", &initramfs)?;
        phase.done(format!("built image {name} ({} KiB)", bytes.len() / 1024));
        Ok(vec![INITRAMFS.to_owned()])
    }

    /// Compiles a program of the guest: static, since the image's libraries need not fit the
    /// host's compiler.
    async fn compile(&self, ctx: &Context, source: &Path, dir: &Path) -> Result<Vec<u8>> {
        let binary = dir.join("program");
        Cmd::new(&self.gcc)
            .args(["-std=gnu11", "-O2", "-Wall", "-static", "-s", "-o"])
            .arg(&binary)
            .arg(source)
            .output(&ctx.cancel)
            .await
            .map_err(|error| error.during(&format!("compiling {}", source.display())))?;
        fs::read(&binary).at("read", &binary)
    }
}

type Versions = Vec<(String, String)>;

fn recorded(record: &Path) -> Option<Versions> {
    serde_json::from_slice(&fs::read(record).ok()?).ok()
}

async fn resolve(ctx: &Context, apt: &AptRoot, definition: &Definition) -> Result<Versions> {
    let mut versions = Vec::new();
    for (name, _) in &definition.packages {
        let Some(package) = apt.find(ctx, name).await? else {
            let what = format!("there is no package `{name}` in {}", definition.suite);
            return Err(Error::new(Blame::File, what)
                .help(format!("correct images/{}.yaml", definition.name)));
        };
        versions.push((package.name, package.version));
    }
    Ok(versions)
}

/// Puts those files of an unpacked package into the archive that a pattern matches.
fn take(archive: &mut Archive, root: &Path, package: &str, patterns: &[String]) -> Result<()> {
    let mut files = Vec::new();
    collect(root, "", &mut files)?;
    files.sort();
    files.retain(|file| patterns.iter().any(|pattern| matches(pattern, file)));
    if files.is_empty() {
        let what = format!("package {package} has no file like {}", patterns.join(", "));
        return Err(Error::new(Blame::File, what).help("correct the image definition"));
    }
    for file in files {
        let path = root.join(&file);
        let data = fs::symlink_metadata(&path).at("read", &path)?;
        if data.is_symlink() {
            let target = fs::read_link(&path).at("read", &path)?;
            archive.link(&file, &target.to_string_lossy())?;
        } else {
            let mode = std::os::unix::fs::PermissionsExt::mode(&data.permissions()) & 0o777;
            archive.file(&file, mode, &fs::read(&path).at("read", &path)?)?;
        }
    }
    Ok(())
}

fn collect(root: &Path, below: &str, files: &mut Vec<String>) -> Result<()> {
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).at("read", &dir)? {
        let entry = entry.at("read", &dir)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type().at("read", &dir)?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether `pattern` matches `path`; `*` stands for any characters but `/`.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
            _ => return false,
        }
    }
}

fn part_matches(pattern: &str, part: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == part;
    };
    let Some(mut tail) = part.strip_prefix(start) else {
        return false;
    };
    loop {
        if part_matches(rest, tail) {
            return true;
        }
        let mut chars = tail.chars();
        if chars.next().is_none() {
            return false;
        }
        tail = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_name() {
        assert!(matches(
            "usr/lib/*/libz.so.1*",
            "usr/lib/x86_64-linux-gnu/libz.so.1.3.1"
        ));
        assert!(matches(
            "usr/lib/*/libc.so.6",
            "usr/lib/aarch64-linux-gnu/libc.so.6"
        ));
        assert!(!matches("usr/lib/*", "usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!matches("usr/lib/*/libc.so.6", "usr/lib/x/libc.so.66"));
    }
}
