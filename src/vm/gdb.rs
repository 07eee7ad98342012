// SPDX-License-Identifier: MIT OR Apache-2.0
//! What gdb is told to see a guest's kernel as it is: where it listens, where the kernel and its
//! modules are. Pure, but for [`Kernel::built`].
//!
//! Names and addresses come from the guest, and gdb runs commands: nothing gets into its file that is
//! no name or no number.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::arch::Arch;

/// Where the kernel begins, in `System.map` and `/proc/kallsyms`.
const BEGINNING: &str = "_text";
/// What the build makes of the kernel's own scripts for gdb.
const MADE: &str = "scripts/gdb/linux";
/// The longest name of a section; the kernel's generated ones have some forty.
const NAME_MAX: usize = 64;
/// Sections of a module; ours have some thirty.
const SECTIONS_MAX: usize = 256;

/// The gdb for an architecture, which its Debian package is called by as well.
pub fn program(arch: Arch) -> &'static str {
    match Arch::host() == Some(arch) {
        true => "gdb",
        false => "gdb-multiarch",
    }
}

/// The command for the guest's shell that says where its kernel and these modules are. The names are
/// those of kernel modules. The shell's own `read` will not do: it reads byte by byte, and these files
/// are read in one piece only (`module_sect_read()`).
pub fn question(modules: &[String]) -> String {
    let modules = modules.join(" ");
    format!(
        "cd /sys/module; for m in {modules}; do \
         busybox grep -s 0x $m/sections/.[!.]* $m/sections/* /dev/null; done; \
         busybox grep -m1 ' {BEGINNING}$' /proc/kallsyms"
    )
}

/// Where a guest's kernel and modules are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The sections of each module that is loaded.
    modules: BTreeMap<String, Vec<(String, u64)>>,
    /// Where the kernel begins.
    beginning: Option<u64>,
}

impl Places {
    /// Reads the answer to [`question`]; what is no place is left out.
    pub fn parse(said: &str) -> Self {
        let mut places = Self::default();
        for line in said.lines() {
            if let Some((address, _)) = line.split_once(' ') {
                let found = number(address).filter(|address| *address > 0);
                places.beginning = places.beginning.or(found);
                continue;
            }
            let Some((module, section, address)) = place(line) else {
                continue;
            };
            let sections = places.modules.entry(module.to_owned()).or_default();
            if sections.len() < SECTIONS_MAX {
                sections.push((section.to_owned(), address));
            }
        }
        places
    }

    /// How far the kernel is from where it was linked to be; `map` is its `System.map`.
    fn offset(&self, map: &str) -> u64 {
        let ends = format!(" {BEGINNING}");
        let line = map.lines().find(|line| line.ends_with(&ends));
        let linked = line.and_then(|line| number(line.split(' ').next()?));
        match (linked, self.beginning) {
            (Some(linked), Some(found)) => found.wrapping_sub(linked),
            _ => 0,
        }
    }
}

/// `shop/sections/.text:0xffffffffa0000000`
fn place(line: &str) -> Option<(&str, &str, u64)> {
    let (name, address) = line.split_once(':')?;
    let (module, section) = name.split_once("/sections/")?;
    let names = is_name(module) && is_name(section);
    Some((module, section, number(address)?)).filter(|_| names)
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(plain)
}

/// The kernel, as far as gdb is concerned.
#[derive(Debug)]
pub struct Kernel {
    /// Its build folder.
    build: PathBuf,
    /// Whether its symbols are there: not everybody gives them away.
    has_symbols: bool,
    /// Its `System.map`.
    map: String,
    /// Whether gdb can show lines, variables and types.
    has_debug_info: bool,
    /// Whether its own scripts for gdb were built.
    has_scripts: bool,
}

impl Kernel {
    /// The kernel that was built in this folder.
    pub fn built(build: &Path) -> Self {
        let text = |name: &str| std::fs::read_to_string(build.join(name)).unwrap_or_default();
        let mut config = text(".config");
        config.push('\n');
        Self {
            build: build.to_path_buf(),
            has_symbols: build.join("vmlinux").exists(),
            map: text("System.map"),
            has_debug_info: config.contains("CONFIG_DEBUG_INFO=y\n"),
            has_scripts: build.join(MADE).join("constants.py").exists(),
        }
    }

    /// Whether gdb can show lines, variables and types.
    pub fn has_debug_info(&self) -> bool {
        self.has_debug_info
    }
}

