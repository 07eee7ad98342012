// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading the YAML files of a project: finding them by name, and errors that show the place.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::arch::Arch;
use crate::error::{Blame, Error, IoContext, Result};
use crate::yaml::{self, Diagnostics, Int, List, Node, OneOf, Shape, Source};

/// The `version` of kernel and image definitions.
pub const VERSION: Shape = Shape::Int(&Int {
    what: "the version",
    min: 1,
    max: 1,
});

/// A list of architectures in any of the project's files.
pub const ARCHES: List = List {
    what: "a list of architectures",
    example: "[x86_64]",
    item: Shape::OneOf(&OneOf {
        what: "an architecture",
        names: &Arch::NAMES,
    }),
    non_empty: true,
    unique: true,
};

/// The longest file that is read at all.
const FILE_MAX: u64 = 1 << 20;

/// A file of a project, to be written to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// Its path in the project, with `/`.
    pub path: String,
    /// What is in it.
    pub data: Vec<u8>,
}

/// Reads a stranger's file of at most `max` bytes. Its name may be a link to something that never
/// ends, such as a terminal, a pipe or `/dev/zero`.
///
/// # Errors
///
/// `File` if it is not there, not a regular file, or too long.
pub fn read_regular(path: &Path, max: u64) -> Result<Vec<u8>> {
    let as_file = |mut error: Error| {
        error.blame = Blame::File;
        error
    };
    let refuse = |why: String| {
        let what = format!("{} {why}", path.display());
        Error::new(Blame::File, what).help("replace it with a file of a usual size")
    };
    // Before it is opened: to open a pipe is to wait for its other end.
    let data = fs::metadata(path).at("read", path).map_err(as_file)?;
    if !data.is_file() {
        return Err(refuse("is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).at("read", path).map_err(as_file)?;
    // Files in /proc have no length.
    let mut file = file.take(max + 1);
    file.read_to_end(&mut bytes)
        .at("read", path)
        .map_err(as_file)?;
    if file.limit() == 0 {
        let size = data.len().max(max + 1);
        return Err(refuse(format!("has {size} bytes; {max} are the most")));
    }
    Ok(bytes)
}

/// Reads a YAML file of the user.
pub fn read_source(path: &Path) -> Result<Source> {
    let bytes = read_regular(path, FILE_MAX)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        let what = format!("{}:{} is not UTF-8", path.display(), line + 1);
        Error::new(Blame::File, what).help("save the file as UTF-8")
    })?;
    Ok(Source::new(path.display().to_string(), text))
}

/// An error that shows the diagnostics of a file.
pub fn rejected(source: &Source, diagnostics: &Diagnostics) -> Error {
    let what = match diagnostics.len() {
        1 => format!("{} has an error", source.path),
        n => format!("{} has {n} errors", source.path),
    };
    Error::new(Blame::File, what).evidence(&diagnostics.render(source, false))
}

/// Reads and checks `dir/name.yaml`. An unknown name comes with the known ones.
pub fn read_named(dir: &Path, kind: &str, name: &str, shape: Shape) -> Result<Node> {
    let path = dir.join(format!("{name}.yaml"));
    // A name is never a path: it comes from command lines and from other files.
    if name.contains(['/', '\0']) || name.starts_with('.') || !path.is_file() {
        let known = names(dir)?;
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let help = match yaml::suggest(name, known.iter().copied()) {
            Some(other) => format!("did you mean `{other}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        let what = format!("there is no {kind} `{name}`");
        return Err(Error::new(Blame::Usage, what).help(help));
    }
    let source = read_source(&path)?;
    let checked = yaml::parse(&source).and_then(|root| {
        yaml::require_version(&root, &format!("a {kind} definition"), 1)?;
        let mut diagnostics = Diagnostics::new();
        yaml::check(shape, &root, &mut diagnostics);
        if diagnostics.is_empty() {
            Ok(root)
        } else {
            Err(diagnostics)
        }
    });
    checked.map_err(|diagnostics| rejected(&source, &diagnostics))
}

/// The names of the `*.yaml` files of a folder, sorted.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).at("read", dir)? {
        let path = entry.at("read", dir)?.path();
        if path.extension().is_some_and(|ending| ending == "yaml")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A path as it is shown: relative to where the lab was started, if it is below.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// A path relative to a folder, by way of `..` where it is elsewhere; the same on every machine that
/// has both in the same places to each other.
pub fn relative_to(folder: &Path, path: &Path) -> String {
    let whole = |path: &Path| {
        let whole = fs::canonicalize(path).or_else(|_| std::path::absolute(path));
        whole.unwrap_or_else(|_| path.to_path_buf())
    };
    let (folder, path) = (whole(folder), whole(path));
    let common = folder.components().zip(path.components());
    let common = common.take_while(|(one, other)| one == other).count();
    let up = folder
        .components()
        .skip(common)
        .map(|_| Component::ParentDir);
    let relative: PathBuf = up.chain(path.components().skip(common)).collect();
    relative.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_to_a_folder_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("project");
        fs::create_dir_all(folder.join("scenarios")).unwrap();
        fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
        for (path, relative) in [
            ("project/scenarios/s.yaml", "scenarios/s.yaml"),
            ("elsewhere/s.yaml", "../elsewhere/s.yaml"),
        ] {
            let path = dir.path().join(path);
            fs::write(&path, "").unwrap();
            assert_eq!(relative_to(&folder, &path), relative);
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_nothing_that_never_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let error = read_regular(&path, 4).unwrap_err();
        assert!(error.what.ends_with("x.yaml has 5 bytes; 4 are the most"));
        for endless in ["/dev/zero", "/dev/null", "/"] {
            let link = dir.path().join("link.yaml");
            std::os::unix::fs::symlink(endless, &link).unwrap();
            let error = read_source(&link).unwrap_err();
            assert!(error.what.ends_with("is no regular file"), "{error}");
            assert_eq!(error.blame, Blame::File);
            fs::remove_file(&link).unwrap();
        }
    }
}
