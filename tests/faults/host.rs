// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults around the guests: QEMU, the disk, the clock, other labs, the user.
//!
//! Real guests where it matters, fake tools where the real ones are too slow. After each fault no
//! process is left, and the next run succeeds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{self, Output, Project, lab_env, signal};
use crate::sandbox::{CI, ROOT, Sandbox, kthreadd};
use crate::stages::is_through;

/// What happens to the lab, and what must come of it.
pub struct Fault {
    pub what: &'static str,
    /// As it is shown: `could not run`, or what the lab does about it.
    pub outcome: &'static str,
    /// As it is shown, in brackets; empty if nobody is to blame.
    pub blame: &'static str,
    pub code: i32,
    /// What the message says.
    pub says: &'static str,
}

pub const fn infra(what: &'static str, says: &'static str) -> Fault {
    Fault {
        what,
        outcome: "could not run",
        blame: "host",
        code: 3,
        says,
    }
}

pub const fn passes(what: &'static str, outcome: &'static str) -> Fault {
    Fault {
        what,
        outcome,
        blame: "",
        code: 0,
        says: outcome,
    }
}

const KILLED: Fault = infra("QEMU is killed", "QEMU ended (signal: 9 (SIGKILL))");
const STOPPED: Fault = infra(
    "QEMU is stopped",
    "QEMU answers nothing either, it was stopped by a signal",
);
const SLOW: Fault = passes("QEMU takes 3 s to start", "passed");
const OLD: Fault = infra("QEMU is too old", "install 8.2 or later");
const NO_SECCOMP: Fault = passes("QEMU has no seccomp", "passed");
const NO_KVM: Fault = passes("QEMU aborts under KVM", "guests run under TCG, not KVM");
const NO_QEMU: Fault = infra(
    "QEMU is missing",
    "host packages are missing: qemu-system-x86",
);
const QMP_LOST: Fault = infra("the QMP socket is lost", "QEMU closed its QMP socket");
const QMP_MUTE: Fault = infra(
    "a QMP command is not answered",
    "QMP cont: no answer within 20s",
);
const NO_TMPDIR: Fault = infra(
    "TMPDIR is gone",
    "set TMPDIR to a folder that you can write to",
);
const FULL_TMPDIR: Fault = infra("TMPDIR is full", "No space left on device");
const READ_ONLY: Fault = infra("the checkout is read-only", "--output DIR");
const COMPILER: Fault = infra("the compiler crashes", "the compiler crashed");
const APT: Fault = infra("apt fails half-way", "apt-get");
const TWO_LABS: Fault = passes(
    "two labs want one kernel",
    "waiting for another lab to build kernel",
);
const SIGKILLED: Fault = passes("lab is killed (SIGKILL)", "passed");
const ODD_PATH: Fault = passes("a path with spaces, commas and non-ASCII letters", "passed");
const NO_READER: Fault = passes("nobody reads the output any more (`| head`)", "passed");

pub const FAULTS: [&Fault; 18] = [
    &KILLED,
    &STOPPED,
    &SLOW,
    &OLD,
    &NO_SECCOMP,
    &NO_KVM,
    &NO_QEMU,
    &QMP_LOST,
    &QMP_MUTE,
    &NO_TMPDIR,
    &FULL_TMPDIR,
    &READ_ONLY,
    &COMPILER,
    &APT,
    &TWO_LABS,
    &SIGKILLED,
    &ODD_PATH,
    &NO_READER,
];

/// The output must be as the table says.
pub fn assert_is(fault: &Fault, output: &Output) {
    let all = format!("{}{}", output.stdout, output.stderr);
    let blame = [format!("[{}]", fault.blame), format!("({})", fault.blame)];
    let blamed = fault.blame.is_empty() || blame.iter().any(|blame| all.contains(blame));
    assert!(
        output.code == fault.code && blamed && all.contains(fault.says),
        "{}: {} [{}] {:?}\n{output:?}",
        fault.what,
        fault.code,
        fault.blame,
        fault.says
    );
}

