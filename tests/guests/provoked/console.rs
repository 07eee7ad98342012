// SPDX-License-Identifier: MIT OR Apache-2.0
//! A slow console: what the lab asks the kernel to say must not hold up what it says it of.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::common::{self, Project, assert_is};
use crate::faults::host::SLOW_CONSOLE;

use super::host::with_program;

/// The console is slow from this on, and for so long.
const FILLER: &str = "lab: filler";
const SLOW: Duration = Duration::from_secs(8);
/// For a character. The driver of the serial port drops one for which there is no room in 10 ms, and a
/// busy host sleeps longer than it is told.
const CHARACTER: Duration = Duration::from_millis(2);

/// Two CPUs: on one, what prints is not what is running when the kernel tries.
fn scenario() -> String {
    // More than QEMU and the socket take at once.
    let filler = format!("{FILLER} {}", "-".repeat(200));
    format!(
        "version: 1
summary: A transition ends although the console is slow.
machine: {{ cpus: 2 }}
targets:
  shop: {{ functions: {{ price: 10 }} }}
livepatches:
  pricing: {{ replace: false, patches: {{ shop: {{ price: 11 }} }} }}
steps:
  - load: shop
  - {{ write: /dev/kmsg, data: \"{filler}\" }}
  - {{ write: /dev/kmsg, data: \"{filler}\" }}
  # So that at least one try fails.
  - hold: shop.price
  - load: pricing
    transition: held
  - release: shop.price
    expect: {{ calls: {{ shop.price: 11 }} }}
"
    )
}

#[test]
fn a_slow_console_holds_up_no_transition() {
    let project = Project::new();
    project.write("scenarios/slow.yaml", &scenario());
    let args = ["run", "scenarios/slow.yaml", "--kernel=mainline", "--cold"];
    let args = [&args[..], &["--accel=tcg", "--patient", "--accept"]].concat();
    let path = with_slow_console(&project);
    let output = project.lab_with(&args, &[("PATH", &path)]);
    assert_is(&SLOW_CONSOLE, &output);
    let (console, log) = (project.record("console.log"), project.record("kernel.log"));
    // The console was slow meanwhile, and did not have to say each try.
    let said = |text: &str, what: &str| text.matches(what).count();
    assert!(said(&console, FILLER) > 0, "{console}");
    assert_eq!(said(&console, "klp_try_switch_task"), 0, "{console}");
    // The console has dropped what there was no room for.
    assert!(said(&log, "'pricing': patching complete") > 0, "{log}");
    assert!(said(&log, "livepatch: klp_try_switch_task: ") > 0, "{log}");
    assert_eq!(project.guests(), [""; 0]);
}

/// A PATH with a QEMU whose console is a socket that is read slowly.
fn with_slow_console(project: &Project) -> String {
    let (socket, guest) = (project.path("console"), project.path("guest"));
    let real = common::find_tool("qemu-system-x86_64");
    let text = format!(
        "#!/bin/sh
for arg; do
  shift
  case $arg in
  file,id=console,*)
    echo \"$arg\" >'{guest}'
    arg=socket,id=console,path={socket} ;;
  esac
  set -- \"$@\" \"$arg\"
done
exec {real} \"$@\"
",
        guest = guest.display(),
        socket = socket.display(),
        real = real.display(),
    );
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let files = files(&guest);
            thread::spawn(move || relay(stream, &files).unwrap());
        }
    });
    with_program(project, "qemu-system-x86_64", &text)
}

/// Where the lab reads a guest's console, and where it types on it.
fn files(guest: &Path) -> (PathBuf, PathBuf) {
    let option = fs::read_to_string(guest).unwrap();
    let (_, paths) = option.trim_end().split_once(",path=").unwrap();
    let (console, input) = paths.split_once(",append=on,input-path=").unwrap();
    (console.into(), input.into())
}

fn relay(mut stream: UnixStream, (console, input): &(PathBuf, PathBuf)) -> io::Result<()> {
    let (mut typed, mut to) = (fs::File::open(input)?, stream.try_clone()?);
    thread::spawn(move || io::copy(&mut typed, &mut to));
    let mut console = fs::File::options().append(true).open(console)?;
    let (mut said, mut slow) = (Vec::new(), None);
    let mut byte = [0];
    // A byte at a time is as the port sends them: each takes as much of the socket as many.
    while stream.read(&mut byte)? > 0 {
        console.write_all(&byte)?;
        said.push(byte[0]);
        if slow.is_none() && said.ends_with(FILLER.as_bytes()) {
            slow = Some(Instant::now());
        }
        if slow.is_some_and(|since| since.elapsed() < SLOW) {
            sleep(CHARACTER);
        }
    }
    Ok(())
}
