// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transitions that need not wait for the idle tasks of other CPUs: the kernel's own log says whether
//! its first try has switched all tasks, and nothing else tells the two paces apart.
//!
//! This works on a busy host and without KVM because the kernels have `CONFIG_JUMP_LABEL`: they interrupt
//! all CPUs between the begin of a transition and its first try (`klp_resched_enable()`), and wait for them.
//! Without it, emulated CPUs of one thread hardly ever run in between.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Project, ROOT, assert_contains, is_gone, signal, wait_for};
use crate::real::set_up;

/// Ten transitions. The agent is not bound to a CPU after them.
fn scenario() -> String {
    let mut text = "version: 1\nsummary: x\nmachine: { cpus: 2 }\ntargets: { shop: { functions: { price: 10 } } }\n\
        livepatches: { dear: { replace: false, patches: { shop: { price: 11 } } } }\n\
        steps:\n  - load: shop\n"
        .to_owned();
    for _ in 0..5 {
        text += "  - load: dear\n    expect: { calls: { shop.price: 11 } }\n\
            \x20 - disable: dear\n  - unload: dear\n";
    }
    text + "  - { read: /proc/self/status, contains: \"Cpus_allowed_list:\\t0-1\" }\n"
}

/// The number of transitions, and of those whose first try has switched all tasks.
fn first_tries(log: &str) -> (usize, usize) {
    let (mut all, mut first, mut late) = (0, 0, false);
    for line in log.lines().filter(|line| line.contains("livepatch: ")) {
        late |= line.contains("klp_try_switch_task: ");
        if line.contains(": starting ") {
            late = false;
        }
        if line.contains(": completing ") {
            all += 1;
            first += usize::from(!late);
        }
    }
    (all, first)
}

#[test]
fn first_tries_are_counted() {
    let log = "[ 1.0] livepatch: 'a': starting patching transition\n\
        [ 1.1] livepatch: klp_try_switch_task: swapper/1:0 is running\n\
        [ 2.1] livepatch: 'a': completing patching transition\n\
        [ 2.2] livepatch: 'a': starting unpatching transition\n\
        [ 2.3] livepatch: 'a': completing unpatching transition\n";
    assert_eq!(first_tries(log), (2, 1));
}

#[test]
fn the_first_try_of_a_transition_succeeds_unless_the_kernels_own_pace_is_asked_for() {
    for arch in ["x86_64", "arm64"] {
        at_both_paces(arch);
    }
}

fn at_both_paces(arch: &str) {
    let project = Project::new();
    let mut paces = Vec::new();
    for more in [&["--accept"][..], &["--patient"]] {
        let more = [&["--accel=tcg"], more].concat();
        let output = project.run_text(&scenario(), arch, &more);
        assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
        let (all, first) = first_tries(&project.record("kernel.log"));
        assert_eq!(all, 10);
        let record: serde_json::Value = serde_json::from_str(&project.record("run.json")).unwrap();
        let patient = record["origin"]["patient"].as_bool().unwrap();
        paces.push((patient, first, project.record("observed.txt")));
    }
    let [(false, hurried, states), (true, patient, same)] = &paces[..] else {
        panic!("{paces:?}");
    };
    assert!(*hurried > 5, "{arch}: {hurried} of 10");
    assert!(*patient < 5, "{arch}: {patient} of 10");
    assert_eq!(states, same);
}