pub const RUN: [&str; 5] = ["run", "scenarios", "--kernel", "mainline", "--accel=tcg"];

/// A sandbox with a short scenario that passes.
pub fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    furnish(&sandbox);
    sandbox
}

fn furnish(sandbox: &Sandbox) {
    sandbox.copy("scenarios/builtin-cmdline.yaml");
    sandbox.copy("snapshots/builtin-cmdline.snap");
}

/// No process is left, and the next run succeeds.
pub fn assert_well(sandbox: &Sandbox) {
    assert_eq!(sandbox.guests(), [""; 0]);
    let output = sandbox.lab(&RUN);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(sandbox.guests(), [""; 0]);
}

/// A PATH on which a program stands before the real one.
fn with_program(sandbox: &Sandbox, name: &str, text: &str) -> String {
    let bin = sandbox.path("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join(name), text).unwrap();
    fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

fn with_qemu(sandbox: &Sandbox, body: &str) -> Output {
    let real = common::find_tool("qemu-system-x86_64");
    let text = format!("#!/bin/sh\n{body}\nexec {} \"$@\"\n", real.display());
    let path = with_program(sandbox, "qemu-system-x86_64", &text);
    lab_env(sandbox.0.path(), &RUN, &[("PATH", &path)])
}

/// Starts a run that a transition holds up, and waits until its guest is in the step.
pub fn stalled(sandbox: &Sandbox, more: &[&str]) -> Child {
    fs::write(
        sandbox.path("scenarios/held.yaml"),
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
    let lab = common::spawn(sandbox.0.path(), &[&args, more].concat());
    let console = || fs::read_to_string(sandbox.path(".lab/runs/latest/console.log"));
    wait_for(|| console().is_ok_and(|text| text.contains("starting patching transition")));
    lab
}

pub fn wait_for(mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "it does not come"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn qemu(sandbox: &Sandbox) -> u32 {
    let console = sandbox.path(".lab").display().to_string();
    let is_ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with("qemu-system") && line.contains(&console)
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is_ours).unwrap()
}

pub fn ended(lab: Child) -> Output {
    let output = lab.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
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
    let sandbox = sandbox();
    let lab = stalled(&sandbox, &[]);
    signal(qemu(&sandbox), "KILL");
    assert_is(&KILLED, &ended(lab));
    fs::remove_file(sandbox.path("scenarios/held.yaml")).unwrap();
    assert_well(&sandbox);
}

#[test]
fn qemu_is_stopped() {
    let sandbox = sandbox();
    let lab = stalled(&sandbox, &["--timeout=30s"]);
    signal(qemu(&sandbox), "STOP");
    assert_is(&STOPPED, &ended(lab));
    fs::remove_file(sandbox.path("scenarios/held.yaml")).unwrap();
    assert_well(&sandbox);
}

#[test]
fn qemu_is_slow() {
    let sandbox = sandbox();
    assert_is(&SLOW, &with_qemu(&sandbox, "sleep 3"));
}

#[test]
fn qemu_is_too_old() {
    let sandbox = sandbox();
    let body = "case \"$*\" in *-action*) echo 'qemu: -action: invalid option' >&2; exit 1;; esac";
    assert_is(&OLD, &with_qemu(&sandbox, body));
    assert_well(&sandbox);
}

#[test]
fn qemu_has_no_seccomp() {
    let sandbox = sandbox();
    let body =
        "case \"$*\" in *-sandbox*) echo '-sandbox support is not enabled' >&2; exit 1;; esac";
    assert_is(&NO_SECCOMP, &with_qemu(&sandbox, body));
}

#[test]
fn qemu_aborts_under_kvm() {
    let sandbox = sandbox();
    let real = common::find_tool("qemu-system-x86_64");
    // Its version is its own, so that what is known of the real one is asked again.
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) kill -ABRT $$;; --version) echo faulty; exit;; \
         esac\nexec {} \"$@\"\n",
        real.display()
    );
    let path = with_program(&sandbox, "qemu-system-x86_64", &text);
    let run = |accel| {
        let args = ["run", "scenarios", "--kernel", "mainline", accel];
        lab_env(sandbox.0.path(), &args, &[("PATH", &path)])
    };
    assert_is(&NO_KVM, &run("--accel=auto"));
    let insisting = run("--accel=kvm");
    assert_eq!(insisting.code, 3);
    assert!(
        insisting.stdout.contains("KVM does not work here: "),
        "{insisting:?}"
    );
}

