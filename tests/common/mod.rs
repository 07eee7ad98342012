// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small project in a temporary folder, with fake build tools on PATH.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The project's folder; everything goes with it.
pub struct Project(tempfile::TempDir);

/// Tools that the tests use for real.
const REAL: [&str; 21] = [
    "sh", "cp", "patch", "touch", "sleep", "echo", "printf", "cat", "mkdir", "rm", "tar", "env",
    "grep", "sed", "true", "false", "dirname", "mv", "head", "git", "gzip",
];
/// Tools that only have to be there.
const FAKE: [&str; 15] = [
    "ccache",
    "gcc",
    "gawk",
    "recountdiff",
    "ld",
    "flex",
    "bison",
    "bc",
    "python3",
    "xz",
    "perl",
    "qemu-system-x86_64",
    "qemu-system-aarch64",
    "aarch64-linux-gnu-gcc",
    "x86_64-linux-gnu-gcc",
];

impl Project {
    pub fn new() -> Self {
        set_up();
        let project = Self(tempfile::tempdir().unwrap());
        fs::create_dir(project.path("bin")).unwrap();
        for tool in REAL {
            let real = find_tool(tool);
            symlink(real, project.path("bin").join(tool)).unwrap();
        }
        for tool in FAKE {
            project.script(tool, "echo \"$0 1.0\"");
        }
        project.make_script("touch build/vmlinux");
        for folder in ["scenarios", "snapshots", "images"] {
            fs::create_dir_all(project.path(folder)).unwrap();
        }
        project.write("linux/Makefile", "# a kernel\n");
        project.write("linux/kernel/livepatch/core.c", "int core;\n");
        project.write("kernels/config/x.config", "CONFIG_LIVEPATCH=y\n");
        project.write(
            "kernels/fake.yaml",
            "version: 1\nsummary: x\ndefault: true\nsource: { path: ../linux }\n\
             config: [config/x.config]\n",
        );
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn write_scenario(&self) {
        let text = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\n\
                    livepatches: { v1: { patches: { shop: { price: 11 } } } }\nsteps:\n  - load: shop\n";
        self.write("scenarios/s.yaml", text);
    }

    pub fn script(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        // Renamed into place: a running script keeps its own text.
        let new = self.path("bin").join(format!(".{name}"));
        fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// A make whose configuration works: `body` is what the build itself does, in the tree.
    pub fn make_script(&self, body: &str) {
        self.script(
            "make",
            &format!(
                "[ \"$1\" = -C ] && cd \"$2\"\n\
                 for arg; do case \"$arg\" in\n\
                 KCONFIG_ALLCONFIG=*) grep -v GONE \"${{arg#*=}}\" > build/.config; exit 0;;\n\
                 kernelrelease) echo 7.0.0-lab-fake; exit 0;;\n\
                 esac; done\n{body}"
            ),
        );
    }

    /// A definition `other` with another source, and nothing else new.
    pub fn write_kernel(&self, source: &str) {
        let text = format!("version: 1\nsummary: x\nextends: fake\nsource: {source}\n");
        self.write("kernels/other.yaml", &text);
    }

    /// Runs a real tool in the project's folder.
    pub fn tool(&self, name: &str, args: &[&str]) -> String {
        let mut command = Command::new(name);
        command
            .args(args)
            .current_dir(self.0.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn remove_tool(&self, name: &str) {
        fs::remove_file(self.path("bin").join(name)).unwrap();
    }

    pub fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    pub fn cache_is_empty(&self) -> bool {
        fs::read_dir(self.cache()).unwrap().next().is_none()
    }

    pub fn finished_kernels(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.cache().join("kernels")) else {
            return 0;
        };
        entries
            .flatten()
            .filter(|entry| {
                !entry.file_name().to_string_lossy().starts_with(['w', '.'])
                    && entry.path().join("kernel.json").exists()
            })
            .count()
    }

    /// Names, contents and times below linux/.
    pub fn tree_listing(&self) -> Vec<String> {
        let mut rows = Vec::new();
        let mut folders = vec![self.path("linux")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    let time = entry.metadata().unwrap().modified().unwrap();
                    rows.push(format!("{:?} {text} {time:?}", entry.path()));
                }
            }
        }
        rows.sort();
        rows
    }

    pub fn wait_for_pid(&self) -> u32 {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            let text = fs::read_to_string(self.path("pids")).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                return pid;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the fake make did not start");
    }

    fn command(&self, args: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(args);
        self.furnish(&mut command);
        command.envs(environment.iter().copied());
        command
    }

    /// Lets a command work in here, with the fake tools.
    pub fn furnish(&self, command: &mut Command) {
        furnish(command, self.0.path());
        command
            .env("PATH", self.path("bin"))
            .env("LAB_CACHE_DIR", self.cache())
            .env("LAB_TEST_PIDS", self.path("pids"));
    }

    pub fn lab(&self, args: &[&str]) -> Output {
        self.lab_with(args, &[])
    }

    pub fn lab_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        finish(self.command(args, environment).spawn().unwrap())
    }

    pub fn lab_input(&self, args: &[&str], input: &str) -> Output {
        let mut child = self
            .command(args, &[])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        finish(child)
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args, &[]).spawn().unwrap()
    }
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(args);
    furnish(&mut command, dir);
    command
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

/// Installs what the host lacks, once: headers cannot be faked on PATH.
pub fn set_up() {
    static SET_UP: OnceLock<()> = OnceLock::new();
    SET_UP.get_or_init(|| {
        let output = lab_env(
            env!("CARGO_MANIFEST_DIR").as_ref(),
            &["setup", "--yes", "--arch", "x86_64,arm64"],
            &[],
        );
        assert_eq!(output.code, 0, "{}", output.stderr);
    });
}

/// Installs what only the tests need, each package with a file that shows that it is there.
pub fn install(packages: &[(&str, &str)]) {
    let missing = packages
        .iter()
        .filter(|(_, file)| !Path::new(file).exists());
    let names: Vec<_> = missing.map(|(name, _)| *name).collect();
    if names.is_empty() {
        return;
    }
    for args in [
        &["-q", "update"][..],
        &["-q", "-y", "--no-install-recommends", "install"],
    ] {
        let names = if args.contains(&"install") {
            &names[..]
        } else {
            &[]
        };
        let status = Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(args)
            .args(names)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "apt-get {args:?} {names:?}");
    }
}

/// Starts lab in a folder with the real tools.
pub fn spawn(dir: &Path, args: &[&str]) -> Child {
    command(dir, args).spawn().unwrap()
}

/// Runs lab in a folder with the real tools.
pub fn lab_env(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    finish(
        command(dir, args)
            .envs(environment.iter().copied())
            .spawn()
            .unwrap(),
    )
}

fn finish(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
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
