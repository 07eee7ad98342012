// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of exporting and importing: what arrives, and what hostile archives cannot do.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::export::export;
use super::test_lab::{DAY, IMAGE, KERNEL, Lab, MODULES, RECORD, SOURCE};
use crate::cache::{USED, last_used};
use crate::kernel::BuiltKernel;

#[tokio::test(flavor = "current_thread")]
async fn what_is_exported_arrives_elsewhere() {
    let (from, to) = (Lab::full(), Lab::empty());
    let file = from.export().await;
    let first = fs::read(&file).unwrap();
    assert_eq!(
        first,
        fs::read(from.export().await).unwrap(),
        "deterministic"
    );
    let imported = to.import(&file).await.unwrap();
    assert_eq!((imported.added.len(), imported.kept.len()), (5, 0));
    let mut expected = from.contents();
    expected.retain(|name, _| !name.starts_with("klp") && !name.starts_with("modules"));
    for what in expected.values_mut() {
        *what = what.replace("4775 ", "755 ");
    }
    assert_eq!(to.contents(), expected);
    let inode = |name: String| fs::metadata(to.path(&name)).unwrap().ino();
    assert_eq!(
        inode(format!("sources/{SOURCE}/Makefile")),
        inode(format!("kernels/{KERNEL}/tree/Makefile"))
    );
    let record = to.path(&format!("sources/{RECORD}"));
    assert!(last_used(&record).elapsed().unwrap() < DAY, "used now");
    let tree = crate::kernel::source::recorded(&record).unwrap();
    assert_eq!(tree.dir, to.path(&format!("sources/{SOURCE}")));

    let again = to.import(&file).await.unwrap();
    assert_eq!((again.added.len(), again.kept.len()), (0, 5));
    assert_eq!(to.contents(), expected, "and nothing is left behind");
}

#[tokio::test(flavor = "current_thread")]
async fn a_damaged_archive_leaves_nothing() {
    let (from, to) = (Lab::full(), Lab::empty());
    let file = from.export().await;
    let good = fs::read(&file).unwrap();
    let plain = zstd::decode_all(&*good).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..good.len())
        .step_by(good.len() / 40)
        .chain(good.len() - 5..good.len())
        .map(|end| good[..end].to_vec())
        .collect();
    for place in (0..good.len()).step_by(good.len() / 40) {
        let mut flipped = good.clone();
        flipped[place] ^= 0x10;
        // In a row of zeros another distance to copy from gives the same zeros: no damage.
        if zstd::decode_all(&*flipped).ok().as_ref() != Some(&plain) {
            damaged.push(flipped);
        }
    }
    assert!(damaged.len() > 70, "{}", damaged.len());
    damaged.push([&good[..], b"more"].concat());
    damaged.push([&good[..], &good[..]].concat());
    for (case, bytes) in damaged.into_iter().enumerate() {
        fs::write(&file, &bytes).unwrap();
        let what = format!("case {case}, {} bytes", bytes.len());
        let error = to.import(&file).await.expect_err(&what);
        assert_eq!(error.blame, crate::error::Blame::File, "{error}");
        assert!(files(&to).is_empty(), "{error}: {:?}", files(&to));
    }
}

/// Everything in the cache but the folders of the kinds.
fn files(lab: &Lab) -> Vec<PathBuf> {
    let depth = |name: &PathBuf| name.components().count();
    let names = lab.contents().into_keys();
    names.filter(|name| depth(name) > 1).collect()
}

/// A member of an archive that no lab writes.
struct Member {
    kind: EntryType,
    name: String,
    target: String,
    data: Vec<u8>,
}

fn member(kind: EntryType, name: &str, target: &str, data: &str) -> Member {
    Member {
        kind,
        name: name.to_owned(),
        target: target.to_owned(),
        data: data.as_bytes().to_vec(),
    }
}

fn pack(members: &[Member], file: &Path) {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 0).unwrap());
    for member in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(member.kind);
        header.set_mode(0o6777);
        header.set_mtime(1_000_000);
        header.set_size(member.data.len() as u64);
        // Past the crate's own checks.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..member.name.len()].copy_from_slice(member.name.as_bytes());
        gnu.linkname[..member.target.len()].copy_from_slice(member.target.as_bytes());
        header.set_cksum();
        archive.append(&header, member.data.as_slice()).unwrap();
    }
    let bytes = archive.into_inner().unwrap().finish().unwrap();
    File::create(file).unwrap().write_all(&bytes).unwrap();
}

fn manifest(version: u32, entries: &[(&str, &str)]) -> Member {
    let entries: Vec<_> = entries
        .iter()
        .map(|(kind, key)| serde_json::json!({"kind": kind, "key": key, "label": "x"}))
        .collect();
    let json = serde_json::json!({"version": version, "lab": "x", "entries": entries});
    member(EntryType::Regular, "lab-cache.json", "", &json.to_string())
}

