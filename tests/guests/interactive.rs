// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs that are paused, and guests that are entered: by another lab, on a terminal, as a pipe, with
//! gdb's protocol. And nothing of that is left behind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use livepatch_lab::event::{Event, Stamped};
use livepatch_lab::guest::entrance::Entrance;

use crate::common::terminal::{Terminal, resize};
use crate::common::{Output, Project, assert_contains, is_gone, signal};
use crate::real::{culprit, kthreadd};

const SCENARIO: &str = "scenarios/tagged-transition-window.yaml";
/// The livepatch of the step `in-the-window`, which is held in transition.
const LIVEPATCH: &str = "/sys/kernel/livepatch/pricing_v2";
/// Longer than anything takes that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

fn wait_for<T>(what: &str, there: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A lab whose run is paused.
struct Paused {
    project: Project,
    lab: Child,
    record: PathBuf,
    entrance: Entrance,
}

impl Paused {
    /// Plays a scenario of the project on the kernel with tags.
    fn new(more: &[&str]) -> Self {
        let project = Project::new();
        project.copy(SCENARIO);
        project.copy("snapshots/tagged-transition-window@tags.snap");
        Self::run(project, SCENARIO, &[&["--kernel=tags"], more].concat())
    }

    /// Plays a scenario on mainline.
    fn of(text: &str, more: &[&str]) -> Self {
        let project = Project::new();
        fs::write(project.path("scenarios/culprit.yaml"), text).unwrap();
        let args = [&["--kernel=mainline"], more].concat();
        Self::run(project, "scenarios/culprit.yaml", &args)
    }

    fn run(project: Project, scenario: &str, more: &[&str]) -> Self {
        // In an empty cache that takes longer than what is waited for below.
        let built = project.lab(&["build", "kernel", "tags", "mainline", "--arch=x86_64"]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        // A test that fails leaves the run paused.
        let args = [&["run", scenario, "--accel=tcg", "--pause-limit=5m"], more].concat();
        let lab = project.spawn(&args);
        let latest = project.path(".lab/runs/latest");
        let entrance = wait_for("pause", || Entrance::of(&latest).unwrap());
        let record = latest.canonicalize().unwrap();
        Self {
            project,
            lab,
            record,
            entrance,
        }
    }

    fn lab(&self, args: &[&str]) -> Output {
        self.project.lab(args)
    }

    /// What a command in the guest says.
    fn exec(&self, command: &[&str]) -> String {
        let output = self.lab(&[&["exec", "--"], command].concat());
        assert_eq!((output.code, &*output.stderr), (0, ""), "{command:?}");
        output.stdout
    }

    fn key(&self) -> PathBuf {
        self.entrance.ssh.as_ref().unwrap().key.clone()
    }

    /// Lets the run go on, and waits for its end.
    fn go_on(self) -> (Project, Output) {
        let output = self.lab(&["continue"]);
        assert_eq!(output.code, 0, "{}", output.stderr);
        self.end()
    }

    /// Waits for the lab's end, after which nothing is left.
    fn end(self) -> (Project, Output) {
        let Self {
            project,
            lab,
            record,
            entrance,
        } = self;
        let output = lab.wait_with_output().unwrap();
        let output = Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert_nothing_left(&project, &record, &entrance);
        (project, output)
    }
}

fn assert_nothing_left(project: &Project, record: &Path, entrance: &Entrance) {
    assert_eq!(project.guests(), [""; 0]);
    for file in ["guest.json", "continue"] {
        assert!(!record.join(file).exists(), "{file}");
    }
    let ssh = entrance.ssh.iter();
    let files = ssh.flat_map(|ssh| [&ssh.key, &ssh.known_hosts]);
    for file in files.chain(&entrance.gdb) {
        assert!(!file.exists(), "{}", file.display());
    }
}

fn events(record: &Path) -> Vec<Event> {
    let text = fs::read_to_string(record.join("events.jsonl")).unwrap();
    let event = |line: &str| serde_json::from_str::<Stamped>(line).unwrap().event;
    text.lines().map(event).collect()
}

#[test]
fn a_paused_run_is_entered_by_another_lab_and_goes_on() {
    let paused = Paused::new(&["--pause-at=in-the-window"]);
    let record = paused.record.clone();
    let enabled = format!("{LIVEPATCH}/enabled");
    let transition = format!("{LIVEPATCH}/transition");
    assert_eq!(paused.exec(&["cat", &enabled, &transition]), "1\n1\n");
    // Words arrive as they are, and what the guest says as well if nobody looks at it.
    assert_eq!(paused.exec(&["echo", "a  b", "$HOME;'"]), "a  b $HOME;'\n");
    assert_eq!(paused.exec(&["printf", "\\033[2J"]), "\u{1b}[2J");
    for status in [7, 0, 255] {
        let command = format!("echo out; echo err >&2; exit {status}");
        let output = paused.lab(&["exec", "--", "sh", "-c", &command]);
        assert_eq!(
            (output.code, &*output.stdout, &*output.stderr),
            (status, "out\n", "err\n")
        );
    }
    let output = paused.lab(&["exec", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(output.code, 137);
    // Megabytes both ways at once, which nobody loses a byte of.
    let lines: String = (0..300_000).map(|number| format!("{number}\n")).collect();
    let output = piped(&paused.project, &["exec", "--", "cat"], lines.as_bytes());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout == lines, "{} bytes", output.stdout.len());

    // A reader that has gone ends it, as it ends other programs.
    let mut endless = paused.project.spawn(&["exec", "--", "cat", "/dev/zero"]);
    let mut some = [1; 100];
    endless
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut some)
        .unwrap();
    assert_eq!(some, [0; 100]);
    let output = endless.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), &*output.stderr),
        (Some(141), &b""[..])
    );

    // The key is for its owner, and nobody else can even look for it.
    let key = paused.key();
    for (path, mode) in [(&*key, 0o600), (key.parent().unwrap(), 0o700)] {
        let found = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{}", path.display());
    }

    // The console, in what it says later as well, and with nothing that steers a terminal.
    let console = paused.project.spawn(&["console"]);
    paused.exec(&["sh", "-c", "printf '\\033[2J marked\\n' >/dev/console"]);

    let (project, output) = paused.go_on();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_contains(
        &output.stdout,
        &["passed  tagged-transition-window on tags"],
    );
    assert_contains(
        &output.stderr,
        &[
            "paused  tagged-transition-window on tags (x86_64), after step 5 of 12 (load pricing-v2): \
             --pause-at in-the-window\n",
            "  shell    lab shell .lab/runs/",
            "  ssh      ssh -F none -p ",
            "  go on    lab continue .lab/runs/",
            "goes on  tagged-transition-window on tags (x86_64), paused for ",
        ],
    );
    let console = console.wait_with_output().unwrap();
    assert!(console.status.success());
    let said = String::from_utf8(console.stdout).unwrap();
    assert_contains(
        &said,
        &["livepatch: enabling patch 'pricing_v2'", " marked\n"],
    );
    assert!(said.contains("\\u{1b}[2J") && !said.contains('\u{1b}'));

    // What the visitor did belongs to no step, and the pause to no run.
    let events = events(&record);
    let paused_ms = events.iter().find_map(|event| match event {
        Event::Resumed { ms, .. } => Some(*ms),
        _ => None,
    });
    let ms = events.iter().find_map(|event| match event {
        Event::RunFinished { ms, .. } => Some(*ms),
        _ => None,
    });
    let is_paused = |event: &Event| {
        matches!(
            event,
            Event::Paused {
                step: 5,
                of: 12,
                ..
            }
        )
    };
    assert!(events.iter().any(is_paused));
    assert!(paused_ms.unwrap() > 0 && ms.unwrap() > 0);

    // It is over, which each command says.
    for args in [&["shell", "latest"][..], &["exec", "latest", "--", "ls"]] {
        let output = project.lab(args);
        assert_eq!(output.code, 2, "{args:?}");
        assert_contains(&output.stderr, &["is over, and its guest has ended"]);
    }
    let output = project.lab(&["continue"]);
    assert_eq!(output.code, 2);
    assert_contains(&output.stderr, &["no run is paused"]);
}

