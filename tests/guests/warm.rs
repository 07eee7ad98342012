// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that go on where one was kept cannot be told from guests that were booted, each of them
//! is somebody else, and a template that is of no use is found out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use livepatch_lab::arch::Arch;
use livepatch_lab::cache::Cache;
use livepatch_lab::context::Context;
use livepatch_lab::error::Blame;
use livepatch_lab::event::{Event, Events};
use livepatch_lab::guest::{Executed, Guest};
use livepatch_lab::image::build::BuiltImage;
use livepatch_lab::image::keys::RunKeys;
use livepatch_lab::image::{self, Definition as Image};
use livepatch_lab::kernel::{self, Definition as Kernel};
use livepatch_lab::size::Size;
use livepatch_lab::vm::Accel;
use livepatch_lab::vm::args::Parts;
use livepatch_lab::vm::machine::Machine;
use livepatch_lab::vm::template::{self, Found, Making};
use tokio_util::sync::CancellationToken;

use crate::common::lab_env;
use crate::common::{Project, ROOT, assert_contains};
use crate::real::{CI, built, events};

/// The states that each run of a command has observed, by its name.
fn states(more: &[&str]) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("results").display().to_string();
    let mut args = vec!["run", "scenarios", "--kernel", "tags"];
    args.extend([
        "--arch",
        "x86_64,arm64",
        "--cpus",
        "1,2",
        "--output",
        &results,
    ]);
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

#[test]
fn all_scenarios_observe_the_same_in_cold_and_in_warm_guests_with_one_cpu_and_with_two() {
    built();
    let (warm, cold) = (states(&[]), states(&["--cold"]));
    assert!(warm.len() > 200, "{}", warm.len());
    assert_eq!(
        warm.keys().collect::<Vec<_>>(),
        cold.keys().collect::<Vec<_>>()
    );
    let mut pairs = 0;
    for (run, observed) in &warm {
        assert_eq!(observed, &cold[run], "{run}");
        // `x on tags (x86_64)` and `x on tags (x86_64, 2 CPUs)`.
        if let Some(one) = run.strip_suffix(", 2 CPUs)") {
            assert_eq!(observed, &warm[&format!("{one})")], "{run}");
            pairs += 1;
        }
    }
    assert!(pairs > 100, "{pairs}");
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
    let guest = Guest::connect(port, keys, machine.vitals(), limits.answer).await;
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

pub fn context() -> Context {
    Context {
        project: ROOT.into(),
        cache: Cache::from_env().unwrap(),
        events: Events::channel().0,
        cancel: CancellationToken::new(),
    }
}

/// What a guest is made of.
pub struct Made {
    boot_file: PathBuf,
    image: BuiltImage,
    pub record: tempfile::TempDir,
}

impl Made {
    pub async fn of(ctx: &Context, arch: Arch) -> Self {
        let definition = Kernel::read(&ctx.project, "mainline").unwrap();
        let kernel = kernel::build::build(ctx, &definition, arch, false).await;
        let definition = Image::read(&ctx.project, image::DEFAULT).unwrap();
        let image = image::build::build(ctx, &definition, arch, false).await;
        Self {
            boot_file: kernel.unwrap().boot_file(arch),
            image: image.unwrap(),
            record: tempfile::tempdir().unwrap(),
        }
    }

    pub fn parts(&self, arch: Arch) -> Parts<'_> {
        Parts {
            arch,
            accel: Accel::Tcg,
            size: Size::default(),
            kernel: self.boot_file.clone(),
            image: &self.image.initramfs,
            record: self.record.path(),
        }
    }
}

