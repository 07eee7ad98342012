// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building a kernel into the cache.
//!
//! The tree is hard links to the pristine source with the series applied; the objects start as a
//! copy of those of a relative (same source, same config, other patches), and every file that
//! differs between the two trees gets a new time, so that make rebuilds exactly what it must.
//! The work folder survives an interruption and is picked up again; it becomes a cache entry
//! only by the final rename.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use super::config::{self, Fragment};
use super::debian;
use super::definition::{Definition, Prebuilt, Source};
use super::patches::{self, Patch};
use super::prebuilt;
use super::relative::{self, Relative};
use super::source::{self, SourceTree};
use super::tree::{Cloned, clone_tree};
use super::{BUILD, BuiltKernel, CACHE, MANIFEST, RELEASE_DIGITS, TREE, entry, loaded};
use crate::arch::{Arch, Toolchain};
use crate::cache::{self, Claim, KeyBuilder, blocking, write_atomically};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result, full_disk};
use crate::process::Cmd;

/// Counts up when the way a kernel is built changes: old entries are not used any more.
const RECIPE: &str = "kernel-1";

/// Builds `definition` for `arch`, or finds it in the cache. `refresh` resolves the source anew.
pub async fn build(
    ctx: &Context,
    definition: &Definition,
    arch: Arch,
    refresh: bool,
) -> Result<BuiltKernel> {
    if let Some(prebuilt) = built_elsewhere(ctx, definition, arch, refresh).await? {
        return prebuilt::take(ctx, definition, &prebuilt, arch).await;
    }
    let plan = Plan::make(ctx, definition, arch, refresh).await?;
    let kernels = ctx.cache.kind(CACHE)?;
    let waiting = format!("waiting for another lab to build kernel {}", plan.name);
    // Not by `get_or_make`: the work folder outlives an interruption.
    let making = match entry(ctx, &plan.key)?.waiting(waiting).claim().await? {
        Claim::Found(dir) => return loaded(&dir),
        Claim::Missing(making) => making,
    };
    let work = kernels.join(format!("work-{}", plan.key));
    let mut configured = false;
    if !work.exists() {
        if source::put_away_if_damaged(ctx, &plan.source).await? {
            // It is fetched again, and may be a newer one by now.
            drop(making);
            return Box::pin(build(ctx, definition, arch, refresh)).await;
        }
        configured = plan.prepare(ctx, &kernels, &work).await?;
    }
    plan.configure(ctx, &work, configured).await?;
    let objects = plan.make_kernel(ctx, &kernels, &work).await?;
    // Only now: objects that came from a relative brought its release along.
    let release = plan
        .make_cmd(&work.join(TREE))
        .args(["-s", "kernelrelease"]);
    let release = release.output(&ctx.cancel).await?.trim().to_owned();
    let kernel = BuiltKernel {
        name: definition.name.clone(),
        key: plan.key.clone(),
        release,
        source: plan.source.label.clone(),
        family: plan.family.clone(),
        objects,
        prebuilt: None,
        dir: making.path().to_path_buf(),
    };
    let manifest = serde_json::to_vec_pretty(&kernel)
        .map_err(|error| Error::lab(format!("cannot write the manifest: {error}")))?;
    write_atomically(&work.join(MANIFEST), &manifest)?;
    let built = |file: &str| format!("{TREE}/{BUILD}/{file}");
    let mut sealed = vec![built(plan.arch.row().boot_file), built("Module.symvers")];
    sealed.retain(|file| work.join(file).is_file());
    making.publish_folder(work, sealed).await?;
    Ok(kernel)
}

/// The kernel that a definition names, if it is built already.
async fn built_elsewhere(
    ctx: &Context,
    definition: &Definition,
    arch: Arch,
    refresh: bool,
) -> Result<Option<Prebuilt>> {
    match &definition.source {
        Source::Prebuilt(prebuilt) => Ok(Some(prebuilt.clone())),
        Source::DebianImage(image) => debian::obtain(ctx, image, arch, refresh).await.map(Some),
        _ => Ok(None),
    }
}

