// SPDX-License-Identifier: MIT OR Apache-2.0
//! A terminal for the lab: what is typed on it, and what the lab says there.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{Project, find_tool, wait_for};

/// Rows above the screen that are kept.
const SCROLLED_MAX: usize = 10_000;

/// A terminal with a lab at its other end.
pub struct Terminal {
    pub master: OwnedFd,
    slave: File,
    said: Arc<Mutex<String>>,
    /// What the terminal shows of all that has been said.
    emulator: Arc<Mutex<vt100::Parser>>,
    pub lab: Child,
}

impl Terminal {
    pub fn new(project: &Project, args: &[&str]) -> Self {
        Self::of_size(project, args, (100, 40))
    }

    /// One of so many columns and rows.
    pub fn of_size(project: &Project, args: &[&str], (columns, rows): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let mut options = File::options();
        options.read(true).write(true);
        let slave = options.open(name.to_str().unwrap()).unwrap();
        resize(&master, columns, rows);
        let end = || Stdio::from(slave.try_clone().unwrap());
        // It is the lab's controlling terminal: its keys are signals unless the lab takes them.
        let mut command = Command::new(find_tool("setsid"));
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_lab")]);
        command.args(args);
        project.furnish(&mut command);
        let command = command.stdin(end()).stdout(end()).stderr(end());
        let lab = command.env("TERM", "xterm").spawn().unwrap();
        let said = Arc::default();
        let size = |number| NonZeroU16::new(number).unwrap();
        let emulator = vt100::Parser::new(size(rows), size(columns), SCROLLED_MAX);
        let emulator = Arc::new(Mutex::new(emulator));
        let (mut reader, all) = (File::from(master.try_clone().unwrap()), Arc::clone(&said));
        let shows = Arc::clone(&emulator);
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut block) {
                shows.lock().unwrap().process(&block[..length]);
                let text: &Mutex<String> = &all;
                text.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&block[..length]));
            }
        });
        Self {
            master,
            slave,
            said,
            emulator,
            lab,
        }
    }

    /// The rows that somebody sees, with those that have been scrolled away, without spaces at their
    /// ends and empty ones below; and whether the terminal had to break one.
    pub fn rows(&self) -> (Vec<String>, bool) {
        let mut emulator = self.emulator.lock().unwrap();
        let screen = emulator.screen_mut();
        let (height, width) = (screen.size().0.get(), screen.size().1.get());
        let (scrolled, mut rows, mut broken) = (screen.scrollback_len(), Vec::new(), false);
        for back in (0..=scrolled).rev() {
            screen.set_scrollback(back);
            // The first row of each place, and all rows of the last.
            let number = if back > 0 { 1 } else { height };
            rows.extend(screen.rows(0, width).take(number.into()));
            broken |= (0..number).any(|row| screen.row_wrapped(row));
        }
        let mut rows: Vec<_> = rows.iter().map(|row| row.trim_end().to_owned()).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        (rows, broken)
    }

    pub fn type_in(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap())
            .write_all(keys.as_bytes())
            .unwrap();
    }

    /// Waits until this is said, and forgets all that was said up to there.
    pub fn expect(&self, text: &str) {
        wait_for(|| {
            let mut said = self.said.lock().unwrap();
            let end = said.find(text).map(|start| start + text.len());
            said.drain(..end.unwrap_or(0));
            end.is_some()
        });
    }

    /// Whether it has its lines and its signals.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    pub fn status(&mut self) -> Option<i32> {
        self.lab.wait().unwrap().code()
    }
}

pub fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}
