// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab`: a virtual-machine test lab for Linux kernel livepatches. ARCHITECTURE.md is the map.

pub mod apt;
pub mod arch;
pub mod bundle;
pub mod cache;
pub mod cli;
pub mod context;
pub mod error;
pub mod event;
pub mod export;
pub mod files;
pub mod guest;
pub mod host;
pub mod image;
pub mod import;
pub mod initramfs;
pub mod kernel;
pub mod klp;
pub mod ko;
pub mod module;
pub mod plan;
pub mod process;
pub mod profile;
pub mod replay;
pub mod report;
pub mod runner;
pub mod scenario;
pub mod search;
pub mod selftests;
pub mod state;
pub mod step;
pub mod store;
pub mod verdict;
pub mod visible;
pub mod vm;
pub mod yaml;
