// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line of a console: when, by whom, and what the kernel said. Pure.

/// Bytes of a time stamp or a caller, and the bracket after it.
const STAMP_MAX: usize = 32;

/// A line, or what of it a kernel's message is: `[    1.234567][   T71] text`, see
/// `kernel/printk/printk.c: info_print_prefix()`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line<'a> {
    /// Seconds since the boot; none if the line has no time.
    pub at: Option<f64>,
    /// The task or CPU that said it, `T71` or `C1`, of kernels with CONFIG_PRINTK_CALLER.
    pub caller: Option<&'a str>,
    /// What was said.
    pub message: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line. What a program printed without a newline may stand before the time.
    pub fn of(line: &'a str) -> Self {
        Self::parts(line).next().unwrap_or(Self {
            at: None,
            caller: None,
            message: line.trim_start(),
        })
    }

    /// The line from each time in it on: a message without a newline may stand before the next one.
    pub fn parts(line: &'a str) -> impl Iterator<Item = Self> {
        line.match_indices('[')
            .filter_map(move |(at, _)| Self::stamped(&line[at + 1..]))
    }

    /// What follows `[`, if that begins with a time.
    fn stamped(inner: &'a str) -> Option<Self> {
        let (stamp, mut rest) = bracketed(inner)?;
        let stamp = stamp.trim_start();
        let (seconds, parts) = stamp.split_once('.')?;
        if !(is_number(seconds) && is_number(parts)) {
            return None;
        }
        let mut caller = None;
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(bracketed)
            && is_caller(inside.trim_start())
        {
            (caller, rest) = (Some(inside.trim_start()), after);
        }
        Some(Self {
            at: stamp.parse().ok(),
            caller,
            message: rest.trim_start(),
        })
    }

    /// Whether the same task may have said both: it has, or one of the kernels does not say who.
    pub fn is_of(&self, caller: Option<&str>) -> bool {
        match (self.caller, caller) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `T71`, `C1`; on some kernels of vendors `T71@1`.
fn is_caller(text: &str) -> bool {
    let id = text.strip_prefix(['T', 'C']);
    id.is_some_and(|id| id.split('@').all(is_number))
}

/// What stands before a near `]`, and what after it. A line of brackets must not be searched to its
/// end for each of them.
fn bracketed(inner: &str) -> Option<(&str, &str)> {
    let near = &inner[..inner.floor_char_boundary(STAMP_MAX)];
    let end = near.find(']')?;
    Some((&inner[..end], &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_time_and_a_caller_or_none() {
        let of = |line| {
            let Line {
                at,
                caller,
                message,
            } = Line::of(line);
            (at, caller, message)
        };
        assert_eq!(of("[    1.5] x"), (Some(1.5), None, "x"));
        assert_eq!(of("[    1.5][   T71] x"), (Some(1.5), Some("T71"), "x"));
        assert_eq!(of("<4>[    1.5][  C1@1] x"), (Some(1.5), Some("C1@1"), "x"));
        assert_eq!(of("[    1.5] [x] y"), (Some(1.5), None, "[x] y"));
        assert_eq!(of(" x [y] 1.5]"), (None, None, "x [y] 1.5]"));
        let parts: Vec<_> = Line::parts("[    1.0] a... [    2.0] b").collect();
        assert_eq!(parts[0].message, "a... [    2.0] b");
        assert_eq!(parts[1].message, "b");
    }
}
