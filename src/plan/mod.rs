// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios × kernels × architectures × numbers of CPUs → runs, and what is skipped with the reason. Pure.

pub mod shard;

use std::collections::BTreeSet;

use crate::arch::Arch;
use crate::event::{RunId, Skipped};
use crate::kernel::Definition;
use crate::scenario::{Capability, Scenario};
use crate::size::{self, Choice, Choices, Size};
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

    /// Leaves out the runs that cannot be recorded: QEMU takes turns between the CPUs of a machine
    /// whose instructions are counted; with one there is no turn to repeat.
    pub fn retain_recordable(&mut self) {
        for run in std::mem::take(&mut self.runs) {
            match run.size() {
                Ok(Size { cpus: 1, .. }) => self.runs.push(run),
                sized => self.skipped.push(Skipped {
                    run: run.id(),
                    reason: match sized {
                        Ok(size) => {
                            let cpus = size::cpus(size.cpus);
                            format!("it has {cpus}; a guest that is recorded has one")
                        }
                        Err(reason) => reason,
                    },
                }),
            }
        }
    }

    /// The memory in MiB of its largest guest.
    pub fn largest_mib(&self) -> u32 {
        let sizes = self.runs.iter().filter_map(|run| run.size().ok());
        let mib = sizes.map(|size| size.memory_mib);
        mib.max().unwrap_or(Size::default().memory_mib)
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
    /// What is chosen of its guest's size.
    pub choice: Choice<'a>,
}

impl Run<'_> {
    /// How large its guest is.
    ///
    /// # Errors
    ///
    /// The choice is below what the scenario or the kernel needs: why the run is left out.
    pub fn size(&self) -> Result<Size, String> {
        Size::of(&self.scenario.machine, &self.kernel.machine, self.choice)
    }

    /// Its identity.
    pub fn id(&self) -> RunId {
        RunId {
            scenario: self.scenario.name.clone(),
            kernel: self.kernel.name.clone(),
            arch: self.arch,
            cpus: self.choice.cpus.filter(|&cpus| cpus != self.own_cpus()),
        }
    }

    /// How many CPUs its guest has if nobody chooses.
    fn own_cpus(&self) -> u16 {
        Size::least(&self.scenario.machine, &self.kernel.machine).cpus
    }
}

/// The scenarios that are skipped and that none of the `runs` plays, by name.
pub fn played_nowhere<'a>(
    skipped: &'a [Skipped],
    runs: impl IntoIterator<Item = &'a RunId>,
) -> Vec<&'a str> {
    let played: BTreeSet<&str> = runs.into_iter().map(|run| &*run.scenario).collect();
    let skipped: BTreeSet<&str> = skipped.iter().map(|skip| &*skip.run.scenario).collect();
    skipped.difference(&played).copied().collect()
}

/// That scenarios are skipped everywhere, in words: `2 scenarios are skipped everywhere: a, b`.
/// `None` if none is.
pub fn nowhere_line(names: &[&str]) -> Option<String> {
    const SHOWN: usize = 4;
    let what = match names.len() {
        0 => return None,
        1 => "1 scenario is".to_owned(),
        count => format!("{count} scenarios are"),
    };
    let shown = names.iter().take(SHOWN).copied();
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{what} skipped everywhere: {shown}{more}"))
}

