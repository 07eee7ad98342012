// SPDX-License-Identifier: MIT OR Apache-2.0
//! What klp-build and the tools it runs say: warnings, what became of the functions, and of a failure
//! its cause. Pure.
//!
//! Who speaks, in Linux 7.3: `scripts/livepatch/klp-build` (`die()`, `warn()`, `trap_err()`), patch(1)
//! of `apply_patch()`, the compiler, the linker, modpost and make of `build_kernel()`, objtool
//! (`tools/objtool/klp-*.c`, by `include/objtool/warn.h`), and the shell about tools that are not there.
//! klp-build is the last to speak and knows least: "objtool klp diff failed", "line 757: '( cd …'". So
//! the cause is the first of the others' words.

use crate::error::{Blame, Error};
use crate::kernel::build::build_error;

/// What klp-build says when the original build begins.
const ORIGINAL: &str = "Building original kernel";
/// What klp-build says when the original build is done.
pub(super) const ORIGINAL_DONE: &str = "Fixing patch(es)";
/// Lines that are shown beside the cause.
const EVIDENCE_LINES: usize = 12;
/// klp-build's errors and warnings, after `error: ` and `warning: `.
const OWN: &str = "klp-build: ";

/// What there is to say of a livepatch, line by line: warnings, and which functions are new or
/// changed. Of the original build, which is the kernel's, nothing.
pub(super) fn findings(output: &str) -> impl Iterator<Item = &str> {
    of_the_livepatch(output).filter(|line| is_warning(line) || function(line).is_some())
}

/// The warnings among them.
pub(super) fn warnings(output: &str) -> impl Iterator<Item = &str> {
    findings(output).filter(|line| is_warning(line))
}

/// The lines that are not about the original build, unless that failed.
pub(super) fn of_the_livepatch(output: &str) -> impl Iterator<Item = &str> {
    let at = |mark: &str| output.lines().position(|line| line == mark);
    let original = match (at(ORIGINAL), at(ORIGINAL_DONE)) {
        (Some(begin), Some(end)) => begin..end,
        _ => 0..0,
    };
    let lines = output.lines().enumerate();
    lines.filter_map(move |(number, line)| (!original.contains(&number)).then_some(line))
}

/// The functions that the livepatch replaces, of all objects.
pub(super) fn changed_functions(output: &str) -> Vec<&str> {
    let all = output.lines().filter_map(function);
    let changed = all.filter(|(kind, _)| *kind == "changed");
    changed.map(|(_, name)| name).collect()
}

/// Whether the livepatch has functions that the kernel has not.
pub(super) fn adds_functions(output: &str) -> bool {
    output
        .lines()
        .filter_map(function)
        .any(|(kind, _)| kind == "new")
}

/// `vmlinux.o: changed function: cmdline_proc_show`, `vmlinux.o: new function: x`.
fn function(line: &str) -> Option<(&str, &str)> {
    let (object, rest) = line.split_once(": ")?;
    let (what, name) = rest.split_once(" function: ")?;
    let is_ours = object.ends_with(".o") && ["changed", "new"].contains(&what);
    (is_ours && !object.contains(' ')).then_some((what, name))
}

/// `warning: klp-build: …`, `x.c:1:2: warning: …`, `vmlinux.o: warning: objtool: …`.
fn is_warning(line: &str) -> bool {
    line.starts_with("warning: ")
        || line.starts_with("WARNING: modpost")
        || says(line, "warning").is_some()
}

/// What a tool says in its usual form, `PLACE: KIND: TEXT`; a place has no white space, as a command
/// that make prints has.
fn says<'a>(line: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let (place, text) = line.split_once(&format!(": {kind}: "))?;
    let is_place = !place.is_empty() && !place.contains(char::is_whitespace);
    is_place.then_some((place, text))
}

/// Why there is no livepatch.
struct Cause {
    blame: Blame,
    /// In one line.
    what: String,
    help: &'static str,
}

