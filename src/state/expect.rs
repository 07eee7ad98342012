// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holding a state against an `expect`. Pure.

use super::log::{StepLog, unescaped};
use super::observed::Observed;
use crate::scenario::Expect;

/// Everything that is not as expected, one sentence each. `said` is the kernel's whole log of the
/// step; the state has the part of it that is the same in every run.
pub fn check(expect: &Expect, state: &Observed, said: &StepLog) -> Vec<String> {
    let Expect {
        livepatches,
        calls,
        tags,
        modules,
        patched,
        stack_order,
        transition,
        enabled_functions,
        log,
        whole_log,
        not_in_log,
        traced,
    } = expect;
    let mut problems = Vec::new();
    if let Some(wanted) = livepatches {
        let found = state.enabled();
        if found != *wanted {
            let (found, wanted) = (list(&found), list(wanted));
            problems.push(format!("livepatches are {found}, not {wanted}"));
        }
    }
    for (function, wanted) in calls {
        let found = state.calls.get(&function.to_string());
        if found != Some(&wanted.to_string()) {
            problems.push(
                match (found, state.modules.contains_key(&function.object)) {
                    (Some(found), _) => format!("{function} answers {found}, not {wanted}"),
                    (None, true) => {
                        format!("{function} cannot be called, and must answer {wanted}")
                    }
                    (None, false) => {
                        let target = &function.object;
                        format!("{target} is not loaded, and {function} must answer {wanted}")
                    }
                },
            );
        }
    }
    for (name, wanted) in tags {
        let found = state
            .livepatch(name)
            .map_or("gone", |livepatch| &livepatch.replace);
        if found != wanted.to_string() {
            problems.push(format!("the tag of {name} reads {found}, not {wanted}"));
        }
    }
    if let Some(wanted) = modules {
        let found: Vec<&str> = state.modules.keys().map(String::as_str).collect();
        let mut wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        if found != wanted {
            problems.push(format!(
                "loaded modules are {}, not {}",
                list(&found),
                list(&wanted)
            ));
        }
    }
    for (name, object, wanted) in patched {
        let livepatch = state.livepatch(name);
        let object_state =
            livepatch.and_then(|livepatch| livepatch.objects.iter().find(|o| o.name == *object));
        let found = object_state.map_or("absent", |object| &object.patched);
        let wanted = if *wanted { "1" } else { "0" };
        if found != wanted {
            problems.push(format!("{name}: {object}/patched is {found}, not {wanted}"));
        }
    }
    for (name, wanted) in stack_order {
        let found = state
            .livepatch(name)
            .map_or("gone", |livepatch| &livepatch.stack_order);
        if found != wanted.to_string() {
            problems.push(format!("stack_order of {name} is {found}, not {wanted}"));
        }
    }
    if let Some(wanted) = transition {
        let found = state.in_transition();
        if found != wanted.as_deref() {
            let (found, wanted) = (found.unwrap_or("none"), wanted.as_deref().unwrap_or("none"));
            problems.push(format!("in transition is {found}, not {wanted}"));
        }
    }
    if let Some(wanted) = enabled_functions {
        let mut wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        wanted.sort_unstable();
        if state.handlers != wanted {
            let (found, wanted) = (list(&state.handlers), list(&wanted));
            problems.push(format!("enabled_functions are {found}, not {wanted}"));
        }
    }
    if let Some(wanted) = said.lacks(log) {
        let lost = if said.is_cut() { LOST } else { "" };
        let problem = format!("the log lacks {wanted:?}, or not in this order{lost}");
        problems.push(problem);
    }
    if let Some(wanted) = whole_log
        && !(state.log.len() == wanted.len() && state.log.iter().zip(wanted).all(is_line))
    {
        problems.push(log_difference(&state.log, wanted));
    } else if whole_log.is_some() && said.is_cut() {
        problems.push(format!("whether that is the whole log is unknown{LOST}"));
    }
    if let Some(wanted) = traced {
        let mut wanted = wanted.clone();
        wanted.sort_unstable();
        if state.traced != wanted {
            let (found, wanted) = (list(&state.traced), list(&wanted));
            problems.push(format!("traced functions are {found}, not {wanted}"));
        }
    }
    for unwanted in not_in_log {
        match said.with(unwanted) {
            Some(line) => {
                problems.push(format!("the log says {line:?}, with {unwanted:?} in it"));
            }
            None if said.is_cut() => {
                problems.push(format!(
                    "whether the log says {unwanted:?} is unknown{LOST}"
                ));
            }
            None => {}
        }
    }
    problems
}

