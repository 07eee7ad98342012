// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C, once and twice, in every phase of a build and of a run.
//!
//! A phase is a tool that hangs. Once: it is told to end (SIGTERM). Twice: it does not listen, and
//! is killed. Either way lab ends with 130, no process is left, nothing half-made counts as
//! finished, and the next run comes as far as an undisturbed one.

use std::fs;
use std::process::{Child, Command};

use crate::common::{self, Project, ended, signal, wait_for};
use crate::faults::interrupts::*;
use crate::stages::{is_through, text};

/// Puts something that hangs before a tool.
fn hang(project: &Project, tool: &str, when: &str, stubborn: bool) {
    let bin = project.path("bin");
    fs::rename(bin.join(tool), bin.join(format!(".real-{tool}"))).unwrap();
    // Renamed into place: whoever sees the number sees all of it.
    let tell = "echo $$ > \"$LAB_TEST_PIDS.new\"; mv \"$LAB_TEST_PIDS.new\" \"$LAB_TEST_PIDS\"";
    let hang = if stubborn {
        format!(
            "trap '' INT; trap 'echo > \"$LAB_TEST_PIDS.told\"' TERM; {tell}\n\
             while :; do sleep 0.1; done"
        )
    } else {
        format!("{tell}; exec sleep 60")
    };
    let body =
        format!("case \"$*\" in {when}) {hang};; esac\nexec \"${{0%/*}}/.real-{tool}\" \"$@\"");
    project.script(tool, &body);
}

fn let_go(project: &Project, tool: &str) {
    let bin = project.path("bin");
    fs::rename(bin.join(format!(".real-{tool}")), bin.join(tool)).unwrap();
}

/// No process is left, and nothing that was not there before counts as finished.
fn assert_nothing_left(project: &Project, before: &[String], what: &str) {
    wait_for(|| project.processes() == 0);
    assert_eq!(project.entries(), before, "{what}");
}

fn assert_interrupted(lab: Child, what: &str) {
    let output = ended(lab);
    assert_eq!(output.code, 130, "{what}: {output:?}");
}

/// What happens in a phase.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    Once,
    Twice,
    /// lab itself is killed (SIGKILL).
    Kill,
}

impl Phase {
    fn suffer(&self, blow: Blow) {
        let what = format!("{}, {blow:?}", self.what);
        let project = Project::with_stages();
        for args in self.before {
            let output = project.lab(args);
            assert!(is_through(&output), "{what}: {output:?}");
        }
        if self.args[0] == "setup" {
            project.remove_tool("flex");
            project.script("sudo", "shift; exec \"$@\"");
            let flex = project.path("bin/flex").display().to_string();
            let install =
                format!("case \"$*\" in *-y*install*) printf '#!/bin/sh\\n' > '{flex}';; esac");
            project.script("apt-get", &install);
        }
        let before = project.entries();
        hang(&project, self.tool, self.when, blow == Blow::Twice);
        let mut lab = project.spawn(self.args);
        project.wait_for_pid();
        if blow == Blow::Kill {
            signal(lab.id(), "KILL");
            lab.wait().unwrap();
            wait_for(|| project.processes() == 0);
            // What was under way is still there, under a name that nobody takes for an entry.
            let entries = project.entries().into_iter();
            let entries: Vec<_> = entries.filter(|entry| !entry.contains("/.tmp")).collect();
            assert_eq!(entries, before, "{what}");
        } else {
            signal(lab.id(), "INT");
            if blow == Blow::Twice {
                wait_for(|| project.path("pids.told").exists());
                signal(lab.id(), "INT");
            }
            assert_interrupted(lab, &what);
            assert_nothing_left(&project, &before, &what);
        }
        let_go(&project, self.tool);
        let next = project.lab(self.args);
        assert!(is_through(&next), "{what}: {next:?}");
    }
}

