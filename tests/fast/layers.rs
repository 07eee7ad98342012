// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folders of `src/` import in one direction: down the list in ARCHITECTURE.md. Inside a folder, no files
//! import each other in a circle.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says which exceptions are left"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Imports that go up and are still there: importer and imported. One that is gone must leave the list.
const KNOWN: [(&str, &str); 0] = [];

/// Imports that close a circle inside a folder and are still there: importer, imported and the reason. One
/// that closes none must leave the list.
const CIRCLES: [(&str, &str, &str); 0] = [];

/// A source of the crate that is not for tests only.
struct File {
    /// Below the crate's folder.
    file: PathBuf,
    module: Vec<String>,
    /// What it names, as paths from the crate's root.
    paths: Vec<Vec<String>>,
    /// What it takes from modules inside it: `vm::Qmp` may be `vm::qmp::Qmp`.
    taken: BTreeMap<Vec<String>, Vec<String>>,
}

impl File {
    fn new(file: PathBuf, module: Vec<String>, code: &str) -> Self {
        Self {
            file,
            paths: paths(code, &module),
            taken: taken(code, &module),
            module,
        }
    }
}

/// An import of one folder by a file of another one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    to: String,
    file: PathBuf,
    path: String,
}

#[test]
fn imports_go_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = layers(&fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let imports = imports(&sources(&root.join("src")));
    // The search itself works: there are hundreds.
    assert!(imports.len() > 100, "only {} imports found", imports.len());
    let folders: BTreeSet<&str> = imports.iter().map(|import| &*import.from).collect();
    let mut problems: Vec<String> = folders
        .iter()
        .filter(|folder| !layers.contains_key(**folder))
        .map(|folder| format!("src/{folder} is in no line of \"Layers\" in ARCHITECTURE.md"))
        .collect();
    let mut needed = BTreeSet::new();
    for Import {
        from,
        to,
        file,
        path,
    } in &imports
    {
        let (Some(above), Some(below)) = (layers.get(from), layers.get(to)) else {
            continue;
        };
        if above < below {
            continue;
        }
        if KNOWN.contains(&(from, to)) {
            println!("known exception: {} imports {path}", file.display());
            needed.insert((&**from, &**to));
            continue;
        }
        problems.push(format!(
            "{} imports {path}: {to} is not below {from}",
            file.display()
        ));
    }
    for (from, to) in KNOWN.iter().filter(|known| !needed.contains(*known)) {
        problems.push(format!(
            "{from} does not import {to} any more: take the exception out of this test"
        ));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The line of each folder in the list of ARCHITECTURE.md.
fn layers(text: &str) -> BTreeMap<String, usize> {
    let (_, section) = text.split_once("\n## Layers\n").unwrap();
    let list = section.split("```").nth(1).unwrap();
    let mut layers = BTreeMap::new();
    for (line, folders) in list.lines().enumerate() {
        for folder in folders.split_whitespace() {
            let earlier = layers.insert(folder.to_owned(), line);
            assert_eq!(earlier, None, "{folder} is in two layers");
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
            let is_there = source.join(folder).is_dir();
            let is_there = is_there || source.join(format!("{folder}.rs")).is_file();
            assert!(is_there, "{folder} is in the list and not in src/");
        }
    }
    layers
}

/// The imports between folders.
fn imports(sources: &[File]) -> BTreeSet<Import> {
    let mut imports = BTreeSet::new();
    for source in sources {
        let from = source.module.first().unwrap();
        for path in &source.paths {
            let to = path.first().unwrap();
            if to != from {
                imports.insert(Import {
                    from: from.clone(),
                    to: to.clone(),
                    file: source.file.clone(),
                    path: format!("crate::{}", path.join("::")),
                });
            }
        }
    }
    imports
}

#[test]
fn files_of_a_folder_import_in_no_circle() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let siblings = siblings(&sources);
    // The search itself works: there are hundreds.
    assert!(siblings.len() > 100, "only {} found", siblings.len());
    for (from, to, why) in CIRCLES {
        println!("known exception: {from} imports {to}: {why}");
    }
    let problems = circles(&siblings, &CIRCLES);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The imports that close a circle and are no exceptions, and the exceptions that close none.
fn circles(
    siblings: &BTreeSet<(String, String)>,
    exceptions: &[(&str, &str, &str)],
) -> Vec<String> {
    let is_known = |(from, to): &(String, String)| {
        let mut all = exceptions.iter();
        all.any(|(one, other, _)| one == from && other == to)
    };
    let (known, others): (BTreeSet<_>, BTreeSet<_>) = siblings.iter().cloned().partition(is_known);
    let closing = others.iter().filter(|(from, to)| leads(&others, to, from));
    let mut problems: Vec<String> = closing
        .map(|(from, to)| format!("{from} imports {to}, which leads back to {from}"))
        .collect();
    for (from, to, _) in exceptions {
        let is_there = known.contains(&((*from).to_owned(), (*to).to_owned()));
        if !is_there || !leads(&others, to, from) {
            problems.push(format!(
                "the import of {to} by {from} closes no circle: take the exception out of this test"
            ));
        }
    }
    problems
}

/// The imports between modules of one folder: of one of them, or of what is below it, by another one or by what is
/// below that.
fn siblings(sources: &[File]) -> BTreeSet<(String, String)> {
    let modules: BTreeSet<&[String]> = sources.iter().map(|source| &*source.module).collect();
    let taken: BTreeMap<_, _> = sources.iter().flat_map(|source| &source.taken).collect();
    let mut found = BTreeSet::new();
    for source in sources {
        let module = &source.module;
        for path in &source.paths {
            let pairs = module.iter().zip(path);
            let shared = pairs.take_while(|(one, other)| one == other).count();
            if shared == 0 || shared == module.len() || shared == path.len() {
                continue;
            }
            let named = path[..=shared].to_vec();
            let named = taken.get(&named).map_or(&*named, |path| &path[..=shared]);
            if modules.contains(named) && *named != module[..=shared] {
                found.insert((module[..=shared].join("::"), named.join("::")));
            }
        }
    }
    found
}

/// Whether imports lead from one module to another one.
fn leads(imports: &BTreeSet<(String, String)>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        let imported = imports.iter().filter(|(from, _)| from == module);
        next.extend(imported.map(|(_, to)| &**to).filter(|to| seen.insert(to)));
    }
    seen.contains(to)
}

/// The sources below a folder, without those for tests only, and without `lib.rs` and `main.rs`, which are
/// above everything.
fn sources(folder: &Path) -> Vec<File> {
    let files = files(folder);
    let tests: BTreeSet<PathBuf> = files.iter().flat_map(|file| test_files(file)).collect();
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| !tests.contains(*file)) {
        let below = file.strip_prefix(folder).unwrap();
        let module = module_of(below);
        if !module.is_empty() {
            let code = code(&fs::read_to_string(file).unwrap());
            sources.push(File::new(Path::new("src").join(below), module, &code));
        }
    }
    sources
}

