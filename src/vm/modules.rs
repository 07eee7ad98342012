// SPDX-License-Identifier: MIT OR Apache-2.0
//! The modules of a guest's kernel as they are in its memory: their names, and their functions, also of one
//! whose load has not come to its end. Pure.
//!
//! `include/linux/module.h: struct module` of a 64-bit kernel, little endian. Where its members are depends
//! on the configuration, but for the first ones. Its `core_kallsyms` is found by what must hold of it:
//! `kernel/module/kallsyms.c: layout_symtab()` puts the strings right behind the symbols. What does not look
//! as it must is left out: the guest may write to it meanwhile, and may lie.

use super::ring::{Part, word};

/// The list of modules (`kernel/module/main.c`).
pub const SYMBOL: &str = "modules";
/// Modules that are looked at.
pub const MODULES_MAX: usize = 64;
/// Bytes of a `struct module` that are read; it is shorter, and what follows may not be there.
pub const STRUCT: usize = 2048;
/// Bytes of a `struct mod_kallsyms`.
pub const TABLE: usize = 32;

/// Where its node of the list is, and its name.
const LIST: u64 = 8;
const NAME: usize = 24;
const NAME_MAX: usize = 56;
/// Bytes of an `Elf64_Sym`.
const ELF_SYMBOL: usize = 24;
/// Bytes of a table of symbols, and of its strings; larger ones are not read.
const TABLE_MAX: u64 = 4 << 20;
/// Where the size of a part of a module stands behind its address: `struct module_memory` of 6.4, of 7.0,
/// and of those between.
const SIZES: [usize; 3] = [8, 12, 20];
/// Bytes of a part of a module.
const PART_MAX: u64 = 64 << 20;
const PAGE: u64 = 4096;

/// A module, as far as `struct module` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name in the kernel.
    pub name: String,
    /// The node that follows in the list.
    pub next: u64,
    /// Its parts: where they begin and end.
    parts: Vec<(u64, u64)>,
    /// Its symbols without those of its init.
    pub core: Option<Table>,
    /// Where the table is that it uses now, which has its init's as well.
    pub current: Option<Part>,
}

/// A table of symbols: where they are, and their strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// The symbols.
    pub symbols: Part,
    /// Their names.
    pub strings: Part,
}

/// The `struct module` that has this node of the list.
pub fn of_node(node: u64) -> u64 {
    node.wrapping_sub(LIST)
}

/// How many of its bytes are certainly there, if not all: those of its page.
pub fn in_page(address: u64) -> usize {
    usize::try_from(PAGE - address % PAGE).unwrap_or_default()
}

impl Header {
    /// Reads a `struct module`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let name = bytes.get(NAME..NAME + NAME_MAX)?;
        let name = name.split(|byte| *byte == 0).next()?;
        let is_name = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
        if name.is_empty() || !name.iter().all(is_name) {
            return None;
        }
        let words = || (NAME + NAME_MAX..bytes.len()).step_by(8);
        let core = words().find_map(|at| {
            let table = Table::parse(bytes.get(at..at + TABLE)?)?;
            table.is_compact().then_some((at, table))
        });
        let current = core.and_then(|(at, _)| word(bytes, at - 8));
        Some(Self {
            name: String::from_utf8_lossy(name).into_owned(),
            next: word(bytes, usize::try_from(LIST).ok()?)?,
            parts: words().filter_map(|at| part(bytes, at)).collect(),
            core: core.map(|(_, table)| table),
            current: current.filter(|it| is_kernels(*it)).map(|it| (it, TABLE)),
        })
    }
}