impl Cause {
    fn new(blame: Blame, what: impl Into<String>, help: &'static str) -> Self {
        let what = what.into();
        Self { blame, what, help }
    }
}

/// What klp-build's failure means, from its output.
pub(super) fn failure(name: &str, output: &str) -> Error {
    let doing = format!("livepatch {name} does not build");
    let of_any_build = build_error(&doing, output);
    if of_any_build.blame == Blame::Host {
        return of_any_build;
    }
    let lines: Vec<&str> = output.lines().collect();
    let cause = cause(&lines);
    // The cause stands above; what klp-build says of its own line is nobody's matter.
    let is_told = |line: &&str| {
        let is_more = is_error(line) || is_warning(line) || function(line).is_some();
        let text = line.trim_end_matches('.');
        is_more && !cause.what.contains(text) && !text.contains(&cause.what)
    };
    let evidence: Vec<_> = lines
        .iter()
        .copied()
        .filter(is_told)
        .take(EVIDENCE_LINES)
        .collect();
    let what = format!("{doing}: {}", cause.what);
    let error = Error::new(cause.blame, what).evidence(&evidence.join("\n"));
    match cause.help {
        "" => error,
        help => error.help(help),
    }
}

/// The livepatch was made, and would be loaded for nothing: its new functions are called by none that
/// it changes.
pub(super) fn changes_nothing(name: &str, output: &str) -> Error {
    let what = format!("livepatch {name} changes no function of the kernel");
    let evidence: Vec<_> = findings(output).take(EVIDENCE_LINES).collect();
    Error::new(Blame::ModuleBuild, what)
        .evidence(&evidence.join("\n"))
        .help("let a function that the kernel has call what the patch adds")
}

const CORRECT: &str = "correct the patch";
const ITS_CONFIG: &str = "change the kernel's config: `lab build kernel NAME` builds it again";
const TREE: &str = "the kernel's klp-build or objtool cannot do it; look at the whole output";
const SETUP: &str = "`lab setup` installs it";
const NO_CODE: &str = "it changes comments, or code under an #ifdef that is off: change a function";
const NO_DATA: &str =
    "a livepatch changes no data in use: set it in a callback, or keep a shadow variable";
const NO_INIT: &str = "leave __init code out; with CONFIG_X86_KERNEL_IBT no jump table of other functions refers to it";
const NO_FILES: &str =
    "klp-build knows no new files in vmlinux: put the code into a file that is there";
const UNSUPPORTED: &str =
    "leave it out of the patch: klp-build takes no lib/, vDSO, real mode or assembly";
const REBASE: &str = "rebase the patch on the kernel's source; it is applied with `patch -p1`";

/// The cause, from the one who knows most of it.
fn cause(lines: &[&str]) -> Cause {
    let own = || lines.iter().filter_map(|line| own_error(line));
    let of_original = own().any(|error| error == "original kernel build failed");
    let find = |of: &dyn Fn(&str) -> Option<Cause>| lines.iter().find_map(|line| of(line));
    let found = find(&missing_tool)
        .or_else(|| does_not_apply(lines))
        .or_else(|| find(&compiler))
        .or_else(|| find(&objtool))
        .or_else(|| find(&linker))
        .or_else(|| own().find_map(klp_build))
        .or_else(|| find(&make))
        .or_else(|| find(&getopt));
    let mut cause = found.unwrap_or_else(|| unknown(lines));
    if of_original {
        cause.blame = Blame::Kernel;
        cause.help = "the kernel does not build in its own tree; look at the whole output";
    }
    cause
}

/// `error: klp-build: TEXT`, but for a trapped command's.
fn own_error(line: &str) -> Option<&str> {
    let text = line.strip_prefix("error: ")?;
    // bash's version is judged before klp-build knows its name.
    let own = text
        .strip_prefix(OWN)
        .or(text.starts_with("this script").then_some(text));
    own.filter(|_| trapped(line).is_none())
}

