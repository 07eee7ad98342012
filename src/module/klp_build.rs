// SPDX-License-Identifier: MIT OR Apache-2.0
//! Livepatches from source patches, made by the kernel tree's own `scripts/livepatch/klp-build`.
//!
//! **A private copy of the tree.** klp-build works in its tree: it wants `.config` and all objects
//! there, applies the patches to it and reverts them. Scenarios' modules are built against the
//! kernel's own tree at the same time, and that tree must stay what was booted. The copy, one per
//! kernel, is hard links to the kernel's sources; patch(1), `sed -i` and `mv`, which is all that
//! klp-build changes sources with, put a new file in the place of the old one and so break the
//! link.
//!
//! **A lock.** Two klp-builds in one tree would see each other's patches, so the cache's lock of
//! the copy is held from its preparation to the finished module. What survives a killed lab (make
//! and its compilers are not the lab's own children) still holds the lock on the file `running`,
//! and is waited for.
//!
//! **Time and space.** The first livepatch of a kernel compiles all of it again, with one section
//! per function: 5 to 6 min on 2 idle cores, unless ccache has seen most of it for another kernel.
//! `klp-tmp` keeps that original build, and each further livepatch of one file takes 30 to 50 s, most
//! of it linking. A copy takes 370 MB besides the shared sources, 150 MB of it in `klp-tmp`; deleting
//! the cache's folder `klp` costs only time.
//!
//! **Why the module fits the booted kernel.** The original build has the booted kernel's source,
//! config, compiler and release, but not its addresses: `-ffunction-sections` lays it out anew. No
//! address gets into a livepatch: functions to patch and klp relocations name a symbol and, if
//! there are several of that name, its position among them (sympos). The linker keeps the order of
//! the objects in either build, so that positions agree; of the 377 such names of a 7.3 kernel all
//! do but `__key.N`, which are empty without lockdep.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::build::check_vermagic;
use super::{CACHE, Module};
use crate::arch::{Arch, Toolchain};
use crate::cache::{self, KeyBuilder, blocking, seal, write_atomically};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::Phase;
use crate::files::read_regular;
use crate::host;
use crate::kernel::build::{build_error, compiled_object};
use crate::kernel::patches::Patch;
use crate::kernel::tree::{clone_tree, is_same, source_files};
use crate::kernel::{BUILD, BuiltKernel, ccache};
use crate::process::Cmd;
use crate::scenario::{Replace, kernel_module_name};

/// Counts up when the way livepatches are built changes.
const RECIPE: &str = "klp-build-1";
/// Bytes of a source patch; the longest of a kernel release candidate have a few mebibytes.
const PATCH_MAX: u64 = 16 << 20;
/// The tool, in a kernel's tree.
const SCRIPT: &str = "scripts/livepatch/klp-build";
/// Where klp-build keeps the original build, in its tree.
const KLP_TMP: &str = "klp-tmp";
/// klp-build's own mark, in its tree, that the original build is complete.
const ORIGINAL: &str = "klp-tmp/1-orig/.complete";
/// What klp-build says when the original build is done.
const ORIGINAL_DONE: &str = "Fixing patch(es)";
/// How often to look whether the survivors of a killed lab have gone.
const SURVIVORS_POLL: Duration = Duration::from_millis(200);
/// Lines of a compiler's or patch(1)'s complaint that are shown.
const EVIDENCE_LINES: usize = 12;

/// A livepatch to make from source patches.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The livepatch's name in the scenario, such as `cmdline-fix`.
    pub name: &'a str,
    /// Its `replace`.
    pub replace: Replace,
    /// Its patches, in the order in which they are applied.
    pub patches: Vec<PathBuf>,
}

