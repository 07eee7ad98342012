// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that go on where one was kept cannot be told from guests that were booted, each of them
//! is somebody else, and a template that is of no use is found out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use livepatch_lab::arch::Arch;
use livepatch_lab::cache::Cache;
use livepatch_lab::context::Context;
use livepatch_lab::event::{Event, Events, Stamped};
use livepatch_lab::guest::{Executed, Guest};
use livepatch_lab::image::keys::RunKeys;
use livepatch_lab::image::{self, Definition as Image};
use livepatch_lab::kernel::{self, Definition as Kernel};
use livepatch_lab::vm::Accel;
use livepatch_lab::vm::machine::{Machine, Parts};
use livepatch_lab::vm::template::{self, Found};
use tokio_util::sync::CancellationToken;

use common::lab_env;
use sandbox::{CI, ROOT, Sandbox, assert_contains, built};

/// The states that each run of a command has observed, by its name.
fn states(more: &[&str]) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("results").display().to_string();
    let mut args = vec!["run", "scenarios", "--kernel", "tags"];
    args.extend(["--arch", "x86_64,arm64", "--output", &results]);
    args.extend(more);
    let output = lab_env(ROOT.as_ref(), &args, &CI);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let mut observed = BTreeMap::new();
    for event in events(Path::new(&results)) {
        if let Event::RunStarted { run, record, .. } = event {
            let record = Path::new(ROOT).join(record);
            let text = fs::read_to_string(record.join("observed.txt")).unwrap();
            observed.insert(run.to_string(), text);
        }
    }
    observed
}

