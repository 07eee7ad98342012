// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab cache`: what was built and fetched: look at it, remove it, take it to other machines.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;

use super::archs;
use crate::arch::Arch;
use crate::cache::blocking;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store::list::{Listing, list};
use crate::store::prune::{Policy, Pruned, prune};
use crate::store::{export, import};
use crate::{host, image, kernel};

pub const EXAMPLES: &str = "\
Examples:
  lab cache list
  lab cache prune --dry-run                      what was not used for 30 days
  lab cache prune --unused-for 7d --max-size 20G
  lab cache export --kernel tags,mainline --arch x86_64,arm64 kernels.tar.zst
  lab cache import kernels.tar.zst               on a machine that shall not build

LAB_CACHE_DIR moves the cache. An imported kernel's own build system runs on this machine when
modules are built: import only from people whose programs you would run.";

/// What depends on what is removed.
const CONSEQUENCES: [(&str, &str); 3] = [
    (
        "sources",
        "kernels of a removed source stay usable; a further one fetches it again",
    ),
    (
        "kernels",
        "a removed kernel is built again when it is needed; without relatives, all of it",
    ),
    (
        "klp",
        "the next livepatch from a source patch compiles its kernel once more",
    ),
];

/// Arguments of `lab cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// List the entries with size and last use.
    #[command(
        after_help = "Sizes are disk blocks; a file that kernels share with their source \
        counts for the source."
    )]
    List {
        /// One JSON object that lists every entry.
        #[arg(long)]
        json: bool,
    },
    /// Remove unused entries, and the leftovers of interrupted commands.
    #[command(after_help = "Nothing that another lab makes or may use is removed.")]
    Prune {
        /// How long, such as 12h, 30d or 4w.
        #[arg(long, value_name = "AGE", default_value = "30d", value_parser = age)]
        unused_for: Duration,
        /// Then remove the least recently used until the cache is no larger, such as 10G.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max_size: Option<u64>,
        /// Remove nothing, only list what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write kernels, their sources and guest images to one file; missing ones are built first.
    #[command(
        after_help = "Example:\n  lab cache export --kernel tags kernels.tar.zst\n\n\
        The other machine needs the same version of the compiler: it is part of what a kernel is."
    )]
    Export {
        /// Kernels [default: those with `default: true`].
        #[arg(long, value_delimiter = ',', value_name = "KERNEL")]
        kernel: Vec<String>,
        /// Architectures [default: the host's].
        #[arg(long, value_enum, value_delimiter = ',', value_name = "ARCH")]
        arch: Vec<Arch>,
        /// The archive (tar, compressed with zstd); replaced if it exists.
        file: PathBuf,
    },
    /// Add an archive of `lab cache export` to the cache; existing entries are kept.
    #[command(
        after_help = "An imported kernel's own build system runs on this machine when \
        modules are built: import only from people whose programs you would run."
    )]
    Import {
        /// The archive.
        file: PathBuf,
    },
}

impl CacheArgs {
    /// Whether it is about the definitions of a project.
    pub fn needs_project(&self) -> bool {
        matches!(self.command, CacheCommand::Export { .. })
    }
}

/// Does what was asked for.
pub async fn cache(ctx: &Context, args: &CacheArgs) -> Result<u8> {
    let text = match &args.command {
        CacheCommand::List { json } => {
            let cache = ctx.cache.clone();
            let listing = blocking(move || list(&cache)).await?;
            if *json {
                to_json(ctx, &listing)?
            } else {
                human(&listing)
            }
        }
        CacheCommand::Prune {
            unused_for,
            max_size,
            dry_run,
        } => {
            let policy = Policy {
                unused_for: *unused_for,
                max_size: *max_size,
                dry_run: *dry_run,
            };
            let (cache, cancel) = (ctx.cache.clone(), ctx.cancel.clone());
            let pruned = blocking(move || prune(&cache, &policy, &cancel)).await?;
            pruned_text(&pruned, *dry_run)
        }
        CacheCommand::Export { kernel, arch, file } => {
            export_text(ctx, kernel, arch, file.clone()).await?
        }
        CacheCommand::Import { file } => {
            let imported = import::import(ctx, file).await?;
            let lines = |word: &str, items: &[crate::store::Item]| -> String {
                let line = |item: &crate::store::Item| {
                    format!("{word} {} {}  {}\n", item.kind.name(), item.key, item.label)
                };
                items.iter().map(line).collect()
            };
            lines("added  ", &imported.added) + &lines("kept   ", &imported.kept)
        }
    };
    super::print(&text);
    Ok(0)
}

async fn export_text(
    ctx: &Context,
    names: &[String],
    arch: &[Arch],
    file: PathBuf,
) -> Result<String> {
    let _in_use = ctx.cache.in_use(&ctx.cancel).await?;
    let archs = archs(arch);
    host::require(&archs)?;
    let definitions = super::selection::read_kernels(&ctx.project, names)?;
    let image = image::Definition::read(&ctx.project, image::DEFAULT)?;
    let (mut kernels, mut images) = (Vec::new(), Vec::new());
    for &arch in &archs {
        for definition in &definitions {
            kernels.push(kernel::build::build(ctx, definition, arch, false).await?);
        }
        images.push(image::build::build(ctx, &image, arch, false).await?);
    }
    let exported = export::export(ctx, &kernels, &images, &file).await?;
    let line =
        |item: &crate::store::Item| format!("{} {}  {}\n", item.kind.name(), item.key, item.label);
    let lines: String = exported.entries.iter().map(line).collect();
    Ok(format!(
        "{lines}{}  {}\n",
        bytes(exported.bytes),
        file.display()
    ))
}

