// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holding a state against an `expect`. Pure.

use crate::scenario::Expect;
use crate::state::Observed;

/// Everything that is not as expected, one sentence each.
pub fn check(expect: &Expect, state: &Observed) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(wanted) = &expect.livepatches {
        let found = state.enabled();
        if found != *wanted {
            let (found, wanted) = (list(&found), list(wanted));
            problems.push(format!("livepatches are {found}, not {wanted}"));
        }
    }
    for (function, wanted) in &expect.calls {
        let found = state.calls.get(&function.to_string());
        if found != Some(&wanted.to_string()) {
            let found = found.map_or("cannot be called", |answer| answer);
            problems.push(format!("{function} answers {found}, not {wanted}"));
        }
    }
    for (name, wanted) in &expect.tags {
        let found = state
            .livepatch(name)
            .map_or("gone", |livepatch| &livepatch.replace);
        if found != wanted.to_string() {
            problems.push(format!("the tag of {name} reads {found}, not {wanted}"));
        }
    }
    if let Some(wanted) = &expect.modules {
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
    for (name, object, wanted) in &expect.patched {
        let livepatch = state.livepatch(name);
        let object_state =
            livepatch.and_then(|livepatch| livepatch.objects.iter().find(|o| o.name == *object));
        let found = object_state.map_or("absent", |object| &object.patched);
        let wanted = if *wanted { "1" } else { "0" };
        if found != wanted {
            problems.push(format!("{name}: {object}/patched is {found}, not {wanted}"));
        }
    }
    problems
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    format!("[{}]", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::FunctionRef;
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
            ..Observed::default()
        }
    }

    fn price() -> FunctionRef {
        FunctionRef {
            target: "shop".into(),
            function: "price".into(),
        }
    }

    #[test]
    fn a_state_as_expected_has_no_problems() {
        let expect = Expect {
            livepatches: Some(vec!["v1".into()]),
            calls: vec![(price(), 11)],
            modules: Some(vec!["v1".into(), "shop".into()]),
            patched: vec![("v1".into(), "shop".into(), true)],
            ..Expect::default()
        };
        assert_eq!(check(&expect, &state()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_said() {
        let expect = Expect {
            livepatches: Some(vec![]),
            calls: vec![(price(), 12)],
            tags: vec![("v1".into(), u32::MAX)],
            modules: Some(vec!["shop".into()]),
            patched: vec![("v1".into(), "vmlinux".into(), false)],
        };
        insta::assert_snapshot!(check(&expect, &state()).join("\n"), @r"
        livepatches are [v1], not []
        shop.price answers 11, not 12
        the tag of v1 reads -1, not 4294967295
        loaded modules are [shop, v1], not [shop]
        v1: vmlinux/patched is absent, not 0
        ");
    }
}
