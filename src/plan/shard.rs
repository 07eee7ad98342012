// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shards: a matrix cut into parts for several machines, by the names of the runs.
//!
//! A run's shard depends on its name and the number of shards only, so that every machine cuts the
//! same way without talking to the others, and a new scenario moves no other run.

use sha2::{Digest, Sha256};

use crate::error::{Blame, Error, Result};
use crate::event::RunId;

/// One part of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 1.
    index: u32,
    /// How many there are.
    of: u32,
}

/// Where an index comes from when the command line says `auto`.
struct Variable {
    index: &'static str,
    /// What the first index is.
    first: u32,
    /// The number of shards, where the engine tells it reliably.
    count: Option<&'static str>,
}

const VARIABLES: [Variable; 4] = [
    // Slurm's SLURM_ARRAY_TASK_COUNT is smaller when only some tasks are submitted again.
    Variable {
        index: "SLURM_ARRAY_TASK_ID",
        first: 1,
        count: None,
    },
    // Kubernetes, Indexed Job.
    Variable {
        index: "JOB_COMPLETION_INDEX",
        first: 0,
        count: None,
    },
    // GitLab, `parallel:`.
    Variable {
        index: "CI_NODE_INDEX",
        first: 1,
        count: Some("CI_NODE_TOTAL"),
    },
    // GitHub has them as `strategy.job-index` and `strategy.job-total`; a workflow hands them on.
    Variable {
        index: "STRATEGY_JOB_INDEX",
        first: 0,
        count: Some("STRATEGY_JOB_TOTAL"),
    },
];

impl Shard {
    /// Shard `index`, from 1, `of` so many; `None` if there is no such shard.
    pub fn new(index: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&index).then_some(Self { index, of })
    }

    /// Reads `I/N`, `auto/N` or `auto`; `var` looks an environment variable up.
    ///
    /// # Errors
    ///
    /// It is none of these, or the environment does not say which shard this is.
    pub fn parse(text: &str, var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let usage = |what: String| Error::new(Blame::Usage, what);
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let (index, of) = match text.split_once('/') {
            Some((index, of)) => (index, Some(of)),
            None => (text, None),
        };
        if index != "auto" {
            return of
                .and_then(|of| Self::new(number(index)?, number(of)?))
                .ok_or_else(|| {
                    usage(format!("`--shard {text}` is no shard"))
                        .help("write I/N with I from 1 to N, such as 2/6; or auto, or auto/N")
                });
        }
        let known = VARIABLES.iter().find_map(|known| {
            let value = var(known.index)?;
            Some((known, value))
        });
        let Some((known, value)) = known else {
            let names: Vec<_> = VARIABLES.iter().map(|known| known.index).collect();
            return Err(usage(format!(
                "`--shard {text}`: the environment does not say which shard this is"
            ))
            .help(format!("set one of {}; or write I/N", names.join(", "))));
        };
        let count = of.map(str::to_owned).or_else(|| var(known.count?));
        let Some(count) = count else {
            return Err(
                usage(format!("`--shard {text}`: how many shards are there?"))
                    .help(format!("{} does not tell: write auto/N", known.index)),
            );
        };
        let shard = number(&value)
            .and_then(|value| (value + 1).checked_sub(known.first))
            .zip(number(&count))
            .and_then(|(index, of)| Self::new(index, of));
        shard.ok_or_else(|| {
            let (name, first) = (known.index, known.first);
            usage(format!(
                "`--shard {text}`: {name} is {value}, which is no shard of {count}"
            ))
            .help(format!("{name} counts from {first} here"))
        })
    }

    /// Which one, from 1.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Whether a run belongs to it.
    pub fn has(self, run: &RunId) -> bool {
        let hash = Sha256::digest(run.name().as_bytes());
        let number = hash
            .iter()
            .take(8)
            .fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        number % u64::from(self.of) == u64::from(self.index - 1)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, vars: &[(&str, &str)]) -> std::result::Result<String, String> {
        let var = |name: &str| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match Shard::parse(text, var) {
            Ok(shard) => Ok(shard.to_string()),
            Err(error) => Err(format!(
                "{}; {}",
                error.what,
                error.help.unwrap_or_default()
            )),
        }
    }

    #[test]
    fn a_shard_is_written_or_taken_from_the_environment() {
        assert_eq!(parse("2/6", &[]), Ok("2/6".into()));
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "6"),
            ("SLURM_ARRAY_TASK_COUNT", "1"),
        ];
        assert_eq!(parse("auto/6", &slurm), Ok("6/6".into()));
        let kubernetes = [("JOB_COMPLETION_INDEX", "0")];
        assert_eq!(parse("auto/3", &kubernetes), Ok("1/3".into()));
        let gitlab = [("CI_NODE_INDEX", "4"), ("CI_NODE_TOTAL", "4")];
        assert_eq!(parse("auto", &gitlab), Ok("4/4".into()));
        let github = [("STRATEGY_JOB_INDEX", "0"), ("STRATEGY_JOB_TOTAL", "2")];
        assert_eq!(parse("auto", &github), Ok("1/2".into()));
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["0/6", "7/6", "1", "x/6", "1/0", "-1/2"] {
            assert!(parse(text, &[]).is_err(), "{text}");
        }
        assert!(
            parse("auto", &[])
                .unwrap_err()
                .contains("SLURM_ARRAY_TASK_ID")
        );
        let count = parse("auto", &[("SLURM_ARRAY_TASK_ID", "1")]).unwrap_err();
        assert!(count.ends_with("SLURM_ARRAY_TASK_ID does not tell: write auto/N"));
        let zero = parse("auto/6", &[("SLURM_ARRAY_TASK_ID", "0")]).unwrap_err();
        assert!(zero.contains("SLURM_ARRAY_TASK_ID is 0, which is no shard of 6"));
    }

    #[test]
    fn the_cut_is_stable() {
        let run = RunId {
            scenario: "tagged-replace".into(),
            kernel: "tags".into(),
            arch: crate::arch::Arch::X86_64,
            cpus: None,
        };
        // Written down: machines with different labs must cut the same way.
        let index = (1..=6).find(|&index| Shard::new(index, 6).unwrap().has(&run));
        assert_eq!(index, Some(1));
    }
}
