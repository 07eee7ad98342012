// SPDX-License-Identifier: MIT OR Apache-2.0
//! Precompiled headers: a kernel's headers take most of the time in which a module is compiled, so
//! those that every livepatch includes are compiled once for each kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::CACHE;
use super::make::make;
use crate::arch::{Arch, Toolchain};
use crate::cache::KeyBuilder;
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
    let entry = ctx.entry(CACHE, &key.finish())?;
    let make_entry = async |stage: &Path| {
        let phase = ctx
            .events
            .phase(format!("compile the headers of {}", kernel.release));
        for (name, text) in FILES {
            let path = stage.join(name);
            fs::write(&path, text).at("write", &path)?;
        }
        let cc = stage.join(CC);
        fs::set_permissions(&cc, fs::Permissions::from_mode(0o755)).at("write", &cc)?;
        let arguments = ["headers.o".to_owned()];
        let made = make(ctx, kernel, arch, stage, &arguments, |_| {}).await?;
        made.map_err(|output| {
            build_error(
                &format!("compiling the headers of {}", kernel.release),
                &output,
            )
        })?;
        phase.done(format!("compiled the headers of {}", kernel.release));
        Ok(vec![COMPILED.to_owned()])
    };
    let entry = entry.get_or_make(make_entry).await?;
    let (cc, gcc) = (entry.join(CC), Toolchain::of(arch).gcc());
    Ok(format!("{} {gcc}", cc.display()))
}
