// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real binary on prepared projects, with fake tools on PATH where real ones are too slow:
//! output, exit codes, Ctrl-C, and nothing left behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{self, Project};

#[test]
fn a_broken_scenario_exits_2_quickly_and_builds_nothing() {
    let project = Project::new();
    project.write(
        "scenarios/bad.yaml",
        "version: 1\nsummary: x\nlivepatches: {}\nsteps:\n  - lod: x\n",
    );
    let started = Instant::now();
    let output = project.lab(&["run", "scenarios/bad.yaml"]);
    let took = started.elapsed();
    assert_eq!(output.code, 2, "{output:?}");
    assert!(
        output.stderr.contains("did you mean `load`?"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("--> scenarios/bad.yaml:5:5"),
        "{}",
        output.stderr
    );
    assert!(!project.cache().exists() || project.cache_is_empty());
    // Not a speed test: a build would take minutes.
    assert!(took < Duration::from_secs(20));
}

#[test]
fn check_reports_every_file_at_once() {
    let project = Project::new();
    project.write("scenarios/a.yaml", "version: 1\nsummary: x\nsteps: 3\n");
    project.write("scenarios/b.yaml", "version: 2\n");
    let output = project.lab(&["check", "scenarios"]);
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("a.yaml:") && output.stderr.contains("b.yaml:1:"));
    assert_eq!(output.stdout, "");
}

