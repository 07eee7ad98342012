// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios × kernels × architectures → runs, and what is skipped with the reason. Pure.

pub mod shard;

use std::collections::BTreeSet;

use crate::arch::Arch;
use crate::event::{RunId, Skipped};
use crate::kernel::Definition;
use crate::scenario::{Capability, Scenario};
use shard::Shard;

/// What is going to run.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The runs, grouped by kernel and architecture so that builds come in order.
    pub runs: Vec<Run<'a>>,
    /// What is left out, with the reason.
    pub skipped: Vec<Skipped>,
}

impl Plan<'_> {
    /// The part of it that belongs to a shard.
    pub fn retain_shard(&mut self, shard: Shard) {
        self.runs.retain(|run| shard.has(&run.id()));
        self.skipped.retain(|skipped| shard.has(&skipped.run));
    }

    /// The identities of the runs.
    pub fn ids(&self) -> Vec<RunId> {
        self.runs.iter().map(Run::id).collect()
    }
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// What is played.
    pub scenario: &'a Scenario,
    /// On which kernel.
    pub kernel: &'a Definition,
    /// On which architecture.
    pub arch: Arch,
}

impl Run<'_> {
    /// Its identity.
    pub fn id(&self) -> RunId {
        RunId {
            scenario: self.scenario.name.clone(),
            kernel: self.kernel.name.clone(),
            arch: self.arch,
        }
    }
}

/// Plans every combination.
pub fn plan<'a>(scenarios: &'a [Scenario], kernels: &'a [Definition], archs: &[Arch]) -> Plan<'a> {
    let mut plan = Plan {
        runs: Vec::new(),
        skipped: Vec::new(),
    };
    // A kernel or an architecture that is named twice is played once.
    let mut seen = BTreeSet::new();
    for kernel in kernels {
        for &arch in archs {
            for scenario in scenarios {
                let run = Run {
                    scenario,
                    kernel,
                    arch,
                };
                if !seen.insert(run.id()) {
                    continue;
                }
                match unmet(run) {
                    None => plan.runs.push(run),
                    Some(reason) => plan.skipped.push(Skipped {
                        run: run.id(),
                        reason,
                    }),
                }
            }
        }
    }
    plan
}

