// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the CPUs of a guest are that says nothing: QEMU's `info registers`, and the kernel's
//! System.map. Pure.

use crate::arch::Arch;

/// The function of each CPU's program counter: `CPU 0 at cpu_idle_poll+0x1c`.
pub fn places(registers: &str, system_map: &str) -> Vec<String> {
    let mut symbols: Vec<(u64, &str)> = system_map.lines().filter_map(symbol).collect();
    symbols.sort_unstable();
    let place = |(cpu, pc): (String, u64)| {
        let after = symbols.partition_point(|(address, _)| *address <= pc);
        match after.checked_sub(1).and_then(|at| symbols.get(at)) {
            // Behind the last symbol are modules and user space before the first.
            Some((address, name)) if after < symbols.len() => {
                format!("CPU {cpu} at {name}+{:#x}", pc - address)
            }
            _ => format!("CPU {cpu} at {pc:#x}, which is not in vmlinux"),
        }
    };
    counters(registers).into_iter().map(place).collect()
}

/// `ffffffff81000000 T _text`, of code.
fn symbol(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_code = matches!(words.next()?, "T" | "t" | "W" | "w");
    words.next().filter(|_| is_code).map(|name| (address, name))
}

/// `CPU#0`, then `RIP=ffffffff81a2b3c4 …` or `PC=ffff800080a2b3c4 …`.
fn counters(registers: &str) -> Vec<(String, u64)> {
    let mut cpu = "0";
    let mut found = Vec::new();
    for word in registers.split_whitespace() {
        if let Some(number) = word.strip_prefix("CPU#") {
            cpu = number;
        }
        let mut names = Arch::ALL.iter().map(|arch| arch.row().program_counter);
        let counter = names.find_map(|name| word.strip_prefix(name));
        if let Some(pc) = counter.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            found.push((cpu.to_owned(), pc));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "ffffffff81000000 T _text\nffffffff81000100 t cpu_idle_poll\n\
        ffffffff81000200 D data\nffffffff81000300 T last\n";

    #[test]
    fn a_program_counter_is_in_the_symbol_before_it() {
        let registers = "\r\nCPU#0\r\nRAX=0 RBX=1\r\nRIP=ffffffff8100011c RFL=2 [----]\r\n\
                         CPU#1\r\nRIP=ffffffffc0000010 RFL=2\r\n";
        let places = places(registers, MAP);
        assert_eq!(
            places,
            [
                "CPU 0 at cpu_idle_poll+0x1c",
                "CPU 1 at 0xffffffffc0000010, which is not in vmlinux"
            ]
        );
    }

    #[test]
    fn arm64_and_user_space() {
        let text = "CPU#0\n PC=0000000000400123 X00=1\nCPU#1\n PC=ffffffff81000000 X00=1";
        assert_eq!(
            places(text, MAP),
            [
                "CPU 0 at 0x400123, which is not in vmlinux",
                "CPU 1 at _text+0x0"
            ]
        );
    }
}
