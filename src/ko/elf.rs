// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ELF tables of a `.ko` that somebody else has built. Pure.
//!
//! It is a stranger's file: each offset in it is checked, each text is bounded and made visible,
//! and no part of it is gone through more often than a file of its size can need.

use std::collections::BTreeMap;

use object::elf::{self, FileHeader64, SectionHeader64, Sym64};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};

use crate::arch::Arch;
use crate::visible::visible;

/// Bytes of a text in a module: the kernel's own limit for a symbol (`KSYM_NAME_LEN`).
const TEXT_MAX: usize = 512;
/// Entries of `.modinfo`; a module with many aliases has thousands.
const INFO_MAX: usize = 20_000;
/// Where `struct module` has its name, after its state and a `struct list_head`.
const NAME_AT: usize = 24;
/// An entry of `__versions`: a checksum and the symbol's name.
const VERSION_SIZE: usize = 64;

/// How a file begins that is a compressed module, and what opens it.
const COMPRESSED: [(&[u8], &str); 3] = [
    (b"\xfd7zXZ\0", "xz -d"),
    (b"\x1f\x8b", "gzip -d"),
    (b"\x28\xb5\x2f\xfd", "zstd -d"),
];

/// Machines whose modules people have, besides those that the lab boots.
const MACHINES: [(u16, &str); 8] = [
    (3, "i386"),
    (8, "mips"),
    (20, "ppc"),
    (21, "ppc64"),
    (22, "s390"),
    (40, "arm"),
    (243, "riscv"),
    (258, "loongarch"),
];

/// A section of a module.
pub(super) struct Section<'a> {
    /// Its name.
    pub(super) name: String,
    /// Its content; none if it takes no room in the file.
    pub(super) data: &'a [u8],
    /// Whether it is in memory when the module is loaded.
    pub(super) is_loaded: bool,
    /// Whether it holds code.
    pub(super) is_code: bool,
    header: &'a SectionHeader64<LittleEndian>,
}

/// The tables of a module.
pub(super) struct File<'a> {
    data: &'a [u8],
    pub(super) arch: Arch,
    pub(super) sections: Vec<Section<'a>>,
    pub(super) symbols: &'a [Sym64<LittleEndian>],
    strings: &'a [u8],
}

impl<'a> File<'a> {
    pub(super) fn open(data: &'a [u8]) -> Result<Self, String> {
        if let Some((_, tool)) = COMPRESSED.iter().find(|(magic, _)| data.starts_with(magic)) {
            return Err(format!("is compressed: decompress it with `{tool}`"));
        }
        if !data.starts_with(b"\x7fELF") {
            return Err("is no ELF file".to_owned());
        }
        let arch = arch(data)?;
        let broken = |error: object::Error| format!("is broken or cut off: {error}");
        let header = FileHeader64::<LittleEndian>::parse(data).map_err(broken)?;
        if header.e_type(LittleEndian) != elf::ET_REL {
            return Err("is no kernel module: it is linked already".to_owned());
        }
        let table = header.sections(LittleEndian, data).map_err(broken)?;
        let mut sections = Vec::with_capacity(table.len());
        let (mut symbols, mut strings): (&[Sym64<LittleEndian>], &[u8]) = (&[], &[]);
        let name_bytes = section_names(header, data, &table);
        for section in table.iter() {
            let flags = section.sh_flags(LittleEndian).0;
            let name = text(name_bytes, section.sh_name(LittleEndian) as usize);
            let bytes = section.data(LittleEndian, data).map_err(broken)?;
            if section.sh_type(LittleEndian) == elf::SHT_SYMTAB && symbols.is_empty() {
                symbols = section.data_as_array(LittleEndian, data).map_err(broken)?;
                let linked = table.section(section.link(LittleEndian)).map_err(broken)?;
                strings = linked.data(LittleEndian, data).map_err(broken)?;
            }
            sections.push(Section {
                name: name.unwrap_or_default(),
                data: bytes,
                is_loaded: flags & elf::SHF_ALLOC.0 != 0,
                is_code: flags & elf::SHF_EXECINSTR.0 != 0,
                header: section,
            });
        }
        Ok(Self {
            data,
            arch,
            sections,
            symbols,
            strings,
        })
    }

    /// The first section of this name.
    pub(super) fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The name of a symbol; empty if it has none that one could read.
    pub(super) fn symbol_name(&self, symbol: &Sym64<LittleEndian>) -> String {
        let at = symbol.st_name(LittleEndian) as usize;
        text(self.strings, at).unwrap_or_default()
    }

    /// The relocations of a section that have addends, with the index of what they apply to.
    pub(super) fn relocations(
        &self,
    ) -> impl Iterator<Item = (usize, &'a [elf::Rela64<LittleEndian>])> {
        let data = self.data;
        self.sections.iter().filter_map(move |section| {
            let (relocations, _) = section.header.rela(LittleEndian, data).ok()??;
            Some((section.header.sh_info(LittleEndian) as usize, relocations))
        })
    }

