// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patch series: reading them, and applying them to a tree of hard links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result, full_disk};
use crate::process::Cmd;

/// One patch of a series.
#[derive(Debug, Clone)]
pub struct Patch {
    /// Its file.
    pub path: PathBuf,
    /// Its text.
    pub text: Vec<u8>,
}

/// Reads the `*.patch` files of a folder in the order of their names.
pub fn read_series(dir: &Path) -> Result<Vec<Patch>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)
        .at("read the patch series", dir)
        .map_err(as_file)?
    {
        let path = entry.at("read", dir)?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(Error::new(
            Blame::File,
            format!("no *.patch file in {}", dir.display()),
        ));
    }
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read(&path).at("read", &path)?;
            Ok(Patch { path, text })
        })
        .collect()
}

fn as_file(mut error: Error) -> Error {
    error.blame = Blame::File;
    error
}

/// Applies a series to the tree, strictly: a hunk that needs fuzz may land in the wrong place.
/// Returns the files that it touched.
pub async fn apply(ctx: &Context, series: &[Patch], tree: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut touched = BTreeSet::new();
    for patch in series {
        let finished = Cmd::new("patch")
            .args([
                "-p1",
                "--fuzz=0",
                "--batch",
                "--no-backup-if-mismatch",
                "--forward",
                "-i",
            ])
            .arg(std::path::absolute(&patch.path).at("resolve", &patch.path)?)
            .dir(tree)
            .env("LC_ALL", "C")
            .run(&ctx.cancel, |line| {
                touched.extend(patched_file(line).map(PathBuf::from))
            })
            .await?;
        if let Some(line) = full_disk(&finished.tail) {
            return Err(Error::tool("applying the patches", line));
        }
        if !finished.status.success() {
            return Err(does_not_apply(&patch.path, &finished.tail));
        }
    }
    Ok(touched)
}

/// `patching file kernel/livepatch/core.c` → `kernel/livepatch/core.c`.
fn patched_file(line: &str) -> Option<&str> {
    let name = line.strip_prefix("patching file ")?;
    Some(name.trim_matches('\''))
}

/// Names the file and the hunks from patch(1)'s output.
fn does_not_apply(patch: &Path, output: &str) -> Error {
    let mut file = "";
    let mut failed = Vec::new();
    for line in output.lines() {
        if let Some(name) = patched_file(line) {
            file = name;
        } else if line.starts_with("Hunk #") && line.contains("FAILED") {
            let hunk = line
                .split(" -- ")
                .next()
                .unwrap_or(line)
                .trim_end_matches('.');
            failed.push(format!("{file}: {hunk}"));
        } else if line.starts_with("can't find file") {
            failed.push(line.to_owned());
        }
    }
    let name = patch.file_name().unwrap_or_default().to_string_lossy();
    let what = match failed.first() {
        Some(first) => format!("{name} does not apply: {first}"),
        None => format!("{name} does not apply"),
    };
    let evidence = if failed.is_empty() {
        output.to_owned()
    } else {
        failed.join("\n")
    };
    Error::new(Blame::Kernel, what)
        .evidence(&evidence)
        .help("rebase the series on this source, or give the kernel another source")
}

/// Gives `path` (relative to `tree`) a copy of its own with another time, so that make rebuilds
/// what depends on it. The trees are hard links: changing the time in place would change it in
/// every other tree as well.
pub fn renew(tree: &Path, path: &Path, time: SystemTime) -> Result<()> {
    let file = tree.join(path);
    if !file.is_file() {
        return Ok(());
    }
    let data = fs::read(&file).at("read", &file)?;
    let mode = fs::metadata(&file).at("read", &file)?.permissions();
    fs::remove_file(&file).at("replace", &file)?;
    fs::write(&file, data).at("write", &file)?;
    let opened = fs::File::options().append(true).open(&file);
    let renewed = opened.and_then(|file| file.set_modified(time));
    renewed.at("write", &file)?;
    fs::set_permissions(&file, mode).at("write", &file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_hunk_is_named_with_its_file() {
        let output = "patching file include/linux/livepatch.h\npatching file kernel/livepatch/core.c\n\
                      Hunk #2 FAILED at 793.\n1 out of 2 hunks FAILED -- saving rejects to file x.rej\n";
        let error = does_not_apply(Path::new("s/0002-x.patch"), output);
        assert_eq!(
            error.what,
            "0002-x.patch does not apply: kernel/livepatch/core.c: Hunk #2 FAILED at 793"
        );
    }

    #[test]
    fn renewing_breaks_the_hard_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "text").unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        renew(dir.path(), Path::new("b"), SystemTime::now()).unwrap();
        let inode = |name| {
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir.path().join(name)).unwrap())
        };
        assert_ne!(inode("a"), inode("b"));
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "text");
    }
}
