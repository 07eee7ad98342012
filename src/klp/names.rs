// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which names and paths a scenario may use.

use super::model::Symbol;
use crate::visible::is_hidden;

/// The name under which the kernel knows a module: its build turns `-` into `_`.
#[must_use]
pub fn kernel_module_name(name: &str) -> String {
    name.replace('-', "_")
}

/// What Kbuild calls its own lists: a module of several files would add its files to them, as
/// `ccflags-y := ccflags-1.o ccflags-2.o`.
const KBUILD: [&str; 15] = [
    "always",
    "asflags",
    "ccflags",
    "dtb",
    "dtbo",
    "extra",
    "hostprogs",
    "ldflags",
    "lib",
    "obj",
    "rustflags",
    "subdir",
    "targets",
    "userldlibs",
    "userprogs",
];

/// Whether Kbuild takes this module's name for one of its own.
pub(crate) fn is_kbuilds_own(module: &str) -> bool {
    KBUILD.contains(&module)
}

/// Whether a file can be named so. The name ends up in file names and in reports.
pub(crate) fn is_scenario_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(inner)
        && name.len() <= 60
}

/// A function cannot have a keyword's name, nor one of those that every module's glue defines.
const RESERVED: &[&str] = &[
    "auto",
    "break",
    "case",
    "char",
    "const",
    "continue",
    "default",
    "do",
    "double",
    "else",
    "enum",
    "extern",
    "float",
    "for",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "register",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "typedef",
    "typeof",
    "union",
    "unsigned",
    "void",
    "volatile",
    "while",
    "asm",
    "bool",
    "true",
    "false",
    "init_module",
    "cleanup_module",
];

/// Whether a C function can have this name. 128 is the kernel's own limit for a symbol that a
/// livepatch names.
pub(crate) fn is_function_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= 128
        && !RESERVED.contains(&name)
}

/// The function that a text names as sysfs does: `price`, or `price,2` for the second of several.
/// `None` if it names none.
pub(crate) fn symbol(text: &str) -> Option<Symbol> {
    let (name, sympos) = match text.split_once(',') {
        None => (text, 0),
        Some((name, digits)) => (name, sympos(digits)?),
    };
    is_function_name(name).then(|| Symbol {
        name: name.to_owned(),
        sympos,
    })
}

/// Decimal, and in one way only, so that a function has one spelling.
fn sympos(digits: &str) -> Option<u32> {
    let right = (1..=3).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    right.then(|| digits.parse().ok()).flatten()
}

/// As [`symbol`], but of any text: what is wrong with it was reported.
pub(crate) fn lenient_symbol(text: &str) -> Symbol {
    symbol(text).unwrap_or_else(|| Symbol {
        name: text.split(',').next().unwrap_or_default().to_owned(),
        sympos: 0,
    })
}

/// Whether a kernel can be called this.
pub(crate) fn is_kernel_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What no shell and no make takes for anything but itself.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./+,=-".contains(c)
}

/// Whether a step can give this to klp-build. That is a bash script on the host, so an option holds
/// nothing that bash would expand if it were evaluated, as in `[[ $tag -gt 0 ]]`, nor a path.
pub(crate) fn is_option(text: &str) -> bool {
    text.chars().all(|c| is_plain(c) && c != '/') && text.len() <= 256
}

/// Whether this names a source patch within the scenario's folder. Whether it is there is not asked.
pub(crate) fn is_source_patch(path: &str) -> bool {
    (path.ends_with(".patch") || path.ends_with(".diff")) && stays_within(path)
}

/// Whether this names a module's file within the scenario's folder. Whether it is there is not asked.
pub(crate) fn is_module_file(path: &str) -> bool {
    path.ends_with(".ko") && stays_within(path)
}

/// A plain path that leads out of no folder.
fn stays_within(path: &str) -> bool {
    path.chars().all(is_plain)
        && path.len() <= 1024
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// How many characters a step can write at once.
const LONGEST_DATA: usize = 4096;

/// Whether a step can write this: it travels to the guest in a line with tabs between fields.
pub(crate) fn is_data(text: &str) -> bool {
    !text.chars().any(is_hidden) && text.chars().count() <= LONGEST_DATA
}

/// Whether a step may read or write this file: in one of the kernel's own file systems, without detours.
pub(crate) fn is_kernel_path(path: &str) -> bool {
    ["/proc/", "/sys/", "/dev/"]
        .iter()
        .any(|root| path.starts_with(root))
        && path.chars().all(|c| !is_hidden(c) && !c.is_whitespace())
        && path
            .split('/')
            .skip(1)
            .all(|part| !matches!(part, "" | "." | ".."))
        && path.len() <= 1024
}

/// Whether these are rights as ls(1) shows them: `drwxr-xr-x`.
pub(crate) fn is_rights(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|kind| "-bcdlps".contains(kind))
        && chars.clone().count() == 9
        && chars
            .zip("rwx".chars().cycle())
            .all(|(c, right)| c == '-' || c == right || (right == 'x' && "sStT".contains(c)))
}

