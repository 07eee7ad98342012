// SPDX-License-Identifier: MIT OR Apache-2.0
//! ccache in the compilers' place, for builds that begin with `make clean`: klp-build's. Other
//! kernels take the objects of a relative instead, see `build.rs`.
//!
//! Trees of two kernels differ in few files, but also in their path: ccache is told to look at paths
//! relative to the tree.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Debian's folder of compilers that are ccache.
const COMPILERS: &str = "/usr/lib/ccache";
/// Two builds of the small config take 150 MB.
const SIZE: &str = "1G";

/// The environment of a build in `tree` whose objects are kept in `kept`. `path` is the PATH so far.
pub fn environment(kept: &Path, tree: &Path, path: &OsStr) -> [(&'static str, OsString); 5] {
    let mut compilers = OsString::from(COMPILERS);
    compilers.push(":");
    compilers.push(path);
    [
        ("PATH", compilers),
        ("CCACHE_DIR", kept.into()),
        ("CCACHE_BASEDIR", tree.into()),
        ("CCACHE_NOHASHDIR", "true".into()),
        ("CCACHE_MAXSIZE", SIZE.into()),
    ]
}
