// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab export`: a scenario in the form of others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{check, scenarios};
use crate::error::{Blame, Error, IoContext, Result};
use crate::export::{self, Inexpressible};
use crate::module::generate::SourceFile;
use crate::report::paint::Color;
use crate::scenario::Scenario;

pub const EXAMPLES: &str = "\
Examples:
  lab export scenarios/tagged-replace.yaml --format kselftest
  lab export my-scenario.yaml --format kselftest --output ~/linux-patch/livepatch

The files are for tools/testing/selftests/livepatch of a kernel tree; docs/export.md says how.";

/// The format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A test of tools/testing/selftests/livepatch: a bash script and the source of its modules.
    Kselftest,
}

/// Arguments of `lab export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The scenario: its file, or its name in the project.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// The format.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Format,
    /// An empty folder, or a new one [default: kselftest-<the scenario's name>].
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Writes the scenario's export.
pub fn export(args: &ExportArgs, project: Option<&Path>, color: Color) -> Result<u8> {
    let (scenarios, rejected) = scenarios::read(std::slice::from_ref(&args.scenario), project)?;
    if !rejected.is_empty() {
        check::show(&rejected, color);
        return Err(check::summary(&rejected));
    }
    let [scenario] = &scenarios[..] else {
        let what = format!("{} holds several scenarios", args.scenario.display());
        return Err(Error::new(Blame::Usage, what).help("export one after the other"));
    };
    let Format::Kselftest = args.format;
    let files = export::kselftest(scenario).map_err(|problems| refused(scenario, &problems))?;
    let default = || PathBuf::from(format!("kselftest-{}", scenario.name));
    let folder = args.output.clone().unwrap_or_else(default);
    write(&folder, &files)?;
    let (count, folder) = (files.len(), folder.display());
    super::print(&format!("wrote {count} files to {folder}\n"));
    Ok(0)
}

/// What the export cannot say, with the places.
fn refused(scenario: &Scenario, problems: &[Inexpressible]) -> Error {
    let file = scenario.folder.join(format!("{}.yaml", scenario.name));
    let file = file.display();
    let line = |problem: &Inexpressible| match problem.line {
        Some(line) => format!("{file}:{line}: {}", problem.what),
        None => format!("{file}: {}", problem.what),
    };
    let lines: Vec<_> = problems.iter().map(line).collect();
    let what = format!("{file} cannot be exported as a kselftest");
    Error::new(Blame::File, what)
        .evidence(&lines.join("\n"))
        .help("nothing is left out of an export: change these steps, or export another scenario")
}

/// Writes the files. Those of an older export would be taken for some of this one, so the folder
/// must be empty.
fn write(folder: &Path, files: &[SourceFile]) -> Result<()> {
    let is_used = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).at("read", folder),
    };
    if is_used {
        let what = format!("{} is not empty", folder.display());
        return Err(Error::new(Blame::Usage, what).help("remove it, or name another --output"));
    }
    for file in files {
        let path = folder.join(&file.name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        fs::write(&path, &file.text).at("write", &path)?;
        if file.name.ends_with(".sh") {
            let rights = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, rights).at("write", &path)?;
        }
    }
    Ok(())
}
