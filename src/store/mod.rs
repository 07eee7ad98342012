// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contents of the cache as a whole: what is in it, what may go, what goes to another machine.
//!
//! The cache itself (`crate::cache`) does not know what its entries are. This folder does, and so it
//! stands above those whose entries they are.

mod archive;
#[cfg(test)]
mod archive_tests;
pub mod export;
pub mod import;
pub mod list;
pub(crate) mod members;
pub(crate) mod pack;
pub mod prune;
#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod test_lab;
mod unpack;

pub use archive::Item;
