// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports, all made from the one stream of events.

pub mod human;
pub mod paint;
pub mod table;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::error::{Error, IoContext, Result};
use crate::event::Stamped;
use human::Human;
use table::Table;

/// Where events go.
pub struct Reports {
    human: Human,
    jsonl: Option<(File, PathBuf)>,
    table: Option<Table>,
}

/// The files that a command writes reports to.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// One JSON object per event.
    pub jsonl: Option<PathBuf>,
    /// The document that gets a table of verdicts.
    pub table: Option<PathBuf>,
}

impl Reports {
    /// A report for people, and those into files.
    pub fn new(human: Human, files: Files) -> Result<Self> {
        let jsonl = match files.jsonl {
            Some(path) => Some((File::create(&path).at("create", &path)?, path)),
            None => None,
        };
        let table = files.table.as_deref().map(Table::new).transpose()?;
        Ok(Self {
            human,
            jsonl,
            table,
        })
    }

    /// Consumes the stream until its last sender is gone.
    pub fn spawn(mut self, mut events: UnboundedReceiver<Stamped>) -> JoinHandle<Result<()>> {
        tokio::spawn(async move {
            let mut result = Ok(());
            while let Some(stamped) = events.recv().await {
                self.human.event(&stamped.event);
                if let Some(table) = &mut self.table {
                    table.event(&stamped.event);
                }
                if let (Some((file, path)), Ok(())) = (&mut self.jsonl, &result) {
                    result = serde_json::to_string(&stamped)
                        .map_err(|error| Error::lab(format!("cannot write an event: {error}")))
                        .and_then(|line| writeln!(file, "{line}").at("write", path));
                }
            }
            self.human.finish();
            match &self.table {
                Some(table) => result.and_then(|()| table.finish()),
                None => result,
            }
        })
    }
}
