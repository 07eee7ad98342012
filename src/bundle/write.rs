// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing a run's record and all that it was made from to one file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::EntryType;
use tokio_util::sync::CancellationToken;

use super::manifest::{Manifest, NAME, Part, TEXT_MAX, VERSION};
use super::mask::Mask;
use super::{PROJECT, RUN};
use crate::cache::{Cache, hex, sha256_of};
use crate::error::{Blame, Error, IoContext, Result};
use crate::event::Phase;
use crate::files::read_regular;
use crate::guest::entrance;
use crate::replay;
use crate::runner::manner::Manner;
use crate::runner::origin::{self, Built, CONFIG, Recorded};
use crate::runner::pause;
use crate::store::pack::{Pack, header, is_there};
use crate::verdict::Verdict;

/// The longest `run.json` and `verdict.json`.
const JSON_MAX: u64 = 16 << 20;
/// zstd's level: what takes a second or two more makes a file that is to be sent a fifth smaller.
const LEVEL: i32 = 12;
/// What the lab writes of itself and of QEMU, with the host's own folders in it. The rest is the
/// guest's word, and kept to the letter.
const OF_THE_HOST: [&str; 5] = [
    "events.jsonl",
    "qemu.sh",
    "qemu.stderr",
    "qmp.log",
    "verdict.json",
];
/// What is in a record and not in a bundle's: `bundle.json` says it, or it is too large, or it is good
/// for nothing on another machine.
const LEFT_OUT: [&str; 10] = [
    origin::FILE,
    PROJECT,
    "memory.elf",
    entrance::FILE,
    pause::CONTINUE,
    pause::GDB_SCRIPT,
    replay::LOG,
    replay::UNFINISHED,
    replay::MANIFEST,
    replay::play::REPLAYED,
];

/// How to write a bundle.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Leave out what can be built.
    pub slim: bool,
    /// Replace the file if it exists.
    pub replace: bool,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// What is in it.
    pub manifest: Manifest,
    /// The bundle's size in bytes.
    pub bytes: u64,
}

/// Where a file's content is.
enum Content {
    Here(Vec<u8>),
    File(PathBuf),
}

/// Writes the run in `record` to `file`.
///
/// # Errors
///
/// `Usage` if it is no record of a whole run, or if the file exists; `File` if what the run was made
/// from is not there any more; `Host` for the disk; `Interrupted`.
pub fn write(
    record: &Path,
    file: &Path,
    how: How,
    cache: &Cache,
    cancel: &CancellationToken,
    phase: &mut Phase,
) -> Result<Written> {
    if !how.replace && file.symlink_metadata().is_ok() {
        return Err(is_there(file));
    }
    let record = fs::canonicalize(record).at("read", record)?;
    let recorded = read_recorded(&record)?;
    let verdict: Verdict = read_json(&record.join("verdict.json"))?.ok_or_else(|| {
        let what = format!("{} holds no verdict", record.display());
        Error::new(Blame::Usage, what)
            .help("the run is not over, or its lab was killed: run it again")
    })?;
    let mask = mask(&record, cache);
    let mut contents = BTreeMap::new();
    take_folder(&record.join(PROJECT), PROJECT, &mut contents)?;
    take_record(&record, &mask, &mut contents)?;
    let mut parts = Vec::new();
    for built in &recorded.built {
        // The configuration is no more than a text, and says what was built.
        if how.slim && built.name != CONFIG {
            continue;
        }
        parts.push(check(built)?);
        let content = Content::File(built.file.clone());
        contents.insert(built.name.clone(), content);
    }
    for (path, content) in &contents {
        if let Content::Here(data) = content {
            parts.push(Part {
                path: path.clone(),
                bytes: data.len() as u64,
                sha256: hex(&Sha256::digest(data)),
            });
        }
    }
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    let mut origin = recorded.origin;
    // One's own tree is known by its folder.
    origin.kernel.source = mask.apply(&origin.kernel.source);
    let manifest = Manifest {
        version: VERSION,
        lab: env!("CARGO_PKG_VERSION").to_owned(),
        origin,
        manner: Manner::of(&verdict),
        slim: how.slim,
        files: parts,
    };
    manifest.check().map_err(|why| {
        let what = format!("{} cannot be bundled: {why}", record.display());
        Error::new(Blame::File, what).help("rename or shorten it, run it again, and bundle that")
    })?;
    let bytes = pack(file, how, &manifest, &contents, cancel, phase)?;
    Ok(Written { manifest, bytes })
}

fn pack(
    file: &Path,
    how: How,
    manifest: &Manifest,
    contents: &BTreeMap<String, Content>,
    cancel: &CancellationToken,
    phase: &mut Phase,
) -> Result<u64> {
    let json =
        serde_json::to_vec_pretty(manifest).map_err(|error| Error::lab(error.to_string()))?;
    let mut pack = Pack::create(file, LEVEL)?;
    pack.bytes(NAME, &json)?;
    for (number, part) in (1..).zip(&manifest.files) {
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        phase.progress(number, Some(manifest.files.len() as u64), &part.path);
        match &contents[&part.path] {
            Content::Here(data) => pack.bytes(&part.path, data)?,
            Content::File(from) => {
                let mut header = header(EntryType::Regular, 0o644, 0);
                header.set_size(part.bytes);
                pack.content(header, Path::new(&part.path), from)?;
            }
        }
    }
    pack.finish(how.replace)
}

