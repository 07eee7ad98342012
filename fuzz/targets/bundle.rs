// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab repro` of a stranger's bundle: whatever is in it, it is unpacked to plain files in a folder
//! of its own, or to nothing.
//!
//! The checksums of tar and zstd would keep a fuzzer outside, and so would the sums of the files: an
//! input is a list of members, each a line: its kind, its name, and what it holds or where it leads.
//! Those of kind `f` are declared, in their order; `F` is a file that nobody declares.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use livepatch_lab::bundle::read::read;
use livepatch_lab::event::Events;
use livepatch_lab::visible::is_hidden;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// What stands outside of the bundle's folder.
const VICTIM: &str = "victim";

/// A bundle of a stranger.
pub fn bundle(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let victim = dir.path().join(VICTIM);
    let file = dir.path().join("report.tar.zst");
    let place = dir.path().join("place");
    fs::write(&victim, VICTIM).expect("a file");
    fs::create_dir(&place).expect("a folder");
    let text = String::from_utf8_lossy(data);
    let text = text.replace("OUT", &dir.path().to_string_lossy());
    fs::write(&file, packed(&text)).expect("a file");

    let mut phase = Events::channel().0.phase("read");
    let bundle = read(&file, &place.join("x"), &Default::default(), &mut phase);

    let unpacked: Vec<_> = entries(&place);
    match &bundle {
        Ok(bundle) => {
            assert_eq!(unpacked.len(), 1);
            is_plain(&unpacked[0]);
            for part in &bundle.manifest.files {
                let data = fs::read(bundle.path(&part.path)).expect("a declared file");
                assert_eq!(part.sha256, sum(&data));
            }
            match bundle.contents() {
                Ok(contents) => assert!(contents.scenario.steps.len() <= 300),
                Err(error) => assert!(!error.what.is_empty()),
            }
            bundle.complete().expect("a project");
            is_plain(&unpacked[0]);
        }
        Err(error) => {
            assert!(error.help.is_some(), "{error}");
            let shown = error.what.replace(&*dir.path().to_string_lossy(), "");
            assert!(!shown.contains(is_hidden), "{shown:?}");
            assert!(unpacked.is_empty(), "{error}, but there is {unpacked:?}");
        }
    }
    assert_eq!(entries(dir.path()).len(), 3);
    assert_eq!(fs::read(&victim).expect("the victim"), VICTIM.as_bytes());
    assert_eq!(victim.metadata().expect("the victim").nlink(), 1);
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

/// Files with one name, and folders; no link, no device, nothing that runs.
fn is_plain(path: &Path) {
    let data = fs::symlink_metadata(path).expect("its metadata");
    if data.is_dir() {
        entries(path).iter().for_each(|entry| is_plain(entry));
        return;
    }
    assert!(data.is_file() && data.nlink() == 1, "{path:?}");
    assert_eq!(data.permissions().mode() & 0o7133, 0, "{path:?}");
}

fn sum(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The bundle of a list of members. Its first line is `slim`, a whole `bundle.json`, or anything else.
fn packed(text: &str) -> Vec<u8> {
    let (first, members) = text.split_once('\n').unwrap_or((text, ""));
    let parse = |line: &str| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        (next(), next(), next().replace('\t', "\n"))
    };
    let members: Vec<_> = members.lines().map(parse).collect();
    let declared = members.iter().filter(|(kind, ..)| kind == "f");
    let files: Vec<_> = declared
        .map(|(_, name, data)| {
            let sha256 = sum(data.as_bytes());
            serde_json::json!({"path": name, "bytes": data.len(), "sha256": sha256})
        })
        .collect();
    let manifest = serde_json::json!({
        "version": 1,
        "lab": "0.1.0",
        "origin": {
            "run": {"scenario": "s", "kernel": "k", "arch": "x86_64"},
            "lab": "0.1.0",
            "kernel": {"key": "k", "release": "7.3.4", "source": "x"},
            "image": {"key": "i", "sum": "i", "packages": [["busybox", "1"]]},
            "modules": ["m"],
            "accel": "tcg",
            "qemu": "QEMU emulator version 10.0.2",
            "timeout_ms": null,
            "warm": true,
        },
        "manner": {"outcome": "failed", "failing": null, "splat": null},
        "slim": first == "slim",
        "files": files,
    });
    let manifest = match first.starts_with('{') {
        true => first.to_owned(),
        false => manifest.to_string(),
    };
    let encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    let mut archive = tar::Builder::new(encoder);
    let mut add = |kind: EntryType, name: &str, target: &str, data: &str| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o7777);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        // Past the crate's own checks.
        let gnu = header.as_gnu_mut().expect("a header");
        for (field, text) in [(&mut gnu.name, name), (&mut gnu.linkname, target)] {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text.as_bytes()[..length]);
        }
        header.set_cksum();
        archive.append(&header, data.as_bytes()).expect("a member");
    };
    add(EntryType::Regular, "bundle.json", "", &manifest);
    for (kind, name, rest) in &members {
        match kind.as_str() {
            "f" | "F" => add(EntryType::Regular, name, "", rest),
            "d" => add(EntryType::Directory, name, "", ""),
            "s" => add(EntryType::Symlink, name, rest, ""),
            "h" => add(EntryType::Link, name, rest, ""),
            "L" => add(EntryType::GNULongName, "", "", name),
            _ => {
                let byte = kind.bytes().next().unwrap_or(b'3');
                add(EntryType::new(byte), name, rest, "data");
            }
        }
    }
    let encoder = archive.into_inner().expect("an archive");
    encoder.finish().expect("an archive")
}
