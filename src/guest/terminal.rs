// SPDX-License-Identifier: MIT OR Apache-2.0
//! A visit to a guest: a session of its own over ssh, beside the agent's, with a terminal or as a
//! pipe.
//!
//! It blocks, and belongs into a thread. libssh2 is asked without waiting, and poll(2) waits for
//! both ends. Whoever wants the terminal raw makes it so before, and takes it back.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;
use ssh2::{BlockDirections, Channel, Session};
use tokio_util::sync::CancellationToken;

use super::ssh::{self, Login};
use super::{Answer, Silence};

/// How long each wait of the login may take.
const LOGIN: Duration = Duration::from_secs(30);
/// How long the guest may take to say how a command ended that has closed its output.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often the size of the terminal is looked at, and whether somebody has had enough.
const LOOK: Duration = Duration::from_millis(100);
/// The size of a terminal that does not say it: columns and rows.
const SIZE: (u32, u32) = (80, 24);
/// Bytes that are taken at once.
const BLOCK: usize = 32 << 10;

/// What is wanted of a guest.
pub struct Visit {
    /// A command of its shell; without one, the shell itself.
    pub command: Option<String>,
    /// The kind of terminal that it is to have (`TERM`), of the size of that at `input`. Without
    /// one it has pipes.
    pub terminal: Option<String>,
    /// What is typed.
    pub input: OwnedFd,
    /// Where its output goes.
    pub output: Box<dyn Write + Send>,
    /// Where its standard error goes. A terminal has none of its own.
    pub error: Box<dyn Write + Send>,
}

/// How a visit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exit(i32),
    /// By a signal: its name without `SIG`.
    Signal(String),
    /// The visitor left, by the way out or because the lab ends.
    Left,
}

impl Ended {
    /// The exit status that a shell would give it.
    pub fn status(&self) -> u8 {
        match self {
            Ended::Exit(status) => u8::try_from(status & 0xff).unwrap_or(1),
            Ended::Signal(name) => {
                let known = SIGNALS.iter().find(|(signal, _)| signal == name);
                known.map_or(128, |(_, number)| 128 + number)
            }
            Ended::Left => 0,
        }
    }
}

/// Signals of Linux that end processes, on both architectures.
const SIGNALS: [(&str, u8); 14] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("TERM", 15),
];

/// Logs in and stays until the command ends, or `cancel` is.
pub fn visit(login: &Login, visit: Visit, cancel: &CancellationToken) -> Answer<Ended> {
    let stream = ssh::connect(login)?;
    let socket = stream.try_clone().map_err(|error| lost(&error))?;
    let session = ssh::log_in(stream, login, Some(LOGIN))?;
    let mut channel = session.channel_session().map_err(|error| lost(&error))?;
    let size = size_of(&visit.input);
    if let Some(term) = &visit.terminal {
        let (columns, rows) = size;
        let pty = channel.request_pty(term, None, Some((columns, rows, 0, 0)));
        pty.map_err(|error| lost(&error))?;
    }
    match &visit.command {
        Some(command) => channel.exec(command),
        None => channel.shell(),
    }
    .map_err(|error| lost(&error))?;
    session.set_blocking(false);
    let mut ends = Ends {
        session: &session,
        socket,
        channel,
        way_out: visit.terminal.as_ref().map(|_| WayOut::default()),
        size,
        visit,
        pending: Vec::new(),
        input: Input::Open,
        busy: None,
        deaf: false,
    };
    if let Some(ended) = ends.connect(cancel)? {
        return Ok(ended);
    }
    let mut channel = ends.channel;
    session.set_blocking(true);
    session.set_timeout(u32::try_from(LAST_WORDS.as_millis()).unwrap_or(u32::MAX));
    // A guest that dies here has said all the same.
    let _ = channel.close();
    let _ = channel.wait_close();
    let signal = channel.exit_signal().ok();
    if let Some(name) = signal.and_then(|signal| signal.exit_signal) {
        return Ok(Ended::Signal(name));
    }
    let status = channel.exit_status().map_err(|error| lost(&error))?;
    Ok(Ended::Exit(status))
}

fn lost(error: &impl std::fmt::Display) -> Silence {
    Silence::Lost(error.to_string())
}

/// What becomes of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// There may be more.
    Open,
    /// It is at its end, which the guest does not know yet.
    Ended,
    /// The guest knows.
    Told,
}

/// Who has left half a packet with libssh2: it takes nothing else before the rest of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    Reading,
    Writing,
}

/// Both ends, connected.
struct Ends<'a> {
    session: &'a Session,
    socket: TcpStream,
    channel: Channel,
    visit: Visit,
    way_out: Option<WayOut>,
    /// The terminal's columns and rows, as the guest knows them.
    size: (u32, u32),
    /// What was typed and is not in the guest yet.
    pending: Vec<u8>,
    input: Input,
    busy: Option<Busy>,
    /// Whether nobody reads the output any more, as in `lab exec … | head`.
    deaf: bool,
}

