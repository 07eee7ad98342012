// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processor architectures that the lab builds kernels and boots guests for: each is a row of a
//! table, and only this folder asks which one it is.

mod table;

pub(crate) use table::package;
pub use table::{Hardware, HostPackage, Row};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A guest's architecture. The order is the one in which architectures are listed everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm, little endian.
    Arm64,
}

impl Arch {
    /// Every architecture, in listing order.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];

    /// The names of [`Arch::ALL`], as they are written in YAML files and on the command line.
    pub const NAMES: [&'static str; 2] = [Self::X86_64.name(), Self::Arm64.name()];

    /// The one that is meant where none is named and none is the host's. Most guests are of it.
    pub const USUAL: Self = Self::X86_64;

    /// What it is.
    #[must_use]
    pub const fn row(self) -> &'static Row {
        match self {
            Self::X86_64 => &table::X86_64,
            Self::Arm64 => &table::ARM64,
        }
    }

    /// The name that users see and write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The architecture of this machine, if the lab knows it.
    #[must_use]
    pub fn host() -> Option<Self> {
        let is_host = |arch: &Self| arch.row().uname == std::env::consts::ARCH;
        Self::ALL.into_iter().find(is_host)
    }

    /// The architecture of this machine, or the usual one.
    #[must_use]
    pub fn host_or_usual() -> Self {
        Self::host().unwrap_or(Self::USUAL)
    }
}

/// The compiler that builds for an architecture on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Toolchain {
    /// `ARCH=` of the kernel's build system.
    pub kernel_arch: &'static str,
    /// `CROSS_COMPILE=`; empty on a host of the same architecture.
    pub prefix: &'static str,
    /// The make targets that make what QEMU boots and modules need.
    pub targets: &'static [&'static str],
}

impl Toolchain {
    /// The tool chain for guests of `arch`.
    #[must_use]
    pub fn of(arch: Arch) -> Self {
        let row = arch.row();
        let native = Arch::host() == Some(arch);
        Self {
            kernel_arch: row.kernel_arch,
            prefix: if native { "" } else { row.cross_compile },
            targets: row.targets,
        }
    }

    /// The C compiler.
    #[must_use]
    pub fn gcc(self) -> String {
        format!("{}gcc", self.prefix)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that a width in a format string lines up columns.
        f.pad(self.name())
    }
}

/// The text that [`Arch::from_str`] did not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownArch(
    /// The text itself.
    pub String,
);

impl fmt::Display for UnknownArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown architecture `{}`; known are {}",
            self.0,
            Arch::NAMES.join(" and ")
        )
    }
}

impl std::error::Error for UnknownArch {}

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.name() == text)
            .ok_or_else(|| UnknownArch(text.to_owned()))
    }
}

impl Serialize for Arch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Arch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        for arch in Arch::ALL {
            assert_eq!(arch.name().parse(), Ok(arch));
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = "aarch64".parse::<Arch>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown architecture `aarch64`; known are x86_64 and arm64"
        );
    }
}