/// `error: klp-build: line 757: 'COMMAND'`: the command, which failed without a word of klp-build's.
fn trapped(line: &str) -> Option<&str> {
    let text = line.strip_prefix("error: ")?.strip_prefix(OWN)?;
    let (number, command) = text.strip_prefix("line ")?.split_once(": '")?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| command.trim_end_matches('\''))
}

/// Any error but klp-build's own, for the evidence.
fn is_error(line: &str) -> bool {
    ["error", "fatal error"]
        .iter()
        .any(|kind| says(line, kind).is_some())
        || is_hunk(line)
        || linker(line).is_some()
        || make(line).is_some()
}

/// `scripts/livepatch/klp-build: line 400: gawk: command not found`, and what mawk says of the scripts.
fn missing_tool(line: &str) -> Option<Cause> {
    let tool = line
        .strip_suffix(": command not found")
        .filter(|line| line.contains("klp-build: line "))
        .and_then(|line| line.rsplit(": ").next());
    let awk = line.starts_with("mawk: ") && line.contains("syntax error");
    let tool = tool.or(awk.then_some("gawk"))?;
    Some(Cause::new(Blame::Host, format!("{tool} is missing"), SETUP))
}

fn compiler(line: &str) -> Option<Cause> {
    let mut kinds = ["error", "fatal error"].into_iter();
    let (place, text) = kinds.find_map(|kind| says(line, kind))?;
    // objtool knows more, and of collect2 the linker does.
    let of_others = text.starts_with("objtool") || place == "collect2";
    (!of_others).then(|| Cause::new(Blame::ModuleBuild, line, CORRECT))
}

/// `vmlinux.o: error: objtool: changed data: jiffies`.
fn objtool(line: &str) -> Option<Cause> {
    // Without an object, objtool does not say which.
    let text = line.strip_prefix("error: ");
    let text = text.or_else(|| says(line, "error").map(|(_, text)| text))?;
    let text = text.strip_prefix("objtool")?.trim_start();
    // Of its own troubles it says where in its source: `[elf.c:9]: elf_open: …`.
    if text.starts_with('[') {
        return Some(Cause::new(Blame::Kernel, format!("objtool: {text}"), TREE));
    }
    let text = text.trim_start_matches(':').trim_start();
    let known = [
        ("changed data:", NO_DATA),
        ("can't patch or reference init code/data", NO_INIT),
        ("FILE symbol mismatch:", NO_FILES),
        ("unsupported static branch key", ""),
        ("unsupported static call key", ""),
        (
            "would create an undeclared module dependency",
            "let the patch do without that symbol",
        ),
    ];
    let known = known.iter().find(|(mark, _)| text.contains(mark));
    Some(match known {
        Some((_, help)) => Cause::new(Blame::ModuleBuild, text, help),
        None => Cause::new(Blame::Kernel, format!("objtool: {text}"), TREE),
    })
}

/// What the linker and modpost say.
fn linker(line: &str) -> Option<Cause> {
    let at = line.find("undefined reference to ");
    let place = at.map(|at| &line[..at]);
    let modpost = line.strip_prefix("ERROR: modpost: ");
    let is_said = |place: &str| !place.starts_with([' ', '#']) && !place.contains(['"', '\'']);
    match (at, place) {
        (Some(at), Some(place)) if is_said(place) => {
            Some(Cause::new(Blame::ModuleBuild, &line[at..], CORRECT))
        }
        _ => modpost.map(|text| Cause::new(Blame::ModuleBuild, text, CORRECT)),
    }
}

/// `make[3]: *** No rule to make target 'fs/new.o', needed by 'fs/built-in.a'.  Stop.`; that a recipe
/// failed says nothing.
fn make(line: &str) -> Option<Cause> {
    let (tool, text) = line.split_once(": *** ")?;
    let is_made = tool.starts_with("make") && text.starts_with("No rule");
    is_made.then(|| {
        Cause::new(
            Blame::ModuleBuild,
            text.trim_end_matches(".  Stop."),
            CORRECT,
        )
    })
}

