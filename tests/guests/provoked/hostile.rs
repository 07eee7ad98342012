// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that lie: an agent that says what no kernel says. What they send is bounded, does not
//! steer a terminal, and never becomes a path of the host.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Output, Project, ROOT, assert_contains};

/// A project whose guests have an agent with a change in it.
fn with_agent(from: &str, to: &str) -> Project {
    let project = Project::new();
    fs::remove_file(project.path("images")).unwrap();
    fs::create_dir_all(project.path("images/guest")).unwrap();
    project.copy("images/default.yaml");
    project.copy("images/guest/init.c");
    let agent = fs::read_to_string(Path::new(ROOT).join("images/guest/agent.c")).unwrap();
    assert_eq!(agent.matches(from).count(), 1, "{from}");
    fs::write(
        project.path("images/guest/agent.c"),
        agent.replace(from, to),
    )
    .unwrap();
    project.copy("scenarios/builtin-cmdline.yaml");
    project.copy("snapshots/builtin-cmdline.snap");
    project
}

fn run(project: &Project) -> Output {
    let report = format!("--report=junit={}", project.path("junit.xml").display());
    let args = [
        "run",
        "scenarios",
        "--kernel=mainline",
        "--accel=tcg",
        &report,
    ];
    project.lab_with(&args, &[])
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn names_and_escapes_of_a_guest_stay_text() {
    let dump = "\temit(\"tainted\\t%s\\n\"";
    let lies = "\temit(\"livepatch\\t../../../lies\\t1\\t0\\t0\\t1\\n\");\n\
                \temit(\"object\\t/etc/lies\\t1\\nfunction\\t..\\n\");\n\
                \temit(\"call\\tshop\\t\\033[2J\\033]0;lies\\007\\t\\xe2\\x80\\xae\\n\");\n";
    let project = with_agent(dump, &format!("{lies}{dump}"));
    let output = run(&project);
    assert_eq!(output.code, 1, "{output:?}");
    assert_contains(
        &output.stdout,
        &["failed  builtin-cmdline", "../../../lies", "\\u{1b}[2J"],
    );
    let hidden = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
    for text in [
        &output.stdout,
        &output.stderr,
        &fs::read_to_string(project.path("junit.xml")).unwrap(),
    ] {
        assert!(!text.contains(hidden), "{text:?}");
    }
    let named = |path: &PathBuf| path.to_string_lossy().contains("lies");
    assert_eq!(files(project.dir()).into_iter().find(named), None);
}

#[test]
fn a_reply_without_an_end_is_bounded() {
    let reply = "printf(\"%d %zu\\n\", err, reply_len);";
    for lie in [
        "printf(\"0 99999999999\\n\");",
        "for (;;) puts(\"0 5 and so on, for ever and ever and ever and ever and ever and ever\");",
    ] {
        let project = with_agent(reply, lie);
        let output = run(&project);
        assert_eq!(output.code, 1, "{output:?}");
        assert_contains(
            &output.stdout,
            &[
                "hung  builtin-cmdline",
                "[guest]",
                "the guest's answer is malformed: ",
            ],
        );
        assert_eq!(project.guests(), [""; 0]);
    }
}

#[test]
fn a_guest_listens_on_the_loopback_only_and_its_folders_are_private() {
    use std::os::unix::fs::MetadataExt;
    let project = Project::new();
    project.copy("scenarios/builtin-cmdline.yaml");
    fs::create_dir(project.path("tmp")).unwrap();
    let tmp = project.path("tmp").display().to_string();
    let mut lab = std::process::Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["run", "scenarios", "--kernel=mainline", "--accel=tcg"])
        .current_dir(project.dir())
        .env("TMPDIR", &tmp)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    let listening = loop {
        let found = listening(&project);
        if !found.is_empty() || started.elapsed().as_secs() > 60 {
            break found;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let scratch = fs::read_dir(&tmp).unwrap().next().unwrap().unwrap().path();
    let mode = fs::metadata(&scratch).unwrap().mode() & 0o777;
    lab.wait().unwrap();
    assert!(!listening.is_empty());
    // 127.0.0.1, as the kernel writes it on a little-endian machine.
    assert!(
        listening
            .iter()
            .all(|address| address.starts_with("0100007F:")),
        "{listening:?}"
    );
    assert_eq!(mode, 0o700);
    for file in files(&project.path(".lab")) {
        let text = fs::read(&file).unwrap();
        let secret = b"PRIVATE KEY";
        assert!(
            !text.windows(secret.len()).any(|part| part == secret),
            "{}",
            file.display()
        );
    }
}

/// The addresses that a project's guest listens at, by TCP over either version of IP.
fn listening(project: &Project) -> Vec<String> {
    let records = project.path(".lab").display().to_string();
    let mut inodes = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.starts_with("qemu-system") && line.contains(&records) {
            let open = fs::read_dir(process.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            let links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
            inodes.extend(links.map(|link| link.display().to_string()));
        }
    }
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let is_ours = inodes.contains(&format!("socket:[{}]", words[9]));
            if words[3] == "0A" && is_ours {
                found.push(words[1].to_owned());
            }
        }
    }
    found
}