/// More was said in the step than the guest's log or an answer holds.
const LOST: &str = " (lines of it were lost: too much was said in this step)";

/// Whether a line is the one that is wanted, as it was printed or as `/dev/kmsg` has it.
fn is_line((found, wanted): (&String, &String)) -> bool {
    found == wanted || unescaped(found) == *wanted
}

/// The first line that differs.
fn log_difference(found: &[String], wanted: &[String]) -> String {
    let same = found
        .iter()
        .zip(wanted)
        .take_while(|pair| is_line(*pair))
        .count();
    let number = same + 1;
    match (found.get(same), wanted.get(same)) {
        (Some(found), Some(wanted)) => {
            format!("line {number} of the log says {found:?}, not {wanted:?}")
        }
        (Some(found), None) => format!("the log goes on with {found:?}"),
        (None, wanted) => {
            let wanted = wanted.map_or("", String::as_str);
            format!("the log ends before {wanted:?}")
        }
    }
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    format!("[{}]", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{FunctionRef, Symbol};
    use crate::state::{Livepatch, Object};

    fn state() -> Observed {
        let livepatch = Livepatch {
            name: "v1".into(),
            enabled: "1".into(),
            replace: "-1".into(),
            objects: vec![Object {
                name: "shop".into(),
                patched: "1".into(),
                functions: vec![],
            }],
            ..Livepatch::default()
        };
        Observed {
            livepatches: vec![livepatch],
            modules: [("shop".into(), "0".into()), ("v1".into(), "1".into())].into(),
            calls: [("shop.price".into(), "11".into())].into(),
            handlers: vec!["shop.price".into()],
            log: vec!["enabling patch 'v1'".into(), "patching complete".into()],
            ..Observed::default()
        }
    }

    fn said() -> StepLog {
        StepLog::parse(
            "kmsg\t5,1,1,-\tlivepatch: enabling patch 'v1'\n\
             kmsg\t5,2,1,-\tlivepatch: signaling remaining tasks\n\
             kmsg\t6,3,1,-\toom: adjusted\n\
             kmsg\t5,4,1,-\tlivepatch: patching complete\n",
        )
    }

    fn problems(expect: &Expect) -> Vec<String> {
        check(expect, &state(), &said())
    }

    fn price() -> FunctionRef {
        FunctionRef {
            object: "shop".into(),
            symbol: Symbol {
                name: "price".into(),
                sympos: 0,
            },
        }
    }

    #[test]
    fn a_state_as_expected_has_no_problems() {
        let expect = Expect {
            livepatches: Some(vec!["v1".into()]),
            calls: vec![(price(), 11)],
            modules: Some(vec!["v1".into(), "shop".into()]),
            patched: vec![("v1".into(), "shop".into(), true)],
            transition: Some(None),
            enabled_functions: Some(vec![price()]),
            log: vec!["enabling".into(), "complete".into()],
            not_in_log: vec!["failed".into()],
            ..Expect::default()
        };
        assert_eq!(problems(&expect), [""; 0]);
    }

    #[test]
    fn a_target_that_is_not_loaded_is_not_just_silent() {
        let expect = Expect {
            calls: vec![(price(), 12)],
            ..Expect::default()
        };
        let mut state = state();
        state.calls.clear();
        let silent = "shop.price cannot be called, and must answer 12";
        assert_eq!(check(&expect, &state, &said()), [silent]);
        state.modules.clear();
        let missing = "shop is not loaded, and shop.price must answer 12";
        assert_eq!(check(&expect, &state, &said()), [missing]);
    }

    #[test]
    fn every_difference_is_said() {
        let expect = Expect {
            livepatches: Some(vec![]),
            calls: vec![(price(), 12)],
            tags: vec![("v1".into(), u32::MAX)],
            modules: Some(vec!["shop".into()]),
            patched: vec![("v1".into(), "vmlinux".into(), false)],
            stack_order: vec![("v1".into(), 2)],
            transition: Some(Some("v1".into())),
            enabled_functions: Some(vec![]),
            log: vec!["complete".into(), "enabling".into()],
            whole_log: Some(vec!["enabling patch 'v1'".into()]),
            traced: Some(vec!["price".into()]),
            not_in_log: vec!["complete".into()],
        };
        insta::assert_snapshot!(problems(&expect).join("\n"), @r#"
        livepatches are [v1], not []
        shop.price answers 11, not 12
        the tag of v1 reads -1, not 4294967295
        loaded modules are [shop, v1], not [shop]
        v1: vmlinux/patched is absent, not 0
        stack_order of v1 is , not 2
        in transition is none, not v1
        enabled_functions are [shop.price], not []
        the log lacks "enabling", or not in this order
        the log goes on with "patching complete"
        traced functions are [], not [price]
        the log says "livepatch: patching complete", with "complete" in it
        "#);
    }

    #[test]
    fn parts_are_looked_for_in_all_that_the_kernel_said() {
        let log = |parts: &[&str]| Expect {
            log: parts.iter().map(|&part| part.to_owned()).collect(),
            ..Expect::default()
        };
        // What varies, what the kernel itself said, and whole lines.
        let all = [
            "livepatch: enabling",
            "signaling remaining tasks",
            "oom: adjusted",
            "complete",
        ];
        assert_eq!(problems(&log(&all)), [""; 0]);
        let not = |part: &str| Expect {
            not_in_log: vec![part.to_owned()],
            ..Expect::default()
        };
        for part in all {
            assert!(
                problems(&not(part))[0].starts_with("the log says "),
                "{part}"
            );
        }
        // All lines are those that are the same in every run.
        let whole = Expect {
            whole_log: Some(state().log),
            ..Expect::default()
        };
        assert_eq!(problems(&whole), [""; 0]);
    }

    #[test]
    fn what_a_log_that_lost_lines_lacks_is_unknown() {
        let expect = Expect {
            log: vec!["x".into()],
            whole_log: Some(state().log),
            not_in_log: vec!["x".into(), "adjusted".into()],
            ..Expect::default()
        };
        let cut = StepLog::parse("log-lost\t\nkmsg\t6,3,1,-\toom: adjusted\n");
        insta::assert_snapshot!(check(&expect, &state(), &cut).join("\n"), @r#"
        the log lacks "x", or not in this order (lines of it were lost: too much was said in this step)
        whether that is the whole log is unknown (lines of it were lost: too much was said in this step)
        whether the log says "x" is unknown (lines of it were lost: too much was said in this step)
        the log says "oom: adjusted", with "adjusted" in it
        "#);
    }

    #[test]
    fn a_whole_line_is_as_it_was_printed_or_as_kmsg_has_it() {
        let state = Observed {
            log: vec![r"shop: f\xc3\xbcr".into()],
            ..Observed::default()
        };
        for line in ["shop: für", r"shop: f\xc3\xbcr"] {
            let expect = Expect {
                whole_log: Some(vec![line.into()]),
                ..Expect::default()
            };
            assert_eq!(check(&expect, &state, &said()), [""; 0]);
        }
    }
}