#[test]
fn qemu_is_missing() {
    let project = Project::with_stages();
    let qemu = project.path("bin/qemu-system-x86_64");
    let away = project.path("qemu");
    fs::rename(&qemu, &away).unwrap();
    let run = ["run", "scenarios", "--kernel=fake", "--accel=tcg"];
    assert_is(&NO_QEMU, &project.lab(&run));
    assert_eq!(project.entries(), [""; 0]);
    fs::rename(&away, &qemu).unwrap();
    assert!(is_through(&project.lab(&run)));
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
    let sandbox = sandbox();
    let path = with_program(&sandbox, "qemu-system-x86_64", QMP);
    let output = lab_env(
        sandbox.0.path(),
        &RUN,
        &[("PATH", &path), ("FAKE_MUTE", mute)],
    );
    assert_well(&sandbox);
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
    let sandbox = sandbox();
    let output = lab_env(sandbox.0.path(), &RUN, &[("TMPDIR", "/nowhere/at/all")]);
    assert_is(&NO_TMPDIR, &output);
    assert_well(&sandbox);
}

#[test]
fn tmpdir_is_full() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("tmp")).unwrap();
    let tmp = sandbox.path("tmp").display().to_string();
    // Sockets and pipes need no room, but a name.
    let mount = format!("mount -t tmpfs -o size=1m,nr_inodes=1 none '{tmp}'");
    assert_is(
        &FULL_TMPDIR,
        &with_mounts(sandbox.0.path(), &mount, &RUN, &[("TMPDIR", &tmp)]),
    );
    assert_well(&sandbox);
}

