// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels as Debian packages them: image, modules and headers, unpacked without root.
//!
//! An unpacked kernel is a folder of its own in the cache. What makes it bootable, and what modules
//! are built against, is as of any kernel that was built elsewhere; see [`super::prebuilt`].

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::definition::{DebianImage, Prebuilt};
use crate::apt::{self, AptRoot, Package};
use crate::arch::Arch;
use crate::cache::{self, KeyBuilder, write_atomically};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};

/// Counts up when the way packages are unpacked changes.
const RECIPE: &str = "debian-kernel-1";
/// What an unpacked kernel's folder has, written last.
pub(crate) const UNPACKED: &str = "packages.json";
/// Where headers are, and the paths in them.
const HEADERS: &str = "usr/src";

/// The packages of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Resolved {
    /// What follows `linux-image-`.
    version: String,
    /// Each package with its version: image, headers, and what the headers need.
    packages: Vec<(String, String)>,
}

/// Fetches and unpacks a kernel, or finds it in the cache. Which packages were taken is recorded;
/// `refresh` looks anew.
///
/// Not by [`cache::Entry::get_or_make`]: the lock is that of what is wished for, since which entry it is
/// is only known once an archive was asked.
pub(super) async fn obtain(
    ctx: &Context,
    image: &DebianImage,
    arch: Arch,
    refresh: bool,
) -> Result<Prebuilt> {
    let kernels = ctx.cache.kind("kernels")?;
    let wish = KeyBuilder::new(RECIPE)
        .part("package", image.package.as_bytes())
        .part("suite", image.suite.as_bytes())
        .part("arch", arch.name().as_bytes())
        .finish();
    let record = kernels.join(format!("debian-{wish}.json"));
    let lock = format!("debian-{wish}");
    let waiting = || ctx.events.note("waiting for another lab's fetch");
    let _lock = ctx.cache.lock(&lock, &ctx.cancel, waiting).await?;
    cache::mark_used(&record);
    let recorded = || serde_json::from_slice::<Resolved>(&fs::read(&record).ok()?).ok();
    if !refresh
        && let Some(resolved) = recorded()
        && let Some(unpacked) = unpacked(&kernels, &resolved, arch)?
    {
        return Ok(unpacked);
    }
    let apt = AptRoot::open(ctx, &image.suite, arch.row().debian).await?;
    let resolved = resolve(ctx, &apt, image, arch).await?;
    let json = |resolved: &Resolved| {
        serde_json::to_vec_pretty(resolved).map_err(|error| Error::lab(error.to_string()))
    };
    write_atomically(&record, &json(&resolved)?)?;
    let entry = kernels.join(key(&resolved));
    if let Some(unpacked) = unpacked(&kernels, &resolved, arch)? {
        return Ok(unpacked);
    }
    let staging = cache::staging_dir(&entry)?;
    let downloads = staging.path().join("packages");
    fs::create_dir(&downloads).at("create", &downloads)?;
    let package = |(name, version): &(String, String)| Package {
        name: name.clone(),
        version: version.clone(),
    };
    // The programs that build modules run here.
    let (tools, others): (Vec<_>, Vec<_>) = resolved
        .packages
        .iter()
        .map(package)
        .partition(|package| package.name.starts_with("linux-kbuild-"));
    let mut debs = apt.download(ctx, &others, &downloads).await?;
    debs.extend(match Arch::host().filter(|host| *host != arch) {
        Some(host) => {
            let apt = AptRoot::open(ctx, &image.suite, host.row().debian).await?;
            apt.download(ctx, &tools, &downloads).await?
        }
        None => apt.download(ctx, &tools, &downloads).await?,
    });
    let phase = ctx
        .events
        .phase(format!("unpack kernel {}", resolved.version));
    let root = staging.path().join("root");
    for deb in &debs {
        apt::unpack(ctx, deb, &root).await?;
    }
    fs::remove_dir_all(&downloads).at("remove", &downloads)?;
    write_atomically(&staging.path().join(UNPACKED), &json(&resolved)?)?;
    if entry.exists() {
        fs::remove_dir_all(&entry).at("remove", &entry)?;
    }
    cache::publish(staging, &entry)?;
    phase.done(format!("unpacked kernel {}", resolved.version));
    unpacked(&kernels, &resolved, arch)?.ok_or_else(|| {
        let what = format!("the packages of kernel {} lack files", resolved.version);
        Error::new(Blame::File, what).help("correct `debian-image:` in its definition")
    })
}