/// Builds the livepatch, or finds it in the cache.
pub async fn build(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    request: &Request<'_>,
) -> Result<Module> {
    if arch.row().klp_build.is_none() {
        let known = Arch::ALL
            .into_iter()
            .filter(|arch| arch.row().klp_build.is_some());
        let known = known.map(Arch::name).collect::<Vec<_>>().join(", ");
        let what = format!(
            "{} cannot be built for {arch}: the kernel's klp-build knows {known} only",
            request.name
        );
        let help = format!("add `requires: {{ arch: {known} }}` to the scenario");
        return Err(Error::new(Blame::File, what).help(help));
    }
    let patches = read_patches(&request.patches)?;
    let key = key(kernel, request, &patches);
    // klp-build names the module after its file, and the kernel's build turns `-` into `_`: with
    // none in the name, the file, the module and the livepatch in sysfs are all called the same.
    let file = format!("{}.ko", kernel_module_name(request.name));
    let make = async |stage: &Path| {
        make_module(ctx, kernel, arch, request, &patches, stage, &file).await?;
        seal::modules_in(stage)
    };
    let path = ctx.entry(CACHE, &key)?.get_or_make(make).await?.join(&file);
    check_vermagic(&path, &kernel.release)?;
    Ok(Module {
        name: request.name.to_owned(),
        path,
    })
}

fn read_patches(paths: &[PathBuf]) -> Result<Vec<Patch>> {
    let read = |path: &PathBuf| {
        let text = read_regular(path, PATCH_MAX).map_err(|error| {
            error.help("name a file that exists; the path is relative to the scenario's folder")
        })?;
        Ok(Patch {
            path: path.clone(),
            text,
        })
    };
    paths.iter().map(read).collect()
}

fn key(kernel: &BuiltKernel, request: &Request<'_>, patches: &[Patch]) -> String {
    let mut key = KeyBuilder::new(RECIPE);
    key.part("kernel", kernel.key.as_bytes())
        .part("name", request.name.as_bytes())
        .part("replace", format!("{:?}", request.replace).as_bytes());
    for patch in patches {
        key.part("patch", &patch.text);
    }
    key.finish()
}

/// Makes what the entry has: the module, and the patches that it was made from. The private tree is
/// no such entry, because klp-build works in it.
async fn make_module(
    ctx: &Context,
    kernel: &BuiltKernel,
    arch: Arch,
    request: &Request<'_>,
    patches: &[Patch],
    stage: &Path,
    file: &str,
) -> Result<()> {
    host::require_packages(&host::everything(&[arch]))?;
    if !kernel.tree().join(SCRIPT).is_file() {
        let what = format!("kernel {} has no {SCRIPT}", kernel.release);
        return Err(Error::new(Blame::Kernel, what)
            .help("take a kernel of Linux 7.0 or later, or write `patches:` instead"));
    }
    let lock = format!("klp-{}", kernel.key);
    let waiting = || {
        let release = &kernel.release;
        ctx.events
            .note(format!("waiting for another klp-build of {release}"));
    };
    let _lock = ctx.cache.lock(&lock, &ctx.cancel, waiting).await?;
    let private = PrivateTree {
        dir: ctx.cache.kind("klp")?.join(&kernel.key),
        objects: ctx.cache.kind("ccache")?,
    };
    cache::mark_used(&private.dir);
    private.prepare(ctx, kernel).await?;
    let staged = stage_patches(patches, stage)?;
    let output = stage.join(file);
    private
        .klp_build(ctx, kernel, arch, request, &staged, &output)
        .await
}

/// The very bytes that are in the key, under names that klp-build can use.
fn stage_patches(patches: &[Patch], dir: &Path) -> Result<Vec<StagedPatch>> {
    let stage = |(index, patch): (usize, &Patch)| {
        let name = patch.path.file_name().unwrap_or_default().to_string_lossy();
        let path = dir.join(format!("{}-{name}", index + 1));
        fs::write(&path, &patch.text).at("write", &path)?;
        Ok(StagedPatch {
            from: patch.path.clone(),
            path,
            files: files_of(&String::from_utf8_lossy(&patch.text)),
        })
    };
    patches.iter().enumerate().map(stage).collect()
}

/// A patch as klp-build gets it.
struct StagedPatch {
    /// The user's file.
    from: PathBuf,
    /// The copy.
    path: PathBuf,
    /// The source files that it names.
    files: Vec<PathBuf>,
}

