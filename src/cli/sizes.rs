// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--cpus`, `--memory` and `--append`: how large guests are.

use clap::Args;

use crate::size::{self, CPUS_RANGE, Choices};

/// How large the guest is.
#[derive(Debug, Clone, Args)]
pub struct SizeArgs {
    /// CPUs of the guest [default: 1, or what the scenario or the kernel needs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(CPUS_RANGE))]
    cpus: Option<u16>,
    #[command(flatten)]
    rest: RestArgs,
}

/// How large the guests are.
#[derive(Debug, Clone, Args)]
pub struct SizesArgs {
    /// CPUs of the guests; with several numbers each run is played with each [default: 1, or what
    /// the scenario or the kernel needs].
    #[arg(long, value_name = "N", value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(CPUS_RANGE))]
    cpus: Vec<u16>,
    #[command(flatten)]
    rest: RestArgs,
}

#[derive(Debug, Clone, Args)]
struct RestArgs {
    /// Memory of a guest, such as 512M or 2G [default: 256M, or what the scenario or the kernel
    /// needs].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_memory)]
    memory: Option<u32>,
    /// Words for the kernel's command line, after those of the lab, the kernel and the scenario.
    #[arg(long, value_name = "WORDS", value_parser = append)]
    append: Option<String>,
}

impl SizeArgs {
    pub fn choices(&self) -> Choices {
        self.rest.choices(self.cpus.into_iter().collect())
    }
}

impl SizesArgs {
    pub fn choices(&self) -> Choices {
        self.rest.choices(self.cpus.clone())
    }
}

impl RestArgs {
    fn choices(&self, cpus: Vec<u16>) -> Choices {
        Choices {
            cpus,
            memory_mib: self.memory,
            append: self.append.clone(),
        }
    }
}

/// No word at all takes back what a profile says.
fn append(text: &str) -> Result<String, String> {
    size::check_words(text).map(|()| text.to_owned())
}