/// Applies the patches and the config to every source that `definition` may be built from, and
/// builds nothing. Returns the sources' labels; the first that does not go is an error.
pub async fn check_sources(
    ctx: &Context,
    definition: &Definition,
    arch: Arch,
) -> Result<Vec<String>> {
    if let Some(prebuilt) = built_elsewhere(ctx, definition, arch, false).await? {
        let kernel = prebuilt::take(ctx, definition, &prebuilt, arch).await?;
        return Ok(vec![kernel.source]);
    }
    let mut labels = Vec::new();
    for source in definition.source.candidates() {
        let definition = Definition {
            source,
            ..definition.clone()
        };
        let plan = Plan::make(ctx, &definition, arch, false).await?;
        let label = plan.source.label.clone();
        // Two suites may have the same package.
        if labels.contains(&label) {
            continue;
        }
        let kernels = ctx.cache.kind(CACHE)?;
        let staging = cache::staging_dir(&kernels.join(format!("check-{}", plan.key)))?;
        let work = staging.path().join("work");
        let on = |error: Error| error.evidence(&format!("on {label}"));
        // Nothing is there that could be a relative, so that no objects are copied.
        plan.prepare(ctx, staging.path(), &work).await.map_err(on)?;
        plan.configure(ctx, &work, false).await.map_err(on)?;
        labels.push(label);
    }
    Ok(labels)
}

/// Everything that determines the result.
struct Plan {
    definition: String,
    name: String,
    arch: Arch,
    tools: Toolchain,
    source: SourceTree,
    series: Vec<Patch>,
    fragments: Vec<Fragment>,
    family: String,
    /// The families that it would be of if it came from a source in the cache: one's own tree is
    /// often near to one of these.
    near: Vec<String>,
    key: String,
}

impl Plan {
    async fn make(
        ctx: &Context,
        definition: &Definition,
        arch: Arch,
        refresh: bool,
    ) -> Result<Self> {
        let tools = Toolchain::of(arch);
        let source = source::obtain(ctx, &definition.source, refresh).await?;
        let series = match &definition.patches {
            Some(dir) => patches::read_series(dir)?,
            None => Vec::new(),
        };
        let fragments = definition
            .config_for(arch)
            .into_iter()
            .map(|path| Ok(Fragment::read(path)?.for_source(&source.dir)))
            .collect::<Result<Vec<_>>>()?;
        let compiler = Cmd::new(tools.gcc())
            .arg("--version")
            .output(&ctx.cancel)
            .await?;
        let compiler = compiler.lines().next().unwrap_or_default();
        // One's own tree stays in its family while it is edited.
        let origin = match &definition.source {
            Source::Path(path) => path.display().to_string(),
            _ => source.id.clone(),
        };
        let of_origin = |origin: &str| {
            let mut family = KeyBuilder::new(RECIPE);
            family
                .part("origin", origin.as_bytes())
                .part("arch", arch.name().as_bytes())
                .part("config", config::merge(&fragments).as_bytes())
                .part("compiler", compiler.as_bytes());
            family
        };
        let near = match &definition.source {
            Source::Path(_) => source::in_cache(ctx)?,
            _ => Vec::new(),
        };
        let near = near.iter().map(|origin| of_origin(origin).finish());
        let near = near.collect();
        let family = of_origin(&origin);
        let mut key = family.clone();
        key.part("source", source.id.as_bytes());
        for patch in &series {
            key.part("patch", &patch.text);
        }
        Ok(Self {
            definition: definition.name.clone(),
            name: format!("{} {arch}", definition.name),
            arch,
            tools,
            source,
            series,
            fragments,
            family: family.finish(),
            near,
            key: key.finish(),
        })
    }

    /// The kernel to take objects from.
    fn relative(&self, kernels: &Path) -> Option<Relative> {
        let of = |family: &String| Relative::closest(kernels, family, &self.definition);
        of(&self.family).or_else(|| self.near.iter().find_map(of))
    }

    fn make_cmd(&self, tree: &Path) -> Cmd {
        make(tree, self.tools)
    }

    /// The patched tree and, from a relative, the objects. Returns whether these are configured as
    /// this kernel is to be.
    async fn prepare(&self, ctx: &Context, kernels: &Path, work: &Path) -> Result<bool> {
        let mut phase = ctx
            .events
            .phase(format!("prepare the tree of kernel {}", self.name));
        let staging = cache::staging_dir(work)?;
        let tree = staging.path().join(TREE);
        let relative = self.relative(kernels);
        if let Some(relative) = &relative {
            cache::mark_used(&relative.kernel.dir);
        }
        phase.progress(0, None, "copying the source");
        let now = SystemTime::now();
        // Both to their ends, also if one fails: they write to the folder that then goes.
        let (cloned, copied) = tokio::join!(
            self.clone_source(ctx, &tree, relative.clone()),
            self.copy_objects(ctx, &tree, relative.clone(), now),
        );
        let mut cloned = cloned?;
        copied?;
        let patched = patches::apply(ctx, &self.series, &tree).await?;
        let shared = if relative.is_some() {
            ", objects shared"
        } else {
            ""
        };
        let mut configured = false;
        if let Some(relative) = relative {
            let files = cloned.changed.keys().chain(&patched).cloned().collect();
            cloned.renewed.append(&mut cloned.changed);
            cloned.renewed.retain(|file, _| !patched.contains(file));
            relative::write_renewed(staging.path(), &cloned.renewed)?;
            configured = blocking(move || {
                let different = relative.renew_differences(&tree, files, now)?;
                Ok(relative.shares_config(&different))
            })
            .await?;
        }
        cache::publish(staging, work)?;
        let patches = match self.series.len() {
            0 => "unpatched".to_owned(),
            1 => "1 patch".to_owned(),
            n => format!("{n} patches"),
        };
        let source = &self.source.label;
        phase.done(format!(
            "prepared kernel {} ({source}, {patches}{shared})",
            self.name
        ));
        Ok(configured)
    }

