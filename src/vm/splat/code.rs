// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which code a splat is about: the function in RIP or pc, or the first frame that is not there to
//! report, to lock, to wait or to copy. Pure.

use super::marks::Code;
use super::passed_over::{PASSED_OVER, WAITS};
use super::pattern::is_like;

/// What has the address where a CPU was.
const REGISTERS: [&str; 7] = [
    "RIP: ",
    "RIP  ",
    "EIP: ",
    "EIP is at ",
    "IP: ",
    "pc : ",
    "PC is at ",
];

/// Looks for the code of a splat, line by line.
#[derive(Debug)]
pub struct Search {
    code: Code,
    /// Whether frames count by now.
    armed: bool,
    /// What was found first, and at which line.
    found: Option<(String, usize)>,
    /// What was passed over first: better than nothing.
    passed_over: Option<(String, usize)>,
    /// The first frame of a stack, where registers would be better.
    frame: Option<(String, usize)>,
    /// Whether the next line is the address of something else.
    aside: bool,
}

impl Search {
    /// Begins with the title, which may name it.
    pub fn new(code: Code, title: &str) -> Self {
        let mut search = Self {
            code,
            armed: code == Code::Frames,
            found: None,
            passed_over: None,
            frame: None,
            aside: false,
        };
        if let Some(function) = of_title(title) {
            search.take(function, 0);
        }
        search
    }

    /// Whether there is nothing left to look for.
    pub fn is_over(&self) -> bool {
        self.found.is_some() || self.code == Code::Unsaid
    }

    /// Reads the message of a line.
    pub fn line(&mut self, message: &str, number: usize) {
        if self.is_over() || std::mem::take(&mut self.aside) {
            return;
        }
        self.aside = message == "Preemption disabled at:";
        match self.code {
            Code::Unsaid => {}
            Code::Held => self.held(message, number),
            Code::Backtrace if !self.armed => {
                self.armed = message.starts_with("stack backtrace:");
                if let Some(function) = held_at(message) {
                    self.passed_over.get_or_insert((function, number));
                }
            }
            Code::Stack | Code::Frames | Code::Backtrace => self.stack(message, number),
            Code::Sampled => self.sampled(message, number),
        }
    }

    /// The function, and the number of the line that names it.
    pub fn finish(self) -> Option<(String, usize)> {
        self.found.or(self.frame).or(self.passed_over)
    }

    fn take(&mut self, function: String, number: usize) {
        let place = match self.passes_over(&function) {
            true => &mut self.passed_over,
            false => &mut self.found,
        };
        place.get_or_insert((function, number));
    }

    fn passes_over(&self, function: &str) -> bool {
        let waits = self.code == Code::Sampled && is_in(WAITS, function);
        waits || is_in(PASSED_OVER, function)
    }

    fn held(&mut self, message: &str, number: usize) {
        if let Some(function) = held_at(message) {
            self.take(function, number);
        }
    }

    fn stack(&mut self, message: &str, number: usize) {
        self.armed |= is_heading(message);
        let frame = || self.armed.then(|| frame(message)).flatten();
        if let Some(function) = of_work(message)
            .or_else(|| in_registers(message))
            .or_else(frame)
        {
            self.take(function, number);
        }
    }

    fn sampled(&mut self, message: &str, number: usize) {
        self.armed |= is_heading(message);
        if let Some(function) = in_registers(message) {
            return self.take(function, number);
        }
        let frame = self.armed.then(|| frame(message)).flatten();
        if let Some(function) = frame.filter(|function| !self.passes_over(function)) {
            self.frame.get_or_insert((function, number));
        }
    }
}

fn is_heading(message: &str) -> bool {
    // The last is mm/kmemleak.c's.
    let headings = [
        "Call Trace:",
        "Call trace:",
        "backtrace:",
        "backtrace (crc ",
    ];
    headings.iter().any(|heading| message.starts_with(heading))
}

fn is_in(groups: &[&str], function: &str) -> bool {
    let mut patterns = groups.iter().flat_map(|group| group.split_whitespace());
    patterns.any(|pattern| is_like(function, pattern))
}

/// The function that a title names: `WARNING: … at function+0x1/0x2, …`, `… in function+0x1/0x2`;
/// of KCSAN both, without offsets.
fn of_title(title: &str) -> Option<String> {
    if let Some((_, both)) = title
        .strip_prefix("BUG: KCSAN: ")
        .and_then(|rest| rest.split_once(" in "))
        && both.contains(" / ")
    {
        return Some(both.to_owned());
    }
    title.split([' ', ',']).find_map(symbol)
}

/// The function in RIP or pc. Of a user's there is none.
fn in_registers(message: &str) -> Option<String> {
    let mut rest = REGISTERS
        .iter()
        .find_map(|register| message.strip_prefix(register))?;
    if let Some((selector, after)) = rest.split_once(':')
        && selector.len() == 4
        && let Ok(selector) = u16::from_str_radix(selector, 16)
    {
        if selector & 3 == 3 {
            return None;
        }
        rest = after;
    }
    symbol(without_addresses(rest).split(' ').next()?)
}

