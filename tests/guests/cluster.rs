// SPDX-License-Identifier: MIT OR Apache-2.0
//! A real Slurm of one node, on loopback only, for as long as a value of [`Slurm`] lives.
//!
//! Everything that Slurm writes is in a temporary folder: state, spool, logs and munge's key and
//! socket. A Slurm that the host may have is not touched. The daemons run in the foreground as
//! children of the test. When it ends, all that was started below them is killed; when the test
//! itself is killed, the daemons go with it (but not the tasks that run then).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The packages, and a program of each.
const PACKAGES: [(&str, &str); 4] = [
    ("slurmctld", "slurmctld"),
    ("slurmd", "slurmd"),
    ("slurm-client", "sbatch"),
    ("munge", "munged"),
];
/// Tasks that may run at the same time, whatever the machine has.
const CPUS: u32 = 6;
/// Daemons that start on a machine which also builds kernels.
const START: Duration = Duration::from_secs(120);
/// States of a task after which nothing comes.
const ENDS: [&str; 9] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
];

/// A cluster of this machine. Its daemons and its tasks end with it.
///
/// It is to be dropped by the thread that made it: the daemons' parent-death signal belongs to
/// that thread.
pub struct Slurm {
    // In the order in which they end.
    daemons: Vec<(&'static str, Child)>,
    dir: tempfile::TempDir,
}

impl Slurm {
    /// Installs Slurm if it is missing, starts it, and waits until its node takes jobs.
    pub fn start() -> Self {
        install();
        let dir = tempfile::tempdir().unwrap();
        // munge wants a way to its socket for everybody; what is secret has its own mode.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["state", "spool"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        write_key(&dir.path().join("munge.key"));
        fs::write(dir.path().join("slurm.conf"), config(dir.path())).unwrap();
        fs::write(dir.path().join("cgroup.conf"), cgroup_config()).unwrap();

        let mut slurm = Self {
            daemons: Vec::new(),
            dir,
        };
        let file = |name: &str| slurm.path(name).display().to_string();
        let munged = [
            "--foreground".to_owned(),
            format!("--key-file={}", file("munge.key")),
            format!("--socket={}", file("munge.socket")),
            format!("--pid-file={}", file("munged.pid")),
            format!("--seed-file={}", file("munged.seed")),
        ];
        let config = ["-D".to_owned(), "-f".to_owned(), file("slurm.conf")];
        slurm.daemon("munged", &munged);
        slurm.wait_for("munge's socket", |slurm| {
            slurm.path("munge.socket").exists()
        });
        slurm.daemon("slurmctld", &config);
        slurm.daemon("slurmd", &config);
        slurm.wait_for("an idle node", |slurm| {
            let output = slurm.client("sinfo").args(["-h", "-o", "%T"]).output();
            output.unwrap().stdout.trim_ascii() == b"idle"
        });
        slurm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn daemon(&mut self, name: &'static str, args: &[String]) {
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        // Slurm binds to what the host's name resolves to. In a UTS namespace the name is
        // `localhost`, whatever the host is called. All of these replace themselves (exec), so the
        // child is the daemon.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--uts", "sh", "-c"])
            .arg("echo localhost >/proc/sys/kernel/hostname && exec \"$0\" \"$@\"")
            .arg(find(name).unwrap())
            .args(args)
            .env("SLURM_CONF", self.path("slurm.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        self.daemons.insert(0, (name, child));
    }

    fn wait_for(&mut self, what: &str, mut is_there: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !is_there(self) {
            for (name, child) in &mut self.daemons {
                if let Some(status) = child.try_wait().unwrap() {
                    let name = *name;
                    panic!("{name} ended: {status}\n{}", self.logs());
                }
            }
            let late = started.elapsed() > START;
            assert!(!late, "no {what} after {START:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command of Slurm (`sbatch`, `squeue`, …) that talks to this cluster.
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(find(name).unwrap());
        command.env("SLURM_CONF", self.path("slurm.conf"));
        // Otherwise a test that itself runs as a job hands down its own options.
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy();
            let other = ["SBATCH_", "SLURM_", "SQUEUE_", "SCANCEL_", "SINFO_"];
            if key != "SLURM_CONF" && other.iter().any(|start| key.starts_with(start)) {
                command.env_remove(&*key);
            }
        }
        command
    }

    /// `sbatch` with these arguments in a folder; gives the job's id.
    pub fn submit(&self, dir: &Path, args: &[&str]) -> u32 {
        let mut sbatch = self.client("sbatch");
        let text = self.output(sbatch.arg("--parsable").args(args).current_dir(dir));
        // With a cluster's name it is `12;lab`.
        let id = text.trim().split(';').next().unwrap();
        id.parse().unwrap_or_else(|_| panic!("sbatch says {text}"))
    }

    /// The states of a job's tasks by their array index; 0 for a job that is no array.
    pub fn tasks(&self, job: u32) -> BTreeMap<u32, String> {
        let mut squeue = self.client("squeue");
        squeue.args(["--noheader", "--array", "--states=all", "--format=%K %T"]);
        let text = self.output(squeue.arg(format!("--jobs={job}")));
        let task = |line: &str| {
            let (index, state) = line.trim().split_once(' ').unwrap();
            (index.parse().unwrap_or(0), state.to_owned())
        };
        text.lines().map(task).collect()
    }

    /// Waits until a task is in this state.
    pub fn wait_for_state(&self, job: u32, index: u32, state: &str, limit: Duration) {
        self.poll(job, limit, |tasks| {
            tasks.get(&index).is_some_and(|now| now == state)
        });
    }

    /// Waits until every task of a job has ended; gives the states they ended in.
    pub fn wait(&self, job: u32, limit: Duration) -> BTreeMap<u32, String> {
        self.poll(job, limit, |tasks| {
            // Slurm lists a whole job's tasks; none at all is a job that it does not know.
            !tasks.is_empty() && tasks.values().all(|state| ENDS.contains(&state.as_str()))
        })
    }

    fn poll(
        &self,
        job: u32,
        limit: Duration,
        is_enough: impl Fn(&BTreeMap<u32, String>) -> bool,
    ) -> BTreeMap<u32, String> {
        let started = Instant::now();
        loop {
            let tasks = self.tasks(job);
            if is_enough(&tasks) {
                return tasks;
            }
            let late = started.elapsed() > limit;
            assert!(!late, "after {limit:?}: {tasks:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Cancels a job or a task (`12` or `12_3`): SIGTERM for all of its processes.
    pub fn cancel(&self, job: &str) {
        self.output(self.client("scancel").arg(job));
    }

    fn output(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let done = output.status.success();
        assert!(done, "{command:?}: {output:?}\n{}", self.logs());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The ends of the daemons' logs, for a test that fails.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (name, _) in self.daemons.iter().rev() {
            let log = fs::read(self.path(&format!("{name}.log"))).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            let _ = writeln!(text, "--- {name} ---\n{tail}");
        }
        text
    }

    /// The processes of this cluster: daemons, tasks, and all that these started.
    pub fn processes(&self) -> Vec<u32> {
        processes_with(&format!("SLURM_CONF={}", self.path("slurm.conf").display()))
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test framework shows it with what else the failed test wrote.
            #[expect(clippy::print_stderr, reason = "for who reads why a test failed")]
            {
                eprintln!("{}", self.logs());
            }
        }
        // The daemons first, so that nothing new is started; then tasks, which have sessions of
        // their own and cannot be found by process group.
        for (_, child) in &mut self.daemons {
            let _ = child.kill();
            let _ = child.wait();
        }
        let started = Instant::now();
        let mut left = BTreeSet::new();
        loop {
            for pid in self.processes() {
                kill(pid);
                left.insert(pid);
            }
            left.retain(|pid| is_alive(*pid));
            if left.is_empty() {
                return;
            }
            if started.elapsed() > Duration::from_secs(30) {
                // A second panic would abort before other values are dropped.
                let panicking = std::thread::panicking();
                assert!(panicking, "processes of Slurm that do not go: {left:?}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Processes that began with this in their environment. Those that are dead have none.
fn processes_with(variable: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|one| one == variable.as_bytes())
    })
    .collect()
}

/// A zombie is not: it waits for its parent only.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL);
}

fn config(dir: &Path) -> String {
    // Both are held until both are known: they must differ.
    let ports = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let [controller, node] = ports.map(|port| port.local_addr().unwrap().port());
    let dir = dir.display();
    format!(
        "ClusterName=lab
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
# Listen on the address of the host's name, not on every address.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# More CPUs and memory than the machine has: tasks of a test wait more than they compute.
SlurmdParameters=config_overrides
ReturnToService=2
# A task that is to be run again must not wait long, an ended one must stay visible.
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
MinJobAge=86400
KillWait=10
# Never used; the default is a path that need not exist.
MailProg=/bin/true
NodeName=localhost NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory=100000 State=UNKNOWN
PartitionName=lab Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"
    )
}

/// Slurm wants a cgroup plugin although nothing here uses one, and by itself looks for systemd's.
fn cgroup_config() -> &'static str {
    let output = Command::new(find("slurmd").unwrap()).arg("-V").output();
    // `slurm-wlm 22.05.8`, `slurm 24.11.5`
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let version = text.trim().rsplit(' ').next().unwrap();
    let year: u32 = version.split('.').next().unwrap().parse().unwrap();
    if year < 23 {
        // It cannot be without one yet; this one does nothing until a task is to be confined.
        "CgroupPlugin=cgroup/v1\n"
    } else {
        "CgroupPlugin=disabled\n"
    }
}

/// A key for munge that only this cluster has.
fn write_key(path: &Path) {
    let mut key = [0; 128];
    let mut random = File::open("/dev/urandom").unwrap();
    random.read_exact(&mut key).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    std::io::Write::write_all(&mut file.unwrap(), &key).unwrap();
}

/// A program on PATH, or where daemons are.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(daemons);
    folders.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()))
}

/// Installs the packages that are missing, once. None of their services is started.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let missing = PACKAGES
            .iter()
            .filter(|(_, program)| find(program).is_none());
        let missing: Vec<_> = missing.map(|(package, _)| *package).collect();
        assert!(
            rustix::process::geteuid().is_root(),
            "Slurm's daemons need root (and apt-get, for {missing:?})"
        );
        if missing.is_empty() {
            return;
        }
        let _policy = NoServices::new();
        let update: &[&str] = &["update"];
        let install = [&["install", "--yes", "--no-install-recommends"], &*missing].concat();
        for args in [update, &install] {
            let mut apt = Command::new("apt-get");
            // Another apt-get may be at work: wait for it.
            apt.args(["-q", "-oDPkg::Lock::Timeout=600"]).args(args);
            apt.env("DEBIAN_FRONTEND", "noninteractive")
                .env("LC_ALL", "C.UTF-8")
                .stdin(Stdio::null());
            let output = apt.output().unwrap();
            assert!(output.status.success(), "{apt:?}: {output:?}");
        }
    });
}

/// Keeps the packages' scripts from starting services: invoke-rc.d and deb-systemd-invoke ask this
/// file. One that is there already is the host's own decision, and left alone.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn new() -> Self {
        let path = Path::new("/usr/sbin/policy-rc.d");
        let mut options = fs::OpenOptions::new();
        match options.write(true).create_new(true).mode(0o755).open(path) {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n").unwrap();
                Self(Some(path))
            }
            Err(_) => Self(None),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = fs::remove_file(path);
        }
    }
}
