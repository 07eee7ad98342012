// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes of klp-build's messages and of its end. The klp-build is a script that says what a file of
//! the project says.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::{Output, Project, assert_contains, assert_is, find_tool, signal};
use crate::faults::Fault;
use crate::faults::klp_build::*;
use crate::stages::is_through;

/// Says `said`; makes a module unless `fails` is there; never ends if `hangs` is.
const SCRIPT: &str = r#"
while [ $# -gt 1 ]; do
    [ "$1" = --output ] && output=$2
    shift
done
mkdir -p klp-tmp/1-orig
: > klp-tmp/1-orig/.complete
: > PROJECT/ran
if [ -e PROJECT/hangs ]; then
    echo $$ > PROJECT/pids
    sleep 600
fi
printf 'Validating patch(es)\nFixing patch(es)\n'
while read -r line; do
    printf '%s\n' "${line//STAGED/$1}"
done < PROJECT/said
[ -e PROJECT/fails ] && exit 1
printf '\0vermagic=7.0.0-lab-fake SMP\0' > "$output"
"#;

const CHANGED: &str = "vmlinux.o: changed function: fork\n";
const WARNING: &str = "warning: klp-build: STAGED applied with fuzz\n";

fn with_klp_build() -> Project {
    let project = Project::with_stages();
    for tool in ["bash", "flock"] {
        symlink(find_tool(tool), project.path("bin").join(tool)).unwrap();
    }
    let script = SCRIPT.replace("PROJECT", &project.dir().display().to_string());
    project.write("linux/scripts/livepatch/klp-build", &script);
    project.write("linux/Kbuild", "obj-y += kernel/\n");
    let rules = "obj-y += fork.o\nobj-$(CONFIG_KPROBES) += kprobes.o\n";
    project.write("linux/kernel/Makefile", rules);
    project.write("linux/kernel/kprobes.c", "/* kprobes */\n");
    project.before(
        "make",
        "for object in init/main kernel/fork; do\n\
         [ -d \"$2/build\" ] && mkdir -p \"$2/build/${object%/*}\" && : > \"$2/build/$object.o\"\n\
         done\n",
    );
    project.write(
        "kernels/able.yaml",
        "version: 1\nsummary: x\nextends: fake\ncapabilities: { klp-build: [x86_64] }\n",
    );
    project.write(
        "klp/k.yaml",
        "version: 1\nsummary: x\nlivepatches: { v1: { klp-build: x.patch } }\n\
         steps:\n  - load: v1\n",
    );
    project.patch("kernel/fork.c", "1");
    project.write("said", CHANGED);
    project
}

const RUN: [&str; 5] = [
    "run",
    "klp/k.yaml",
    "--arch=x86_64",
    "--kernel=able",
    "--accel=tcg",
];

impl Project {
    /// The source patch, for this file.
    fn patch(&self, file: &str, text: &str) {
        let patch = format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-/* x */\n+/* {text} */\n");
        self.write("klp/x.patch", &patch);
    }

    fn play(&self) -> Output {
        let _ = fs::remove_file(self.path("ran"));
        self.lab(&RUN)
    }

    fn ran(&self) -> bool {
        self.path("ran").exists()
    }
}

/// klp-build says something and fails; the same patch builds when it does not, and nothing is said to
/// have been interrupted.
fn fails(fault: &Fault, said: &str) -> Output {
    let project = with_klp_build();
    project.write("said", said);
    project.write("fails", "");
    let failed = project.play();
    assert_is(fault, &failed);
    // It is in the record, and no other klp-build writes over it.
    let record = project.record("klp-build/v1.log");
    let said = said.replace("STAGED", "klp/x.patch");
    assert!(record.ends_with(&said), "{record}");
    assert_contains(
        &failed.stdout,
        &["the whole output is in the record: klp-build/v1.log"],
    );
    fs::remove_file(project.path("fails")).unwrap();
    project.write("said", CHANGED);
    let made = project.play();
    assert!(is_through(&made) && project.ran(), "{made:?}");
    assert!(!made.stderr.contains("interrupted"), "{made:?}");
    failed
}

#[test]
fn changed_data() {
    let said = "vmlinux.o: error: objtool: changed data: jiffies\n\
                error: klp-build: objtool klp diff failed\n\
                error: klp-build: line 757: '( cd \"$ORIG_CSUM_DIR\"; die )'\n";
    let output = fails(&DATA, said);
    assert!(!output.stdout.contains("757"), "{output:?}");
}

#[test]
fn no_c() {
    let said = "kernel/fork.c:1:1: error: x\nerror: klp-build: patched kernel build failed\n";
    fails(&COMPILER, said);
}

#[test]
fn a_hunk_that_does_not_apply() {
    let said = "checking file kernel/fork.c\nHunk #1 FAILED at 7.\n\
                error: klp-build: STAGED did not apply\n";
    fails(&HUNK, said);
}

#[test]
fn comments() {
    fails(&COMMENT, "error: klp-build: no changes detected\n");
}

#[test]
fn new_functions_alone() {
    let project = with_klp_build();
    project.write("said", "vmlinux.o: new function: helper\n");
    assert_is(&IDLE, &project.play());
    // Callbacks are something.
    project.patch("kernel/fork.c", "*/ KLP_PRE_PATCH_CALLBACK(helper); /*");
    let output = project.play();
    assert!(is_through(&output), "{output:?}");
}

#[test]
fn a_file_that_the_kernel_is_built_without() {
    let project = with_klp_build();
    project.patch("kernel/kprobes.c", "1");
    assert_is(&UNBUILT, &project.play());
    assert!(!project.ran(), "it costs minutes");
}

#[test]
fn warnings_and_functions_are_told_of_each_run_also_from_the_cache() {
    let project = with_klp_build();
    project.write("said", &format!("{WARNING}{CHANGED}"));
    for built in [true, false] {
        let output = project.play();
        assert!(is_through(&output), "{output:?}");
        assert_eq!(project.ran(), built);
        let warning = WARNING.replace("STAGED", "klp/x.patch");
        assert_contains(
            &output.stderr,
            &[&format!("livepatch v1 on able: {warning}")],
        );
        let kept = project.record("klp-build/v1.log");
        assert_eq!(kept, format!("{warning}{CHANGED}"));
        if built {
            let done = "built livepatch v1 with klp-build: fork";
            assert_contains(&output.stderr, &[done]);
        }
    }
}

#[test]
fn an_interrupted_klp_build_is_called_so() {
    let project = with_klp_build();
    project.write("hangs", "");
    let lab = project.spawn(&RUN);
    project.wait_for_pid();
    signal(lab.id(), "INT");
    assert_eq!(crate::common::ended(lab).code, 130);
    fs::remove_file(project.path("hangs")).unwrap();
    let output = project.play();
    assert!(is_through(&output), "{output:?}");
    assert_contains(&output.stderr, &[INTERRUPTED.says]);
}
