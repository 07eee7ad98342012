// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest: an ssh session with the lab's agent at its other end, and the typed operations on
//! it; and the sessions of visitors beside it.
//!
//! What comes from a guest is not trusted: replies are bounded, and nothing in them becomes a
//! path on the host.

pub mod entrance;
mod operations;
mod quiet;
pub mod ssh;
pub mod terminal;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Blame, Error, IoContext, Result};
use crate::image::keys::RunKeys;
use crate::klp::kernel_module_name;
pub use crate::step::{Answer, Outcome, Silence, Unsettled};
use crate::visible::visible;
use crate::vm::args::BOOT_MESSAGES;
use crate::vm::console::Console;
use crate::vm::kernel_log::{self, Record};
use crate::vm::machine::{Gone, Machine};
use crate::vm::vitals::Vitals;
use ssh::Link;

/// The version of the agent's protocol, as `images/guest/agent.c` has it. It counts up with each change
/// of a verb, of its arguments or of the lines of a reply.
const PROTOCOL: u32 = 3;
/// Earlier versions that are understood, of agents in the images of earlier bundles: version 1 has no
/// `log`, its messages have no number and no time, and nothing shortens a transition; version 2 has no
/// `quiet`.
const EARLIER: [u32; 2] = [1, 2];
/// The first version that knows how to shorten transitions.
const HAMMERS: u32 = 2;
/// How long the agent may keep the guest's other CPUs busy for a call that begins a transition. It
/// ends with the call: this bounds one that sleeps in a callback. Loads take some 100 ms on a busy host.
const HAMMERING: Duration = Duration::from_millis(500);
/// The livepatch core's debug messages.
const LIVEPATCH_MESSAGES: &str = "file kernel/livepatch/*";
/// How often the console is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Bytes a second that a guest takes at the least: an emulated one on a busy host takes 5 MiB.
const SLOWEST: u64 = 1 << 20;
/// A console that stands still for so long has dropped characters of a line that was waited for: the
/// driver of a slow serial port does.
const DROPPED: Duration = Duration::from_secs(3);
/// What it is that the guest does not do if its console does not come to its end.
const DRAINED: &str = "a line on the console";
/// Where modules are put in the guest.
const MODULES: &str = "/lab";

/// How a command in the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed when its time was up.
    Timeout,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Exit(code) => write!(f, "exit code {code}"),
            Ending::Signal(signal) => write!(f, "signal {signal}"),
            Ending::Timeout => f.write_str("its time was up"),
        }
    }
}

/// A command that was run in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote to standard output and error; the first mebibyte.
    pub output: String,
}

impl Executed {
    fn parse(data: &str) -> Option<Self> {
        let (first, output) = data.split_once('\n')?;
        let ending = match first.split_once(' ') {
            Some(("exit", code)) => Ending::Exit(code.parse().ok()?),
            Some(("signal", signal)) => Ending::Signal(signal.parse().ok()?),
            None if first == "timeout" => Ending::Timeout,
            _ => return None,
        };
        Some(Self {
            ending,
            output: output.to_owned(),
        })
    }
}

/// A guest whose agent answers.
#[derive(Debug)]
pub struct Guest {
    link: Link,
    limit: Duration,
    /// The version of the protocol that the agent speaks.
    protocol: u32,
    /// Whether transitions go at the kernel's own pace.
    patient: bool,
}

impl Guest {
    /// Logs in through `port` of 127.0.0.1 and starts the agent, in the guest of the QEMU with these
    /// vitals. `limit` bounds the login and, later, each answer. Transitions go at the kernel's own
    /// pace; see [`Guest::hurried`].
    ///
    /// # Errors
    ///
    /// The keys cannot be read, or the agent speaks another version of the protocol.
    pub async fn connect(
        port: u16,
        keys: &RunKeys,
        vitals: &Vitals,
        limit: Duration,
    ) -> Result<Answer<Self>> {
        let login = ssh::Login {
            port,
            private_key: keys.client_private()?,
            host_key: keys.host_public()?,
        };
        let mut guest = match Link::open(login, vitals.clone(), limit).await {
            Ok(link) => Self {
                link,
                limit,
                protocol: PROTOCOL,
                patient: true,
            },
            Err(silence) => return Ok(Err(silence)),
        };
        match guest.ask("protocol", &[], &[], limit).await {
            Ok((errno, version)) => {
                guest.protocol = speaks_protocol(errno, &version)?;
            }
            Err(silence) => return Ok(Err(silence)),
        }
        Ok(Ok(guest))
    }

