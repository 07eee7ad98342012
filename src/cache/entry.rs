// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an entry is found or made: the one ceremony for all kinds of entries.
//!
//! Its lock is taken, its use is marked, what is there is compared with its seal. What is missing or
//! damaged is made in a folder beside it, sealed, and renamed. A wait for the lock can be cancelled,
//! and the comparing and sealing of files is no work for the runtime's thread.
//!
//! [`Entry::get_or_make`] is all of that. Where an entry is not made by the caller of one function
//! (a template is a guest that is kept later; one make builds many modules; a kernel's work folder
//! outlives an interruption), [`Entry::claim`] is its beginning and [`Making`] its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Cache, blocking, mark_used, publish, seal, staging_dir};
use crate::error::{IoContext, Result};
use crate::event::Events;

/// An entry of the cache that somebody wants.
#[derive(Debug)]
#[must_use]
pub struct Entry<'a> {
    cache: &'a Cache,
    events: &'a Events,
    cancel: &'a CancellationToken,
    path: PathBuf,
    lock: String,
    waiting: Option<String>,
    is_whole: fn(&Path) -> bool,
}

impl<'a> Entry<'a> {
    /// The entry of `key` among the things of a kind. Its lock is called after both.
    ///
    /// # Errors
    ///
    /// `Host` if the folder of its kind cannot be made.
    pub fn new(
        cache: &'a Cache,
        events: &'a Events,
        cancel: &'a CancellationToken,
        kind: &str,
        key: &str,
    ) -> Result<Self> {
        Ok(Self {
            cache,
            events,
            cancel,
            path: cache.kind(kind)?.join(key),
            lock: format!("{kind}-{key}"),
            waiting: None,
            is_whole: |_| true,
        })
    }

    /// The same with a lock of another name.
    pub fn locked_as(self, lock: String) -> Self {
        Self { lock, ..self }
    }

    /// The same with a note for the case that another lab has the lock.
    pub fn waiting(self, note: impl Into<String>) -> Self {
        Self {
            waiting: Some(note.into()),
            ..self
        }
    }

    /// The same with a condition that an entry must fulfil to be used, besides its seal.
    pub fn whole_if(self, is_whole: fn(&Path) -> bool) -> Self {
        Self { is_whole, ..self }
    }

    /// Finds the entry, or has `make` make it in an empty folder. `make` returns the names of the files
    /// that are sealed.
    ///
    /// # Errors
    ///
    /// Those of `make`; `Host` for the disk; `Interrupted`.
    pub async fn get_or_make(
        self,
        make: impl AsyncFnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<PathBuf> {
        match self.claim().await? {
            Claim::Found(path) => Ok(path),
            Claim::Missing(making) => {
                let stage = staging_dir(&making.path)?;
                let sealed = make(stage.path()).await?;
                making.publish(stage, sealed).await
            }
        }
    }

    /// Finds the entry, or takes the right to make it. A damaged one is put away.
    ///
    /// # Errors
    ///
    /// `Host` for the disk; `Interrupted`.
    pub async fn claim(self) -> Result<Claim> {
        let (path, is_whole) = (self.path.clone(), self.is_whole);
        // What is whole needs no lock: an entry is complete or absent.
        let found = blocking(move || {
            mark_used(&path);
            Ok(path.is_dir() && is_whole(&path) && seal::damage(&path).is_none())
        });
        if found.await? {
            return Ok(Claim::Found(self.path));
        }
        let note = || {
            if let Some(note) = &self.waiting {
                self.events.note(note);
            }
        };
        let lock = self.cache.lock(&self.lock, self.cancel, note).await?;
        let (path, events) = (self.path.clone(), self.events.clone());
        let found = blocking(move || {
            mark_used(&path);
            seal::reuse(&events, &path, is_whole(&path))
        });
        Ok(match found.await? {
            true => Claim::Found(self.path),
            false => Claim::Missing(Making {
                path: self.path,
                _lock: lock,
            }),
        })
    }
}

/// What became of an entry that was claimed.
#[derive(Debug)]
#[must_use]
pub enum Claim {
    /// It is there, in this folder.
    Found(PathBuf),
    /// It is to be made.
    Missing(Making),
}

/// The right to make an entry, until it is dropped.
#[derive(Debug)]
pub struct Making {
    path: PathBuf,
    _lock: File,
}

impl Making {
    /// Where the entry will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Seals these files and gives the folder the entry's name.
    ///
    /// # Errors
    ///
    /// `Host` for the disk.
    pub async fn publish(self, stage: TempDir, sealed: Vec<String>) -> Result<PathBuf> {
        blocking(move || {
            seal::seal(stage.path(), &sealed)?;
            publish(stage, &self.path)?;
            Ok(self.path)
        })
        .await
    }

