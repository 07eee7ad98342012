// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding and reading the scenario files that a command line names.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::context::is_project;
use crate::error::{Blame, Error, IoContext, Result};
use crate::files::{self, shown};
use crate::module::prebuilt;
use crate::scenario::{self, Scenario};
use crate::yaml::{self, Diagnostics, Source};

/// A file that cannot be used.
pub struct Rejected {
    /// The file.
    pub source: Source,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
}

/// Folders of a project that hold other files than scenarios.
const OTHER_FOLDERS: [&str; 3] = ["kernels", "images", "snapshots"];
/// What a scenario has at the beginning of a line, and other YAML files do not.
const SECTIONS: [&str; 3] = ["steps:", "livepatches:", "targets:"];
/// What marks a folder that holds nothing of a person's: cargo's `target/` has it.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// The `*.yaml` files that a path names: itself, or those of a folder, of which there may be none.
pub fn files_in(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    match path.is_dir() {
        true => collect_entries(path, path, &mut files)?,
        false => files.push(path.to_path_buf()),
    }
    Ok(files)
}

/// Reads files, the `*.yaml` files of folders, and the scenarios of a project by their names.
/// Everything that is wrong is found at once.
///
/// # Errors
///
/// `Usage` if there is no such file and no such scenario; `File` if two have one name.
pub fn read(paths: &[PathBuf], project: Option<&Path>) -> Result<(Vec<Scenario>, Vec<Rejected>)> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, project, &mut files)?;
    }
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    let (mut scenarios, mut rejected) = (Vec::new(), Vec::new());
    for file in files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(other) = seen.insert(name.clone(), file.clone()) {
            if other == file {
                continue;
            }
            let (other, file) = (other.display(), file.display());
            let what = format!("{other} and {file} have the same name, `{name}`");
            return Err(Error::new(Blame::File, what)
                .help("a scenario's name identifies its snapshots: rename one of them"));
        }
        let source = files::read_source(&file)?;
        match scenario::check(&name, &source) {
            Ok(scenario) => {
                patches_are_there(&file, &scenario)?;
                prebuilt::check(&scenario)?;
                scenarios.push(scenario);
            }
            Err(diagnostics) => rejected.push(Rejected {
                source,
                diagnostics,
            }),
        }
    }
    Ok((scenarios, rejected))
}

/// The source patches of a scenario must be there before anything is built.
fn patches_are_there(file: &Path, scenario: &Scenario) -> Result<()> {
    for (livepatch, patches) in scenario.from_klp_build() {
        if let Some(missing) = patches.iter().find(|patch| !patch.is_file()) {
            let what = format!(
                "{}: there is no {}, from which {} is to be made",
                file.display(),
                missing.display(),
                livepatch.name
            );
            return Err(Error::new(Blame::File, what)
                .help("paths after `klp-build:` are relative to the scenario's folder"));
        }
    }
    Ok(())
}

/// The files that a path or a name stands for. A folder must hold a scenario somewhere.
fn collect(path: &Path, project: Option<&Path>, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.exists() {
        files.push(named(path, project)?);
        return Ok(());
    }
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let before = files.len();
    collect_entries(path, path, files)?;
    if files.len() == before {
        return Err(Error::new(
            Blame::Usage,
            format!("{} holds no *.yaml file", path.display()),
        ));
    }
    Ok(())
}

/// The file of a scenario that is named by it, or by the scenario's name.
///
/// # Errors
///
/// As [`read`].
pub fn file(path: &Path, project: &Path) -> Result<PathBuf> {
    match path.exists() {
        true => Ok(path.to_path_buf()),
        false => named(path, Some(project)),
    }
}

/// The project's scenario with this name.
fn named(name: &Path, project: Option<&Path>) -> Result<PathBuf> {
    let all = match project {
        Some(project) => all(project)?,
        None => Vec::new(),
    };
    match &of_name(name, &all)[..] {
        [one] => Ok(PathBuf::from(shown(one))),
        [] => {
            let what = format!("there is no {}", name.display());
            let stems = all.iter().filter_map(|file| file.file_stem()?.to_str());
            let meant = name.to_str().and_then(|name| yaml::suggest(name, stems));
            Err(Error::new(Blame::Usage, what).help(match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "`lab list scenarios` shows what there is".to_owned(),
            }))
        }
        several => {
            let (name, number) = (name.display(), several.len());
            let files: Vec<_> = several.iter().map(|file| shown(file)).collect();
            let what = format!("{number} scenarios have the name {name}");
            Err(Error::new(Blame::Usage, what)
                .evidence(&files.join("\n"))
                .help("name the file of one"))
        }
    }
}

/// The file of the project's scenario with this name, if it has one, and only one.
pub fn of_project(name: &str, project: &Path) -> Option<PathBuf> {
    match &of_name(Path::new(name), &all(project).ok()?)[..] {
        [one] => Some(PathBuf::from(shown(one))),
        _ => None,
    }
}

