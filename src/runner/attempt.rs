// SPDX-License-Identifier: MIT OR Apache-2.0
//! An attempt at a run, as data: what it is made of, and what it has come to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::confirm::Confirmation;
use super::origin::Provenance;
use super::paused::Paused;
use super::record::Record;
use crate::error::Error;
use crate::event::RunId;
use crate::image::build::BuiltImage;
use crate::module::Module;
use crate::module::generate::SourceFile;
use crate::replay::Mark;
use crate::scenario::{Scenario, World};
use crate::size::Size;
use crate::state::Observed;
use crate::step;
use crate::verdict::{Problem, Verdict};
use crate::vm::Accel;

/// A run that is ready to boot.
#[derive(Debug)]
pub(super) struct PreparedRun {
    /// Its identity.
    pub(super) run: RunId,
    /// What is played.
    pub(super) scenario: Scenario,
    /// The kernels whose snapshots it is held against if its own has none, the nearest first.
    pub(super) bases: Vec<String>,
    /// The generated C of its modules.
    pub(super) sources: Vec<SourceFile>,
    /// What is booted.
    pub(super) boot_file: PathBuf,
    /// The kernel's source tree.
    pub(super) tree: PathBuf,
    /// `uname -r` of the kernel that the modules were built for.
    pub(super) release: String,
    /// The image.
    pub(super) image: BuiltImage,
    /// How it is executed.
    pub(super) accel: Accel,
    /// How large its guest is.
    pub(super) size: Size,
    /// The scenario's modules.
    pub(super) modules: Vec<Module>,
    /// How to run it.
    pub(super) options: Arc<Options>,
    /// What it was made from, for its record.
    pub(super) origin: Arc<Provenance>,
}

/// One attempt at a run.
pub(super) struct Attempt<'a> {
    pub(super) of: &'a PreparedRun,
    /// Where it is recorded.
    pub(super) record: Record,
    /// How long it was paused.
    pub(super) paused: Paused,
    /// Whether what it observes may be accepted.
    pub(super) confirmation: &'a Confirmation,
}

/// A run that ended before its last step.
pub(super) enum EarlyEnd {
    /// With a verdict on the guest.
    Verdict(Box<Verdict>),
    /// The lab could not go on.
    Error(Error),
    /// It took longer than it may.
    Expired(Duration),
    /// Somebody has entered its guest there, instead of the rest.
    Left(String),
}

impl From<Error> for EarlyEnd {
    fn from(error: Error) -> Self {
        EarlyEnd::Error(error)
    }
}

impl From<Verdict> for EarlyEnd {
    fn from(verdict: Verdict) -> Self {
        EarlyEnd::Verdict(Box::new(verdict))
    }
}

/// What the steps gave.
#[derive(Default)]
pub(super) struct Played {
    pub(super) states: Vec<(String, Observed)>,
    pub(super) problems: Vec<Problem>,
    pub(super) spawned: step::Spawned,
    /// What is so, as far as the steps say.
    pub(super) world: World,
    /// Bytes of what the guest has said of its states.
    pub(super) said: usize,
    /// Where the steps of a recording begin.
    pub(super) marks: Vec<Mark>,
}

impl PreparedRun {
    /// Whether its guest may have played other runs, and may play more of them.
    pub(super) fn shares_guests(&self) -> bool {
        self.options.shares_guests() && self.scenario.cleans_up()
    }
}
