// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults around real guests: QEMU, the disk, the user. After each fault no process is left, and the
//! next run succeeds.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{self, Output, Project, ROOT, assert_is, ended, signal, wait_for};
use crate::faults::host::*;
use crate::real::{CI, kthreadd};

pub const RUN: [&str; 5] = ["run", "scenarios", "--kernel", "mainline", "--accel=tcg"];

/// A project with a short scenario that passes.
pub fn project() -> Project {
    let project = Project::new();
    furnish(&project);
    project
}

fn furnish(project: &Project) {
    project.copy("scenarios/builtin-cmdline.yaml");
    project.copy("snapshots/builtin-cmdline.snap");
}

/// No process is left, and the next run succeeds.
pub fn assert_well(project: &Project) {
    assert_eq!(project.guests(), [""; 0]);
    let output = project.lab(&RUN);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(project.guests(), [""; 0]);
}

/// A PATH on which a program stands before the real one.
pub fn with_program(project: &Project, name: &str, text: &str) -> String {
    project.program(name, text);
    let bin = project.path("bin").display().to_string();
    format!("{bin}:{}", std::env::var("PATH").unwrap())
}

fn with_qemu(project: &Project, body: &str) -> Output {
    let real = common::find_tool("qemu-system-x86_64");
    let text = format!("#!/bin/sh\n{body}\nexec {} \"$@\"\n", real.display());
    let path = with_program(project, "qemu-system-x86_64", &text);
    project.lab_with(&RUN, &[("PATH", &path)])
}

/// Starts a run that a transition holds up, and waits until its guest is in the step.
pub fn stalled(project: &Project, more: &[&str]) -> Child {
    fs::write(
        project.path("scenarios/held.yaml"),
        kthreadd("  - load: culprit\n    timeout: 10m"),
    )
    .unwrap();
    let args = [
        "run",
        "scenarios/held.yaml",
        "--kernel",
        "mainline",
        "--accel=tcg",
    ];
    let lab = project.spawn(&[&args, more].concat());
    let console = || fs::read_to_string(project.path(".lab/runs/latest/console.log"));
    wait_for(|| console().is_ok_and(|text| text.contains("starting patching transition")));
    lab
}

pub fn qemu(project: &Project) -> u32 {
    qemu_of(&project.path(".lab")).unwrap()
}

/// The QEMU with its console file below `folder`.
pub fn qemu_of(folder: &Path) -> Option<u32> {
    let console = folder.display().to_string();
    let is_ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with("qemu-system") && line.contains(&console)
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is_ours)
}

/// Runs a shell command with mounts of its own, and then lab with the arguments.
pub fn with_mounts(
    dir: &Path,
    prepare: &str,
    args: &[&str],
    environment: &[(&str, &str)],
) -> Output {
    let script = format!("{prepare} && shift && exec \"$@\"");
    let mut command = Command::new("unshare");
    command
        .args([
            "-rm",
            "sh",
            "-c",
            &script,
            "sh",
            "-",
            env!("CARGO_BIN_EXE_lab"),
        ])
        .args(args)
        .current_dir(dir)
        .env_remove("CI")
        .env_remove("LAB_PROJECT")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    ended(command.spawn().unwrap())
}

#[test]
fn qemu_is_killed() {
    let project = project();
    let lab = stalled(&project, &[]);
    signal(qemu(&project), "KILL");
    assert_is(&KILLED, &ended(lab));
    fs::remove_file(project.path("scenarios/held.yaml")).unwrap();
    assert_well(&project);
}

#[test]
fn qemu_is_stopped() {
    let project = project();
    let lab = stalled(&project, &["--timeout=30s"]);
    signal(qemu(&project), "STOP");
    assert_is(&STOPPED, &ended(lab));
    fs::remove_file(project.path("scenarios/held.yaml")).unwrap();
    assert_well(&project);
}

#[test]
fn qemu_is_slow() {
    let project = project();
    assert_is(&SLOW, &with_qemu(&project, "sleep 3"));
}

#[test]
fn qemu_is_too_old() {
    let project = project();
    let body = "case \"$*\" in *-action*) echo 'qemu: -action: invalid option' >&2; exit 1;; esac";
    assert_is(&OLD, &with_qemu(&project, body));
    assert_well(&project);
}

#[test]
fn qemu_has_no_seccomp() {
    let project = project();
    let body =
        "case \"$*\" in *-sandbox*) echo '-sandbox support is not enabled' >&2; exit 1;; esac";
    assert_is(&NO_SECCOMP, &with_qemu(&project, body));
}

#[test]
fn qemu_aborts_under_kvm() {
    let project = project();
    let real = common::find_tool("qemu-system-x86_64");
    // Its version is its own, so that what is known of the real one is asked again.
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) kill -ABRT $$;; --version) echo faulty; exit;; \
         esac\nexec {} \"$@\"\n",
        real.display()
    );
    let path = with_program(&project, "qemu-system-x86_64", &text);
    let run = |accel| {
        let args = ["run", "scenarios", "--kernel", "mainline", accel];
        project.lab_with(&args, &[("PATH", &path)])
    };
    assert_is(&NO_KVM, &run("--accel=auto"));
    let insisting = run("--accel=kvm");
    assert_eq!(insisting.code, 3);
    assert!(
        insisting.stdout.contains("KVM does not work here: "),
        "{insisting:?}"
    );
}