/// Plans every combination.
pub fn plan<'a>(
    scenarios: &'a [Scenario],
    kernels: &'a [Definition],
    archs: &[Arch],
    sizes: &'a Choices,
) -> Plan<'a> {
    let mut plan = Plan {
        runs: Vec::new(),
        skipped: Vec::new(),
    };
    // A kernel or an architecture that is named twice is played once.
    let mut seen = BTreeSet::new();
    for kernel in kernels {
        for &arch in archs {
            for choice in sizes.each() {
                let run = |scenario| Run {
                    scenario,
                    kernel,
                    arch,
                    choice,
                };
                for run in scenarios.iter().map(run) {
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
    let found = run.kernel.capabilities.replace;
    if let Some(wanted) = requires.replace.filter(|wanted| *wanted != found) {
        return Some(format!(
            "it requires replace: {}, the kernel has {}",
            wanted.name(),
            found.name()
        ));
    }
    run.size().err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::kernel::definition::{Capabilities, Source};
    use crate::scenario::{Code, Livepatch, Replace, ReplaceCapability, Requires, SnapshotScope};
    use crate::size::Needs;

    fn kernel(name: &str, replace: ReplaceCapability) -> Definition {
        Definition {
            name: name.into(),
            summary: String::new(),
            default: false,
            bases: Vec::new(),
            source: Source::Path("/x".into()),
            patches: None,
            config: Vec::new(),
            capabilities: Capabilities {
                replace,
                others: BTreeMap::new(),
            },
            machine: Needs::default(),
        }
    }

    fn scenario(name: &str, requires: Requires) -> Scenario {
        Scenario {
            name: name.into(),
            folder: "scenarios".into(),
            original: None,
            summary: String::new(),
            requires,
            machine: Needs::default(),
            targets: Vec::new(),
            livepatches: Vec::new(),
            steps: Vec::new(),
            expect_failure: Vec::new(),
            allow_splats: Vec::new(),
            mask: Vec::new(),
            snapshot: SnapshotScope::default(),
        }
    }

    fn plan<'a>(scenarios: &'a [Scenario], kernels: &'a [Definition], archs: &[Arch]) -> Plan<'a> {
        static NOTHING: Choices = Choices {
            cpus: Vec::new(),
            memory_mib: None,
            append: None,
        };
        super::plan(scenarios, kernels, archs, &NOTHING)
    }

    fn chosen(cpus: &[u16], memory_mib: Option<u32>) -> Choices {
        Choices {
            cpus: cpus.to_vec(),
            memory_mib,
            append: None,
        }
    }

    #[test]
    fn a_number_of_cpus_that_is_chosen_is_in_the_name_of_a_run_unless_it_is_its_own() {
        let mut two = scenario("two", Requires::default());
        two.machine.cpus = Some(2);
        let scenarios = [scenario("one", Requires::default()), two];
        let kernels = [kernel("tags", ReplaceCapability::Tags)];
        let sizes = chosen(&[1, 2, 1], None);
        let plan = super::plan(&scenarios, &kernels, &[Arch::X86_64], &sizes);
        let names: Vec<_> = plan.ids().iter().map(RunId::to_string).collect();
        assert_eq!(
            names,
            [
                "one on tags (x86_64)",
                "one on tags (x86_64, 2 CPUs)",
                "two on tags (x86_64)"
            ]
        );
        let machine: Vec<_> = plan.ids().iter().map(RunId::name).collect();
        assert_eq!(machine[1..], ["one@tags.x86_64.2cpus", "two@tags.x86_64"]);
        let cpus: Vec<_> = plan
            .runs
            .iter()
            .map(|run| run.size().unwrap().cpus)
            .collect();
        assert_eq!(cpus, [1, 2, 2]);
        let [skipped] = &plan.skipped[..] else {
            panic!("{:?}", plan.skipped);
        };
        assert_eq!(skipped.run.to_string(), "two on tags (x86_64, 1 CPU)");
        assert_eq!(skipped.reason, "it needs 2 CPUs (scenario), not 1");
    }

    #[test]
    fn a_choice_below_a_need_is_not_raised_and_one_above_it_is_taken() {
        let mut kernels = [kernel("kasan", ReplaceCapability::Tags)];
        kernels[0].machine = Needs {
            cpus: Some(2),
            memory_mib: Some(1024),
            append: "kasan.fault=panic".into(),
        };
        let mut scenarios = [scenario("s", Requires::default())];
        scenarios[0].machine = Needs {
            cpus: Some(4),
            memory_mib: Some(512),
            append: "b=1  c".into(),
        };
        let sized = |sizes: &Choices| {
            let plan = super::plan(&scenarios, &kernels, &[Arch::X86_64], sizes);
            match &plan.runs[..] {
                [run] => Ok(run.size().unwrap()),
                _ => Err(plan.skipped[0].reason.clone()),
            }
        };
        let words = "kasan.fault=panic b=1 c";
        let size = |cpus, memory_mib, append: &str| Size {
            cpus,
            memory_mib,
            append: append.into(),
        };
        assert_eq!(sized(&chosen(&[], None)), Ok(size(4, 1024, words)));
        let more = Choices {
            append: Some("d".into()),
            ..chosen(&[8], Some(2048))
        };
        let all = format!("{words} d");
        assert_eq!(sized(&more), Ok(size(8, 2048, &all)));
        let few = sized(&chosen(&[2], None)).unwrap_err();
        assert_eq!(few, "it needs 4 CPUs (scenario), not 2");
        let little = sized(&chosen(&[], Some(512))).unwrap_err();
        assert_eq!(little, "it needs 1G of memory (kernel), not 512M");
    }

    #[test]
    fn what_has_several_cpus_is_not_recorded() {
        let mut two = scenario("two", Requires::default());
        two.machine.cpus = Some(2);
        let scenarios = [scenario("one", Requires::default()), two];
        let kernels = [kernel("tags", ReplaceCapability::Tags)];
        let mut plan = plan(&scenarios, &kernels, &[Arch::X86_64]);
        plan.retain_recordable();
        assert_eq!(plan.ids()[0].scenario, "one");
        let reason = "it has 2 CPUs; a guest that is recorded has one";
        assert_eq!((plan.runs.len(), &*plan.skipped[0].reason), (1, reason));
    }

    #[test]
    fn the_memory_of_the_largest_guest_is_known() {
        let mut scenarios = ["a", "b"].map(|name| scenario(name, Requires::default()));
        let kernels = [kernel("tags", ReplaceCapability::Tags)];
        assert_eq!(
            plan(&scenarios, &kernels, &[Arch::X86_64]).largest_mib(),
            256
        );
        scenarios[1].machine.memory_mib = Some(1024);
        assert_eq!(
            plan(&scenarios, &kernels, &[Arch::X86_64]).largest_mib(),
            1024
        );
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
    fn a_scenario_that_no_run_plays_is_found_whatever_other_shards_do() {
        let tags = Requires {
            replace: Some(ReplaceCapability::Tags),
            ..Requires::default()
        };
        let scenarios = [
            scenario("tagged", tags),
            scenario("any", Requires::default()),
        ];
        let kernels = ["a", "b"].map(|name| kernel(name, ReplaceCapability::Bool));
        let whole = plan(&scenarios, &kernels, &Arch::ALL);
        assert_eq!(played_nowhere(&whole.skipped, &whole.ids()), ["tagged"]);
        assert_eq!(
            nowhere_line(&["tagged"]).as_deref(),
            Some("1 scenario is skipped everywhere: tagged")
        );
        let kernels = [
            kernel("a", ReplaceCapability::Bool),
            kernel("b", ReplaceCapability::Tags),
        ];
        let whole = plan(&scenarios, &kernels, &Arch::ALL);
        assert_eq!(played_nowhere(&whole.skipped, &whole.ids()), [""; 0]);
        assert_eq!(nowhere_line(&[]), None);
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
