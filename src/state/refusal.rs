// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why the kernel did not take a livepatch, from what it said in the step: what that means, and what to
//! do. Pure.

use crate::visible::visible;

/// Why a livepatch was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it means, and what to do.
    pub help: String,
    /// The function that the kernel says it does not have.
    pub missing: Option<String>,
}

/// What the kernel says (`kernel/livepatch/{core,patch}.c`), up to the name in it, and what that means.
const KNOWN: [(&str, &str, &str); 5] = [
    (
        "symbol '",
        "' not found in symbol table",
        "this kernel has no function of that name: the compiler may have inlined or split it \
         (x.isra.0, x.part.0)",
    ),
    (
        "unresolvable ambiguity for symbol '",
        "'",
        "several functions have that name: say which one by its position in /proc/kallsyms (`name,1`)",
    ),
    (
        "failed to find location for function '",
        "'",
        "ftrace has no call in it: it is notrace, as every `inline` function is that the compiler did not \
         inline. Patch a function that calls it",
    ),
    (
        "failed to register ftrace handler for function '",
        "'",
        "something else changes where it returns to, for example a kprobe with a post handler: only one may",
    ),
    (
        "pre-patch callback failed for object '",
        "'",
        "its pre_patch callback has returned an error",
    ),
];

/// The first reason among the lines of a step's log, without `livepatch: `.
pub fn refusal<'a>(log: impl IntoIterator<Item = &'a String>) -> Option<Refusal> {
    log.into_iter().find_map(|line| {
        let mut known = KNOWN.iter().enumerate();
        known.find_map(|(index, (before, after, meaning))| {
            let (name, _) = line.strip_prefix(before)?.split_once(after)?;
            let name = visible(name);
            Some(Refusal {
                help: format!("{name}: {meaning}"),
                missing: (index == 0).then_some(name),
            })
        })
    })
}

/// Whether a kernel has a function, by its `System.map`; `None` if that is not known.
pub fn has_function(system_map: &str, name: &str) -> Option<bool> {
    let mut names = system_map.lines().map(|line| line.rsplit(' ').next());
    let is_whole = system_map.contains(" klp_enable_patch\n");
    is_whole.then(|| names.any(|symbol| symbol == Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_explained() {
        let said = |line: &str| refusal(&["enabling patch 'x'".to_owned(), line.to_owned()]);
        let missing = said("symbol 'no_such' not found in symbol table").unwrap();
        assert_eq!(missing.missing.as_deref(), Some("no_such"));
        assert!(
            missing
                .help
                .starts_with("no_such: this kernel has no function")
        );
        let inline = said("failed to find location for function '__do_sys_newuname'").unwrap();
        assert!(inline.help.contains("notrace") && inline.missing.is_none());
        let busy = "failed to register ftrace handler for function 'x' (-16)";
        assert!(said(busy).unwrap().help.contains("kprobe"));
        assert_eq!(said("'x': patching complete"), None);
        assert_eq!(said("symbol 'x"), None);
    }

    #[test]
    fn a_function_is_missing_only_in_a_whole_map() {
        let map = "ffffffff81000000 T _text\nffffffff810e1000 T klp_enable_patch\n";
        assert_eq!(has_function(map, "_text"), Some(true));
        assert_eq!(has_function(map, "text"), Some(false));
        assert_eq!(has_function("ffffffff81000000 T _text\n", "x"), None);
        assert_eq!(has_function("", "x"), None);
    }
}
