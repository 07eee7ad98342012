// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a module fits a kernel: what the kernel will refuse, with which errno, and why. Pure.
//!
//! Only what the kernel certainly refuses is a finding. What cannot be known here is not guessed:
//! an object that nobody loads, whether a function can be traced, what a livepatch's own init does.

use std::collections::BTreeMap;

use super::kernel::KernelFacts;
use crate::arch::Arch;
use crate::ko::Ko;
use crate::ko::klp::KlpSymbol;
use crate::scenario::{Errno, Scenario, Symbol, VMLINUX, kernel_module_name};

/// The licenses that the kernel takes for the GPL (`license_is_gpl_compatible()`).
const GPL: [&str; 6] = [
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
];
/// Lines of details that are shown.
const DETAILS_MAX: usize = 12;

/// Something that the kernel will refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What, in one line.
    pub what: String,
    /// Its particulars, a line each.
    pub details: Vec<String>,
    /// What to do.
    pub help: String,
    /// What it is refused with.
    pub errno: Errno,
    /// The module whose loading is refused.
    pub loading: String,
}

impl Finding {
    /// Whether a step of `scenario` loads the module and says that this must fail.
    #[must_use]
    pub fn is_expected(&self, scenario: &Scenario) -> bool {
        let mut effects = scenario.steps.iter().map(|step| step.action.effects());
        effects.any(|effects| {
            let loads = effects.loads.map(kernel_module_name);
            loads.is_some_and(|module| module == self.loading) && effects.errno == Some(self.errno)
        })
    }
}

/// What the kernel will refuse of `ko`, whose file is called `file`, the surest first. `others` are
/// the modules that may be loaded beside it.
#[must_use]
pub fn findings(
    ko: &Ko,
    file: &str,
    kernel: &KernelFacts,
    arch: Arch,
    others: &[&Ko],
) -> Vec<Finding> {
    let check = Check {
        ko,
        file,
        kernel,
        others,
    };
    if ko.arch != arch {
        return vec![check.other_arch(arch)];
    }
    let mut findings: Vec<_> = check
        .signature()
        .into_iter()
        .chain(check.vermagic())
        .collect();
    findings.extend(check.versions());
    findings.extend(check.undefined());
    findings.extend(check.unmarked());
    findings.extend(check.klp_symbols());
    findings.extend(check.patched());
    findings
}

struct Check<'a> {
    ko: &'a Ko,
    file: &'a str,
    kernel: &'a KernelFacts,
    others: &'a [&'a Ko],
}