/// All sources below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The files of modules that a source declares for tests only.
fn test_files(file: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(file).unwrap();
    let mut folder = file.parent().unwrap().to_path_buf();
    let stem = file.file_stem().unwrap();
    if stem != "mod" && stem != "lib" && stem != "main" {
        folder.push(stem);
    }
    let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.lines().next()?.trim();
        let (_, name) = line.strip_suffix(';')?.rsplit_once("mod ")?;
        Some(folder.join(format!("{name}.rs")))
    });
    declared.collect()
}

/// The path of a file's module: `kernel/mod.rs` is `kernel`, `kernel/build.rs` is `kernel::build`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(
        module.last().map(|last| &**last),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    module
}

/// A source without its unit tests and its comments.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {");
    let text = &text[..end.unwrap_or(text.len())];
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let lines = text.lines().filter(is_code);
    let lines = lines.map(|line| line.split(" // ").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// What a module names by `crate::` or `super::`, as paths from the crate's root.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // `crate::super::` is none, `super::super::` begins with the first.
            if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            let mut rest = &code[at..];
            let mut base = module.to_vec();
            if let Some(after) = rest.strip_prefix("crate::") {
                base.clear();
                rest = after;
            }
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            tree(rest, &base, &mut found);
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

/// What a module takes from modules inside it, by the path that it has then.
fn taken(code: &str, module: &[String]) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("use ") {
        let rest = &code[at + start.len()..];
        let is_outside = rest.starts_with("crate::") || rest.starts_with("super::");
        if !is_outside && !code[..at].ends_with(char::is_alphanumeric) {
            tree(rest, module, &mut found);
        }
    }
    let by_name = |path: Vec<String>| {
        let name = path.last().unwrap().clone();
        ([module, &[name]].concat(), path)
    };
    found.into_iter().map(by_name).collect()
}