    /// The lab's own trees are never changed in place, so links into them are safe. One's own tree
    /// is copied, but for what has not changed since the last copy.
    async fn clone_source(
        &self,
        ctx: &Context,
        tree: &Path,
        relative: Option<Relative>,
    ) -> Result<Cloned> {
        let (from, to) = (self.source.dir.clone(), tree.to_path_buf());
        let (immutable, cancel) = (self.source.immutable, ctx.cancel.clone());
        let family = self.family.clone();
        blocking(move || {
            let earlier = relative.as_ref().map(|relative| relative.earlier(&family));
            clone_tree(&from, &to, immutable, earlier, &cancel)
        })
        .await
    }

    async fn copy_objects(
        &self,
        ctx: &Context,
        tree: &Path,
        relative: Option<Relative>,
        now: SystemTime,
    ) -> Result<()> {
        let Some(relative) = relative else {
            return Ok(());
        };
        let (build, key, cancel) = (tree.join(BUILD), self.key.clone(), ctx.cancel.clone());
        blocking(move || relative.copy_objects(&build, &key, now, &cancel)).await
    }

    /// Writes `.config`, unless it is there, and proves that it is what was asked for.
    async fn configure(&self, ctx: &Context, work: &Path, configured: bool) -> Result<()> {
        let phase = ctx.events.phase(format!("configure kernel {}", self.name));
        let tree = work.join(TREE);
        let build = tree.join(BUILD);
        fs::create_dir_all(&build).at("create", &build)?;
        let wanted = work.join("wanted.config");
        let mut text = config::merge(&self.fragments);
        let release = format!(
            "CONFIG_LOCALVERSION=\"-lab-{}\"",
            &self.key[..RELEASE_DIGITS]
        );
        text += &format!("{release}\n");
        write_atomically(&wanted, text.as_bytes())?;
        if !configured {
            let finished = self
                .make_cmd(&tree)
                .arg(format!("KCONFIG_ALLCONFIG={}", wanted.display()))
                .arg("allnoconfig")
                .run(&ctx.cancel, |_| {})
                .await?;
            if !finished.status.success() {
                return Err(build_error(
                    &format!("configuring kernel {}", self.name),
                    &finished.tail,
                ));
            }
        }
        let file = build.join(".config");
        let actual = fs::read_to_string(&file).at("read", &file)?;
        let fragments = self.fragments.clone();
        let source = tree.clone();
        blocking(move || config::check_stuck(&fragments, &actual, &source)).await?;
        phase.done(format!("configured kernel {}", self.name));
        Ok(())
    }

    /// Runs make; returns how many objects it made.
    async fn make_kernel(&self, ctx: &Context, kernels: &Path, work: &Path) -> Result<u64> {
        let totals = kernels.join(format!("objects-{}", self.arch));
        let fresh = !work.join(TREE).join(BUILD).join("Module.symvers").exists();
        let total = fs::read_to_string(&totals)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let total = if fresh { total } else { None };
        let mut phase = ctx.events.phase(format!("build kernel {}", self.name));
        let log_path = work.join("build.log");
        let mut log = fs::File::create(&log_path).at("create", &log_path)?;
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut objects = 0;
        let mut logged = Ok(());
        let config = fs::read_to_string(work.join(TREE).join(BUILD).join(".config"));
        let has_scripts = config.is_ok_and(|config| config.contains("\nCONFIG_GDB_SCRIPTS=y\n"));
        let finished = self
            .make_cmd(&work.join(TREE))
            .arg(format!("-j{jobs}"))
            .args(self.tools.targets.iter().copied())
            .args(has_scripts.then_some("scripts_gdb"))
            .run(&ctx.cancel, |line| {
                if logged.is_ok() {
                    logged = writeln!(log, "{line}");
                }
                if let Some(object) = compiled_object(line) {
                    objects += 1;
                    phase.progress(objects, total, object);
                }
            })
            .await?;
        if !finished.status.success() {
            // What is missing in the log may be what make said of the full disk.
            logged.at("write", &log_path)?;
            let text = fs::read(&log_path).at("read", &log_path)?;
            let text = String::from_utf8_lossy(&text);
            let error = build_error(&format!("building kernel {}", self.name), &text);
            return Err(error.evidence(&format!("the whole output: {}", log_path.display())));
        }
        // A resumed build made only the rest.
        if fresh && objects > total.unwrap_or(0) {
            write_atomically(&totals, objects.to_string().as_bytes())?;
        }
        let result = format!("built kernel {} ({objects} objects)", self.name);
        phase.built(&self.name, result);
        Ok(objects)
    }
}

