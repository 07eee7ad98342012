// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log of a step is what the kernel said in it; what is not the same twice is not accepted.

use livepatch_lab::error::Blame;
use livepatch_lab::verdict::{Outcome, Verdict};

use crate::common::{Output, Project};
use crate::real::culprit;

/// A livepatch whose `cmdline_proc_show` does this first, and steps.
fn scenario(body: &str, steps: &str) -> String {
    let patch = format!(
        "        cmdline_proc_show:
          signature: int cmdline_proc_show(struct seq_file *m, void *v)
          include: [linux/seq_file.h, linux/printk.h, linux/jiffies.h]
          body: |
            {body}
            seq_puts(m, \"livepatched\\n\");
            return 0;"
    );
    culprit(&patch, &format!("  - load: culprit\n{steps}"))
}

/// The verdict on the last run.
fn verdict(project: &Project) -> Verdict {
    serde_json::from_str(&project.record("verdict.json")).unwrap()
}

/// What was not as expected in it, with the number of the step.
fn problems(project: &Project) -> Vec<(usize, String)> {
    let problems = verdict(project).problems.into_iter();
    problems
        .map(|problem| (problem.step, problem.what))
        .collect()
}

#[test]
fn what_patched_code_of_the_kernel_prints_is_in_the_log_of_its_step() {
    let said = r#"printk(KERN_INFO "oom: adjusted by the livepatch\n");"#;
    let steps = "  - read: /proc/cmdline
    expect: { log: [adjusted by the livepatch], whole_log: [] }
  - read: /proc/cmdline
    expect: { not_in_log: [adjusted by the livepatch] }
  - read: /proc/version
    expect: { not_in_log: [adjusted by the livepatch] }
";
    for arch in ["x86_64", "arm64"] {
        let project = Project::new();
        let output = project.run_text(&scenario(said, steps), arch, &[]);
        assert_eq!(output.code, 1, "{}", output.stdout);
        let line = "oom: adjusted by the livepatch";
        let problem = format!("the log says {line:?}, with \"adjusted by the livepatch\" in it");
        assert_eq!(problems(&project), [(3, problem)], "{arch}");
        // The snapshot has what is the same in every run.
        assert!(!project.record("observed.txt").contains("oom: adjusted"));
    }
}

#[test]
fn a_line_without_an_end_is_of_its_step_and_lines_of_programs_are_not_the_kernels() {
    // A message of several lines, the longest one, of which each byte is escaped, and one that goes on.
    let long = "ü".repeat(511);
    let said = format!(
        r#"printk(KERN_DEBUG "first\nsecond für 1\n");
            printk(KERN_INFO "{long}\n"); printk(KERN_INFO "no end yet");"#
    );
    let steps = "  - read: /proc/cmdline
    expect: { log: [first, second für 1, üüü, no end yet] }
  - { write: /dev/kmsg, data: \"chatter of a program\" }
  - read: /proc/version
    expect: { not_in_log: [no end yet, chatter, 'lab: '] }
";
    let project = Project::new();
    project.run_text(&scenario(&said, steps), "x86_64", &[]);
    assert_eq!(problems(&project), []);
    let log = project.record("kernel.log");
    assert!(
        log.contains("chatter of a program") && !log.contains("read as far as this"),
        "{log}"
    );
}

#[test]
fn a_line_that_states_leave_out_can_be_expected() {
    // A task that a signal ends, which the kernel sends when it has tried for 15 s.
    let text = "version: 1
summary: x
livepatches:
  tty-fix:
    replace: false
    include: [linux/wait.h, linux/tty.h]
    preamble: static DECLARE_WAIT_QUEUE_HEAD(never);
    patches:
      vmlinux:
        n_tty_read:
          signature: ssize_t n_tty_read(struct tty_struct *tty, struct file *file, u8 *kbuf, size_t nr, void **cookie, unsigned long offset)
          body: |
            wait_event_interruptible(never, 0);
            return -ERESTARTSYS;
steps:
  - load: tty-fix
    timeout: 60s
    expect: { log: [signaling remaining tasks, \"'tty_fix': patching complete\"] }
";
    let project = Project::new();
    project.run_text(text, "x86_64", &[]);
    assert_eq!(problems(&project), []);
    let observed = project.record("observed.txt");
    assert!(
        observed.contains("patching complete") && !observed.contains("signaling"),
        "{observed}"
    );
}

#[test]
fn what_is_not_the_same_twice_is_accepted_only_under_a_mask() {
    let steps = "  - read: /proc/cmdline\n  - disable: culprit\n  - unload: culprit\n";
    let accept = |project: &Project, said: &str, mask: &str| -> Output {
        let text = format!("{}{mask}", scenario(said, steps));
        project.run_text(&text, "x86_64", &["--accept"])
    };
    let refused = |project: &Project, output: &Output, title: &str| {
        let verdict = verdict(project);
        assert_eq!(
            (verdict.outcome, verdict.blame),
            (Outcome::Failed, Some(Blame::File))
        );
        assert!(
            verdict.reasons[0].starts_with("not accepted: "),
            "{verdict:?}"
        );
        assert!(verdict.evidence[0].title.contains(title), "{verdict:?}");
        assert!(output.stdout.contains("mask:"), "{}", output.stdout);
        assert!(!project.path("snapshots/culprit@mainline.snap").exists());
    };
    let project = Project::new();
    let jiffies = r#"printk("culprit: at jiffies %lu, ok\n", jiffies);"#;
    refused(&project, &accept(&project, jiffies, ""), "the second time");
    // The same in all forks of a template, and another one after the next boot.
    let address = r#"printk("culprit: m is %px\n", m);"#;
    refused(&project, &accept(&project, address, ""), "address");
    // Whoever reviews it is told.
    project.run_text(&scenario(address, steps), "x86_64", &[]);
    let evidence = verdict(&project).evidence;
    let told = evidence
        .iter()
        .find(|evidence| evidence.title.contains("address"));
    assert!(
        told.is_some_and(|it| it.text.starts_with("log culprit: m is ")),
        "{evidence:?}"
    );

    let both = format!("{jiffies} {address}");
    let mask = "mask:
  - { text: \"log culprit: at jiffies *,\", reason: the time since the boot }
  - { text: \"log culprit: m is *\", reason: an address }
";
    let output = accept(&project, &both, mask);
    assert_eq!(output.code, 0, "{}", output.stdout);
    let snapshot = std::fs::read_to_string(project.path("snapshots/culprit@mainline.snap"));
    let snapshot = snapshot.unwrap();
    for line in [
        "  log culprit: at jiffies *, ok\n",
        "  log culprit: m is *\n",
    ] {
        assert!(snapshot.contains(line), "{snapshot}");
    }
    // What is accepted is played once only.
    let output = accept(&project, &both, mask);
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert!(!output.stdout.contains("once more"), "{}", output.stdout);
}
