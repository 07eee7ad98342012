// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a kernel's source comes from, and the pristine tree in the cache.
//!
//! What was resolved once (which Debian version, which commit) is recorded and used again, so
//! that a second run asks nobody and a kernel does not change under one's hands;
//! `lab build kernel --refresh` resolves anew.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::definition::{DebianSource, Source};
use super::tree;
use crate::apt::AptRoot;
use crate::cache::{self, KeyBuilder, blocking, seal, sha256_of, write_atomically};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::process::Cmd;

/// A source tree that can be copied from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceTree {
    /// Identifies the content.
    pub id: String,
    /// For people.
    pub label: String,
    /// The tree. It is not in the record: a recorded tree is the folder of that id next to it,
    /// wherever the cache is now.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Made by the lab and never changed: hard links to its files are safe.
    pub immutable: bool,
    /// The sum of all its files when it was made; `None` if it is the user's own, or from an older
    /// lab.
    #[serde(default)]
    pub sum: Option<String>,
}

/// Finds or fetches the source. `refresh` ignores what was resolved before.
///
/// Not by [`cache::Entry::get_or_make`]: the lock is that of what is wished for, since which tree it is is
/// only known once an archive or a repository was asked; and a tree's sum is in its record, because its
/// files are linked into kernels.
pub async fn obtain(ctx: &Context, source: &Source, refresh: bool) -> Result<SourceTree> {
    if let Source::Path(path) = source {
        return own_tree(path.clone()).await;
    }
    let text = serde_json::to_vec(source).map_err(|error| Error::lab(error.to_string()))?;
    let name = KeyBuilder::new("source-1")
        .part("definition", &text)
        .finish();
    let record = ctx.cache.kind("sources")?.join(format!("{name}.json"));
    let _lock = ctx
        .cache
        .lock(&format!("source-{name}"), &ctx.cancel, || {
            ctx.events.note("waiting for another lab's fetch")
        })
        .await?;
    cache::mark_used(&record);
    if !refresh && let Some(tree) = recorded(&record) {
        return Ok(tree);
    }
    let mut tree = match source {
        Source::Debian(candidates) => debian(ctx, candidates).await?,
        Source::Git {
            repository,
            revision,
        } => git(ctx, repository, revision).await?,
        Source::Tarball { location, sha256 } => tarball(ctx, location, sha256).await?,
        Source::Path(_) => unreachable!("handled above"),
        Source::Prebuilt(_) | Source::DebianImage(_) => {
            return Err(Error::lab("a kernel that is built has no source"));
        }
    };
    let dir = tree.dir.clone();
    tree.sum = Some(blocking(move || tree::sum(&dir)).await?);
    let json = serde_json::to_vec_pretty(&tree).map_err(|error| Error::lab(error.to_string()))?;
    write_atomically(&record, &json)?;
    Ok(tree)
}

/// What a record says; `None` if it is unreadable or its tree is not there.
pub(crate) fn recorded(record: &Path) -> Option<SourceTree> {
    let mut tree: SourceTree = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    tree.dir = record.parent()?.join(&tree.id);
    tree.dir.join("Makefile").is_file().then_some(tree)
}

