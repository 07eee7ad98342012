// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folders of `src/` import in one direction: down the list in ARCHITECTURE.md.
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
    let imports = imports(&root.join("src"));
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

/// The imports between folders in the sources below a folder.
fn imports(source: &Path) -> BTreeSet<Import> {
    let files = files(source);
    let tests: BTreeSet<PathBuf> = files.iter().flat_map(|file| test_files(file)).collect();
    let mut imports = BTreeSet::new();
    for file in files.iter().filter(|file| !tests.contains(*file)) {
        let below = file.strip_prefix(source).unwrap();
        let module = module_of(below);
        // `lib.rs` and `main.rs` are above everything.
        let Some(from) = module.first().cloned() else {
            continue;
        };
        for path in paths(&code(&fs::read_to_string(file).unwrap()), &module) {
            let to = path.first().unwrap();
            if *to != from {
                imports.insert(Import {
                    from: from.clone(),
                    to: to.clone(),
                    file: Path::new("src").join(below),
                    path: format!("crate::{}", path.join("::")),
                });
            }
        }
    }
    imports
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