/// Boots the guest that becomes a template, in a cache that has none.
async fn waiting(ctx: &Context, parts: &Parts<'_>) -> (Making, Machine) {
    let Some(Found::Missing(making)) = template::find(ctx, parts).await.unwrap() else {
        panic!("there is a template in an empty cache");
    };
    let machine = Machine::boot(parts, Some(&making.memory()), &ctx.cancel).await;
    let mut machine = machine.unwrap();
    let limit = machine.deadlines.boot;
    let waiting = machine.wait_waiting(limit, &ctx.cancel).await;
    waiting.unwrap().unwrap();
    (making, machine)
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_cannot_be_kept_leaves_nothing_behind() {
    built();
    let (ctx, cache) = (context(), tempfile::tempdir().unwrap());
    let made = Made::of(&ctx, Arch::X86_64).await;
    let parts = made.parts(Arch::X86_64);
    let own = Context {
        cache: Cache::at(cache.path()),
        ..ctx
    };
    for is_cancelled in [true, false] {
        let (making, mut machine) = waiting(&own, &parts).await;
        let cancel = CancellationToken::new();
        if is_cancelled {
            cancel.cancel();
        } else {
            // A place where QEMU cannot write, as on a disk that is full.
            fs::create_dir(making.memory().with_file_name("state")).unwrap();
        }
        let error = making.keep(&mut machine, &cancel).await.unwrap_err();
        let blame = match is_cancelled {
            true => Blame::Interrupted,
            false => Blame::Host,
        };
        assert_eq!(error.blame, blame, "{error}");
        assert!(machine.gone().is_some());
        assert!(!making_or_made(cache.path()), "{error}");
    }
}

/// Whether a cache has a template, or a part of one.
fn making_or_made(cache: &Path) -> bool {
    let mut entries = fs::read_dir(cache.join("templates")).unwrap();
    entries.next().is_some()
}

/// Two forks of one template, one of them told that it is the year 2100.
#[tokio::test(flavor = "current_thread")]
async fn each_fork_is_somebody_else() {
    built();
    let (ctx, cache) = (context(), tempfile::tempdir().unwrap());
    for arch in Arch::ALL {
        let made = Made::of(&ctx, arch).await;
        let parts = made.parts(arch);
        // Templates of its own: nobody else has to find them whole.
        let own = Context {
            cache: Cache::at(cache.path()),
            ..ctx.clone()
        };
        let (making, mut machine) = waiting(&own, &parts).await;
        let template = making.keep(&mut machine, &ctx.cancel).await.unwrap();

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
        // It is none of a larger guest.
        let usual = Size::default;
        let larger = [
            Size { cpus: 2, ..usual() },
            Size {
                memory_mib: 512,
                ..usual()
            },
            Size {
                append: "lab.test=1".into(),
                ..usual()
            },
        ];
        for size in larger {
            let parts = Parts {
                size,
                ..parts.clone()
            };
            let found = template::find(&own, &parts).await.unwrap();
            assert!(matches!(found, Some(Found::Missing(_))), "{found:?}");
        }
    }
}

/// The template that a run has used.
fn template_of(project: &Project) -> PathBuf {
    let script = project.record("qemu.sh");
    let (_, rest) = script.split_once("mem-path=").unwrap();
    let (memory, _) = rest.split_once("/memory,").unwrap();
    PathBuf::from(memory)
}

#[test]
fn a_template_that_is_of_no_use_is_made_anew() {
    let project = Project::new();
    project.copy("scenarios/builtin-cmdline.yaml");
    project.copy("snapshots/builtin-cmdline.snap");
    // A kernel that no other test has guests of at the same time.
    let run = || {
        let args = ["run", "scenarios", "--kernel=tags-rfc", "--accel=tcg"];
        let output = project.lab(&args);
        assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
        output
    };
    run();
    let template = template_of(&project);
    assert!(run().stderr.is_empty() && template.is_dir());

    // A bit of its memory flips.
    let memory = template.join("memory");
    let mut bytes = fs::read(&memory).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[used] ^= 0x10;
    // Not by writing to the file: a guest that has it mapped would die of the moment it is empty.
    let damaged = memory.with_extension("damaged");
    fs::write(&damaged, bytes).unwrap();
    fs::rename(damaged, &memory).unwrap();
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
    assert_contains(&output.stderr, &["a template's fork does not answer ("]);
    assert!(
        !project
            .record("qemu.sh")
            .lines()
            .last()
            .unwrap()
            .contains("-incoming")
    );
    // It went with that, and the next run makes another one.
    assert!(!template.exists());
    assert!(run().stderr.is_empty() && template.is_dir());
    assert_eq!(project.guests(), [""; 0]);
}
