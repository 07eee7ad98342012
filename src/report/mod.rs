// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports, all made from the one stream of events.

pub mod files;
pub mod human;
pub mod paint;
pub mod read;
pub mod results;
pub mod table;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::error::{Error, IoContext, Result};
use crate::event::Stamped;
use files::Files;
use human::Human;
use results::Results;

/// Where events go.
pub struct Reports {
    human: Human,
    results: Results,
    jsonl: Option<(File, PathBuf)>,
}

impl Reports {
    /// A report for people, and those into files.
    pub fn new(human: Human, files: Files) -> Result<Self> {
        let jsonl = match files.jsonl.first() {
            Some(path) => Some((File::create(path).at("create", path)?, path.clone())),
            None => None,
        };
        Ok(Self {
            human,
            results: Results::default(),
            jsonl,
        })
    }

    /// Consumes the stream until its last sender is gone.
    pub fn spawn(mut self, mut events: UnboundedReceiver<Stamped>) -> JoinHandle<Result<()>> {
        tokio::spawn(async move {
            let mut result = Ok(());
            while let Some(stamped) = events.recv().await {
                self.results.event(&stamped);
                self.human.event(&stamped.event, &self.results);
                if let (Some((file, path)), Ok(())) = (&mut self.jsonl, &result) {
                    result = serde_json::to_string(&stamped)
                        .map_err(|error| Error::lab(format!("cannot write an event: {error}")))
                        .and_then(|line| writeln!(file, "{line}").at("write", path));
                }
            }
            self.human.finish(&self.results);
            result
        })
    }
}
