// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest needs to play selftests: the scripts and their cases, the modules, the programs.

use std::fs;
use std::path::{Path, PathBuf};

use super::output;
use crate::arch::{Arch, Toolchain};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::RunId;
use crate::image::build::BuiltImage;
use crate::kernel::{BuiltKernel, Definition};
use crate::module::kselftest;
use crate::process::Cmd;
use crate::size::{self, Needs, Size};
use crate::vm::Accel;
use crate::vm::accel::{self, Choice};

/// The image with bash and what else the scripts call.
const IMAGE: &str = "selftests";
/// The folder of the kernel's own.
const FOLDER: &str = "tools/testing/selftests/livepatch";
/// What every script reads first.
const FUNCTIONS: &str = "functions.sh";
/// The one program that a script starts.
const HAMMER: &str = "test_klp-call_getpid";

/// A file's name in the guest, below the selftests' folder, and what it holds.
pub type GuestFile = (String, Vec<u8>);

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// `test-livepatch.sh`.
    pub name: String,
    /// Its cases, in its order: what it calls `start_test` with.
    pub cases: Vec<String>,
}

/// Selftests that are ready to be played on a kernel.
#[derive(Debug)]
pub struct Originals {
    /// `selftests`, or what the folder of one's own scripts is called.
    pub name: String,
    /// The kernel's name.
    pub kernel: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// What is booted.
    pub boot_file: PathBuf,
    /// The kernel's tree.
    pub tree: PathBuf,
    /// The image.
    pub image: BuiltImage,
    /// How it is executed.
    pub accel: Accel,
    /// How large their guests are.
    pub size: Size,
    /// The scripts, by name.
    pub scripts: Vec<Script>,
    /// The files that go into the guest, with their names there.
    pub files: Vec<GuestFile>,
}

impl Originals {
    /// Builds kernel, image, modules and programs, or finds them in the cache. `from` is a folder
    /// in the style of the kernel's own: `test-*.sh` and `test_modules/`, with the kernel's own
    /// `functions.sh` unless it brings one.
    pub async fn prepare(
        ctx: &Context,
        definition: &Definition,
        arch: Arch,
        choice: Choice,
        size: size::Choice<'_>,
        from: Option<&Path>,
    ) -> Result<Self> {
        let size = Size::of(&Needs::default(), &definition.machine, size).map_err(|why| {
            let what = format!("{} cannot be played: {why}", definition.name);
            Error::new(Blame::Usage, what).help("choose more, or leave the option out")
        })?;
        let kernel = crate::kernel::build::build(ctx, definition, arch, false).await?;
        let image = crate::image::Definition::read(&ctx.project, IMAGE)?;
        let image = crate::image::build::build(ctx, &image, arch, false).await?;
        let image = crate::image::build::for_kernel(ctx, image, &kernel).await?;
        let boot_file = kernel.boot_file(arch);
        let accel = accel::choose(ctx, choice, arch, &boot_file, &image.initramfs).await?;
        let own = kernel.tree().join(FOLDER);
        let folder = from.unwrap_or(&own);
        let (scripts, mut files) = read_scripts(folder)?;
        if !files.iter().any(|(name, _)| name == FUNCTIONS) {
            let path = own.join(FUNCTIONS);
            let data = fs::read(&path).at("read", &path)?;
            files.push((FUNCTIONS.to_owned(), data));
        }
        if from.is_none() {
            let data = compile(ctx, arch, &own.join(format!("{HAMMER}.c"))).await?;
            files.push((HAMMER.to_owned(), data));
        }
        let modules = folder.join("test_modules");
        let modules = kselftest::build(ctx, &kernel, arch, &modules).await?;
        files.extend(read_modules(&modules, &kernel)?);
        let name = from.and_then(Path::file_name);
        let name = name.map_or("selftests".into(), |name| {
            name.to_string_lossy().into_owned()
        });
        Ok(Self {
            name,
            kernel: definition.name.clone(),
            arch,
            boot_file,
            tree: kernel.tree(),
            image,
            accel,
            size,
            scripts,
            files,
        })
    }

    /// A case as a run: `test-livepatch.sh: basic function patching`.
    pub fn run(&self, script: &str, test: &str) -> RunId {
        RunId {
            scenario: format!("{script}: {test}"),
            kernel: self.kernel.clone(),
            arch: self.arch,
            cpus: None,
        }
    }

    /// All cases as runs.
    pub fn runs(&self) -> Vec<RunId> {
        let of = |script: &Script| -> Vec<RunId> {
            let cases = script.cases.iter();
            cases.map(|test| self.run(&script.name, test)).collect()
        };
        self.scripts.iter().flat_map(of).collect()
    }
}

/// The scripts of a folder, and all shell files.
fn read_scripts(folder: &Path) -> Result<(Vec<Script>, Vec<GuestFile>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        let path = entry.at("read", folder)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let is_shell = |name: &&str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            name.ends_with(".sh") && name.chars().all(plain)
        };
        if let Some(name) = name.filter(is_shell) {
            files.push((name.to_owned(), fs::read(&path).at("read", &path)?));
        }
    }
    files.sort();
    let tests = files.iter().filter(|(name, _)| name.starts_with("test-"));
    let scripts: Vec<_> = tests
        .map(|(name, data)| Script {
            name: name.clone(),
            cases: output::cases(&String::from_utf8_lossy(data)),
        })
        .collect();
    if let Some(script) = scripts.iter().find(|script| script.cases.is_empty()) {
        let what = format!("{} has no case (`start_test \"…\"`)", script.name);
        return Err(Error::new(Blame::File, what).help("correct it, or take it away"));
    }
    if scripts.is_empty() {
        let what = format!("{} has no test-*.sh", folder.display());
        return Err(Error::new(Blame::File, what));
    }
    Ok((scripts, files))
}

/// The built modules, as they are to be called in the guest.
fn read_modules(folder: &Path, kernel: &BuiltKernel) -> Result<Vec<GuestFile>> {
    let mut modules = Vec::new();
    for module in kselftest::all(folder, kernel)? {
        let data = fs::read(&module.path).at("read", &module.path)?;
        modules.push((format!("test_modules/{}.ko", module.name), data));
    }
    Ok(modules)
}

/// A program for the guest. It is static: the image's libraries need not fit the compiler's.
async fn compile(ctx: &Context, arch: Arch, source: &Path) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().at("create a folder in", &std::env::temp_dir())?;
    let binary = dir.path().join("program");
    Cmd::new(Toolchain::of(arch).gcc())
        .args(["-O2", "-static", "-s", "-o"])
        .arg(&binary)
        .arg(source)
        .output(&ctx.cancel)
        .await
        .map_err(|error| error.during("compiling a program of the selftests"))?;
    fs::read(&binary).at("read", &binary)
}
