// SPDX-License-Identifier: MIT OR Apache-2.0
//! `.cargo/openssl`, which decides what the first build compiles of OpenSSL, with a fake compiler.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::ROOT;

/// The folder in which openssl-src configures and makes OpenSSL.
struct Build(tempfile::TempDir);

impl Build {
    /// A compiler that finds static libraries and headers, and compiles if `links`.
    fn new(links: bool) -> Self {
        let build = Self(tempfile::tempdir().unwrap());
        let host = build.path("the host");
        fs::create_dir_all(host.join("include/openssl")).unwrap();
        fs::write(host.join("include/openssl/ssl.h"), "").unwrap();
        for library in ["libssl.a", "libcrypto.a"] {
            fs::write(host.join(library), library).unwrap();
        }
        let host = host.display();
        let cc = format!(
            "case \"$1\" in\n\
             -print-file-name=*) echo \"{host}/${{1#*=}}\";;\n\
             -E) echo '# 1 \"probe.c\"'; echo '# 1 \"{host}/include/openssl/ssl.h\" 1';;\n\
             *) {links};;\nesac"
        );
        build.script("cc", &cc);
        build.script("perl", "printf '%s\\n' perl \"$@\"");
        fs::create_dir(build.path("source")).unwrap();
        build
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where OpenSSL is to be installed.
    fn prefix(&self) -> PathBuf {
        self.path("a $(prefix)'s folder")
    }

    fn command(&self, program: &Path) -> Command {
        let mut path = self.0.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut command = Command::new(program);
        command.current_dir(self.path("source")).env("PATH", path);
        command.env_remove("LAB_OPENSSL").env("CC", "cc");
        command
    }

    /// Configures as openssl-src does; the arguments that perl was started with, if it was.
    fn configure(&self, variables: &[(&str, &str)]) -> Vec<String> {
        let mut command = self.command(&Path::new(ROOT).join(".cargo/openssl"));
        command.arg("./Configure");
        command.arg(format!("--prefix={}", self.prefix().display()));
        command.args(["no-legacy", "linux-x86_64", "-O2"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().map(str::to_owned).collect()
    }

    /// Makes what openssl-src makes.
    fn make(&self) {
        for goal in ["depend", "build_libs", "install_dev"] {
            let output = self.command(Path::new("make")).arg(goal).output().unwrap();
            assert!(output.status.success(), "{goal}: {output:?}");
        }
    }
}

#[test]
fn cargo_starts_it() {
    let config = fs::read_to_string(Path::new(ROOT).join(".cargo/config.toml")).unwrap();
    let line = "OPENSSL_SRC_PERL = { value = \".cargo/openssl\", relative = true }";
    assert!(config.contains(line), "{config}");
}

#[test]
fn the_hosts_static_libraries_are_taken() {
    let build = Build::new(true);
    assert_eq!(build.configure(&[]), [""; 0]);
    build.make();
    for library in ["libssl.a", "libcrypto.a"] {
        let file = build.prefix().join("lib").join(library);
        assert_eq!(fs::read_to_string(file).unwrap(), library);
    }
    // Nothing else: a shared library would be preferred, and then be missing on another machine.
    let libraries = fs::read_dir(build.prefix().join("lib")).unwrap();
    assert_eq!(libraries.count(), 2);
    assert!(build.prefix().join("include/openssl/ssl.h").is_file());
}

#[test]
fn otherwise_openssl_is_compiled_with_what_ssh_uses() {
    let without_library = Build::new(true);
    fs::remove_file(without_library.path("the host/libcrypto.a")).unwrap();
    let without_header = Build::new(true);
    fs::remove_dir_all(without_header.path("the host/include")).unwrap();
    let (unusable, unwanted) = (Build::new(false), Build::new(true));
    for (build, variables) in [
        (without_library, &[][..]),
        (without_header, &[]),
        (unusable, &[]),
        (unwanted, &[("LAB_OPENSSL", "source")]),
    ] {
        let said = build.configure(variables);
        let prefix = format!("--prefix={}", build.prefix().display());
        let first = [
            "perl",
            "./Configure",
            &prefix,
            "no-legacy",
            "linux-x86_64",
            "-O2",
        ];
        assert_eq!(said[..first.len()], first);
        assert!(said.contains(&"no-tls".to_owned()), "{said:?}");
        // What libssh2 cannot do without, and threads: each guest has a session in one.
        for needed in [
            "asm",
            "deprecated",
            "ec",
            "ecdh",
            "ecdsa",
            "ecx",
            "ml-kem",
            "stdio",
            "threads",
        ] {
            assert!(!said.contains(&format!("no-{needed}")), "{needed}");
        }
        assert!(!build.path("source/Makefile").exists());
    }
}