#[test]
fn a_shell_has_a_terminal_of_its_own() {
    let mut paused = Paused::new(&["--pause-at=2"]);
    let mut terminal = Terminal::new(&paused.project, &["shell"]);
    terminal.expect("tags:~# ");
    assert!(!terminal.is_cooked());
    terminal.type_in("stty size; echo $TERM $((6*7))\r");
    terminal.expect("\n40 100\r\nxterm 42\r\n");
    resize(&terminal.master, 120, 50);
    let sizes = "for t in /dev/pts/[0-9]*; do stty size <$t; done";
    wait_for("other size", || {
        let output = paused.exec(&["sh", "-c", sizes]);
        (output == "50 120\n").then_some(())
    });
    // What is typed while the guest's shell draws its line anew may be anywhere.
    terminal.type_in("stty size\r");
    terminal.expect("50 120\r\n");
    terminal.expect("tags:~# ");
    // Ctrl-C is the guest's.
    terminal.type_in("sleep 1000 || echo interrupted $((40+2))\r");
    wait_for("sleep", || {
        let output = paused.exec(&["sh", "-c", "pidof sleep || true"]);
        (!output.is_empty()).then_some(())
    });
    let pressed = Instant::now();
    terminal.type_in("\u{3}");
    terminal.expect("tags:~# ");
    assert_eq!(paused.exec(&["sh", "-c", "pidof sleep || true"]), "");
    assert!(pressed.elapsed() < PATIENCE);
    terminal.type_in("exit 7\r");
    assert_eq!(terminal.status(), Some(7));
    assert!(terminal.is_cooked());

    // There is a way out of a guest that says nothing.
    let mut terminal = Terminal::new(&paused.project, &["shell"]);
    terminal.expect("tags:~# ");
    terminal.type_in("sleep 1000\r");
    terminal.type_in("~.");
    assert_eq!(terminal.status(), Some(0));
    assert!(terminal.is_cooked());

    // A lab that is killed takes its guest along, and the next one says so.
    let output = paused.exec(&["pidof", "dropbear"]);
    assert!(!output.is_empty());
    let mut terminal = Terminal::new(&paused.project, &["shell", "latest"]);
    terminal.expect("tags:~# ");
    paused.lab.kill().unwrap();
    paused.lab.wait().unwrap();
    assert_eq!(terminal.status(), Some(3));
    terminal.expect("the guest was lost");
    assert!(terminal.is_cooked());
    assert_eq!(paused.project.guests(), [""; 0]);
    let output = paused.lab(&["shell", "latest"]);
    assert_eq!(output.code, 2);
    assert_contains(&output.stderr, &["is over, and its guest has ended"]);
    // The next guest of any lab takes away what lets nobody in any more.
    assert!(paused.key().exists());
    enter(&paused.project, "x86_64");
    assert!(!paused.key().exists());
}

