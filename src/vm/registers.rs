// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the CPUs of a guest are that says nothing: QEMU's `info registers`, the kernel's System.map, and
//! the modules in its memory. Pure.

use super::modules::Modules;
use crate::arch::Arch;

/// The code of a kernel and of its modules.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    vmlinux: Vec<(u64, String)>,
    modules: Modules,
}

impl Symbols {
    /// Of a kernel with this `System.map`.
    pub fn new(system_map: &str, modules: Modules) -> Self {
        let mut vmlinux: Vec<_> = system_map.lines().filter_map(symbol).collect();
        vmlinux.sort_unstable();
        Self { vmlinux, modules }
    }

    /// What is at an address: `cpu_idle_poll+0x1c`, `shop_price+0x4/0x10 [shop]`, or the address itself.
    pub fn place(&self, pc: u64) -> String {
        let after = self.vmlinux.partition_point(|(address, _)| *address <= pc);
        let before = after.checked_sub(1).and_then(|at| self.vmlinux.get(at));
        match before {
            // Behind the last symbol are modules, and user space before the first.
            Some((address, name)) if after < self.vmlinux.len() => {
                return format!("{name}+{:#x}", pc - address);
            }
            _ => {}
        }
        match self.modules.place(pc) {
            Some(place) => place,
            None if pc >> 63 == 0 => format!("{pc:#x}, in user space"),
            None => format!("{pc:#x}, which is neither in vmlinux nor in a module"),
        }
    }
}

/// Where each CPU is: `CPU 0 at cpu_idle_poll+0x1c`.
pub fn places(registers: &str, symbols: &Symbols) -> Vec<String> {
    let place = |(cpu, pc): (String, u64)| format!("CPU {cpu} at {}", symbols.place(pc));
    counters(registers).into_iter().map(place).collect()
}

/// The program counter of a CPU.
pub fn counter_of(registers: &str, cpu: &str) -> Option<u64> {
    let mut all = counters(registers).into_iter();
    all.find_map(|(of, pc)| (of == cpu).then_some(pc))
}

/// `ffffffff81000000 T _text`, of code.
fn symbol(line: &str) -> Option<(u64, String)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_code = matches!(words.next()?, "T" | "t" | "W" | "w");
    let name = words.next().filter(|_| is_code);
    name.map(|name| (address, name.to_owned()))
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
    use crate::vm::modules::tests::shop;

    const MAP: &str = "ffffffff81000000 T _text\nffffffff81000100 t cpu_idle_poll\n\
        ffffffff81000200 D data\nffffffff81000300 T last\n";

    fn found(registers: &str) -> Vec<String> {
        places(registers, &Symbols::new(MAP, shop()))
    }

    #[test]
    fn a_program_counter_is_in_the_symbol_before_it_or_in_a_module() {
        let registers = "\r\nCPU#0\r\nRAX=0 RBX=1\r\nRIP=ffffffff8100011c RFL=2 [----]\r\n\
                         CPU#1\r\nRIP=ffffffffa0000014 RFL=2\r\n\
                         CPU#2\r\nRIP=ffffffffc0000010 RFL=2\r\n";
        assert_eq!(
            found(registers),
            [
                "CPU 0 at cpu_idle_poll+0x1c",
                "CPU 1 at shop_price+0x4/0x20 [shop]",
                "CPU 2 at 0xffffffffc0000010, which is neither in vmlinux nor in a module"
            ]
        );
        assert_eq!(counter_of(registers, "1"), Some(0xffff_ffff_a000_0014));
        assert_eq!(counter_of(registers, "3"), None);
    }

    #[test]
    fn arm64_and_user_space() {
        let text = "CPU#0\n PC=0000000000400123 X00=1\nCPU#1\n PC=ffffffff81000000 X00=1";
        assert_eq!(
            found(text),
            ["CPU 0 at 0x400123, in user space", "CPU 1 at _text+0x0"]
        );
    }
}
