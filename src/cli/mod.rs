// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: arguments, and one file per subcommand.

mod ask;
mod bisect;
mod build;
mod bundle;
mod cache;
mod check;
mod compare;
mod console;
mod exec;
mod export;
mod go_on;
mod import;
mod inspect;
mod list;
mod minimize;
mod new;
mod owners;
mod pager;
mod pause;
mod plan;
mod playing;
mod replay;
mod report;
mod repro;
mod review;
mod run;
mod scenarios;
mod selection;
mod selftests;
mod setup;
mod shell;
mod sizes;
mod visit;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::context::{Context, find_project};
use crate::error::{Blame, Error, Result};
use crate::event::{self, Event, Events};
use crate::report::Reports;
use crate::report::files::Files;
use crate::report::human::{Human, error_text};
use crate::report::paint::{Color, Paint};
use crate::report::screen::Screen;
use crate::report::to_stderr;
use crate::{process, scenario, yaml};

const EXAMPLES: &str = "\
Examples:
  lab run --setup scenarios/tagged-replace.yaml   install what is missing, build, run, compare
  lab run scenarios --kernel mainline,tags        every scenario on two kernels
  lab check scenarios                             look for mistakes, build nothing
  lab review                                      accept or reject what was observed

Exit status: 0 everything as expected, 1 a run failed, 2 usage or an invalid file,
3 a build, the host or the lab failed, 130 interrupted.";

/// A virtual-machine test lab for Linux kernel livepatches.
#[derive(Debug, Parser)]
#[command(name = "lab", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// The checkout to work in [default: the one that the current folder is in].
    #[arg(long, global = true, value_name = "DIR", env = "LAB_PROJECT")]
    project: Option<PathBuf>,
    /// When to use colours.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios: build what they need, boot, play, compare with the snapshots.
    #[command(after_help = run::EXAMPLES)]
    Run(run::RunArgs),
    /// Open a shell in the guest of a paused run, or in a guest booted for it.
    #[command(after_help = shell::EXAMPLES)]
    Shell(shell::ShellArgs),
    /// Run a command in the guest of a paused run, or in a guest booted for it.
    #[command(after_help = exec::EXAMPLES)]
    Exec(exec::ExecArgs),
    /// Show the console of a guest's kernel, and follow it.
    #[command(after_help = console::EXAMPLES)]
    Console {
        /// The run: its record's folder or the name of that, or `latest` [default: the run that is
        /// paused].
        run: Option<String>,
    },
    /// Continue a paused run (`lab run … --pause-at`).
    #[command(after_help = go_on::EXAMPLES)]
    Continue {
        /// The run: its record's folder or the name of that, or `latest` [default: the run that is
        /// paused].
        run: Option<String>,
    },
    /// Play the kernel's own livepatch selftests, alone or beside the scenarios.
    #[command(after_help = selftests::EXAMPLES)]
    Selftests(selftests::SelftestsArgs),
    /// Show which runs a command would start or skip, for people or for a CI engine.
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanArgs),
    /// Repeat a recorded run, instruction by instruction.
    #[command(after_help = replay::EXAMPLES)]
    Replay(replay::ReplayArgs),
    /// Merge and show the results of several commands.
    Report(report::ReportArgs),
    /// Check scenario files for mistakes, without building or booting anything.
    #[command(after_help = "Examples:\n  lab check scenarios\n  lab check my-scenario.yaml")]
    Check {
        /// Names of the project's scenarios, scenario files, or folders with some.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Reduce a failing scenario while it still fails in the same way.
    #[command(after_help = minimize::EXAMPLES)]
    Minimize(minimize::MinimizeArgs),
    /// Show where kernels begin to behave differently, step by step.
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::CompareArgs),
    /// Find the first commit or patch with which a scenario fails, or passes.
    #[command(after_help = bisect::EXAMPLES)]
    Bisect(bisect::BisectArgs),
    /// Export a scenario as a kernel selftest, with the source of its modules.
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Write a first scenario to start from.
    #[command(after_help = new::EXAMPLES)]
    New(new::NewArgs),
    /// Convert the commands of a report, or a kernel selftest script, into a scenario.
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
    /// Describe a module that was built elsewhere, and why a kernel would reject it.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::InspectArgs),
    /// List scenarios, kernels, images or profiles.
    List {
        /// What to list.
        #[arg(value_enum)]
        what: list::What,
    },
    /// Build kernels or images without running anything.
    #[command(
        after_help = "Examples:\n  lab build kernel tags mainline\n  lab build kernel tags --every-source   do the patches apply everywhere?\n  lab build image default"
    )]
    Build(build::BuildArgs),
    /// List, remove, export and import what was built and fetched.
    #[command(after_help = cache::EXAMPLES)]
    Cache(cache::CacheArgs),
    /// Install the host packages that the lab needs.
    Setup(SetupArgs),
    /// Put a run and all its inputs into one file that another machine can run again.
    #[command(after_help = bundle::EXAMPLES)]
    Bundle(bundle::BundleArgs),
    /// Run a bundle again, and report whether it ended in the same way.
    #[command(after_help = repro::EXAMPLES)]
    Repro(repro::ReproArgs),
    /// Accept or reject the observed states, snapshot by snapshot.
    Review(review::ReviewArgs),
    /// Print the JSON schema of scenario files, for editors.
    Schema,
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  lab completions bash > ~/.local/share/bash-completion/completions/lab"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Installing host packages.
#[derive(Debug, Clone, Args)]
struct SetupArgs {
    /// Architectures of the guests to prepare for.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ARCH")]
    arch: Vec<Arch>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// The architectures that were named, or the host's.
fn archs(named: &[Arch]) -> Vec<Arch> {
    match named {
        [] => vec![Arch::host_or_usual()],
        named => named.to_vec(),
    }
}

/// CI systems set `CI`; then nothing is ever written to snapshots/.
fn runs_in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !["", "0", "false"].contains(&ci.as_str()))
}

