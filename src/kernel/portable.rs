// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel definition that needs no other file than those that come with it: for whoever has none
//! of the project's.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::definition::{DebianSource, Definition, Source};
use super::patches::read_series;
use crate::arch::Arch;
use crate::error::{IoContext, Result};
use crate::files::ProjectFile;

/// Where the definition says that a source is which only the machine has that wrote it, relative to
/// `kernels/`.
const ELSEWHERE: &str = "../source";

impl Definition {
    /// The definition for `arch` with all that it extends, its patches and its config fragments, as
    /// files of a project. A tree or a tarball of one's own is not among them.
    ///
    /// # Errors
    ///
    /// `File` if one of them cannot be read.
    pub fn portable(&self, arch: Arch) -> Result<Vec<ProjectFile>> {
        // Whatever a definition gets to say must get into its copy as well.
        let Self {
            name,
            summary,
            default: _,
            // What a run is held against travels in its record: accepted.txt.
            bases: _,
            source,
            patches,
            config: _,
            capabilities,
            machine,
        } = self;
        let mut files = Vec::new();
        let mut lines = vec![
            "version: 1".to_owned(),
            format!("summary: {}", json!(summary)),
            source_text(source),
        ];
        if let Some(dir) = patches {
            let below = format!("patches/{name}");
            for patch in read_series(dir)? {
                files.push(ProjectFile {
                    path: format!("kernels/{below}/{}", file_name(&patch.path)),
                    data: patch.text,
                });
            }
            lines.push(format!("patches: {}", json!(below)));
        }
        let mut fragments = Vec::new();
        for (index, path) in self.config_for(arch).iter().enumerate() {
            // Two folders may have fragments of the same name.
            let below = format!("config/{}-{}", index + 1, file_name(path));
            let data = fs::read(path).at("read the config fragment", path)?;
            files.push(ProjectFile {
                path: format!("kernels/{below}"),
                data,
            });
            fragments.push(json!(below).to_string());
        }
        if !fragments.is_empty() {
            lines.push(format!("config: [{}]", fragments.join(", ")));
        }
        let mut able = vec![format!("replace: {}", capabilities.replace.name())];
        for (capability, archs) in &capabilities.others {
            let archs: Vec<_> = archs.iter().map(|arch| arch.name()).collect();
            able.push(format!("{}: [{}]", capability.name(), archs.join(", ")));
        }
        lines.push(format!("capabilities: {{ {} }}", able.join(", ")));
        if !machine.is_empty() {
            lines.push(format!("machine: {machine}"));
        }
        files.push(ProjectFile {
            path: format!("kernels/{name}.yaml"),
            data: (lines.join("\n") + "\n").into_bytes(),
        });
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

fn source_text(source: &Source) -> String {
    let field = |name: &str, value: &str| format!("{name}: {}", Value::from(value));
    let fields = match source {
        Source::Debian(candidates) => {
            let candidate = |candidate: &DebianSource| {
                let package = field("package", &candidate.package);
                format!("{{ {package}, {} }}", field("suite", &candidate.suite))
            };
            let candidates: Vec<_> = candidates.iter().map(candidate).collect();
            format!("debian: [{}]", candidates.join(", "))
        }
        Source::Git {
            repository,
            revision,
        } => field("git", repository) + ", " + &field("revision", revision),
        Source::Tarball { location, sha256 } => {
            let location = match location.contains("://") {
                true => location,
                false => ELSEWHERE,
            };
            field("tarball", location) + ", " + &field("sha256", sha256)
        }
        Source::Path(_) => field("path", ELSEWHERE),
        Source::DebianImage(image) => {
            let (package, suite) = (
                field("package", &image.package),
                field("suite", &image.suite),
            );
            return format!("debian-image: {{ {package}, {suite} }}");
        }
        Source::Prebuilt(prebuilt) => {
            let place = json!(ELSEWHERE);
            let arch = prebuilt.arch.name();
            return format!("prebuilt: {{ image: {place}, build: {place}, arch: {arch} }}");
        }
    };
    format!("source: {{ {fields} }}")
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_says_the_same_without_what_it_extends() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for arch in Arch::ALL {
            for kernel in Definition::all(root).unwrap() {
                let dir = tempfile::tempdir().unwrap();
                for file in kernel.portable(arch).unwrap() {
                    let path = dir.path().join(&file.path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, file.data).unwrap();
                }
                let copy = Definition::read(dir.path(), &kernel.name).unwrap();
                assert_eq!(copy.summary, kernel.summary);
                assert_eq!(copy.source, kernel.source);
                assert_eq!(copy.capabilities, kernel.capabilities);
                let read = |paths: Vec<std::path::PathBuf>| -> Vec<_> {
                    paths.iter().map(|path| fs::read(path).unwrap()).collect()
                };
                assert_eq!(read(copy.config_for(arch)), read(kernel.config_for(arch)));
                let series = |kernel: &Definition| -> Vec<_> {
                    let patches = kernel.patches.as_ref();
                    let patches = patches.map(|dir| read_series(dir).unwrap());
                    let patches = patches.into_iter().flatten();
                    patches.map(|patch| patch.text).collect()
                };
                assert_eq!(series(&copy), series(&kernel));
            }
        }
    }

    #[test]
    fn a_copy_needs_the_same_guest() {
        let dir = tempfile::tempdir().unwrap();
        let kernels = dir.path().join("kernels");
        fs::create_dir(&kernels).unwrap();
        let base = "version: 1\nsummary: x\nsource: { git: x, revision: v7.3 }\nconfig: [a.config]\n\
                    machine: { cpus: 2, memory: 1G, append: kasan.fault=panic a }\n";
        fs::write(kernels.join("base.yaml"), base).unwrap();
        fs::write(kernels.join("a.config"), "").unwrap();
        let more = "version: 1\nsummary: x\nextends: base\n";
        fs::write(kernels.join("more.yaml"), more).unwrap();
        let kernel = Definition::read(dir.path(), "more").unwrap();
        assert_eq!(kernel.machine.memory_mib, Some(1024));
        for file in kernel.portable(Arch::X86_64).unwrap() {
            let path = dir.path().join("copy").join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.data).unwrap();
        }
        let copy = Definition::read(&dir.path().join("copy"), "more").unwrap();
        assert_eq!(copy.machine, kernel.machine);
    }

    #[test]
    fn a_source_of_ones_own_is_not_named() {
        let own = source_text(&Source::Path("/home/jane/linux".into()));
        assert_eq!(own, "source: { path: \"../source\" }");
        let tarball = Source::Tarball {
            location: "/home/jane/linux.tar".into(),
            sha256: "ab".into(),
        };
        assert_eq!(
            source_text(&tarball),
            "source: { tarball: \"../source\", sha256: \"ab\" }"
        );
    }
}
