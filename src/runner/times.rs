// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long each run took the last time, so that the longest start first.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cache::{Cache, write_atomically};
use crate::event::RunId;

/// Times of runs by name, in milliseconds, kept in the cache. They only affect the order, so
/// whatever is wrong with the file makes it empty.
#[derive(Debug, Default)]
pub struct Times {
    file: Option<PathBuf>,
    ms: BTreeMap<String, u64>,
}

impl Times {
    /// The times that are known.
    pub fn load(cache: &Cache) -> Self {
        let file = cache.kind("times").ok().map(|dir| dir.join("runs.json"));
        let text = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let ms = text.and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            file,
            ms: ms.unwrap_or_default(),
        }
    }

    /// Milliseconds that a run took. What never ran may be the longest of all.
    pub fn expected(&self, run: &RunId) -> u64 {
        self.ms.get(&run.name()).copied().unwrap_or(u64::MAX)
    }

    /// Keeps what runs took this time.
    pub fn save(mut self, took: impl IntoIterator<Item = (RunId, u64)>) {
        let took = took.into_iter().map(|(run, ms)| (run.name(), ms));
        self.ms.extend(took);
        if let (Some(file), Ok(json)) = (&self.file, serde_json::to_vec_pretty(&self.ms)) {
            let _ = write_atomically(file, &json);
        }
    }
}
