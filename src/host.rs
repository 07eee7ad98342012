// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's packages: what is needed and why, what is missing, how it is installed.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::arch::{Arch, HostPackage, package};
use crate::cache::{identity, write_atomically};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::process::Cmd;

const COMMON: &[HostPackage] = &[
    package(
        "gcc",
        "gcc",
        "compiles kernels, modules and the guest's agent",
    ),
    package(
        "libc6-dev",
        "/usr/include/stdlib.h",
        "the guest's agent is linked statically",
    ),
    package("make", "make", "the kernel's build system"),
    package("binutils", "ld", "links kernels and modules"),
    package("flex", "flex", "the kernel's configuration parser"),
    package("bison", "bison", "the kernel's configuration parser"),
    package("bc", "bc", "the kernel's time constants"),
    package(
        "libelf-dev",
        "/usr/include/libelf.h",
        "the kernel's objtool",
    ),
    package("perl", "/usr/share/perl/5", "scripts of the kernel's build"),
    package(
        "python3-minimal",
        "python3",
        "scripts of the kernel's build",
    ),
    package("patch", "patch", "applies the kernel patch series"),
    package("xz-utils", "xz", "unpacks kernel sources"),
    package("tar", "tar", "unpacks kernel sources"),
];

/// What the host needs to build and run guests of `archs`, without [`klp_build`].
pub fn needed(archs: &[Arch]) -> Vec<HostPackage> {
    let mut list = COMMON.to_vec();
    for &arch in archs {
        list.push(arch.row().emulator);
        if Arch::host() != Some(arch) {
            list.extend(arch.row().cross);
        }
    }
    list
}

/// What the kernel's klp-build needs besides; nothing where a kernel has none. Few runs use it, and
/// nobody else waits for these packages.
pub fn klp_build(arch: Arch) -> &'static [HostPackage] {
    arch.row().klp_build.unwrap_or_default()
}

/// What the host needs for whatever may come.
pub fn everything(archs: &[Arch]) -> Vec<HostPackage> {
    let mut list = needed(archs);
    list.extend(archs.iter().flat_map(|&arch| klp_build(arch)));
    list
}

/// Those of `packages` that are not there.
pub fn missing(packages: &[HostPackage]) -> Vec<HostPackage> {
    packages
        .iter()
        .copied()
        .filter(|package| !is_there(package.provides))
        .collect()
}

/// The oldest QEMU that the lab can use, major and minor version: a console that can be typed on
/// (`input-path`), and migration to a file.
const QEMU: (u32, u32) = (8, 2);

/// Those of `packages` that are there in a version that is too old, each with it. Asks the programs,
/// which takes some ten milliseconds.
///
/// # Errors
///
/// `Interrupted`.
pub async fn outdated(
    ctx: &Context,
    packages: &[HostPackage],
) -> Result<Vec<(HostPackage, String)>> {
    let mut outdated = Vec::new();
    for package in packages {
        if !package.provides.starts_with("qemu-system-") || !is_there(package.provides) {
            continue;
        }
        let mut said = String::new();
        Cmd::new(package.provides)
            .arg("--version")
            .run(&ctx.cancel, |line| said += line)
            .await?;
        // What says no version says what is wrong when it is used.
        if let Some((version, number)) = qemu_version(&said)
            && number < QEMU
        {
            outdated.push((*package, version.to_owned()));
        }
    }
    Ok(outdated)
}

/// Which QEMU is installed for an architecture: its file, which another version is not.
///
/// # Errors
///
/// `Host` if there is none.
pub fn installed(arch: Arch) -> Result<String> {
    let program = arch.row().emulator.provides;
    let path = find_tool(program).ok_or_else(|| {
        Error::host(format!("`{program}` is not installed")).help("`lab setup` installs it")
    })?;
    Ok(format!("{} {}", path.display(), identity(&path)?))
}

/// What the QEMU for guests of `arch` says of its version; empty if it says nothing. QEMU takes
/// 70 ms to say it, for the libraries that it is linked to, so it is asked once.
pub async fn emulator_version(ctx: &Context, arch: Arch) -> String {
    let file = ctx.cache.kind("accel").ok();
    let file = file.map(|dir| dir.join(format!("version-{arch}.json")));
    let qemu = installed(arch).unwrap_or_default();
    let text = file.as_ref().and_then(|file| std::fs::read(file).ok());
    let known = text.and_then(|text| serde_json::from_slice::<Version>(&text).ok());
    if let Some(known) = known.filter(|known| known.qemu == qemu) {
        return known.said;
    }
    let said = ask_version(ctx, arch).await;
    let version = Version { qemu, said };
    // Only time is lost if it cannot be kept.
    if let (Some(file), Ok(json)) = (file, serde_json::to_vec_pretty(&version))
        && !version.said.is_empty()
    {
        let _ = write_atomically(&file, &json);
    }
    version.said
}

/// What a QEMU said.
#[derive(Serialize, Deserialize)]
struct Version {
    /// [`installed`].
    qemu: String,
    said: String,
}

