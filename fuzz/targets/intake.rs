// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes with a report of a stranger: modules, and the text itself.

use std::collections::BTreeMap;

use livepatch_lab::arch::Arch;
use livepatch_lab::import::{Request, import};
use livepatch_lab::module::prebuilt::{KernelFacts, Ko, findings};
use livepatch_lab::scenario::parse;
use livepatch_lab::yaml::Source;

use super::assert_shows;

/// A module that somebody else has built.
pub fn module(data: &[u8]) {
    let ko = match Ko::read(data) {
        Ok(ko) => ko,
        Err(why) => return assert_shows(&why),
    };
    let texts = ko.info.iter().flat_map(|(key, value)| [key, value]);
    let symbols = ko
        .undefined
        .iter()
        .chain(&ko.exports)
        .chain(ko.symbols.keys());
    for text in texts.chain(symbols).chain([&ko.name]) {
        assert_shows(text);
        assert!(!text.contains('\n'), "{text:?}");
    }
    // What it is made of was in the file, each byte of which can become a few.
    let functions = ko.patch.iter().flat_map(|patch| &patch.objects);
    assert!(
        functions
            .map(|object| object.functions.len())
            .sum::<usize>()
            <= data.len()
    );
    let kernel = KernelFacts {
        vermagic: "7.3.4 SMP ".to_owned(),
        modversions: ko.is_signed,
        only_signed: true,
        exports: Some(BTreeMap::new()),
        symbols: Some(BTreeMap::new()),
    };
    for arch in Arch::ALL {
        let found = findings(&ko, "x.ko", &kernel, arch, &[&ko]);
        assert!(arch == ko.arch || found.len() == 1);
        for finding in found {
            assert!(finding.details.len() <= 13);
            for line in finding.details.iter().chain([&finding.what, &finding.help]) {
                assert_shows(line);
            }
        }
    }
}

/// The commands of a report.
pub fn report(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let request = Request {
        text: &text,
        from: "report.txt",
        test: None,
        files: &BTreeMap::new(),
    };
    let Some(imported) = import(&request) else {
        return;
    };
    assert_shows(&imported.yaml);
    for line in &imported.unknown {
        assert_shows(&line.text);
        assert!(line.line >= 1 && line.line <= text.lines().count());
    }
    // A scenario has no mistakes, unless the report is longer than a scenario may be.
    let source = Source::new("x.yaml", imported.yaml.clone());
    if let Err(mistakes) = parse("x", &source) {
        let too_many = |text: &str| text.ends_with("are the most");
        let all = mistakes.iter().all(|mistake| too_many(&mistake.message));
        assert!(
            all,
            "{}\n{}",
            imported.yaml,
            mistakes.render(&source, false)
        );
    }
}