impl Table {
    /// Reads a `struct mod_kallsyms`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (symbols, count) = (word(bytes, 0)?, word(bytes, 8)? & 0xffff_ffff);
        let (strings, types) = (word(bytes, 16)?, word(bytes, 24)?);
        if ![symbols, strings, types].into_iter().all(is_kernels) || count == 0 {
            return None;
        }
        let length = types.checked_sub(strings).filter(|it| *it <= TABLE_MAX)?;
        let bytes = count.checked_mul(ELF_SYMBOL as u64)?;
        (bytes <= TABLE_MAX).then_some(Self {
            symbols: (symbols, usize::try_from(bytes).ok()?),
            strings: (strings, usize::try_from(length).ok()?),
        })
    }

    /// Whether its strings stand right behind its symbols.
    fn is_compact(&self) -> bool {
        self.symbols.0.checked_add(self.symbols.1 as u64) == Some(self.strings.0)
    }
}

/// Where a part of the module is, if one is described here.
fn part(bytes: &[u8], at: usize) -> Option<(u64, u64)> {
    let begin = word(bytes, at).filter(|it| is_kernels(*it) && it.is_multiple_of(PAGE))?;
    let size = |behind: &usize| {
        let size = bytes.get(at + behind..at + behind + 4)?;
        let size = u64::from(u32::from_le_bytes(size.try_into().ok()?));
        (1..=PART_MAX).contains(&size).then_some(size)
    };
    let size = SIZES.iter().find_map(size)?;
    Some((begin, begin.checked_add(size)?))
}

/// Whether it may be an address of the kernel's.
fn is_kernels(address: u64) -> bool {
    address >> 52 == 0xfff
}

/// A function of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    begin: u64,
    size: u64,
    name: String,
}

/// The modules of a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules(Vec<(Header, Vec<Function>)>);

impl Modules {
    /// Adds a module with its tables: symbols and strings.
    pub fn add(&mut self, header: Header, tables: &[(Vec<u8>, Vec<u8>)]) {
        let all = tables
            .iter()
            .flat_map(|(symbols, strings)| functions(symbols, strings));
        let mut functions: Vec<_> = all.collect();
        // Of two names of an address, the one with a size.
        functions.sort_by_key(|function| (function.begin, function.size));
        self.0.push((header, functions));
    }

    /// Whose code is at an address: `shop_price+0x4/0x10 [shop]`, or of code without a symbol
    /// `0xffffffffa0002010 [shop]`.
    pub fn place(&self, pc: u64) -> Option<String> {
        self.0.iter().find_map(|(header, functions)| {
            let name = &header.name;
            let after = functions.partition_point(|function| function.begin <= pc);
            let function = after.checked_sub(1).and_then(|at| functions.get(at));
            let inside = function.filter(|it| pc - it.begin < it.size.max(1));
            let is_part = || {
                header
                    .parts
                    .iter()
                    .any(|(from, to)| (from..to).contains(&&pc))
            };
            match inside {
                Some(it) => {
                    let offset = pc - it.begin;
                    Some(format!("{}+{offset:#x}/{:#x} [{name}]", it.name, it.size))
                }
                None => is_part().then(|| format!("{pc:#x} [{name}]")),
            }
        })
    }
}

