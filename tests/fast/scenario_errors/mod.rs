// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users see when a scenario file is wrong: one fact per test.

mod expectations;
mod failures;
mod file;
mod modules;
mod steps;
mod story;

use livepatch_lab::scenario::{check, oddities, parse};
use livepatch_lab::yaml::Source;

/// The diagnostics of a broken file.
fn errors(text: &str) -> String {
    let source = Source::new("scenarios/test.yaml", text);
    match parse("test", &source) {
        Ok(scenario) => panic!("nothing is wrong with {scenario:?}"),
        Err(errors) => errors.render(&source, false),
    }
}

/// A file that is right up to its steps.
fn with_steps(steps: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
targets: {{ shop: {{ functions: {{ price: 10, stock: 20 }} }} }}
livepatches: {{ pricing-v1: {{ patches: {{ shop: {{ price: 11 }} }} }} }}
steps:
{steps}"
    ))
}

/// A file that is right but for its livepatches.
fn with_livepatches(livepatches: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
requires: {{ replace: tags }}
targets: {{ shop: {{ functions: {{ price: 10, stock: 20 }} }} }}
livepatches:
{livepatches}steps:
  - load: shop
"
    ))
}

/// A file that is right but for the functions of its target, in block style.
fn with_functions(functions: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
targets:
  shop:
    functions:
{functions}livepatches: {{ fix: {{ patches: {{ vmlinux: {{ f: {{ signature: int f(void), body: return 0; }} }} }} }} }}
steps:
  - load: shop
"
    ))
}

/// As [`with_steps`], with two functions `stock` and a livepatch that klp-build makes.
fn with_namesakes(steps: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
targets: {{ my-shop: {{ functions: {{ price: 10, \"stock,1\": 20, \"stock,2\": 21 }} }} }}
livepatches:
  fix:
    patches: {{ my-shop: {{ price: 11 }} }}
    callbacks: {{ kvm-intel: {{ pre_patch: log }} }}
  built: {{ klp-build: built.patch }}
steps:
{steps}"
    ))
}

/// A file that is right up to where it is known to fail.
fn with_failures(failures: &str) -> String {
    errors(&format!(
        "version: 1
summary: A test.
livepatches: {{ fix: {{ klp-build: fix.patch }} }}
steps:
  - {{ name: first, load: fix }}
  - {{ name: second, disable: fix }}
  - unload: fix
expect_failure:
{failures}"
    ))
}

/// A file in which each step is right by itself, with three livepatches.
fn with_story(steps: &str) -> String {
    let text = format!(
        "version: 1
summary: A test.
targets: {{ shop: {{ functions: {{ price: 10, stock: 20 }} }} }}
livepatches:
  v1: {{ replace: false, patches: {{ shop: {{ price: 11 }} }} }}
  v2: {{ replace: true, patches: {{ shop: {{ price: 12 }} }} }}
  v3: {{ replace: true, patches: {{ shop: {{ stock: 23 }} }} }}
  built: {{ klp-build: built.patch }}
  own: kselftest
steps:
{steps}"
    );
    let source = Source::new("scenarios/test.yaml", text);
    if let Err(errors) = parse("test", &source) {
        panic!("{}", errors.render(&source, false));
    }
    match check("test", &source) {
        Ok(_) => oddities("test", &source).render(&source, false),
        Err(errors) => errors.render(&source, false),
    }
}
