// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab repro`: shows what a bundle would run, asks, runs it, and says whether it ended as recorded.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::ask::ask;
use super::cache::bytes;
use super::duration;
use crate::bundle::again::Again;
use crate::bundle::{Bundle, Contents, read};
use crate::cache::blocking;
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::Event;
use crate::kernel::definition::Source;
use crate::plan::{self, Plan};
use crate::runner::manner::Manner;
use crate::runner::origin::{self, Origin, Recorded};
use crate::runner::{self, Options};
use crate::size::Choices;
use crate::state::{SnapshotPolicy, Snapshots};
use crate::visible::visible;
use crate::vm::accel::Choice;
use crate::{host, image};

pub const EXAMPLES: &str = "\
Examples:
  lab repro report.tar.zst --dry-run              what is in it, and what it would run
  lab repro report.tar.zst --as-shipped           the very kernel and modules, in a guest only
  lab repro report.tar.zst                        build the kernel and the modules from source
  lab repro report.tar.zst --as-shipped --yes --times 20
  lab repro report.tar.zst --unpack report        a project to change and to run with `lab run`

It needs no checkout. Without --as-shipped it builds a stranger's kernel: patches and configuration
of the bundle can make that build run any program as you. With it nothing of the bundle runs outside
of a guest, which reaches nothing; but QEMU is all that is between the two.

Records of the runs are put below .lab/runs of the current folder.

Exit status: 0 it ended as recorded at least once (the same outcome, step, problem and title of a
splat), 1 it never did, 2 usage or a bundle that is not right, 3 it could not be built or run.";

/// Arguments of `lab repro`.
#[derive(Debug, Args)]
pub struct ReproArgs {
    /// What `lab bundle` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Boot the bundle's own kernel and initramfs and load its own modules; build nothing.
    #[arg(long)]
    as_shipped: bool,
    /// Run it N times, each in a new guest, and report how often it ended as recorded.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    times: u16,
    /// The accelerator [default: as recorded, if it works here].
    #[arg(long, value_enum, value_name = "ACCEL")]
    accel: Option<Choice>,
    /// Time limit of one guest, such as 90s or 5m [default: as recorded].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Install missing host packages first; --as-shipped needs QEMU only.
    #[arg(long)]
    setup: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Only show the contents and what would run.
    #[arg(long, conflicts_with_all = ["unpack", "setup"])]
    dry_run: bool,
    /// Run nothing; unpack the bundle as a project into DIR, a new folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["as_shipped", "times", "setup"])]
    unpack: Option<PathBuf>,
}

/// What came out: the exit code, and the words that come after the reports.
pub async fn repro(ctx: &Context, args: &ReproArgs) -> Result<(u8, String)> {
    if let Some(dir) = args.unpack.as_ref().filter(|dir| dir.exists()) {
        let what = format!("{} is there already", dir.display());
        return Err(Error::new(Blame::Usage, what).help("name a new folder"));
    }
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let bundle = unpack(ctx, args).await?;
    // What was reported so far comes first.
    tokio::task::yield_now().await;
    let contents = bundle.contents()?;
    bundle.complete()?;
    bundle.restore_snapshot(&contents.scenario)?;
    super::print(&shown(&args.file, &bundle, &contents));
    if let Some(dir) = &args.unpack {
        let origin = bundle.manifest.origin.clone();
        bundle.keep(dir)?;
        return Ok((0, unpacked(dir, &origin)));
    }
    super::print(&would_run(args.as_shipped, &bundle, &contents));
    if args.dry_run {
        return Ok((0, String::new()));
    }
    possible(args, &bundle, &contents)?;
    agree(ctx, args).await?;
    prepare(ctx, args, &bundle, &contents).await?;
    let ctx = Context {
        project: bundle.project(),
        ..ctx.clone()
    };
    play(&ctx, args, &bundle, &contents).await
}