#[test]
fn the_checkout_is_read_only() {
    let sandbox = sandbox();
    let dir = sandbox.0.path().display().to_string();
    let mount =
        format!("mount --bind '{dir}' '{dir}' && mount -o remount,bind,ro '{dir}' && cd '{dir}'");
    assert_is(
        &READ_ONLY,
        &with_mounts(sandbox.0.path(), &mount, &RUN, &[]),
    );
    // As the message says.
    let elsewhere = tempfile::tempdir().unwrap();
    let output = elsewhere.path().display().to_string();
    let args = [&RUN[..], &["--output", &output]].concat();
    let output = with_mounts(sandbox.0.path(), &mount, &args, &CI);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn the_compiler_crashes() {
    let project = Project::new();
    project.make_script("echo 'gcc: internal compiler error: Segmentation fault' >&2; exit 2");
    assert_is(&COMPILER, &project.lab(&["build", "kernel", "fake"]));
    project.make_script("touch build/vmlinux build/Module.symvers");
    assert_eq!(project.lab(&["build", "kernel", "fake"]).code, 0);
}

#[test]
fn apt_fails_half_way() {
    let project = Project::new();
    project.remove_tool("flex");
    project.script("sudo", "shift; exec \"$@\"");
    let install = |what: &str| {
        let body = format!("case \"$*\" in *-y*install*) {what};; esac");
        project.script("apt-get", &body);
        project.lab(&["setup", "--yes"])
    };
    let fetch = install("echo 'E: Failed to fetch flex' >&2; exit 100");
    assert_is(&APT, &fetch);
    let dpkg =
        install("echo \"E: dpkg was interrupted, you must run 'dpkg --configure -a'\"; exit 100");
    assert_is(&APT, &dpkg);
    assert!(
        dpkg.stderr
            .contains("next: run `dpkg --configure -a` as root")
    );
    let flex = project.path("bin/flex").display().to_string();
    let next = install(&format!("printf '#!/bin/sh\\n' > '{flex}'"));
    assert_eq!(next.code, 0, "{next:?}");
}

/// Debian 12 has QEMU 7.2, and a later one in its backports.
#[test]
fn a_qemu_that_is_too_old_is_replaced_from_backports() {
    let project = Project::new();
    let qemu = |version: &str| format!("echo 'QEMU emulator version {version} (Debian)'");
    project.script("qemu-system-x86_64", &qemu("7.2.22"));
    project.script("sudo", "shift; exec \"$@\"");
    project.script("apt-config", "");
    project.script("dpkg", "echo amd64");
    let path = project.path("bin/qemu-system-x86_64").display().to_string();
    let install = |from_backports: &str| {
        let newer = qemu(from_backports);
        let body = format!(
            "case \"$*\" in\n*indextargets*) echo '||http://localhost/debian/';;\n\
             *-backports*-y*install*qemu-system-x86*) \
             printf '%s\\n' '#!/bin/sh' \"{newer}\" > '{path}';;\nesac"
        );
        project.script("apt-get", &body);
        project.lab(&["setup", "--yes"])
    };
    let too_old = install("8.1.5");
    assert_eq!(too_old.code, 3, "{too_old:?}");
    for said in [
        "qemu-system-x86        runs x86_64 guests",
        "is 8.1.5: the lab needs QEMU 8.2",
    ] {
        assert!(too_old.stderr.contains(said), "{too_old:?}");
    }
    let replaced = install("10.0.2");
    assert_eq!(replaced.code, 0, "{replaced:?}");
    assert!(
        replaced
            .stderr
            .contains("the release's own version is too old"),
        "{replaced:?}"
    );
    let again = project.lab(&["setup", "--yes"]);
    assert!(
        again.stderr.contains("every host package is there"),
        "{again:?}"
    );
}

#[test]
fn two_labs_want_one_kernel() {
    let project = Project::new();
    let builds = project.path("builds");
    project.make_script(&format!(
        "echo built >> {}; sleep 2; touch build/vmlinux build/Module.symvers",
        builds.display()
    ));
    let first = project.spawn(&["build", "kernel", "fake"]);
    wait_for(|| builds.exists());
    let second = project.lab(&["build", "kernel", "fake"]);
    assert_is(&TWO_LABS, &second);
    assert_eq!(ended(first).code, 0);
    assert_eq!(fs::read_to_string(&builds).unwrap().lines().count(), 1);
}

#[test]
fn lab_is_killed_and_the_next_one_cleans_up() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("tmp")).unwrap();
    let tmp = sandbox.path("tmp").display().to_string();
    let scratch = || fs::read_dir(sandbox.path("tmp")).unwrap().count();
    fs::write(
        sandbox.path("scenarios/held.yaml"),
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
        .current_dir(sandbox.0.path())
        .env("TMPDIR", &tmp)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(|| sandbox.guests().len() == 1);
    signal(lab.id(), "KILL");
    lab.wait().unwrap();
    wait_for(|| sandbox.guests().is_empty());
    assert_eq!(scratch(), 1);
    fs::remove_file(sandbox.path("scenarios/held.yaml")).unwrap();
    let output = lab_env(sandbox.0.path(), &RUN, &[("TMPDIR", &tmp)]);
    assert_is(&SIGKILLED, &output);
    assert_eq!(scratch(), 0);
}

#[test]
fn a_path_with_spaces_commas_and_other_letters() {
    let parent = tempfile::Builder::new()
        .prefix("a b, c' ü–")
        .tempdir()
        .unwrap();
    let sandbox = Sandbox::new_in(parent.path());
    furnish(&sandbox);
    let output = sandbox.lab(&RUN);
    assert_is(&ODD_PATH, &output);
}

#[test]
fn nobody_reads_the_output() {
    let sandbox = sandbox();
    let mut lab = common::spawn(sandbox.0.path(), &RUN);
    drop(lab.stdout.take());
    drop(lab.stderr.take());
    let status = lab.wait().unwrap();
    assert_eq!(status.code(), Some(NO_READER.code));
    assert!(Path::new(ROOT).is_dir());
    let verdict = sandbox.record("verdict.json");
    assert!(verdict.contains("\"passed\""), "{verdict}");
}