/// `make` in a tree, with its objects below [`BUILD`] and nothing in them that differs from
/// build to build. A kernel that was built elsewhere has nothing but that folder.
pub fn make(tree: &Path, tools: Toolchain) -> Cmd {
    let make = Cmd::new("make").arg("-C");
    let make = match tree.join("Makefile").exists() {
        true => make.arg(tree).arg(format!("O={BUILD}")),
        false => make.arg(tree.join(BUILD)),
    };
    make.arg(format!("ARCH={}", tools.kernel_arch))
        .arg(format!("CROSS_COMPILE={}", tools.prefix))
        .env("LC_ALL", "C")
        .env("KBUILD_BUILD_USER", "lab")
        .env("KBUILD_BUILD_HOST", "lab")
        .env("KBUILD_BUILD_TIMESTAMP", "@0")
}

/// `  CC      kernel/fork.o` → `kernel/fork.o`.
pub(crate) fn compiled_object(line: &str) -> Option<&str> {
    let mut words = line.strip_prefix("  ")?.split_whitespace();
    let verb = words.next()?;
    let verb_ok = verb
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    words
        .next_back()
        .filter(|object| verb_ok && object.ends_with(".o"))
}

/// The lines that say what is wrong, out of thousands.
pub fn build_error(doing: &str, output: &str) -> Error {
    if let Some(line) = full_disk(output) {
        return Error::tool(doing, line);
    }
    let crashes = [
        "internal compiler error",
        "Killed signal terminated program",
        "Segmentation fault signal terminated program",
    ];
    let crashed = |line: &&str| crashes.iter().any(|mark| line.contains(mark));
    if let Some(line) = output.lines().find(crashed) {
        return Error::host(format!("{doing}: the compiler crashed"))
            .evidence(line)
            .help("look for a lack of memory (dmesg), else for a bug of the compiler; the build resumes");
    }
    let marks = [
        ": error:",
        ": fatal error:",
        "undefined reference",
        "ERROR: modpost",
        "*** [",
    ];
    let wrong = |line: &&str| marks.iter().any(|mark| line.contains(mark));
    let mut lines: Vec<&str> = output.lines().filter(wrong).take(12).collect();
    if lines.is_empty() {
        let all: Vec<&str> = output.lines().collect();
        lines = all[all.len().saturating_sub(12)..].to_vec();
    }
    Error::new(Blame::Kernel, format!("{doing} failed"))
        .evidence(&lines.join("\n"))
        .help("mend the source, the patches or the config fragments; the next build resumes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_from_makes_output() {
        assert_eq!(
            compiled_object("  CC      kernel/fork.o"),
            Some("kernel/fork.o")
        );
        assert_eq!(
            compiled_object("  CC [M]  drivers/x.o"),
            Some("drivers/x.o")
        );
        assert_eq!(
            compiled_object("  UPD     include/config/kernel.release"),
            None
        );
        assert_eq!(compiled_object("make[1]: Entering directory 'x.o'"), None);
    }

    #[test]
    fn a_compiler_error_is_found_among_the_noise() {
        let noise = "  CC      kernel/a.o\n".repeat(3000);
        let output = format!("{noise}kernel/x.c:3:1: error: expected ';'\n{noise}");
        let error = build_error("building kernel tags x86_64", &output);
        assert_eq!(error.evidence, ["kernel/x.c:3:1: error: expected ';'"]);
        assert_eq!(error.blame, Blame::Kernel);
    }

    #[test]
    fn a_compiler_that_crashes_is_the_hosts_fault() {
        let output =
            "gcc: fatal error: Killed signal terminated program cc1\nmake: *** [x] Error 1\n";
        let error = build_error("building", output);
        assert_eq!(
            (error.blame, &*error.what),
            (Blame::Host, "building: the compiler crashed")
        );
    }

    #[test]
    fn a_full_disk_is_the_hosts_fault() {
        let error = build_error("building", "x.c: error: x\ncc: No space left on device\n");
        assert_eq!(error.blame, Blame::Host);
    }
}