    /// The guest whose transitions need not wait for the idle tasks of its other CPUs: the agent
    /// keeps those CPUs busy while a call begins one. An agent of an earlier version cannot.
    #[must_use]
    pub fn hurried(mut self) -> Self {
        self.patient = self.protocol < HAMMERS;
        self
    }

    /// For how many milliseconds the agent may keep CPUs busy, as it is told.
    fn hammering(&self) -> Option<String> {
        (!self.patient).then(|| HAMMERING.as_millis().to_string())
    }

    /// `uname -r`.
    pub async fn release(&self) -> Answer<String> {
        Ok(self.ask("release", &[], &[], self.limit).await?.1)
    }

    /// Copies a module into the guest.
    pub async fn put_module(&self, name: &str, file: &Path) -> Result<Answer<Outcome>> {
        let data = std::fs::read(file).at("read", file)?;
        Ok(self.put(&module_path(name), &data).await)
    }

    /// Writes a file of the guest, whose folder is there.
    pub async fn put(&self, path: &str, data: &[u8]) -> Answer<Outcome> {
        let length = data.len().to_string();
        let limit = self.limit + Duration::from_secs(data.len() as u64 / SLOWEST);
        let reply = self.ask("put", &[path, &length], data, limit).await?;
        Ok(Outcome(reply.0))
    }

    /// Runs a command of the guest's shell in a folder of the guest, for `limit` at most. What it
    /// started ends with it.
    pub async fn exec(&self, dir: &str, command: &str, limit: Duration) -> Answer<Executed> {
        let millis = limit.as_millis().to_string();
        let args = [&*millis, dir, command];
        let (errno, data) = self.ask("exec", &args, &[], limit + self.limit).await?;
        if errno != 0 {
            return Err(Silence::Nonsense(format!(
                "`{command}` was not started: {}",
                Outcome(errno)
            )));
        }
        Executed::parse(&data).ok_or(Silence::Nonsense(data))
    }

    /// Takes back what a run put into the guest: modules that were copied, messages that were
    /// turned on. Returns all that a scenario can leave behind, as text to compare.
    pub async fn tidy(&self) -> Answer<String> {
        let messages = format!("{LIVEPATCH_MESSAGES} -p");
        let at_boot = format!("{BOOT_MESSAGES} +p");
        let args = [&*messages, &*at_boot];
        Ok(self.ask("tidy", &args, &[], self.limit).await?.1)
    }

    /// Everything observable, as the agent writes it; see `state::observed`.
    pub async fn state(&self) -> Answer<String> {
        Ok(self.ask("state", &[], &[], self.limit).await?.1)
    }

    /// What the kernel has said since the last `log` or `state`, debug messages too. Nothing from an
    /// agent of protocol 1.
    pub async fn log(&self) -> Answer<Vec<Record>> {
        let reply = self.ask("log", &[], &[], self.limit).await?;
        Ok(kernel_log::records(&reply.1))
    }

    /// Waits until the console has all that the kernel has said so far: it has a thread of its own,
    /// and is slow. `limit` counts anew as long as it goes on. Returns whether it came to its end, and
    /// [`Guest::log`]. A moment of the guest's time passes before, in which deferred work can fail.
    pub async fn drain(
        &self,
        console: &Console,
        limit: Duration,
    ) -> Answer<(Answer<()>, Vec<Record>)> {
        let mut wait = self.link.vitals().wait(limit).by_console();
        let from = console.len();
        let mark = format!("lab: the console has come as far as this ({from})");
        self.say(&mark).await?;
        // The console comes as far meanwhile.
        let log = self.log().await?;
        let (mut length, mut since) = (console.len(), Instant::now());
        while !console.text_from(from).contains(&mark) {
            if let Some(overdue) = wait.over() {
                return Ok((Err(ssh::silence(DRAINED, &overdue)), log));
            }
            tokio::time::sleep(POLL).await;
            if length != console.len() {
                (length, since) = (console.len(), Instant::now());
            } else if since.elapsed() > DROPPED {
                self.say(&mark).await?;
                since = Instant::now();
            }
        }
        Ok((Ok(()), log))
    }

    async fn say(&self, line: &str) -> Answer<()> {
        let said = Outcome(self.ask("say", &[line], &[], self.limit).await?.0);
        match said.is_ok() {
            true => Ok(()),
            false => Err(Silence::Nonsense(format!("writing to /dev/kmsg: {said}"))),
        }
    }

    /// The tasks that hold a transition open, with their stacks.
    pub async fn blocked(&self) -> Answer<String> {
        Ok(self.ask("blocked", &[], &[], self.limit).await?.1)
    }

