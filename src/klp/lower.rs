// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts of a tree, on its way to a model.
//!
//! Lowering is lenient: what `check` has already complained about is left out or defaulted, and
//! the result is thrown away. That way one run finds all errors of a file.

use crate::yaml::Node;

/// The word that stands for no livepatch and no function.
pub(crate) const NONE: &str = "none";

/// The text under a key.
pub(crate) fn text(node: &Node, name: &str) -> Option<String> {
    node.get(name).and_then(Node::as_str).map(str::to_owned)
}

/// The texts of a list, or the one that stands for it.
pub(crate) fn texts(node: Option<&Node>) -> Vec<String> {
    let items = node.map_or(&[][..], Node::one_or_many).iter();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
