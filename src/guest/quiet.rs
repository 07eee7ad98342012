// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for what modules have left behind: timers, deferred work, tasks that sleep for a time, RCU
//! callbacks. A module that is gone makes an oops of each, and a passed run would not see it.

use std::time::Duration;

use super::{Answer, Guest, Silence};
use crate::visible::visible;

/// How long the guest goes on for what is pending.
const LIMIT: Duration = Duration::from_secs(3);
/// How long it goes on if its kernel does not show what is pending: without `CONFIG_PROC_KCORE` or
/// `CONFIG_KALLSYMS_ALL`.
const BLIND: Duration = Duration::from_millis(2500);
/// The first version of the protocol with the verb `quiet`.
const SINCE: u32 = 3;
/// Where the agent looks for symbols before it reads all of `/proc/kallsyms`.
const SYMBOLS: &str = "/lab/symbols";
/// What the agent needs to know the place of; see `symbols` in images/guest/agent.c.
const WANTED: [&str; 8] = [
    "_text",
    "_end",
    "__per_cpu_offset",
    "process_timeout",
    "hrtimer_wakeup",
    "timer_bases",
    "hrtimer_bases",
    "rcu_data",
];
/// The most kinds of pending things that are named.
const NAMED: usize = 3;
/// The time was over.
const ETIMEDOUT: i32 = 110;

impl Guest {
    /// Waits as long as a timer, a sleeping task or an RCU callback of a module is pending, for
    /// three seconds of the guest at most. Returns what still is, in words. `system_map` is the
    /// kernel's, or empty.
    pub async fn quiet(&self, system_map: &str) -> Answer<Option<String>> {
        if self.protocol < SINCE {
            return Ok(None);
        }
        let symbols = excerpt(system_map);
        if !symbols.is_empty() {
            // Without them the agent finds its own.
            self.put(SYMBOLS, symbols.as_bytes()).await?;
        }
        let millis = [LIMIT, BLIND].map(|limit| limit.as_millis().to_string());
        let args = millis.each_ref().map(String::as_str);
        let (errno, pending) = self.ask("quiet", &args, &[], LIMIT + self.limit).await?;
        match errno {
            ETIMEDOUT if pending.is_empty() => Err(Silence::Nonsense("quiet: nothing".into())),
            ETIMEDOUT => Ok(Some(named(&pending))),
            _ => Ok(None),
        }
    }
}

/// The lines of a `System.map` with the wanted symbols, and after each the next one, where it ends.
fn excerpt(system_map: &str) -> String {
    let is_wanted = |line: &str| {
        let name = line.rsplit(' ').next().unwrap_or_default();
        WANTED.contains(&name)
    };
    let (mut excerpt, mut open) = (String::new(), None);
    for line in system_map.lines() {
        let address = line.split(' ').next().unwrap_or_default();
        let ends = open.is_some_and(|begin| begin != address);
        if ends || is_wanted(line) {
            excerpt.push_str(line);
            excerpt.push('\n');
        }
        if is_wanted(line) {
            open = Some(address);
        } else if ends {
            open = None;
        }
    }
    excerpt
}

/// `timer\t0xffffffffc0402000` a line → `2 timers (0xffffffffc0402000, …), 1 RCU callback (…)`.
fn named(pending: &str) -> String {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in pending.lines() {
        let (kind, address) = line.split_once('\t').unwrap_or((line, "?"));
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, addresses)) => addresses.push(address),
            None => kinds.push((kind, vec![address])),
        }
    }
    let kinds = kinds.iter().take(NAMED).map(|(kind, addresses)| {
        let plural = if addresses.len() == 1 { "" } else { "s" };
        let more = if addresses.len() == 1 { "" } else { ", …" };
        format!(
            "{} {kind}{plural} of {}{more}",
            addresses.len(),
            addresses[0]
        )
    });
    visible(&kinds.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_looks_for_these_symbols() {
        let agent = include_str!("../../images/guest/agent.c");
        for name in WANTED {
            assert!(
                agent.contains(&format!("{{ .name = \"{name}\" }}")),
                "{name}"
            );
        }
        assert_eq!(agent.matches("{ .name = ").count(), WANTED.len());
        assert!(agent.contains(&format!("#define SYMBOLS \"{SYMBOLS}\"")));
    }

    #[test]
    fn an_excerpt_has_each_symbol_and_what_ends_it() {
        let map = "ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff81000000 T x\n\
                   ffffffff81000010 T y\nffffffff81000020 T z\nffffffff81c5da40 d timer_bases\n\
                   ffffffff81c611c0 D hrtimer_bases\nffffffff81c6d6c0 d rcu_state\n";
        let lines = [
            "ffffffff81000000 T _text",
            "ffffffff81000010 T y",
            "ffffffff81c5da40 d timer_bases",
            "ffffffff81c611c0 D hrtimer_bases",
            "ffffffff81c6d6c0 d rcu_state",
        ];
        assert_eq!(excerpt(map).lines().collect::<Vec<_>>(), lines);
        assert_eq!(excerpt(""), "");
    }

    #[test]
    fn what_is_pending_is_counted_by_kind() {
        let pending = "timer\t0xffffffffa0002000\nRCU callback\t0x1\ntimer\t0x2\n";
        assert_eq!(
            named(pending),
            "2 timers of 0xffffffffa0002000, …, 1 RCU callback of 0x1"
        );
        assert!(!named("\u{1b}[2J\t0x1\n").contains('\u{1b}'));
    }
}
