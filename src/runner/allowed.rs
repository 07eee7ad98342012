// SPDX-License-Identifier: MIT OR Apache-2.0
//! The splats that a scenario allows, and those of them that did not come.

use super::attempt::{Attempt, Played};
use super::live::Live;
use crate::context::Context;
use crate::error::Blame;
use crate::scenario::AllowedSplat;
use crate::verdict::Problem;
use crate::vm::console::Console;

/// Different splats of a run that are looked at.
const MOST: usize = 50;

impl Attempt<'_> {
    /// Says which of the allowed splats did not come. One that must come is a problem of the last
    /// step; whether there is any.
    pub(super) fn missed(&self, ctx: &Context, live: &Live, played: &mut Played) -> bool {
        let scenario = &self.of.scenario;
        let Some(last) = scenario.steps.last() else {
            return false;
        };
        let before = played.problems.len();
        for splat in missing(&live.machine.console, &scenario.allow_splats) {
            let title = &splat.title;
            if !splat.must {
                let run = &self.of.run;
                ctx.events.note(format!(
                    "{run}: the kernel did not say {title:?}, which `allow_splats` allows"
                ));
                continue;
            }
            let reason = &splat.reason;
            played.problems.push(Problem {
                step: scenario.steps.len(),
                line: last.line,
                label: last.action.label(),
                what: format!("the kernel has not said {title:?}, and must ({reason})"),
                blame: Blame::Kernel,
                help: None,
            });
        }
        played.problems.len() > before
    }
}

/// The allowed splats that are not on a console.
fn missing<'a>(console: &Console, allowed: &'a [AllowedSplat]) -> Vec<&'a AllowedSplat> {
    let mut titles: Vec<String> = Vec::new();
    while !allowed.is_empty() && titles.len() < MOST {
        let known: Vec<_> = titles.iter().map(String::as_str).collect();
        match console.splat(&known) {
            Some(splat) if !titles.contains(&splat.title) => titles.push(splat.title),
            _ => break,
        }
    }
    let came = |splat: &AllowedSplat| titles.iter().any(|title| title.contains(&splat.title));
    allowed.iter().filter(|splat| !came(splat)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_is_found_beside_what_did() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let warn = |file: &str| {
            format!(
                "[    1.0] ------------[ cut here ]------------\n\
                 [    1.0] WARNING: {file}:7 at f+0x1/0x2, CPU#0: insmod/1\n\
                 [    1.0] ---[ end trace 0000000000000000 ]---\n"
            )
        };
        std::fs::write(&path, warn("a.c") + &warn("b.c") + &warn("a.c")).unwrap();
        let console = Console::new(path);
        let allow = |title: &str| AllowedSplat {
            title: title.to_owned(),
            reason: "x".to_owned(),
            must: false,
        };
        let allowed = ["WARNING: a.c", "WARNING: c.c", "WARNING: b.c:7"].map(allow);
        let missing: Vec<_> = missing(&console, &allowed)
            .iter()
            .map(|splat| &*splat.title)
            .collect();
        assert_eq!(missing, ["WARNING: c.c"]);
    }
}
