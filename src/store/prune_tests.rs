// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of listing and pruning.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use super::list::{list, walk};
use super::prune::{Policy, Pruned};
use super::test_lab::{DAY, IMAGE, KERNEL, Lab, MODULES, RECORD, SOURCE, VERSIONS};

fn policy(days: u32) -> Policy {
    Policy {
        unused_for: DAY * days,
        max_size: None,
        dry_run: false,
    }
}

fn keys(pruned: &Pruned) -> Vec<String> {
    let removed = pruned.removed.iter();
    removed
        .map(|(entry, _)| format!("{}/{}", entry.kind, entry.key))
        .collect()
}

#[test]
fn the_sizes_together_are_those_of_the_disk() {
    let lab = Lab::full();
    let listing = list(&lab.ctx.cache).unwrap();
    let mut inodes = BTreeMap::new();
    walk(lab.ctx.cache.dir(), |data| {
        inodes.insert(data.ino(), data.blocks() * 512);
    })
    .unwrap();
    assert_eq!(listing.bytes(), inodes.values().sum::<u64>());
    let total: u64 = listing.totals().iter().map(|(.., bytes)| bytes).sum();
    assert_eq!(listing.bytes(), total);
    let what = |kind: &str| {
        let mut entries = listing.entries.iter();
        &entries.find(|entry| entry.kind == kind).unwrap().what
    };
    assert_eq!(what("sources"), "linux-source-7.3 7.3.4-1");
    let kernel = "7.3.4-lab-c725e1fd43b9 x86_64, linux-source-7.3 7.3.4-1";
    assert_eq!(what("kernels"), kernel);
    assert_eq!(what("modules"), "x");
}

#[test]
fn what_was_not_used_for_long_goes() {
    let lab = Lab::full();
    let (kernel, klp) = (format!("kernels/{KERNEL}"), format!("klp/{KERNEL}"));
    let (image, modules) = (format!("images/{IMAGE}"), format!("modules/{MODULES}"));
    lab.used(&kernel, 40);
    lab.used(&klp, 40);
    lab.used(&modules, 31);
    lab.used(&image, 29);
    lab.used(&format!("sources/{RECORD}"), 1);
    let before = lab.contents();
    let dry = lab.prune(Policy {
        dry_run: true,
        ..policy(30)
    });
    assert_eq!(lab.contents(), before);
    let pruned = lab.prune(policy(30));
    assert_eq!(keys(&pruned), [klp, kernel, modules]);
    assert_eq!(keys(&dry), keys(&pruned));
    assert!(lab.has(&image) && lab.has(&format!("sources/{SOURCE}/Makefile")));
    let freed = |pruned: &Pruned| pruned.removed.iter().map(|(_, bytes)| bytes).sum::<u64>();
    assert_eq!(freed(&dry), freed(&pruned));
    // The locks' own folder is new.
    let left = list(&lab.ctx.cache).unwrap().bytes();
    assert!(left.abs_diff(pruned.left) <= 8192, "{left} {}", pruned.left);
}

#[test]
fn a_source_goes_after_its_last_record() {
    let lab = Lab::full();
    for name in [format!("sources/{RECORD}"), format!("sources/{SOURCE}")] {
        lab.used(&name, 50);
    }
    let source = fs::metadata(lab.path(&format!("kernels/{KERNEL}/tree/Makefile"))).unwrap();
    assert_eq!(source.nlink(), 3);
    let pruned = lab.prune(policy(30));
    let expected = [format!("sources/{RECORD}"), format!("sources/{SOURCE}")];
    assert_eq!(keys(&pruned), expected);
    assert_eq!(
        fs::read(lab.path(&format!("kernels/{KERNEL}/tree/Makefile"))).unwrap(),
        b"all:\n"
    );
}