/// Reads an argument that is a duration.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    yaml::parse_duration(text)
        .ok_or_else(|| "write a whole number with ms, s, m or h, up to 24h".to_owned())
}

impl ValueEnum for Arch {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.name()))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap knows which stream its messages belong to.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let color = cli.color;
    let code = dispatch(cli).unwrap_or_else(|error| {
        print_error(&error, color);
        error.exit_code()
    });
    ExitCode::from(code)
}

fn print_error(error: &Error, color: Color) {
    let screen = Screen::behind(std::io::stderr());
    to_stderr(&error_text(error, screen, Paint::stderr(color)));
}

/// Text for standard output; a reader that has gone (`lab … | head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // A question has no newline at its end, and must be there before its answer.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn dispatch(cli: Cli) -> Result<u8> {
    let human = || Reports::new(Human::new(cli.color), Files::default());
    match cli.command {
        Command::Check { paths } => {
            let project = project(cli.project).ok();
            check::check(&paths, project.as_deref(), cli.color)
        }
        Command::Export(args) => {
            let project = project(cli.project).ok();
            export::export(&args, project.as_deref(), cli.color)
        }
        Command::New(args) => new::run(&args, || project(cli.project)),
        Command::Import(args) => import::run(&args, || project(cli.project)),
        Command::Inspect(args) => {
            let (text, modules) = inspect::describe(&args)?;
            print(&text);
            if !args.needs_project() {
                return Ok(0);
            }
            let mut said = String::new();
            let code = with_context(project(cli.project)?, human()?, async |ctx| {
                let (code, text) = inspect::compare(ctx, &args, &modules).await?;
                said = text;
                Ok(code)
            });
            print(&said);
            code
        }
        Command::List { what } => list::list(&project(cli.project)?, what).map(|()| 0),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&scenario::schema());
            print(&schema.map_err(|error| Error::lab(error.to_string()))?);
            print("\n");
            Ok(0)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lab", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(0)
        }
        Command::Plan(args) => plan::plan(&project(cli.project)?, &args, cli.color),
        Command::Replay(args) => {
            let project = project(cli.project)?;
            with_context(project, human()?, async |ctx| {
                replay::replay(ctx, &args).await
            })
        }
        Command::Report(args) => report::report(&args, cli.color),
        Command::Review(args) => review::review(&project(cli.project)?, &args, cli.color),
        Command::Run(args) => {
            let project = project(cli.project)?;
            let selection = args.read(&project, cli.color)?;
            if args.is_dry() {
                print(&plan::human(&selection));
                return Ok(0);
            }
            let reports = Reports::new(Human::new(cli.color), args.files()?)?;
            let reports = reports.resume(selection.settled_results());
            with_context(project, reports, async |ctx| {
                run::run(ctx, &args, &selection).await
            })
        }
        Command::Shell(args) => with_guest(
            cli.project,
            cli.color,
            args.boots(),
            async |ctx, project| shell::shell(ctx, project, &args).await,
        ),
        Command::Exec(args) => with_guest(
            cli.project,
            cli.color,
            args.boots(),
            async |ctx, project| exec::exec(ctx, project, &args).await,
        ),
        Command::Console { run } => {
            with_guest(cli.project, cli.color, false, async |ctx, project| {
                console::console(ctx, project, run.as_deref()).await
            })
        }
        Command::Continue { run } => {
            let project = project(cli.project).ok();
            go_on::go_on(project.as_deref(), run.as_deref())
        }
        Command::Selftests(args) => {
            let project = project(cli.project)?;
            let reports = Reports::new(Human::new(cli.color), args.files()?)?;
            let mut compared = String::new();
            let code = with_context(project, reports, async |ctx| {
                let (code, text) = selftests::selftests(ctx, &args).await?;
                compared = text;
                Ok(code)
            });
            print(&compared);
            code
        }
        Command::Minimize(args) => {
            let project = project(cli.project)?;
            let subject = args.read(&project, cli.color)?;
            told(project, cli.color, async |ctx| {
                minimize::minimize(ctx, &args, &subject).await
            })
        }
        Command::Compare(args) => {
            let project = project(cli.project)?;
            let selection = args.read(&project, cli.color)?;
            told(project, cli.color, async |ctx| {
                compare::compare(ctx, &args, &selection).await
            })
        }
        Command::Bisect(args) => {
            let project = project(cli.project)?;
            let subject = args.read(&project, cli.color)?;
            told(project, cli.color, async |ctx| {
                bisect::bisect(ctx, &args, &subject).await
            })
        }
        Command::Build(args) => {
            let project = project(cli.project)?;
            with_context(project, human()?, async |ctx| {
                build::build(ctx, &args).await
            })
        }
        Command::Bundle(args) => {
            let record = args.record(project(cli.project))?;
            with_context(PathBuf::new(), human()?, async |ctx| {
                bundle::bundle(ctx, &args, record).await
            })
        }
        Command::Repro(args) => {
            let mut after = String::new();
            let code = with_context(PathBuf::new(), human()?, async |ctx| {
                let (code, text) = repro::repro(ctx, &args).await?;
                after = text;
                Ok(code)
            });
            print(&after);
            code
        }
        Command::Cache(args) => {
            let project = if args.needs_project() {
                project(cli.project)?
            } else {
                PathBuf::new()
            };
            with_context(project, human()?, async |ctx| {
                cache::cache(ctx, &args).await
            })
        }
        Command::Setup(args) => {
            let project = project(cli.project)?;
            with_context(project, human()?, async |ctx| {
                setup::setup(ctx, &archs(&args.arch), args.yes)
                    .await
                    .map(|()| 0)
            })
        }
    }
}

