// SPDX-License-Identifier: MIT OR Apache-2.0
//! From somebody else's report to a run: commands that become a scenario, modules and kernels that
//! were built elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::common::{Output, Project, ROOT, assert_contains, lab_env};
use crate::real::{CI, built};

const REPORT: &str = "\
Hello,

our hotfix is gone after an upgrade:

$ sudo insmod shop.ko
$ sudo insmod vendor-v1.ko
[   31.337000] livepatch: 'vendor_v1': patching complete
$ sudo insmod vendor-v1.ko
insmod: ERROR: could not insert module vendor-v1.ko: File exists
$ cat /sys/kernel/livepatch/vendor_v1/transition
$ ./load-generator &
$ echo 0 | sudo tee /sys/kernel/livepatch/vendor_v1/enabled
$ sleep 2
$ sudo rmmod vendor-v1 && sudo rmmod shop
";

/// Runs a scenario and takes what it observes.
fn run(project: &Project, scenario: &str, kernel: &str) -> Output {
    let scenario = format!("scenarios/{scenario}.yaml");
    project.lab(&[
        "run", &scenario, "--kernel", kernel, "--arch", "x86_64", "--accept",
    ])
}

#[test]
fn a_report_of_commands_becomes_a_scenario_that_runs() {
    let project = Project::new();
    fs::write(project.path("report.txt"), REPORT).unwrap();
    let output = project.lab(&["import", "report.txt", "-o", "scenarios/stale-hotfix.yaml"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    insta::assert_snapshot!(output.stdout, @r"
    wrote scenarios/stale-hotfix.yaml: 7 steps, 1 target, 1 livepatch
    next: look at it, then `lab run scenarios/stale-hotfix.yaml`
    ");
    insta::assert_snapshot!(output.stderr, @r"
    not understood: 1 of 9 lines:
      line 11: ./load-generator & (it goes on in the background)
    stand-ins that do as good as nothing: shop, vendor-v1 (name the folder of their files with --modules)
    ");
    let output = run(&project, "stale-hotfix", "mainline");
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let snapshot = project.path("snapshots/stale-hotfix@mainline.snap");
    let observed = fs::read_to_string(snapshot).unwrap();
    assert_contains(&observed, &["load vendor-v1", "EEXIST", "unload shop"]);
}

/// A target and a livepatch whose names no other test has.
const GENERATED: &str = "\
version: 1
summary: What is copied out of the cache.
targets: { intake-shop: { functions: { price: 10 } } }
livepatches: { intake-fix: { patches: { intake-shop: { price: 11 } } } }
steps:
  - load: intake-shop
  - load: intake-fix
    expect: { calls: { intake-shop.price: 11 } }
  - disable: intake-fix
  - unload: [intake-fix, intake-shop]
";

/// Folders with both modules as they were built for `mainline` and for `tags`.
fn modules() -> &'static [PathBuf; 2] {
    static MODULES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let build = || {
        let project = Project::new();
        fs::write(project.path("scenarios/intake.yaml"), GENERATED).unwrap();
        let output = run(&project, "intake", "mainline,tags");
        assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
        ["mainline", "tags"].map(|kernel| {
            let release = release(kernel);
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("intake-{kernel}"));
            fs::create_dir_all(&folder).unwrap();
            for name in ["intake_shop.ko", "intake_fix.ko"] {
                fs::write(folder.join(name), from_cache(name, &release)).unwrap();
            }
            folder
        })
    };
    MODULES.get_or_init(build)
}

/// What is booted of a kernel.
fn boot_file(kernel: &str) -> PathBuf {
    built();
    let args = ["build", "kernel", kernel, "--arch", "x86_64"];
    let output = lab_env(ROOT.as_ref(), &args, &CI);
    assert_eq!(output.code, 0, "{}", output.stderr);
    // `mainline x86_64 …/tree/build/vmlinux`
    output.stdout.trim_end().rsplit(' ').next().unwrap().into()
}

fn release(kernel: &str) -> String {
    let file = boot_file(kernel).with_file_name("include/config/kernel.release");
    fs::read_to_string(file).unwrap().trim().to_owned()
}

/// A module of this name in the cache that was built for a release.
fn from_cache(name: &str, release: &str) -> Vec<u8> {
    let kernels = boot_file("mainline");
    let cache = kernels.ancestors().nth(5).unwrap();
    let entries = fs::read_dir(cache.join("modules")).unwrap().flatten();
    let files = entries.filter_map(|entry| fs::read(entry.path().join(name)).ok());
    let vermagic = format!("vermagic={release} ");
    let mut built = files.filter(|data| {
        let mut windows = data.windows(vermagic.len());
        windows.any(|window| window == vermagic.as_bytes())
    });
    built.next().unwrap()
}

/// The same steps with the files of a folder.
fn prebuilt(project: &Project, name: &str, folder: &Path, steps: &str) {
    let own = project.path("scenarios").join(name);
    fs::create_dir(&own).unwrap();
    for file in ["intake_shop.ko", "intake_fix.ko"] {
        fs::copy(folder.join(file), own.join(file)).unwrap();
    }
    let text = format!(
        "version: 1\nsummary: x\ntargets: {{ intake-shop: {{ ko: {name}/intake_shop.ko }} }}\n\
         livepatches: {{ intake-fix: {{ ko: {name}/intake_fix.ko }} }}\nsteps:\n{steps}"
    );
    fs::write(project.path(&format!("scenarios/{name}.yaml")), text).unwrap();
}

#[test]
fn modules_that_are_files_are_loaded_as_they_are() {
    let [mainline, _] = modules();
    let project = Project::new();
    let steps = "  - load: intake-shop\n  - load: intake-fix\n    \
                 expect: { livepatches: [intake-fix], patched: { intake-fix: { intake-shop: true } }, \
                 enabled_functions: [intake-shop.price] }\n  \
                 - { read: /sys/kernel/debug/lab-intake-shop/price, equals: \"11\" }\n  \
                 - disable: intake-fix\n  - unload: [intake-fix, intake-shop]\n";
    prebuilt(&project, "files", mainline, steps);
    let output = run(&project, "files", "mainline");
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let observed = fs::read_to_string(project.path("snapshots/files@mainline.snap")).unwrap();
    assert_contains(&observed, &["intake-fix", "intake-shop"]);
}

#[test]
fn a_module_of_another_kernel_is_refused_before_anything_boots() {
    let [_, tags] = modules();
    let project = Project::new();
    let steps = "  - load: intake-shop\n  - load: intake-fix\n";
    prebuilt(&project, "other", tags, steps);
    let output = run(&project, "other", "mainline");
    assert_eq!(output.code, 3, "{}\n{}", output.stdout, output.stderr);
    let said = format!("{}{}", output.stdout, output.stderr);
    let said = said.replace(&release("mainline"), "RELEASE-OF-MAINLINE");
    let said = said.replace(&release("tags"), "RELEASE-OF-TAGS");
    let parts = [
        "intake_shop.ko was built for another kernel: loading it will give ENOEXEC",
        "the module: RELEASE-OF-TAGS SMP preempt mod_unload",
        "the kernel: RELEASE-OF-MAINLINE SMP preempt mod_unload",
        "they differ in the release",
        "build it for this kernel, or boot its own; or expect it: `load: intake_shop, errno: ENOEXEC`",
        "intake_fix.ko was built for another kernel",
    ];
    assert_contains(&said, &parts);
    // What is expected is played, and the kernel says the same.
    let steps =
        "  - { load: intake-shop, errno: ENOEXEC }\n  - { load: intake-fix, errno: ENOEXEC }\n";
    prebuilt(&project, "expected", tags, steps);
    let output = run(&project, "expected", "mainline");
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    // As `lab inspect` tells beforehand.
    let file = tags.join("intake_fix.ko").display().to_string();
    let args = ["--project", ROOT, "inspect", &file, "--kernel"];
    let output = project.lab(&[&args[..], &["mainline"]].concat());
    assert_eq!(output.code, 3);
    assert_contains(
        &output.stdout,
        &["intake_fix.ko: a livepatch", "intake_shop: price"],
    );
    let output = project.lab(&[&args[..], &["tags"]].concat());
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert_contains(&output.stdout, &["intake_fix.ko fits"]);
}

#[test]
fn a_report_with_its_modules_needs_no_stand_ins() {
    let [mainline, _] = modules();
    let project = Project::new();
    let report = "# insmod intake-shop.ko\n# insmod intake-fix.ko\n\
                  # echo 0 > /sys/kernel/livepatch/intake_fix/enabled\n\
                  # rmmod intake-fix\n# rmmod intake-shop\n";
    fs::write(project.path("report.txt"), report).unwrap();
    let folder = mainline.display().to_string();
    let args = [
        "import",
        "report.txt",
        "-o",
        "scenarios/attached.yaml",
        "--modules",
        &folder,
    ];
    let output = project.lab(&args);
    assert_eq!((output.code, &*output.stderr), (0, ""));
    assert!(project.path("scenarios/attached/intake_fix.ko").is_file());
    let output = run(&project, "attached", "mainline");
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let output = project.lab(&args);
    assert_eq!(output.code, 2);
    assert_contains(
        &output.stderr,
        &["scenarios/attached.yaml is there already"],
    );
}

/// A build folder as `make O=` leaves it: the lab's own were renamed after they were made.
fn build_folder(of: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(of).unwrap().flatten() {
        symlink(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let source = of.parent().unwrap().join("Makefile");
    let makefile = format!(
        "export KBUILD_OUTPUT = {}\ninclude {}\n",
        to.display(),
        source.display()
    );
    fs::remove_file(to.join("Makefile")).unwrap();
    fs::write(to.join("Makefile"), makefile).unwrap();
}

#[test]
fn a_kernel_that_was_built_elsewhere_boots_and_modules_are_built_for_it() {
    let image = boot_file("mainline");
    let dir = tempfile::tempdir().unwrap();
    // At the same place each time, so that the cache has it once.
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).join("intake-build");
    let _ = fs::remove_dir_all(&build);
    build_folder(image.parent().unwrap(), &build);
    symlink(Path::new(ROOT).join("images"), dir.path().join("images")).unwrap();
    for folder in ["kernels", "scenarios", "snapshots"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let definition = format!(
        "version: 1\nsummary: Somebody's kernel.\ndefault: true\n\
         prebuilt: {{ image: {}, build: {}, arch: x86_64 }}\n",
        image.display(),
        build.display()
    );
    fs::write(dir.path().join("kernels/theirs.yaml"), definition).unwrap();
    fs::write(dir.path().join("scenarios/intake.yaml"), GENERATED).unwrap();
    let args = ["run", "scenarios", "--arch", "x86_64,arm64", "--accept"];
    let output = lab_env(dir.path(), &args, &[]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_contains(&said, &["1 passed", "the kernel was built for x86_64 only"]);
    assert!(dir.path().join("snapshots/intake@theirs.snap").is_file());
}

/// A suite whose kernels are built with this host's compiler.
fn suite() -> &'static str {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    match release.contains("VERSION_CODENAME=bookworm") {
        true => "bookworm",
        false => "trixie",
    }
}

#[test]
fn a_kernel_of_debian_boots_with_the_modules_that_it_needs() {
    built();
    let dir = tempfile::tempdir().unwrap();
    symlink(Path::new(ROOT).join("images"), dir.path().join("images")).unwrap();
    for folder in ["kernels", "scenarios", "snapshots"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let definition = format!(
        "version: 1\nsummary: Debian's, for clouds.\ndefault: true\n\
         debian-image: {{ package: \"linux-image-cloud-{{arch}}\", suite: {} }}\n",
        suite()
    );
    fs::write(dir.path().join("kernels/debian.yaml"), definition).unwrap();
    let steps = format!("{GENERATED}    expect: {{ modules: [] }}\n");
    fs::write(dir.path().join("scenarios/intake.yaml"), steps).unwrap();
    let args = ["run", "scenarios", "--arch", "x86_64", "--accept"];
    let output = lab_env(dir.path(), &args, &[]);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let observed = fs::read_to_string(dir.path().join("snapshots/intake@debian.snap")).unwrap();
    assert_contains(&observed, &["call intake-shop.price: 11"]);
    // What another kernel's module lacks is said with its own kernel's words.
    let file = modules()[0].join("intake_fix.ko").display().to_string();
    let output = lab_env(dir.path(), &["inspect", &file, "--kernel", "debian"], &[]);
    assert_eq!(output.code, 3);
    assert_contains(
        &output.stdout,
        &[
            "was built for another kernel",
            "only the kernel has `modversions`",
        ],
    );
}
