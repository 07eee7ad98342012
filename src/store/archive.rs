// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `lab cache export` writes and `lab cache import` reads: a tar archive, compressed with
//! zstd, whose first member says which entries of the cache follow.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::is_key;
use crate::visible::is_hidden;

/// The name of the first member.
pub(super) const MANIFEST: &str = "lab-cache.json";
/// The version of the archive's layout.
pub(super) const VERSION: u32 = 1;

/// The first member.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The version of the lab that wrote it.
    pub lab: String,
    /// What follows, in this order.
    pub entries: Vec<Item>,
}

/// What can be in an archive: the folders of the cache that a kernel and its guests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// Source trees, and the records of what was resolved to them.
    Sources,
    /// Built kernels, each with its tree.
    Kernels,
    /// Guest images, and the records of their packages' versions.
    Images,
}

impl ItemKind {
    /// The folder in the cache.
    pub const fn name(self) -> &'static str {
        match self {
            ItemKind::Sources => "sources",
            ItemKind::Kernels => "kernels",
            ItemKind::Images => "images",
        }
    }
}

/// An entry in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Which folder of the cache it belongs to.
    pub kind: ItemKind,
    /// Its name there: a key, or the name of a record.
    pub key: String,
    /// For people.
    pub label: String,
}

impl Item {
    /// Its path, relative to the cache and within the archive.
    pub(super) fn path(&self) -> PathBuf {
        Path::new(self.kind.name()).join(&self.key)
    }

    /// Whether it is one file, which says what was resolved to what.
    pub(super) fn is_record(&self) -> bool {
        self.record_of().is_some()
    }

    /// The key in a record's name.
    fn record_of(&self) -> Option<&str> {
        let name = self.key.strip_suffix(".json")?;
        match self.kind {
            ItemKind::Sources => Some(name),
            ItemKind::Kernels => None,
            ItemKind::Images => name.strip_prefix("packages-"),
        }
    }

    /// Whether its name is one that the lab gives.
    pub(super) fn is_valid(&self) -> bool {
        is_key(self.record_of().unwrap_or(&self.key)) && is_printable(&self.label)
    }

    /// The lock that its makers hold, if that can be told from its name.
    pub(super) fn lock(&self) -> Option<String> {
        match (self.kind, self.record_of()) {
            (ItemKind::Kernels, _) => Some(format!("kernel-{}", self.key)),
            (ItemKind::Sources, Some(name)) => Some(format!("source-{name}")),
            (ItemKind::Images, Some(wish)) => Some(format!("image-{wish}")),
            // A rename cannot replace a folder, so that whoever comes second finds it there.
            _ => None,
        }
    }
}

/// Whether a text from elsewhere can be shown on a terminal.
pub(super) fn is_printable(text: &str) -> bool {
    text.len() <= 1000 && !text.chars().any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_labs_own_names_are_valid() {
        let item = |kind, key: &str| Item {
            kind,
            key: key.to_owned(),
            label: "x".to_owned(),
        };
        let key = "c725e1fd43b9bf22f95b";
        for (kind, name, record) in [
            (ItemKind::Kernels, key.to_owned(), false),
            (ItemKind::Sources, format!("{key}.json"), true),
            (ItemKind::Images, format!("packages-{key}.json"), true),
        ] {
            let item = item(kind, &name);
            assert!(item.is_valid() && item.is_record() == record, "{name}");
        }
        for (kind, name) in [
            (ItemKind::Kernels, "..".to_owned()),
            (ItemKind::Kernels, format!("work-{key}")),
            (ItemKind::Kernels, format!("{key}.json")),
            (ItemKind::Kernels, key.to_uppercase()),
            (ItemKind::Kernels, format!("{key}/..")),
            (ItemKind::Sources, format!("packages-{key}.json")),
            (ItemKind::Sources, ".json".to_owned()),
            (ItemKind::Images, format!("{key}.json")),
            (ItemKind::Images, String::new()),
        ] {
            assert!(!item(kind, &name).is_valid(), "{name}");
        }
        let mut steering = item(ItemKind::Kernels, key);
        steering.label = "\u{1b}[2J".to_owned();
        assert!(!steering.is_valid());
    }
}
