// SPDX-License-Identifier: MIT OR Apache-2.0
//! A livepatch that is made here, whole and mangled, and kernels that it fits or not.

use std::collections::BTreeMap;

use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

use super::kernel::{Export, KernelFacts};
use super::{Finding, Ko, findings};
use crate::arch::Arch;
use crate::scenario::{Errno, parse};
use crate::yaml::Source;

const VERMAGIC: &str = "6.12.1-foo SMP preempt mod_unload ";

/// A file under construction.
struct Maker {
    object: Object<'static>,
    data: SectionId,
    strings: SectionId,
}

impl Maker {
    fn new(arch: Architecture, info: &str) -> Self {
        let mut object = Object::new(BinaryFormat::Elf, arch, Endianness::Little);
        let mut section = |name: &str, kind| object.add_section(vec![], name.into(), kind);
        let modinfo = section(".modinfo", SectionKind::ReadOnlyData);
        let module = section(".gnu.linkonce.this_module", SectionKind::Data);
        let data = section(".data", SectionKind::Data);
        let strings = section(".rodata.str", SectionKind::ReadOnlyData);
        let info = info.replace('\n', "\0");
        object.append_section_data(modinfo, info.as_bytes(), 1);
        let mut this = vec![0; 24];
        this.extend(b"fix\0");
        this.resize(128, 0);
        object.append_section_data(module, &this, 8);
        object.append_section_data(data, &[0; 512], 8);
        let mut maker = Self {
            object,
            data,
            strings,
        };
        maker.symbol("__this_module", SymbolSection::Section(module));
        maker
    }

