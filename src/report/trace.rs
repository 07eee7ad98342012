// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of a kernel's complaint somebody needs first: what it says, where the CPU was, and the frames
//! of the call trace that are reliable. Registers, opcodes, page tables and lists of modules are for
//! the second look; the record has them. Pure.

/// The beginnings of lines that explain nothing at first sight, on either architecture.
const NOISE: [&str; 39] = [
    "Modules linked in:",
    "Tainted: ",
    "Not tainted",
    "\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\"",
    "Hardware name:",
    "Code:",
    "<TASK>",
    "</TASK>",
    "</IRQ>",
    "</NMI>",
    "PGD ",
    "#PF: error_code",
    "Mem abort info:",
    "Data abort info:",
    "ESR = ",
    "EC = ",
    "SET = ",
    "EA = ",
    "FSC = ",
    "ISV = ",
    "CM = ",
    "GCS = ",
    "user pgtable:",
    "swapper pgtable:",
    "pstate:",
    "lr :",
    "sp :",
    "pmr_save:",
    "Kernel Offset:",
    "CPU features:",
    "Memory Limit:",
    "SMP: stopping secondary CPUs",
    "Rebooting in ",
    "Memory state around the buggy address:",
    "==================",
    "------------------",
    "---[ ",
    "irq event stamp:",
    "RIP: 0033:",
];

/// Functions that are on a stack because it is being shown.
const SHOWING: [&str; 12] = [
    "show_stack",
    "dump_stack_lvl",
    "dump_stack",
    "vpanic",
    "panic",
    "print_report",
    "print_address_description",
    "kasan_report",
    "__warn",
    "report_bug",
    "nmi_cpu_backtrace",
    "dump_backtrace",
];

/// The lines of a complaint that are needed first, without their times, and the time of the first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Essence {
    /// `1.007926`: seconds since the boot, as the kernel says them.
    pub at: Option<String>,
    /// The lines.
    pub lines: Vec<String>,
}

/// What of a kernel's lines is needed first.
pub fn essence(text: &str) -> Essence {
    let mut essence = Essence::default();
    // Whether a frame of this stack has been kept: what shows a stack is above those that matter.
    let mut below = false;
    for line in text.lines() {
        let (at, said) = said(line);
        if essence.at.is_none() {
            essence.at = at.map(str::to_owned);
        }
        let Some(function) = frame(said) else {
            if is_noise(said) {
                continue;
            }
            below = false;
            essence.lines.push(shorter(said));
            continue;
        };
        let unsure = function.starts_with("? ");
        let shows = !below && SHOWING.contains(&symbol(function));
        if !unsure && !shows {
            below = true;
            essence.lines.push(said.to_owned());
        }
    }
    essence
}

