// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small project with fake tools on PATH, and nothing of the host's packages but them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::{Project, find_tool};

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

/// Files of packages that have no tool.
const HOST_FILES: [&str; 6] = [
    "usr/include/stdlib.h",
    "usr/include/libelf.h",
    "usr/include/xxhash.h",
    "usr/share/perl/5/strict.pm",
    "usr/x86_64-linux-gnu/include/stdlib.h",
    "usr/aarch64-linux-gnu/include/stdlib.h",
];

impl Project {
    pub fn new() -> Self {
        let project = Self::empty(&std::env::temp_dir(), |dir| {
            vec![
                ("PATH", dir.join("bin")),
                ("LAB_CACHE_DIR", dir.join("cache")),
                ("LAB_HOST_ROOT", dir.join("host")),
                ("LAB_TEST_PIDS", dir.join("pids")),
            ]
        });
        fs::create_dir(project.path("bin")).unwrap();
        for tool in REAL {
            let real = find_tool(tool);
            symlink(real, project.path("bin").join(tool)).unwrap();
        }
        for tool in FAKE {
            project.script(tool, "echo \"$0 1.0\"");
        }
        for file in HOST_FILES {
            project.write(&format!("host/{file}"), "");
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

    pub fn write_scenario(&self) {
        let text = "version: 1\nsummary: x\ntargets: { shop: { functions: { price: 10 } } }\n\
                    livepatches: { v1: { patches: { shop: { price: 11 } } } }\nsteps:\n  - load: shop\n";
        self.write("scenarios/s.yaml", text);
    }

    /// A fake tool: a script of the shell.
    pub fn script(&self, name: &str, body: &str) {
        self.program(name, &format!("#!/bin/sh\n{body}\n"));
    }

    /// Lets a script that is there do this first.
    pub fn before(&self, name: &str, body: &str) {
        let script = fs::read_to_string(self.path("bin").join(name)).unwrap();
        let rest = script.trim_start_matches("#!/bin/sh");
        self.script(name, &format!("{body}{rest}"));
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
}
