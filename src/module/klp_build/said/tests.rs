// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;

/// The end of a klp-build of Linux 7.3 whose objtool gave up; commands are cut.
fn objtool_said(text: &str) -> String {
    format!(
        "Validating patch(es)\nFixing patch(es)\nBuilding patched kernel\n\
         # CC      kernel/sys.o\n  gcc -DX=\": error: x\" -c sys.c\n\
         Diffing objects\ncd klp-tmp/3-checksum-orig && tools/objtool/objtool klp diff vmlinux.o\n\
         {text}\nerror: klp-build: objtool klp diff failed\n\
         error: klp-build: line 757: '( cd \"$ORIG_CSUM_DIR\"; [[ -v VERBOSE ]] && echo \"cd \
         $ORIG_CSUM_DIR && ${{cmd[*]}}\"; \"${{cmd[@]}}\" > >(tee -a \"$log\") || die \"objtool klp diff \
         failed\" )'\n"
    )
}

fn headline(output: &str) -> (Blame, String) {
    let error = failure("fix", output);
    let what = error.what.strip_prefix("livepatch fix does not build: ");
    (error.blame, what.unwrap_or(&error.what).to_owned())
}

#[test]
fn what_objtool_gives_up_for_is_the_headline() {
    let output = objtool_said(
        "vmlinux.o: error: objtool: init_hw_perf_events: can't patch or reference init code/data\n\
         vmlinux.o: changed function: __do_sys_newuname",
    );
    let error = failure("uname-nop", &output);
    assert_eq!(
        (error.blame, &*error.what),
        (
            Blame::ModuleBuild,
            "livepatch uname-nop does not build: init_hw_perf_events: can't patch or reference init \
             code/data"
        )
    );
    assert_eq!(
        error.evidence,
        ["vmlinux.o: changed function: __do_sys_newuname"]
    );
    assert!(error.help.unwrap().contains("CONFIG_X86_KERNEL_IBT"));
    let output = objtool_said("vmlinux.o: error: objtool: changed data: linux_proc_banner");
    let error = failure("fix", &output);
    assert!(
        error.what.ends_with(": changed data: linux_proc_banner"),
        "{error}"
    );
    assert_eq!(error.evidence, [""; 0]);
    assert!(error.help.unwrap().contains("shadow variable"));
}

/// Every error of `tools/objtool/klp-diff.c`, `klp-sympos.c`, `klp-checksum.c` and `klp-post-link.c` that a
/// source patch causes is the patch's; objtool's own troubles are the kernel's.
#[test]
fn the_errors_of_objtool_have_their_owners() {
    for text in [
        "changed data: x",
        "x: can't patch or reference init code/data",
        "FILE symbol mismatch: fork.c != new.c",
        "FILE symbol mismatch: NULL != new.c",
        "f+0x12: unsupported static branch key x.  Use static_key_enabled() instead",
        "f()+0x12: unsupported static call key x.  Use KLP_STATIC_CALL() instead",
        "x: new reference to x (exported by y) would create an undeclared module dependency",
    ] {
        let output = objtool_said(&format!("vmlinux.o: error: objtool: {text}"));
        assert_eq!(headline(&output), (Blame::ModuleBuild, text.to_owned()));
    }
    for text in [
        "can't open 'Module.symvers', \"objtool diff\" should be run from the kernel tree",
        "malformed Module.symvers at line 7",
        "no clone for x",
        "__jump_table: missing special section entsize or annotations",
        "missing .modinfo section",
    ] {
        let output = objtool_said(&format!("vmlinux.o: error: objtool: {text}"));
        assert_eq!(
            headline(&output),
            (Blame::Kernel, format!("objtool: {text}"))
        );
    }
    let output = objtool_said("error: objtool [elf.c:1166]: elf_open_read: open failed: x");
    assert_eq!(headline(&output).0, Blame::Kernel, "without an object");
    let output = objtool_said("x.o: error: objtool [elf.c:9]: elf_open_read: open failed: x");
    assert_eq!(
        headline(&output),
        (
            Blame::Kernel,
            "objtool: [elf.c:9]: elf_open_read: open failed: x".to_owned()
        )
    );
}

