// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix as a job array of a real Slurm: six shards, one of them killed, what is missing
//! submitted again, merged, and compared with the same runs without shards.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::cluster::Slurm;
use crate::common::{Output, ROOT, lab_env};
use crate::real::{CI, set_up};
use livepatch_lab::report::read::read_dir;
use livepatch_lab::verdict::Outcome;

const LIMIT: Duration = Duration::from_secs(900);

/// What is run: on both architectures, with a known defect among it.
const SELECTION: [&str; 9] = [
    "scenarios/builtin-cmdline.yaml",
    "scenarios/legacy-replace.yaml",
    "scenarios/sympos.yaml",
    "scenarios/tagged-replace.yaml",
    "scenarios/tagged-u32-max.yaml",
    "--kernel",
    "tags-rfc,tags",
    "--arch",
    "x86_64,arm64",
];

fn lab(args: &[&str]) -> Output {
    lab_env(ROOT.as_ref(), args, &CI)
}

fn plan(more: &[&str]) -> String {
    let output = lab(&[&["plan"], &SELECTION[..], more].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout.trim_end().to_owned()
}

/// `1-3,5` → 1, 2, 3, 5.
fn indices(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    };
    text.split(',').flat_map(range).collect()
}

fn verdicts(dir: &Path) -> BTreeMap<String, Outcome> {
    let results = read_dir(dir).unwrap();
    let verdicts = results.runs.iter();
    verdicts
        .map(|run| (run.run.name(), run.verdict().expect("a verdict").outcome))
        .collect()
}

#[test]
fn six_shards_of_which_one_is_killed_equal_the_whole() {
    set_up();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let shown = |name: &str| path(name).display().to_string();
    let whole = lab(&[&["run"], &SELECTION[..], &["--output", &shown("whole")]].concat());
    assert_eq!(whole.code, 0, "{}\n{}", whole.stdout, whole.stderr);

    let slurm = Slurm::start();
    let script = format!("{ROOT}/contrib/slurm/lab.sbatch");
    let log = format!("--output={}/log-%a", dir.path().display());
    let export = format!(
        "--export=ALL,LAB={},RESULTS={}",
        env!("CARGO_BIN_EXE_lab"),
        shown("shards")
    );
    let submit = |array: &str| {
        let array = format!("--array={array}");
        let options: [&str; 7] = [
            &array,
            &log,
            &export,
            "--mem=0",
            "--cpus-per-task=1",
            &script,
            "6",
        ];
        slurm.submit(ROOT.as_ref(), &[&options, &SELECTION[..]].concat())
    };
    let shards = plan(&["--shards", "6", "--format", "slurm"]);
    let job = submit(&shards);
    let victim = *indices(&shards).last().unwrap();
    slurm.wait_for_state(job, victim, "RUNNING", LIMIT);
    slurm.cancel(&format!("{job}_{victim}"));
    let logs = || -> String {
        let text = |index| std::fs::read_to_string(path(&format!("log-{index}")));
        (1..=6)
            .map(|index| text(index).unwrap_or_default())
            .collect()
    };
    let ends = slurm.wait(job, LIMIT);
    for (index, state) in &ends {
        let expected = if *index == victim {
            "CANCELLED"
        } else {
            "COMPLETED"
        };
        assert_eq!(state, expected, "task {index} of {shards}\n{}", logs());
    }
    // Also what the killed task never told of is missed.
    let merged = lab(&["report", "merge", &shown("shards")]);
    assert!([3, 130].contains(&merged.code), "{}", merged.stdout);

    let resume = [
        "--shards",
        "6",
        "--format",
        "slurm",
        "--resume",
        &shown("shards"),
    ];
    assert_eq!(plan(&resume), victim.to_string());
    let job = submit(&victim.to_string());
    let ends = slurm.wait(job, LIMIT);
    assert_eq!(ends[&victim], "COMPLETED", "{}", logs());
    assert_eq!(plan(&resume), "");

    let junit = format!("junit={}", shown("junit.xml"));
    let merged = lab(&["report", "merge", &shown("shards"), "--report", &junit]);
    assert_eq!(merged.code, 0, "{}", merged.stdout);
    assert_eq!(verdicts(&path("shards")), verdicts(&path("whole")));
    assert!(
        verdicts(&path("whole"))
            .values()
            .any(|v| *v == Outcome::ExpectedFailure)
    );
}
