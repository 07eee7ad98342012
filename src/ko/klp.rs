// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a livepatch's file says of what it patches. Pure.
//!
//! `struct klp_patch`, `klp_object` and `klp_func` are data with relocations: pointers to texts, to
//! code and to each other. Their first fields have been the same since Linux 5.5, and klp-build's
//! `klp_object_ext` and `klp_func_ext` begin alike; how long they are is not asked. What cannot be
//! read so is left out: a livepatch can make these structures while it is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use object::elf;
use object::endian::LittleEndian;
use object::read::elf::{Rela as _, Sym as _};

use super::elf::{File, text};
use crate::scenario::{Symbol, VMLINUX};

/// How the names of symbols begin that livepatching resolves.
pub(super) const SYMBOL: &str = ".klp.sym.";
/// Where klp-build puts its objects.
const OBJECTS: &str = ".init.klp_objects";
/// The module itself, in `klp_patch.mod`.
const THIS_MODULE: &str = "__this_module";
/// Offsets in `struct klp_patch`, and of the second and third field of the others.
const OBJS: u64 = 8;
const REPLACE: u64 = 24;
const SECOND: u64 = 8;
const THIRD: u64 = 16;
/// Relocations that are gone through: a driver of a few mebibytes has some ten thousand in its data.
const RELOCATIONS_MAX: usize = 1 << 21;
/// Functions that are told of.
const FUNCTIONS_MAX: usize = 10_000;

/// What a livepatch is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// `klp_patch.replace`, which is a bool or a tag; `None` if it is set when it is loaded.
    pub replace: Option<u32>,
    /// What it patches.
    pub objects: Vec<Object>,
}

/// An object that is patched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// `vmlinux` or a module.
    pub name: String,
    /// Its functions.
    pub functions: Vec<Symbol>,
}

/// A symbol that livepatching resolves: `.klp.sym.OBJECT.NAME,POSITION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KlpSymbol {
    /// As the kernel reads it.
    Of {
        /// The object that has it.
        object: String,
        /// Its name and position.
        symbol: Symbol,
    },
    /// The kernel cannot read it.
    Malformed(String),
}

impl KlpSymbol {
    /// Reads what follows `.klp.sym.`.
    pub(super) fn parse(text: &str) -> Self {
        let read = || {
            let (object, rest) = text.split_once('.')?;
            let (name, sympos) = rest.rsplit_once(',')?;
            let symbol = Symbol {
                name: name.to_owned(),
                sympos: sympos.parse().ok()?,
            };
            let is_right = !object.is_empty() && !name.is_empty() && !name.contains(',');
            is_right.then(|| Self::Of {
                object: object.to_owned(),
                symbol,
            })
        };
        read().unwrap_or_else(|| Self::Malformed(text.to_owned()))
    }
}

/// A place in a module's data.
type Place = (usize, u64);

/// What a pointer in a module's data points to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pointer {
    /// To the module itself.
    Module,
    /// To something of the module.
    To(Place),
}

/// What a livepatch patches; `None` if its structures are not found.
pub(super) fn patch(file: &File<'_>) -> Option<Patch> {
    let pointers = pointers(file);
    let reader = Reader { file, pointers };
    let (first, replace) = reader.patch().or_else(|| {
        let index = file.sections.iter().position(|s| s.name == OBJECTS)?;
        Some(((index, 0), None))
    })?;
    let objects = reader.objects(first);
    (!objects.is_empty()).then_some(Patch { replace, objects })
}

/// The pointers in the data that is loaded.
fn pointers(file: &File<'_>) -> BTreeMap<Place, Pointer> {
    let pointer = file.arch.row().elf_pointer;
    let mut names = file.symbols.iter().map(|symbol| file.symbol_name(symbol));
    let this_module = names.position(|name| name == THIS_MODULE);
    let mut pointers = BTreeMap::new();
    let mut left = RELOCATIONS_MAX;
    for (section, relocations) in file.relocations() {
        let Some(applies_to) = file.sections.get(section) else {
            continue;
        };
        if !applies_to.is_loaded || applies_to.is_code {
            continue;
        }
        for relocation in relocations.iter().take(left) {
            left -= 1;
            if relocation.r_type(LittleEndian, false) != pointer {
                continue;
            }
            let index = relocation.r_sym(LittleEndian, false) as usize;
            let Some(symbol) = file.symbols.get(index) else {
                continue;
            };
            let to = symbol.st_shndx(LittleEndian);
            let target = if to == elf::SHN_UNDEF {
                continue;
            } else if Some(index) == this_module {
                Pointer::Module
            } else {
                let addend = relocation.r_addend(LittleEndian);
                let at = symbol.st_value(LittleEndian).wrapping_add_signed(addend);
                Pointer::To((usize::from(to.0), at))
            };
            pointers.insert((section, relocation.r_offset(LittleEndian)), target);
        }
    }
    pointers
}