#[test]
fn the_compilers_first_error_is_the_headline() {
    let output = "Validating patch(es)\nwarning: klp-build: fixes/x.patch applied with fuzz\n\
                  Fixing patch(es)\nBuilding patched kernel\n\
                  # CC      fs/proc/version.o\n  gcc -DX=\": error:\" -c version.c\n\
                  fs/proc/version.c: In function ‘version_proc_show’:\n\
                  fs/proc/version.c:12:9: error: implicit declaration of function ‘seq_putz’; did you \
                  mean ‘seq_puts’? [-Werror=implicit-function-declaration]\n\
                  fs/proc/version.c:12:25: error: expected ‘;’ before ‘seq_printf’\n\
                  cc1: some warnings being treated as errors\n\
                  make[4]: *** [scripts/Makefile.build:289: fs/proc/version.o] Error 1\n\
                  error: klp-build: patched kernel build failed\n";
    let error = failure("fix", output);
    assert_eq!(
        (error.blame, &*error.what),
        (
            Blame::ModuleBuild,
            "livepatch fix does not build: fs/proc/version.c:12:9: error: implicit declaration of \
             function ‘seq_putz’; did you mean ‘seq_puts’? [-Werror=implicit-function-declaration]"
        )
    );
    assert_eq!(
        error.evidence,
        [
            "warning: klp-build: fixes/x.patch applied with fuzz",
            "fs/proc/version.c:12:25: error: expected ‘;’ before ‘seq_printf’",
        ]
    );
}

#[test]
fn what_a_linker_modpost_or_make_misses_is_the_headline() {
    for (said, what) in [
        (
            "ld: vmlinux.o: in function `f':\nfs/x.c:(.text+0x12): undefined reference to `g'",
            "undefined reference to `g'",
        ),
        (
            "ERROR: modpost: \"g\" [fix.ko] undefined!",
            "\"g\" [fix.ko] undefined!",
        ),
        (
            "make[4]: *** No rule to make target 'fs/new.o', needed by 'fs/built-in.a'.  Stop.\n\
             make[3]: *** [scripts/Makefile.build:480: fs] Error 2",
            "No rule to make target 'fs/new.o', needed by 'fs/built-in.a'",
        ),
    ] {
        let output = format!("{said}\nerror: klp-build: patched kernel build failed\n");
        assert_eq!(headline(&output), (Blame::ModuleBuild, what.to_owned()));
    }
    // The same of the kernel itself is not the patch's fault.
    let output = "fs/x.c:1:2: error: y\nerror: klp-build: original kernel build failed\n";
    assert_eq!(
        headline(output),
        (Blame::Kernel, "fs/x.c:1:2: error: y".to_owned())
    );
}

#[test]
fn a_patch_that_does_not_apply_is_named_with_its_hunk() {
    let output = "Validating patch(es)\nchecking file fs/proc/version.c\nHunk #1 FAILED at 7.\n\
                  1 out of 1 hunk FAILED\nerror: klp-build: scenarios/noapply.patch did not apply\n";
    let error = failure("fix", output);
    assert_eq!(
        (error.blame, &*error.what),
        (
            Blame::ModuleBuild,
            "livepatch fix does not build: scenarios/noapply.patch does not apply: \
             fs/proc/version.c: Hunk #1 FAILED at 7"
        )
    );
    assert_eq!(error.evidence, [""; 0]);
    let output = "can't find file to patch at input line 3\nPerhaps you used the wrong -p\n\
                  error: klp-build: a.patch did not apply\n";
    assert_eq!(
        headline(output).1,
        "a.patch does not apply: can't find file to patch at input line 3"
    );
}