/// What identifies the sources that were fetched and are in the cache.
pub(super) fn in_cache(ctx: &Context) -> Result<Vec<String>> {
    let sources = ctx.cache.kind("sources")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&sources).at("read", &sources)? {
        let path = entry.at("read", &sources)?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            found.extend(recorded(&path).map(|tree| tree.id));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Compares a tree with its sum, which takes seconds, and puts it away if it differs: a disk can
/// change what was right when it was written, and a kernel would be blamed for it.
pub async fn put_away_if_damaged(ctx: &Context, tree: &SourceTree) -> Result<bool> {
    let Some(expected) = tree.sum.clone() else {
        return Ok(false);
    };
    let dir = tree.dir.clone();
    let is_whole = blocking(move || Ok(tree::sum(&dir)? == expected)).await?;
    if is_whole {
        return Ok(false);
    }
    seal::reuse(&ctx.events, &tree.dir, false).map(|reused| !reused)
}

async fn debian(ctx: &Context, candidates: &[DebianSource]) -> Result<SourceTree> {
    let mut tried = Vec::new();
    for candidate in candidates {
        // Kernel sources are architecture-independent: any architecture's lists name them.
        let apt = AptRoot::open(ctx, &candidate.suite, "amd64").await?;
        let Some(package) = apt.find(ctx, &candidate.package).await? else {
            tried.push(format!(
                "{} is not in {}",
                candidate.package, candidate.suite
            ));
            continue;
        };
        let label = format!("{} {}", package.name, package.version);
        let id = KeyBuilder::new("debian-source-1")
            .part("package", label.as_bytes())
            .finish();
        let dir = ctx.cache.kind("sources")?.join(&id);
        if !dir.exists() {
            let staging = cache::staging_dir(&dir)?;
            let debs = apt.download(ctx, &[package], staging.path()).await?;
            let unpacked = staging.path().join("deb");
            for deb in &debs {
                crate::apt::unpack(ctx, deb, &unpacked).await?;
            }
            let archive = find_tarball(&unpacked.join("usr/src"))?;
            unpack_tarball(ctx, &archive, &label, &dir).await?;
        }
        return Ok(SourceTree {
            id,
            label,
            dir,
            immutable: true,
            sum: None,
        });
    }
    Err(
        Error::host("no candidate of the kernel's source is in the archive any more")
            .evidence(&tried.join("\n"))
            .help("add the archive's current linux-source package to the definition's candidates"),
    )
}

fn find_tarball(dir: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(dir).at("read", dir)? {
        let path = entry.at("read", dir)?.path();
        if path.to_string_lossy().contains(".tar") {
            return Ok(path);
        }
    }
    Err(Error::host(format!(
        "the source package holds no tarball in {}",
        dir.display()
    )))
}

/// Unpacks an archive with one top folder as `dir`.
async fn unpack_tarball(ctx: &Context, archive: &Path, label: &str, dir: &Path) -> Result<()> {
    let staging = cache::staging_dir(dir)?;
    let mut phase = ctx.events.phase(format!("unpack {label}"));
    let mut files = 0;
    let finished = Cmd::new("tar")
        .args([
            "--extract",
            "--verbose",
            "--no-same-owner",
            "--strip-components=1",
            "--file",
        ])
        .arg(archive)
        .arg("--directory")
        .arg(staging.path())
        .run(&ctx.cancel, |line| {
            files += 1;
            phase.progress(files, None, line);
        })
        .await?;
    if !finished.status.success() {
        let what = format!("cannot unpack {}", archive.display());
        return Err(Error::tool(what, &finished.tail)
            .or_help("is the archive whole? remove it, or correct the definition, and try again"));
    }
    require_kernel(staging.path(), label)?;
    cache::publish(staging, dir)?;
    phase.done(format!("unpacked {label}, {files} files"));
    Ok(())
}

fn require_kernel(dir: &Path, label: &str) -> Result<()> {
    if dir.join("kernel/livepatch/core.c").is_file() && dir.join("Makefile").is_file() {
        return Ok(());
    }
    Err(
        Error::new(Blame::File, format!("{label} is no kernel source"))
            .help("a source tree has Makefile and kernel/livepatch/core.c at its top"),
    )
}

async fn tarball(ctx: &Context, location: &str, sha256: &str) -> Result<SourceTree> {
    let label = location.rsplit('/').next().unwrap_or(location).to_owned();
    let id = KeyBuilder::new("tarball-1")
        .part("sha256", sha256.as_bytes())
        .finish();
    let dir = ctx.cache.kind("sources")?.join(&id);
    if !dir.exists() {
        let staging = cache::staging_dir(&dir)?;
        let archive = if location.contains("://") {
            let file = staging.path().join("archive");
            let phase = ctx.events.phase(format!("fetch {label}"));
            // apt's own transport is on every machine that can set itself up, and knows the proxy.
            Cmd::new("/usr/lib/apt/apt-helper")
                .arg("download-file")
                .arg(location)
                .arg(&file)
                .output(&ctx.cancel)
                .await
                .map_err(|error| error.or_help("check the URL and the network"))?;
            phase.done(format!("fetched {label}"));
            file
        } else {
            PathBuf::from(location)
        };
        let path = archive.clone();
        let actual = blocking(move || sha256_of(&path)).await?;
        if !actual.eq_ignore_ascii_case(sha256) {
            return Err(
                Error::new(Blame::File, format!("{label} has another sha256"))
                    .evidence(&format!("wanted {sha256}\nfound  {actual}"))
                    .help("the file is damaged or not the one that the definition means"),
            );
        }
        unpack_tarball(ctx, &archive, &label, &dir).await?;
    }
    Ok(SourceTree {
        id,
        label,
        dir,
        immutable: true,
        sum: None,
    })
}

async fn git(ctx: &Context, repository: &str, revision: &str) -> Result<SourceTree> {
    if crate::host::find_tool("git").is_none() {
        return Err(
            Error::host("`git` is not installed, and this kernel's source is in git")
                .help("apt-get install git"),
        );
    }
    let phase = ctx
        .events
        .phase(format!("fetch {revision} from {repository}"));
    let sources = ctx.cache.kind("sources")?;
    let staging = cache::staging_dir(&sources.join("git"))?;
    let git = || {
        Cmd::new("git")
            .env("GIT_TERMINAL_PROMPT", "0")
            .dir(staging.path())
    };
    git().args(["init", "--quiet"]).output(&ctx.cancel).await?;
    git()
        .args(["fetch", "--quiet", "--depth=1", "--", repository, revision])
        .output(&ctx.cancel)
        .await
        .map_err(|error| {
            error.or_help("does the repository have that revision, and may you read it?")
        })?;
    let commit = git()
        .args(["rev-parse", "FETCH_HEAD"])
        .output(&ctx.cancel)
        .await?;
    let commit = commit.trim().to_owned();
    let id = KeyBuilder::new("git-1")
        .part("commit", commit.as_bytes())
        .finish();
    let dir = sources.join(&id);
    let label = format!("{revision} ({})", &commit[..commit.len().min(12)]);
    if !dir.exists() {
        git()
            .args(["checkout", "--quiet", "FETCH_HEAD"])
            .output(&ctx.cancel)
            .await?;
        fs::remove_dir_all(staging.path().join(".git")).at("tidy", staging.path())?;
        require_kernel(staging.path(), &label)?;
        cache::publish(staging, &dir)?;
    }
    phase.done(format!("fetched {label}"));
    Ok(SourceTree {
        id,
        label,
        dir,
        immutable: true,
        sum: None,
    })
}

/// The user's tree is identified by the names, sizes and times of its source files.
async fn own_tree(path: PathBuf) -> Result<SourceTree> {
    blocking(move || {
        let dir = std::path::absolute(&path).at("resolve", &path)?;
        require_kernel(&dir, &dir.display().to_string())?;
        let id = tree::identify(&dir)?;
        let label = dir.display().to_string();
        Ok(SourceTree {
            id,
            label,
            dir,
            immutable: false,
            sum: None,
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_folder_that_is_no_kernel_is_the_files_fault() {
        let dir = tempfile::tempdir().unwrap();
        let error = own_tree(dir.path().to_path_buf()).await.unwrap_err();
        assert_eq!(error.blame, Blame::File);
    }
}