fn read_recorded(record: &Path) -> Result<Recorded> {
    let shown = record.display();
    let recorded: Recorded = read_json(&record.join(origin::FILE))?.ok_or_else(|| {
        let what = format!("{shown} does not say what was run ({})", origin::FILE);
        Error::new(Blame::Usage, what).help(
            "name the record of a run that had a guest, and that this version of the lab played",
        )
    })?;
    if recorded.version != origin::VERSION {
        let what = format!("{shown} was written by another version of the lab");
        return Err(Error::new(Blame::Usage, what).help("run it again, and bundle that"));
    }
    match recorded.missing.first() {
        None => Ok(recorded),
        Some(_) => Err(Error::new(
            Blame::File,
            format!("{shown} does not hold all that was run"),
        )
        .evidence(&recorded.missing.join("\n"))
        .help("mend that, run it again, and bundle the new record")),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let wrong = |error: serde_json::Error| {
        let error = error.to_string();
        let what = format!("{}: {}", path.display(), error.escape_debug());
        Error::new(Blame::File, what).help("name the record of another run")
    };
    let text = read_regular(path, JSON_MAX)?;
    serde_json::from_slice(&text).map(Some).map_err(wrong)
}

/// What was built must still be what ran.
fn check(built: &Built) -> Result<Part> {
    let gone = |why: &str| {
        let what = format!("{} {why}", built.file.display());
        Error::new(Blame::File, what)
            .help("run it again and bundle that, or leave out what can be built with --slim")
    };
    let data = fs::metadata(&built.file).map_err(|_| gone("is not there any more"))?;
    if !data.is_file() || sha256_of(&built.file)? != built.sha256 {
        return Err(gone("is not what ran any more"));
    }
    Ok(Part {
        path: built.name.clone(),
        bytes: data.size(),
        sha256: built.sha256.clone(),
    })
}

/// The folders that are the reporter's alone.
fn mask(record: &Path, cache: &Cache) -> Mask {
    let var = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .unwrap_or_default()
    };
    let is_lab = |dir: &&Path| dir.file_name() == Some(".lab".as_ref());
    let project = record.ancestors().find(is_lab);
    let project = project.and_then(Path::parent).unwrap_or(Path::new(""));
    Mask::default()
        .folder(record, "$RECORD")
        .folder(cache.dir(), "$LAB_CACHE_DIR")
        .folder(project, "$PROJECT")
        .folder(&var("HOME"), "$HOME")
}

/// Takes the files of the record.
fn take_record(record: &Path, mask: &Mask, contents: &mut BTreeMap<String, Content>) -> Result<()> {
    for (name, path) in entries(record)? {
        if LEFT_OUT.contains(&&*name) {
            continue;
        }
        let data = fs::symlink_metadata(&path).at("read", &path)?;
        let inside = format!("{RUN}/{name}");
        if data.is_dir() {
            take_folder(&path, &inside, contents)?;
        } else if data.is_file() {
            let mut text = read_regular(&path, TEXT_MAX)?;
            if OF_THE_HOST.contains(&&*name) {
                text = mask.apply(&String::from_utf8_lossy(&text)).into_bytes();
            }
            contents.insert(inside, Content::Here(text));
        }
    }
    Ok(())
}