/// Every `die` of klp-build has an owner.
#[test]
fn what_klp_build_says_itself_has_an_owner() {
    for (text, blame) in [
        ("no changes detected", Blame::ModuleBuild),
        (
            "p.patch: unsupported patch to lib/string.c",
            Blame::ModuleBuild,
        ),
        ("p.patch did not apply", Blame::ModuleBuild),
        ("recountdiff not found (install patchutils)", Blame::Host),
        (
            "objtool not built with KLP support; install xxhash-devel/libxxhash-dev (version >= 0.8) \
             and recompile",
            Blame::Host,
        ),
        ("Clang assembler version < 20 not supported", Blame::Host),
        ("CONFIG_LIVEPATCH not enabled", Blame::Kernel),
        (
            "kernel option 'CONFIG_GCC_PLUGIN_RANDSTRUCT' not supported",
            Blame::Kernel,
        ),
        (
            ".config mismatch, check your .config or run 'make olddefconfig'",
            Blame::Kernel,
        ),
        ("make syncconfig failed", Blame::Kernel),
        ("can't find fix-patch-lines", Blame::Kernel),
        ("original kernel build failed", Blame::Kernel),
        ("missing vmlinux.o for vmlinux.o", Blame::Kernel),
        ("output filename should end with .ko", Blame::Lab),
        ("-S 2 requires completed klp-tmp/1-orig", Blame::Lab),
    ] {
        let output = format!("Validating patch(es)\nerror: klp-build: {text}\n");
        assert_eq!(headline(&output).0, blame, "{text}");
    }
    let bash = "error: this script requires bash 4.4+\n";
    assert_eq!(headline(bash).0, Blame::Host);
    assert_eq!(headline("getopt: invalid option -- 't'\n").0, Blame::Kernel);
    assert_eq!(headline("cc: No space left on device\n").0, Blame::Host);
    let tool = "scripts/livepatch/klp-build: line 381: gawk: command not found\n\
                error: klp-build: line 381: 'gawk '{print $2}''\n";
    assert_eq!(headline(tool), (Blame::Host, "gawk is missing".to_owned()));
}

#[test]
fn without_a_cause_the_command_that_failed_is_named() {
    let trapped = "error: klp-build: line 12: 'cp -f a b'\n";
    assert_eq!(
        headline(trapped),
        (
            Blame::ModuleBuild,
            "a command of klp-build failed: cp -f a b".to_owned()
        )
    );
    let vague = format!("error: klp-build: objtool klp diff failed\n{trapped}");
    assert_eq!(headline(&vague).1, "objtool klp diff failed");
    assert_eq!(headline("Usage: klp-build\n").1, "klp-build made no module");
}

/// A first livepatch, of which the original build is a part.
const FIRST: &str = "\
Validating patch(es)
checking file fs/proc/version.c
Hunk #1 succeeded at 9 (offset 4 lines).
warning: klp-build: scenarios/fuzz.patch applied with fuzz
Building original kernel
kernel/x.c:1:2: warning: unused variable 'x'
Copying original object files
Fixing patch(es)
Building patched kernel
  gcc -DX=\": warning: \" -c version.c
fs/proc/version.c:12:9: warning: unused variable 'x' [-Wunused-variable]
+ echo vmlinux.unstripped: scripts/link-vmlinux.sh
Diffing objects
vmlinux.o: warning: objtool: trace: disabling unsupported tracepoint sched_switch
vmlinux.o: changed function: version_proc_show
vmlinux.o: new function: helper
SUCCESS
";

#[test]
fn warnings_and_functions_are_those_of_the_livepatch() {
    let expected = [
        "warning: klp-build: scenarios/fuzz.patch applied with fuzz",
        "fs/proc/version.c:12:9: warning: unused variable 'x' [-Wunused-variable]",
        "vmlinux.o: warning: objtool: trace: disabling unsupported tracepoint sched_switch",
        "vmlinux.o: changed function: version_proc_show",
        "vmlinux.o: new function: helper",
    ];
    assert_eq!(findings(FIRST).collect::<Vec<_>>(), expected);
    assert_eq!(warnings(FIRST).collect::<Vec<_>>(), expected[..3]);
    assert_eq!(changed_functions(FIRST), ["version_proc_show"]);
    // Another one uses the original build that is there.
    let further = FIRST
        .lines()
        .filter(|line| !line.contains("original"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(findings(&further).any(|line| line.starts_with("kernel/x.c")));
}

#[test]
fn new_functions_that_nobody_calls_change_nothing() {
    let output = "Diffing objects\nvmlinux.o: new function: helper\nSUCCESS\n";
    assert!(adds_functions(output) && changed_functions(output).is_empty());
    let error = changes_nothing("fix", output);
    assert_eq!(
        error.what,
        "livepatch fix changes no function of the kernel"
    );
    assert_eq!(error.evidence, ["vmlinux.o: new function: helper"]);
}