#[test]
fn what_another_lab_holds_stays() {
    let lab = Lab::full();
    let (kernel, klp) = (format!("kernels/{KERNEL}"), format!("klp/{KERNEL}"));
    for name in [&kernel, &klp] {
        lab.used(name, 40);
    }
    let cache = &lab.ctx.cache;
    let lock = cache.try_lock(&format!("kernel-{KERNEL}")).unwrap();
    lab.write(&format!("kernels/work-{KERNEL}/tree/x"), b"");
    let klp_lock = cache.try_lock(&format!("klp-{KERNEL}")).unwrap();
    let pruned = lab.prune(policy(30));
    assert!(pruned.removed.is_empty() && lab.has(&kernel) && lab.has(&klp));
    assert_eq!(pruned.kept.len(), 2);
    drop(lock);
    // The kernel stays because its copy does.
    let pruned = lab.prune(policy(30));
    assert!(pruned.removed.is_empty() && lab.has(&kernel) && lab.has(&klp));
    drop(klp_lock);
    // What survives a killed lab.
    lab.write(&format!("{klp}/running"), b"");
    let running = File::open(lab.path(&format!("{klp}/running"))).unwrap();
    running.lock().unwrap();
    assert!(lab.prune(policy(30)).removed.is_empty());
    drop(running);
    assert_eq!(keys(&lab.prune(policy(30))), [klp, kernel]);
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_used_lately_stays_while_another_lab_runs() {
    let lab = Lab::full();
    let modules = format!("modules/{MODULES}");
    lab.used(&modules, 0);
    lab.used(&format!("images/{IMAGE}"), 3);
    let other = lab.ctx.cache.in_use(&lab.ctx.cancel).await.unwrap();
    let none = Policy {
        max_size: Some(0),
        ..policy(30)
    };
    let pruned = lab.prune(none.clone());
    assert!(lab.has(&modules) && !lab.has(&format!("images/{IMAGE}")));
    assert!(pruned.kept.iter().any(|(entry, _)| entry.key == MODULES));
    drop(other);
    lab.prune(none);
    assert!(!lab.has(&modules) && !lab.has(&format!("kernels/{KERNEL}")));
}

#[test]
fn the_least_recently_used_go_until_it_fits() {
    let lab = Lab::full();
    let (image, modules) = (format!("images/{IMAGE}"), format!("modules/{MODULES}"));
    lab.used(&image, 7);
    lab.used(&modules, 6);
    for name in [
        format!("kernels/{KERNEL}"),
        format!("klp/{KERNEL}"),
        format!("sources/{RECORD}"),
    ] {
        lab.used(&name, 5);
    }
    lab.used(&format!("images/{VERSIONS}"), 4);
    let everything = lab.prune(Policy {
        max_size: Some(0),
        dry_run: true,
        ..policy(30)
    });
    let place = |name: String| keys(&everything).iter().position(|key| *key == name);
    let (kernel, source) = (format!("kernels/{KERNEL}"), format!("sources/{SOURCE}"));
    assert!(
        place(kernel.clone()) < place(source),
        "a source after its kernels"
    );
    assert!(place(format!("klp/{KERNEL}")) < place(kernel));
    let all = list(&lab.ctx.cache).unwrap().bytes();
    let pruned = lab.prune(Policy {
        max_size: Some(all - 1),
        ..policy(30)
    });
    assert_eq!(keys(&pruned), [image]);
    assert!(pruned.left < all && lab.has(&modules));
}

#[test]
fn leftovers_go_after_a_day() {
    let lab = Lab::full();
    for name in [
        "kernels/work-aaaaaaaaaaaaaaaaaaaa/x",
        "modules/.tmp-abc/x",
        "klp/.tmp-new/x",
    ] {
        lab.write(name, b"");
    }
    let names = ["kernels/work-aaaaaaaaaaaaaaaaaaaa", "modules/.tmp-abc"];
    let old = SystemTime::now() - 2 * DAY;
    for name in names {
        File::open(lab.path(name))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    let pruned = lab.prune(policy(30));
    let mut gone = keys(&pruned);
    gone.sort();
    assert_eq!(gone, names);
    assert!(lab.has("klp/.tmp-new/x"));
}
