// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian packages from a private apt root.
//!
//! Sources of kernels and the guest's programs come from Debian suites that the host need not
//! have configured. The mirror and the proxy are the host's own; lists and state are private, so
//! nothing changes on the host and no root is needed; signatures are checked as ever.

use std::path::{Path, PathBuf};

use crate::cache::{KeyBuilder, write_atomically};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::process::Cmd;

/// A suite of a Debian archive for one architecture.
#[derive(Debug)]
pub struct AptRoot {
    config: PathBuf,
    suite: String,
}

/// One file of a package archive.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The version that the archive has now.
    pub version: String,
}

impl AptRoot {
    /// Opens the private root of `suite` for Debian architecture `arch`, and reads its lists.
    pub async fn open(ctx: &Context, suite: &str, arch: &str) -> Result<Self> {
        let mirror = mirror(ctx).await?;
        let key = KeyBuilder::new("apt-1")
            .part("mirror", mirror.as_bytes())
            .part("suite", suite.as_bytes())
            .part("arch", arch.as_bytes())
            .finish();
        let dir = ctx.cache.kind("apt")?.join(format!("{suite}-{arch}-{key}"));
        for folder in ["lists/partial", "cache/archives/partial"] {
            let path = dir.join(folder);
            std::fs::create_dir_all(&path).at("create", &path)?;
        }
        write_atomically(
            &dir.join("lab.sources"),
            sources_file(&mirror, suite, arch).as_bytes(),
        )?;
        write_atomically(&dir.join("status"), b"")?;
        let host = Cmd::new("apt-config")
            .args(["dump", "Acquire"])
            .output(&ctx.cancel)
            .await?;
        let config = dir.join("apt.conf");
        write_atomically(&config, config_file(&dir, arch, &host).as_bytes())?;

        let _lock = ctx
            .cache
            .lock(&format!("apt-{key}"), &ctx.cancel, || {})
            .await?;
        let mut phase = ctx
            .events
            .phase(format!("read package lists of {suite} ({arch})"));
        let root = Self {
            config,
            suite: suite.to_owned(),
        };
        let finished = root
            .apt("apt-get")
            .arg("update")
            .run(&ctx.cancel, |line| phase.progress(0, None, line))
            .await?;
        // apt-get update succeeds with old lists when a mirror cannot be reached: only an error.
        if !finished.status.success() || finished.tail.lines().any(|line| line.starts_with("E:")) {
            let what = format!("cannot read the package lists of {suite}");
            return Err(Error::tool(what, &finished.tail).or_help(
                "check the network, the clock and the host's apt configuration; LAB_DEBIAN_MIRROR \
                 names another mirror",
            ));
        }
        phase.done(format!("read package lists of {suite} ({arch})"));
        Ok(root)
    }

    fn apt(&self, tool: &str) -> Cmd {
        Cmd::new(tool)
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C.UTF-8")
    }

    /// The package `name` if the suite has it.
    pub async fn find(&self, ctx: &Context, name: &str) -> Result<Option<Package>> {
        let policy = self
            .apt("apt-cache")
            .args(["policy", name])
            .output(&ctx.cancel)
            .await?;
        let version = policy
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate: "));
        Ok(version
            .filter(|version| *version != "(none)")
            .map(|version| Package {
                name: name.to_owned(),
                version: version.to_owned(),
            }))
    }

    /// What a package depends on, by name; nothing if the suite has no such package.
    pub async fn depends(&self, ctx: &Context, name: &str) -> Result<Vec<String>> {
        let depends = self
            .apt("apt-cache")
            .args(["depends", "--no-recommends", "--no-suggests", name])
            .output(&ctx.cancel)
            .await?;
        let name = |line: &str| line.trim().strip_prefix("Depends: ").map(str::to_owned);
        Ok(depends.lines().filter_map(name).collect())
    }

    /// Downloads packages into `dir`; returns their files in the order of `packages`.
    pub async fn download(
        &self,
        ctx: &Context,
        packages: &[Package],
        dir: &Path,
    ) -> Result<Vec<PathBuf>> {
        let what = match packages {
            [one] => format!("{} {}", one.name, one.version),
            many => format!("{} packages", many.len()),
        };
        let mut phase = ctx
            .events
            .phase(format!("fetch {what} from {}", self.suite));
        let names = packages.iter().map(|p| format!("{}={}", p.name, p.version));
        let finished = self
            .apt("apt-get")
            .args(["-q", "-o", "APT::Status-Fd=1", "download"])
            .args(names)
            .dir(dir)
            .run(&ctx.cancel, |line| {
                if let Some(percent) = download_percent(line) {
                    phase.progress(percent, Some(100), "%");
                }
            })
            .await?;
        if !finished.status.success() {
            let what = format!("cannot fetch {what} from {}", self.suite);
            return Err(Error::tool(what, &finished.tail)
                .or_help("check the network, then run the command again"));
        }
        let mut files = Vec::new();
        for package in packages {
            files.push(find_deb(dir, &package.name)?);
        }
        phase.done(format!("fetched {what} from {}", self.suite));
        Ok(files)
    }
}