    /// The same for a folder that stays where it is if this fails.
    ///
    /// # Errors
    ///
    /// `Host` for the disk.
    pub async fn publish_folder(self, folder: PathBuf, sealed: Vec<String>) -> Result<PathBuf> {
        blocking(move || {
            seal::seal(&folder, &sealed)?;
            fs::rename(&folder, &self.path).at("publish", &self.path)?;
            Ok(self.path)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::Error;
    use crate::event::Event;

    struct Lab {
        dir: TempDir,
        events: Events,
        received: tokio::sync::mpsc::UnboundedReceiver<crate::event::Stamped>,
        cancel: CancellationToken,
    }

    impl Lab {
        fn new() -> Self {
            let (events, received) = Events::channel();
            Self {
                dir: tempfile::tempdir().unwrap(),
                events,
                received,
                cancel: CancellationToken::new(),
            }
        }

        /// Finds or makes the entry, with this text in it.
        async fn get_or_make(&self, text: Result<&str>) -> Result<PathBuf> {
            let cache = Cache::at(self.dir.path());
            let entry = Entry::new(&cache, &self.events, &self.cancel, "things", "a")?;
            let entry = entry.waiting("waiting");
            entry
                .get_or_make(async |stage| {
                    fs::write(stage.join("file"), text?).unwrap();
                    Ok(vec!["file".to_owned()])
                })
                .await
        }

        fn notes(&mut self) -> Vec<String> {
            let mut notes = Vec::new();
            while let Ok(stamped) = self.received.try_recv() {
                if let Event::Note { message } = stamped.event {
                    notes.push(message);
                }
            }
            notes
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_entry_is_made_once_and_anew_if_it_is_damaged() {
        let mut lab = Lab::new();
        let path = lab.get_or_make(Ok("first")).await.unwrap();
        assert_eq!(lab.get_or_make(Ok("second")).await.unwrap(), path);
        assert_eq!(fs::read(path.join("file")).unwrap(), b"first");
        assert!(path.join(super::super::USED).is_file());
        assert!(lab.notes().is_empty());
        fs::write(path.join("file"), "fjrst").unwrap();
        lab.get_or_make(Ok("third")).await.unwrap();
        assert_eq!(fs::read(path.join("file")).unwrap(), b"third");
        let notes = lab.notes();
        assert!(notes.len() == 1 && notes[0].contains("is damaged (file is not what was written)"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_not_made_leaves_nothing() {
        let lab = Lab::new();
        let failed = lab.get_or_make(Err(Error::lab("no"))).await;
        assert_eq!(failed.unwrap_err().what, "no");
        let things = lab.dir.path().join("things");
        assert_eq!(fs::read_dir(&things).unwrap().count(), 0);
        lab.get_or_make(Ok("text")).await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_wait_for_another_lab_is_noted_and_can_be_cancelled() {
        let mut lab = Lab::new();
        let cache = Cache::at(lab.dir.path());
        let held = cache.try_lock("things-a").unwrap().unwrap();
        let made = Cell::new(false);
        let (waited, ()) = tokio::join!(
            async {
                let got = lab.get_or_make(Ok("text")).await;
                made.set(true);
                got
            },
            async {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                assert!(!made.get());
                lab.cancel.cancel();
            }
        );
        assert_eq!(waited.unwrap_err().exit_code(), 130);
        assert_eq!(lab.notes(), ["waiting"]);
        drop(held);
    }
}