fn functions(symbols: &[u8], strings: &[u8]) -> Vec<Function> {
    let function = |symbol: &[u8]| {
        const UNDEFINED: u16 = 0;
        const KIND: u8 = 0xf;
        let name = u32::from_le_bytes(symbol.get(..4)?.try_into().ok()?);
        let name = strings.get(usize::try_from(name).ok()?..)?;
        let name = name.split(|byte| *byte == 0).next()?;
        let section = u16::from_le_bytes(symbol.get(6..8)?.try_into().ok()?);
        // A function, or a label of assembly.
        let is_code = matches!(symbol.get(4)? & KIND, 0 | 2) && section != UNDEFINED;
        let is_plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.');
        // `.LC0`, `.klp.sym.…`, and arm64's `$x` are no functions.
        let is_named = name.first().is_some_and(|c| *c != b'.') && name.iter().all(is_plain);
        let begin = word(symbol, 8).filter(|it| is_kernels(*it))?;
        (is_code && is_named).then(|| Function {
            begin,
            size: word(symbol, 16).unwrap_or_default(),
            name: String::from_utf8_lossy(name).into_owned(),
        })
    };
    symbols
        .chunks_exact(ELF_SYMBOL)
        .filter_map(function)
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const AT: u64 = 0xffff_ffff_a000_0000;

    /// The symbols and their strings: name, kind, section, address, size.
    fn symbols(all: &[(&str, u8, u16, u64, u64)]) -> (Vec<u8>, Vec<u8>) {
        let (mut symbols, mut strings) = (Vec::new(), vec![0]);
        for (name, kind, section, value, size) in all {
            symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
            symbols.extend([*kind, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend(value.to_le_bytes());
            symbols.extend(size.to_le_bytes());
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        (symbols, strings)
    }

    /// A `struct module` with a part of text and a table of `count` symbols.
    fn module(name: &str, count: u64, size_at: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; 1024];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(8, &(AT + 0x10_0008).to_le_bytes());
        put(NAME, name.as_bytes());
        put(256, &AT.to_le_bytes());
        put(256 + size_at, &0x3000u32.to_le_bytes());
        let symbols = AT + 0x8000;
        let strings = symbols + count * 24;
        let words = [AT + 0x9000, symbols, count, strings, strings + 100];
        for (at, word) in words.iter().enumerate() {
            put(512 + at * 8, &word.to_le_bytes());
        }
        bytes
    }

    /// A kernel with one module.
    pub fn shop() -> Modules {
        let table = symbols(&[
            ("", 0, 0, 0, 0),
            ("shop_price", 2, 1, AT + 0x10, 0x20),
            ("label", 0, 1, AT + 0x10, 0),
            ("$x", 0, 1, AT + 0x14, 0),
            (".LC0", 0, 1, AT + 0x18, 0),
            ("data", 1, 2, AT + 0x18, 8),
            ("printk", 2, 0, AT + 0x1c, 8),
        ]);
        let header = Header::parse(&module("shop", 7, 12)).unwrap();
        let mut modules = Modules::default();
        modules.add(header, &[table]);
        modules
    }

    #[test]
    fn the_function_is_named_that_an_address_is_in() {
        let modules = shop();
        let place = |offset| modules.place(AT + offset);
        assert_eq!(place(0x10).unwrap(), "shop_price+0x0/0x20 [shop]");
        assert_eq!(place(0x2f).unwrap(), "shop_price+0x1f/0x20 [shop]");
        // Behind it; behind the module; before it.
        assert_eq!(place(0x30).unwrap(), "0xffffffffa0000030 [shop]");
        assert_eq!(place(0x3000), None);
        assert_eq!(modules.place(AT - 1), None);
    }

    #[test]
    fn a_module_is_read_whatever_its_configuration() {
        for size_at in SIZES {
            let header = Header::parse(&module("shop", 7, size_at)).unwrap();
            assert_eq!(header.name, "shop");
            assert_eq!(of_node(header.next), AT + 0x10_0000);
            assert!(header.parts.contains(&(AT, AT + 0x3000)), "{size_at}");
            let table = header.core.unwrap();
            assert_eq!(table.symbols, (AT + 0x8000, 7 * 24));
            assert_eq!(table.strings, (AT + 0x8000 + 7 * 24, 100));
            assert_eq!(header.current, Some((AT + 0x9000, TABLE)));
        }
    }

    #[test]
    fn what_is_no_module_is_left_out() {
        assert_eq!(Header::parse(&[0; 1024]), None);
        assert_eq!(Header::parse(&module("a b", 7, 8)), None);
        assert_eq!(Header::parse(&module("shop", 7, 8)[..40]), None);
        // Without symbols there are its parts.
        let mut none = module("shop", 7, 8);
        none[512 + 24] ^= 8;
        let header = Header::parse(&none).unwrap();
        assert_eq!((header.core, header.current), (None, None));
        let mut modules = Modules::default();
        modules.add(header, &[]);
        assert!(modules.place(AT + 0x10).unwrap().ends_with(" [shop]"));
        assert_eq!(Table::parse(&[0xff; TABLE]), None);
        assert_eq!(functions(&[0xff; 48], &[0xff; 8]), []);
    }
}