/// A sources file for another suite of the host's own mirror and architecture.
pub async fn host_sources(ctx: &Context, suite: &str) -> Result<String> {
    let arch = Cmd::new("dpkg")
        .arg("--print-architecture")
        .output(&ctx.cancel)
        .await?;
    Ok(sources_file(&mirror(ctx).await?, suite, arch.trim()))
}

/// Unpacks a package into `dir`, without root.
pub async fn unpack(ctx: &Context, deb: &Path, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).at("create", dir)?;
    Cmd::new("dpkg")
        .arg("-x")
        .arg(deb)
        .arg(dir)
        .output(&ctx.cancel)
        .await
        .map(drop)
}

fn find_deb(dir: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!("{name}_");
    for entry in std::fs::read_dir(dir).at("read", dir)? {
        let entry = entry.at("read", dir)?;
        let file = entry.file_name();
        if file.to_string_lossy().starts_with(&prefix) {
            return Ok(entry.path());
        }
    }
    Err(Error::host(format!(
        "apt-get downloaded no file for package {name}"
    )))
}

/// `dlstatus:1:45.1:Retrieving file 1 of 1` → 45.
fn download_percent(line: &str) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    percent.split('.').next()?.parse().ok()
}

/// The host's own Debian mirror.
async fn mirror(ctx: &Context) -> Result<String> {
    if let Some(mirror) = std::env::var("LAB_DEBIAN_MIRROR")
        .ok()
        .filter(|m| !m.is_empty())
    {
        return Ok(mirror);
    }
    let targets = Cmd::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(ORIGIN)|$(LABEL)|$(REPO_URI)",
            "Created-By: Packages",
        ])
        .output(&ctx.cancel)
        .await?;
    pick_mirror(&targets).ok_or_else(|| {
        Error::host("the host's apt configuration has no Debian mirror")
            .help("name one: LAB_DEBIAN_MIRROR=http://…/debian lab …")
    })
}

/// The main archive among the host's repositories. Origin and label are empty before the host's
/// first `apt-get update`; then the path tells.
fn pick_mirror(targets: &str) -> Option<String> {
    let rows = || {
        targets.lines().filter_map(|line| {
            let mut fields = line.splitn(3, '|');
            Some((
                fields.next()?,
                fields.next()?,
                fields.next()?.trim_end_matches('/'),
            ))
        })
    };
    rows()
        .find(|(origin, label, _)| *origin == "Debian" && *label == "Debian")
        .or_else(|| rows().find(|(_, _, uri)| uri.ends_with("/debian")))
        .map(|(_, _, uri)| uri.to_owned())
}

fn sources_file(mirror: &str, suite: &str, arch: &str) -> String {
    let keyring = ["gpg", "pgp"]
        .map(|ending| format!("/usr/share/keyrings/debian-archive-keyring.{ending}"))
        .into_iter()
        .find(|path| Path::new(path).exists());
    let signed_by = keyring
        .map(|path| format!("Signed-By: {path}\n"))
        .unwrap_or_default();
    format!(
        "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nArchitectures: {arch}\n\
         {signed_by}"
    )
}

/// A whole configuration of its own: of the host's, only how to reach the mirror is kept. Its
/// hooks (`Post-Invoke`) in particular are not run.
fn config_file(dir: &Path, arch: &str, host_acquire: &str) -> String {
    let kept = host_acquire.lines().filter(|line| {
        let name = line.to_ascii_lowercase();
        [
            "acquire::http",
            "acquire::https",
            "acquire::proxy",
            "acquire::retries",
            "acquire::check",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
    });
    let mut config: String = kept.flat_map(|line| [line, "\n"]).collect();
    let dir = dir.display();
    config += &format!(
        "Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{dir}/lab.sources\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::State::lists \"{dir}/lists\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         APT::Architecture \"{arch}\";\n\
         APT::Architectures {{ \"{arch}\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n"
    );
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_chosen_by_its_label() {
        let targets = "Debian|Debian-Security|http://m/debian-security/\nX|X|http://m/x/\n\
                       Debian|Debian|http://m/mirror/\n";
        assert_eq!(pick_mirror(targets).unwrap(), "http://m/mirror");
    }

    #[test]
    fn before_the_first_update_the_path_tells() {
        assert_eq!(
            pick_mirror("||http://m/x\n||http://m/debian/\n").unwrap(),
            "http://m/debian"
        );
    }

    #[test]
    fn hooks_of_the_host_are_not_taken_over() {
        let host = "Acquire \"\";\nAcquire::http::Proxy \"http://p:1\";\n\
                    Acquire::IndexTargets::deb::DEP-11::MetaKey \"x\";\n";
        let config = config_file(Path::new("/c"), "arm64", host);
        assert!(config.contains("Proxy") && !config.contains("DEP-11"));
        insta::assert_snapshot!(config);
    }

    #[test]
    fn progress_is_read_from_the_status_lines() {
        assert_eq!(
            download_percent("dlstatus:1:45.12:Retrieving file 1 of 1"),
            Some(45)
        );
        assert_eq!(download_percent("Get:1 http://m/x"), None);
    }
}