/// The files that a patch names, without their first component (`patch -p1`). What only looks
/// like a name is in the list as well.
fn files_of(patch: &str) -> Vec<PathBuf> {
    let name = |line: &str| {
        let line = line
            .strip_prefix("--- ")
            .or_else(|| line.strip_prefix("+++ "))?;
        let path = Path::new(line.split_whitespace().next()?);
        let inside = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let file: PathBuf = path.components().skip(1).collect();
        (inside && file != Path::new("")).then_some(file)
    };
    let mut files: Vec<_> = patch.lines().filter_map(name).collect();
    files.sort();
    files.dedup();
    files
}

/// The copy of a kernel's tree that klp-build works in.
struct PrivateTree {
    dir: PathBuf,
    /// Where ccache keeps what all of them have compiled.
    objects: PathBuf,
}

impl PrivateTree {
    fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("klp-build.log")
    }

    /// There while klp-build runs, and after it has failed or was interrupted. It holds the names
    /// of the files that the patches touch, and every process of that klp-build has it locked.
    fn running(&self) -> PathBuf {
        self.dir.join("running")
    }

    fn has_original(&self) -> bool {
        self.tree().join(ORIGINAL).is_file()
    }

    /// Whether what is patched now would look older than its object, and what an interrupted
    /// klp-build has made older than the original build.
    fn clock_was_set_back(&self) -> bool {
        let now = SystemTime::now();
        let made = [self.running(), self.tree().join(ORIGINAL)];
        made.iter()
            .any(|file| modified(file).is_ok_and(|time| time > now))
    }

    /// Makes the copy, or mends what an earlier klp-build left behind.
    async fn prepare(&self, ctx: &Context, kernel: &BuiltKernel) -> Result<()> {
        let unclean = self.running().exists();
        if unclean {
            self.wait_for_survivors(ctx).await?;
        }
        if !self.has_original() || self.clock_was_set_back() {
            // klp-build cannot resume an original build: it begins with `make clean`.
            return self.make(ctx, kernel).await;
        }
        if !unclean {
            return Ok(());
        }
        let mut phase = ctx
            .events
            .phase("mend what an interrupted klp-build left behind");
        phase.progress(0, None, "looking for changed files");
        let (running, original) = (self.running(), self.tree().join(ORIGINAL));
        let (from, to) = (kernel.tree(), self.tree());
        blocking(move || {
            let touched = fs::read_to_string(&running).at("read", &running)?;
            // A first klp-build that failed later on made all objects, and its original is good.
            let started = modified(&running)?.max(modified(&original)?);
            remove_objects(&to, started)?;
            restore(&from, &to, touched.lines().map(Path::new))
        })
        .await?;
        phase.done("mended what an interrupted klp-build left behind");
        Ok(())
    }

    async fn wait_for_survivors(&self, ctx: &Context) -> Result<()> {
        let path = self.running();
        let running = File::open(&path).at("open", &path)?;
        let mut told = false;
        loop {
            match running.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error).at("lock", &path),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                ctx.events.note("waiting for the end of a killed klp-build");
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(SURVIVORS_POLL) => {}
                () = ctx.cancel.cancelled() => return Err(Error::interrupted()),
            }
        }
    }

    async fn make(&self, ctx: &Context, kernel: &BuiltKernel) -> Result<()> {
        let phase = ctx
            .events
            .phase(format!("copy the tree of {} for klp-build", kernel.release));
        let staging = cache::staging_dir(&self.dir)?;
        let (from, to) = (kernel.tree(), staging.path().join("tree"));
        let (old, cancel) = (self.dir.clone(), ctx.cancel.clone());
        blocking(move || {
            if old.exists() {
                fs::remove_dir_all(&old).at("remove", &old)?;
            }
            clone_tree(&from, &to, true, None, &cancel)?;
            let config = from.join(BUILD).join(".config");
            fs::copy(&config, to.join(".config")).at("copy", &config)?;
            Ok(())
        })
        .await?;
        cache::publish(staging, &self.dir)?;
        phase.done(format!(
            "copied the tree of {} for klp-build",
            kernel.release
        ));
        Ok(())
    }

    /// Runs klp-build. Only its success takes the mark `running` away: it reverts its patches
    /// after a failure too, but does not say whether it could.
    async fn klp_build(
        &self,
        ctx: &Context,
        kernel: &BuiltKernel,
        arch: Arch,
        request: &Request<'_>,
        patches: &[StagedPatch],
        output: &Path,
    ) -> Result<()> {
        let running = self.running();
        let touched: String = patches
            .iter()
            .flat_map(|patch| &patch.files)
            .map(|file| format!("{}\n", file.display()))
            .collect();
        write_atomically(&running, touched.as_bytes())?;
        let mut progress = Progress::begin(ctx, kernel, arch, request, self.has_original())?;
        let log_path = self.log();
        let mut log = File::create(&log_path).at("create", &log_path)?;
        let finished = self
            .command(arch, request.replace, patches, output)
            .run(&ctx.cancel, |line| {
                let _ = writeln!(log, "{line}");
                progress.line(line);
            })
            .await?;
        // Without `-t`, mainline's klp-build exits with 0 after it has refused a wrong option.
        if !finished.status.success() || !output.is_file() {
            let text = fs::read(&log_path).at("read", &log_path)?;
            let mut text = String::from_utf8_lossy(&text).into_owned();
            for patch in patches {
                let staged = patch.path.display().to_string();
                text = text.replace(&staged, &patch.from.display().to_string());
            }
            let error = failure(request.name, &text);
            return Err(error.evidence(&format!("the whole output: {}", log_path.display())));
        }
        fs::remove_file(&running).at("remove", &running)?;
        progress.done();
        Ok(())
    }

    /// klp-build runs plain `make`, so what `make`'s command line says elsewhere is in the
    /// environment here.
    fn command(&self, arch: Arch, replace: Replace, patches: &[StagedPatch], output: &Path) -> Cmd {
        let tools = Toolchain::of(arch);
        // flock(1) becomes klp-build and leaves it the locked file.
        let command = Cmd::new("flock")
            .args(["--exclusive", "--no-fork"])
            .arg(self.running())
            .args(["bash", SCRIPT])
            .args(arguments(replace, self.has_original(), output))
            .args(patches.iter().map(|patch| &patch.path))
            .dir(self.tree())
            .env("ARCH", tools.kernel_arch)
            .env("CROSS_COMPILE", tools.prefix)
            .env("LC_ALL", "C")
            .env("KBUILD_BUILD_USER", "lab")
            .env("KBUILD_BUILD_HOST", "lab")
            .env("KBUILD_BUILD_TIMESTAMP", "@0")
            // klp-build looks for the objects in the tree.
            .env("KBUILD_OUTPUT", "");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let kept = ccache::environment(&self.objects, &self.tree(), &path);
        kept.iter()
            .fold(command, |command, (name, value)| command.env(name, value))
    }
}