/// Reads `a::b`, `{a, b::{c, d}}` and the like. Returns what follows.
fn tree<'a>(text: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = tree(rest, base, found).trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let name = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
    let end = text.find(|c| !name(c)).unwrap_or(text.len());
    let mut path = base.to_vec();
    if end > 0 && &text[..end] != "self" {
        path.push(text[..end].to_owned());
    }
    match text[end..].strip_prefix("::") {
        Some(rest) if end > 0 => tree(rest, &path, found),
        _ => {
            if end > 0 {
                found.push(path);
            }
            let rest = text[end..].trim_start();
            // `as other`
            match rest.strip_prefix("as ") {
                Some(other) => other.trim_start_matches(name),
                None => rest,
            }
        }
    }
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let module = ["kernel".to_owned(), "build".to_owned()];
    let read = |code: &str| -> Vec<String> {
        let paths = paths(code, &module);
        paths.iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(
        read("use crate::{arch::Arch, cache::{self, Key as K}, vm};"),
        ["arch::Arch", "cache", "cache::Key", "vm"]
    );
    assert_eq!(
        read("use super::{BUILD, source};"),
        ["kernel::BUILD", "kernel::source"]
    );
    assert_eq!(read("super::super::vm::Accel::Tcg"), ["vm::Accel::Tcg"]);
    assert_eq!(read("crate::host::find_tool(\"git\")"), ["host::find_tool"]);
    assert!(read("mycrate::x; $crate::y").is_empty());
}

#[test]
fn tests_and_comments_do_not_import() {
    let text =
        "//! crate::a\nuse crate::b; // crate::c\n#[cfg(test)]\nmod tests {\nuse crate::d;\n}\n";
    assert_eq!(code(text), "use crate::b;");
}

#[test]
fn a_circle_inside_a_folder_is_found() {
    let file = |module: &str, code: &str| {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        File::new(PathBuf::new(), module, code)
    };
    let found = siblings(&[
        file("vm", "pub use qmp::{self, Qmp}; use args::Parts;"),
        file(
            "vm::args",
            "use super::machine::Machine; use crate::arch::Arch;",
        ),
        file("vm::machine", "use crate::vm::{Accel, Qmp};"),
        file("vm::qmp", ""),
        file("vm::qmp::replies", "use crate::vm::args; use super::Qmp;"),
    ]);
    let expected = [
        ("vm::args", "vm::machine"),
        ("vm::machine", "vm::qmp"),
        ("vm::qmp", "vm::args"),
    ];
    assert_eq!(
        found,
        expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
    assert_eq!(circles(&found, &[]).len(), 3);
    assert!(circles(&found, &[("vm::qmp", "vm::args", "")]).is_empty());
    let needless = circles(
        &found,
        &[("vm::qmp", "vm::args", ""), ("vm::args", "vm::machine", "")],
    );
    assert_eq!(needless.len(), 2, "{needless:?}");
}
