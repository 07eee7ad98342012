// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading a guest's memory from outside, whatever the guest does.

use qapi::qmp;

use super::kernel_log::Record;
use super::machine::{ALIVE, Machine};
use super::modules::{self, Header, Modules, Table};
use super::registers::Symbols;
use super::ring::{self, Ring};
use crate::error::{Error, Result};
use crate::files::read_regular;

/// CPUs that are tried: one in user space may not see the kernel.
const CPUS: i64 = 4;

impl Machine {
    /// The kernel's log, as far as its ring in memory holds it. `system_map` is the kernel's own; a
    /// kernel that is not where it says gives nothing.
    ///
    /// # Errors
    ///
    /// `Host` if QEMU does not answer, or if no log is there.
    pub async fn kernel_log(&mut self, system_map: &str) -> Result<Vec<Record>> {
        let none = || Error::host("the guest's memory has no log where System.map says");
        let pointer = ring::address(system_map, ring::SYMBOL).ok_or_else(none)?;
        let head = self.pointer(pointer).await?;
        let head = self.memory((head, ring::HEAD)).await?;
        let ring = Ring::parse(&head).ok_or_else(none)?;
        let first = self.memory(ring.first_infos()).await?;
        let size = ring.info_size(&first).ok_or_else(none)?;
        let [descs, infos, text] = ring.parts(size);
        // The text last: what is written meanwhile has no descriptor among those.
        let parts = [
            self.memory(descs).await?,
            self.memory(infos).await?,
            self.memory(text).await?,
        ];
        Ok(ring.records(size, &parts))
    }

    /// The code of its kernel, and of the modules in its memory as far as they can be read: of a kernel
    /// that was built elsewhere nothing is known.
    pub async fn symbols(&mut self, system_map: &str) -> Symbols {
        let mut found = Modules::default();
        if let Some(list) = ring::address(system_map, modules::SYMBOL) {
            // What was read counts, also if the rest cannot be.
            let _ = self.read_modules(list, &mut found).await;
        }
        Symbols::new(system_map, found)
    }

    /// Reads all modules of a list.
    async fn read_modules(&mut self, list: u64, found: &mut Modules) -> Result<()> {
        let mut node = self.pointer(list).await?;
        for _ in 0..modules::MODULES_MAX {
            if node == list {
                break;
            }
            let address = modules::of_node(node);
            let bytes = match self.memory((address, modules::STRUCT)).await {
                Ok(bytes) => bytes,
                // Its last page may be the last one that is there.
                Err(_) => self.memory((address, modules::in_page(address))).await?,
            };
            let Some(header) = Header::parse(&bytes) else {
                break;
            };
            node = header.next;
            let mut tables = Vec::from_iter(header.core);
            if let Some(current) = header.current
                && let Ok(current) = self.memory(current).await
            {
                tables.extend(Table::parse(&current).filter(|it| Some(*it) != header.core));
            }
            let mut read = Vec::new();
            for Table { symbols, strings } in tables {
                if let Ok(symbols) = self.memory(symbols).await
                    && let Ok(strings) = self.memory(strings).await
                {
                    read.push((symbols, strings));
                }
            }
            found.add(header, &read);
        }
        Ok(())
    }

    async fn pointer(&mut self, address: u64) -> Result<u64> {
        let bytes = self.memory((address, 8)).await?;
        ring::word(&bytes, 0).ok_or_else(|| Error::host("QEMU gives no whole word of memory"))
    }

    /// A part of the guest's memory, at an address of its kernel's.
    async fn memory(&mut self, (address, length): ring::Part) -> Result<Vec<u8>> {
        let file = self.scratch().join("memory");
        let mut said = String::new();
        for cpu in 0..CPUS {
            // Not the command of QMP: its addresses have a sign before QEMU 9.1.
            let command = qmp::human_monitor_command {
                cpu_index: Some(cpu),
                command_line: format!("memsave {address:#x} {length} \"{}\"", file.display()),
            };
            let Ok(answer) = self.qmp().execute_within(command, ALIVE).await else {
                break;
            };
            let read = read_regular(&file, length as u64);
            let _ = std::fs::remove_file(&file);
            match read {
                Ok(bytes) if bytes.len() == length => return Ok(bytes),
                _ => said = answer,
            }
        }
        let what = format!("QEMU does not give {length} bytes of memory at {address:#x}");
        Err(Error::host(what).evidence(&said))
    }
}