/// Runs work that shows its progress as ever, and whose result is a text after that.
fn told(
    project: PathBuf,
    color: Color,
    work: impl AsyncFnOnce(&Context) -> Result<(u8, String)>,
) -> Result<u8> {
    let reports = Reports::new(Human::new(color), Files::default())?;
    let mut told = String::new();
    let code = with_context(project, reports, async |ctx| {
        let (code, text) = work(ctx).await?;
        told = text;
        Ok(code)
    });
    print(&told);
    code
}

fn project(named: Option<PathBuf>) -> Result<PathBuf> {
    let here = match named {
        Some(dir) => std::path::absolute(dir),
        None => std::env::current_dir(),
    };
    let here = here.map_err(|error| {
        Error::new(
            Blame::Usage,
            format!("cannot find the current folder: {error}"),
        )
    })?;
    find_project(&here)
}

/// Runs what is about a guest: only one that is booted needs a project.
fn with_guest(
    named: Option<PathBuf>,
    color: Color,
    boots: bool,
    work: impl AsyncFnOnce(&Context, Option<&Path>) -> Result<u8>,
) -> Result<u8> {
    let found = match project(named) {
        Ok(found) => Some(found),
        Err(error) if boots => return Err(error),
        Err(_) => None,
    };
    let reports = Reports::new(Human::of_visit(color), Files::default())?;
    with_context(found.clone().unwrap_or_default(), reports, async |ctx| {
        work(ctx, found.as_deref()).await
    })
}

/// Runs asynchronous work on this thread, with reports and with Ctrl-C: the first ends the work
/// in good order, the second at once.
fn with_context(
    project: PathBuf,
    reports: Reports,
    work: impl AsyncFnOnce(&Context) -> Result<u8>,
) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::host(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(async {
        let (events, receiver) = Events::channel();
        let cancel = CancellationToken::new();
        let ctx = Context {
            project,
            cache: Cache::from_env()?,
            events,
            cancel: cancel.clone(),
        };
        let reports = reports.spawn(receiver);
        ctx.events.send(Event::Started {
            version: event::VERSION,
            lab: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().skip(1).collect(),
        });
        let result = tokio::select! {
            result = work(&ctx) => result,
            result = second_interrupt(&cancel) => result,
        };
        // The reports end when the last sender has gone.
        drop(ctx);
        let reported = reports
            .await
            .unwrap_or_else(|error| Err(Error::lab(format!("the report failed: {error}"))));
        result.and_then(|code| reported.map(|()| code))
    });
    // A worker thread may wait for a lock or a slow disk: nobody waits for it any more.
    runtime.shutdown_background();
    result
}

/// Cancels at the first signal; resolves at the second, with everything killed.
async fn second_interrupt(cancel: &CancellationToken) -> Result<u8> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| Error::host(format!("cannot listen for signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    next().await;
    cancel.cancel();
    next().await;
    process::kill_all();
    Err(Error::interrupted())
}