/// The function of a frame that the unwinder is sure of: ` function+0x1/0x2 [module]`,
/// ` [<ffffffff81000000>] function+0x1/0x2`, ` function file.c:1 [inline]`.
fn frame(message: &str) -> Option<String> {
    let mut words = without_addresses(message).split(' ');
    let first = words.next()?;
    // A call that does not return may be the last thing in a function: what follows is another one.
    if first.contains("+0x0/") {
        return None;
    }
    if let Some(function) = symbol(first) {
        return Some(function);
    }
    let place = words.next()?;
    let is_place = place.contains(".c:") || place.contains(".h:");
    (is_place && message.contains("[inline]") && is_name(first)).then(|| name(first))
}

/// `kernel/workqueue.c: process_one_work()`: whose work it was.
fn of_work(message: &str) -> Option<String> {
    let mut words = ["last function: ", "workfn="].iter();
    let after = words.find_map(|word| Some(message.split_once(word)?.1))?;
    let function = after.split([' ', '+']).next()?;
    is_name(function).then(|| name(function))
}

/// Where a lock was taken.
fn held_at(message: &str) -> Option<String> {
    let (_, at) = message.split_once(", at: ")?;
    symbol(without_addresses(at).split(' ').next()?)
}

/// Without ` <IRQ> ` and `[<ffffffff81000000>] `.
fn without_addresses(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let end = match rest.bytes().next() {
            Some(b'<') => "> ",
            Some(b'[') if rest.starts_with("[<") => ">] ",
            _ => return rest,
        };
        let Some((_, after)) = rest.split_once(end) else {
            return rest;
        };
        rest = after.trim_start();
    }
}

/// `function.isra.0+0x1a/0x30` → `function`.
fn symbol(word: &str) -> Option<String> {
    let (function, offsets) = word.split_once("+0x")?;
    let (offset, size) = offsets.split_once("/0x")?;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let size = size.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
    (is_name(function) && is_hex(offset) && is_hex(size)).then(|| name(function))
}

/// `include/linux/kallsyms.h: KSYM_NAME_LEN`
const NAME_MAX: usize = 512;

fn is_name(word: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$');
    (1..NAME_MAX).contains(&word.len()) && word.bytes().all(is_part)
}

/// Without what the compiler has added, which differs from build to build.
fn name(function: &str) -> String {
    let function = function.trim();
    let end = function.find('.').filter(|&end| end > 0);
    function[..end.unwrap_or(function.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_frames_of_all_versions_name_a_function() {
        for (line, function) in [
            ("RIP: 0010:shop_price+0x1a/0x30 [shop]", Some("shop_price")),
            (
                "RIP: 0010:[<ffffffff8132aa1d>]  [<ffffffff8132aa1d>] vfs_x+0x1d/0x90",
                Some("vfs_x"),
            ),
            ("RIP: vfs_x+0x1d/0x90 RSP: ffff88003f4b7d28", Some("vfs_x")),
            ("RIP  [<ffffffff8132aa1d>] vfs_x+0x1d/0x90", Some("vfs_x")),
            ("IP: vfs_x.isra.3+0x1d/0x90", Some("vfs_x")),
            ("EIP is at vfs_x+0x1d/0x90", Some("vfs_x")),
            ("pc : shop_price+0x10/0x20 [shop]", Some("shop_price")),
            ("PC is at shop_price+0x10/0x20", Some("shop_price")),
            ("RIP: 0033:0x7f11a2f3ee4d", None),
            ("RIP: 0033:x+0x1/0x2", None),
            ("RIP: 0010:0x0", None),
            ("pc : 0xffff80007a0e5000", None),
            ("lr : shop_price+0x10/0x20", None),
        ] {
            assert_eq!(in_registers(line).as_deref(), function, "{line}");
        }
        for (line, function) in [
            ("ksys_read+0x6f/0xf0", Some("ksys_read")),
            ("lab_livepatch_exit+0x0/0xfd0 [culprit]", None),
            (
                " [<ffffffff81aa01f3>] ksys_read+0x6f/0xf0",
                Some("ksys_read"),
            ),
            (
                " <IRQ>  [<ffffffff81aa01f3>] ksys_read+0x6f/0xf0",
                Some("ksys_read"),
            ),
            ("read_one fs/x.c:12 [inline]", Some("read_one")),
            ("? ksys_read+0x6f/0xf0", None),
            ("[<ffffffff81aa01f3>] ? ksys_read+0x6f/0xf0", None),
            (
                "hardirqs last  enabled at (7): [<ffffffff81aa01f3>] x+0x1/0x2",
                None,
            ),
            ("0xffffffff81aa01f3", None),
            ("<TASK>", None),
            ("x+0x1", None),
        ] {
            assert_eq!(frame(line).as_deref(), function, "{line}");
        }
    }

    #[test]
    fn nothing_is_passed_over_because_its_name_is_near() {
        for function in [
            "lab_new_0_cmdline_proc_show",
            "vfs_read",
            "ksys_read",
            "klp_enable_patch",
            "do_exit",
            "mutation",
            "downgrade",
            "upload",
            "panicky",
            "tcp_sendmsg",
            "kfree_skb",
            "path_openat",
            "atomic_open",
            "klp_ftrace_handler",
            "unwind_next_frame",
            "tick_do_update_jiffies64",
        ] {
            assert!(!is_in(PASSED_OVER, function), "{function}");
        }
        assert!(is_in(WAITS, "tick_nohz_handler") && is_in(PASSED_OVER, "kfree"));
    }
}
