// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consoles of real guests, in `splats/`: the recogniser must find in each what its first lines
//! say. `none` is a console on which nothing is wrong.

use std::fs;
use std::path::Path;

use livepatch_lab::vm::splat::Finder;

#[test]
fn the_recogniser_finds_what_is_on_real_consoles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/splats");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 30);
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let mut lines = text.lines();
        let wanted = lines.next().unwrap();
        let mut finder = Finder::default();
        lines.for_each(|line| finder.line(line));
        let found = match finder.finish() {
            Some(splat) => {
                let fatal = if splat.fatal { ", fatal" } else { "" };
                format!("{}{fatal}: {}", splat.kind, splat.title)
            }
            None => "none".to_owned(),
        };
        if found != wanted {
            wrong.push(format!("{}: {found:?}, not {wanted:?}", file.display()));
        }
    }
    assert_eq!(wrong, [""; 0]);
}
