// SPDX-License-Identifier: MIT OR Apache-2.0
//! Precompiled headers: a kernel's headers take most of the time in which a module is compiled, so
//! those that every livepatch includes are compiled once for each kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::build::make;
use super::locked_entry;
use crate::arch::{Arch, Toolchain};
use crate::cache::{self, KeyBuilder, seal};
use crate::context::Context;
use crate::error::{IoContext, Result};
use crate::kernel::BuiltKernel;
use crate::kernel::build::build_error;

/// Counts up when the way the headers are compiled changes.
const RECIPE: &str = "headers-1";
/// What stands before the compiler.
const CC: &str = "cc";
/// What comes out.
const COMPILED: &str = "headers.h.gch";
/// All that is compiled, and how.
const FILES: [(&str, &str); 4] = [
    ("Kbuild", include_str!("c/headers.kbuild")),
    ("headers.h", include_str!("c/headers.h")),
    // The object of the module that Kbuild believes to build.
    ("headers.c", ""),
    (CC, include_str!("c/cc")),
];

/// The compiler for modules of `kernel`, as `CC=` of Kbuild: the kernel's own, with the headers
/// already compiled. Compiles them, or finds them in the cache.
pub(super) async fn compiler(ctx: &Context, kernel: &BuiltKernel, arch: Arch) -> Result<String> {
    let mut key = KeyBuilder::new(RECIPE);
    key.part("kernel", kernel.key.as_bytes());
    for (name, text) in FILES {
        key.part(name, text.as_bytes());
    }
    let (entry, _lock) = locked_entry(ctx, &key.finish()).await?;
    if !seal::reuse(&ctx.events, &entry, true)? {
        let phase = ctx
            .events
            .phase(format!("compile the headers of {}", kernel.release));
        let staging = cache::staging_dir(&entry)?;
        for (name, text) in FILES {
            let path = staging.path().join(name);
            fs::write(&path, text).at("write", &path)?;
        }
        let cc = staging.path().join(CC);
        fs::set_permissions(&cc, fs::Permissions::from_mode(0o755)).at("write", &cc)?;
        let arguments = ["headers.o".to_owned()];
        let made = make(ctx, kernel, arch, staging.path(), &arguments, |_| {}).await?;
        made.map_err(|output| {
            build_error(
                &format!("compiling the headers of {}", kernel.release),
                &output,
            )
        })?;
        seal::seal(staging.path(), &[COMPILED.to_owned()])?;
        cache::publish(staging, &entry)?;
        phase.done(format!("compiled the headers of {}", kernel.release));
    }
    let (cc, gcc) = (entry.join(CC), Toolchain::of(arch).gcc());
    Ok(format!("{} {gcc}", cc.display()))
}