struct Reader<'a> {
    file: &'a File<'a>,
    pointers: BTreeMap<Place, Pointer>,
}

impl Reader<'_> {
    /// The place that the pointer at `place + offset` points to.
    fn follow(&self, (section, at): Place, offset: u64) -> Option<Place> {
        match self.pointers.get(&(section, at.checked_add(offset)?))? {
            Pointer::To(place) => Some(*place),
            Pointer::Module => None,
        }
    }

    fn bytes<const N: usize>(&self, (section, at): Place, offset: u64) -> Option<[u8; N]> {
        let data = self.file.sections.get(section)?.data;
        let at = usize::try_from(at.checked_add(offset)?).ok()?;
        data.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    /// The text that a place holds.
    fn text(&self, (section, at): Place) -> Option<String> {
        let section = self.file.sections.get(section)?;
        let name = text(section.data, usize::try_from(at).ok()?)?;
        (!section.is_code && !name.is_empty()).then_some(name)
    }

    /// Where the first object of the `struct klp_patch` is, and what this replaces.
    fn patch(&self) -> Option<(Place, Option<u32>)> {
        let all = self.pointers.iter();
        let modules = all.filter(|(_, pointer)| **pointer == Pointer::Module);
        let mut patches = modules.filter_map(|(&place, _)| {
            let objects = self.follow(place, OBJS)?;
            self.is_object(objects).then_some((place, objects))
        });
        let (place, objects) = patches.next()?;
        Some((objects, self.bytes(place, REPLACE).map(u32::from_le_bytes)))
    }

    fn is_object(&self, place: Place) -> bool {
        let functions = self.follow(place, SECOND);
        functions.is_some_and(|functions| self.is_function(functions))
    }

    /// Whether a name and a pointer to code are there.
    fn is_function(&self, place: Place) -> bool {
        let new = self.follow(place, SECOND);
        let new = new.and_then(|(section, _)| self.file.sections.get(section));
        new.is_some_and(|section| section.is_code)
            && self
                .follow(place, 0)
                .is_some_and(|name| self.text(name).is_some())
    }

    /// The places at which pointers begin, from one on, in its section.
    fn places(&self, from: Place) -> impl Iterator<Item = Place> {
        let all = self.pointers.range(from..(from.0 + 1, 0));
        all.map(|(&place, _)| place)
    }

    fn objects(&self, first: Place) -> Vec<Object> {
        // An object of vmlinux has no name, so that its functions are its first pointer.
        let second = |place: Place| Some((place.0, place.1.checked_sub(SECOND)?));
        let places = self.places(first).filter_map(second);
        let found = places.filter(|&place| place >= first && self.is_object(place));
        let found: Vec<_> = found
            .filter_map(|place| Some((place, self.follow(place, SECOND)?)))
            .collect();
        // Each array of functions ends where the next one begins, and is gone through once.
        let mut starts: BTreeSet<Place> = found.iter().map(|(_, functions)| *functions).collect();
        let ends = starts.clone();
        let mut left = FUNCTIONS_MAX;
        let object = |(place, functions): (Place, Place)| {
            let end = ends.range((Excluded(functions), Unbounded)).next();
            let is_first = starts.remove(&functions);
            let places = self.places(functions).take_while(|_| is_first);
            let own = places.take_while(|place| end.is_none_or(|end| place < end));
            let own = own.filter(|&place| self.is_function(place)).take(left);
            let functions: Vec<_> = own.filter_map(|place| self.function(place)).collect();
            left -= functions.len();
            Object {
                name: self
                    .follow(place, 0)
                    .and_then(|name| self.text(name))
                    .unwrap_or_else(|| VMLINUX.to_owned()),
                functions,
            }
        };
        found.into_iter().map(object).collect()
    }

    fn function(&self, place: Place) -> Option<Symbol> {
        let sympos = self.bytes(place, THIRD).map(u64::from_le_bytes);
        Some(Symbol {
            name: self.text(self.follow(place, 0)?)?,
            sympos: u32::try_from(sympos.unwrap_or_default()).unwrap_or(u32::MAX),
        })
    }
}