    /// Whether kallsyms lists the symbols of a section once the module is loaded.
    pub(super) fn is_kept(&self, section: usize) -> bool {
        let Some(section) = self.sections.get(section) else {
            return false;
        };
        section.is_loaded && !section.name.starts_with(".init")
    }

    pub(super) fn info(&self) -> Vec<(String, String)> {
        let data = self.section(".modinfo").map_or(&[][..], |s| s.data);
        let entries = data.split(|&byte| byte == 0);
        let entry = |entry: &[u8]| {
            let at = entry.iter().position(|&byte| byte == b'=')?;
            let (key, value) = (shown(&entry[..at]), shown(&entry[at + 1..]));
            Some((key, value))
        };
        entries.filter_map(entry).take(INFO_MAX).collect()
    }

    /// The name in `struct module` is the kernel's; `.modinfo` repeats it.
    pub(super) fn name(&self, info: &[(String, String)]) -> Result<String, String> {
        let Some(module) = self.section(".gnu.linkonce.this_module") else {
            return Err("is no kernel module: it has no .gnu.linkonce.this_module".to_owned());
        };
        let said = info.iter().find(|(key, _)| key == "name");
        let said = said.map(|(_, value)| value.clone());
        let name = text(module.data, NAME_AT).filter(|name| is_name(name));
        match (name, said) {
            (Some(name), Some(said)) if name != said => Err(format!(
                "calls itself `{name}` in `struct module` and `{said}` in .modinfo"
            )),
            (Some(name), _) | (None, Some(name)) if is_name(&name) => Ok(name),
            _ => Err("is no kernel module: it has no name".to_owned()),
        }
    }

    pub(super) fn exported(&self) -> Vec<String> {
        let data = self
            .section("__ksymtab_strings")
            .map_or(&[][..], |s| s.data);
        let names = data.split(|&byte| byte == 0);
        let names = names.filter(|name| !name.is_empty() && name.len() <= TEXT_MAX);
        names.map(shown).collect()
    }

    pub(super) fn versions(&self) -> BTreeMap<String, u32> {
        let bytes = |name| self.section(name).map_or(&[][..], |section| section.data);
        let entry = |entry: &[u8]| {
            let crc = u32::from_le_bytes(entry.get(..4)?.try_into().ok()?);
            Some((text(entry, 8)?, crc))
        };
        let entries = bytes("__versions").chunks_exact(VERSION_SIZE);
        let extended = bytes("__version_ext_crcs").chunks_exact(4);
        let extended = extended.map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]));
        let names = bytes("__version_ext_names").split(|&byte| byte == 0);
        let names = names.map(shown);
        entries
            .filter_map(entry)
            .chain(names.zip(extended))
            .collect()
    }
}

/// The names of sections.
fn section_names<'a>(
    header: &FileHeader64<LittleEndian>,
    data: &'a [u8],
    table: &object::read::elf::SectionTable<'a, FileHeader64<LittleEndian>>,
) -> &'a [u8] {
    let index = header.shstrndx(LittleEndian, data).unwrap_or_default();
    let section = table.section(object::SectionIndex(index as usize));
    let bytes = section.and_then(|section| section.data(LittleEndian, data));
    bytes.unwrap_or_default()
}

/// What an ELF file is built for.
fn arch(data: &[u8]) -> Result<Arch, String> {
    let half = |at: usize| Some([*data.get(at)?, *data.get(at + 1)?]);
    let (Some(machine), Some(&class), Some(&order)) = (half(18), data.get(4), data.get(5)) else {
        return Err("is broken or cut off: it ends within its header".to_owned());
    };
    let machine = match order {
        2 => u16::from_be_bytes(machine),
        _ => u16::from_le_bytes(machine),
    };
    let mut archs = Arch::ALL.into_iter();
    let arch = archs.find(|arch| (arch.row().elf_machine.0, 2, 1) == (machine, class, order));
    arch.ok_or_else(|| {
        let known = MACHINES.iter().find(|(number, _)| *number == machine);
        let name = known.map_or_else(|| format!("machine {machine}"), |(_, n)| (*n).to_owned());
        let bits = if class == 1 { "32" } else { "64" };
        let boots = Arch::NAMES.join(" and ");
        format!("is for {name} ({bits} bits); the lab boots {boots}")
    })
}

/// The text at a place, up to its NUL; `None` if there is none of a sensible length.
pub(super) fn text(data: &[u8], at: usize) -> Option<String> {
    let rest = data.get(at..)?;
    let rest = &rest[..rest.len().min(TEXT_MAX)];
    let end = rest.iter().position(|&byte| byte == 0)?;
    Some(shown(&rest[..end]))
}

/// Bytes as text that can be shown.
fn shown(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(TEXT_MAX)];
    visible(&String::from_utf8_lossy(bytes)).replace(['\n', '\t'], " ")
}

/// Whether a module can be called this.
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= 55 && name.chars().all(inner)
}
