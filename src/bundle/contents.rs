// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a bundle would play: its scenario and its kernel, which must be a scenario and a kernel that
//! name nothing outside of the bundle.

use std::fs;
use std::path::{Component, Path};

use super::{Bundle, RUN};
use crate::error::{Blame, Error, Result};
use crate::files::{self, read_regular};
use crate::kernel::Definition;
use crate::kernel::definition::Source;
use crate::scenario::{self, Scenario};
use crate::state::snapshot::{SnapshotFile, Subject, file_of};
use crate::step::Place;

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
        let modules = scenario.prebuilt().map(|(_, file)| file);
        let named = kernel.config_for(run.arch).into_iter();
        let named = named.chain(kernel.patches.clone());
        for path in named.chain(klp_build).chain(modules) {
            if !is_inside(&path, &self.project()) {
                let what = format!("the bundle names {}, which is not in it", path.display());
                return Err(Error::new(Blame::File, what)
                    .help("nothing of it was run; ask its author for a new one"));
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
        let subject = Subject {
            run,
            file: &file_of(scenario),
            scope: scenario.snapshot,
            bases: &[],
        };
        let file = SnapshotFile::of(&self.project(), &subject);
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
            Source::Prebuilt(_) => Some("the reporter did not build it with the lab"),
            _ => None,
        }
    }

    /// Why the scenario cannot be played without the kernel's tree, if it cannot.
    pub fn needs_tree(&self) -> Option<&'static str> {
        let mut steps = self.scenario.steps.iter();
        let needs = steps.any(|step| step.action.effects().place == Place::Host);
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

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::manifest;
    use super::*;

    const SCENARIO: &str = "version: 1\nsummary: x\nlivepatches:\n  fix: { klp-build: fix.patch }\n\
                            steps:\n  - load: fix\n";
    const KERNEL: &str = "version: 1\nsummary: x\nsource: { git: \"https://x\", revision: v7.3 }\n\
                          config: [config/1-x.config]\n";

    /// A bundle with these files in its project, as if it had been unpacked.
    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        let whole = [
            ("scenarios/window.yaml", SCENARIO),
            ("scenarios/fix.patch", "--- a\n"),
            ("kernels/tags-rfc.yaml", KERNEL),
            ("kernels/config/1-x.config", "CONFIG_X=y\n"),
        ];
        for (name, text) in whole.iter().chain(files) {
            let path = dir.path().join("project").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Bundle::at(manifest(&[]), dir)
    }

    #[test]
    fn what_a_bundle_plays_is_all_in_it() {
        let contents = bundle(&[]).contents().unwrap();
        assert_eq!(contents.scenario.steps.len(), 1);
        assert_eq!(contents.cannot_be_built(), None);
        let with = |from: &str, to: &str| {
            assert!(SCENARIO.contains(from) || KERNEL.contains(from), "{from}");
            let scenario = ("scenarios/window.yaml", &*SCENARIO.replace(from, to));
            let kernel = ("kernels/tags-rfc.yaml", &*KERNEL.replace(from, to));
            bundle(&[scenario, kernel]).contents()
        };
        for (from, to) in [
            ("config/1-x.config", "/etc/passwd"),
            ("config/1-x.config", "../../../../../../etc/passwd"),
            ("config/1-x.config", "config/absent.config"),
            ("summary: x\nsource", "summary: x\npatches: ../..\nsource"),
            ("fix.patch", "absent.patch"),
        ] {
            let error = with(from, to).unwrap_err();
            assert_eq!(error.blame, Blame::File);
            assert!(error.what.ends_with("which is not in it"), "{to}: {error}");
        }
        let mistake = with("load: fix", "load: other").unwrap_err();
        assert_eq!(mistake.exit_code(), 2);
    }

    #[test]
    fn a_source_of_the_reporters_own_cannot_be_built_elsewhere() {
        for source in [
            "{ path: ../source }",
            "{ tarball: ../source, sha256: 703e369ddd4cce971452f5a593ee55df3a5c10c83caf0fa0df039633ed181ee3 }",
        ] {
            let text = KERNEL.replace("{ git: \"https://x\", revision: v7.3 }", source);
            let contents = bundle(&[("kernels/tags-rfc.yaml", &text)])
                .contents()
                .unwrap();
            assert!(
                contents
                    .cannot_be_built()
                    .unwrap()
                    .contains("the reporter's own")
            );
        }
    }

    #[test]
    fn a_step_that_builds_needs_the_kernels_tree() {
        let steps = SCENARIO.replace("  - load: fix", "  - klp-build: [--help]\n  - load: fix");
        let contents = bundle(&[("scenarios/window.yaml", &steps)]).contents();
        assert!(contents.unwrap().needs_tree().is_some());
        assert_eq!(bundle(&[]).contents().unwrap().needs_tree(), None);
    }
}