#[test]
fn once() {
    for phase in &PHASES {
        phase.suffer(Blow::Once);
    }
}

#[test]
fn twice() {
    for phase in &PHASES {
        phase.suffer(Blow::Twice);
    }
}

#[test]
fn lab_is_killed() {
    for phase in &PHASES {
        phase.suffer(Blow::Kill);
    }
}

#[test]
fn while_another_lab_has_the_lock() {
    let project = Project::with_stages();
    hang(&project, "make", "*vmlinux*", false);
    let first = project.spawn(KERNEL);
    project.wait_for_pid();
    for times in 1..=2 {
        let mut second = project.spawn(KERNEL);
        let mut said = String::new();
        let stderr = second.stderr.take().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
        while !said.contains("waiting for another lab to build kernel") {
            said = lines.next().unwrap().unwrap();
        }
        for _ in 0..times {
            signal(second.id(), "INT");
        }
        assert_interrupted(second, LOCK);
    }
    signal(first.id(), "INT");
    assert_interrupted(first, LOCK);
    assert_nothing_left(&project, &[], LOCK);
    let_go(&project, "make");
    assert!(is_through(&project.lab(KERNEL)));
}

/// A lab with a /dev of its own in which there is a /dev/kvm, whatever the host has.
fn spawn_with_kvm(project: &Project, args: &[&str]) -> Child {
    let script = r#"
    mkdir dev && mount --rbind /dev dev && mount -t tmpfs none /dev || exit 9
    for name in null zero full random urandom tty; do
        : > "/dev/$name" && mount --bind "dev/$name" "/dev/$name" || exit 9
    done
    : > /dev/kvm
    PATH=$1 && shift && exec "$@""#;
    let mut command = Command::new(common::find_tool("unshare"));
    command
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(project.path("bin"))
        .arg(env!("CARGO_BIN_EXE_lab"))
        .args(args);
    project.furnish(&mut command);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.spawn().unwrap()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn while_kvm_is_tried() {
    let run = &["run", "scenarios", "--kernel=fake", "--accel=auto"];
    for twice in [false, true] {
        let project = Project::with_stages();
        // The modules are built beside it: here they are there already.
        assert!(is_through(&project.lab(RUN)));
        let before = project.entries();
        hang(&project, "qemu-system-x86_64", "*-accel\\ kvm*", twice);
        let lab = spawn_with_kvm(&project, run);
        project.wait_for_pid();
        signal(lab.id(), "INT");
        if twice {
            wait_for(|| project.path("pids.told").exists());
            signal(lab.id(), "INT");
        }
        assert_interrupted(lab, "trying KVM");
        assert_nothing_left(&project, &before, "trying KVM");
        let known = project.cache().join("accel/x86_64.json");
        assert!(
            !known.exists(),
            "an interrupt says nothing about KVM: {}",
            text(&known)
        );
        let_go(&project, "qemu-system-x86_64");
        assert!(is_through(&project.lab(run)));
    }
}

/// A QEMU that answers QMP, and whose guest says nothing.
const QEMU: &str = r#"
import json, os, signal, socket, sys, time
if "--version" in sys.argv:
    print("fake")
    sys.exit()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
path = next(arg for arg in sys.argv if arg.startswith("socket,id=qmp,")).split("path=")[1].split(",")[0]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
peer, _ = server.accept()
lines = peer.makefile("rw")
def say(message):
    lines.write(json.dumps(message) + "\n")
    lines.flush()
def tell(file):
    with open(file + ".new", "w") as new:
        new.write(str(os.getpid()))
    os.rename(file + ".new", file)
say({"QMP": {"version": {}}})
for line in lines:
    request = json.loads(line)
    if request["execute"] == "quit":
        tell(os.environ["LAB_TEST_PIDS"] + ".told")
        if MUTE:
            time.sleep(600)
        sys.exit()
    say({"return": {}, "id": request["id"]})
    if request["execute"] == "cont":
        tell(os.environ["LAB_TEST_PIDS"])
"#;

/// A project whose QEMU is [`QEMU`]; a mute one does not answer when it shall end.
fn with_qemu(is_mute: bool) -> Project {
    let project = Project::with_stages();
    assert!(is_through(&project.lab(RUN)));
    let python = project.tool("python3", &["-c", "import sys; print(sys.executable)"]);
    let mute = if is_mute { "True" } else { "False" };
    project.write("qemu.py", &QEMU.replace("MUTE", mute));
    let script = project.path("qemu.py");
    let bin = project.path("bin");
    fs::rename(
        bin.join("qemu-system-x86_64"),
        bin.join(".real-qemu-system-x86_64"),
    )
    .unwrap();
    let body = format!("exec {} {} \"$@\"", python.trim(), script.display());
    project.script("qemu-system-x86_64", &body);
    project
}

fn assert_well_after(project: &Project, lab: Child, before: &[String], what: &str) {
    assert_interrupted(lab, what);
    assert_nothing_left(project, before, what);
    let record = project.path(".lab/runs/latest/verdict.json");
    assert!(
        text(&record).contains("cancelled"),
        "{what}: {}",
        text(&record)
    );
    let_go(project, "qemu-system-x86_64");
    assert!(is_through(&project.lab(RUN)), "{what}");
}

#[test]
fn while_a_guest_boots() {
    let project = with_qemu(false);
    let before = project.entries();
    let lab = project.spawn(RUN);
    project.wait_for_pid();
    signal(lab.id(), "INT");
    wait_for(|| project.path("pids.told").exists());
    assert_well_after(&project, lab, &before, BOOT);
}

#[test]
fn while_a_guest_ends() {
    let project = with_qemu(true);
    let before = project.entries();
    let limited = &[RUN, &["--timeout=1s"]].concat();
    // Its time is up, and it does not end.
    let lab = project.spawn(limited);
    wait_for(|| project.path("pids.told").exists());
    signal(lab.id(), "INT");
    assert_interrupted(lab, TEARDOWN);
    assert_nothing_left(&project, &before, TEARDOWN);
    // The first one makes it end, the second one comes while it does not.
    for file in ["pids", "pids.told"] {
        fs::remove_file(project.path(file)).unwrap();
    }
    let lab = project.spawn(RUN);
    project.wait_for_pid();
    signal(lab.id(), "INT");
    wait_for(|| project.path("pids.told").exists());
    signal(lab.id(), "INT");
    assert_interrupted(lab, TEARDOWN);
    assert_nothing_left(&project, &before, TEARDOWN);
    let_go(&project, "qemu-system-x86_64");
    assert!(is_through(&project.lab(RUN)));
}

/// A program that opens a terminal, starts lab on it, and closes it once lab's tool hangs. It
/// prints lab's exit status.
const TERMINAL: &str = r#"
import os, pty, sys, time
child, master = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
os.set_blocking(master, False)
while not os.path.exists(os.environ["LAB_TEST_PIDS"]):
    try:
        os.read(master, 4096)
    except BlockingIOError:
        time.sleep(0.01)
os.close(master)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"#;

#[test]
fn a_terminal_is_closed() {
    let project = Project::with_stages();
    hang(&project, "make", "*vmlinux*", false);
    let python = project.tool("python3", &["-c", "import sys; print(sys.executable)"]);
    let mut command = Command::new(python.trim());
    command
        .args(["-c", TERMINAL, env!("CARGO_BIN_EXE_lab")])
        .args(KERNEL);
    project.furnish(&mut command);
    let output = ended(command.spawn().unwrap());
    assert_eq!(output.stdout, format!("{}\n", CLOSED.code), "{output:?}");
    assert_nothing_left(&project, &[], "a terminal that is closed");
    let_go(&project, "make");
    assert!(is_through(&project.lab(KERNEL)));
}
