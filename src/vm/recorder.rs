// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is recorded of a machine.

use std::path::PathBuf;

use super::args::Log;

/// Bytes of a log. A second of a guest takes less than a MiB.
const LOG_MAX: u64 = 1 << 30;

/// What is recorded of a machine.
#[derive(Debug)]
pub(super) struct Recorder {
    log: PathBuf,
    /// How many instructions it executed in all, once it has ended.
    pub(super) end: Option<u64>,
}

impl Recorder {
    pub(super) fn of(log: Option<Log>) -> Option<Self> {
        match log {
            Some(Log::Record(log)) => Some(Self { log, end: None }),
            _ => None,
        }
    }

    /// Whether there is no end to it: why it has to end.
    pub(super) fn is_too_long(&self) -> Option<String> {
        let length = self.log.metadata().map_or(0, |data| data.len());
        (length > LOG_MAX).then(|| {
            let most = LOG_MAX >> 20;
            format!("the recording has more than {most} MiB: a shorter scenario can be recorded")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let recorder = Recorder::of(Some(Log::Record(log.clone()))).unwrap();
        // QEMU has not made it yet.
        assert_eq!(recorder.is_too_long(), None);
        let file = std::fs::File::create(&log).unwrap();
        file.set_len(LOG_MAX).unwrap();
        assert_eq!(recorder.is_too_long(), None);
        file.set_len(LOG_MAX + 1).unwrap();
        let why = recorder.is_too_long().unwrap();
        assert!(
            why.starts_with("the recording has more than 1024 MiB: "),
            "{why}"
        );
        assert!(Recorder::of(Some(Log::Replay(log))).is_none());
    }
}
