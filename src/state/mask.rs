// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario masks: parts of log lines and results that are not the same twice, such as
//! addresses and jiffies. And what looks like an address, which forks of one template have in common
//! although other guests have another one. Pure.

use std::ops::Range;

use super::observed::Observed;
use crate::scenario::Mask;

/// How the lines of a state begin that can be masked.
const LOG: &str = "log ";
const RESULT: &str = "result: ";
/// Bytes of what a `*` before another part of a mask stands for, at the most.
const WORD: usize = 64;
/// Digits of an address on a machine of 64 bits, as `%p` and `%px` print it.
const ADDRESS: usize = 16;
/// Where a kernel is; above that are errnos (`include/linux/err.h: MAX_ERRNO`).
const KERNEL: Range<u64> = 0xffff_0000_0000_0000..0xffff_ffff_ffff_f001;
/// `%p` shows 32 bits of a hash (`lib/vsprintf.c: __ptr_to_hashval()`). Smaller numbers are rather flags.
const HASHES: Range<u64> = 0x1_0000..0x1_0000_0000;

/// Masks the log lines and the result of a state. A mask is written as a snapshot shows the line.
pub fn apply(state: &mut Observed, masks: &[Mask]) {
    for line in &mut state.log {
        *line = masked(LOG, line, masks);
    }
    if let Some(result) = &mut state.result {
        let lines = result.split('\n').enumerate();
        let lines = lines.map(|(at, line)| masked(if at == 0 { RESULT } else { "" }, line, masks));
        *result = lines.collect::<Vec<_>>().join("\n");
    }
}

/// The line that a state shows after `start`, with every mask in place of what it covers.
fn masked(start: &str, line: &str, masks: &[Mask]) -> String {
    let mut shown = format!("{start}{line}");
    for mask in masks {
        shown = replace(&shown, &mask.text);
    }
    // A mask has its own words in its place, so that the start is still there.
    shown.strip_prefix(start).unwrap_or(line).to_owned()
}

/// A line with the pattern itself wherever the line is as the pattern says.
fn replace(line: &str, pattern: &str) -> String {
    let parts: Vec<_> = pattern.split('*').collect();
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(parts[0]).filter(|_| !parts[0].is_empty()) {
        let (before, from) = rest.split_at(at);
        out += before;
        match length(from, &parts) {
            Some(length) => {
                out += pattern;
                rest = &from[length..];
            }
            None => {
                out += parts[0];
                rest = &from[parts[0].len()..];
            }
        }
    }
    out + rest
}

/// Bytes that the parts cover from the beginning of a text. Between two parts is at least one
/// character and no space; after the last one, all up to the next space.
fn length(text: &str, parts: &[&str]) -> Option<usize> {
    let mut at = parts[0].len();
    for (number, part) in parts.iter().enumerate().skip(1) {
        let rest = &text[at..];
        let first = rest.chars().next().filter(|&c| c != ' ')?.len_utf8();
        if part.is_empty() && number + 1 == parts.len() {
            return Some(at + rest.find(' ').unwrap_or(rest.len()));
        }
        let near = &rest[first..rest.floor_char_boundary(WORD + part.len())];
        let found = near
            .find(part)
            .filter(|&found| !near[..found].contains(' '))?;
        at += first + found + part.len();
    }
    Some(at)
}

/// The lines of a run's states that have something like an address in them.
pub fn with_addresses(text: &str) -> Vec<&str> {
    let can_be = |line: &&str| {
        [LOG, RESULT]
            .iter()
            .any(|start| line.trim().starts_with(start))
    };
    let lines = text.lines().filter(can_be);
    lines
        .filter(|line| has_address(line))
        .map(str::trim)
        .collect()
}

/// Whether a line has an address of the kernel, or what `%p` makes of one.
fn has_address(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let digits = words.map(|word| word.strip_prefix("0x").unwrap_or(word));
    let mut numbers = digits
        .filter(|word| word.len() == ADDRESS)
        .filter_map(|word| u64::from_str_radix(word, 16).ok());
    numbers.any(|number| KERNEL.contains(&number) || HASHES.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> Mask {
        Mask {
            text: text.to_owned(),
            reason: "it varies".to_owned(),
        }
    }

    #[test]
    fn a_mask_stands_where_the_line_varies() {
        for (line, pattern, masked) in [
            (
                "log shop: at ffff88 now",
                "shop: at *",
                "log shop: at * now",
            ),
            ("log shop: at ffff88, ok", "at *, ok", "log shop: at *, ok"),
            ("log a at 1 and at 22", "at *", "log a at * and at *"),
            ("log shop: x=1 y=2.", "x=* y=*.", "log shop: x=* y=*."),
            (
                "log shop: 12 ticks late",
                "shop: * ticks",
                "log shop: * ticks late",
            ),
            // Not as the pattern says.
            ("log shop: at ", "shop: at *", "log shop: at "),
            (
                "log shop: many more ticks",
                "shop: * ticks",
                "log shop: many more ticks",
            ),
            ("log shop: x=1 y=2", "x=* z=*", "log shop: x=1 y=2"),
            ("log ü: at ÿ", "at *", "log ü: at *"),
        ] {
            assert_eq!(replace(line, pattern), masked, "{line} {pattern}");
        }
    }

    #[test]
    fn log_lines_and_results_are_masked_as_they_are_shown() {
        let mut state = Observed {
            result: Some("4294937296\nup 17 s".into()),
            log: vec!["shop: at ffff".into(), "at 'x'".into()],
            ..Observed::default()
        };
        let masks = ["result: *", "up * s", "log shop: at *"].map(mask);
        apply(&mut state, &masks);
        assert_eq!(state.result.as_deref(), Some("*\nup * s"));
        assert_eq!(state.log, ["shop: at *", "at 'x'"]);
    }

    #[test]
    fn what_looks_like_an_address_is_found() {
        let text = "step 1: load x\n  result: 0xffff888003c4a000\n  log a: at 00000000a1b2c3d4.\n  \
                    log NULL 0000000000000000, -1 ffffffffffffffff, -22 ffffffffffffffea\n  \
                    log flags 0000000000000011, a1b2c3d4, 1111111111111111 is no address\n  \
                    livepatch x: replace ffff888003c4a000\n  log c: deadbeefcafebabe0\n";
        let found = ["result: 0xffff888003c4a000", "log a: at 00000000a1b2c3d4."];
        assert_eq!(with_addresses(text), found);
    }

    #[test]
    fn a_guest_cannot_keep_the_lab_busy_with_a_line() {
        let line = "a".repeat(1 << 20);
        let started = std::time::Instant::now();
        assert_eq!(replace(&line, "aaaa*b*a*c"), line);
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }
}
