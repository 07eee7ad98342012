// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command that looks into a guest with gdb. Pure.

use std::path::Path;

use crate::arch::Arch;
use crate::process::Cmd;

/// gdb on a guest whose QEMU listens on the unix socket `socket`.
pub fn command(arch: Arch, vmlinux: &Path, socket: &Path) -> Cmd {
    let program = match Arch::host() == Some(arch) {
        true => "gdb",
        false => "gdb-multiarch",
    };
    Cmd::new(program)
        .arg(vmlinux)
        .args(["-ex", &format!("target remote {}", socket.display())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_of_another_architecture_needs_a_gdb_that_knows_it() {
        let line =
            |arch| command(arch, "/k/vmlinux".as_ref(), "/tmp/lab-x/gdb".as_ref()).to_string();
        let own = Arch::host().unwrap_or(Arch::X86_64);
        let rest = "/k/vmlinux -ex 'target remote /tmp/lab-x/gdb'";
        for arch in Arch::ALL {
            let gdb = if arch == own { "gdb" } else { "gdb-multiarch" };
            assert_eq!(line(arch), format!("{gdb} {rest}"));
        }
    }
}