async fn ask_version(ctx: &Context, arch: Arch) -> String {
    let mut said = String::new();
    let ask = Cmd::new(arch.row().emulator.provides).arg("--version");
    let asked = ask.run(&ctx.cancel, |line| {
        if said.is_empty() {
            line.clone_into(&mut said);
        }
    });
    // Whoever boots a guest is told what is wrong with it.
    let _ = asked.await;
    said
}

/// `QEMU emulator version 7.2.22 (Debian …)` → `7.2.22`, (7, 2).
fn qemu_version(said: &str) -> Option<(&str, (u32, u32))> {
    let (_, rest) = said.split_once("QEMU emulator version ")?;
    let version = rest.split_whitespace().next()?;
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((version, (numbers.next()??, numbers.next()??)))
}

fn is_there(provides: &str) -> bool {
    if provides.starts_with('/') {
        return has_path(provides);
    }
    find_tool(provides).is_some()
}

/// A path, or a folder whose name begins so (`/usr/share/perl/5` → `/usr/share/perl/5.36`). A test
/// with fake tools has the files of packages elsewhere (`LAB_HOST_ROOT`).
fn has_path(path: &str) -> bool {
    let root = std::env::var_os("LAB_HOST_ROOT").unwrap_or_else(|| "/".into());
    let path = &Path::new(&root).join(path.trim_start_matches('/'));
    if path.exists() {
        return true;
    }
    let (Some(parent), Some(start)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let start = start.to_string_lossy();
    std::fs::read_dir(parent).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&*start))
    })
}

