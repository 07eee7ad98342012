// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab import`: a scenario from the commands of a report.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::new::write_new;
use crate::cache;
use crate::error::{Blame, Error, IoContext, Result};
use crate::files::{self, read_regular};
use crate::import::{Imported, Prebuilt, Request, import};
use crate::module::prebuilt;
use crate::report::text::count;
use crate::report::to_stderr;
use crate::scenario::{self, is_scenario_name, kernel_module_name};
use crate::yaml::Source;

pub const EXAMPLES: &str = "\
Examples:
  lab import report.txt                          writes scenarios/report.yaml
  lab import report.txt --modules ~/attached     with the report's .ko files
  xclip -o | lab import - --name stale-hotfix    from the clipboard
  lab import test-livepatch.sh --test 'atomic replace' -o -

Nothing of the report is run. What is not understood becomes a comment in the scenario.";

/// Bytes of a report.
const REPORT_MAX: u64 = 1 << 20;
/// Modules of a report.
const MODULES_MAX: usize = 200;
/// Lines that are shown of those that were not understood.
const UNKNOWN_MAX: usize = 20;
/// What stands for standard input and output.
const DASH: &str = "-";

/// Arguments of `lab import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A file with commands, such as a saved mail or a script of the selftests; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The scenario's name [default: the file's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where to write it; `-` is standard output [default: scenarios/NAME.yaml].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A folder with the report's modules, which are copied beside the scenario.
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Only the case of a script whose title contains this text.
    #[arg(long, value_name = "TEXT")]
    test: Option<String>,
}

/// A module's file of the report.
struct Found {
    path: PathBuf,
    file: String,
}

