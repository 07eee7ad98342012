// SPDX-License-Identifier: MIT OR Apache-2.0
//! QMP over a unix socket: qapi's types on a transport of our own.
//!
//! qapi's own tokio transport panics when a timed-out command is followed by another, and an
//! event that its types do not know ends the stream. Here each command has an id, a late answer
//! is dropped, and an unknown event is only logged.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qapi::qmp::{Event, QmpCommand, qmp_capabilities};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use super::vitals::Vitals;
use crate::error::{Blame, Error, IoContext, Result};

/// Bytes of a line; QEMU's longest, the registers of all CPUs, has some ten thousand.
const LINE_MAX: usize = 1 << 20;
/// Bytes of the log; a run writes some ten thousand.
const LOG_MAX: usize = 16 << 20;
/// How long QEMU may take to answer a command, not counting the time in which the host did not let it.
const ANSWER: Duration = Duration::from_secs(20);

/// What QMP's events have said about the machine, the last word first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineState {
    /// Nothing bad yet.
    Running,
    /// pvpanic reported a panic of the guest.
    Panicked,
    /// The machine was shut down or reset.
    Shutdown {
        /// By the guest itself, or else from outside.
        by_guest: bool,
        /// In QEMU's words: `guest-reset`, `host-signal`.
        reason: String,
    },
    /// The socket is closed: QEMU has gone.
    Disconnected,
}

type Answers = Arc<Mutex<HashMap<u64, oneshot::Sender<std::result::Result<Value, String>>>>>;
type Log = Arc<Mutex<Record>>;

/// What was said in both directions, as far as there is room for it.
#[derive(Debug)]
struct Record {
    file: File,
    left: usize,
}

/// A connection to QEMU.
#[derive(Debug)]
pub struct Qmp {
    writer: OwnedWriteHalf,
    answers: Answers,
    state: watch::Receiver<MachineState>,
    vitals: Vitals,
    log: Log,
    next: u64,
}

impl Qmp {
    /// Negotiates on a socket that is connected to a QEMU. Every line in both directions goes to
    /// `log`.
    pub async fn connect(stream: UnixStream, vitals: Vitals, log: &Path) -> Result<Self> {
        let log = Arc::new(Mutex::new(Record {
            file: File::options()
                .create(true)
                .append(true)
                .open(log)
                .at("create", log)?,
            left: LOG_MAX,
        }));
        let (reader, writer) = stream.into_split();
        let answers = Answers::default();
        let (sender, state) = watch::channel(MachineState::Running);
        tokio::spawn(read(reader, answers.clone(), sender, log.clone()));
        let mut qmp = Self {
            writer,
            answers,
            state,
            vitals,
            log,
            next: 1,
        };
        qmp.execute(qmp_capabilities { enable: None }).await?;
        Ok(qmp)
    }

    /// Runs a command.
    pub async fn execute<C: QmpCommand>(&mut self, command: C) -> Result<C::Ok> {
        self.execute_within(command, ANSWER).await
    }

    /// Runs a command with a limit. After a timeout the connection is as good as before.
    pub async fn execute_within<C: QmpCommand>(
        &mut self,
        command: C,
        limit: Duration,
    ) -> Result<C::Ok> {
        let id = self.next;
        self.next += 1;
        let request = json!({ "execute": C::NAME, "arguments": command, "id": id });
        let (sender, receiver) = oneshot::channel();
        lock(&self.answers).insert(id, sender);
        record(&self.log, "->", &request.to_string());
        let line = format!("{request}\n");
        let failed = |why: &str| Error::new(Blame::Host, format!("QMP {}: {why}", C::NAME));
        self.writer
            .write_all(line.as_bytes())
            .await
            .map_err(|error| failed(&error.to_string()))?;
        let answer = self.vitals.within(limit, receiver).await;
        lock(&self.answers).remove(&id);
        match answer {
            Err(overdue) => Err(failed(&format!("no answer {overdue}; {}", overdue.seen))),
            Ok(Err(_)) => Err(failed("QEMU closed the connection")),
            Ok(Ok(Err(reason))) => Err(failed(&reason)),
            Ok(Ok(Ok(value))) => {
                serde_json::from_value(value).map_err(|error| failed(&error.to_string()))
            }
        }
    }

