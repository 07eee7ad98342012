// SPDX-License-Identifier: MIT OR Apache-2.0
//! Complaints of a kernel that its emulator made. Pure.
//!
//! QEMU 8.0 to 10.0.2 can execute a translation of code that has changed meanwhile, if each CPU of the
//! guest has a thread of the host (`-accel tcg,thread=multi`). While the kernel patches its text, such a CPU
//! meets an `int3` of `arch/x86/kernel/alternative.c: smp_text_poke_batch_finish()` that is no longer in
//! memory, where nobody expects it any more. On a real processor the same oops is the kernel's.

/// The opcode of `int3`.
const INT3: &str = "cc";

/// What shows in the text of a splat that its `int3` was not in memory: the bytes around RIP, which
/// stands behind the instruction that was executed. `None` of any other splat, and where the kernel
/// could not show the bytes.
pub fn stale_int3(splat: &str) -> Option<String> {
    let mut lines = splat.lines().map(message);
    // The first line may be preceded by other ones of the same moment.
    lines.find(|line| is_int3(line))?;
    // The first registers are those of the oops: `arch/x86/kernel/dumpstack.c: show_opcodes()`.
    let bytes = lines.find_map(|line| line.strip_prefix("Code: "))?;
    let bytes: Vec<_> = bytes.split_whitespace().collect();
    let at = bytes.iter().position(|byte| byte.starts_with('<'))?;
    let before = at.checked_sub(1)?;
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|c| c.is_ascii_hexdigit());
    if !is_byte(bytes[before]) || bytes[before] == INT3 {
        return None;
    }
    let shown = &bytes[before..bytes.len().min(at + 4)];
    Some(shown.join(" "))
}

/// `Oops: int3: 0000 [#1] SMP`, or without the first word before 6.9.
fn is_int3(line: &str) -> bool {
    line.strip_prefix("Oops: ")
        .unwrap_or(line)
        .starts_with("int3: ")
}

/// A line of the console without its time and its task.
fn message(line: &str) -> &str {
    let mut rest = line.trim_start();
    while rest.starts_with('[')
        && let Some((_, after)) = rest.split_once(']')
    {
        rest = after.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: &str = include_str!("../../tests/faults/splats/written/int3-stale.txt");
    const REAL: &str = include_str!("../../tests/faults/splats/written/int3-real.txt");

    #[test]
    fn an_int3_that_is_not_in_memory_is_told_from_one_that_is() {
        assert_eq!(stale_int3(STALE).as_deref(), Some("0f <1f> 44 00 00"));
        assert_eq!(stale_int3(REAL), None);
    }

    #[test]
    fn other_splats_and_bytes_that_are_not_known_prove_nothing() {
        let of = |first: &str, code: &str| {
            stale_int3(&format!(
                "[  1.0][  T9] {first}\n[  1.0][  T9] RIP: 0010:x+0x1/0x9\n[  1.0][  T9] Code: {code}\n"
            ))
        };
        let int3 = "Oops: int3: 0000 [#1] SMP";
        assert!(of(int3, "90 0f <1f> 44 00 00").is_some());
        assert!(of("int3: 0000 [#1] PREEMPT SMP", "90 0f <1f> 44").is_some());
        for (first, code) in [
            (int3, "90 cc <1f> 44 00 00"),
            (int3, "Unable to access opcode bytes at 0xffffffff9fffffdb."),
            (int3, "<1f> 44 00 00"),
            (int3, "90 0f 1f 44"),
            ("Oops: 0002 [#1] SMP", "90 0f <1f> 44 00 00"),
            ("BUG: int3: x", "90 0f <1f> 44 00 00"),
        ] {
            assert_eq!(of(first, code), None, "{first} {code}");
        }
    }
}
