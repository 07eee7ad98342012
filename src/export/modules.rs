// SPDX-License-Identifier: MIT OR Apache-2.0
//! `test_modules/`: the generated C, a Makefile as upstream's, and modules that know what the
//! kernel has.

use crate::module::generate::{SourceFile, sources};
use crate::scenario::{Capability, ReplaceCapability, Scenario};

/// The rules of upstream's Makefile.
const RULES: &str = r#"
# Ensure that KDIR exists, otherwise skip the compilation
modules:
ifneq ("$(wildcard $(KDIR))", "")
	$(Q)$(MAKE) -C $(KDIR) modules KBUILD_EXTMOD=$(TESTMODS_DIR)
endif

# Ensure that KDIR exists, otherwise skip the clean target
clean:
ifneq ("$(wildcard $(KDIR))", "")
	$(Q)$(MAKE) -C $(KDIR) clean KBUILD_EXTMOD=$(TESTMODS_DIR)
endif
"#;

/// A module that loads only where the kernel has something. A script cannot find that out: a
/// kernel with the bool shows a tag as 1. The module is built against the very kernel.
pub(super) struct Probe {
    /// The module's name.
    pub name: &'static str,
    /// Whether the kernel must have it, or must not.
    pub wanted: bool,
    /// Why the test is skipped.
    pub reason: &'static str,
    /// In C: whether the kernel has it.
    condition: &'static str,
}

/// What a scenario requires and only a module knows.
pub(super) fn probes(scenario: &Scenario) -> Vec<Probe> {
    let tags = |wanted, reason| Probe {
        name: "lab_has_replace_tags",
        wanted,
        reason,
        condition: "!__same_type(((struct klp_patch *)NULL)->replace, bool)",
    };
    let replace = scenario.requires.replace.map(|replace| match replace {
        ReplaceCapability::Tags => tags(true, "klp_patch.replace is no tag in this kernel"),
        ReplaceCapability::Bool => tags(false, "klp_patch.replace is no bool in this kernel"),
    });
    let needs = |capability| scenario.requires.capabilities.contains(&capability);
    let kprobes = needs(Capability::KprobesOnFtrace).then_some(Probe {
        name: "lab_has_kprobes_on_ftrace",
        wanted: true,
        reason: "this kernel has no CONFIG_KPROBES_ON_FTRACE",
        condition: "IS_ENABLED(CONFIG_KPROBES_ON_FTRACE)",
    });
    replace.into_iter().chain(kprobes).collect()
}

fn probe_source(probe: &Probe) -> SourceFile {
    let Probe {
        name, condition, ..
    } = probe;
    let text = format!(
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         /* Loads only where the kernel has what its name says. Generated. */\n\
         #include <linux/livepatch.h>\n\
         #include <linux/module.h>\n\
         \n\
         static int __init {name}_init(void)\n\
         {{\n\
         \treturn {condition} ? 0 : -ENODEV;\n\
         }}\n\
         \n\
         static void __exit {name}_exit(void)\n\
         {{\n\
         }}\n\
         \n\
         module_init({name}_init);\n\
         module_exit({name}_exit);\n\
         MODULE_DESCRIPTION(\"lab: whether the kernel has what a test needs\");\n\
         MODULE_LICENSE(\"GPL\");\n"
    );
    SourceFile {
        name: format!("{name}.c"),
        text,
    }
}

/// All files of `test_modules/`.
pub(super) fn files(scenario: &Scenario) -> Vec<SourceFile> {
    let mut files = sources(scenario);
    let kbuild = files.pop_if(|file| file.name == "Kbuild");
    let kbuild = kbuild.map(|file| file.text).unwrap_or_default();
    let probes = probes(scenario);
    files.extend(probes.iter().map(probe_source));
    let text = makefile(&kbuild, &probes);
    files.push(SourceFile {
        name: "Makefile".to_owned(),
        text,
    });
    for file in &mut files {
        file.name = format!("test_modules/{}", file.name);
    }
    files
}

/// The Makefile for the modules of a `Kbuild`.
fn makefile(kbuild: &str, probes: &[Probe]) -> String {
    let objects = |line: &str| line.strip_prefix("obj-m += ").map(str::to_owned);
    let mut modules: Vec<_> = kbuild.lines().filter_map(objects).collect();
    modules.extend(probes.iter().map(|probe| format!("{}.o", probe.name)));
    let mut text = "# SPDX-License-Identifier: GPL-2.0-only\n\
        TESTMODS_DIR := $(realpath $(dir $(abspath $(lastword $(MAKEFILE_LIST)))))\n\
        KDIR ?= /lib/modules/$(shell uname -r)/build\n\n"
        .to_owned();
    text += &format!("obj-m += {}\n", modules.join(" \\\n\t"));
    let parts = kbuild.lines().filter(|line| line.contains("-y := "));
    for line in parts {
        text += &format!("{line}\n");
    }
    text + RULES
}