#[tokio::test(flavor = "current_thread")]
async fn a_hostile_archive_is_rejected_as_a_whole() {
    use EntryType as T;
    let image = format!("images/{IMAGE}");
    let inside = |name: &str| format!("{image}/{name}");
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let (dir, victim_name) = (outside.path().to_str().unwrap(), victim.to_str().unwrap());
    let cases: Vec<(&str, Vec<Member>)> = vec![
        (
            "path traversal",
            vec![member(T::Regular, &inside("../../../x"), "", "bad")],
        ),
        ("a dot", vec![member(T::Regular, &inside("./x"), "", "bad")]),
        (
            "an absolute path",
            vec![member(T::Regular, victim_name, "", "bad")],
        ),
        (
            "an undeclared entry",
            vec![member(T::Directory, "images/5025f690724a15642129", "", "")],
        ),
        (
            "another folder of the cache",
            vec![member(T::Regular, "locks/x.lock", "", "bad")],
        ),
        (
            "the folder of a kind",
            vec![member(T::Directory, "images", "", "")],
        ),
        (
            "an absolute link",
            vec![member(T::Symlink, &inside("l"), dir, "")],
        ),
        (
            "a link out of the entry",
            vec![member(T::Symlink, &inside("l"), "../x", "")],
        ),
        (
            "a link that goes up later",
            vec![
                member(T::Symlink, &inside("a"), ".", ""),
                member(T::Symlink, &inside("l"), "a/../x", ""),
            ],
        ),
        (
            "a link in place of the entry",
            vec![member(T::Symlink, "images/x", dir, "")],
        ),
        (
            "writing through a link to a folder",
            vec![
                member(T::Directory, &inside("d"), "", ""),
                member(T::Symlink, &inside("l"), "d", ""),
                member(T::Regular, &inside("l/x"), "", "bad"),
            ],
        ),
        (
            "writing through a link to a file",
            vec![
                member(T::Symlink, &inside("l"), "initramfs.cpio", ""),
                member(T::Regular, &inside("l"), "", "bad"),
            ],
        ),
        (
            "a folder in place of a link",
            vec![
                member(T::Symlink, &inside("l"), "initramfs.cpio", ""),
                member(T::Directory, &inside("l"), "", ""),
            ],
        ),
        (
            "a file twice",
            vec![member(T::Regular, &inside("initramfs.cpio"), "", "bad")],
        ),
        (
            "a hard link outside",
            vec![member(T::Link, &inside("l"), victim_name, "")],
        ),
        (
            "a hard link upwards",
            vec![member(T::Link, &inside("l"), &inside("../x"), "")],
        ),
        (
            "a hard link to nothing",
            vec![member(T::Link, &inside("l"), &inside("x"), "")],
        ),
        (
            "a hard link to a symbolic one",
            vec![
                member(T::Symlink, &inside("s"), "initramfs.cpio", ""),
                member(T::Link, &inside("l"), &inside("s"), ""),
            ],
        ),
        (
            "a hard link to a folder",
            vec![member(T::Link, &inside("l"), &image, "")],
        ),
        (
            "a file in no folder",
            vec![member(T::Regular, &inside("no/x"), "", "bad")],
        ),
        (
            "a mark of use",
            vec![member(T::Symlink, &inside(USED), "initramfs.cpio", "")],
        ),
        ("a device", vec![member(T::Char, &inside("null"), "", "")]),
        (
            "a block device",
            vec![member(T::Block, &inside("sda"), "", "")],
        ),
        ("a pipe", vec![member(T::Fifo, &inside("pipe"), "", "")]),
        (
            "a sparse file",
            vec![member(T::GNUSparse, &inside("sparse"), "", "")],
        ),
        (
            "a pax header",
            vec![member(T::XHeader, &inside("x"), "", "18 path=../../x\n")],
        ),
        (
            "a name without end",
            vec![member(
                T::GNULongName,
                "././@LongLink",
                "",
                &"x".repeat(5000),
            )],
        ),
        (
            "a long name that goes up",
            vec![
                member(T::GNULongName, "././@LongLink", "", &inside("../../../x")),
                member(T::Regular, "short", "", "bad"),
            ],
        ),
    ];
    let good = || {
        vec![
            manifest(1, &[("images", IMAGE)]),
            member(T::Directory, &format!("{image}/"), "", ""),
            member(T::Regular, &inside("initramfs.cpio"), "", "cpio"),
        ]
    };
    let lab = Lab::empty();
    let file = lab.dir.path().join("hostile");
    for (what, members) in cases {
        let mut all = good();
        all.extend(members);
        pack(&all, &file);
        rejected(&lab, &file, what).await;
        assert_eq!(fs::read(&victim).unwrap(), b"untouched", "{what}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{what}");
    }
    pack(&good(), &file);
    lab.import(&file).await.unwrap();
    let mode = fs::metadata(lab.path(&inside("initramfs.cpio")))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7777 & !0o755, 0, "{mode:o}");
}