async fn unpack(ctx: &Context, args: &ReproArgs) -> Result<Bundle> {
    // What is kept is renamed, which does not go from one disk to another.
    let place = match &args.unpack {
        Some(dir) => std::path::absolute(dir).at("resolve", dir)?,
        None => ctx.cache.kind("bundles")?.join("bundle"),
    };
    let shown = args.file.display();
    let mut phase = ctx.events.phase(format!("read {shown}"));
    let (file, cancel) = (args.file.clone(), ctx.cancel.clone());
    blocking(move || {
        let bundle = read::read(&file, &place, &cancel, &mut phase)?;
        phase.done(format!("read {}", file.display()));
        Ok(bundle)
    })
    .await
}

/// What is in the bundle.
fn shown(file: &Path, bundle: &Bundle, contents: &Contents) -> String {
    let manifest = &bundle.manifest;
    let (origin, scenario) = (&manifest.origin, &contents.scenario);
    let mut text = format!("{}: {}\n", file.display(), origin.run);
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "  {name:<9} {}", visible(&what).replace('\n', " "));
    };
    let count = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n if what.ends_with('h') => format!("{n} {what}es"),
        n => format!("{n} {what}s"),
    };
    let modules = count(origin.modules.len(), "module");
    let steps = count(scenario.steps.len(), "step");
    line(
        "scenario",
        format!("{} ({steps}, {modules})", scenario.summary),
    );
    let below = format!("project/kernels/patches/{}/", origin.run.kernel);
    let patches = manifest.files.iter();
    let patches = patches.filter(|file| file.path.starts_with(&below)).count();
    let patches = count(patches, "patch");
    let (release, source) = (&origin.kernel.release, &origin.kernel.source);
    line("kernel", format!("{release}, from {source}, {patches}"));
    line("recorded", manifest.manner.to_string());
    let (lab, accel, qemu) = (&origin.lab, &origin.accel, &origin.qemu);
    line("by", format!("lab {lab}, {accel}, {qemu}"));
    match origin.size.to_string() {
        size if size.is_empty() => {}
        size => line("guest", size),
    }
    let built = bytes(manifest.bytes_in("built"));
    let slim = match manifest.slim {
        true => "; kernel, initramfs and modules were left out",
        false => "",
    };
    let rest = bytes(manifest.bytes_in("project") + manifest.bytes_in("run"));
    line(
        "holds",
        format!("{built} that was built, {rest} of texts{slim}"),
    );
    text
}

/// What of it would be run, and where.
fn would_run(as_shipped: bool, bundle: &Bundle, contents: &Contents) -> String {
    let run = &bundle.manifest.origin.run;
    if as_shipped {
        return "With --as-shipped it boots the bundle's kernel and initramfs and loads the bundle's \
                modules,\nin a guest that reaches nothing. On this machine itself nothing of the \
                bundle runs: only QEMU\nis between the two.\n"
            .to_owned();
    }
    let from = match &contents.kernel.source {
        Source::Debian(candidates) => {
            let names = candidates.iter();
            let names: Vec<_> = names
                .map(|source| format!("{} of {}", source.package, source.suite))
                .collect();
            format!("Debian's {}", names.join(", or "))
        }
        Source::Git {
            repository,
            revision,
        } => format!("{revision} of {repository}"),
        Source::Tarball { location, .. } => location.clone(),
        Source::Path(_) => "a tree of the reporter's own".to_owned(),
        Source::DebianImage(image) => format!("Debian's {} of {}", image.package, image.suite),
        Source::Prebuilt(_) => "a build of the reporter's own".to_owned(),
    };
    let files = bundle.manifest.files.iter();
    let own =
        files.filter(|file| file.path.starts_with("project/") && !file.path.ends_with(".yaml"));
    let own: String = own
        .map(|file| format!("    {}\n", visible(&file.path)))
        .collect();
    let mut text = format!(
        "It builds kernel {} on this machine, unless it is in the cache, from\n    {}\nwith these \
         files of the bundle:\n{own}",
        run.kernel,
        visible(&from),
    );
    text += "Source, patches and configuration can make that build run any program as you. Go on if\n\
             you trust whoever wrote them; --as-shipped runs nothing of the bundle outside of a guest.\n\
             The modules' C is generated anew from the scenario, and the guest's programs are this\n\
             lab's own.\n";
    text
}