#[test]
fn an_agent_of_an_earlier_bundle_does_without() {
    let project = Project::new();
    fs::remove_file(project.path("images")).unwrap();
    fs::create_dir_all(project.path("images/guest")).unwrap();
    project.copy("images/default.yaml");
    project.copy("images/guest/init.c");
    let mut agent = fs::read_to_string(Path::new(ROOT).join("images/guest/agent.c")).unwrap();
    for (now, then) in [
        ("#define PROTOCOL \"3\"", "#define PROTOCOL \"1\""),
        ("argv[0], \"quiet\")", "argv[0], \"not in version 1\")"),
        ("argv[0], \"switch\")", "argv[0], \"not in version 1\")"),
        (
            "do_load(argv[1], argv[2], strtol(argv[3], NULL, 10))",
            "argv[3][0] ? EINVAL : do_load(argv[1], argv[2], 0)",
        ),
    ] {
        assert_eq!(agent.matches(now).count(), 1, "{now}");
        agent = agent.replace(now, then);
    }
    fs::write(project.path("images/guest/agent.c"), agent).unwrap();
    let text = scenario().replace("0-1\"", "0\"");
    let output = project.run_text(&text, "x86_64", &["--accept"]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    assert_contains(&output.stdout, &["1 passed"]);
}

/// The agent on this host: its call is the opening of a pipe, which takes as long as nobody reads.
struct Agent {
    child: Child,
    dir: tempfile::TempDir,
    /// What it is in while it waits for a request.
    idle: String,
}

impl Agent {
    fn start(before: &[&str]) -> Self {
        set_up();
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(ROOT).join("images/guest/agent.c");
        let program = dir.path().join("lab-agent");
        run("gcc", &["-O2", "-o", text(&program), text(&source)]);
        run("mkfifo", &[text(&dir.path().join("pipe"))]);
        let words = [before, &[text(&program), "-c", "lab-agent"]].concat();
        let child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut agent = Self {
            child,
            dir,
            idle: String::new(),
        };
        // Its first answer, so that it is the agent and no longer its loader.
        agent.request("protocol\n");
        assert_eq!(agent.line(), "0 1");
        agent.skip(1);
        wait_for(|| agent.call() != "running");
        agent.idle = agent.call();
        agent
    }

    fn pipe(&self) -> PathBuf {
        self.dir.path().join("pipe")
    }

    fn request(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
    }

    /// Begins the call, and waits until it is under way.
    fn begin(&mut self, hammer_ms: &str) {
        let request = format!("switch\t{}\tx\t{hammer_ms}\n", self.pipe().display());
        self.request(&request);
        wait_for(|| ![&*self.idle, "running"].contains(&&*self.call()));
    }

    /// Lets the call end, and reads the reply.
    fn end(&mut self) {
        assert_eq!(fs::read_to_string(self.pipe()).unwrap(), "x");
        assert_eq!(self.line(), "0 0");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, stdout)
            .read_line(&mut line)
            .unwrap();
        line.trim_end().to_owned()
    }

    /// Reads the bytes of a reply.
    fn skip(&mut self, bytes: usize) {
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut vec![0; bytes]).unwrap();
    }

    /// The number of the system call that it waits in, or `running`.
    fn call(&self) -> String {
        let path = format!("/proc/{}/syscall", self.child.id());
        let text = fs::read_to_string(path).unwrap();
        text.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    fn cpus(&self) -> String {
        status(self.child.id(), "Cpus_allowed_list")
    }

    /// Its children that are not dead, with their names and CPUs.
    fn hammers(&self) -> Vec<(u32, String, String)> {
        let parent = self.child.id().to_string();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let lives =
            |pid: &u32| status(*pid, "PPid") == parent && !status(*pid, "State").starts_with('Z');
        pids.filter(lives)
            .map(|pid| (pid, status(pid, "Name"), status(pid, "Cpus_allowed_list")))
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// A line of `/proc/PID/status`, empty if the process has gone.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_default().to_owned()
}

/// This process's CPUs.
fn cpus() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

#[test]
fn a_hammer_on_each_other_cpu_ends_with_the_call() {
    let mut agent = Agent::start(&[]);
    let before = agent.cpus();
    agent.begin("600000");
    let hammers = agent.hammers();
    assert_eq!(hammers.len(), cpus() - 1, "{hammers:?}");
    let mut taken = vec![agent.cpus()];
    for (_, name, cpu) in &hammers {
        assert_eq!(name, "lab-hammer");
        taken.push(cpu.clone());
    }
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), cpus(), "a CPU each: {taken:?}");
    agent.end();
    assert_eq!(agent.hammers(), []);
    assert_eq!(agent.cpus(), before);
}

#[test]
fn a_call_that_takes_long_is_left_to_itself() {
    let mut agent = Agent::start(&[]);
    agent.begin("300");
    wait_for(|| agent.hammers().is_empty());
    assert_ne!(agent.call(), agent.idle, "the call is still under way");
    agent.end();
}

#[test]
fn hammers_end_with_their_agent() {
    let mut agent = Agent::start(&[]);
    agent.begin("600000");
    let hammers = agent.hammers();
    assert_eq!(hammers.len(), cpus() - 1);
    signal(agent.child.id(), "KILL");
    for (pid, ..) in hammers {
        assert!(is_gone(pid));
    }
}

#[test]
fn with_one_cpu_or_at_the_kernels_own_pace_there_is_none() {
    for (before, hammer_ms) in [(&["taskset", "--cpu-list", "0"][..], "600000"), (&[], "0")] {
        let mut agent = Agent::start(before);
        let cpus = agent.cpus();
        agent.begin(hammer_ms);
        assert_eq!(agent.hammers(), []);
        assert_eq!(agent.cpus(), cpus);
        agent.end();
    }
}