/// klp-build's options.
fn arguments(replace: Replace, has_original: bool, output: &Path) -> Vec<OsString> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut arguments: Vec<OsString> = vec![
        "--keep-tmp".into(),
        // The compiled objects are counted; and make, writing to nobody, ends soon after a killed
        // lab.
        "--verbose".into(),
        format!("--jobs={jobs}").into(),
        "--output".into(),
        output.into(),
    ];
    if has_original {
        arguments.push("--short-circuit=patched".into());
    }
    match replace {
        Replace::Flag(true) => {}
        Replace::Flag(false) => arguments.push("--no-replace".into()),
        Replace::Tag(tag) => arguments.extend(["-t".into(), tag.to_string().into()]),
    }
    arguments
}

/// Removes the objects that were made at or after `started`: they may hold the code of patches, and
/// a killed compiler leaves half an object, which make takes for a new one.
fn remove_objects(tree: &Path, started: SystemTime) -> Result<()> {
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let path = entry.at("read", &folder)?.path();
            let data = fs::symlink_metadata(&path).at("read", &path)?;
            if data.is_dir() && path != tree.join(KLP_TMP) {
                folders.push(path);
            } else if data.is_file() && is_object(&path) && modified(&path)? >= started {
                remove_if_there(&path)?;
            }
        }
    }
    Ok(())
}

