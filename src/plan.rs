// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios × kernels × architectures → runs, and what is skipped with the reason. Pure.

use crate::arch::Arch;
use crate::event::RunId;
use crate::kernel::Definition;
use crate::scenario::Scenario;

/// What is going to run.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The runs, grouped by kernel and architecture so that builds come in order.
    pub runs: Vec<Run<'a>>,
    /// What is left out, with the reason.
    pub skipped: Vec<(RunId, String)>,
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
    for kernel in kernels {
        for &arch in archs {
            for scenario in scenarios {
                let run = Run {
                    scenario,
                    kernel,
                    arch,
                };
                match unmet(run) {
                    None => plan.runs.push(run),
                    Some(reason) => plan.skipped.push((run.id(), reason)),
                }
            }
        }
    }
    plan
}

/// Why a run makes no sense, if it makes none.
fn unmet(run: Run<'_>) -> Option<String> {
    let requires = &run.scenario.requires;
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
    use crate::kernel::definition::Capabilities;
    use crate::kernel::source::Source;
    use crate::scenario::{ReplaceCapability, Requires};

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
                klp_build: false,
            },
        }
    }

    fn scenario(name: &str, requires: Requires) -> Scenario {
        Scenario {
            name: name.into(),
            summary: String::new(),
            requires,
            targets: Vec::new(),
            livepatches: Vec::new(),
            steps: Vec::new(),
        }
    }

    #[test]
    fn what_a_kernel_cannot_do_is_skipped_with_the_reason() {
        let tags = Requires {
            replace: Some(ReplaceCapability::Tags),
            arch: Vec::new(),
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
            plan.skipped[0].1,
            "it requires replace: tags, the kernel has bool"
        );
    }

    #[test]
    fn a_scenario_for_one_architecture_is_skipped_on_the_other() {
        let scenarios = [scenario(
            "x",
            Requires {
                replace: None,
                arch: vec![Arch::X86_64],
            },
        )];
        let kernels = [kernel("tags", ReplaceCapability::Tags)];
        let plan = plan(&scenarios, &kernels, &Arch::ALL);
        assert_eq!(plan.runs.len(), 1);
        assert_eq!(plan.skipped[0].1, "it is for x86_64 only");
    }
}