    /// What the host knows of the QEMU at its other end.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// What the events have said, and a way to wait for more.
    pub fn state(&self) -> watch::Receiver<MachineState> {
        self.state.clone()
    }
}

/// What a line from QEMU is.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// An event that says what became of the machine.
    Event(MachineState),
    /// The answer to a command: its id, and what it returned or QEMU's words of an error.
    Answer(u64, std::result::Result<Value, String>),
    /// The greeting, an event that does not matter or is newer than the types, or nothing at all.
    Other,
}

impl Message {
    /// Reads a line; one that cannot be understood is [`Message::Other`].
    pub fn parse(line: &str) -> Self {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return Self::Other;
        };
        if message.get("event").is_some() {
            let event = serde_json::from_value::<Event>(message).ok();
            return event
                .and_then(|event| state_after(&event))
                .map_or(Self::Other, Self::Event);
        }
        let Some(id) = message.get("id").and_then(Value::as_u64) else {
            return Self::Other;
        };
        let answer = match message.get("error") {
            Some(error) => Err(error["desc"].as_str().unwrap_or("unknown error").to_owned()),
            None => Ok(message.get("return").cloned().unwrap_or_default()),
        };
        Self::Answer(id, answer)
    }
}

/// Puts what comes through a socket together to lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line.
    line: Vec<u8>,
    /// It is too long, and what follows up to its end is no line of its own.
    too_long: bool,
}

impl Lines {
    /// Takes what has come, in pieces of any size, and gives `each` line that is complete without
    /// its end. A line that is too long is left out.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.too_long |= self.line.len() + text.len() > LINE_MAX;
            if self.too_long {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(text);
            }
            if ends {
                if !self.too_long {
                    each(&self.line);
                }
                self.line.clear();
                self.too_long = false;
            }
        }
    }
}

/// Reads lines until the socket closes; never gives up on a line it does not understand.
async fn read(
    mut reader: OwnedReadHalf,
    answers: Answers,
    state: watch::Sender<MachineState>,
    log: Log,
) {
    let mut lines = Lines::default();
    let mut bytes = vec![0; 1 << 14];
    while let Ok(length @ 1..) = reader.read(&mut bytes).await {
        lines.take(&bytes[..length], |line| {
            let text = String::from_utf8_lossy(line);
            record(&log, "<-", text.trim_end());
            match Message::parse(&text) {
                Message::Event(new) => note(new, &state),
                Message::Answer(id, answer) => {
                    if let Some(sender) = lock(&answers).remove(&id) {
                        let _ = sender.send(answer);
                    }
                }
                Message::Other => {}
            }
        });
    }
    lock(&answers).clear();
    note(MachineState::Disconnected, &state);
}

/// What an event says of the machine, if it does.
fn state_after(event: &Event) -> Option<MachineState> {
    match event {
        Event::GUEST_PANICKED { .. } => Some(MachineState::Panicked),
        Event::SHUTDOWN { data, .. } => Some(MachineState::Shutdown {
            by_guest: data.guest,
            reason: qapi::Enum::name(&data.reason).to_owned(),
        }),
        _ => None,
    }
}

/// The first word counts: a panic is the cause of the shutdown that follows it.
fn note(new: MachineState, state: &watch::Sender<MachineState>) {
    state.send_if_modified(|state| {
        let first = *state == MachineState::Running;
        if first {
            *state = new;
        }
        first
    });
}