fn is_object(path: &Path) -> bool {
    let endings = ["o", "a", "ko", "mod", "order", "symvers"];
    let ending = path.extension().unwrap_or_default();
    endings.iter().any(|&one| ending == one) || path.ends_with("vmlinux")
}

fn modified(path: &Path) -> Result<SystemTime> {
    fs::metadata(path)
        .and_then(|data| data.modified())
        .at("read", path)
}

/// Gives each file of `to` that differs from that in `from` its text, and a new time so that make
/// compiles it again; removes the files of `touched` that are not in `from`.
fn restore<'a>(from: &Path, to: &Path, touched: impl Iterator<Item = &'a Path>) -> Result<()> {
    for file in source_files(from)? {
        let (original, copy) = (from.join(&file), to.join(&file));
        let data = fs::symlink_metadata(&original).at("read", &original)?;
        if !data.is_file() || is_same(&copy, &data) {
            continue;
        }
        let text = fs::read(&original).at("read", &original)?;
        // Patched and reverted, by this klp-build or an earlier one.
        if fs::read(&copy).is_ok_and(|copy| copy == text) {
            continue;
        }
        // Written in place, it could be written through a link.
        remove_if_there(&copy)?;
        if let Some(parent) = copy.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        fs::write(&copy, text).at("write", &copy)?;
        fs::set_permissions(&copy, data.permissions()).at("write", &copy)?;
    }
    for file in touched {
        if !from.join(file).exists() {
            remove_if_there(&to.join(file))?;
        }
    }
    let stash = to.join(KLP_TMP).join("stash");
    if stash.exists() {
        fs::remove_dir_all(&stash).at("remove", &stash)?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).at("replace", path)
        }
        _ => Ok(()),
    }
}

/// klp-build's output as phases: the original build, if there is to be one, and the livepatch.
struct Progress<'a> {
    ctx: &'a Context,
    name: &'a str,
    release: &'a str,
    phase: Option<Phase>,
    /// Objects that an original build had; once it is done, `None`.
    total: Option<u64>,
    totals: PathBuf,
    original: bool,
    objects: u64,
}

impl<'a> Progress<'a> {
    fn begin(
        ctx: &'a Context,
        kernel: &'a BuiltKernel,
        arch: Arch,
        request: &Request<'a>,
        has_original: bool,
    ) -> Result<Self> {
        let totals = ctx.cache.kind("klp")?.join(format!("objects-{arch}"));
        let total = fs::read_to_string(&totals)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let (name, release) = (request.name, &*kernel.release);
        let what = if has_original {
            format!("build livepatch {name} with klp-build")
        } else {
            format!("build {release} once more, for klp-build")
        };
        Ok(Self {
            ctx,
            name,
            release,
            phase: Some(ctx.events.phase(what)),
            total: total.filter(|_| !has_original),
            totals,
            original: !has_original,
            objects: 0,
        })
    }

    fn line(&mut self, line: &str) {
        if self.original && line == ORIGINAL_DONE {
            self.finish_original();
        }
        // `make V=1` puts `# ` in front of its short form. klp-build's own lines are sentences.
        let short = line.strip_prefix("# ").map(|line| format!("  {line}"));
        let object = short.as_deref().and_then(compiled_object);
        self.objects += u64::from(object.is_some());
        let sentence = line.starts_with(|c: char| c.is_ascii_uppercase());
        if let (Some(phase), Some(detail)) = (&mut self.phase, object.or(sentence.then_some(line)))
        {
            phase.progress(self.objects, self.total, detail);
        }
        if line.starts_with("warning: klp-build:") {
            self.ctx.events.note(format!("{}: {line}", self.name));
        }
    }

    fn finish_original(&mut self) {
        let (objects, release) = (self.objects, self.release);
        // Only the next progress bar depends on it.
        let _ = write_atomically(&self.totals, objects.to_string().as_bytes());
        if let Some(phase) = self.phase.take() {
            phase.done(format!(
                "built {release} once more, for klp-build ({objects} objects)"
            ));
        }
        let next = format!("build livepatch {} with klp-build", self.name);
        self.phase = Some(self.ctx.events.phase(next));
        self.original = false;
        self.total = None;
        self.objects = 0;
    }