impl Ends<'_> {
    /// Carries what comes from each end to the other, until the guest's end is closed, or the visit
    /// has ended otherwise.
    fn connect(&mut self, cancel: &CancellationToken) -> Answer<Option<Ended>> {
        loop {
            if cancel.is_cancelled() {
                return Ok(Some(Ended::Left));
            }
            if self.deaf {
                return Ok(Some(Ended::Signal("PIPE".to_owned())));
            }
            let mut moved = false;
            if self.busy != Some(Busy::Writing) {
                moved |= self.take_output(false)?;
                if self.visit.terminal.is_none() {
                    moved |= self.take_output(true)?;
                }
                if self.channel.eof() {
                    return Ok(None);
                }
            }
            if self.busy != Some(Busy::Reading) {
                moved |= self.give_input()?;
            }
            if !moved && !self.wait()? {
                return Ok(Some(Ended::Left));
            }
        }
    }

    /// Whether something came out of the guest.
    fn take_output(&mut self, error: bool) -> Answer<bool> {
        let mut block = [0; BLOCK];
        let read = match error {
            true => self.channel.stderr().read(&mut block),
            false => self.channel.read(&mut block),
        };
        let length = match read {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.busy = self.is_outbound().then_some(Busy::Reading);
                return Ok(false);
            }
            Err(error) => return Err(lost(&error)),
        };
        self.busy = None;
        let to = match error {
            true => &mut self.visit.error,
            false => &mut self.visit.output,
        };
        match to.write_all(&block[..length]).and_then(|()| to.flush()) {
            Ok(()) => Ok(length > 0),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.deaf = true;
                Ok(true)
            }
            Err(error) => Err(Silence::Lost(format!("writing its output: {error}"))),
        }
    }

    /// Whether something went into the guest.
    fn give_input(&mut self) -> Answer<bool> {
        let given = if !self.pending.is_empty() {
            self.channel.write(&self.pending)
        } else if self.input == Input::Ended {
            self.channel.send_eof().map(|()| 0).map_err(Into::into)
        } else {
            return self.give_size();
        };
        match given {
            Ok(length) => {
                self.busy = None;
                if self.pending.is_empty() {
                    self.input = Input::Told;
                }
                self.pending.drain(..length);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.busy = self.is_outbound().then_some(Busy::Writing);
                Ok(false)
            }
            Err(error) => Err(lost(&error)),
        }
    }

    /// Tells the guest that its terminal has another size.
    fn give_size(&mut self) -> Answer<bool> {
        let size = size_of(&self.visit.input);
        if self.visit.terminal.is_none() || size == self.size {
            return Ok(false);
        }
        let told = self.channel.request_pty_size(size.0, size.1, None, None);
        match told.map_err(std::io::Error::from) {
            Ok(()) => {
                (self.busy, self.size) = (None, size);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.busy = self.is_outbound().then_some(Busy::Writing);
                Ok(false)
            }
            Err(error) => Err(lost(&error)),
        }
    }

    fn is_outbound(&self) -> bool {
        matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        )
    }

    /// Waits for either end, and takes what was typed. `false` if the visitor wants to leave.
    fn wait(&mut self) -> Answer<bool> {
        let takes = self.input == Input::Open && self.pending.is_empty();
        let socket = match self.busy {
            Some(_) => PollFlags::IN | PollFlags::OUT,
            None => PollFlags::IN,
        };
        let mut both = [
            PollFd::new(&self.socket, socket),
            PollFd::new(&self.visit.input, PollFlags::IN),
        ];
        let watched = if takes { 2 } else { 1 };
        let limit = Timespec::try_from(LOOK).ok();
        match poll(&mut both[..watched], limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(lost(&error)),
        }
        if !takes || both[1].revents().is_empty() {
            return Ok(true);
        }
        let mut block = [0; BLOCK];
        match rustix::io::read(&self.visit.input, &mut block) {
            Ok(0) => self.input = Input::Ended,
            Ok(length) => match &mut self.way_out {
                None => self.pending.extend_from_slice(&block[..length]),
                Some(way_out) => {
                    return Ok(!way_out.take(&block[..length], &mut self.pending));
                }
            },
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // A terminal that was closed.
            Err(_) => self.input = Input::Ended,
        }
        Ok(true)
    }
}

/// Columns and rows.
fn size_of(terminal: &OwnedFd) -> (u32, u32) {
    match tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (u32::from(size.ws_col), u32::from(size.ws_row))
        }
        _ => SIZE,
    }
}

/// The way out of a guest that says nothing any more, the one of ssh(1): `~.` at the beginning of a
/// line; `~~` there is one `~`.
#[derive(Debug, Default)]
struct WayOut {
    /// Whether what is typed next is not the beginning of a line.
    within: bool,
    /// Whether a `~` is held back.
    held: bool,
}

impl WayOut {
    /// Takes what was typed, and gives what is for the guest. Whether the visitor leaves.
    fn take(&mut self, typed: &[u8], give: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if std::mem::take(&mut self.held) {
                match byte {
                    b'.' => return true,
                    b'~' => {}
                    _ => give.push(b'~'),
                }
            } else if byte == b'~' && !self.within {
                self.held = true;
                continue;
            }
            self.within = !matches!(byte, b'\r' | b'\n');
            give.push(byte);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(parts: &[&str]) -> (String, bool) {
        let (mut way_out, mut given) = (WayOut::default(), Vec::new());
        let left = parts
            .iter()
            .any(|part| way_out.take(part.as_bytes(), &mut given));
        (String::from_utf8(given).unwrap(), left)
    }

    #[test]
    fn the_way_out_is_at_the_beginning_of_a_line_only() {
        assert_eq!(typed(&["~."]), (String::new(), true));
        assert_eq!(typed(&["ls\r", "~", ".x"]), ("ls\r".to_owned(), true));
        assert_eq!(typed(&["ls ~.\r"]), ("ls ~.\r".to_owned(), false));
        assert_eq!(typed(&["~~.\r"]), ("~.\r".to_owned(), false));
        assert_eq!(typed(&["~/bin\r"]), ("~/bin\r".to_owned(), false));
    }

    #[test]
    fn a_signal_has_the_status_that_a_shell_gives_it() {
        assert_eq!(Ended::Exit(7).status(), 7);
        assert_eq!(Ended::Signal("KILL".into()).status(), 137);
        assert_eq!(Ended::Signal("nonsense".into()).status(), 128);
    }
}