    fn symbol(&mut self, name: &str, section: SymbolSection) -> SymbolId {
        self.object.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size: 0,
            kind: SymbolKind::Data,
            scope: SymbolScope::Linkage,
            weak: false,
            section,
            flags: SymbolFlags::None,
        })
    }

    /// A pointer at `at` in the data.
    fn point(&mut self, at: u64, symbol: SymbolId, addend: u64) {
        let r_type = match self.object.architecture() {
            Architecture::Aarch64 => elf::R_AARCH64_ABS64,
            _ => elf::R_X86_64_64,
        };
        let relocation = Relocation {
            offset: at,
            symbol,
            addend: addend.try_into().unwrap(),
            flags: RelocationFlags::Elf { r_type },
        };
        self.object.add_relocation(self.data, relocation).unwrap();
    }

    fn text(&mut self, at: u64, text: &str) {
        let text = format!("{text}\0");
        let place = self
            .object
            .append_section_data(self.strings, text.as_bytes(), 1);
        let strings = self.object.section_symbol(self.strings);
        self.point(at, strings, place);
    }

    fn data(&mut self, at: usize, bytes: &[u8]) {
        let data = self.object.section_mut(self.data).data_mut();
        data[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A livepatch `fix` of `shop.price`, `shop.stock,2` and `vmlinux.cmdline_proc_show`, with tag 7.
fn livepatch(arch: Architecture, info: &str) -> Vec<u8> {
    let mut maker = Maker::new(arch, info);
    let this = maker.object.symbol_id(b"__this_module").unwrap();
    let code = maker
        .object
        .add_section(vec![], ".text".into(), SectionKind::Text);
    maker.object.append_section_data(code, &[0xc3; 16], 16);
    let code = maker.symbol("new_price", SymbolSection::Section(code));
    let data = maker.object.section_symbol(maker.data);
    // struct klp_patch at 0, klp_object at 64 and 128, klp_func at 256, 304 and 400.
    maker.point(0, this, 0);
    maker.point(8, data, 64);
    maker.data(24, &7_u32.to_le_bytes());
    maker.text(64, "shop");
    maker.point(72, data, 256);
    maker.point(136, data, 400);
    for (at, name) in [(256, "price"), (304, "stock"), (400, "cmdline_proc_show")] {
        maker.text(at, name);
        maker.point(at + 8, code, 0);
    }
    maker.data(304 + 16, &2_u64.to_le_bytes());
    for name in [
        "klp_enable_patch",
        "seq_puts",
        ".klp.sym.vmlinux.saved_command_line,0",
    ] {
        maker.symbol(name, SymbolSection::Undefined);
    }
    maker.object.write().unwrap()
}

/// Where symbols have been taken by name: a target with these functions.
fn target(functions: &[&str]) -> Ko {
    let info = format!("name=fix\nlicense=GPL\nvermagic={VERMAGIC}\n");
    let mut ko = Ko::read(
        &Maker::new(Architecture::X86_64, &info)
            .object
            .write()
            .unwrap(),
    )
    .unwrap();
    ko.name = "shop".to_owned();
    for name in functions {
        *ko.symbols.entry((*name).to_owned()).or_default() += 1;
    }
    ko
}

const INFO: &str =
    "license=GPL\nlivepatch=Y\ndepends=\nname=fix\nvermagic=6.12.1-foo SMP preempt mod_unload \n";

fn fix() -> Ko {
    Ko::read(&livepatch(Architecture::X86_64, INFO)).unwrap()
}

/// A kernel that has all that the livepatch wants.
fn kernel() -> KernelFacts {
    let export = |name: &str| {
        let export = Export {
            crc: 1,
            module: "vmlinux".to_owned(),
            gpl: name.starts_with("klp"),
        };
        (name.to_owned(), export)
    };
    let symbols = [
        ("cmdline_proc_show", 1),
        ("saved_command_line", 1),
        ("twice", 2),
    ];
    KernelFacts {
        vermagic: VERMAGIC.to_owned(),
        exports: Some(["klp_enable_patch", "seq_puts"].map(export).into()),
        symbols: Some(symbols.map(|(name, count)| (name.to_owned(), count)).into()),
        ..KernelFacts::default()
    }
}

fn found(ko: &Ko, kernel: &KernelFacts) -> Vec<Finding> {
    let shop = target(&["price", "stock", "stock"]);
    findings(ko, "fix.ko", kernel, Arch::X86_64, &[ko, &shop])
}

/// Each finding with its particulars, as lines.
fn lines(findings: &[Finding]) -> String {
    let lines = |finding: &Finding| {
        let details: String = finding
            .details
            .iter()
            .map(|line| format!("  {line}\n"))
            .collect();
        format!("{}\n{details}  next: {}\n", finding.what, finding.help)
    };
    findings.iter().map(lines).collect()
}

#[test]
fn a_livepatch_says_what_it_is_and_what_it_patches() {
    for (architecture, arch) in [
        (Architecture::X86_64, Arch::X86_64),
        (Architecture::Aarch64, Arch::Arm64),
    ] {
        let ko = Ko::read(&livepatch(architecture, INFO)).unwrap();
        assert_eq!((ko.arch, &*ko.name), (arch, "fix"));
        assert!(ko.is_livepatch() && !ko.is_signed);
        assert_eq!(ko.info("vermagic"), Some(VERMAGIC));
        assert_eq!(ko.undefined, ["klp_enable_patch", "seq_puts"]);
        let patch = ko.patch.unwrap();
        assert_eq!(patch.replace, Some(7));
        let object = |object: &crate::ko::klp::Object| {
            let functions: Vec<_> = object.functions.iter().map(ToString::to_string).collect();
            format!("{}: {}", object.name, functions.join(" "))
        };
        let objects: Vec<_> = patch.objects.iter().map(object).collect();
        assert_eq!(
            objects,
            ["shop: price stock,2", "vmlinux: cmdline_proc_show"]
        );
    }
}

#[test]
fn what_fits_has_no_findings() {
    assert_eq!(found(&fix(), &kernel()), []);
    // What is not known is not guessed.
    let unknown = KernelFacts {
        exports: None,
        symbols: None,
        ..kernel()
    };
    assert_eq!(findings(&fix(), "fix.ko", &unknown, Arch::X86_64, &[]), []);
}

#[test]
fn another_kernels_module_is_refused_with_what_differs() {
    let kernel = KernelFacts {
        vermagic: "7.3.4-lab-670acc60d395 SMP mod_unload modversions ".to_owned(),
        ..kernel()
    };
    insta::assert_snapshot!(lines(&found(&fix(), &kernel)), @r"
    fix.ko was built for another kernel: loading it will give ENOEXEC
      the module: 6.12.1-foo SMP preempt mod_unload
      the kernel: 7.3.4-lab-670acc60d395 SMP mod_unload modversions
      they differ in the release
      only the module has `preempt`
      only the kernel has `modversions`
      next: build it for this kernel, or boot its own; or expect it: `load: fix, errno: ENOEXEC`
    ");
}

#[test]
fn with_checksums_the_release_does_not_count() {
    let vermagic = |release: &str| format!("{release} SMP mod_unload modversions ");
    let mut ko = fix();
    ko.info.retain(|(key, _)| key != "vermagic");
    ko.info
        .push(("vermagic".to_owned(), vermagic("6.12.1-foo")));
    ko.versions = BTreeMap::from([("seq_puts".to_owned(), 1)]);
    let kernel = KernelFacts {
        vermagic: vermagic("6.12.1-bar"),
        modversions: true,
        ..kernel()
    };
    assert_eq!(found(&ko, &kernel), []);
    ko.versions = BTreeMap::from([("seq_puts".to_owned(), 2)]);
    let findings = found(&ko, &kernel);
    assert_eq!((findings.len(), findings[0].errno), (1, Errno::EINVAL));
    assert_eq!(findings[0].details, ["`seq_puts`"]);
}

#[test]
fn symbols_that_nobody_has_are_named() {
    let mut ko = fix();
    ko.undefined.push("no_such_export".to_owned());
    ko.info.retain(|(key, _)| key != "license");
    let mut kernel = kernel();
    kernel.symbols = Some(BTreeMap::from([("cmdline_proc_show".to_owned(), 2)]));
    let shop = target(&["stock"]);
    let findings = findings(&ko, "fix.ko", &kernel, Arch::X86_64, &[&shop]);
    insta::assert_snapshot!(lines(&findings), @r"
    fix.ko needs symbols that no module exports to it: loading it will give ENOENT
      `klp_enable_patch`: for modules under the GPL; the license of this one is `unspecified`
      `no_such_export`
      next: add the module that exports them, or take a kernel that does; or expect it: `load: fix, errno: ENOENT`
    fix.ko has klp relocations for symbols that are not there in vmlinux: loading it will give EINVAL
      `saved_command_line`: there is none
      next: take the kernel or the module that it was made for; or expect it: `load: fix, errno: EINVAL`
    fix.ko patches functions that are not there in shop: loading it will give EINVAL, or shop after it
      `price`: there is none
      `stock,2`: there are only 1
      next: take the kernel or the module that it was made for; or expect it: `load: fix, errno: EINVAL`
    fix.ko patches functions that are not there in vmlinux: loading it will give EINVAL
      `cmdline_proc_show`: there are 2, and no position says which
      next: take the kernel or the module that it was made for; or expect it: `load: fix, errno: EINVAL`
    ");
}

#[test]
fn another_architecture_is_all_that_is_said() {
    let ko = Ko::read(&livepatch(Architecture::Aarch64, INFO)).unwrap();
    let findings = found(&ko, &KernelFacts::default());
    assert_eq!(findings.len(), 1);
    assert_eq!(
        findings[0].what,
        "fix.ko is for arm64, the guest is x86_64: loading it will give ENOEXEC"
    );
}

#[test]
fn a_refusal_can_be_the_point() {
    let kernel = KernelFacts {
        vermagic: "7.3.4 ".to_owned(),
        ..kernel()
    };
    let finding = &found(&fix(), &kernel)[0];
    let expects = |step: &str| {
        let text = format!(
            "version: 1\nsummary: x\nlivepatches: {{ fix: {{ ko: fix.ko }} }}\nsteps: [{step}]\n"
        );
        finding.is_expected(&parse("x", &Source::new("x.yaml", text)).unwrap())
    };
    assert!(expects("{ load: fix, errno: ENOEXEC }"));
    assert!(!expects("load: fix") && !expects("{ load: fix, errno: EINVAL }"));
}

#[test]
fn what_is_no_module_is_said_in_words() {
    let refused = |data: &[u8]| Ko::read(data).unwrap_err();
    assert_eq!(refused(b""), "is no ELF file");
    assert_eq!(
        refused(b"\xfd7zXZ\0 and so on"),
        "is compressed: decompress it with `xz -d`"
    );
    let whole = livepatch(Architecture::X86_64, INFO);
    assert!(refused(&whole[..200]).starts_with("is broken or cut off: "));
    let mut other = whole.clone();
    other[18] = 243;
    assert_eq!(
        refused(&other),
        "is for riscv (64 bits); the lab boots x86_64 and arm64"
    );
    let two = INFO.replace("name=fix", "name=other");
    assert_eq!(
        refused(&livepatch(Architecture::X86_64, &two)),
        "calls itself `fix` in `struct module` and `other` in .modinfo"
    );
}

/// Whatever is done to a module, it is read or refused, and what is read can be told.
#[test]
fn mangled_modules_are_read_or_refused() {
    let whole = livepatch(Architecture::X86_64, INFO);
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut data = whole.clone();
        for _ in 0..1 + random(6) {
            let at = random(data.len());
            match random(4) {
                0 => data[at] = 0xff,
                1 => data[at] ^= 1 << random(8),
                2 => data[at] = u8::try_from(random(256)).unwrap(),
                _ => data.truncate(at.max(64)),
            }
        }
        match Ko::read(&data) {
            Ok(ko) => {
                read += 1;
                let _ = found(&ko, &kernel());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        read > 1000 && refused > 1000,
        "{read} read, {refused} refused"
    );
}

/// The fuzz target begins with these; `LAB_CORPUS=1 cargo test corpus` writes them.
#[test]
fn the_corpus_has_these_modules() {
    let plain = Maker::new(Architecture::X86_64, &INFO.replace("livepatch=Y\n", ""));
    for (name, data) in [
        ("x86_64", livepatch(Architecture::X86_64, INFO)),
        ("arm64", livepatch(Architecture::Aarch64, INFO)),
        ("plain", plain.object.write().unwrap()),
    ] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/module");
        let path = std::path::Path::new(folder).join(name);
        if std::env::var_os("LAB_CORPUS").is_some() {
            std::fs::write(&path, &data).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == data, "{name}");
    }
}
