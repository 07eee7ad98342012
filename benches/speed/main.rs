// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far is each stretch from an edit to a verdict from its limit?
//!
//!     cargo bench --bench speed                      the groups that take minutes
//!     cargo bench --bench speed -- boot run          these groups
//!     cargo bench --bench speed -- all               hours: kernels are built in full
//!     cargo bench --bench speed -- --list            what there is
//!     cargo bench --bench speed -- --rounds 3        instead of 5
//!     cargo bench --bench speed -- --update-docs     the table also goes into docs/performance.md
//!     cargo bench --bench speed -- earlier --earlier DIR   against another commit's checkout
//!
//! Prints a table and writes `target/speed.json`. What is set against each other is measured in
//! turn, in the same minutes of the same machine; absolute times mean little elsewhere.
//! docs/performance.md says how each row is measured. No time makes it fail, only a command that
//! does not work.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its table, and what it is at"
)]

mod boot;
mod clone;
mod earlier;
mod first;
mod fork;
mod host;
mod kernel;
mod lab;
mod matrix;
mod memory;
mod modules;
mod process;
mod project;
mod qemu;
mod row;
mod run;
mod table;
mod transitions;
mod tree;
mod upstream;
mod virtme;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use host::Host;
use lab::Lab;
use row::Row;
use table::Table;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Rounds, unless the command line says otherwise.
const ROUNDS: usize = 5;

/// What a group measures with.
struct Bench<'a> {
    /// The checkout.
    root: &'a Path,
    rounds: usize,
    /// A checkout of an earlier commit.
    earlier: Option<PathBuf>,
}

/// Rows that are measured together.
struct Group {
    name: &'static str,
    what: &'static str,
    /// Whether it takes so long that it has to be named.
    is_long: bool,
    measure: fn(&Bench<'_>) -> Result<Vec<Row>>,
}

const fn group(
    name: &'static str,
    what: &'static str,
    measure: fn(&Bench<'_>) -> Result<Vec<Row>>,
) -> Group {
    Group {
        name,
        what,
        is_long: false,
        measure,
    }
}

const fn long(
    name: &'static str,
    what: &'static str,
    measure: fn(&Bench<'_>) -> Result<Vec<Row>>,
) -> Group {
    Group {
        is_long: true,
        ..group(name, what, measure)
    }
}

/// In the order of the table.
const GROUPS: &[Group] = &[
    group("boot", "cold boots, and bare QEMU's", boot::measure),
    long(
        "firmware",
        "the x86_64 boot, and a bzImage's",
        boot::measure_firmware,
    ),
    long("virtme", "a cold boot, and virtme-ng's", virtme::measure),
    group(
        "fork",
        "guests from a warm template, their memory",
        fork::measure,
    ),
    group(
        "run",
        "lab run, warm, and what it takes itself",
        run::measure,
    ),
    group(
        "transitions",
        "how soon a transition's end is noticed",
        transitions::measure,
    ),
    group(
        "modules",
        "modules, and make's part in that",
        modules::measure,
    ),
    group("memory", "lab's own memory with 16 guests", memory::measure),
    long("matrix", "the profile `nightly`", matrix::measure),
    long("upstream", "upstream's own selftests", upstream::measure),
    long(
        "earlier",
        "an earlier commit: see --earlier",
        earlier::measure,
    ),
    group(
        "unchanged",
        "knowing that a kernel is unchanged",
        kernel::measure_unchanged,
    ),
    long("edit", "a line of one's own tree", kernel::measure_edit),
    long(
        "first",
        "the first run ever, another variant of its source",
        first::measure,
    ),
    long("clone", "a clone's first verdict", clone::measure),
];

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let (mut rounds, mut update_docs, mut earlier) = (ROUNDS, false, None);
    let mut names: Vec<String> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--list" => {
                list();
                return Ok(());
            }
            "--rounds" => rounds = args.next().unwrap_or_default().parse()?,
            "--update-docs" => update_docs = true,
            "--earlier" => earlier = Some(args.next().ok_or("--earlier needs a folder")?.into()),
            // It does not know which earlier commit.
            "all" => {
                let all = GROUPS.iter().map(|group| group.name.to_owned());
                names.extend(all.filter(|name| name != "earlier"));
            }
            name if GROUPS.iter().any(|group| group.name == name) => names.push(arg),
            other => {
                return Err(format!("there is no group or option `{other}`; see --list").into());
            }
        }
    }
    if rounds == 0 {
        return Err("there has to be at least one round".into());
    }
    let is_chosen = |group: &Group| match names.is_empty() {
        true => !group.is_long,
        false => names.iter().any(|name| name == group.name),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Builds, and what only a first run does, are not what is measured.
    let warm = Lab::of(root).run(&["scenarios/tagged-replace.yaml"])?;
    let host = Host::read(root, warm.events.accel().unwrap_or("unknown").to_owned());
    drop(warm);
    let bench = Bench {
        root,
        rounds,
        earlier,
    };
    let mut rows = Vec::new();
    for group in GROUPS.iter().filter(|group| is_chosen(group)) {
        eprintln!("{}: {}", group.name, group.what);
        let measured = (group.measure)(&bench)?;
        for row in &measured {
            eprintln!("  {}", table::line(row));
        }
        rows.extend(measured);
        // What is measured is kept, also if a later group fails.
        table(&host, &rows)
            .with_earlier(root, &order())
            .write(root)?;
    }
    print!("{}", table(&host, &rows).markdown());
    if update_docs {
        table(&host, &rows).update_docs(root)?;
    }
    Ok(())
}

fn table(host: &Host, rows: &[Row]) -> Table {
    Table::new(host.clone(), rows.to_vec())
}

fn order() -> Vec<&'static str> {
    GROUPS.iter().map(|group| group.name).collect()
}

fn list() {
    for group in GROUPS {
        let long = if group.is_long { "only if named" } else { "" };
        println!("{:<12} {:<50} {long}", group.name, group.what);
    }
}