/// Why a run makes no sense, if it makes none.
fn unmet(run: Run<'_>) -> Option<String> {
    if let Some(only) = run.kernel.only_arch().filter(|only| *only != run.arch) {
        return Some(format!("the kernel was built for {only} only"));
    }
    let requires = &run.scenario.requires;
    let mut needed = requires.capabilities.clone();
    if run.scenario.uses_klp_build() {
        needed.push(Capability::KlpBuild);
    }
    let lacks = |need: &&Capability| !run.kernel.capabilities.has(**need, run.arch);
    if let Some(missing) = needed.iter().find(lacks) {
        let name = missing.name();
        return Some(format!(
            "it needs {name}, which the kernel does not have on {}",
            run.arch
        ));
    }
    if !requires.arch.is_empty() && !requires.arch.contains(&run.arch) {
        let archs: Vec<_> = requires.arch.iter().map(|arch| arch.name()).collect();
        return Some(format!("it is for {} only", archs.join(", ")));
    }
    let (wanted, found) = (requires.replace?, run.kernel.capabilities.replace);
    (wanted != found).then(|| {
        format!(
            "it requires replace: {}, the kernel has {}",
            wanted.name(),
            found.name()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::kernel::definition::{Capabilities, Source};
    use crate::scenario::{Code, Livepatch, Replace, ReplaceCapability, Requires, SnapshotScope};

    fn kernel(name: &str, replace: ReplaceCapability) -> Definition {
        Definition {
            name: name.into(),
            summary: String::new(),
            default: false,
            source: Source::Path("/x".into()),
            patches: None,
            config: Vec::new(),
            capabilities: Capabilities {
                replace,
                others: BTreeMap::new(),
            },
        }
    }

    fn scenario(name: &str, requires: Requires) -> Scenario {
        Scenario {
            name: name.into(),
            folder: "scenarios".into(),
            original: None,
            summary: String::new(),
            requires,
            targets: Vec::new(),
            livepatches: Vec::new(),
            steps: Vec::new(),
            expect_failure: Vec::new(),
            allow_splats: Vec::new(),
            snapshot: SnapshotScope::default(),
        }
    }

    #[test]
    fn what_is_named_twice_is_played_once() {
        let scenarios = [scenario("a", Requires::default())];
        let kernels = [(); 2].map(|()| kernel("k", ReplaceCapability::Tags));
        let plan = plan(&scenarios, &kernels, &[Arch::X86_64, Arch::X86_64]);
        assert_eq!((plan.runs.len(), plan.skipped.len()), (1, 0));
    }

    #[test]
    fn what_a_kernel_cannot_do_is_skipped_with_the_reason() {
        let tags = Requires {
            replace: Some(ReplaceCapability::Tags),
            ..Requires::default()
        };
        let scenarios = [
            scenario("tagged", tags),
            scenario("any", Requires::default()),
        ];
        let kernels = [
            kernel("mainline", ReplaceCapability::Bool),
            kernel("tags", ReplaceCapability::Tags),
        ];
        let plan = plan(&scenarios, &kernels, &[Arch::X86_64]);
        let runs: Vec<_> = plan.runs.iter().map(|run| run.id().to_string()).collect();
        assert_eq!(
            runs,
            [
                "any on mainline (x86_64)",
                "tagged on tags (x86_64)",
                "any on tags (x86_64)"
            ]
        );
        assert_eq!(
            plan.skipped[0].reason,
            "it requires replace: tags, the kernel has bool"
        );
    }

    #[test]
    fn klp_build_is_skipped_where_there_is_none() {
        let mut built = scenario("built", Requires::default());
        built.livepatches.push(Livepatch {
            name: "fix".into(),
            replace: Replace::Flag(true),
            code: Code::KlpBuild {
                patches: vec!["fix.patch".into()],
            },
        });
        let (without, mut with) = (
            kernel("old", ReplaceCapability::Bool),
            kernel("new", ReplaceCapability::Bool),
        );
        let x86_64 = vec![Arch::X86_64];
        with.capabilities.others = [(Capability::KlpBuild, x86_64)].into();
        let (scenarios, kernels) = ([built], [without, with]);
        let plan = plan(&scenarios, &kernels, &Arch::ALL);
        assert_eq!(plan.runs.len(), 1);
        let skipped = plan.skipped.iter();
        let reasons: Vec<_> = skipped.map(|skipped| skipped.reason.as_str()).collect();
        let on_x86_64 = "it needs klp-build, which the kernel does not have on x86_64";
        let on_arm64 = "it needs klp-build, which the kernel does not have on arm64";
        assert_eq!(reasons, [on_x86_64, on_arm64, on_arm64]);
    }

    #[test]
    fn a_scenario_for_one_architecture_is_skipped_on_the_other() {
        let scenarios = [scenario(
            "x",
            Requires {
                arch: vec![Arch::X86_64],
                ..Requires::default()
            },
        )];
        let kernels = [kernel("tags", ReplaceCapability::Tags)];
        let plan = plan(&scenarios, &kernels, &Arch::ALL);
        assert_eq!(plan.runs.len(), 1);
        assert_eq!(plan.skipped[0].reason, "it is for x86_64 only");
    }

    #[test]
    fn the_shards_are_the_whole_and_do_not_overlap() {
        let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
        let scenarios: Vec<_> = names
            .iter()
            .map(|name| scenario(name, Requires::default()))
            .collect();
        let kernels = [kernel("tags", ReplaceCapability::Tags)];
        let whole = plan(&scenarios, &kernels, &Arch::ALL);
        let mut seen = Vec::new();
        for index in 1..=6 {
            let mut part = whole.clone();
            part.retain_shard(Shard::new(index, 6).unwrap());
            assert!(!part.runs.is_empty(), "80 runs leave no shard of 6 empty");
            seen.extend(part.ids());
        }
        let mut all = whole.ids();
        seen.sort();
        all.sort();
        assert_eq!(seen, all);
    }
}