/// Takes the files of a folder and of those in it.
fn take_folder(
    folder: &Path,
    inside: &str,
    contents: &mut BTreeMap<String, Content>,
) -> Result<()> {
    for (name, path) in entries(folder)? {
        let data = fs::symlink_metadata(&path).at("read", &path)?;
        let inside = format!("{inside}/{name}");
        if data.is_dir() {
            take_folder(&path, &inside, contents)?;
        } else if data.is_file() {
            contents.insert(inside, Content::Here(read_regular(&path, TEXT_MAX)?));
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        let entry = entry.at("read", folder)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push((name, entry.path()));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::manifest;
    use super::super::read::read;
    use super::*;
    use crate::event::Events;

    /// A record as a run leaves it, with a cache beside it.
    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Self {
            let fixture = Self(tempfile::tempdir().unwrap());
            let cache = fixture.path("cache");
            let names = [
                ("built/kernel", "kernel"),
                ("built/initramfs.cpio", "initramfs"),
                (CONFIG, "CONFIG_X=y\n"),
                ("built/modules/shop.ko", "module"),
            ];
            let mut built = Vec::new();
            for (name, text) in names {
                let file = cache.join(name.replace('/', "-"));
                fixture.write(file.to_str().unwrap(), text);
                built.push(Built {
                    name: name.to_owned(),
                    sha256: sha256_of(&file).unwrap(),
                    file,
                });
            }
            let recorded = Recorded {
                version: origin::VERSION,
                origin: manifest(&[]).origin,
                built,
                missing: Vec::new(),
            };
            let json = serde_json::to_string(&recorded).unwrap();
            fixture.record("run.json", &json);
            let verdict = serde_json::to_string(&Verdict::passed()).unwrap();
            fixture.record("verdict.json", &verdict);
            fixture.record("console.log", "[    0.0] Linux\n");
            let kernel = cache.join("kernel").display().to_string();
            fixture.record("qemu.sh", &format!("qemu -kernel {kernel}\n"));
            fixture.record("states/01.txt", "state\n");
            fixture.record("memory.elf", "memory");
            fixture.record("replay.bin", "log");
            fixture.record("gdb.init", "file \"/home/jane/vmlinux\"");
            fixture.record("project/scenarios/window.yaml", "version: 1\n");
            fixture.record("project/kernels/tags-rfc.yaml", "version: 1\n");
            fixture
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn record(&self, name: &str, text: &str) {
            self.write(&format!("project/.lab/runs/x/{name}"), text);
        }

        fn bundle(&self, file: &str, slim: bool) -> Result<Written> {
            let (events, _receiver) = Events::channel();
            let how = How {
                slim,
                replace: false,
            };
            write(
                &self.path("project/.lab/runs/x"),
                &self.path(file),
                how,
                &Cache::at(&self.path("cache")),
                &CancellationToken::new(),
                &mut events.phase("x"),
            )
        }
    }

    #[test]
    fn a_record_becomes_the_same_bundle_each_time() {
        let fixture = Fixture::new();
        let written = fixture.bundle("a", false).unwrap();
        // Neither times nor the order in a folder make a difference.
        let console = fs::File::open(fixture.path("project/.lab/runs/x/console.log"));
        console
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        fixture.bundle("b", false).unwrap();
        let bytes = |name: &str| fs::read(fixture.path(name)).unwrap();
        assert_eq!(bytes("a"), bytes("b"));
        assert_eq!(written.bytes, bytes("a").len() as u64);

        let (events, _receiver) = Events::channel();
        let bundle = read(
            &fixture.path("a"),
            &fixture.path("unpacked/x"),
            &CancellationToken::new(),
            &mut events.phase("x"),
        );
        let bundle = bundle.unwrap();
        assert_eq!(bundle.manifest, written.manifest);
        for name in ["memory.elf", "run.json", "replay.bin", "gdb.init"] {
            assert!(!bundle.manifest.has(&format!("run/{name}")), "{name}");
        }
        let text = |name: &str| fs::read_to_string(bundle.path(name)).unwrap();
        assert_eq!(text("built/kernel"), "kernel");
        assert_eq!(text("run/states/01.txt"), "state\n");
        assert_eq!(text("run/qemu.sh"), "qemu -kernel $LAB_CACHE_DIR/kernel\n");
    }

    #[test]
    fn a_slim_bundle_has_nothing_that_was_built() {
        let fixture = Fixture::new();
        let written = fixture.bundle("a", true).unwrap();
        let built = written.manifest.files.iter();
        let built: Vec<_> = built
            .filter(|file| file.path.starts_with("built"))
            .collect();
        assert_eq!(built.len(), 1);
        assert_eq!(built[0].path, CONFIG);
    }

    #[test]
    fn what_is_not_what_ran_is_not_bundled() {
        let fixture = Fixture::new();
        fixture.write("cache/built-kernel", "another");
        let error = fixture.bundle("a", false).unwrap_err();
        assert!(error.what.ends_with("is not what ran any more"), "{error}");
        fs::remove_file(fixture.path("cache/built-kernel")).unwrap();
        let error = fixture.bundle("a", false).unwrap_err();
        assert!(error.what.ends_with("is not there any more"), "{error}");
        assert!(!fixture.path("a").exists());
        // That is no matter of what can be built.
        fixture.bundle("a", true).unwrap();
        let error = fixture.bundle("a", true).unwrap_err();
        assert_eq!(error.blame, Blame::Usage);
        assert!(error.what.ends_with("a is there already"), "{error}");
    }

    #[test]
    fn a_record_that_is_not_whole_says_so() {
        let fixture = Fixture::new();
        let refused = |what: &str| {
            let error = fixture.bundle("a", false).unwrap_err();
            assert!(error.what.contains(what), "{error}");
            assert!(error.help.is_some() && !fixture.path("a").exists());
        };
        let verdict = fixture.path("project/.lab/runs/x/verdict.json");
        fs::remove_file(verdict).unwrap();
        refused("holds no verdict");
        fixture.record("verdict.json", "{\"outcome\": \"\\u001b[2J\"}");
        refused("verdict.json: unknown variant `\\u{1b}[2J`");
        fs::remove_file(fixture.path("project/.lab/runs/x/run.json")).unwrap();
        refused("does not say what was run");
    }
}
