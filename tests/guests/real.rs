// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of guests need: the host's packages, kernels and images, and projects with them.
//!
//! The first test to come installs what is missing and builds the kernels; a missing tool fails.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use livepatch_lab::event::{Event, Stamped};

use crate::common::{Output, Project, ROOT, lab_env};
use crate::turn;

/// Under CI=true no snapshot is ever written: the tests cannot accept their own results.
pub const CI: [(&str, &str); 1] = [("CI", "true")];

/// Installs what the host lacks, once, when it is the turn of the test's group.
pub fn set_up() {
    static SET_UP: OnceLock<()> = OnceLock::new();
    turn::take();
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

/// Builds everything once, when it is the turn of the test's group.
pub fn built() {
    static BUILT: OnceLock<()> = OnceLock::new();
    // Also when all is built: the next test is of another group.
    set_up();
    BUILT.get_or_init(|| {
        for args in [
            &["build", "kernel", "mainline", "tags-rfc", "tags"][..],
            &["build", "image", "default"],
        ] {
            let args = &[args, &["--arch", "x86_64,arm64"]].concat();
            let output = lab_env(ROOT.as_ref(), args, &CI);
            assert_eq!(output.code, 0, "{args:?}\n{}", output.stderr);
        }
    });
}

impl Project {
    /// A project with the real kernels and images, and scenarios and snapshots of its own.
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    pub fn new_in(parent: &Path) -> Self {
        built();
        let project = Self::empty(parent, |_| Vec::new());
        for folder in ["kernels", "images"] {
            symlink(Path::new(ROOT).join(folder), project.path(folder)).unwrap();
        }
        for folder in ["scenarios", "snapshots"] {
            fs::create_dir(project.path(folder)).unwrap();
        }
        project
    }

    /// Runs a scenario on mainline.
    pub fn run_text(&self, text: &str, arch: &str, more: &[&str]) -> Output {
        fs::write(self.path("scenarios/culprit.yaml"), text).unwrap();
        let args = [
            "run",
            "scenarios/culprit.yaml",
            "--kernel",
            "mainline",
            "--arch",
            arch,
        ];
        self.lab(&[&args, more].concat())
    }

    /// The same, with a livepatch that has a body for `cmdline_proc_show`.
    pub fn run_cmdline(&self, body: &str, arch: &str) -> Output {
        let patch = format!(
            "        cmdline_proc_show:\n          \
             signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
             include: [linux/seq_file.h]\n          body: |\n            {body}\n            \
             return 0;"
        );
        let text = culprit(&patch, "  - load: culprit\n  - read: /proc/cmdline");
        self.run_text(&text, arch, &[])
    }

    /// The command lines of this project's living QEMUs, known by their console files.
    pub fn guests(&self) -> Vec<String> {
        let console = self.path(".lab").to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let line = |entry: fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ")
        };
        let ours = |line: &String| line.starts_with("qemu-system") && line.contains(&console);
        entries.map(line).filter(ours).collect()
    }
}

/// What one command has written to a folder.
pub fn events(dir: &Path) -> Vec<Event> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_events = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("events-") && name.ends_with(".jsonl")
    };
    let file = names.into_iter().find(is_events).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let event = |line: &str| serde_json::from_str::<Stamped>(line).unwrap().event;
    text.lines().map(event).collect()
}

/// A scenario with a livepatch of vmlinux.
pub fn culprit(patch: &str, steps: &str) -> String {
    format!(
        "version: 1\nsummary: x\nlivepatches:\n  culprit:\n    patches:\n      vmlinux:\n\
         {patch}\nsteps:\n{steps}\n"
    )
}

/// One that never gets through: kthreadd sleeps in the function that is patched.
pub fn kthreadd(steps: &str) -> String {
    let patch = "        kthreadd:\n          signature: int kthreadd(void *unused)\n          \
                 body: return 0;";
    culprit(patch, steps)
}
