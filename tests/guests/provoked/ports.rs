// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ports of 127.0.0.1 that others have. QEMU is told to forward port 0, which is any that is free,
//! and asked which one it took: so nobody can take it in between, and there is no port to clash.

use std::process::Command;

use super::host::{RUN, assert_well, project};
use crate::common::{Output, Project, assert_is, ended};
use crate::faults::ports::{FEW, NONE};

/// A program that takes all ports that a network of its own gives out but for some, and starts
/// lab in that network.
const TAKE: &str = r#"
import fcntl, socket, struct, subprocess, sys
free = int(sys.argv[1])
up = struct.pack("16sh", b"lo", 1)
fcntl.ioctl(socket.socket(), 0x8914, up)
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as range_file:
    range_file.write("40000 40019")
taken = []
for port in range(40000, 40020 - free):
    taken.append(socket.create_server(("127.0.0.1", port)))
sys.exit(subprocess.call(sys.argv[2:]))
"#;

fn run(project: &Project, free: usize) -> Output {
    let mut command = Command::new("unshare");
    command
        .args(["-rn", "python3", "-c", TAKE])
        .arg(free.to_string())
        .arg(env!("CARGO_BIN_EXE_lab"))
        .args(RUN);
    project.furnish(&mut command);
    ended(command.spawn().unwrap())
}

#[test]
fn few_are_free() {
    // One for QEMU, and one for the other end of the session.
    assert_is(&FEW, &run(&project(), 2));
}

#[test]
fn none_is_free() {
    let project = project();
    assert_is(&NONE, &run(&project, 0));
    assert_well(&project);
}