fn to_json(ctx: &Context, listing: &Listing) -> Result<String> {
    let entries = listing.entries.iter().map(|entry| {
        json!({
            "kind": entry.kind,
            "key": entry.key,
            "what": entry.what,
            "bytes": entry.bytes,
            "last_used": jiff::Timestamp::try_from(entry.last_used).ok().map(|t| t.to_string()),
            "leftover": entry.leftover,
        })
    });
    let kinds = listing
        .totals()
        .into_iter()
        .map(|(kind, entries, bytes)| json!({ "kind": kind, "entries": entries, "bytes": bytes }));
    let json = json!({
        "version": 1,
        "dir": ctx.cache.dir(),
        "bytes": listing.bytes(),
        "kinds": kinds.collect::<Vec<_>>(),
        "entries": entries.collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&json);
    text.map(|text| text + "\n")
        .map_err(|error| Error::lab(error.to_string()))
}

/// A line for each entry, but one for all modules, and the totals.
fn human(listing: &Listing) -> String {
    let mut text = String::new();
    for (kind, count, total) in listing.totals() {
        let entries = listing.entries.iter().filter(|entry| entry.kind == kind);
        if kind == "modules" {
            let used = entries.map(|entry| entry.last_used).max();
            let what = format!("{kind}  {count} sets of modules");
            text += &row(total, used.unwrap_or(SystemTime::UNIX_EPOCH), &what);
        } else {
            for entry in entries {
                let what = format!("{kind}  {}  {}", entry.key, entry.what);
                text += &row(entry.bytes, entry.last_used, &what);
            }
        }
    }
    text.push('\n');
    for (kind, count, total) in listing.totals() {
        text += &format!("{:>10}  {kind} ({count})\n", bytes(total));
    }
    text + &format!("{:>10}  in all\n", bytes(listing.bytes()))
}

fn row(size: u64, used: SystemTime, what: &str) -> String {
    let age = used.elapsed().unwrap_or_default().as_secs();
    let age = match age {
        0..60 => "now".to_owned(),
        60..3600 => format!("{} min ago", age / 60),
        3600..172_800 => format!("{} h ago", age / 3600),
        _ => format!("{} d ago", age / 86_400),
    };
    format!("{:>10}  {age:>10}  {what}\n", bytes(size))
}

fn pruned_text(pruned: &Pruned, dry_run: bool) -> String {
    let (removed, freed) = if dry_run {
        ("would remove", "would free")
    } else {
        ("removed", "freed")
    };
    let mut text = String::new();
    let mut sum = 0;
    for (entry, frees) in &pruned.removed {
        sum += frees;
        let size = bytes(*frees);
        text += &format!(
            "{removed} {} {}  {size}  {}\n",
            entry.kind, entry.key, entry.what
        );
    }
    for (entry, reason) in &pruned.kept {
        text += &format!("kept {} {}: {reason}\n", entry.kind, entry.key);
    }
    for (kind, consequence) in CONSEQUENCES {
        let of_kind =
            |(entry, _): &(crate::store::list::Entry, u64)| entry.kind == kind && !entry.leftover;
        if pruned.removed.iter().any(of_kind) {
            text += &format!("note: {consequence}\n");
        }
    }
    text + &format!("{freed} {}; {} left\n", bytes(sum), bytes(pruned.left))
}

/// A size for people, in binary units as `du -h` has them.
pub(super) fn bytes(count: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|&(shift, _)| count >> shift > 0);
    match unit {
        Some((shift, name)) => {
            let tenths = (u128::from(count) * 10) >> shift;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

/// A number and its unit, which is one of `units`.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit))?;
    let digits = text.strip_suffix(unit)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse::<u64>().ok()?.checked_mul(*factor))?
}

fn age(text: &str) -> std::result::Result<Duration, String> {
    let units = [("m", 60), ("h", 3600), ("d", 86_400), ("w", 7 * 86_400)];
    let seconds = quantity(text, &units);
    let seconds = seconds.ok_or("an age is a whole number with m, h, d or w, such as 30d")?;
    Ok(Duration::from_secs(seconds))
}

fn size(text: &str) -> std::result::Result<u64, String> {
    let units = [
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
    ];
    let bytes = quantity(text, &units);
    Ok(bytes.ok_or("a size is a whole number with K, M, G or T, such as 10G")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_units() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(age("0h"), Ok(Duration::ZERO));
        assert_eq!(size("10G"), Ok(10 << 30));
        for wrong in [
            "",
            "d",
            "30",
            "-1d",
            "+1d",
            "1.5d",
            "99999999999999999999w",
            "30 d",
        ] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
        assert!(size("10").is_err() && size("20000000T").is_err());
    }

    #[test]
    fn sizes_are_shown_with_a_tenth() {
        let shown = [0, 1023, 1024, 1_700_000_000, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.5 GiB", "16777215.9 TiB"]
        );
    }
}