/// The files of a project's scenarios.
fn all(project: &Path) -> Result<Vec<PathBuf>> {
    let (folder, mut files) = (project.join("scenarios"), Vec::new());
    if folder.is_dir() {
        collect_entries(&folder, &folder, &mut files)?;
    }
    Ok(files)
}

/// The files that a name stands for: `tagged-replace`, `upstream/callbacks-1`, with `.yaml` or without.
fn of_name<'a>(name: &Path, files: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    let is_name = |part: Component| matches!(part, Component::Normal(_));
    let text = name.to_str().filter(|_| name.components().all(is_name));
    let Some(name) = text.map(|name| name.strip_suffix(".yaml").unwrap_or(name)) else {
        return Vec::new();
    };
    let is_named = |file: &&PathBuf| !name.is_empty() && file.with_extension("").ends_with(name);
    files.iter().filter(is_named).collect()
}

/// The `*.yaml` files of a folder and of those in it, by name. What is hidden, a cache, or a project's
/// but no scenario, is left out. `from` is the folder that was named.
fn collect_entries(from: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).at("read", folder)? {
        entries.push(entry.at("read", folder)?.path());
    }
    entries.sort();
    let (in_project, whole) = (is_project(folder), is_project(from));
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || (in_project && OTHER_FOLDERS.contains(&&*name)) {
            continue;
        }
        if entry.is_dir() {
            if !entry.join(CACHE_TAG).exists() {
                collect_entries(from, &entry, files)?;
            }
        } else if entry.extension().is_some_and(|ending| ending == "yaml")
            // Of a whole project: lab.yaml, and what belongs to other programs.
            && (!whole || entry.starts_with(from.join("scenarios")) || has_sections(&entry))
        {
            files.push(entry);
        }
    }
    Ok(())
}

/// Whether a file has a part that only scenarios have. One that cannot be read shows that later.
fn has_sections(file: &Path) -> bool {
    let Ok(source) = files::read_source(file) else {
        return true;
    };
    let begins = |line: &str| SECTIONS.iter().any(|section| line.starts_with(section));
    source.text.lines().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["kernels", "images"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "version: 1\nsteps:\n").unwrap();
        }
        dir
    }

    fn found(dir: &Path, path: &str) -> Vec<String> {
        let mut files = Vec::new();
        collect(&dir.join(path), Some(dir), &mut files).unwrap();
        let name = |file: PathBuf| file.strip_prefix(dir).unwrap().display().to_string();
        files.into_iter().map(name).collect()
    }

    #[test]
    fn a_whole_project_is_its_scenarios() {
        let dir = project(&[
            "scenarios/a.yaml",
            "scenarios/upstream/b.yaml",
            "more/c.yaml",
            ".lab/runs/x/project/scenarios/a.yaml",
            "scenarios/.hidden/a.yaml",
            "kernels/tags.yaml",
            "images/default.yaml",
            "target/debug/d.yaml",
        ]);
        let root = dir.path();
        std::fs::write(root.join("target/CACHEDIR.TAG"), "").unwrap();
        for other in ["lab.yaml", "contrib.yaml"] {
            std::fs::write(root.join(other), "version: 1\nprofiles: {}\n").unwrap();
        }
        // A scenario that lacks everything is one all the same.
        std::fs::write(root.join("scenarios/empty.yaml"), "version: 1\n").unwrap();
        let scenarios = [
            "scenarios/a.yaml",
            "scenarios/empty.yaml",
            "scenarios/upstream/b.yaml",
        ];
        assert_eq!(found(root, "scenarios"), scenarios);
        let mut all = vec!["more/c.yaml"];
        all.extend(scenarios);
        assert_eq!(found(root, ""), all);
        // What is named is meant.
        assert_eq!(found(root, ".lab/runs/x/project/scenarios").len(), 1);
        assert_eq!(found(root, "kernels"), ["kernels/tags.yaml"]);
    }

    #[test]
    fn a_scenario_of_the_project_has_a_name() {
        let dir = project(&[
            "scenarios/a-b.yaml",
            "scenarios/upstream/b.yaml",
            "scenarios/x/b.yaml",
        ]);
        let root = dir.path();
        for name in ["a-b", "a-b.yaml", "scenarios/a-b"] {
            let file = named(Path::new(name), Some(root)).unwrap();
            assert!(file.ends_with("scenarios/a-b.yaml"), "{name}: {file:?}");
        }
        assert!(
            named(Path::new("x/b"), Some(root))
                .unwrap()
                .ends_with("x/b.yaml")
        );
        let error = named(Path::new("b"), Some(root)).unwrap_err();
        assert_eq!(error.what, "2 scenarios have the name b");
        assert!(
            error.evidence[0].ends_with("scenarios/upstream/b.yaml"),
            "{error}"
        );
        assert!(error.evidence[1].ends_with("scenarios/x/b.yaml"), "{error}");
        let error = named(Path::new("a-c"), Some(root)).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean `a-b`?"));
        for name in ["/a-b", "../a-b", "a", ""] {
            named(Path::new(name), Some(root)).unwrap_err();
            assert_eq!(of_project(name, root), None);
        }
        named(Path::new("a-b"), None).unwrap_err();
    }
}