    fn done(mut self) {
        if let Some(phase) = self.phase.take() {
            phase.done(format!("built livepatch {} with klp-build", self.name));
        }
    }
}

/// Who is to blame for klp-build's failure, from its output.
fn failure(name: &str, output: &str) -> Error {
    let doing = format!("building livepatch {name}");
    let general = build_error(&doing, output);
    if general.blame == Blame::Host {
        return general;
    }
    // Commands, which `make V=1` prints, are indented.
    let lines = || output.lines().filter(|line| !line.starts_with([' ', '#']));
    let own: Vec<&str> = lines().filter(|line| is_own_error(line)).collect();
    let complaints = lines().filter(|line| is_complaint(line));
    let mut evidence = own.clone();
    evidence.extend(complaints.take(EVIDENCE_LINES));
    let evidence = if evidence.is_empty() {
        general.evidence.join("\n")
    } else {
        evidence.join("\n")
    };
    let reason = own.last().map_or("it made no module", |line| {
        line.trim_start_matches("error: klp-build: ")
    });
    let what = format!("{doing} with klp-build failed: {reason}");
    let lacks = |text: &str| own.iter().any(|line| line.contains(text));
    let (blame, help) = if lacks("not found (install") || lacks("objtool not built with KLP") {
        (Blame::Host, "`lab setup` installs it")
    } else if lacks("original kernel build failed") {
        (
            Blame::Kernel,
            "the kernel does not build in its own tree; look at the whole output",
        )
    } else {
        (
            Blame::ModuleBuild,
            "correct the patch: it has to apply to the kernel's source with `patch -p1` and to \
             change a function, outside of lib/, of the vDSO and of assembly",
        )
    };
    Error::new(blame, what).evidence(&evidence).help(help)
}

/// `error: klp-build: no changes detected`, or getopt's word on an option.
fn is_own_error(line: &str) -> bool {
    line.starts_with("error: ") || line.starts_with("getopt: ")
}