#[test]
fn the_projects_own_scenarios_have_no_mistakes() {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = common::lab_env(root.as_ref(), &["check", "scenarios"], &[]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
}

#[test]
fn a_path_that_is_not_there_is_a_usage_error() {
    let project = Project::new();
    let output = project.lab(&["run", "scenarios/none.yaml"]);
    assert_eq!(output.code, 2);
    insta::assert_snapshot!(output.stderr, @r"
    error: there is no scenarios/none.yaml
    next: `lab list scenarios` shows what there is
    ");
}

#[test]
fn a_scenario_of_the_project_is_found_by_its_name() {
    let project = Project::new();
    project.write_scenario();
    let (run, check) = (["run", "s", "--dry-run"], ["check", "s"]);
    let output = project.lab(&run);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("s on fake"), "{output:?}");
    assert_eq!(project.lab(&check).stdout, "1 scenario, no mistakes\n");
    let output = project.lab(&["export", "s", "--format=kselftest"]);
    assert_eq!(output.code, 0, "{output:?}");
    // Of a guest, the file says that one is to be booted.
    let output = project.lab(&["shell", "s"]);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("name its file: scenarios/s.yaml"),
        "{output:?}"
    );
    for (file, name) in [("upstream/s", "s"), ("other", "s.yaml")] {
        let text = std::fs::read_to_string(project.path("scenarios/s.yaml")).unwrap();
        project.write(&format!("scenarios/{file}.yaml"), &text);
        let output = project.lab(&["run", name, "--dry-run"]);
        assert_eq!(output.code, 2, "{output:?}");
    }
    let output = project.lab(&run);
    insta::assert_snapshot!(output.stderr, @r"
    error: 2 scenarios have the name s
      scenarios/s.yaml
      scenarios/upstream/s.yaml
    next: name the file of one
    ");
    assert_eq!(
        project.lab(&["run", "othr"]).stderr,
        "error: there is no othr\nnext: did you mean `other`?\n"
    );
}

#[test]
fn a_whole_project_is_its_scenarios() {
    let project = Project::new();
    project.write_scenario();
    let text = std::fs::read_to_string(project.path("scenarios/s.yaml")).unwrap();
    project.write(".lab/runs/x/project/scenarios/s.yaml", &text);
    project.write("target/scenarios/s.yaml", &text);
    project.write("target/CACHEDIR.TAG", "");
    project.write("lab.yaml", "version: 1\n");
    let output = project.lab(&["check", "."]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "1 scenario, no mistakes\n"),
        "{output:?}"
    );
    let output = project.lab(&["run", ".", "--dry-run"]);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn an_unknown_kernel_comes_with_a_suggestion() {
    let project = Project::new();
    project.write_scenario();
    let output = project.lab(&["run", "scenarios/s.yaml", "--kernel", "fak"]);
    assert_eq!(output.code, 2);
    insta::assert_snapshot!(output.stderr, @r"
    error: there is no kernel `fak`
    next: did you mean `fake`?
    ");
}

#[test]
fn missing_host_packages_are_named_with_their_reasons() {
    let project = Project::new();
    project.write_scenario();
    project.remove_tool("flex");
    project.remove_tool("qemu-system-x86_64");
    let output = project.lab(&["run", "scenarios/s.yaml", "--arch", "x86_64"]);
    assert_eq!(output.code, 3);
    insta::assert_snapshot!(output.stderr, @r"
    error (host): host packages are missing: flex, qemu-system-x86
      flex                   the kernel's configuration parser
      qemu-system-x86        runs x86_64 guests
    next: run `lab setup`, or add --setup to this command
    ");
}

#[test]
fn under_ci_nothing_can_be_accepted() {
    let project = Project::new();
    project.write_scenario();
    let output = project.lab_with(&["run", "scenarios/s.yaml", "--accept"], &[("CI", "true")]);
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("--accept does not go with CI=true"));
}

#[test]
fn nobody_enters_a_guest_that_is_recorded() {
    let project = Project::new();
    project.write_scenario();
    for option in ["--pause-at=1", "--pause-on-failure", "--gdb"] {
        let output = project.lab(&["run", "scenarios/s.yaml", "--record", option]);
        assert_eq!(output.code, 2, "{option}");
        assert!(output.stderr.contains("cannot be used with"), "{output:?}");
    }
}

#[test]
fn a_failed_build_shows_the_compilers_error_and_leaves_no_entry() {
    let project = Project::new();
    let noise = "  CC      kernel/a.o\\n".repeat(50);
    project.make_script(&format!(
        "printf '{noise}'; echo 'kernel/x.c:3:1: error: no such thing' >&2; exit 2"
    ));
    let output = project.lab(&["build", "kernel", "fake"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(
        output
            .stderr
            .contains("error (kernel): building kernel fake"),
        "{}",
        output.stderr
    );
    assert!(
        output
            .stderr
            .contains("kernel/x.c:3:1: error: no such thing")
    );
    assert!(output.stderr.lines().count() < 15, "{}", output.stderr);
    assert_eq!(project.finished_kernels(), 0);
}

#[test]
fn after_a_failure_the_build_resumes_and_the_next_run_builds_nothing() {
    let project = Project::new();
    project.make_script("exit 2");
    assert_eq!(project.lab(&["build", "kernel", "fake"]).code, 3);
    project.make_script("touch build/vmlinux");
    let resumed = project.lab(&["build", "kernel", "fake"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(
        !resumed.stderr.contains("prepared"),
        "the tree was there: {}",
        resumed.stderr
    );
    assert_eq!(project.finished_kernels(), 1);
    project.make_script("echo must not run >&2; exit 1");
    let cached = project.lab(&["build", "kernel", "fake"]);
    assert_eq!((cached.code, cached.stderr.as_str()), (0, ""));
}

#[test]
fn the_users_own_tree_is_never_written_to() {
    let project = Project::new();
    project.make_script("touch build/vmlinux kernel/written.c; echo changed > Makefile");
    let before = project.tree_listing();
    assert_eq!(project.lab(&["build", "kernel", "fake"]).code, 0);
    assert_eq!(project.tree_listing(), before);
}

#[test]
fn an_edit_in_the_users_tree_gives_another_kernel() {
    let project = Project::new();
    project.make_script("touch build/vmlinux");
    assert_eq!(project.lab(&["build", "kernel", "fake"]).code, 0);
    project.write("linux/kernel/livepatch/core.c", "int edited;\n");
    assert_eq!(project.lab(&["build", "kernel", "fake"]).code, 0);
    assert_eq!(project.finished_kernels(), 2);
}

#[test]
fn what_did_not_change_in_the_users_tree_is_not_copied_again() {
    let project = Project::new();
    let build = || {
        let output = project.lab(&["build", "kernel", "fake"]);
        assert_eq!(output.code, 0, "{output:?}");
        let boot_file = output
            .stdout
            .trim_end()
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned();
        std::path::PathBuf::from(boot_file)
            .ancestors()
            .nth(2)
            .unwrap()
            .to_path_buf()
    };
    let first = build();
    project.write("linux/kernel/livepatch/core.c", "int edited;\n");
    let second = build();
    let inode = |path: std::path::PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(first.join("Makefile")),
        inode(second.join("Makefile"))
    );
    let core = "kernel/livepatch/core.c";
    assert_ne!(inode(first.join(core)), inode(second.join(core)));
    assert_ne!(
        inode(first.join("Makefile")),
        inode(project.path("linux/Makefile"))
    );
}

#[test]
fn a_tarball_is_checked_against_its_sum() {
    let project = Project::new();
    project.tool("tar", &["czf", "linux.tar.gz", "linux"]);
    let sum = project.tool("sha256sum", &["linux.tar.gz"]);
    let sum = sum.split(' ').next().unwrap();
    let wrong = "0".repeat(64);
    project.write_kernel(&format!(
        "{{ tarball: ../linux.tar.gz, sha256: \"{wrong}\" }}"
    ));
    let output = project.lab(&["build", "kernel", "other"]);
    assert_eq!(output.code, 2);
    let found = format!("found  {sum}");
    assert!(output.stderr.contains(&found) && output.stderr.contains("has another sha256"));
    project.write_kernel(&format!(
        "{{ tarball: ../linux.tar.gz, sha256: \"{sum}\" }}"
    ));
    let output = project.lab(&["build", "kernel", "other"]);
    assert_eq!(output.code, 0, "{output:?}");
    let url = format!("copy://{}", project.path("linux.tar.gz").display());
    project.write_kernel(&format!("{{ tarball: \"{url}\", sha256: \"{sum}\" }}"));
    let output = project.lab(&["build", "kernel", "other"]);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn ones_own_tree_takes_objects_from_a_source_in_the_cache_by_content() {
    let project = Project::new();
    for name in ["same", "trap"] {
        project.write(&format!("linux/{name}.c"), "int one;\n");
    }
    let old = |name: &str| {
        project.tool("touch", &["-d", "2020-01-01", &format!("linux/{name}.c")]);
    };
    for name in ["same", "trap", "kernel/livepatch/core"] {
        old(name);
    }
    project.tool("tar", &["czf", "linux.tar.gz", "linux"]);
    let sum = project.tool("sha256sum", &["linux.tar.gz"]);
    let sum = sum.split(' ').next().unwrap();
    project.write_kernel(&format!(
        "{{ tarball: ../linux.tar.gz, sha256: \"{sum}\" }}"
    ));
    // It compiles what is newer than its object.
    project.make_script(
        "for file in same trap kernel/livepatch/core; do\n\
         [ build/x.o -nt $file.c ] || echo $file; done > build/made\n\
         touch build/x.o build/vmlinux",
    );
    let made = |kernel: &str| {
        let output = project.lab(&["build", "kernel", kernel]);
        assert_eq!(output.code, 0, "{output:?}");
        let boot_file = output.stdout.split_whitespace().last().unwrap().to_owned();
        let made = Path::new(&boot_file).with_file_name("made");
        (fs::read_to_string(made).unwrap(), output.stderr)
    };
    assert_eq!(made("other").0, "same\ntrap\nkernel/livepatch/core\n");
    // As long as it was, and as old.
    project.write("linux/trap.c", "int two;\n");
    old("trap");
    let (again, stderr) = made("fake");
    assert!(stderr.contains("objects shared"), "{stderr}");
    assert_eq!(again, "trap\n");
    // From now on it is its own relative.
    project.write("linux/kernel/livepatch/core.c", "int edited;\n");
    let (edited, _) = made("fake");
    assert!(
        edited.contains("core") && !edited.contains("same"),
        "{edited}"
    );
}

#[test]
fn a_git_revision_is_resolved_once_and_anew_with_refresh() {
    let project = Project::new();
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
    project.write_kernel(&format!(
        "{{ git: \"{}\", revision: main }}",
        project.path("linux").display()
    ));
    let build = |more: &[&str]| {
        let output = project.lab(&[&["build", "kernel", "other"], more].concat());
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout
    };
    let first = build(&[]);
    project.write("linux/kernel/livepatch/core.c", "int changed;\n");
    git(&["commit", "--quiet", "-a", "-m", "two"]);
    assert_eq!(build(&[]), first, "what was resolved once stays");
    assert_ne!(build(&["--refresh"]), first);
}

#[test]
fn a_patch_that_does_not_apply_names_file_and_hunk() {
    let project = Project::new();
    let patch = "--- a/kernel/livepatch/core.c\n+++ b/kernel/livepatch/core.c\n\
                 @@ -1,1 +1,1 @@\n-int not_there;\n+int other;\n";
    project.write("kernels/patches/p/0001-x.patch", patch);
    project.write(
        "kernels/patched.yaml",
        "version: 1\nsummary: x\nextends: fake\npatches: patches/p\n",
    );
    let output = project.lab(&["build", "kernel", "patched"]);
    assert_eq!(output.code, 3);
    let expected = "0001-x.patch does not apply: kernel/livepatch/core.c: Hunk #1 FAILED at 1";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    assert_eq!(project.finished_kernels(), 0);
}

#[test]
fn a_config_option_that_did_not_stick_is_named() {
    let project = Project::new();
    project.write(
        "kernels/config/x.config",
        "CONFIG_LIVEPATCH=y\nCONFIG_GONE=y\n",
    );
    project.write(
        "linux/Kconfig",
        "config GONE\n\tbool \"gone\"\n\tdepends on ELSEWHERE\n",
    );
    let output = project.lab(&["build", "kernel", "fake"]);
    assert_eq!(output.code, 3);
    assert!(
        output
            .stderr
            .contains("config option CONFIG_GONE did not stick"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("depends on ELSEWHERE"));
}

#[test]
fn one_interrupt_ends_a_build_in_good_order() {
    let project = Project::new();
    project.make_script("echo $$ > \"$LAB_TEST_PIDS\"; sleep 60 & wait");
    let mut lab = project.spawn(&["build", "kernel", "fake"]);
    let make = project.wait_for_pid();
    common::signal(lab.id(), "INT");
    let status = lab.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(common::is_gone(make));
    assert_eq!(project.finished_kernels(), 0);
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let project = Project::new();
    project.make_script("trap '' TERM INT; echo $$ > \"$LAB_TEST_PIDS\"; sleep 60; sleep 60");
    let mut lab = project.spawn(&["build", "kernel", "fake"]);
    let make = project.wait_for_pid();
    common::signal(lab.id(), "INT");
    std::thread::sleep(Duration::from_millis(200));
    common::signal(lab.id(), "INT");
    assert_eq!(lab.wait().unwrap().code(), Some(130));
    assert!(common::is_gone(make));
}

#[test]
fn a_killed_lab_leaves_no_build_running() {
    let project = Project::new();
    project.make_script("echo $$ > \"$LAB_TEST_PIDS\"; exec sleep 60");
    let mut lab = project.spawn(&["build", "kernel", "fake"]);
    let make = project.wait_for_pid();
    common::signal(lab.id(), "KILL");
    lab.wait().unwrap();
    assert!(common::is_gone(make));
    project.make_script("touch build/vmlinux");
    assert_eq!(
        project.lab(&["build", "kernel", "fake"]).code,
        0,
        "no stale lock"
    );
}

#[test]
fn a_cache_path_that_make_cannot_work_in_is_refused() {
    let project = Project::new();
    let cache = project.path("a b");
    let environment = [("LAB_CACHE_DIR", cache.to_str().unwrap())];
    let output = project.lab_with(&["build", "kernel", "fake"], &environment);
    assert_eq!(output.code, 3);
    assert!(
        output.stderr.contains("has a space or a colon"),
        "{}",
        output.stderr
    );
}

#[test]
fn completions_and_schema_are_printed() {
    let project = Project::new();
    assert!(
        project
            .lab(&["completions", "bash"])
            .stdout
            .contains("_lab()")
    );
    let schema = project.lab(&["schema"]).stdout;
    assert!(
        serde_json::from_str::<serde_json::Value>(&schema)
            .unwrap()
            .is_object()
    );
}

#[test]
fn help_has_examples_and_fits_100_columns() {
    let project = Project::new();
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["build", "--help"],
        &["check", "--help"],
    ] {
        let output = project.lab(args);
        assert_eq!(output.code, 0);
        assert!(output.stdout.contains("Examples:"), "{args:?}");
        let long = output
            .stdout
            .lines()
            .find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{args:?}");
    }
}

#[test]
fn searches_say_what_is_missing_before_anything_is_built() {
    let project = Project::new();
    project.write_scenario();
    project.write("scenarios/s-min.yaml", "# mine\n");
    project.write(
        "kernels/series.yaml",
        "version: 1\nsummary: x\nextends: fake\npatches: patches/p\n",
    );
    project.write("kernels/patches/p/0001-x.patch", "no patch\n");
    let scenario = "scenarios/s.yaml";
    for (args, said) in [
        (
            &["minimize", scenario][..],
            "scenarios/s-min.yaml is there already",
        ),
        (
            &["minimize", scenario, "-o", "x.yaml", "--passes-on", "fake"],
            "it cannot fail and pass on fake",
        ),
        (
            &["compare", scenario, "--kernel", "fake"],
            "two kernels or more",
        ),
        (
            &["compare", scenario, "--kernel", "fake,fake"],
            "two kernels or more",
        ),
        (&["bisect", scenario], "--source"),
        (
            &["bisect", scenario, "--series"],
            "kernel fake has no patch series",
        ),
        (
            &[
                "bisect", scenario, "--series", "--kernel", "series", "--bad", "2",
            ],
            "the series has 1 patch",
        ),
        (
            &[
                "bisect", scenario, "--series", "--kernel", "series", "--good", "v7",
            ],
            "this is a number of patches",
        ),
        (
            &[
                "bisect", scenario, "--source", "../linux", "--good", "a", "--bad", "b",
            ],
            "only a repository's folder goes",
        ),
        (
            &[
                "bisect",
                scenario,
                "--source",
                "path:linux",
                "--good",
                "a",
                "--bad",
                "b",
            ],
            "is no git repository",
        ),
    ] {
        let output = project.lab(args);
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.stderr.contains(said), "{args:?}: {}", output.stderr);
    }
    let min = fs::read_to_string(project.path("scenarios/s-min.yaml")).unwrap();
    assert_eq!(min, "# mine\n");
    assert_eq!(project.finished_kernels(), 0);
}
