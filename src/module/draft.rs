// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file of C that is being written, and where the author's own code is in it. Pure.

use crate::scenario::Snippet;

/// Code of a scenario in a generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: String,
    /// The line, from 1, on which the code begins in it.
    pub line: usize,
    /// The code.
    pub code: Snippet,
}

/// A file that is being written.
#[derive(Default)]
pub(super) struct Draft {
    /// What it has so far.
    pub(super) text: String,
    /// The lines on which code of the scenario begins.
    places: Vec<(usize, Snippet)>,
}

impl Draft {
    /// The code comes next.
    pub(super) fn mark(&mut self, code: &Snippet) {
        let line = 1 + self.text.matches('\n').count();
        self.places.push((line, code.clone()));
    }

    /// Where the code is, once the file has a name.
    pub(super) fn places_in(&self, file: &str) -> Vec<Place> {
        let place = |(line, code): &(usize, Snippet)| Place {
            file: file.to_owned(),
            line: *line,
            code: code.clone(),
        };
        self.places.iter().map(place).collect()
    }
}
