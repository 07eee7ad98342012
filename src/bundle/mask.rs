// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reporter's own folders, taken out of what is handed on: they name people and machines. Pure.

/// What stands for which folder.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    /// The longest first.
    folders: Vec<(String, &'static str)>,
}

impl Mask {
    /// Lets `name` stand for a folder.
    #[must_use]
    pub fn folder(mut self, folder: &std::path::Path, name: &'static str) -> Self {
        let folder = folder.to_string_lossy().trim_end_matches('/').to_owned();
        // The root itself tells nothing.
        if folder.len() > 1 {
            self.folders.push((folder, name));
            self.folders
                .sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
        }
        self
    }

    /// A text without them.
    pub fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (folder, name) in &self.folders {
            text = replace(&text, folder, name);
        }
        text
    }
}

/// Replaces a path, but not what only begins with the same letters (`/root` in `/rootfs`) or ends
/// with them (`/mnt/root`).
fn replace(text: &str, path: &str, by: &str) -> String {
    let in_name = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(path) {
        let (before, after) = (&rest[..at], &rest[at + path.len()..]);
        let is_whole = !after.starts_with(in_name) && !before.ends_with(in_name);
        out += before;
        out += if is_whole { by } else { path };
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn folders_are_replaced_as_a_whole_and_the_longest_first() {
        let mask = Mask::default()
            .folder(Path::new("/home/jane"), "$HOME")
            .folder(Path::new("/home/jane/.cache/lab/"), "$CACHE")
            .folder(Path::new("/"), "$ROOT");
        assert_eq!(
            mask.apply(
                "-kernel /home/jane/.cache/lab/kernels/x -initrd '/home/jane' /home/janet/x"
            ),
            "-kernel $CACHE/kernels/x -initrd '$HOME' /home/janet/x"
        );
        assert_eq!(mask.apply("/mnt/home/jane/x"), "/mnt/home/jane/x");
    }
}
