// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab new`: a scenario to begin with.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Blame, Error, IoContext, Result};
use crate::files::shown;
use crate::scenario::is_scenario_name;

pub const EXAMPLES: &str = "\
Examples:
  lab new stale-hotfix                 writes scenarios/stale-hotfix.yaml
  lab new stale-hotfix --tags          with replace tags instead of `replace: true`
  lab new stale-hotfix -o -            shows it

The scenario passes as it is; change it step by step.";

/// What a scenario begins with.
const TEMPLATE: &str = include_str!("new.yaml");

/// Arguments of `lab new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The scenario's name: lower-case letters, digits and `-`.
    #[arg(value_name = "NAME")]
    name: String,
    /// Livepatches have replace tags, for kernels that have them.
    #[arg(long)]
    tags: bool,
    /// Where to write it; `-` is standard output [default: scenarios/NAME.yaml].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the scenario. `project` finds the checkout, if it is needed.
pub fn run(args: &NewArgs, project: impl FnOnce() -> Result<PathBuf>) -> Result<u8> {
    if !is_scenario_name(&args.name) {
        return Err(no_name(&args.name));
    }
    let text = text(args.tags);
    let output = match &args.output {
        Some(path) if path.as_os_str() == "-" => {
            super::print(&text);
            return Ok(0);
        }
        Some(path) => path.clone(),
        None => project()?
            .join("scenarios")
            .join(format!("{}.yaml", args.name)),
    };
    if output.file_stem().is_none_or(|stem| stem != &*args.name) {
        let what = format!("{} would not be called `{}`", output.display(), args.name);
        return Err(Error::new(Blame::Usage, what)
            .help("a scenario is called as its file: name the file so, or leave out --output"));
    }
    write_new(&output, &text)?;
    let kernel = if args.tags { "tags" } else { "mainline" };
    let output = shown(&output);
    super::print(&format!(
        "wrote {output}\n\
         next: lab check {output}                     look for mistakes\n      \
         lab run {output} --kernel {kernel}     play it; its first run is new\n      \
         lab review                                 look at its states, and accept them\n"
    ));
    Ok(0)
}

/// The scenario's text.
fn text(tags: bool) -> String {
    let (requires, first, second, other) = match tags {
        true => (
            "requires: { replace: tags }            # or else it is skipped\n",
            "tag: 1, ",
            "tag: 1, ",
            "tag: 2, ",
        ),
        false => ("", "", "replace: true, ", ""),
    };
    // The template's own licence is none of the user's.
    let (_, template) = TEMPLATE.split_once('\n').unwrap_or_default();
    template
        .replace("REQUIRES\n", requires)
        .replace("FIRST, ", first)
        .replace("SECOND, ", second)
        .replace("OTHER, ", other)
        .replace("STACK", if tags { "[hotfix, fix-v2]" } else { "[fix-v2]" })
        .replace("STOCK", if tags { "21" } else { "20" })
        .replace(
            "WHY",
            match tags {
                true => "fix-v1 has the same tag and is replaced, hotfix stays",
                false => "`replace: true` replaces all older ones",
            },
        )
        .replace(
            "GONE",
            if tags {
                "  - disable: hotfix\n  - unload: [hotfix, fix-v1, fix-v2, shop]\n"
            } else {
                "  - unload: [hotfix, fix-v1, fix-v2, shop]\n"
            },
        )
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        return Err(exists(path));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(parent).at("write to", parent)?;
    file.write_all(text.as_bytes()).at("write", path)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).at("write", path)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(error.error).at("write", path),
    }
}

/// Nothing is written over.
pub(super) fn exists(path: &Path) -> Error {
    let what = format!("{} is there already", path.display());
    Error::new(Blame::Usage, what).help("remove it, or choose another name")
}

/// A name that no scenario can have.
pub(super) fn no_name(name: &str) -> Error {
    let what = format!("`{name}` is not the name of a scenario");
    Error::new(Blame::Usage, what).help("take lower-case letters, digits and `-`, 60 at most")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;
    use crate::yaml::Source;

    #[test]
    fn both_beginnings_are_scenarios_without_mistakes() {
        for tags in [false, true] {
            let text = text(tags);
            let source = Source::new("x.yaml", text.clone());
            let scenario = parse("x", &source);
            let scenario = scenario
                .unwrap_or_else(|errors| panic!("{text}\n{}", errors.render(&source, false)));
            assert!(scenario.cleans_up() && scenario.livepatches.len() == 3);
            assert_eq!(scenario.requires.replace.is_some(), tags);
            let placeholders = [
                "REQUIRES", "FIRST", "SECOND", "OTHER", "STACK", "STOCK", "WHY", "GONE",
            ];
            assert!(
                placeholders.iter().all(|word| !text.contains(word)),
                "{text}"
            );
        }
    }
}
