// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel offers to modules, from the files of its build.

use std::collections::BTreeMap;
use std::fs;

use crate::arch::Arch;
use crate::error::{IoContext, Result};
use crate::kernel::BuiltKernel;

/// Lines of a `System.map` below which it is a stub that a distribution ships in its place.
const SYMBOLS_MIN: usize = 1000;

/// A symbol that the kernel or one of its modules exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its checksum, if the kernel has `CONFIG_MODVERSIONS`.
    pub crc: u32,
    /// `vmlinux`, or the module's file in the tree.
    pub module: String,
    /// Whether only modules under the GPL may use it.
    pub gpl: bool,
}

/// What modules are held against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelFacts {
    /// What every module's `vermagic` must be.
    pub vermagic: String,
    /// Whether the checksums of symbols are compared, and the release is not.
    pub modversions: bool,
    /// Whether unsigned modules are refused.
    pub only_signed: bool,
    /// What is exported; `None` if the build does not say.
    pub exports: Option<BTreeMap<String, Export>>,
    /// How many symbols of vmlinux have each name; `None` if the build does not say.
    pub symbols: Option<BTreeMap<String, u32>>,
}

impl KernelFacts {
    /// Reads what `kernel`'s build says.
    pub fn of(kernel: &BuiltKernel, arch: Arch) -> Result<Self> {
        let build = kernel.build_dir();
        let config = build.join(".config");
        let config = fs::read_to_string(&config).at("read", &config)?;
        let randstruct = build.join("include/generated/randstruct_hash.h");
        let randstruct = fs::read_to_string(randstruct).unwrap_or_default();
        let text = |name: &str| fs::read_to_string(build.join(name)).ok();
        Ok(Self {
            vermagic: vermagic(&kernel.release, &config, &randstruct, arch),
            modversions: has(&config, "MODVERSIONS"),
            only_signed: has(&config, "MODULE_SIG_FORCE"),
            exports: text("Module.symvers").map(|text| exports(&text)),
            symbols: text("System.map").and_then(|text| symbols(&text)),
        })
    }
}

/// Whether an option is built in.
fn has(config: &str, option: &str) -> bool {
    let line = format!("CONFIG_{option}=y");
    config.lines().any(|other| other == line)
}

/// `VERMAGIC_STRING` of include/linux/vermagic.h.
fn vermagic(release: &str, config: &str, randstruct: &str, arch: Arch) -> String {
    let has = |option| has(config, option);
    let mut text = format!("{release} ");
    let mut add = |is_there: bool, word: &str| {
        if is_there {
            text += word;
            text.push(' ');
        }
    };
    add(has("SMP"), "SMP");
    add(has("PREEMPT_RT"), "preempt_rt");
    add(has("PREEMPT_BUILD") && !has("PREEMPT_RT"), "preempt");
    add(has("MODULE_UNLOAD"), "mod_unload");
    add(has("MODVERSIONS"), "modversions");
    text += arch.row().vermagic;
    let seed = randstruct.split('"').nth(1);
    if let Some(seed) = seed.filter(|_| has("RANDSTRUCT")) {
        text += &format!("RANDSTRUCT_{seed}");
    }
    text
}

/// `0x00000000<tab>kfree<tab>vmlinux<tab>EXPORT_SYMBOL<tab>`, a line for each.
fn exports(symvers: &str) -> BTreeMap<String, Export> {
    let export = |line: &str| {
        let mut fields = line.split('\t');
        let crc = fields.next()?.strip_prefix("0x")?;
        let name = fields.next()?.to_owned();
        let export = Export {
            crc: u32::from_str_radix(crc, 16).ok()?,
            module: fields.next()?.to_owned(),
            gpl: fields.next()?.ends_with("_GPL"),
        };
        Some((name, export))
    };
    symvers.lines().filter_map(export).collect()
}

/// `ffffffff81000000 T name`, a line for each; `None` if it is only a stub.
fn symbols(map: &str) -> Option<BTreeMap<String, u32>> {
    let mut symbols = BTreeMap::<String, u32>::new();
    for line in map.lines() {
        let name = line.split_whitespace().nth(2)?;
        *symbols.entry(name.to_owned()).or_default() += 1;
    }
    (symbols.len() >= SYMBOLS_MIN).then_some(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vermagic_is_as_the_kernel_builds_it() {
        let config = "CONFIG_SMP=y\nCONFIG_PREEMPT_BUILD=y\nCONFIG_MODULE_UNLOAD=y\n";
        let x86 = vermagic("7.3.4-x", config, "", Arch::X86_64);
        assert_eq!(x86, "7.3.4-x SMP preempt mod_unload ");
        let arm = vermagic("7.3.4-x", config, "", Arch::Arm64);
        assert_eq!(arm, "7.3.4-x SMP preempt mod_unload aarch64");
        let config = "CONFIG_PREEMPT_RT=y\nCONFIG_PREEMPT_BUILD=y\nCONFIG_MODVERSIONS=y\n\
                      CONFIG_RANDSTRUCT=y\n# CONFIG_SMP is not set\n";
        let seed = "#define RANDSTRUCT_HASHED_SEED \"ab12\"\n";
        assert_eq!(
            vermagic("6.1", config, seed, Arch::X86_64),
            "6.1 preempt_rt modversions RANDSTRUCT_ab12"
        );
    }

    #[test]
    fn exports_and_symbols_are_read_line_by_line() {
        let found = exports(
            "0x0000000a\tkfree\tvmlinux\tEXPORT_SYMBOL\t\nnonsense\n\
                             0x00000000\tklp_enable_patch\tvmlinux\tEXPORT_SYMBOL_GPL\t\n",
        );
        assert_eq!((found["kfree"].crc, found["kfree"].gpl), (10, false));
        assert!(found["klp_enable_patch"].gpl && found.len() == 2);
        let stub = "ffffffffffffffff B The real System.map is in the dbg package\n";
        assert_eq!(symbols(stub), None);
        let many: String = (0..1000).map(|n| format!("ff{n:04} t s{n}\n")).collect();
        let found = symbols(&format!("{many}ff t s1\n")).unwrap();
        assert_eq!((found["s1"], found["s2"]), (2, 1));
    }
}