/// Where the tool `name` is on PATH.
pub fn find_tool(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Fails with one error that names everything missing.
pub fn require(archs: &[Arch]) -> Result<()> {
    require_packages(&needed(archs))
}

/// The same for these packages.
pub fn require_packages(packages: &[HostPackage]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    let lines: Vec<_> = missing.iter().map(describe).collect();
    Err(
        Error::host(format!("host packages are missing: {}", names.join(", ")))
            .evidence(&lines.join("\n"))
            .help("run `lab setup`, or add --setup to this command"),
    )
}

/// `flex — the kernel's configuration parser`.
pub fn describe(package: &HostPackage) -> String {
    format!("{:<22} {}", package.name, package.why)
}

/// Installs packages with apt-get. Never removes or downgrades anything: where the release's own
/// version would, is too old, or cannot be installed (a `qemu-system-common` from backports stands
/// against the release's QEMU), the release's backports are used for that package.
pub async fn install(ctx: &Context, packages: &[HostPackage]) -> Result<()> {
    if find_tool("apt-get").is_none() {
        return Err(Error::host("this host has no apt-get")
            .help("install the packages named above with the host's own package manager"));
    }
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    update(ctx, None).await?;
    let mut plain = names.clone();
    let mut backported = Vec::new();
    if !harmless(&simulate(ctx, None, &names).await?) {
        plain.clear();
        for name in names {
            let ok = harmless(&simulate(ctx, None, &[name]).await?);
            if ok {
                plain.push(name)
            } else {
                backported.push(name)
            }
        }
    }
    if !plain.is_empty() {
        apt_install(ctx, None, &plain).await?;
    }
    let too_old = outdated(ctx, packages).await?;
    backported.extend(too_old.iter().map(|(package, _)| package.name));
    if backported.is_empty() {
        return Ok(());
    }
    let backports = Backports::prepare(ctx).await?;
    update(ctx, Some(&backports)).await?;
    let simulation = simulate(ctx, Some(&backports), &backported).await?;
    if !harmless(&simulation) {
        let what = format!(
            "{} cannot be installed without removing other packages",
            backported.join(", ")
        );
        return Err(Error::host(what)
            .evidence(&simulation)
            .help("resolve the conflict by hand with apt-get, then run `lab setup` again"));
    }
    ctx.events.note(format!(
        "{} from {}: the release's own version is too old, or does not go with what is installed",
        backported.join(", "),
        backports.suite
    ));
    apt_install(ctx, Some(&backports), &backported).await?;
    match outdated(ctx, packages).await?.first() {
        None => Ok(()),
        Some((package, version)) => {
            let (major, minor) = QEMU;
            let what = format!(
                "{} is {version}: the lab needs QEMU {major}.{minor}",
                package.name
            );
            Err(Error::host(what).help("install a later one, as a later release has it"))
        }
    }
}

/// Whether an installation, as apt-get simulated it, is possible and only adds.
fn harmless(simulation: &str) -> bool {
    let harmful = |line: &str| {
        line.starts_with("Remv ") || line.contains("DOWNGRADED") || line.starts_with("E: ")
    };
    !simulation.lines().any(harmful)
}

/// The host's sources plus its release's backports, in lists of our own.
struct Backports {
    suite: String,
    options: Vec<String>,
}

impl Backports {
    async fn prepare(ctx: &Context) -> Result<Self> {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .map(|name| name.trim_matches('"').to_owned())
            .ok_or_else(|| Error::host("/etc/os-release names no release"))?;
        let dir = ctx.cache.kind("apt")?.join("host-backports");
        let _ = std::fs::remove_dir_all(&dir);
        let parts = dir.join("sources");
        let lists = dir.join("lists/partial");
        for folder in [&parts, &lists] {
            std::fs::create_dir_all(folder).at("create", folder)?;
        }
        let host_list = Path::new("/etc/apt/sources.list");
        if host_list.exists() {
            std::fs::copy(host_list, parts.join("host.list")).at("copy", host_list)?;
        }
        let host_parts = Path::new("/etc/apt/sources.list.d");
        for entry in std::fs::read_dir(host_parts)
            .into_iter()
            .flatten()
            .flatten()
        {
            std::fs::copy(entry.path(), parts.join(entry.file_name())).at("copy", &entry.path())?;
        }
        let suite = format!("{codename}-backports");
        let sources = crate::apt::host_sources(ctx, &suite).await?;
        write_atomically(&parts.join("lab-backports.sources"), sources.as_bytes())?;
        let options = vec![
            format!("-oDir::State::lists={}", dir.join("lists").display()),
            "-oDir::Etc::sourcelist=/dev/null".to_owned(),
            format!("-oDir::Etc::sourceparts={}", parts.display()),
            format!("-oAPT::Default-Release={suite}"),
        ];
        Ok(Self { suite, options })
    }
}

fn apt_get(backports: Option<&Backports>) -> Cmd {
    // Root may not be who runs the lab; sudo asks on the terminal itself.
    let cmd = if rustix::process::geteuid().is_root() {
        Cmd::new("apt-get")
    } else {
        Cmd::new("sudo")
            .arg("DEBIAN_FRONTEND=noninteractive")
            .arg("apt-get")
    };
    let options = backports.map(|b| b.options.clone()).unwrap_or_default();
    cmd.env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .args(options)
}

/// What apt-get says it would do, or why it cannot.
async fn simulate(ctx: &Context, backports: Option<&Backports>, names: &[&str]) -> Result<String> {
    let mut said = String::new();
    apt_get(backports)
        .args(["-s", "-q", "install", "--no-install-recommends"])
        .args(names.iter().copied())
        .run(&ctx.cancel, |line| {
            said += line;
            said.push('\n');
        })
        .await?;
    Ok(said)
}

async fn update(ctx: &Context, backports: Option<&Backports>) -> Result<()> {
    let mut phase = ctx.events.phase("read the host's package lists");
    let finished = apt_get(backports)
        .args(["-q", "update"])
        .run(&ctx.cancel, |line| phase.progress(0, None, line))
        .await?;
    if !finished.status.success() {
        return Err(Error::tool("apt-get update failed", &finished.tail)
            .or_help("mend the host's apt configuration or network, then run `lab setup` again"));
    }
    phase.done("read the host's package lists");
    Ok(())
}

async fn apt_install(ctx: &Context, backports: Option<&Backports>, names: &[&str]) -> Result<()> {
    let names: BTreeSet<_> = names.iter().copied().collect();
    let list = names.iter().copied().collect::<Vec<_>>().join(", ");
    let mut phase = ctx.events.phase(format!("install {list}"));
    let finished = apt_get(backports)
        .args([
            "-y",
            "-q",
            "install",
            "--no-install-recommends",
            "--no-remove",
        ])
        .args(names)
        .run(&ctx.cancel, |line| phase.progress(0, None, line))
        .await?;
    if !finished.status.success() {
        let error = Error::tool(format!("apt-get could not install {list}"), &finished.tail);
        // What a killed dpkg leaves behind is the user's to look at.
        if finished.tail.contains("dpkg --configure -a") {
            return Err(error.help("run `dpkg --configure -a` as root, then `lab setup` again"));
        }
        return Err(error
            .or_help("run `lab setup` again once apt-get works; it continues where it stopped"));
    }
    phase.done(format!("installed {list}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_or_a_downgrade_is_not_harmless() {
        assert!(harmless("Inst flex (2.6.4)\nConf flex"));
        assert!(!harmless("Remv qemu-utils [10.0]\nInst qemu-system-x86"));
        assert!(!harmless("The following packages will be DOWNGRADED:\n  x"));
        assert!(!harmless(
            "E: Unable to correct problems, you have held broken packages."
        ));
    }

    #[test]
    fn versions_of_qemu_are_compared_as_numbers() {
        let of = |said| qemu_version(said).map(|(_, number)| number);
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)";
        assert_eq!(qemu_version(debian), Some(("7.2.22", (7, 2))));
        assert!(of("QEMU emulator version 10.0.2").unwrap() > QEMU);
        assert!(of("QEMU emulator version 8.1.5").unwrap() < QEMU);
        assert_eq!(of("qemu-system-x86_64 1.0"), None);
    }

    #[test]
    fn every_architecture_names_its_qemu() {
        for arch in Arch::ALL {
            assert!(
                needed(&[arch])
                    .iter()
                    .any(|package| package.name.starts_with("qemu-system"))
            );
        }
    }
}
