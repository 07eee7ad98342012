// SPDX-License-Identifier: MIT OR Apache-2.0
//! One ssh session in a thread of its own, with deadlines that hold.
//!
//! libssh2 blocks, and its timeout bounds each wait rather than the whole. So the session lives in
//! a thread; whoever waits for it shuts the socket down when time is up, which ends every wait at
//! once.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ssh2::{Channel, Session};
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Silence};
use crate::vm::progress::Over;
use crate::vm::vitals::{Overdue, Vitals};

/// The longest reply that is read; the agent has no room for a longer one.
const REPLY_MAX: usize = 1 << 20;
/// The longest first line of a reply.
const HEADER_MAX: usize = 64;
/// What root's shell takes for a request to be the agent.
const AGENT: &str = "lab-agent";

/// What a login needs.
#[derive(Clone)]
pub struct Login {
    /// The forwarded port.
    pub port: u16,
    /// The client's private key in OpenSSH's format.
    pub private_key: String,
    /// The public key that the guest must have.
    pub host_key: Vec<u8>,
}

/// An answer of the agent.
#[derive(Debug)]
pub struct Reply {
    /// The system call's errno.
    pub errno: i32,
    /// Its data.
    pub data: Vec<u8>,
}

type Request = (Vec<u8>, oneshot::Sender<Answer<Reply>>);

/// A session with the agent.
#[derive(Debug)]
pub struct Link {
    vitals: Vitals,
    requests: mpsc::Sender<Request>,
    socket: TcpStream,
    thread: JoinHandle<()>,
}

impl Link {
    /// Logs in and starts the agent, in the guest of the QEMU with these vitals.
    pub async fn open(login: Login, vitals: Vitals, limit: Duration) -> Answer<Self> {
        let lost = |error: std::io::Error| Silence::Lost(error.to_string());
        let stream = connect(&login)?;
        let socket = stream.try_clone().map_err(lost)?;
        let (requests, receiver) = mpsc::channel(1);
        let (opened, open) = oneshot::channel();
        let thread = std::thread::spawn(move || match start_agent(stream, &login) {
            Ok((session, channel)) => {
                let _ = opened.send(Ok(()));
                serve(&session, channel, receiver);
            }
            Err(silence) => {
                let _ = opened.send(Err(silence));
            }
        });
        let link = Self {
            vitals,
            requests,
            socket,
            thread,
        };
        let started = Instant::now();
        let answer = link.within(limit, open, "the login").await;
        match answer {
            Ok(()) => Ok(link),
            Err(Silence::Lost(why)) => Err(Silence::Lost(format!(
                "{why} ({:.1?} into the login)",
                started.elapsed()
            ))),
            Err(silence) => Err(silence),
        }
    }

    /// Sends a request and waits for the reply. After a timeout the link is dead.
    pub async fn ask(&self, request: Vec<u8>, limit: Duration, what: &str) -> Answer<Reply> {
        let (sender, receiver) = oneshot::channel();
        if self.requests.send((request, sender)).await.is_err() {
            return Err(Silence::Lost("the session has ended".to_owned()));
        }
        self.within(limit, receiver, what).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        receiver: oneshot::Receiver<Answer<T>>,
        what: &str,
    ) -> Answer<T> {
        match self.vitals.within(limit, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Silence::Lost("the session has ended".to_owned())),
            Err(overdue) => {
                let _ = self.socket.shutdown(Shutdown::Both);
                Err(silence(&format!("`{what}`"), &overdue))
            }
        }
    }

    /// What the host knows of the QEMU that it leads to.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Ends the session and its thread.
    pub async fn close(self) -> Answer<()> {
        drop(self.requests);
        let _ = self.socket.shutdown(Shutdown::Both);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        match joined {
            Ok(Ok(())) => Ok(()),
            _ => Err(Silence::Lost("the session's thread failed".to_owned())),
        }
    }
}

/// What was asked for and did not come.
pub(super) fn silence(what: &str, overdue: &Overdue) -> Silence {
    let what = format!("{what} {overdue}\n{}", overdue.seen);
    match overdue.over {
        Over::Starved => Silence::Starved(what),
        Over::Still | Over::Endless => Silence::Timeout(what),
    }
}

/// Connects to the guest's port.
pub(super) fn connect(login: &Login) -> Answer<TcpStream> {
    let lost = |error: std::io::Error| Silence::Lost(error.to_string());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], login.port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    Ok(stream)
}