/// Writes the scenario. `project` finds the checkout, if it is needed.
pub fn run(args: &ImportArgs, project: impl FnOnce() -> Result<PathBuf>) -> Result<u8> {
    let text = read(&args.file)?;
    let name = name(args)?;
    let output = match &args.output {
        Some(path) => path.clone(),
        None => project()?.join("scenarios").join(format!("{name}.yaml")),
    };
    let is_stdout = output.as_os_str() == DASH;
    if !is_stdout && output.exists() {
        return Err(super::new::exists(&output));
    }
    let (files, found) = modules(args.modules.as_deref(), &name)?;
    let from = match args.file.as_os_str() == DASH {
        true => "standard input".to_owned(),
        false => args
            .file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let request = Request {
        text: &text,
        from: &from,
        test: args.test.as_deref(),
        files: &files,
    };
    let Some(imported) = import(&request) else {
        let what = match &args.test {
            Some(test) => {
                format!("{from} has no case `{test}` with commands that the lab understands")
            }
            None => format!("{from} holds no command that the lab understands"),
        };
        return Err(Error::new(Blame::File, what)
            .help("it looks for insmod, rmmod, writes to /sys and the functions of selftests"));
    };
    let source = Source::new(output.display().to_string(), imported.yaml.clone());
    let scenario = scenario::parse(&name, &source).map_err(|diagnostics| {
        files::rejected(&source, &diagnostics).or_help("import one case of it with --test")
    })?;
    if is_stdout {
        super::print(&imported.yaml);
    } else {
        let folder = output.parent().unwrap_or(Path::new(""));
        copy(&imported, &found, &folder.join(&name))?;
        write_new(&output, &imported.yaml)?;
        let output = files::shown(&output);
        super::print(&format!(
            "wrote {output}: {}, {}, {}\nnext: look at it, then `lab run {output}`\n",
            count(scenario.steps.len(), "step"),
            count(scenario.targets.len(), "target"),
            match scenario.livepatches.len() {
                1 => "1 livepatch".to_owned(),
                n => format!("{n} livepatches"),
            },
        ));
    }
    let mut said = said(&imported, args.modules.is_some());
    said += &mistakes(&name, &source);
    if !said.is_empty() {
        to_stderr(said.trim_end());
    }
    Ok(0)
}

/// The steps that cannot work, for example because the report begins with modules that are loaded.
fn mistakes(name: &str, source: &Source) -> String {
    let Err(mistakes) = scenario::check(name, source) else {
        return String::new();
    };
    let mut text = "steps that cannot work, to be mended before a run:\n".to_owned();
    for mistake in mistakes.iter().take(UNKNOWN_MAX) {
        let line = source.line(mistake.span.start);
        let help = mistake.help.as_deref().unwrap_or_default();
        text += &format!(
            "  line {line} of the scenario: {}: {help}\n",
            mistake.message
        );
    }
    if let Some(more @ 1..) = mistakes.len().checked_sub(UNKNOWN_MAX) {
        text += &format!("  and {more} more: `lab check` shows them\n");
    }
    text
}

/// What is to be said of the import.
fn said(imported: &Imported, has_modules: bool) -> String {
    let mut text = String::new();
    if !imported.unknown.is_empty() {
        let (unknown, lines) = (imported.unknown.len(), imported.lines);
        text += &format!("not understood: {unknown} of {}:\n", count(lines, "line"));
        for line in imported.unknown.iter().take(UNKNOWN_MAX) {
            let shown: String = line.text.chars().take(60).collect();
            text += &format!("  line {}: {shown} ({})\n", line.line, line.why);
        }
        if unknown > UNKNOWN_MAX {
            text += &format!("  and {} more\n", unknown - UNKNOWN_MAX);
        }
    }
    if !imported.stand_ins.is_empty() {
        let names = imported.stand_ins.join(", ");
        let why = match has_modules {
            true => "they are not in the folder of --modules",
            false => "name the folder of their files with --modules",
        };
        text += &format!("stand-ins that do as good as nothing: {names} ({why})\n");
    }
    text
}

fn read(file: &Path) -> Result<String> {
    let bytes = if file.as_os_str() == DASH {
        let mut bytes = Vec::new();
        let mut input = std::io::stdin().lock().take(REPORT_MAX + 1);
        input.read_to_end(&mut bytes).at("read", file)?;
        if input.limit() == 0 {
            let what = format!("standard input has more than {REPORT_MAX} bytes");
            return Err(Error::new(Blame::File, what).help("cut out what belongs to the report"));
        }
        bytes
    } else {
        read_regular(file, REPORT_MAX)?
    };
    Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
}

/// The scenario's name: as it is said, or as the file's is.
fn name(args: &ImportArgs) -> Result<String> {
    let output = args
        .output
        .as_deref()
        .filter(|path| path.as_os_str() != DASH);
    let stem = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let name = match (&args.name, output) {
        (Some(name), None) => name.clone(),
        (_, Some(output)) => stem(output),
        (None, None) if args.file.as_os_str() == DASH => "imported".to_owned(),
        (None, None) => {
            let stem = stem(&args.file).to_lowercase();
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            let name: String = stem.chars().map(plain).collect();
            name.trim_matches('-').chars().take(60).collect()
        }
    };
    if is_scenario_name(&name) {
        return Ok(name);
    }
    Err(super::new::no_name(&name))
}

type Modules = (BTreeMap<String, Prebuilt>, BTreeMap<String, Found>);

/// The modules in a folder, by what the kernel calls them.
fn modules(folder: Option<&Path>, name: &str) -> Result<Modules> {
    let (mut files, mut found) = Modules::default();
    let Some(folder) = folder else {
        return Ok((files, found));
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        let path = entry.at("read", folder)?.path();
        if path.extension().is_some_and(|ending| ending == "ko") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.len() > MODULES_MAX {
        let what = format!("{} holds {} modules", folder.display(), paths.len());
        let help = format!("name a folder with those of the report; {MODULES_MAX} are the most");
        return Err(Error::new(Blame::Usage, what).help(help));
    }
    for path in paths {
        let (ko, _) = prebuilt::read(&path)?;
        let module = kernel_module_name(&ko.name);
        let file = format!("{module}.ko");
        let prebuilt = Prebuilt {
            ko: format!("{name}/{file}"),
            is_livepatch: ko.is_livepatch(),
        };
        if files.insert(module.clone(), prebuilt).is_some() {
            let what = format!("{} holds the module `{module}` twice", folder.display());
            return Err(Error::new(Blame::Usage, what).help("remove one of them"));
        }
        found.insert(module, Found { path, file });
    }
    Ok((files, found))
}

/// Copies the modules that are used into a folder of the scenario's own.
fn copy(imported: &Imported, found: &BTreeMap<String, Found>, folder: &Path) -> Result<()> {
    if imported.used.is_empty() {
        return Ok(());
    }
    if folder.exists() {
        return Err(super::new::exists(folder));
    }
    let staging = cache::staging_dir(folder)?;
    for module in &imported.used {
        let Some(Found { path, file }) = found.get(module) else {
            continue;
        };
        let to = staging.path().join(file);
        fs::copy(path, &to).at("copy", path)?;
    }
    cache::publish(staging, folder)
}