#[tokio::test(flavor = "current_thread")]
async fn an_archive_must_be_what_it_claims() {
    use EntryType as T;
    let folder = |name: &str| member(T::Directory, name, "", "");
    let file = |name: &str, text: &str| member(T::Regular, name, "", text);
    let kernel = |json: &str| {
        let entry = format!("kernels/{KERNEL}");
        vec![
            manifest(1, &[("kernels", KERNEL)]),
            folder(&entry),
            folder(&format!("{entry}/tree")),
            folder(&format!("{entry}/tree/build")),
            file(&format!("{entry}/tree/Makefile"), "all:"),
            file(&format!("{entry}/kernel.json"), json),
        ]
    };
    let json = |key: &str, release: &str| {
        let family = SOURCE;
        serde_json::json!({"key": key, "release": release, "source": "x", "family": family,
            "objects": 1})
        .to_string()
    };
    let release = format!("7.3.4-lab-{}", &KERNEL[..12]);
    let record = |text: &str| {
        vec![
            manifest(1, &[("sources", RECORD)]),
            file(&format!("sources/{RECORD}"), text),
        ]
    };
    let cases: Vec<(&str, Vec<Member>)> = vec![
        ("nothing", vec![]),
        ("no manifest", vec![folder(&format!("images/{IMAGE}"))]),
        (
            "a manifest that is a link",
            vec![member(T::Symlink, "lab-cache.json", "/etc", "")],
        ),
        ("another version", vec![manifest(2, &[])]),
        ("no JSON", vec![file("lab-cache.json", "[")]),
        ("another kind", vec![manifest(1, &[("modules", MODULES)])]),
        (
            "a kind that steers",
            vec![manifest(1, &[("\u{1b}[2J", MODULES)])],
        ),
        (
            "a key that goes up",
            vec![manifest(1, &[("images", "../x")])],
        ),
        (
            "an entry twice",
            vec![manifest(1, &[("images", IMAGE), ("images", IMAGE)])],
        ),
        (
            "an entry that is missing",
            vec![manifest(1, &[("images", IMAGE)])],
        ),
        (
            "an image without its file",
            vec![
                manifest(1, &[("images", IMAGE)]),
                folder(&format!("images/{IMAGE}")),
            ],
        ),
        (
            "a source that is none",
            vec![
                manifest(1, &[("sources", SOURCE)]),
                folder(&format!("sources/{SOURCE}")),
            ],
        ),
        ("a kernel of another key", kernel(&json(SOURCE, &release))),
        (
            "a kernel of another release",
            kernel(&json(KERNEL, "7.3.4")),
        ),
        (
            "a release that steers",
            kernel(&json(KERNEL, &format!("\u{1b}[2J{release}"))),
        ),
        ("a manifest without sense", kernel("{}")),
        ("a record without sense", record("{}")),
        (
            "a record of what is not there",
            record(&serde_json::json!({"id": SOURCE, "label": "x", "immutable": true}).to_string()),
        ),
        (
            "a record that goes up",
            record(r#"{"id":"..","label":"x","immutable":true}"#),
        ),
        (
            "a record that is a link",
            vec![
                manifest(1, &[("sources", RECORD)]),
                member(T::Symlink, &format!("sources/{RECORD}"), "/etc/passwd", ""),
            ],
        ),
    ];
    let lab = Lab::empty();
    let archive = lab.dir.path().join("odd");
    for (what, members) in cases {
        pack(&members, &archive);
        rejected(&lab, &archive, what).await;
    }
    pack(&kernel(&json(KERNEL, &release)), &archive);
    lab.import(&archive).await.unwrap();
    assert!(lab.has(&format!("kernels/{KERNEL}/kernel.json")));
}

async fn rejected(lab: &Lab, file: &Path, what: &str) {
    let error = lab.import(file).await.expect_err(what);
    assert_eq!(error.blame, crate::error::Blame::File, "{what}: {error}");
    assert!(files(lab).is_empty(), "{what}: {:?}", files(lab));
    assert!(!error.what.contains('\u{1b}'), "{what}: {error}");
}

#[tokio::test(flavor = "current_thread")]
async fn ones_own_source_cannot_be_exported() {
    let lab = Lab::full();
    fs::remove_file(lab.path(&format!("sources/{RECORD}"))).unwrap();
    let kernel = BuiltKernel::load(&lab.path(&format!("kernels/{KERNEL}"))).unwrap();
    let file = lab.dir.path().join("file");
    let error = export(&lab.ctx, &[kernel], &[], &file).await.unwrap_err();
    assert_eq!(error.blame, crate::error::Blame::Usage);
    assert!(!file.exists());
}