/// A QEMU that speaks QMP and does nothing else.
const QMP: &str = r#"#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
import json, os, socket, sys, time
if "--version" in sys.argv:
    print("fake")
    sys.exit()
path = next(arg for arg in sys.argv if arg.startswith("socket,id=qmp,")).split("path=")[1].split(",")[0]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
peer, _ = server.accept()
lines = peer.makefile("rw")
def say(message):
    lines.write(json.dumps(message) + "\n")
    lines.flush()
say({"QMP": {"version": {}}})
for line in lines:
    request = json.loads(line)
    if request["execute"] == os.environ["FAKE_MUTE"]:
        continue
    say({"event": "FROM_THE_FUTURE", "data": {}, "timestamp": {"seconds": 1, "microseconds": 0}})
    say({"return": {}, "id": request["id"]})
    if request["execute"] == "cont":
        time.sleep(1)
        break
peer.shutdown(socket.SHUT_RDWR)
time.sleep(600)
"#;

fn with_fake_qmp(mute: &str) -> Output {
    let project = project();
    let path = with_program(&project, "qemu-system-x86_64", QMP);
    let output = project.lab_with(&RUN, &[("PATH", &path), ("FAKE_MUTE", mute)]);
    assert_well(&project);
    output
}

#[test]
fn the_qmp_socket_is_lost_after_an_unknown_event() {
    assert_is(&QMP_LOST, &with_fake_qmp("nothing"));
}

#[test]
fn a_qmp_command_is_not_answered() {
    assert_is(&QMP_MUTE, &with_fake_qmp("cont"));
}

#[test]
fn tmpdir_is_gone() {
    let project = project();
    let output = project.lab_with(&RUN, &[("TMPDIR", "/nowhere/at/all")]);
    assert_is(&NO_TMPDIR, &output);
    assert_well(&project);
}

#[test]
fn tmpdir_is_full() {
    let project = project();
    fs::create_dir(project.path("tmp")).unwrap();
    let tmp = project.path("tmp").display().to_string();
    // Sockets and pipes need no room, but a name.
    let mount = format!("mount -t tmpfs -o size=1m,nr_inodes=1 none '{tmp}'");
    assert_is(
        &FULL_TMPDIR,
        &with_mounts(project.dir(), &mount, &RUN, &[("TMPDIR", &tmp)]),
    );
    assert_well(&project);
}

#[test]
fn the_checkout_is_read_only() {
    let project = project();
    let dir = project.dir().display().to_string();
    let mount =
        format!("mount --bind '{dir}' '{dir}' && mount -o remount,bind,ro '{dir}' && cd '{dir}'");
    assert_is(&READ_ONLY, &with_mounts(project.dir(), &mount, &RUN, &[]));
    // As the message says.
    let elsewhere = tempfile::tempdir().unwrap();
    let output = elsewhere.path().display().to_string();
    let args = [&RUN[..], &["--output", &output]].concat();
    let output = with_mounts(project.dir(), &mount, &args, &CI);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn lab_is_killed_and_the_next_one_cleans_up() {
    let project = project();
    fs::create_dir(project.path("tmp")).unwrap();
    let tmp = project.path("tmp").display().to_string();
    let scratch = || fs::read_dir(project.path("tmp")).unwrap().count();
    fs::write(
        project.path("scenarios/held.yaml"),
        kthreadd("  - load: culprit\n    timeout: 10m"),
    )
    .unwrap();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args([
            "run",
            "scenarios/held.yaml",
            "--kernel=mainline",
            "--accel=tcg",
        ])
        .current_dir(project.dir())
        .env("TMPDIR", &tmp)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(|| project.guests().len() == 1);
    signal(lab.id(), "KILL");
    lab.wait().unwrap();
    wait_for(|| project.guests().is_empty());
    assert_eq!(scratch(), 1);
    fs::remove_file(project.path("scenarios/held.yaml")).unwrap();
    let output = project.lab_with(&RUN, &[("TMPDIR", &tmp)]);
    assert_is(&SIGKILLED, &output);
    assert_eq!(scratch(), 0);
}

#[test]
fn a_path_with_spaces_commas_and_other_letters() {
    let parent = tempfile::Builder::new()
        .prefix("a b, c' ü–")
        .tempdir()
        .unwrap();
    let project = Project::new_in(parent.path());
    furnish(&project);
    let output = project.lab(&RUN);
    assert_is(&ODD_PATH, &output);
}

#[test]
fn nobody_reads_the_output() {
    let project = project();
    let mut lab = project.spawn(&RUN);
    drop(lab.stdout.take());
    drop(lab.stderr.take());
    let status = lab.wait().unwrap();
    assert_eq!(status.code(), Some(NO_READER.code));
    assert!(Path::new(ROOT).is_dir());
    let verdict = project.record("verdict.json");
    assert!(verdict.contains("\"passed\""), "{verdict}");
}
