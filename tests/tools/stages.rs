// SPDX-License-Identifier: MIT OR Apache-2.0
//! A project in which all that comes before a guest is there, made by fake tools: a source in a
//! tarball and in git, patches, a configuration, objects, packages of an image, modules. What the
//! tools write is large enough for a disk to become full of it.

use std::fs;
use std::path::Path;

use crate::common::{Output, Project};

/// Bytes that each stage writes.
const PART: usize = 20_000;

/// How a run ends for which there is no guest: QEMU says so.
pub const NO_GUEST: &str = "there are no guests here";

const APT_GET: &str = r#"
case "$*" in
*indextargets*) echo '||http://localhost/debian/';;
*update*) head -c PART /dev/zero > "${APT_CONFIG%/*}/lists/packages" || exit 100;;
*download*) head -c PART /dev/zero > busybox-static_1_amd64.deb || exit 100;;
esac"#;

const DPKG: &str = r#"
[ "$1" = -x ] || exit 0
mkdir -p "$3/usr/bin" && cp "$2" "$3/usr/bin/busybox""#;

const GCC: &str = r#"
while [ $# -gt 1 ]; do
    if [ "$1" = -o ]; then head -c PART /dev/zero > "$2" || exit 1; fi
    shift
done
echo "gcc 1.0""#;

const MAKE: &str = r#"
[ "$1" = -C ] && cd "$2"
for arg; do case "$arg" in
KCONFIG_ALLCONFIG=*)
    grep -v GONE "${arg#*=}" > build/.config || exit 2
    head -c PART /dev/zero > build/auto.conf || exit 2
    exit 0;;
kernelrelease)
    echo 7.0.0-lab-fake
    exit 0;;
M=*)
    for goal; do case "$goal" in
    *.ko)
        # cat says what is wrong with the disk; the shell's own printf does not.
        { printf '\0vermagic=7.0.0-lab-fake SMP\0'; head -c PART /dev/zero; } | cat > "${arg#M=}/$goal" || exit 2;;
    headers.o)
        head -c PART /dev/zero > "${arg#M=}/headers.h.gch" || exit 2;;
    esac; done
    exit 0;;
esac; done
for name in a.o b.o vmlinux Module.symvers; do
    echo "  CC      $name"
    head -c PART /dev/zero > "build/$name" || exit 2
done"#;

impl Project {
    /// Kernels `fake` (one's own tree), `tarball`, `git` and `patched`, the image `default`, and a
    /// scenario with modules.
    pub fn with_stages() -> Self {
        let project = Self::new();
        let script = |name: &str, body: &str| {
            project.script(name, &body.replace("PART", &PART.to_string()));
        };
        script("apt-get", APT_GET);
        script("apt-config", "");
        script("apt-cache", "echo '  Candidate: 1'");
        script("dpkg", DPKG);
        script("gcc", GCC);
        script("make", MAKE);
        script(
            "qemu-system-x86_64",
            &format!("[ \"$1\" = --version ] && exit; echo '{NO_GUEST}' >&2; exit 1"),
        );
        project.write_scenario();
        project.write("linux/kernel/fork.c", &"/* fork */\n".repeat(PART / 11));
        let core = "int core;\n".repeat(PART / 10);
        project.write("linux/kernel/livepatch/core.c", &core);
        project.tool("tar", &["cf", "linux.tar", "linux"]);
        let sum = project.tool("sha256sum", &["linux.tar"]);
        let sum = sum.split(' ').next().unwrap();
        let git = |args: &[&str]| {
            let identity = [
                "-C",
                "linux",
                "-c",
                "user.name=x",
                "-c",
                "user.email=x@localhost",
            ];
            project.tool("git", &[&identity, args].concat())
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "one"]);
        let repository = project.path("linux").display().to_string();
        for (name, more) in [
            (
                "tarball",
                format!("source: {{ tarball: ../linux.tar, sha256: \"{sum}\" }}\n"),
            ),
            (
                "git",
                format!("source: {{ git: \"{repository}\", revision: main }}\n"),
            ),
            (
                "patched",
                format!(
                    "source: {{ tarball: ../linux.tar, sha256: \"{sum}\" }}\npatches: patches/p\n"
                ),
            ),
        ] {
            let text = format!("version: 1\nsummary: x\nextends: fake\n{more}");
            project.write(&format!("kernels/{name}.yaml"), &text);
        }
        project.write(
            "kernels/patches/p/0001-x.patch",
            "--- a/kernel/livepatch/core.c\n+++ b/kernel/livepatch/core.c\n@@ -1,3 +1,3 @@\n\
             -int core;\n+int patched;\n int core;\n int core;\n",
        );
        project.write(
            "images/default.yaml",
            "version: 1\nsummary: x\nsuite: trixie\n\
             packages: { busybox-static: [usr/bin/busybox] }\n\
             init: guest/init\nagent: guest/agent.c\n",
        );
        project.write("images/guest/init", "#!/bin/sh\n");
        project.write("images/guest/agent.c", "int main(void) { return 0; }\n");
        project
    }

    /// What is finished in the cache, and what looks as if it were: all but the work folders of
    /// builds that can be picked up, and notes.
    pub fn entries(&self) -> Vec<String> {
        let mut found = Vec::new();
        for kind in ["sources", "kernels", "images", "modules"] {
            let dir = self.cache().join(kind);
            let names = fs::read_dir(dir).into_iter().flatten().flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let notes = ["work-", "objects-", "packages-"];
            let whole = |name: &String| !notes.iter().any(|note| name.starts_with(note));
            found.extend(names.filter(whole).map(|name| format!("{kind}/{name}")));
        }
        found.sort();
        found
    }

    /// The living processes that this project's commands started, by the variable that they all
    /// have.
    pub fn processes(&self) -> usize {
        let mark = format!("LAB_TEST_PIDS={}", self.path("pids").display());
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let is_ours = |entry: &fs::DirEntry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|variable| variable == mark.as_bytes())
        };
        entries.filter(is_ours).count()
    }
}

/// Whether a command came as far as it can: to its end, or to a guest that cannot be there.
pub fn is_through(output: &Output) -> bool {
    output.code == 0 || output.code == 3 && output.stdout.contains(NO_GUEST)
}

/// The text of a file, or nothing.
pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
