// SPDX-License-Identifier: MIT OR Apache-2.0
//! Projects and caches of the benchmark's own, so that what it generates and builds leaves nothing
//! behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use livepatch_lab::cache::Cache;
use tempfile::TempDir;

use crate::{Result, process};

/// A project with the checkout's kernels and images, and scenarios of its own.
pub struct Project(TempDir);

impl Project {
    pub fn new(root: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for folder in ["kernels", "images"] {
            let (from, to) = (root.join(folder), dir.path().join(folder));
            process::time(Command::new("cp").arg("--archive").arg(from).arg(to))?;
        }
        fs::create_dir(dir.path().join("scenarios"))?;
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a scenario.
    pub fn scenario(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join("scenarios").join(format!("{name}.yaml"));
        Ok(fs::write(path, text)?)
    }

    /// Writes a kernel definition.
    pub fn kernel(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join("kernels").join(format!("{name}.yaml"));
        Ok(fs::write(path, text)?)
    }
}

/// A cache that has all that the user's has, and keeps new modules to itself.
pub struct BorrowedCache(TempDir);

impl BorrowedCache {
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for entry in fs::read_dir(Cache::from_env()?.dir())? {
            let entry = entry?;
            // The locks come along: whoever builds the same kernel waits for the other one.
            if !["modules", "times"]
                .iter()
                .any(|own| entry.file_name() == *own)
            {
                symlink(entry.path(), dir.path().join(entry.file_name()))?;
            }
        }
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A folder below target/ for trees, which may be too large for /tmp.
pub fn large_tempdir() -> Result<TempDir> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(dir)?;
    Ok(tempfile::Builder::new().prefix("speed-").tempdir_in(dir)?)
}

/// Options with which each transition takes a second or so.
pub const LONG: [&str; 3] = ["--cpus", "2", "--patient"];

/// Loads a livepatch, looks at it and disables it, `times` times. `number` makes its modules differ
/// from others'.
pub fn scenario(times: usize, number: usize) -> String {
    let text = format!(
        "# SPDX-License-Identifier: MIT OR Apache-2.0\n\
         version: 1\n\
         summary: Loads and disables a livepatch several times.\n\
         targets:\n  shop: {{ functions: {{ price: {number}, stock: 20 }} }}\n\
         livepatches:\n  fix: {{ patches: {{ shop: {{ price: 1 }} }} }}\n\
         steps:\n  - load: shop\n"
    );
    let once = "  - load: fix\n  - expect: { transition: none }\n\
                \x20 - disable: fix\n  - expect: { transition: none }\n  - unload: fix\n";
    text + &once.repeat(times) + "  - unload: shop\n"
}

/// A scenario of the usual size: a target and three livepatches.
pub fn scenario_of_four_modules(number: usize) -> String {
    format!(
        "# SPDX-License-Identifier: MIT OR Apache-2.0\n\
         version: 1\n\
         summary: A target and three livepatches that no other scenario has.\n\
         targets:\n  shop: {{ functions: {{ price: {number}, stock: 20 }} }}\n\
         livepatches:\n\
         \x20 one: {{ patches: {{ shop: {{ price: 1 }} }} }}\n\
         \x20 two: {{ patches: {{ shop: {{ price: 2 }} }} }}\n\
         \x20 three: {{ patches: {{ shop: {{ stock: 3 }} }} }}\n\
         steps:\n  - load: shop\n  - unload: shop\n"
    )
}

/// The path of a scenario of the checkout, by its name.
pub fn find_scenario(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir()
            && let Some(found) = find_scenario(&path, name)?
        {
            return Ok(Some(found));
        }
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
            && path.file_stem().is_some_and(|stem| stem == name)
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
