// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errnos by name, for steps that must fail.

use std::fmt;

use serde::{Serialize, Serializer};

/// An error that a system call can return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno {
    name: &'static str,
    number: i32,
}

/// Those that the steps of a scenario can meet. The numbers are the kernel's generic ones, which
/// x86 and Arm share.
const TABLE: [(&str, i32); 40] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("ESRCH", 3),
    ("EINTR", 4),
    ("EIO", 5),
    ("ENXIO", 6),
    ("E2BIG", 7),
    ("ENOEXEC", 8),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("EBUSY", 16),
    ("EEXIST", 17),
    ("ENODEV", 19),
    ("ENOTDIR", 20),
    ("EISDIR", 21),
    ("EINVAL", 22),
    ("ETXTBSY", 26),
    ("EFBIG", 27),
    ("ENOSPC", 28),
    ("EROFS", 30),
    ("EDOM", 33),
    ("ERANGE", 34),
    ("EDEADLK", 35),
    ("ENAMETOOLONG", 36),
    ("ENOSYS", 38),
    ("ELOOP", 40),
    ("ENODATA", 61),
    ("ETIME", 62),
    ("EBADMSG", 74),
    ("EOVERFLOW", 75),
    ("EILSEQ", 84),
    ("EOPNOTSUPP", 95),
    ("ETIMEDOUT", 110),
    ("EALREADY", 114),
    ("ECANCELED", 125),
    ("ENOKEY", 126),
    ("EKEYREJECTED", 129),
];

impl Errno {
    /// There is no such thing.
    pub const ENOENT: Self = Self::new("ENOENT", 2);
    /// A module that is not for this kernel.
    pub const ENOEXEC: Self = Self::new("ENOEXEC", 8);
    /// What livepatching does not accept.
    pub const EINVAL: Self = Self::new("EINVAL", 22);
    /// A module without a signature that counts.
    pub const EKEYREJECTED: Self = Self::new("EKEYREJECTED", 129);

    const fn new(name: &'static str, number: i32) -> Self {
        Self { name, number }
    }

    /// The names of all that a scenario can expect.
    pub const NAMES: [&'static str; TABLE.len()] = {
        let mut names = [""; TABLE.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = TABLE[at].0;
            at += 1;
        }
        names
    };

    /// The errno with this name, such as `EINVAL`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(name, number)| Self { name, number })
    }

    /// The errno with this number, such as 22.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        TABLE
            .iter()
            .find(|(_, known)| *known == number)
            .map(|&(name, number)| Self { name, number })
    }

    /// Its name, such as `EINVAL`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Its number, such as 22.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.number
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl Serialize for Errno {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_each_other() {
        for name in Errno::NAMES {
            let errno = Errno::from_name(name).unwrap();
            assert_eq!(Errno::from_number(errno.number()), Some(errno));
        }
        assert_eq!(Errno::from_name("EINVAL").map(Errno::number), Some(22));
        assert_eq!(Errno::from_name("22"), None);
        for errno in [
            Errno::ENOENT,
            Errno::ENOEXEC,
            Errno::EINVAL,
            Errno::EKEYREJECTED,
        ] {
            assert_eq!(Errno::from_name(errno.name()), Some(errno));
        }
    }
}
