// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenario files: what of them gets to the host's file system and programs, and to a guest.

use std::collections::BTreeSet;
use std::path::Path;

use livepatch_lab::export::kselftest;
use livepatch_lab::module::generate::{SourceFile, sources};
use livepatch_lab::scenario::{Action, Code, Scenario, parse};
use livepatch_lab::state::Names;
use livepatch_lab::step::{DynamicDebug, KlpBuild, Load, Write};
use livepatch_lab::visible::is_hidden;
use livepatch_lab::yaml::Source;

use super::assert_shows;

/// A scenario file of a bug report.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let source = Source::new("scenarios/fuzz.yaml", text);
    match parse("fuzz", &source) {
        Ok(scenario) => {
            files(&scenario);
            command_lines(&scenario);
            requests(&scenario);
            exported(&scenario);
            assert_shows(&scenario.summary);
            assert!(scenario.steps.len() <= 300 && scenario.livepatches.len() <= 100);
            let _ = Names::of(&scenario);
        }
        Err(diagnostics) => {
            let text = diagnostics.render(&source, false);
            assert!(!diagnostics.is_empty() && !text.is_empty());
            assert_shows(&text);
            assert!(diagnostics.iter().count() <= 100);
        }
    }
}

/// A word that no shell and no make takes for more than itself.
fn assert_plain(word: &str, besides: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c) || besides.contains(c);
    assert!(word.chars().all(plain), "{word:?}");
}

/// A name that is one in a folder, and no option of a program.
fn assert_file_name(name: &str) {
    assert_plain(name, ".");
    assert!(
        !name.is_empty() && !name.starts_with(['.', '-']),
        "{name:?}"
    );
}

/// Generated files: each once, in its folder, and nothing in a Kbuild file but names of its own.
fn files(scenario: &Scenario) {
    let files = sources(scenario);
    let mut seen = BTreeSet::new();
    for file in &files {
        assert_file_name(&file.name);
        assert!(seen.insert(&file.name), "{} is there twice", file.name);
    }
    let kbuild = files.iter().find(|file| file.name == "Kbuild");
    kbuild_lines(&kbuild.expect("a Kbuild").text, &seen);
}

fn kbuild_lines(text: &str, files: &BTreeSet<&String>) {
    let mut modules = BTreeSet::new();
    for line in text.lines().skip(1) {
        if let Some(module) = line.strip_prefix("obj-m += ") {
            let name = module.strip_suffix(".o").expect("an object");
            assert_file_name(name);
            assert!(!name.contains(['-', '.']), "{name:?}");
            assert!(modules.insert(name), "{name} is there twice");
            continue;
        }
        let (name, objects) = line.split_once("-y := ").expect("the parts of a module");
        assert!(modules.contains(name), "{line:?} is of no module");
        // What Kbuild takes from the lists of these names is no module.
        for own in [
            "obj", "lib", "subdir", "extra", "always", "ccflags", "ldflags",
        ] {
            assert_ne!(name, own);
        }
        for object in objects.split(' ') {
            let source = format!("{}.c", object.strip_suffix(".o").expect("an object"));
            assert!(files.contains(&source), "{source} is not generated");
        }
    }
}

/// What programs on the host are called with: make with folders and modules, klp-build with options
/// and patches.
fn command_lines(scenario: &Scenario) {
    // QEMU gets them in one argument, without a shell.
    assert_plain(&scenario.machine.append, " .,:=/+@%*~^");
    assert!(scenario.machine.append.len() <= 512);
    for module in scenario.from_kselftest() {
        assert_file_name(module);
    }
    for target in &scenario.targets {
        assert_file_name(&target.name);
    }
    for livepatch in &scenario.livepatches {
        assert_file_name(&livepatch.name);
        if let Code::KlpBuild { patches } = &livepatch.code {
            assert!(!patches.is_empty());
        }
    }
    for (_, patches) in scenario.from_klp_build() {
        for patch in patches {
            assert!(patch.starts_with(Path::new("scenarios")), "{patch:?}");
            assert!(!patch.components().any(|part| part.as_os_str() == ".."));
            assert_plain(&patch.to_string_lossy(), "./+,=");
        }
    }
    for step in &scenario.steps {
        if let Action::KlpBuild(KlpBuild { options, .. }) = &step.action {
            for option in options {
                assert_plain(option, ".+,=");
            }
        }
    }
}

/// A request to the guest is one line, its fields separated by tabs.
fn requests(scenario: &Scenario) {
    let field = |text: &str| assert!(!text.contains(is_hidden), "{text:?}");
    for step in &scenario.steps {
        field(&step.action.label());
        if let Some(file) = &step.requires {
            field(file);
        }
        if let Some(path) = step.action.effects().file {
            field(path);
            let inside = ["/proc/", "/sys/", "/dev/"];
            assert!(inside.iter().any(|root| path.starts_with(root)), "{path:?}");
            assert!(!path.split('/').any(|part| part == ".."), "{path:?}");
        }
        match &step.action {
            Action::Load(Load { params, .. }) => {
                for (name, value) in params {
                    field(name);
                    field(value);
                    // The kernel would take what follows for another parameter.
                    assert!(!value.contains([' ', '"']), "{value:?}");
                }
            }
            Action::Write(Write { data, .. }) => field(data),
            Action::DynamicDebug(DynamicDebug { queries }) => {
                queries.iter().for_each(|query| field(query));
            }
            // What the others give to the guest is in their labels.
            _ => {}
        }
    }
}

/// An export is a script, its Makefile and sources, in two folders; make expands nothing in it that
/// an export of nothing has not.
fn exported(scenario: &Scenario) {
    let Ok(files) = kselftest(scenario) else {
        return;
    };
    for SourceFile { name, text } in &files {
        let name = name.strip_prefix("test_modules/").unwrap_or(name);
        assert_file_name(name);
        if name != "Makefile" {
            continue;
        }
        let own = |line: &&str| !line.contains("-y := ");
        let expansions = text.lines().filter(own).flat_map(|line| line.matches('$'));
        assert_eq!(expansions.count(), EXPANSIONS, "{text}");
        for line in text.lines().filter(|line| !own(line)) {
            assert!(!line.contains('$'), "{line:?}");
        }
    }
}

/// How often the Makefile of an export of nothing has a `$`.
const EXPANSIONS: usize = 18;
