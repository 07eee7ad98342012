// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab.yaml` at the top of a project: defaults of `lab run`, and named matrices (profiles).
//!
//! What the command line says comes first, then the profile, then the defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::arch::Arch;
use crate::error::Result;
use crate::files::{self, ARCHES};
use crate::size::{APPEND, CPUS_LIST, Choices, MEMORY};
use crate::vm::accel::Choice;
use crate::yaml::{Field, Int, Lexis, List, MapOf, Node, OneOf, Record, Shape, Text};

/// The file's name without its extension.
const FILE: &str = "lab";

/// What may be said in `lab.yaml` and on the command line. What is not said is empty or `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Scenario files, or folders with some.
    pub paths: Vec<PathBuf>,
    /// Kernels to run on.
    pub kernels: Vec<String>,
    /// Architectures of the guests.
    pub archs: Vec<Arch>,
    /// How large the guests are.
    pub sizes: Choices,
    /// How guests are executed.
    pub accel: Option<Choice>,
    /// Guests at the same time.
    pub jobs: Option<u16>,
    /// How often a run that did not end as expected is tried again.
    pub retries: Option<u8>,
    /// How long one guest may take in all.
    pub timeout: Option<Duration>,
    /// Start no further runs after an unexpected result.
    pub fail_fast: Option<bool>,
    /// A scenario that is skipped everywhere fails the command.
    pub every_scenario: Option<bool>,
}

impl Settings {
    /// These settings, and where they say nothing the others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        fn list<T>(mine: Vec<T>, other: Vec<T>) -> Vec<T> {
            if mine.is_empty() { other } else { mine }
        }
        Self {
            paths: list(self.paths, other.paths),
            kernels: list(self.kernels, other.kernels),
            archs: list(self.archs, other.archs),
            sizes: self.sizes.or(other.sizes),
            accel: self.accel.or(other.accel),
            jobs: self.jobs.or(other.jobs),
            retries: self.retries.or(other.retries),
            timeout: self.timeout.or(other.timeout),
            fail_fast: self.fail_fast.or(other.fail_fast),
            every_scenario: self.every_scenario.or(other.every_scenario),
        }
    }
}

/// A named matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What it is for, in one line.
    pub summary: String,
    /// What it says.
    pub settings: Settings,
}

/// What `lab.yaml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabFile {
    /// For every `lab run` and `lab plan`.
    pub defaults: Settings,
    /// The profiles, in the file's order.
    pub profiles: Vec<Profile>,
}

const fn text(what: &'static str, example: &'static str) -> Text {
    Text {
        what,
        example,
        lexis: Lexis::Line,
        rule: "is one line of text",
    }
}

const SUMMARY: Text = text("a summary", "Everything, every night.");
const NAME: Text = Text {
    what: "the name of a profile",
    example: "nightly",
    lexis: Lexis::Word {
        first: "a-z0-9",
        rest: "a-z0-9-",
        max: 40,
    },
    rule: "has lower-case letters, digits and `-`",
};
const PATHS: List = List {
    what: "a list of scenario files and folders",
    example: "[scenarios]",
    item: Shape::Text(&text("a scenario file or folder", "scenarios")),
    non_empty: true,
    unique: true,
};
const KERNELS: List = List {
    what: "a list of kernels",
    example: "[mainline, tags]",
    item: Shape::Text(&text("the name of a kernel definition", "mainline")),
    non_empty: true,
    unique: true,
};
const ACCEL: OneOf = OneOf {
    what: "an accelerator",
    names: &Choice::NAMES,
};
const JOBS: Int = Int {
    what: "a number of guests",
    min: 1,
    max: 256,
};
const RETRIES: Int = Int {
    what: "a number of retries",
    min: 0,
    max: 10,
};

const SETTINGS: Shape = Shape::Record(&Record {
    what: "settings of a run",
    example: "{ summary: Everything., paths: [scenarios] }",
    fields: &[
        Field::optional("summary", Shape::Text(&SUMMARY), "What they are for."),
        Field::optional(
            "paths",
            Shape::List(&PATHS),
            "Scenario files, or folders with some, relative to this file.",
        ),
        Field::optional("kernel", Shape::OneOrMany(&KERNELS), "Kernels to run on."),
        Field::optional(
            "arch",
            Shape::OneOrMany(&ARCHES),
            "Architectures of the guests.",
        ),
        Field::optional(
            "cpus",
            Shape::OneOrMany(&CPUS_LIST),
            "Numbers of CPUs of the guests.",
        ),
        Field::optional("memory", Shape::Text(&MEMORY), "Memory of a guest."),
        Field::optional(
            "append",
            Shape::Text(&APPEND),
            "Words for the kernel's command line.",
        ),
        Field::optional("accel", Shape::OneOf(&ACCEL), "How guests are executed."),
        Field::optional("jobs", Shape::Int(&JOBS), "Guests at the same time."),
        Field::optional(
            "retries",
            Shape::Int(&RETRIES),
            "How often a run that did not end as expected is tried again.",
        ),
        Field::optional(
            "timeout",
            Shape::Duration,
            "How long one guest may take in all.",
        ),
        Field::optional(
            "fail-fast",
            Shape::Bool,
            "Start no further runs after an unexpected result.",
        ),
        Field::optional(
            "every-scenario",
            Shape::Bool,
            "Fail if a scenario is skipped on every kernel and architecture.",
        ),
    ],
    rules: &[],
});