    async fn ask(
        &self,
        verb: &str,
        args: &[&str],
        payload: &[u8],
        limit: Duration,
    ) -> Answer<(i32, String)> {
        let mut request = verb.to_owned();
        for arg in args {
            // Validated input has neither; a request must never become two.
            if arg.contains(['\t', '\n']) {
                return Err(Silence::Nonsense(format!(
                    "{verb} with a tab or newline in {arg:?}"
                )));
            }
            request.push('\t');
            request.push_str(arg);
        }
        let what = asked(verb, args);
        request.push('\n');
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(payload);
        let reply = self.link.ask(bytes, limit, &what).await?;
        Ok((
            reply.errno,
            String::from_utf8_lossy(&reply.data).into_owned(),
        ))
    }

    /// Ends the session.
    pub async fn close(self) -> Result<()> {
        self.link
            .close()
            .await
            .map_err(|silence| Error::lab(silence.to_string()))
    }
}

/// Why a guest gave no answer: what the console and QEMU say comes first.
pub async fn why(machine: &mut Machine, silence: &Silence) -> Gone {
    match (machine.why_silent(silence.to_string()).await, silence) {
        // The machine goes on: what is lost is the connection.
        (Gone::Silent(why), Silence::Lost(_)) => Gone::Lost(why),
        (Gone::Silent(why), Silence::Starved(_)) => Gone::Starved(why),
        (gone, _) => gone,
    }
}

/// A request as people read it: `load /lab/fix.ko`. Lengths and limits are left out.
fn asked(verb: &str, args: &[&str]) -> String {
    let is_number = |arg: &&str| arg.bytes().all(|c| c.is_ascii_digit());
    let words = args.iter().copied().filter(|arg| !is_number(arg));
    let all: Vec<_> = std::iter::once(verb).chain(words).collect();
    all.join(" ")
}

fn module_path(name: &str) -> String {
    format!("{MODULES}/{}.ko", kernel_module_name(name))
}

/// Bytes of a version that are shown.
const VERSION_MAX: usize = 40;

/// The agent does not know the verb.
const ENOSYS: i32 = 38;

/// The version of an agent with this answer to `protocol`, if it can be understood. One from before
/// there were versions, as in a bundle's image, does not know the verb; it speaks version 1.
fn speaks_protocol(errno: i32, version: &str) -> Result<u32> {
    let version = match errno {
        0 => version,
        ENOSYS => "1",
        _ => "unknown",
    };
    let known = EARLIER.into_iter().chain([PROTOCOL]);
    if let Some(known) = known.into_iter().find(|known| known.to_string() == version) {
        return Ok(known);
    }
    let version = visible(&version[..version.floor_char_boundary(VERSION_MAX)]);
    let what = format!(
        "the agent in the guest's image speaks version {version} of its protocol, this lab version \
         {PROTOCOL}"
    );
    Err(Error::new(Blame::File, what).help(
        "take images/guest/agent.c of this lab, so that the image is built anew; a bundle's own image \
         needs the lab that wrote the bundle",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_speaks_this_version() {
        let agent = include_str!("../../images/guest/agent.c");
        assert!(agent.contains(&format!("\n#define PROTOCOL \"{PROTOCOL}\"\n")));
        assert_eq!(speaks_protocol(0, &PROTOCOL.to_string()).unwrap(), PROTOCOL);
    }

    #[test]
    fn a_request_is_said_without_what_is_the_labs() {
        assert_eq!(
            asked("load", &["/lab/fix.ko", "", "500"]),
            "load /lab/fix.ko"
        );
        assert_eq!(asked("exec", &["9000", "/", "ls -l"]), "exec / ls -l");
        assert_eq!(asked("state", &[]), "state");
    }

    #[test]
    fn agents_of_earlier_bundles_are_understood() {
        // The first ones do not know the verb.
        assert_eq!(speaks_protocol(ENOSYS, "").unwrap(), 1);
        assert_eq!(speaks_protocol(0, "1").unwrap(), 1);
        assert_eq!(speaks_protocol(0, "2").unwrap(), 2);
    }

    #[test]
    fn an_agent_of_another_version_is_the_images_fault() {
        let said = |errno, version: &str| {
            let error = speaks_protocol(errno, version).unwrap_err();
            assert_eq!(error.blame, Blame::File);
            assert!(error.help.unwrap().contains("agent.c"));
            error.what
        };
        assert!(said(0, "4").contains("speaks version 4 of its protocol, this lab version 3"));
        assert!(said(5, "").contains("speaks version unknown "));
        let hostile = said(0, &"\u{1b}[2J".repeat(1000));
        assert!(
            !hostile.contains('\u{1b}') && hostile.len() < 2000,
            "{hostile}"
        );
    }
}