/// Whether this can be the value of a module parameter: the kernel splits parameters at white
/// space, and gives quotes a meaning of their own.
pub(crate) fn is_param_value(value: &str) -> bool {
    value
        .chars()
        .all(|c| !is_hidden(c) && !c.is_whitespace() && c != '"')
        && value.len() <= 256
}

/// Whether this declares a function called `name`.
pub(crate) fn declares(signature: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    signature.match_indices(name).any(|(at, _)| {
        !signature[..at].ends_with(is_word)
            && signature[at + name.len()..].trim_start().starts_with('(')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_modules_without_hyphens() {
        assert_eq!(kernel_module_name("pricing-v1"), "pricing_v1");
    }

    #[test]
    fn scenario_names_are_fit_for_file_names() {
        assert!(is_scenario_name("tagged-u32-max"));
        for wrong in ["", "-x", "A", "a/b", "a b", "a\n", "a.b"] {
            assert!(!is_scenario_name(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn function_names_are_c_identifiers_and_no_keywords() {
        assert!(is_function_name("cmdline_proc_show") && is_function_name("__x64_sys_getpid"));
        for wrong in ["", "1st", "a-b", "a.b", "é", "while", "init_module"] {
            assert!(!is_function_name(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn symbols_may_end_in_a_position() {
        let parts = |text| symbol(text).map(|symbol| (symbol.name, symbol.sympos));
        assert_eq!(parts("price"), Some(("price".to_owned(), 0)));
        assert_eq!(parts("price,1"), Some(("price".to_owned(), 1)));
        assert_eq!(parts("price,999"), Some(("price".to_owned(), 999)));
        for wrong in [
            "price,",
            "price,0",
            "price,01",
            "price,1000",
            "price,+1",
            "price,1,2",
            "price, 1",
            ",1",
            "while,1",
        ] {
            assert_eq!(symbol(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn source_patches_stay_within_the_scenarios_folder() {
        for right in ["a.patch", "klp-build-tags/cmdline.patch", "a/b/c.diff"] {
            assert!(is_source_patch(right), "{right:?}");
        }
        for wrong in [
            "",
            "a.c",
            "patch",
            "/a.patch",
            "../a.patch",
            "a/../b.patch",
            "./a.patch",
            "a//b.patch",
            "a b.patch",
            "a\n.patch",
            "$(id).patch",
            "a;b.patch",
            "a\u{202e}.patch",
            "a.patch/",
        ] {
            assert!(!is_source_patch(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn module_files_stay_there_too() {
        assert!(is_module_file("fix.ko") && is_module_file("a-report/livepatch-fix.ko"));
        for wrong in ["", ".ko/", "fix.ko.xz", "/fix.ko", "../fix.ko", "a b.ko"] {
            assert!(!is_module_file(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn options_mean_nothing_to_bash() {
        assert!(is_option("--replace-tag=1") && is_option("-1") && is_option(""));
        for wrong in ["x[$(id)]", "`id`", "a;b", "-o/etc/x", "a b", "a\0", "é"] {
            assert!(!is_option(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn data_fits_into_a_field_of_a_line() {
        assert!(is_data("") && is_data("1") && is_data("a b") && is_data(&"é".repeat(4096)));
        assert!(!is_data("a\tb") && !is_data("1\n") && !is_data("\0") && !is_data("\u{1b}[2J"));
        assert!(!is_data(&"x".repeat(4097)));
    }

    #[test]
    fn paths_stay_within_the_kernels_file_systems() {
        assert!(is_kernel_path("/proc/cmdline"));
        assert!(is_kernel_path("/sys/kernel/livepatch/x/transition"));
        for wrong in [
            "",
            "proc/cmdline",
            "/etc/passwd",
            "/proc/../etc",
            "/proc/a\tb",
            "/proc//x",
            "/sys/",
        ] {
            assert!(!is_kernel_path(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_signature_declares_only_the_whole_name() {
        assert!(declares("int show(struct seq_file *m)", "show"));
        assert!(declares("int *show (void)", "show"));
        assert!(!declares("int do_show(void)", "show"));
        assert!(!declares("int show_all(void)", "show"));
    }
}