/// Logs in as root, to the guest that has this run's host key and no other.
pub(super) fn log_in(stream: TcpStream, login: &Login, limit: Option<Duration>) -> Answer<Session> {
    let lost = |error: ssh2::Error| Silence::Lost(error.to_string());
    let mut session = Session::new().map_err(lost)?;
    let limit = limit.map_or(0, |limit| limit.as_millis());
    session.set_timeout(u32::try_from(limit).unwrap_or(u32::MAX));
    session.set_tcp_stream(stream);
    session.handshake().map_err(lost)?;
    let offered = session.host_key().map(|(key, _)| key.to_vec());
    if offered.as_ref() != Some(&login.host_key) {
        return Err(Silence::Nonsense(
            "its ssh host key is not the one of this run".to_owned(),
        ));
    }
    session
        .userauth_pubkey_memory("root", None, &login.private_key, None)
        .map_err(lost)?;
    Ok(session)
}

fn start_agent(stream: TcpStream, login: &Login) -> Answer<(Session, Channel)> {
    let lost = |error: ssh2::Error| Silence::Lost(error.to_string());
    // Whoever waits for it ends it in time.
    let session = log_in(stream, login, None)?;
    let mut channel = session.channel_session().map_err(lost)?;
    channel.exec(AGENT).map_err(lost)?;
    Ok((session, channel))
}

fn serve(session: &Session, mut channel: Channel, mut requests: mpsc::Receiver<Request>) {
    while let Some((request, reply)) = requests.blocking_recv() {
        let answer = exchange(&mut channel, &request);
        let over = answer.is_err();
        let _ = reply.send(answer);
        if over {
            return;
        }
    }
    let _ = session.disconnect(None, "done", None);
}

fn exchange(channel: &mut Channel, request: &[u8]) -> Answer<Reply> {
    let lost = |error: std::io::Error| Silence::Lost(error.to_string());
    channel.write_all(request).map_err(lost)?;
    channel.flush().map_err(lost)?;
    read_reply(channel)
}

/// Reads `ERRNO SP LENGTH LF BYTES`.
fn read_reply(from: &mut impl Read) -> Answer<Reply> {
    let lost = |error: std::io::Error| Silence::Lost(error.to_string());
    let mut header = Vec::new();
    loop {
        let mut byte = [0];
        if from.read(&mut byte).map_err(lost)? == 0 {
            return Err(Silence::Lost("the agent has ended".to_owned()));
        }
        if byte[0] == b'\n' {
            break;
        }
        header.push(byte[0]);
        if header.len() > HEADER_MAX {
            return Err(Silence::Nonsense(
                String::from_utf8_lossy(&header).into_owned(),
            ));
        }
    }
    let text = String::from_utf8_lossy(&header).into_owned();
    let parsed = text.split_once(' ').and_then(|(errno, length)| {
        Some((errno.parse::<i32>().ok()?, length.parse::<usize>().ok()?))
    });
    let Some((errno, length)) = parsed.filter(|(_, length)| *length <= REPLY_MAX) else {
        return Err(Silence::Nonsense(text));
    };
    let mut data = vec![0; length];
    from.read_exact(&mut data).map_err(lost)?;
    Ok(Reply { errno, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_an_errno_and_bounded_bytes() {
        let reply = read_reply(&mut &b"22 3\nabcdef"[..]).unwrap();
        assert_eq!((reply.errno, &reply.data[..]), (22, &b"abc"[..]));
    }

    #[test]
    fn a_guest_cannot_make_the_lab_allocate_at_will() {
        let huge = read_reply(&mut &b"0 99999999999\n"[..]).unwrap_err();
        assert_eq!(huge, Silence::Nonsense("0 99999999999".to_owned()));
        let endless = [b'x'; 1000];
        assert!(matches!(
            read_reply(&mut &endless[..]),
            Err(Silence::Nonsense(_))
        ));
    }

    #[test]
    fn an_agent_that_has_ended_is_a_lost_connection() {
        assert!(matches!(
            read_reply(&mut &b"0 10\nabc"[..]),
            Err(Silence::Lost(_))
        ));
        assert!(matches!(read_reply(&mut &b""[..]), Err(Silence::Lost(_))));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_silent_server_costs_no_more_than_the_limit() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let login = Login {
            port: listener.local_addr().unwrap().port(),
            private_key: String::new(),
            host_key: Vec::new(),
        };
        let silence = Link::open(login, Vitals::default(), Duration::from_millis(100))
            .await
            .unwrap_err();
        assert!(matches!(silence, Silence::Timeout(_)), "{silence}");
    }
}