/// What patch(1), the compiler, the linker and objtool say.
fn is_complaint(line: &str) -> bool {
    let marks = [
        ": error:",
        ": fatal error:",
        "undefined reference",
        "ERROR: modpost",
        "FAILED at",
        "can't find file to patch",
        "malformed patch",
        "previously applied",
        "Only garbage was found",
    ];
    marks.iter().any(|mark| line.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use tokio_util::sync::CancellationToken;

    fn words(replace: Replace, has_original: bool) -> String {
        let arguments = arguments(replace, has_original, Path::new("/c/x.ko"));
        let words = arguments.iter().map(|word| word.to_string_lossy());
        let kept: Vec<_> = words.filter(|word| !word.starts_with("--jobs")).collect();
        kept.join(" ")
    }

    #[test]
    fn replace_becomes_klp_builds_options() {
        let common = "--keep-tmp --verbose --output /c/x.ko";
        assert_eq!(words(Replace::Flag(true), false), common);
        assert_eq!(
            words(Replace::Flag(false), false),
            format!("{common} --no-replace")
        );
        assert_eq!(
            words(Replace::Tag(u32::MAX), true),
            format!("{common} --short-circuit=patched -t 4294967295")
        );
    }

    #[test]
    fn a_patchs_files_stay_in_the_tree() {
        let patch = "--- a/fs/proc/cmdline.c\t2026-01-01\n+++ b/fs/proc/cmdline.c\n@@ -1 +1 @@\n\
                     --- /dev/null\n+++ b/fs/proc/new.c\n+++ b/../../etc/passwd\n+++ plain\n---\n";
        assert_eq!(
            files_of(patch),
            [Path::new("fs/proc/cmdline.c"), Path::new("fs/proc/new.c")]
        );
    }

    #[test]
    fn klp_builds_own_words_come_first() {
        let output = "Building patched kernel\n# CC      fs/proc/cmdline.o\n  \
                      gcc -DX=\": error:\" -c cmdline.c\n\
                      fs/proc/cmdline.c:9:2: error: implicit declaration of function 'x'\n\
                      make[4]: *** [Makefile.build:1: fs/proc/cmdline.o] Error 1\n\
                      error: klp-build: patched kernel build failed\n";
        let error = failure("cmdline-fix", output);
        assert_eq!(error.blame, Blame::ModuleBuild);
        assert_eq!(
            error.what,
            "building livepatch cmdline-fix with klp-build failed: patched kernel build failed"
        );
        assert_eq!(
            error.evidence,
            [
                "error: klp-build: patched kernel build failed",
                "fs/proc/cmdline.c:9:2: error: implicit declaration of function 'x'",
            ]
        );
    }

    #[test]
    fn the_fault_is_given_to_whose_it_is() {
        let blame = |line: &str| failure("x", line).blame;
        for own in [
            "error: klp-build: no changes detected",
            "error: klp-build: p.patch: unsupported patch to lib/string.c",
            "error: klp-build: p.patch did not apply",
            "getopt: invalid option -- 't'",
        ] {
            assert_eq!(blame(own), Blame::ModuleBuild, "{own}");
        }
        let tool = "error: klp-build: recountdiff not found (install patchutils)";
        assert_eq!(blame(tool), Blame::Host);
        assert_eq!(
            blame("error: klp-build: original kernel build failed"),
            Blame::Kernel
        );
        assert_eq!(blame("cc: No space left on device"), Blame::Host);
    }

    #[test]
    fn what_klp_build_left_behind_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("kernel"), dir.path().join("private"));
        fs::create_dir(&from).unwrap();
        for name in ["same.c", "patched.c", "reverted.c", "deleted.c"] {
            fs::write(from.join(name), name).unwrap();
        }
        clone_tree(&from, &to, true, None, &CancellationToken::new()).unwrap();
        for (name, text) in [
            ("patched.c", "patched"),
            ("reverted.c", "reverted.c"),
            ("added.c", ""),
        ] {
            remove_if_there(&to.join(name)).unwrap();
            fs::write(to.join(name), text).unwrap();
        }
        fs::remove_file(to.join("deleted.c")).unwrap();
        fs::create_dir_all(to.join("klp-tmp/stash/scripts")).unwrap();
        let time = |name: &str| modified(&to.join(name)).unwrap();
        let (patched, reverted) = (time("patched.c"), time("reverted.c"));
        std::thread::sleep(Duration::from_millis(20));
        let touched = ["added.c", "deleted.c", "patched.c", "never/there.c"];
        restore(&from, &to, touched.iter().map(Path::new)).unwrap();
        let text = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!(text("patched.c"), "patched.c");
        assert_eq!(text("deleted.c"), "deleted.c");
        assert!(!to.join("added.c").exists() && !to.join("klp-tmp/stash").exists());
        assert!(time("patched.c") > patched);
        assert_eq!(time("reverted.c"), reverted, "nothing to compile again");
        let inode = |dir: &Path| fs::metadata(dir.join("same.c")).unwrap().ino();
        assert_eq!(inode(&from), inode(&to));
    }

    #[test]
    fn only_the_objects_of_the_failed_build_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path();
        for folder in ["fs", "klp-tmp"] {
            fs::create_dir(tree.join(folder)).unwrap();
        }
        let write = |name: &str| fs::write(tree.join(name), "").unwrap();
        write("fs/old.o");
        std::thread::sleep(Duration::from_millis(20));
        for name in [
            "running",
            "fs/new.o",
            "fs/new.c",
            "vmlinux",
            "klp-tmp/kept.o",
        ] {
            write(name);
        }
        remove_objects(tree, modified(&tree.join("running")).unwrap()).unwrap();
        for kept in ["fs/old.o", "fs/new.c", "klp-tmp/kept.o"] {
            assert!(tree.join(kept).exists(), "{kept}");
        }
        for removed in ["fs/new.o", "vmlinux"] {
            assert!(!tree.join(removed).exists(), "{removed}");
        }
    }
}
