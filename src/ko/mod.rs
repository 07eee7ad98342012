// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in a `.ko`, whoever has built it. Pure, but for [`read`].

mod elf;
pub mod klp;

use std::collections::BTreeMap;
use std::path::Path;

use object::endian::LittleEndian;
use object::read::elf::Sym as _;

use crate::arch::Arch;
use crate::error::{Blame, Error, Result};
use crate::files::read_regular;
use elf::File;
use klp::{KlpSymbol, Patch};

/// What a signed module ends with.
const SIGNATURE: &[u8] = b"~Module signature appended~\n";
/// Bytes of a module. The guest's disk holds no larger ones.
const MODULE_MAX: u64 = 64 << 20;

/// A kernel module's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ko {
    /// What it is built for.
    pub arch: Arch,
    /// What the kernel calls it.
    pub name: String,
    /// Its `.modinfo`, in order: `license`, `vermagic`, `livepatch`, `depends`, …
    pub info: Vec<(String, String)>,
    /// The symbols that it wants of others, by name.
    pub undefined: Vec<String>,
    /// The symbols that it exports, by name.
    pub exports: Vec<String>,
    /// The symbols of its own that kallsyms lists, and how many have each name.
    pub symbols: BTreeMap<String, u32>,
    /// The checksums of the symbols that it was built with (`CONFIG_MODVERSIONS`).
    pub versions: BTreeMap<String, u32>,
    /// The symbols that livepatching resolves for it (`.klp.sym.*`).
    pub klp_symbols: Vec<KlpSymbol>,
    /// What it patches, as far as that can be read from its data.
    pub patch: Option<Patch>,
    /// Whether there is a signature at its end.
    pub is_signed: bool,
}

impl Ko {
    /// The first value of a key in `.modinfo`.
    #[must_use]
    pub fn info(&self, key: &str) -> Option<&str> {
        let mut all = self.info.iter();
        all.find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// Whether it says that it is a livepatch, or at least registers as one.
    #[must_use]
    pub fn is_livepatch(&self) -> bool {
        self.info("livepatch").is_some() || self.undefined.iter().any(|s| s == "klp_enable_patch")
    }

    /// Reads a module.
    ///
    /// # Errors
    ///
    /// What the file is instead, to follow its name: "is no ELF file".
    pub fn read(data: &[u8]) -> std::result::Result<Self, String> {
        let file = File::open(data)?;
        let info = file.info();
        let name = file.name(&info)?;
        let mut ko = Self {
            arch: file.arch,
            name,
            info,
            undefined: Vec::new(),
            exports: file.exported(),
            symbols: BTreeMap::new(),
            versions: file.versions(),
            klp_symbols: Vec::new(),
            patch: None,
            is_signed: data.ends_with(SIGNATURE),
        };
        for symbol in file.symbols {
            let name = file.symbol_name(symbol);
            let section = symbol.st_shndx(LittleEndian);
            if name.is_empty() {
                continue;
            }
            if let Some(wanted) = name.strip_prefix(klp::SYMBOL) {
                ko.klp_symbols.push(KlpSymbol::parse(wanted));
            } else if section == object::elf::SHN_UNDEF {
                if symbol.st_bind() != object::elf::STB_WEAK {
                    ko.undefined.push(name);
                }
            } else if let Some(exported) = name.strip_prefix("__ksymtab_") {
                ko.exports.push(exported.to_owned());
            } else if file.is_kept(usize::from(section.0)) {
                *ko.symbols.entry(name).or_default() += 1;
            }
        }
        ko.exports.sort();
        ko.exports.dedup();
        if ko.is_livepatch() {
            ko.patch = klp::patch(&file);
        }
        Ok(ko)
    }
}

/// Reads a module's file.
///
/// # Errors
///
/// `File` if it is none.
pub fn read(path: &Path) -> Result<(Ko, Vec<u8>)> {
    let data = read_regular(path, MODULE_MAX)?;
    let ko = Ko::read(&data).map_err(|why| {
        let what = format!("{} {why}", path.display());
        Error::new(Blame::File, what).help("name the `.ko` that was built for the guest")
    })?;
    Ok((ko, data))
}