/// What a lab makes of its input.
fn piped(project: &Project, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(args);
    project.furnish(&mut command);
    let mut lab = command.stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (lab.stdin.take().unwrap(), input.to_vec());
    let typing = std::thread::spawn(move || stdin.write_all(&input));
    let output = lab.wait_with_output().unwrap();
    typing.join().unwrap().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Boots a guest, enters, and ends it.
fn enter(project: &Project, arch: &str) {
    let command = "uname -m; cat /sys/kernel/livepatch/pricing_v1/enabled; exit 3";
    let args = ["exec", SCENARIO, "--kernel=tags", "--arch", arch];
    let args = [
        &args,
        &["--accel=tcg", "--at=2", "--", "sh", "-c", command][..],
    ]
    .concat();
    let output = project.lab(&args);
    let machine = if arch == "arm64" { "aarch64" } else { arch };
    assert_eq!(
        output.stdout,
        format!("{machine}\n1\n"),
        "{}",
        output.stderr
    );
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert_eq!(project.guests(), [""; 0]);
    assert!(!project.path(".lab/runs/latest/guest.json").exists());
}

#[test]
fn a_guest_is_booted_to_be_entered() {
    let project = Project::new();
    project.copy(SCENARIO);
    enter(&project, "arm64");
    // A shell without a terminal is a pipe.
    let args = ["shell", SCENARIO, "--kernel=tags", "--accel=tcg"];
    let lines = b"ls /sys/kernel/livepatch | wc -l\nexit 5\n";
    let output = piped(&project, &args, lines);
    assert_eq!(
        (output.code, &*output.stdout),
        (5, "0\n"),
        "{}",
        output.stderr
    );
    assert_eq!(project.guests(), [""; 0]);

    let args = ["shell", SCENARIO, "--kernel=tags", "--at=in-the-windov"];
    let output = project.lab(&args);
    assert_eq!(output.code, 2);
    assert_contains(&output.stderr, &["did you mean `in-the-window`?"]);
    let args = ["run", SCENARIO, "--kernel=tags", "--pause-at=13"];
    let output = project.lab(&args);
    assert_eq!(output.code, 2);
    assert_contains(
        &output.stderr,
        &[
            "--pause-at: no scenario has a step 13",
            "a number from 0 to 12, or a name: in-the-window",
        ],
    );
    let output = project.lab(&["shell", "no-such-run"]);
    assert_eq!(output.code, 2);
    assert_contains(&output.stderr, &["no-such-run is no run's record"]);
}

#[test]
fn a_failure_is_paused_for_while_its_guest_is_there() {
    let text = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\nsteps:\n  \
                - load: shop\n  - { call: shop.price, returns: 11 }\n  - unload: shop\n";
    let paused = Paused::of(text, &["--pause-on-failure"]);
    assert_eq!(
        paused.exec(&["cat", "/sys/kernel/debug/lab-shop/price"]),
        "10\n"
    );
    let (_, output) = paused.go_on();
    assert_eq!(output.code, 1, "{}", output.stderr);
    let why = "after step 2 of 3 (call shop.price): step 2 (line 6, call shop.price): shop.price \
               answered 10, not 11\n";
    assert_contains(&output.stderr, &[why]);
    // Once, and not for what follows from it.
    assert_eq!(output.stderr.matches("paused  ").count(), 1);

    // A transition that does not end; and Ctrl-C ends everything.
    let text = kthreadd("  - { load: culprit, timeout: 2s }");
    let paused = Paused::of(&text, &["--pause-on-failure"]);
    let transition = "/sys/kernel/livepatch/culprit/transition";
    assert_eq!(paused.exec(&["cat", transition]), "1\n");
    signal(paused.lab.id(), "INT");
    let (_, output) = paused.end();
    assert_eq!(output.code, 130, "{}", output.stderr);
    assert_contains(
        &output.stderr,
        &["the transition of culprit did not end in 2s"],
    );
}

/// gdb's remote protocol, as far as it takes.
struct Stub(UnixStream);

impl Stub {
    fn ask(&mut self, packet: &str) -> String {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        write!(self.0, "${packet}#{sum:02x}").unwrap();
        let mut answer = String::new();
        let mut byte = [0];
        while !(answer.contains('#') && answer.len() >= answer.find('#').unwrap() + 3) {
            self.0.read_exact(&mut byte).unwrap();
            answer.push(byte[0].into());
        }
        self.0.write_all(b"+").unwrap();
        let (_, answer) = answer.split_once('$').unwrap();
        answer.split_once('#').unwrap().0.to_owned()
    }
}

#[test]
fn gdb_attaches_and_knows_where_the_modules_are() {
    let paused = Paused::new(&["--gdb", "--pause-at=2"]);
    let script = fs::read_to_string(paused.record.join("gdb.init")).unwrap();
    let socket = paused.entrance.gdb.clone().unwrap();
    assert_contains(
        &script,
        &[
            "/build/vmlinux\"\n",
            &format!("\ntarget remote {}\n", socket.display()),
        ],
    );
    for module in ["shop", "pricing_v1"] {
        let loaded = script.lines().find(|line| {
            line.starts_with("add-symbol-file ") && line.contains(&format!("/{module}.ko\""))
        });
        let words: Vec<_> = loaded.unwrap().split(' ').collect();
        let section = |name: &str| {
            let file = format!("/sys/module/{module}/sections/{name}");
            paused.exec(&["cat", &file]).trim().to_owned()
        };
        assert_eq!(words[2], section(".text"), "{script}");
        let data = words.windows(2).find(|pair| pair[0] == ".data");
        assert_eq!(data.unwrap()[1], section(".data"), "{script}");
        assert!(!script.contains(".init.text"));
    }
    // What is not loaded is nowhere.
    assert!(!script.contains("pricing_v2.ko"));

    let mut stub = Stub(UnixStream::connect(&socket).unwrap());
    stub.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_contains(&stub.ask("qSupported"), &["PacketSize="]);
    assert!(stub.ask("?").starts_with(['T', 'S']));
    // The guest stands still: an answer comes only after it was let go.
    let exec = ["exec", "--", "cat", "/proc/uptime"];
    let mut answer = paused.project.spawn(&exec);
    std::thread::sleep(Duration::from_secs(2));
    assert!(answer.try_wait().unwrap().is_none());
    assert_eq!(stub.ask("D"), "OK");
    assert!(answer.wait().unwrap().success());
    drop(stub);
    let (_, output) = paused.go_on();
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_contains(&output.stderr, &["  gdb      gdb -x .lab/runs/"]);
}

#[test]
fn a_guest_that_panicked_is_there_for_gdb_and_its_console() {
    let patch = "        cmdline_proc_show:\n          \
                 signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
                 include: [linux/panic.h, linux/seq_file.h]\n          body: |\n            panic(\"meant\");\n";
    let text = culprit(patch, "  - load: culprit\n  - read: /proc/cmdline");
    let paused = Paused::of(&text, &["--gdb", "--pause-on-failure"]);
    assert!(paused.entrance.ssh.is_none());
    let output = paused.lab(&["shell"]);
    assert_eq!(output.code, 3);
    assert_contains(&output.stderr, &["accepts no more logins", "lab console"]);
    let socket = paused.entrance.gdb.clone().unwrap();
    let mut stub = Stub(UnixStream::connect(&socket).unwrap());
    stub.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(stub.ask("?").starts_with(['T', 'S']));
    let script = fs::read_to_string(paused.record.join("gdb.init")).unwrap();
    assert_contains(&script, &["/culprit.ko\" 0x"]);
    let args = ["console", "latest"];
    let console = paused.project.spawn(&args);
    let guest = paused.lab.id();
    signal(guest, "TERM");
    let (_sandbox, output) = paused.end();
    assert_eq!(output.code, 130, "{}", output.stderr);
    assert!(is_gone(guest));
    let said = console.wait_with_output().unwrap();
    assert_contains(
        &String::from_utf8(said.stdout).unwrap(),
        &["Kernel panic - not syncing: meant"],
    );
}