/// What one command has written to a folder.
fn events(dir: &Path) -> Vec<Event> {
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

#[test]
fn all_scenarios_observe_the_same_in_cold_guests_and_in_warm_ones() {
    built();
    let (warm, cold) = (states(&[]), states(&["--cold"]));
    assert!(warm.len() > 100, "{}", warm.len());
    assert_eq!(
        warm.keys().collect::<Vec<_>>(),
        cold.keys().collect::<Vec<_>>()
    );
    for (run, observed) in warm {
        assert_eq!(observed, cold[&run], "{run}");
    }
}

/// What a guest says of itself.
struct Said {
    /// Seconds since the epoch.
    clock: u64,
    random: String,
    host_key: String,
    authorized: String,
    uptime: f64,
}

async fn ask(machine: &mut Machine, identity: &str, keys: &RunKeys) -> Said {
    let (limits, cancel) = (machine.deadlines, CancellationToken::new());
    let ready = machine.identify(identity, limits.answer, &cancel).await;
    ready.unwrap().unwrap();
    let port = machine.ssh_port().await.unwrap();
    let guest = Guest::connect(port, keys, limits.answer).await;
    let guest = guest.unwrap().unwrap();
    let command = "busybox date +%s; busybox cat /proc/sys/kernel/random/uuid; \
                   busybox sha256sum </etc/dropbear/host_key; \
                   busybox cat /root/.ssh/authorized_keys; echo; busybox cat /proc/uptime";
    let said: Executed = guest.exec("/", command, limits.answer).await.unwrap();
    guest.close().await.unwrap();
    let lines: Vec<_> = said.output.lines().map(str::to_owned).collect();
    Said {
        clock: lines[0].parse().unwrap(),
        random: lines[1].clone(),
        host_key: lines[2].clone(),
        authorized: lines[3].clone(),
        uptime: lines[4].split(' ').next().unwrap().parse().unwrap(),
    }
}

/// Two forks of one template, one of them told that it is the year 2100.
#[tokio::test(flavor = "current_thread")]
async fn each_fork_is_somebody_else() {
    built();
    let (events, _receiver) = Events::channel();
    let cache = tempfile::tempdir().unwrap();
    let ctx = Context {
        project: ROOT.into(),
        cache: Cache::from_env().unwrap(),
        events,
        cancel: CancellationToken::new(),
    };
    for arch in Arch::ALL {
        let definition = Kernel::read(&ctx.project, "mainline").unwrap();
        let kernel = kernel::build::build(&ctx, &definition, arch, false).await;
        let kernel = kernel.unwrap();
        let definition = Image::read(&ctx.project, image::DEFAULT).unwrap();
        let image = image::build::build(&ctx, &definition, arch, false).await;
        let image = image.unwrap();
        let record = tempfile::tempdir().unwrap();
        let parts = Parts {
            arch,
            accel: Accel::Tcg,
            kernel: kernel.boot_file(arch),
            image: &image.initramfs,
            record: record.path(),
        };
        // Templates of its own: nobody else has to find them whole.
        let own = Context {
            cache: Cache::at(cache.path()),
            ..ctx.clone()
        };
        let Some(Found::Missing(making)) = template::find(&own, &parts).await.unwrap() else {
            panic!("there is a template in an empty cache");
        };
        let mut machine = Machine::boot(&parts, Some(&making.memory()), &ctx.cancel).await;
        let machine = machine.as_mut().unwrap();
        let waiting = machine
            .wait_waiting(machine.deadlines.boot, &ctx.cancel)
            .await;
        waiting.unwrap().unwrap();
        let template = making.keep(machine, &ctx.cancel).await.unwrap();

        let mut said = Vec::new();
        for year_2100 in [false, true] {
            let mut fork = Machine::fork(&parts, &template, &ctx.cancel).await.unwrap();
            let keys = RunKeys::generate().unwrap();
            let mut identity = keys.identity().unwrap();
            if year_2100 {
                let now = identity.split(' ').nth(1).unwrap().to_owned();
                identity = identity.replacen(&now, "4102444800.5", 1);
            }
            said.push(ask(&mut fork, &identity, &keys).await);
            fork.stop().await.unwrap();
        }
        let [first, second] = &said[..] else {
            unreachable!()
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        assert!(
            now.unwrap().as_secs().abs_diff(first.clock) < 60,
            "{}",
            first.clock
        );
        assert!(
            (4_102_444_800..4_102_444_860).contains(&second.clock),
            "{}",
            second.clock
        );
        assert_ne!(first.random, second.random);
        assert_ne!(first.host_key, second.host_key);
        assert_ne!(first.authorized, second.authorized);
        // Neither was booted anew: they have the template's boot behind them, and little more.
        assert!(first.uptime.max(second.uptime) < 30.0 + first.uptime.min(second.uptime));
        // The template is as it was.
        let found = template::find(&own, &parts).await.unwrap();
        assert!(matches!(found, Some(Found::Template(_))), "{found:?}");
    }
}

/// The template that a run has used.
fn template_of(sandbox: &Sandbox) -> PathBuf {
    let script = sandbox.record("qemu.sh");
    let (_, rest) = script.split_once("mem-path=").unwrap();
    let (memory, _) = rest.split_once("/memory,").unwrap();
    PathBuf::from(memory)
}

#[test]
fn a_template_that_is_of_no_use_is_made_anew() {
    let sandbox = Sandbox::new();
    sandbox.copy("scenarios/builtin-cmdline.yaml");
    sandbox.copy("snapshots/builtin-cmdline.snap");
    // A kernel that no other test has guests of at the same time.
    let run = || {
        let args = ["run", "scenarios", "--kernel=tags-rfc", "--accel=tcg"];
        let output = sandbox.lab(&args);
        assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
        output
    };
    run();
    let template = template_of(&sandbox);
    assert!(run().stderr.is_empty() && template.is_dir());

    // A bit of its memory flips.
    let memory = template.join("memory");
    let mut bytes = fs::read(&memory).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[used] ^= 0x10;
    fs::write(&memory, bytes).unwrap();
    assert_contains(
        &run().stderr,
        &["memory is not what was written): making it anew"],
    );
    assert!(run().stderr.is_empty());

    // What was written is no machine.
    let state = template.join("state");
    fs::write(&state, "no machine").unwrap();
    let sums = Command::new("sha256sum")
        .arg("state")
        .current_dir(&template)
        .output();
    let sums = String::from_utf8(sums.unwrap().stdout).unwrap();
    let seal = fs::read_to_string(template.join(".seal")).unwrap();
    let others = seal.lines().filter(|line| !line.ends_with("  state"));
    let others = others.map(|line| format!("{line}\n")).collect::<String>();
    fs::write(template.join(".seal"), others + &sums).unwrap();
    let output = run();
    assert_contains(&output.stderr, &["a guest that was kept does not go on ("]);
    assert!(
        !sandbox
            .record("qemu.sh")
            .lines()
            .last()
            .unwrap()
            .contains("-incoming")
    );
    // It went with that, and the next run makes another one.
    assert!(!template.exists());
    assert!(run().stderr.is_empty() && template.is_dir());
    assert_eq!(sandbox.guests(), [""; 0]);
}