fn key(resolved: &Resolved) -> String {
    let mut key = KeyBuilder::new(RECIPE);
    key.part("version", resolved.version.as_bytes());
    for (name, version) in &resolved.packages {
        key.part(name, version.as_bytes());
    }
    key.finish()
}

/// A kernel that is unpacked, if it is.
fn unpacked(kernels: &Path, resolved: &Resolved, arch: Arch) -> Result<Option<Prebuilt>> {
    let entry = kernels.join(key(resolved));
    cache::mark_used(&entry);
    let root = entry.join("root");
    let version = &resolved.version;
    let build = root.join(HEADERS).join(format!("linux-headers-{version}"));
    let image = root.join("boot").join(format!("vmlinuz-{version}"));
    let folders = ["usr/lib/modules", "lib/modules"].map(|folder| root.join(folder).join(version));
    let modules = folders.into_iter().find(|folder| folder.is_dir());
    if !entry.join(UNPACKED).is_file() || !build.is_dir() || !image.is_file() {
        return Ok(None);
    }
    relocate(&root, &build)?;
    Ok(Some(Prebuilt {
        image,
        build,
        arch,
        modules,
    }))
}

/// The headers' Makefile names those of the package that it shares by its whole path, which is
/// another one here, and again another one once the cache is elsewhere.
fn relocate(root: &Path, build: &Path) -> Result<()> {
    let path = build.join("Makefile");
    let text = fs::read_to_string(&path).at("read", &path)?;
    let line = |line: &str| match line.find("/usr/src/") {
        Some(at) if line.starts_with("include ") => {
            let rest = &line[at + 1..];
            format!("include {}\n", root.join(rest).display())
        }
        // The makefiles find out by themselves where they are called.
        _ if line.contains("KBUILD_OUTPUT") => String::new(),
        _ => format!("{line}\n"),
    };
    let relocated: String = text.lines().map(line).collect();
    match relocated == text {
        true => Ok(()),
        false => write_atomically(&path, relocated.as_bytes()),
    }
}

/// Finds the packages that a kernel consists of.
async fn resolve(
    ctx: &Context,
    apt: &AptRoot,
    image: &DebianImage,
    arch: Arch,
) -> Result<Resolved> {
    let wanted = image.package.replace("{arch}", arch.row().debian);
    let missing = |name: &str| {
        let what = format!("there is no package `{name}` in {}", image.suite);
        Error::new(Blame::File, what)
            .help("an archive keeps only its current packages: name one that it has")
    };
    if apt.find(ctx, &wanted).await?.is_none() {
        return Err(missing(&wanted));
    }
    // `linux-image-amd64` only depends on the newest one.
    let depends = apt.depends(ctx, &wanted).await?;
    let is_image = |name: &&String| name.starts_with("linux-image-");
    let name = depends.iter().find(is_image).unwrap_or(&wanted).clone();
    let version = name.trim_start_matches("linux-image-").to_owned();
    let headers = format!("linux-headers-{version}");
    let needed = apt.depends(ctx, &headers).await?;
    let is_needed = |name: &String| {
        name.starts_with("linux-kbuild-")
            || (name.starts_with("linux-headers-") && name.contains("-common"))
    };
    let mut names = vec![name, headers];
    names.extend(needed.into_iter().filter(is_needed));
    let mut packages = Vec::new();
    for name in names {
        let package = apt.find(ctx, &name).await?.ok_or_else(|| missing(&name))?;
        packages.push((package.name, package.version));
    }
    Ok(Resolved { version, packages })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn headers_name_what_they_share_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let root: PathBuf = dir.path().into();
        let build = root.join("usr/src/linux-headers-6.1");
        fs::create_dir_all(&build).unwrap();
        let text = "export KBUILD_OUTPUT = /usr/src/linux-headers-6.1\n\
                    include /usr/src/linux-headers-6.1-common/Makefile\n";
        fs::write(build.join("Makefile"), text).unwrap();
        // Also a second time, and after the whole has moved.
        for root in [root.clone(), root, dir.path().join("elsewhere")] {
            relocate(&root, &build).unwrap();
            let text = fs::read_to_string(build.join("Makefile")).unwrap();
            let wanted = root.join("usr/src/linux-headers-6.1-common/Makefile");
            assert_eq!(text, format!("include {}\n", wanted.display()));
        }
    }
}