/// The time that a line begins with, and what the kernel said: without the time and the caller.
/// Frames keep the space before them.
pub fn said(line: &str) -> (Option<&str>, &str) {
    let (mut at, mut rest) = (None, line);
    while let Some((inside, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let inside = inside.trim_start();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_time = inside
            .split_once('.')
            .is_some_and(|(s, us)| is_number(s) && is_number(us));
        let is_caller = at.is_some() && inside.strip_prefix(['T', 'C']).is_some_and(is_number);
        match (is_time && at.is_none(), is_caller) {
            (true, _) => at = Some(inside),
            (_, true) => {}
            _ => break,
        }
        rest = after;
    }
    (at, rest.strip_prefix(' ').unwrap_or(rest))
}

/// The function of a line that is a frame of a stack: ` seq_read_iter+0xff/0x410`, `? x+0x1/0x2`.
fn frame(said: &str) -> Option<&str> {
    let function = said.strip_prefix(' ')?.trim_start();
    let name = function.strip_prefix("? ").unwrap_or(function);
    let first = name.split(' ').next()?;
    (first.contains("+0x") && first.contains("/0x")).then_some(function)
}

fn symbol(function: &str) -> &str {
    function.split('+').next().unwrap_or(function)
}

fn is_noise(said: &str) -> bool {
    let said = said.trim();
    let begins = |noise: &&str| said.starts_with(*noise);
    said.is_empty()
        || said.contains("---[ cut here ]---")
        || NOISE.iter().any(begins)
        || is_register(said)
        || is_dump(said)
}

/// `RSP: 0018:…`, `CR2: …`, `R13: …`, `x29: …`, but not where the CPU was.
fn is_register(said: &str) -> bool {
    let Some((name, value)) = said.split_once(':') else {
        return false;
    };
    let name = name.trim_end();
    let short = (2..=6).contains(&name.len()) && !matches!(name, "RIP" | "EIP" | "pc" | "CPU");
    let is_name = name
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        || name
            .strip_prefix('x')
            .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let value = value.trim_start();
    let digits = value.bytes().take_while(u8::is_ascii_hexdigit).count();
    short && is_name && digits >= 4 && !value[digits..].starts_with(char::is_alphanumeric)
}

/// A line of memory: ` ffff888000a9fe00: 00 00`, `>ffff…: fb`, `[0000000000000008] pgd=…`, `    ^`.
fn is_dump(said: &str) -> bool {
    let inner = said.trim_start_matches(['>', '[', ' ']);
    let digits = inner.bytes().take_while(u8::is_ascii_hexdigit).count();
    said == "^" || (digits == 16 && inner[digits..].starts_with([':', ']']))
}

/// Without the name of the kernel, which is the run's, and without rows of spaces.
fn shorter(said: &str) -> String {
    let ends: &[&str] = match said.trim_start() {
        it if it.starts_with("CPU: ") => &[" Tainted: ", " Not tainted"],
        it if it.starts_with("task:") => &[" tgid:", " task_flags:"],
        _ => &[],
    };
    let end = ends.iter().filter_map(|end| said.find(end)).min();
    let said = &said[..end.unwrap_or(said.len())];
    match ends {
        [] => said.trim_end().to_owned(),
        _ => said.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_its_message_its_place_and_its_frames() {
        let text = "\
[    1.007926][   T38] ------------[ cut here ]------------
[    1.008024][   T38] provoked
[    1.008140][   T38] WARNING: culprit.c:12 at show+0xc/0x20 [culprit], CPU#0: lab-agent/38
[    1.008833][   T38] Modules linked in: culprit(OK)
[    1.009577][   T38] CPU: 0 UID: 0 PID: 38 Comm: lab-agent Tainted: G           O  K     7.3.4-lab-01 #1
[    1.010000][   T38] RIP: 0010:show+0xc/0x20 [culprit]
[    1.010341][   T38] Code: Unable to access opcode bytes at 0xffffffff9fffffe2.
[    1.010457][   T38] RSP: 0018:ffff888000a9fe40 EFLAGS: 00010282
[    1.011429][   T38] CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033
[    1.011791][   T38] Call Trace:
[    1.011948][   T38]  <TASK>
[    1.012000][   T38]  dump_stack_lvl+0x4f/0x60
[    1.012030][   T38]  ? stale+0x1/0x2
[    1.012043][   T38]  seq_read_iter+0xff/0x410
[    1.012100][   T38]  panic+0x50/0x50
[    1.012544][   T38] RIP: 0033:0x43f6fd
[    1.013869][   T38] ---[ end trace 0000000000000000 ]---
";
        let essence = essence(text);
        assert_eq!(essence.at.as_deref(), Some("1.007926"));
        insta::assert_snapshot!(essence.lines.join("\n"), @r"
        provoked
        WARNING: culprit.c:12 at show+0xc/0x20 [culprit], CPU#0: lab-agent/38
        CPU: 0 UID: 0 PID: 38 Comm: lab-agent
        RIP: 0010:show+0xc/0x20 [culprit]
        Call Trace:
         seq_read_iter+0xff/0x410
         panic+0x50/0x50
        ");
    }

    #[test]
    fn the_same_of_arm64() {
        let text = "\
[    0.652508] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008
[    0.652568]   ESR = 0x0000000096000046
[    0.654004] [0000000000000008] pgd=08000000414f7403, p4d=08000000414f7403
[    0.654545] Internal error: Oops: 0000000096000046 [#1]  SMP
[    0.656536] pc : show+0x14/0x20 [culprit]
[    0.656765] lr : seq_read_iter+0x168/0x458
[    0.656933] x29: ffff800080a33d10 x28: ffff0000014c4a48 x27: 0000000000400cc0
[    0.658216] x2 : 0000000000000001 x1 : 0000000000000008 x0 : 0000000000000000
[    0.658420] Call trace:
[    0.658548]  show+0x14/0x20 [culprit] (P)
[    0.659408] Code: d503201f d2800101 52800022 52800000 (b9000022)
";
        insta::assert_snapshot!(essence(text).lines.join("\n"), @r"
        Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008
        Internal error: Oops: 0000000096000046 [#1]  SMP
        pc : show+0x14/0x20 [culprit]
        Call trace:
         show+0x14/0x20 [culprit] (P)
        ");
    }

    #[test]
    fn what_has_no_time_is_left_alone() {
        assert_eq!(said("lab: ready"), (None, "lab: ready"));
        assert_eq!(said("[T1] x"), (None, "[T1] x"));
        assert_eq!(said("[    1.5] [<ffff>] x"), (Some("1.5"), "[<ffff>] x"));
    }
}