/// A klp-build without an option that the lab needs.
fn getopt(line: &str) -> Option<Cause> {
    let text = line.strip_prefix("getopt: ")?;
    let what = format!("the kernel's klp-build: {text}");
    Some(Cause::new(
        Blame::Kernel,
        what,
        "the kernel's klp-build has no such option",
    ))
}

/// patch(1) says which hunk, klp-build which patch.
fn does_not_apply(lines: &[&str]) -> Option<Cause> {
    let end = lines
        .iter()
        .position(|line| own_error(line).is_some_and(|text| text.ends_with(" did not apply")))?;
    let patch = own_error(lines[end])?.trim_end_matches(" did not apply");
    let mut file = "";
    for line in &lines[..end] {
        if let Some(name) = line.strip_prefix("checking file ") {
            file = name;
        } else if is_hunk(line) {
            let what = match line.starts_with("Hunk #") {
                true => format!("{patch} does not apply: {file}: {line}"),
                false => format!("{patch} does not apply: {line}"),
            };
            return Some(Cause::new(
                Blame::ModuleBuild,
                what.trim_end_matches('.'),
                REBASE,
            ));
        }
    }
    Some(Cause::new(
        Blame::ModuleBuild,
        format!("{patch} does not apply"),
        REBASE,
    ))
}

fn is_hunk(line: &str) -> bool {
    line.starts_with("Hunk #") && line.contains("FAILED")
        || line.starts_with("can't find file to patch")
        || line.contains("malformed patch")
        || line.contains("previously applied")
        || line.contains("Only garbage was found")
}

/// What klp-build itself says, where it knows: its `die`s.
fn klp_build(text: &str) -> Option<Cause> {
    // Somebody else has said why.
    let of_others = [
        "klp diff failed",
        "klp checksum failed",
        "klp post-link failed",
        "kernel build failed",
    ];
    if of_others.iter().any(|end| text.ends_with(end)) {
        return None;
    }
    let known = [
        ("no changes detected", Blame::ModuleBuild, NO_CODE),
        ("unsupported patch to", Blame::ModuleBuild, UNSUPPORTED),
        ("not found (install", Blame::Host, SETUP),
        ("objtool not built with KLP support", Blame::Host, SETUP),
        (
            "Clang assembler version",
            Blame::Host,
            "install a newer clang",
        ),
        ("requires bash", Blame::Host, "install a newer bash"),
        ("not enabled", Blame::Kernel, ITS_CONFIG),
        ("not supported", Blame::Kernel, ITS_CONFIG),
        (".config", Blame::Kernel, ITS_CONFIG),
        ("syncconfig failed", Blame::Kernel, ITS_CONFIG),
        ("failed to get kernel version", Blame::Kernel, TREE),
        ("can't find fix-patch-lines", Blame::Kernel, TREE),
        ("missing ", Blame::Kernel, TREE),
    ];
    let known = known.iter().find(|(mark, ..)| text.contains(mark));
    Some(match known {
        Some(&(_, blame, help)) => Cause::new(blame, text, help),
        // Its options and its folders are the lab's to get right.
        None => Cause::new(Blame::Lab, format!("klp-build: {text}"), ""),
    })
}

/// Nobody has said why.
fn unknown(lines: &[&str]) -> Cause {
    let command = lines.iter().find_map(|line| trapped(line));
    let general = lines.iter().find_map(|line| own_error(line));
    let what = match (command, general) {
        (_, Some(text)) => text.to_owned(),
        (Some(command), None) => format!("a command of klp-build failed: {command}"),
        (None, None) => "klp-build made no module".to_owned(),
    };
    Cause::new(Blame::ModuleBuild, what, "look at the whole output")
}

#[cfg(test)]
mod tests;
