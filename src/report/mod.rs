// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports, all made from the one stream of events.

pub mod human;
pub mod paint;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::error::{Error, IoContext, Result};
use crate::event::Stamped;
use human::Human;

/// Where events go.
pub struct Reports {
    human: Human,
    jsonl: Option<(File, std::path::PathBuf)>,
}

impl Reports {
    /// A report for people, and JSON lines into a file if one is named.
    pub fn new(human: Human, jsonl: Option<&Path>) -> Result<Self> {
        let jsonl = match jsonl {
            Some(path) => Some((File::create(path).at("create", path)?, path.to_path_buf())),
            None => None,
        };
        Ok(Self { human, jsonl })
    }

    /// Consumes the stream until its last sender is gone.
    pub fn spawn(mut self, mut events: UnboundedReceiver<Stamped>) -> JoinHandle<Result<()>> {
        tokio::spawn(async move {
            let mut result = Ok(());
            while let Some(stamped) = events.recv().await {
                self.human.event(&stamped.event);
                if let (Some((file, path)), Ok(())) = (&mut self.jsonl, &result) {
                    result = serde_json::to_string(&stamped)
                        .map_err(|error| Error::lab(format!("cannot write an event: {error}")))
                        .and_then(|line| writeln!(file, "{line}").at("write", path));
                }
            }
            self.human.finish();
            result
        })
    }
}
