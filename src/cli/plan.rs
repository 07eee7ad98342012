// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab plan`: what would run, for people and for engines that spread it over machines.

use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::selection::{Selection, SelectionArgs};
use crate::error::{Error, Result};
use crate::plan::shard::Shard;
use crate::plan::{self, Plan, Run};
use crate::profile::Settings;
use crate::report::paint::Color;
use crate::size::Size;

pub const EXAMPLES: &str = "\
Examples:
  lab plan --profile nightly                     runs and skips, with the reasons
  lab plan --profile nightly --format github     a matrix for `strategy: matrix:`
  sbatch --array=$(lab plan --profile nightly --shards 6 --format slurm) contrib/slurm/lab.sbatch";

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each run, and for each skip with its reason.
    Human,
    /// One JSON object with all of it.
    Json,
    /// One line of JSON for a GitHub matrix: an element for each kernel, architecture and shard.
    Github,
    /// The indices of a Slurm array that still have runs to play.
    Slurm,
}

/// Arguments of `lab plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Number of shards for the engine.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    shards: u32,
    /// For whom.
    #[arg(long, value_enum, default_value = "human", value_name = "FORMAT")]
    format: Format,
}

/// Prints the plan.
pub fn plan(project: &Path, args: &PlanArgs, color: Color) -> Result<u8> {
    let selection = args.selection.read(project, Settings::default(), color)?;
    super::print(&match args.format {
        Format::Human => human(&selection),
        Format::Json => line(&json(&selection))?,
        Format::Github => line(&github(&selection, args.shards))?,
        Format::Slurm => slurm(&selection, args.shards),
    });
    Ok(0)
}

fn line(value: &serde_json::Value) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|error| Error::lab(error.to_string()))?;
    Ok(text + "\n")
}

/// A line for each run and each skip, what is played nowhere, and their numbers.
pub fn human(selection: &Selection) -> String {
    let plan = selection.plan();
    let mut text = String::new();
    let mut settled = 0;
    for planned in &plan.runs {
        let run = planned.id();
        let state = match selection.settled(&run).and_then(|run| run.verdict()) {
            Some(verdict) => {
                settled += 1;
                format!("{} already", verdict.outcome.name())
            }
            None => "run".to_owned(),
        };
        text += &format!("{state}  {run}{}\n", size(planned));
    }
    for skipped in &plan.skipped {
        text += &format!("skipped  {}: {}\n", skipped.run, skipped.reason);
    }
    let nowhere = selection.played_nowhere(&plan);
    let nowhere: Vec<_> = nowhere.iter().map(String::as_str).collect();
    if let Some(line) = plan::nowhere_line(&nowhere) {
        let fails = match selection.settings.every_scenario {
            Some(true) => ", which will fail the command",
            _ => "",
        };
        text += &format!("note  {line}{fails}\n");
    }
    let (runs, skips) = (plan.runs.len() - settled, plan.skipped.len());
    text += &format!("{runs} to run");
    if settled > 0 {
        text += &format!(", {settled} have a verdict already");
    }
    text += &format!(", {skips} skipped\n");
    text
}

/// What the guest of a run has that its name does not say: `: 512M of memory`.
fn size(run: &Run<'_>) -> String {
    let size = run.size().map(|size| match run.id().cpus {
        None => size,
        Some(_) => Size {
            cpus: Size::default().cpus,
            ..size
        },
    });
    match size.map(|size| size.to_string()) {
        Ok(size) if !size.is_empty() => format!(": {size}"),
        _ => String::new(),
    }
}

fn json(selection: &Selection) -> serde_json::Value {
    let plan = selection.plan();
    let runs: Vec<_> = plan.ids().into_iter().collect();
    json!({ "version": 1, "runs": runs, "skipped": plan.skipped })
}

/// Which shards of `plan`, cut into `of`, have a run that has no verdict yet.
fn shards_with_work(selection: &Selection, plan: &Plan<'_>, of: u32) -> Vec<Shard> {
    let left: Vec<_> = plan
        .ids()
        .into_iter()
        .filter(|run| selection.settled(run).is_none())
        .collect();
    (1..=of)
        .filter_map(|index| Shard::new(index, of))
        .filter(|shard| left.iter().any(|run| shard.has(run)))
        .collect()
}

/// Elements that build no kernel twice: one for each kernel, architecture and shard.
fn github(selection: &Selection, of: u32) -> serde_json::Value {
    let whole = selection.plan();
    let mut include = Vec::new();
    for group in whole
        .runs
        .chunk_by(|a, b| (&a.kernel.name, a.arch) == (&b.kernel.name, b.arch))
    {
        let part = Plan {
            runs: group.to_vec(),
            skipped: Vec::new(),
        };
        let (kernel, arch) = (&group[0].kernel.name, group[0].arch.name());
        for shard in shards_with_work(selection, &part, of) {
            let name = match of {
                1 => format!("{kernel} {arch}"),
                _ => format!("{kernel} {arch} {shard}"),
            };
            include.push(json!({
                "name": name, "kernel": kernel, "arch": arch, "shard": shard.to_string(),
            }));
        }
    }
    json!({ "include": include })
}

/// `1-6`, `3,5`, or nothing.
fn slurm(selection: &Selection, of: u32) -> String {
    let shards = shards_with_work(selection, &selection.plan(), of);
    let indices: Vec<u32> = shards.into_iter().map(Shard::index).collect();
    let ranges = indices.chunk_by(|a, b| a + 1 == *b).map(|range| {
        let (first, last) = (range[0], range[range.len() - 1]);
        match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        }
    });
    let text = ranges.collect::<Vec<_>>().join(",");
    if text.is_empty() { text } else { text + "\n" }
}
