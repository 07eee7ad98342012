// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running klp-build, and what comes of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::said::{self, ORIGINAL_DONE};
use super::tree::PrivateTree;
use super::{LOG, Request, SCRIPT};
use crate::arch::{Arch, Toolchain};
use crate::cache::write_atomically;
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::event::Phase;
use crate::kernel::build::compiled_object;
use crate::kernel::{BuiltKernel, ccache};
use crate::process::Cmd;
use crate::scenario::Replace;

/// With this, source patches add callbacks: a livepatch may have nothing else.
const CALLBACK: &str = "PATCH_CALLBACK(";

/// A patch as klp-build gets it.
pub(super) struct StagedPatch {
    /// The user's file.
    pub(super) from: PathBuf,
    /// The copy.
    pub(super) path: PathBuf,
    /// The source files that it names.
    pub(super) files: Vec<PathBuf>,
    /// Its text.
    pub(super) text: String,
}

/// A livepatch that klp-build is to make.
pub(super) struct Job<'a> {
    pub(super) ctx: &'a Context,
    pub(super) kernel: &'a BuiltKernel,
    pub(super) arch: Arch,
    pub(super) request: &'a Request<'a>,
    /// Where klp-build works.
    pub(super) private: &'a PrivateTree,
    pub(super) patches: &'a [StagedPatch],
    /// Where the module and the output go.
    pub(super) stage: &'a Path,
    /// The module's file.
    pub(super) file: &'a str,
}

impl Job<'_> {
    fn module(&self) -> PathBuf {
        self.stage.join(self.file)
    }

    /// Runs klp-build. Its output is kept beside the module, after what the lab has to say itself; that
    /// of a failure goes with the error.
    pub(super) async fn run(&self, notes: &[String]) -> Result<()> {
        let touched = self.patches.iter().flat_map(|patch| &patch.files);
        self.private.begin(touched)?;
        let mut progress = Progress::begin(self)?;
        let log_path = self.stage.join(LOG);
        let mut log = File::create(&log_path).at("create", &log_path)?;
        for note in notes {
            writeln!(log, "warning: lab: {note}").at("write", &log_path)?;
        }
        let finished = self
            .command()
            .run(&self.ctx.cancel, |line| {
                let _ = writeln!(log, "{line}");
                progress.line(line);
            })
            .await?;
        let output = self.keep(&log_path)?;
        // Without `-t`, mainline's klp-build exits with 0 after it has refused a wrong option.
        let made = finished.status.success() && self.module().is_file();
        let Some(error) = self.error(made, &output) else {
            self.private.succeeded()?;
            progress.done(&said::changed_functions(&output));
            return Ok(());
        };
        drop(progress);
        if let Err(trouble) = self.private.failed(self.ctx, self.kernel).await {
            // The next klp-build mends it.
            let note = format!("the copy of the tree for klp-build is not mended: {trouble}");
            self.ctx.events.note(note);
        }
        let log = format!("klp-build/{}.log", self.request.name);
        Err(error
            .evidence(&format!("the whole output is in the record: {log}"))
            .attach(log, output))
    }

    /// The output that is of this livepatch, with the user's names of the patches: in place of the
    /// whole output, which has all commands of the original build too.
    fn keep(&self, path: &Path) -> Result<String> {
        let bytes = fs::read(path).at("read", path)?;
        let output = String::from_utf8_lossy(&bytes);
        let own: Vec<_> = said::of_the_livepatch(&output).collect();
        let mut own = own.join("\n") + "\n";
        for patch in self.patches {
            let staged = patch.path.display().to_string();
            own = own.replace(&staged, &patch.from.display().to_string());
        }
        fs::write(path, &own).at("write", path)?;
        Ok(own)
    }

    fn error(&self, made: bool, output: &str) -> Option<Error> {
        let name = self.request.name;
        if !made {
            return Some(said::failure(name, output));
        }
        let has_callbacks = || {
            self.patches
                .iter()
                .any(|patch| patch.text.contains(CALLBACK))
        };
        let is_idle = said::adds_functions(output) && said::changed_functions(output).is_empty();
        (is_idle && !has_callbacks()).then(|| said::changes_nothing(name, output))
    }

    /// klp-build runs plain `make`, so what `make`'s command line says elsewhere is in the
    /// environment here.
    fn command(&self) -> Cmd {
        let tools = Toolchain::of(self.arch);
        let private = self.private;
        // flock(1) becomes klp-build and leaves it the locked file.
        let command = Cmd::new("flock")
            .args(["--exclusive", "--no-fork"])
            .arg(private.running())
            .args(["bash", SCRIPT])
            .args(arguments(
                self.request.replace,
                private.has_original(),
                &self.module(),
            ))
            .args(self.patches.iter().map(|patch| &patch.path))
            .dir(private.tree())
            .env("ARCH", tools.kernel_arch)
            .env("CROSS_COMPILE", tools.prefix)
            .env("LC_ALL", "C")
            .env("KBUILD_BUILD_USER", "lab")
            .env("KBUILD_BUILD_HOST", "lab")
            .env("KBUILD_BUILD_TIMESTAMP", "@0")
            // klp-build looks for the objects in the tree.
            .env("KBUILD_OUTPUT", "");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let kept = ccache::environment(&private.objects, &private.tree(), &path);
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
    fn begin(job: &Job<'a>) -> Result<Self> {
        let (ctx, kernel, has_original) = (job.ctx, job.kernel, job.private.has_original());
        let totals = ctx.cache.kind("klp")?.join(format!("objects-{}", job.arch));
        let total = fs::read_to_string(&totals)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let (name, release) = (job.request.name, &*kernel.release);
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

    fn done(mut self, changed: &[&str]) {
        let what = match changed {
            [] => String::new(),
            [only] => format!(": {only}"),
            [first, more @ ..] => format!(": {first} and {} more", more.len()),
        };
        if let Some(phase) = self.phase.take() {
            phase.done(format!(
                "built livepatch {} with klp-build{what}",
                self.name
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