/// Whether it can be done as it was asked for.
fn possible(args: &ReproArgs, bundle: &Bundle, contents: &Contents) -> Result<()> {
    let refuse = |what: String, help: &str| Err(Error::new(Blame::Usage, what).help(help));
    if args.as_shipped {
        if bundle.manifest.slim {
            return refuse(
                "--as-shipped needs what was built, and this bundle was written with --slim"
                    .to_owned(),
                "leave out --as-shipped to build it from source, or ask for a bundle without --slim",
            );
        }
        if let Some(why) = contents.needs_tree() {
            return refuse(
                format!("the scenario cannot be played with --as-shipped: {why}"),
                "leave out --as-shipped to build the kernel from source",
            );
        }
    } else if let Some(why) = contents.cannot_be_built() {
        return refuse(
            format!("the kernel cannot be built here: {why}, which is not in the bundle"),
            match bundle.manifest.slim {
                false => "boot the very kernel with --as-shipped",
                true => "ask for a bundle without --slim, and use --as-shipped",
            },
        );
    }
    Ok(())
}

/// Asks, where somebody can be asked.
async fn agree(ctx: &Context, args: &ReproArgs) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let refuse = |what: &str, help: &str| Err(Error::new(Blame::Usage, what).help(help));
    if !std::io::stdin().is_terminal() {
        return refuse(
            "there is no terminal to ask whether to run this",
            "see what it would run with --dry-run, then add --yes",
        );
    }
    match ask(ctx, "Go on? [y/N]").await?.as_deref() {
        Some("y" | "yes") => Ok(()),
        None => refuse("nothing was run", "answer with y to run it, or say --yes"),
        Some(_) => refuse("nothing was run", "answer with y to run it"),
    }
}

/// Makes sure that the host has what it takes.
async fn prepare(
    ctx: &Context,
    args: &ReproArgs,
    bundle: &Bundle,
    contents: &Contents,
) -> Result<()> {
    let arch = bundle.manifest.origin.run.arch;
    let packages = match args.as_shipped {
        true => vec![arch.row().emulator],
        false => super::setup::needed([(arch, &contents.scenario)]),
    };
    if args.setup {
        super::setup::install(ctx, &packages, args.yes).await?;
    }
    host::require_packages(&packages)
}

/// Runs it as often as was asked for.
async fn play(
    ctx: &Context,
    args: &ReproArgs,
    bundle: &Bundle,
    contents: &Contents,
) -> Result<(u8, String)> {
    let run = &bundle.manifest.origin.run;
    let scenarios = std::slice::from_ref(&contents.scenario);
    let kernels = std::slice::from_ref(&contents.kernel);
    let origin = &bundle.manifest.origin;
    let sizes = Choices::again(&origin.size, &origin.append);
    let plan = plan::plan(scenarios, kernels, &[run.arch], &sizes);
    if let Some(skipped) = plan.skipped.first() {
        let what = format!("the bundle is inconsistent: {}", skipped.reason);
        return Err(Error::new(Blame::File, what).help("ask its author for a new one"));
    }
    ctx.events.send(Event::Planned {
        runs: plan.ids(),
        skipped: Vec::new(),
        elsewhere: Vec::new(),
        jobs: 1,
        every_scenario: false,
    });
    let mut again = Again::new(bundle.manifest.manner.clone());
    let observed = bundle.recorded("observed.txt")?;
    let mut text = String::new();
    for _ in 0..args.times {
        let (manner, record) = once(ctx, args, bundle, &plan, &again).await?;
        let now = std::fs::read_to_string(record.join("observed.txt")).ok();
        again.add(manner, now == observed);
        text = differences(args, bundle, &record);
    }
    text = again.text() + &text + &image_note(ctx, args, bundle)?;
    let code = match again.same() {
        0 if again.could_not_run() => 3,
        0 => 1,
        _ => 0,
    };
    Ok((code, text))
}

