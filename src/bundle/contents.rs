// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a bundle would play: its scenario and its kernel, which must be a scenario and a kernel that
//! name nothing outside of the bundle.

use std::fs;
use std::path::{Component, Path};

use super::{Bundle, RUN};
use crate::error::{Blame, Error, Result};
use crate::files::{self, read_regular};
use crate::kernel::Definition;
use crate::kernel::source::Source;
use crate::scenario::{self, Action, Scenario};
use crate::state::snapshot::SnapshotFile;

/// Bytes of a text of the record that is read.
const TEXT_MAX: u64 = 64 << 20;

/// What a bundle would play.
#[derive(Debug)]
pub struct Contents {
    /// The scenario.
    pub scenario: Scenario,
    /// The definition of the kernel.
    pub kernel: Definition,
}

impl Bundle {
    /// Reads the scenario and the kernel's definition.
    ///
    /// # Errors
    ///
    /// `File` if one of them has mistakes, or names something that is not in the bundle.
    pub fn contents(&self) -> Result<Contents> {
        let run = &self.manifest.origin.run;
        let source = files::read_source(&self.path(&self.manifest.scenario()))?;
        let scenario = scenario::parse(&run.scenario, &source)
            .map_err(|diagnostics| files::rejected(&source, &diagnostics))?;
        let kernel = Definition::read(&self.project(), &run.kernel).map_err(|mut error| {
            error.blame = Blame::File;
            error
        })?;
        let klp_build = scenario.from_klp_build().flat_map(|(_, patches)| patches);
        let named = kernel.config_for(run.arch).into_iter();
        for path in named.chain(kernel.patches.clone()).chain(klp_build) {
            if !is_inside(&path, &self.project()) {
                let what = format!("the bundle names {}, which is not in it", path.display());
                return Err(Error::new(Blame::File, what)
                    .help("ask whoever wrote it for another one; nothing of it was run"));
            }
        }
        Ok(Contents { scenario, kernel })
    }

    /// A text of the record, if it has one.
    ///
    /// # Errors
    ///
    /// `Host` if it cannot be read.
    pub fn recorded(&self, name: &str) -> Result<Option<String>> {
        let name = format!("{RUN}/{name}");
        if !self.manifest.has(&name) {
            return Ok(None);
        }
        let text = read_regular(&self.path(&name), TEXT_MAX)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Puts the snapshot into its project that the run was compared with, if it differed from one.
    ///
    /// # Errors
    ///
    /// `Host` for the disk.
    pub fn restore_snapshot(&self, scenario: &Scenario) -> Result<()> {
        let run = &self.manifest.origin.run;
        let file = SnapshotFile::of(&self.project(), run, scenario.snapshot);
        match self.recorded("accepted.txt")? {
            Some(accepted) => file.accept(&accepted),
            None => Ok(()),
        }
    }
}

impl Contents {
    /// Why the kernel cannot be built anew, if it cannot.
    pub fn cannot_be_built(&self) -> Option<&'static str> {
        match &self.kernel.source {
            Source::Path(_) => Some("its source is a tree of the reporter's own"),
            Source::Tarball { location, .. } if !location.contains("://") => {
                Some("its source is a file of the reporter's own")
            }
            _ => None,
        }
    }

    /// Why the scenario cannot be played without the kernel's tree, if it cannot.
    pub fn needs_tree(&self) -> Option<&'static str> {
        let klp_build = |step: &scenario::Step| matches!(step.action, Action::KlpBuild { .. });
        let needs = self.scenario.steps.iter().any(klp_build);
        needs.then_some("a step of it tries the kernel's own klp-build")
    }
}

/// Whether a path is that of a file below a folder, and not by way of `..` or a link.
fn is_inside(path: &Path, folder: &Path) -> bool {
    let Ok(rest) = path.strip_prefix(folder) else {
        return false;
    };
    let plain = |part: Component| matches!(part, Component::Normal(_));
    rest.components().all(plain) && fs::symlink_metadata(path).is_ok_and(|data| !data.is_symlink())
}
