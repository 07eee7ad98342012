// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel configuration: fragments on top of allnoconfig, and the proof that each option stuck.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Blame, Error, IoContext, Result};

/// A config fragment.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Its file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Fragment {
    /// Reads a fragment.
    pub fn read(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path).at("read the config fragment", &path);
        let text = text.map_err(|mut error| {
            error.blame = Blame::File;
            error
        })?;
        Ok(Self { path, text })
    }

    /// Leaves out what this source does not know. An option that comes and goes between releases
    /// stands behind the line `# lab: where FILE declares it`, FILE being relative to the source.
    #[must_use]
    pub fn for_source(mut self, tree: &Path) -> Self {
        let mut text = String::new();
        let mut file = None;
        for line in self.text.lines() {
            let unknown = file.take().is_some_and(|file| {
                parse_option(line.trim()).is_some_and(|(name, _)| !declares(tree, file, name))
            });
            // An empty line in its place: messages name the fragment's lines.
            text += if unknown { "" } else { line };
            text.push('\n');
            file = line
                .strip_prefix("# lab: where ")
                .and_then(|rest| rest.strip_suffix(" declares it"));
        }
        self.text = text;
        self
    }

    /// `(option, value, line)`; a missing option has the value `n`.
    fn options(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.text.lines().enumerate().filter_map(|(index, line)| {
            let (name, value) = parse_option(line.trim())?;
            Some((name, value, index + 1))
        })
    }
}

/// Whether a Kconfig file declares an option.
fn declares(tree: &Path, file: &str, option: &str) -> bool {
    let text = fs::read_to_string(tree.join(file)).unwrap_or_default();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    text.lines().map(words).any(|words| {
        matches!(&words[..], [keyword, name]
            if ["config", "menuconfig"].contains(&keyword.as_str()) && name == option)
    })
}

/// `CONFIG_X=y` or `# CONFIG_X is not set`.
fn parse_option(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return rest.strip_suffix(" is not set").map(|name| (name, "n"));
    }
    line.strip_prefix("CONFIG_")?.split_once('=')
}

/// All fragments as one file for `KCONFIG_ALLCONFIG`. The last one that names an option wins.
pub fn merge(fragments: &[Fragment]) -> String {
    let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
    for fragment in fragments {
        wanted.extend(fragment.options().map(|(name, value, _)| (name, value)));
    }
    wanted
        .iter()
        .map(|(name, value)| format!("CONFIG_{name}={value}\n"))
        .collect()
}

/// Checks that the final `.config` has what the fragments want. Each option that did not stick is
/// named with the fragment that wants it and with what Kconfig says about it.
pub fn check_stuck(fragments: &[Fragment], config: &str, tree: &Path) -> Result<()> {
    let actual: BTreeMap<&str, &str> = config.lines().filter_map(parse_option).collect();
    let mut wanted: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for fragment in fragments {
        for (name, value, line) in fragment.options() {
            let place = format!("{}:{line}", fragment.path.display());
            wanted.insert(name, (value, place));
        }
    }
    let lost: Vec<_> = wanted
        .iter()
        .filter(|(name, (value, _))| actual.get(**name).copied().unwrap_or("n") != *value)
        .collect();
    let Some((first, _)) = lost.first() else {
        return Ok(());
    };
    let declarations = Declarations::read(tree);
    let mut evidence = Vec::new();
    for (name, (value, place)) in &lost {
        let got = actual.get(**name).copied().unwrap_or("n");
        evidence.push(format!(
            "{place}: wants CONFIG_{name}={value}, the build has {got}"
        ));
        evidence.extend(
            declarations
                .explain(name)
                .into_iter()
                .map(|line| format!("  {line}")),
        );
    }
    let what = match lost.len() {
        1 => format!("config option CONFIG_{first} did not stick"),
        n => format!("{n} config options did not stick, CONFIG_{first} among them"),
    };
    Err(Error::new(Blame::Kernel, what)
        .evidence(&evidence.join("\n"))
        .help(
            "set what the option depends on in a fragment, or drop the option; a later fragment of \
         the definition overrides an earlier one",
        ))
}

/// Where Kconfig declares options, to say who overrode a wish.
struct Declarations {
    tree: PathBuf,
    files: Vec<PathBuf>,
}

impl Declarations {
    fn read(tree: &Path) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![tree.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                } else if name.starts_with("Kconfig") {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        Self {
            tree: tree.to_path_buf(),
            files,
        }
    }

    /// Each declaration of the option: place and `depends on` lines.
    fn explain(&self, name: &str) -> Vec<String> {
        let heads = [format!("config {name}"), format!("menuconfig {name}")];
        let mut lines = Vec::new();
        for file in &self.files {
            let text = fs::read_to_string(file).unwrap_or_default();
            let mut inside = false;
            for (index, line) in text.lines().enumerate() {
                if heads.iter().any(|head| line.trim_end() == head) {
                    inside = true;
                    let path = file.strip_prefix(&self.tree).unwrap_or(file);
                    lines.push(format!(
                        "Kconfig declares it at {}:{}",
                        path.display(),
                        index + 1
                    ));
                } else if !line.starts_with([' ', '\t', '#']) && !line.is_empty() {
                    inside = false;
                } else if inside && line.trim_start().starts_with("depends on") {
                    lines.push(line.trim().to_owned());
                }
            }
        }
        if lines.is_empty() {
            lines.push("this kernel has no such option".to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_does_not_declare_is_left_out_where_the_fragment_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let text = "CONFIG_A=y\n# lab: where fs/Kconfig declares it\nCONFIG_B=y\nCONFIG_C=y\n";
        let without = fragment(text).for_source(dir.path());
        let names = |fragment: &Fragment| {
            let names = fragment
                .options()
                .map(|(name, _, line)| format!("{name}:{line}"));
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&without), ["A:1", "C:4"]);
        fs::create_dir(dir.path().join("fs")).unwrap();
        fs::write(
            dir.path().join("fs/Kconfig"),
            "config BB\nconfig B\n\tbool\n",
        )
        .unwrap();
        let with = fragment(text).for_source(dir.path());
        assert_eq!(names(&with), ["A:1", "B:3", "C:4"]);
    }

    fn fragment(text: &str) -> Fragment {
        Fragment {
            path: "kernels/config/base.config".into(),
            text: text.into(),
        }
    }

    #[test]
    fn the_last_fragment_wins() {
        let merged = merge(&[
            fragment("CONFIG_A=y\nCONFIG_B=y\n"),
            fragment("# CONFIG_B is not set"),
        ]);
        assert_eq!(merged, "CONFIG_A=y\nCONFIG_B=n\n");
    }

    #[test]
    fn an_option_that_did_not_stick_is_explained() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("kernel")).unwrap();
        let kconfig =
            "config OTHER\n\tbool\n\nconfig B\n\tbool \"b\"\n\tdepends on OTHER\n\nconfig C\n";
        fs::write(tree.path().join("kernel/Kconfig.x"), kconfig).unwrap();
        let wanted = fragment("CONFIG_A=y\nCONFIG_B=y\nCONFIG_D=n\n");
        let error = check_stuck(
            &[wanted],
            "CONFIG_A=y\n# CONFIG_B is not set\n",
            tree.path(),
        );
        insta::assert_snapshot!(error.unwrap_err().evidence.join("\n"), @r"
        kernels/config/base.config:2: wants CONFIG_B=y, the build has n
          Kconfig declares it at kernel/Kconfig.x:4
          depends on OTHER
        ");
    }
}