/// The file for `gdb -x`. `modules` are the names of modules in the guest with their files, `sources`
/// is the folder with what the lab has generated of them.
pub fn script(
    kernel: &Kernel,
    socket: &Path,
    places: &Places,
    modules: &[(String, PathBuf)],
    sources: &Path,
) -> String {
    let mut text =
        "# For gdb -x. While gdb is attached, the guest stands still until `continue`;\n\
                    # `detach` lets it go on.\n"
            .to_owned();
    if !kernel.has_symbols {
        text += "# There is no vmlinux of this kernel: addresses in it have no names.\n";
    } else if !kernel.has_debug_info {
        text += "# The kernel has no debug info: functions have their names, and nothing has lines.\n\
                 # A kernel whose `config:` has config/gdb.config as well has it.\n";
    }
    text += "set confirm off\n";
    let vmlinux = quoted(&kernel.build.join("vmlinux"));
    let _ = match places.offset(&kernel.map) {
        // An error would end gdb's reading of this file.
        _ if !kernel.has_symbols => Ok(()),
        0 => writeln!(text, "file {vmlinux}"),
        // It was loaded to another place than it was linked for.
        offset => writeln!(text, "symbol-file {vmlinux} -o {offset:#x}"),
    };
    if kernel.has_debug_info {
        // Names of the kernel's sources are relative to where it was built, which is not where it is
        // now; a module's is found by the last part of its name. gdb looks into the latest first.
        for folder in [sources, &kernel.build] {
            let _ = writeln!(text, "directory {}", quoted(folder));
        }
    }
    let _ = writeln!(text, "target remote {}", socket.display());
    for (name, file) in modules {
        let Some(sections) = places.modules.get(name) else {
            continue;
        };
        let of = |wanted: &str| sections.iter().find(|(section, _)| section == wanted);
        let _ = write!(text, "add-symbol-file {}", quoted(file));
        if let Some((_, address)) = of(".text") {
            let _ = write!(text, " {address:#x}");
        }
        // What was there for the initialization only is not there any more, and the symbols are in
        // the file.
        let stays = |section: &&(String, u64)| {
            let name = &*section.0;
            ![".text", ".symtab", ".strtab"].contains(&name)
                && !name.contains("init.")
                && !name.ends_with(".init")
        };
        for (section, address) in sections.iter().filter(stays) {
            let _ = write!(text, " -s {section} {address:#x}");
        }
        text.push('\n');
    }
    if kernel.has_scripts {
        // The kernel's own `vmlinux-gdb.py` is a link to where the kernel was built, and the lab puts
        // kernels elsewhere when they are done. So it is taken from the tree, with the one part of
        // the package that is made in the build folder.
        let tree = kernel.build.parent().unwrap_or(Path::new("/"));
        let package = quoted(&tree.join("scripts/gdb"));
        let made = quoted(&kernel.build.join(MADE));
        let _ = writeln!(text, "python import sys; sys.path.insert(0, {package})");
        let _ = writeln!(
            text,
            "python import linux; linux.__path__.insert(0, {made})"
        );
        let scripts = tree.join("scripts/gdb/vmlinux-gdb.py");
        let _ = writeln!(text, "source {}", scripts.display());
    }
    text + "set confirm on\n"
}

/// A file's name as gdb reads it.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "shop/sections/.init.text:0xffffffffa0009000\n\
                        shop/sections/.text:0xffffffffa0000000\n\
                        shop/sections/.data:0xffffffffa0002000\n\
                        shop/sections/.symtab:0xffffffffa0003000\n\
                        shop/sections/__mcount_loc:0xffffffffa0001000\n\
                        evil;shell/sections/.text:0x1\nshop/sections/.text;shell:0x1\n\
                        shop/sections/.bss:no\ngrep: x: no such file\n\
                        ffffffff81000000 T _text";

    #[test]
    fn gdb_is_told_where_everything_is() {
        let kernel = Kernel {
            build: "/cache/a b/build".into(),
            has_symbols: true,
            map: "0000000000000000 A zero\nffffffff81000000 T _text\n".into(),
            has_debug_info: true,
            has_scripts: true,
        };
        let modules = [
            ("shop".to_owned(), PathBuf::from("/cache/shop.ko")),
            ("pricing_v1".to_owned(), "/cache/pricing_v1.ko".into()),
        ];
        let places = Places::parse(SAID);
        let socket = Path::new("/tmp/lab-x/gdb");
        let sources = Path::new("/record/sources");
        insta::assert_snapshot!(script(&kernel, socket, &places, &modules, sources), @r#"
        # For gdb -x. While gdb is attached, the guest stands still until `continue`;
        # `detach` lets it go on.
        set confirm off
        file "/cache/a b/build/vmlinux"
        directory "/record/sources"
        directory "/cache/a b/build"
        target remote /tmp/lab-x/gdb
        add-symbol-file "/cache/shop.ko" 0xffffffffa0000000 -s .data 0xffffffffa0002000 -s __mcount_loc 0xffffffffa0001000
        python import sys; sys.path.insert(0, "/cache/a b/scripts/gdb")
        python import linux; linux.__path__.insert(0, "/cache/a b/build/scripts/gdb/linux")
        source /cache/a b/scripts/gdb/vmlinux-gdb.py
        set confirm on
        "#);
    }

    #[test]
    fn a_kernel_elsewhere_is_found_there() {
        let mut kernel = Kernel {
            build: "/b".into(),
            has_symbols: true,
            map: "ffffffff80000000 T _text\n".into(),
            has_debug_info: false,
            has_scripts: false,
        };
        let script = |kernel: &Kernel, places: &Places| {
            script(kernel, Path::new("/s"), places, &[], Path::new("/sources"))
        };
        let text = script(&kernel, &Places::parse(SAID));
        assert!(text.contains("symbol-file \"/b/vmlinux\" -o 0x1000000\n"));
        assert!(text.contains("has no debug info") && !text.contains("directory"));
        // Addresses are not for everybody.
        let hidden = Places::parse("0000000000000000 T _text");
        assert!(script(&kernel, &hidden).contains("file \"/b/vmlinux\"\n"));
        kernel.has_symbols = false;
        let text = script(&kernel, &Places::default());
        assert!(!text.contains("file ") && text.contains("target remote /s\n"));
    }
}