const PROFILES: MapOf = MapOf {
    what: "profiles by name",
    example: "{ nightly: { summary: Everything., paths: [scenarios] } }",
    key: &NAME,
    value: SETTINGS,
    non_empty: true,
};

const LAB_FILE: Shape = Shape::Record(&Record {
    what: "a lab file",
    example: "version: 1",
    fields: &[
        Field::required("version", files::VERSION, "The version of this format."),
        Field::optional("defaults", SETTINGS, "For every `lab run` and `lab plan`."),
        Field::optional("profiles", Shape::MapOf(&PROFILES), "Named matrices."),
    ],
    rules: &[],
});

impl LabFile {
    /// Reads `lab.yaml` of the project; without one, nothing is said.
    ///
    /// # Errors
    ///
    /// Every mistake in the file.
    pub fn read(project: &Path) -> Result<Self> {
        if !project.join(FILE).with_extension("yaml").exists() {
            return Ok(Self::default());
        }
        let root = files::read_named(project, "lab file", FILE, LAB_FILE)?;
        let profile = |(key, node): &(crate::yaml::Key, Node)| Profile {
            name: key.name.clone(),
            summary: node
                .get("summary")
                .and_then(Node::as_str)
                .unwrap_or_default()
                .to_owned(),
            settings: read_settings(project, node),
        };
        Ok(Self {
            defaults: root
                .get("defaults")
                .map(|node| read_settings(project, node))
                .unwrap_or_default(),
            profiles: root.entries_of("profiles").iter().map(profile).collect(),
        })
    }

    /// What a profile says, and the defaults where it says nothing.
    ///
    /// # Errors
    ///
    /// There is no such profile.
    pub fn settings(&self, profile: Option<&str>) -> Result<Settings> {
        let Some(name) = profile else {
            return Ok(self.defaults.clone());
        };
        let found = self.profiles.iter().find(|profile| profile.name == name);
        let Some(found) = found else {
            let names = || self.profiles.iter().map(|profile| profile.name.as_str());
            let help = match crate::yaml::suggest(name, names()) {
                Some(other) => format!("did you mean `{other}`?"),
                None if self.profiles.is_empty() => "lab.yaml has no profiles".to_owned(),
                None => format!("known: {}", names().collect::<Vec<_>>().join(", ")),
            };
            let what = format!("there is no profile `{name}`");
            return Err(crate::error::Error::new(crate::error::Blame::Usage, what).help(help));
        };
        Ok(found.settings.clone().or(self.defaults.clone()))
    }
}

fn read_settings(project: &Path, node: &Node) -> Settings {
    let texts = |key: &str| {
        let items = node.get(key).map_or(&[][..], Node::one_or_many);
        items.iter().filter_map(Node::as_str)
    };
    Settings {
        paths: texts("paths").map(|path| project.join(path)).collect(),
        kernels: texts("kernel").map(str::to_owned).collect(),
        archs: texts("arch").filter_map(|arch| arch.parse().ok()).collect(),
        sizes: Choices::of(node),
        accel: node
            .get("accel")
            .and_then(Node::as_str)
            .and_then(Choice::named),
        jobs: node.get("jobs").and_then(Node::as_int),
        retries: node.get("retries").and_then(Node::as_int),
        timeout: node.get("timeout").and_then(Node::as_duration),
        fail_fast: node.get("fail-fast").and_then(Node::as_bool),
        every_scenario: node.get("every-scenario").and_then(Node::as_bool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LabFile> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lab.yaml"), text).unwrap();
        LabFile::read(dir.path())
    }

    #[test]
    fn the_command_line_comes_before_the_profile_and_that_before_the_defaults() {
        let file = read(
            "version: 1\ndefaults: { arch: arm64, retries: 2, jobs: 3 }\nprofiles:\n  \
             nightly: { summary: x, kernel: [a, b], jobs: 5, timeout: 5m, fail-fast: true, \
             every-scenario: true }\n",
        )
        .unwrap();
        let command_line = Settings {
            kernels: vec!["c".into()],
            ..Settings::default()
        };
        let settings = command_line.or(file.settings(Some("nightly")).unwrap());
        assert_eq!(settings.kernels, ["c"]);
        assert_eq!(settings.archs, [Arch::Arm64]);
        assert_eq!((settings.jobs, settings.retries), (Some(5), Some(2)));
        assert_eq!(settings.timeout, Some(Duration::from_mins(5)));
        assert_eq!(settings.fail_fast, Some(true));
        assert_eq!(settings.every_scenario, Some(true));
    }

    #[test]
    fn mistakes_are_shown_with_their_places() {
        let error =
            read("version: 1\nprofiles: { n: { summary: x, retries: 11, archs: arm64 } }\n");
        let text = error.unwrap_err().evidence.join("\n");
        assert!(text.contains("lab.yaml:2"), "{text}");
        assert!(text.contains("did you mean `arch`"), "{text}");
        assert!(text.contains("11"), "{text}");
    }

    #[test]
    fn an_unknown_profile_comes_with_the_nearest() {
        let file = read("version: 1\nprofiles: { nightly: { summary: x } }\n").unwrap();
        let error = file.settings(Some("nightli")).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean `nightly`?"));
    }

    #[test]
    fn without_a_file_nothing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LabFile::read(dir.path()).unwrap(), LabFile::default());
    }
}