impl Check<'_> {
    fn finding(&self, errno: Errno, what: String, details: Vec<String>, help: &str) -> Finding {
        let (more, mut details) = (details.len().saturating_sub(DETAILS_MAX), details);
        details.truncate(DETAILS_MAX);
        if more > 0 {
            details.push(format!("and {more} more"));
        }
        Finding {
            what: format!("{} {what}: loading it will give {errno}", self.file),
            details,
            help: format!(
                "{help}; or expect it: `load: {}, errno: {errno}`",
                self.ko.name
            ),
            errno,
            loading: kernel_module_name(&self.ko.name),
        }
    }

    fn other_arch(&self, arch: Arch) -> Finding {
        let what = format!("is for {}, the guest is {arch}", self.ko.arch);
        let help = format!("run it with --arch {}", self.ko.arch);
        self.finding(Errno::ENOEXEC, what, Vec::new(), &help)
    }

    fn signature(&self) -> Option<Finding> {
        let refused = self.kernel.only_signed && !self.ko.is_signed;
        let what = "is not signed, and the kernel takes signed modules only".to_owned();
        let help = "take a kernel without CONFIG_MODULE_SIG_FORCE";
        refused.then(|| self.finding(Errno::EKEYREJECTED, what, Vec::new(), help))
    }

    /// What `same_magic()` in the kernel compares: with checksums of symbols on both sides, the
    /// release does not count.
    fn vermagic(&self) -> Option<Finding> {
        let wanted = &*self.kernel.vermagic;
        let found = self.ko.info("vermagic").unwrap_or_default();
        let release_counts = !self.kernel.modversions || self.ko.versions.is_empty();
        let rest = |text: &str| text.find(' ').map_or("", |at| &text[at..]).to_owned();
        if found == wanted || (!release_counts && rest(found) == rest(wanted)) {
            return None;
        }
        let help = "build it for this kernel, or boot its own";
        let what = match found.is_empty() {
            true => "does not say which kernel it was built for",
            false => "was built for another kernel",
        };
        let details = differences(found, wanted);
        Some(self.finding(Errno::ENOEXEC, what.to_owned(), details, help))
    }

    fn versions(&self) -> Option<Finding> {
        let exports = self.kernel.exports.as_ref()?;
        if !self.kernel.modversions {
            return None;
        }
        let differs = |(name, crc): (&String, &u32)| {
            let export = exports.get(name)?;
            (export.crc != *crc).then(|| name.clone())
        };
        let different: Vec<_> = self.ko.versions.iter().filter_map(differs).collect();
        if different.is_empty() {
            return None;
        }
        let errno = match different.iter().any(|name| name == "module_layout") {
            true => Errno::ENOEXEC,
            false => Errno::EINVAL,
        };
        let what = "was built with other definitions of symbols (CONFIG_MODVERSIONS)".to_owned();
        let details = different.iter().map(|name| format!("`{name}`")).collect();
        let help = "build it against the headers of this very kernel";
        Some(self.finding(errno, what, details, help))
    }

    fn undefined(&self) -> Option<Finding> {
        let exports = self.kernel.exports.as_ref()?;
        let license = self.ko.info("license").unwrap_or("unspecified");
        let is_gpl = GPL.contains(&license);
        let unresolved = |name: &String| {
            let others = self.others.iter();
            let mut others = others.filter(|other| other.name != self.ko.name);
            if others.any(|other| other.exports.contains(name)) {
                return None;
            }
            match exports.get(name) {
                Some(export) if export.module != VMLINUX => Some(format!(
                    "`{name}`: of the kernel's module {}, which is not part of the scenario",
                    export.module
                )),
                Some(export) if export.gpl && !is_gpl => Some(format!(
                    "`{name}`: for modules under the GPL; the license of this one is `{license}`"
                )),
                Some(_) => None,
                None => Some(format!("`{name}`")),
            }
        };
        let details: Vec<_> = self.ko.undefined.iter().filter_map(unresolved).collect();
        if details.is_empty() {
            return None;
        }
        let what = "needs symbols that no module exports to it".to_owned();
        let help = "add the module that exports them, or take a kernel that does";
        Some(self.finding(Errno::ENOENT, what, details, help))
    }

    /// A livepatch must say that it is one.
    fn unmarked(&self) -> Option<Finding> {
        let registers = self
            .ko
            .undefined
            .iter()
            .any(|name| name == "klp_enable_patch");
        let refused = registers && self.ko.info("livepatch").is_none();
        let what = "registers a livepatch, but .modinfo does not say `livepatch=Y`".to_owned();
        let help = "add MODULE_INFO(livepatch, \"Y\") to its source and build it again";
        refused.then(|| self.finding(Errno::EINVAL, what, Vec::new(), help))
    }

    fn klp_symbols(&self) -> Vec<Finding> {
        let mut wanted = Vec::new();
        let mut malformed = Vec::new();
        for symbol in &self.ko.klp_symbols {
            match symbol {
                KlpSymbol::Of { object, symbol } => wanted.push((&**object, symbol)),
                KlpSymbol::Malformed(text) => malformed.push(format!("`.klp.sym.{text}`")),
            }
        }
        let what = "has klp relocations for symbols that are not there";
        let mut findings = self.missing(what, wanted.into_iter());
        if !malformed.is_empty() {
            let what = "has klp symbols that the kernel cannot read".to_owned();
            let help = "build it with the tools of this kernel";
            findings.push(self.finding(Errno::EINVAL, what, malformed, help));
        }
        findings
    }

    fn patched(&self) -> Vec<Finding> {
        let objects = self.ko.patch.iter().flat_map(|patch| &patch.objects);
        let functions = objects.flat_map(|object| {
            let functions = object.functions.iter();
            functions.map(|function| (&*object.name, function))
        });
        self.missing("patches functions that are not there", functions)
    }

    /// The symbols that an object has not, object by object. What is not loaded is not known.
    fn missing<'a>(
        &self,
        what: &str,
        wanted: impl Iterator<Item = (&'a str, &'a Symbol)>,
    ) -> Vec<Finding> {
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (object, symbol) in wanted {
            let module = kernel_module_name(object);
            let mut others = self.others.iter();
            let symbols = match object {
                VMLINUX => self.kernel.symbols.as_ref(),
                _ => others
                    .find(|other| kernel_module_name(&other.name) == module)
                    .map(|other| &other.symbols),
            };
            let Some(symbols) = symbols else { continue };
            if let Some(problem) = problem(symbols, symbol) {
                missing.entry(object).or_default().push(problem);
            }
        }
        let finding = |(object, details): (&str, Vec<String>)| {
            let what = format!("{what} in {object}");
            let help = "take the kernel or the module that it was made for";
            let mut finding = self.finding(Errno::EINVAL, what, details, help);
            if object != VMLINUX {
                // Whichever of both comes second is refused.
                finding.loading = kernel_module_name(object);
                finding.what = format!("{}, or {object} after it", finding.what);
            }
            finding
        };
        missing.into_iter().map(finding).collect()
    }
}

/// Why livepatching does not find a symbol among these.
fn problem(symbols: &BTreeMap<String, u32>, symbol: &Symbol) -> Option<String> {
    let count = symbols.get(&symbol.name).copied().unwrap_or_default();
    match (count, symbol.sympos) {
        (0, _) => Some(format!("`{symbol}`: there is none")),
        (1, 0) => None,
        (_, 0) => Some(format!(
            "`{symbol}`: there are {count}, and no position says which"
        )),
        (_, sympos) if sympos > count => Some(format!("`{symbol}`: there are only {count}")),
        _ => None,
    }
}

/// What differs between a module's vermagic and the kernel's.
fn differences(found: &str, wanted: &str) -> Vec<String> {
    let mut details = vec![
        format!("the module: {}", found.trim_end()),
        format!("the kernel: {}", wanted.trim_end()),
    ];
    let words = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().skip(1);
        words.map(str::to_owned).collect()
    };
    let (has, kernel_has) = (words(found), words(wanted));
    let release = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    if !found.is_empty() && release(found) != release(wanted) {
        details.push("they differ in the release".to_owned());
    }
    let only = |of: &[String], other: &[String]| {
        let only = of.iter().filter(|word| !other.contains(word));
        only.map(|word| format!("`{word}`")).collect::<Vec<_>>()
    };
    let (more, less) = (only(&has, &kernel_has), only(&kernel_has, &has));
    if !found.is_empty() && !more.is_empty() {
        details.push(format!("only the module has {}", more.join(", ")));
    }
    if !found.is_empty() && !less.is_empty() {
        details.push(format!("only the kernel has {}", less.join(", ")));
    }
    details
}
