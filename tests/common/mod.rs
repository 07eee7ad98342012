// SPDX-License-Identifier: MIT OR Apache-2.0
//! A project in a temporary folder, and lab in it. The tier says how a project begins: with fake tools
//! on PATH (`tests/tools/fake.rs`), or with real kernels and images (`tests/guests/real.rs`).
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub mod terminal;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::faults::Fault;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The project's folder; everything goes with it.
pub struct Project {
    dir: tempfile::TempDir,
    /// What its commands have in their environment.
    environment: Vec<(&'static str, PathBuf)>,
}

impl Project {
    /// A project with nothing in it, in a temporary folder below `parent`.
    pub fn empty(parent: &Path, environment: fn(&Path) -> Vec<(&'static str, PathBuf)>) -> Self {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let environment = environment(dir.path());
        Self { dir, environment }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Copies a file of the lab's own project.
    pub fn copy(&self, name: &str) {
        fs::copy(Path::new(ROOT).join(name), self.path(name)).unwrap();
    }

    /// A program in `bin/`.
    pub fn program(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path("bin")).unwrap();
        let path = self.path("bin").join(name);
        // Renamed into place: a running script keeps its own text.
        let new = self.path("bin").join(format!(".{name}"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Runs a real tool in the project's folder.
    pub fn tool(&self, name: &str, args: &[&str]) -> String {
        let mut command = Command::new(name);
        command
            .args(args)
            .current_dir(self.dir())
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A file of the latest record.
    pub fn record(&self, name: &str) -> String {
        fs::read_to_string(self.path(".lab/runs/latest").join(name)).unwrap()
    }

    /// Lets a command work in here.
    pub fn furnish(&self, command: &mut Command) {
        furnish(command, self.dir());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    fn command(&self, args: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(args);
        self.furnish(&mut command);
        command.envs(environment.iter().copied());
        command
    }

    pub fn lab(&self, args: &[&str]) -> Output {
        self.lab_with(args, &[])
    }

    pub fn lab_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        ended(self.command(args, environment).spawn().unwrap())
    }

    pub fn lab_input(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command(args, &[]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        ended(child)
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args, &[]).spawn().unwrap()
    }
}

/// Lets a command work in a folder, with nothing of the tests' own environment that lab heeds.
pub fn furnish(command: &mut Command, dir: &Path) {
    command
        .current_dir(dir)
        .env_remove("CI")
        .env_remove("LAB_PROJECT")
        .env_remove("LAB_SHARD")
        .env_remove("SLURM_ARRAY_TASK_ID")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// Runs lab in a folder with the real tools.
pub fn lab_env(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(args);
    furnish(&mut command, dir);
    command.envs(environment.iter().copied());
    ended(command.spawn().unwrap())
}

/// Waits for the end of a command.
pub fn ended(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
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

pub fn find_tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("the tests need `{name}`"))
}

pub fn signal(pid: u32, name: &str) {
    // The shell's own kill: the program is in a package that a small machine lacks.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} {pid}"))
        .status();
    assert!(status.unwrap().success());
}

/// Whether a process has gone, or goes within a few seconds. A zombie has gone: its parent in
/// these tests is init or the test's own subreaper.
pub fn is_gone(pid: u32) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').next());
        if stat.is_empty() || state == Some("Z") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

pub fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

/// The output must be as the table of faults says.
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