async fn once(
    ctx: &Context,
    args: &ReproArgs,
    bundle: &Bundle,
    plan: &Plan<'_>,
    again: &Again,
) -> Result<(Manner, PathBuf)> {
    let origin = &bundle.manifest.origin;
    let here = std::env::current_dir().at("find", "the current folder".as_ref())?;
    let policy = match again.is_about_states() {
        true => SnapshotPolicy::Fixed,
        false => SnapshotPolicy::Ignore,
    };
    let recorded = match &*origin.accel {
        "tcg" => Choice::Tcg,
        _ => Choice::Auto,
    };
    let snapshots = Snapshots::new(ctx.project.clone(), policy);
    let options = Options {
        accel: args.accel.unwrap_or(recorded),
        timeout: args
            .timeout
            .or_else(|| origin.timeout_ms.map(Duration::from_millis)),
        // Forks are of a kernel that is in the cache.
        warm: origin.warm && args.times > 1 && !args.as_shipped,
        patient: origin.patient,
        shipped: bundle.shipped().filter(|_| args.as_shipped),
        ..Options::new(snapshots, here.join(".lab/runs"))
    };
    let ended = runner::run_all(ctx, plan, options).await?;
    let ended = ended.into_iter().next();
    let ended = ended.ok_or_else(|| Error::lab("the run has not ended"))?;
    Ok((Manner::of(&ended.verdict), ended.record))
}

/// In what the run was, or may have been, another one than the recorded.
fn differences(args: &ReproArgs, bundle: &Bundle, record: &Path) -> String {
    let data = std::fs::read(record.join(origin::FILE)).unwrap_or_default();
    let Ok(now) = serde_json::from_slice::<Recorded>(&data) else {
        // It has not come as far as a guest.
        return String::new();
    };
    let (now, then) = (&now.origin, &bundle.manifest.origin);
    let mut text = String::new();
    let mut line = |name: &str, how: &str| {
        let _ = writeln!(text, "  {:<9} {}", format!("{name}:"), visible(how));
    };
    if !args.as_shipped {
        let (now, then) = (&now.kernel, &then.kernel);
        line(
            "kernel",
            &if now.key == then.key {
                format!("the recorded one, {}", now.release)
            } else if now.source == then.source {
                let (now, then) = (&now.release, &then.release);
                format!("{now}, from the same source as {then}, perhaps by another compiler")
            } else {
                let (now, then) = (&now.source, &then.source);
                format!("another one: its source is {now}, and was {then}")
            },
        );
    }
    for (name, now, then) in [
        ("accel", &now.accel, &then.accel),
        ("qemu", &now.qemu, &then.qemu),
    ] {
        if now != then {
            line(name, &format!("{now}, and was {then}"));
        }
    }
    text
}

/// Whether the guest's programs were the recorded ones.
fn image_note(ctx: &Context, args: &ReproArgs, bundle: &Bundle) -> Result<String> {
    let own = image::Definition::read(&ctx.project, image::DEFAULT)?.sum()?;
    let same = args.as_shipped || own == bundle.manifest.origin.image.sum;
    Ok(match same {
        true => String::new(),
        false => "  image:    this lab's own; the recorded one was another, which --as-shipped \
                  boots\n"
            .to_owned(),
    })
}

/// How to go on with an unpacked bundle.
fn unpacked(dir: &Path, origin: &Origin) -> String {
    let (dir, run) = (dir.display(), &origin.run);
    let size = Choices::again(&origin.size, &origin.append).options();
    format!(
        "unpacked to {dir}; to go on:\n  cd {dir}/project\n  lab run scenarios/{}.yaml --kernel {} \
         --arch {}{size}\nThat builds the kernel: its source, patches and configuration can make the build \
         run any program as you.\n",
        run.scenario, run.kernel, run.arch
    )
}