fn record(log: &Log, direction: &str, line: &str) {
    let mut log = lock(log);
    let length = direction.len() + line.len() + 2;
    if let Some(left) = log.left.checked_sub(length) {
        log.left = left;
        let _ = writeln!(log.file, "{direction} {line}");
    } else if log.left > 0 {
        log.left = 0;
        let _ = writeln!(
            log.file,
            "(more was said: the log of a run has {LOG_MAX} bytes)"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qapi::qmp::{cont, stop};
    use tokio::io::{AsyncBufReadExt, BufReader};

    #[test]
    fn a_line_that_is_too_long_is_left_out_to_its_end() {
        let long = format!("{}{{\"event\": \"SHUTDOWN\"}}", "x".repeat(LINE_MAX));
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in format!("a\n{long}\n\nb").as_bytes().chunks(4099) {
            lines.take(piece, |line| seen.push(line.to_vec()));
            assert!(lines.line.capacity() <= 2 * LINE_MAX);
        }
        lines.take(b"c\n", |line| seen.push(line.to_vec()));
        assert_eq!(seen, [&b"a"[..], b"", b"bc"]);
    }

    #[test]
    fn a_log_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp.log");
        let log = Arc::new(Mutex::new(Record {
            file: File::create(&path).unwrap(),
            left: LOG_MAX,
        }));
        let line = "x".repeat(1 << 20);
        for _ in 0..40 {
            record(&log, "<-", &line);
        }
        let length = path.metadata().unwrap().len();
        assert!(length <= LOG_MAX as u64 + 100, "{length}");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with("(more was said: the log of a run has 16777216 bytes)\n"));
    }

    /// A scripted QEMU on a real unix socket: answers each command with the lines that `script`
    /// gives for its name and id.
    async fn connect(script: impl Fn(&str, u64) -> Vec<String> + Send + 'static) -> Qmp {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (reader, mut writer) = theirs.into_split();
            writer
                .write_all(b"{\"QMP\": {\"version\": {}}}\n")
                .await
                .unwrap();
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let request: Value = serde_json::from_str(&line).unwrap();
                let name = request["execute"].as_str().unwrap();
                let id = request["id"].as_u64().unwrap();
                let answers = if name == "qmp_capabilities" {
                    vec![format!("{{\"return\": {{}}, \"id\": {id}}}")]
                } else {
                    script(name, id)
                };
                for answer in answers {
                    writer
                        .write_all(format!("{answer}\n").as_bytes())
                        .await
                        .unwrap();
                }
            }
        });
        let dir = tempfile::tempdir().unwrap();
        Qmp::connect(ours, Vitals::default(), &dir.path().join("qmp.log"))
            .await
            .unwrap()
    }

    fn ok(id: u64) -> String {
        format!("{{\"return\": {{}}, \"id\": {id}}}")
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_timed_out_command_leaves_the_connection_usable() {
        // `stop` is answered late, together with the answer to what comes next.
        let script = |name: &str, id: u64| match name {
            "stop" => vec![],
            _ => vec![ok(id - 1), ok(id)],
        };
        let mut qmp = connect(script).await;
        let late = qmp.execute_within(stop {}, Duration::from_millis(20)).await;
        assert!(late.unwrap_err().what.contains("no answer"));
        qmp.execute(cont {}).await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_unknown_event_and_a_broken_line_are_skipped() {
        let mut qmp = connect(|_, id| {
            let event = "{\"event\": \"FROM_THE_FUTURE\", \"timestamp\": {\"seconds\": 1}}";
            vec![event.to_owned(), "{broken".to_owned(), ok(id)]
        })
        .await;
        qmp.execute(cont {}).await.unwrap();
        qmp.execute(cont {}).await.unwrap();
        assert_eq!(*qmp.state().borrow(), MachineState::Running);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_panic_is_not_covered_up_by_the_shutdown_after_it() {
        let time = "\"timestamp\": {\"seconds\": 1, \"microseconds\": 0}";
        let mut qmp = connect(move |_, id| {
            vec![
                format!(
                    "{{\"event\": \"GUEST_PANICKED\", \"data\": {{\"action\": \"pause\"}}, {time}}}"
                ),
                format!(
                    "{{\"event\": \"SHUTDOWN\", \"data\": {{\"guest\": true, \"reason\": \
                     \"guest-panic\"}}, {time}}}"
                ),
                ok(id),
            ]
        })
        .await;
        qmp.execute(cont {}).await.unwrap();
        assert_eq!(*qmp.state().borrow(), MachineState::Panicked);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_error_carries_qemus_words() {
        let mut qmp = connect(|_, id| {
            vec![format!(
                "{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"no\"}}, \"id\": {id}}}"
            )]
        })
        .await;
        assert_eq!(qmp.execute(cont {}).await.unwrap_err().what, "QMP cont: no");
    }
}
