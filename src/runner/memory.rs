// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory the lab and its guests take together.

use std::fs;
use std::time::Duration;

use crate::process;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// What a guest of 256 MiB takes on the host once it has booted, with QEMU's own: measured at 150
/// MiB under TCG on both architectures, and a margin. One with more is said to need it.
const GUEST_MIB: u64 = 250;

/// Watches without end; `peak` holds the most so far, in MiB.
pub(super) async fn watch(peak: &mut u64) {
    loop {
        *peak = (*peak).max(now_mib());
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What this process and the leaders of its children's groups have for themselves, in MiB. Pages
/// of files are left out: guests of one kernel share them.
fn now_mib() -> u64 {
    let mut kib = own_kib("self");
    for group in process::groups() {
        kib += own_kib(&group.to_string());
    }
    kib / 1024
}

fn own_kib(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    field_kib(&status, "RssAnon:") + field_kib(&status, "RssShmem:")
}

/// `RssAnon:     1234 kB` → 1234.
fn field_kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// How many guests with so many MiB the free memory is enough for.
pub fn guests_that_fit(mib: u32) -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free_mib = field_kib(&meminfo, "MemAvailable:") / 1024;
    let guest = match mib {
        0..=256 => GUEST_MIB,
        more => u64::from(more),
    };
    usize::try_from(free_mib / guest)
        .unwrap_or(usize::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file_is_read() {
        let status = "VmRSS:\t  300 kB\nRssAnon:\t  1234 kB\nRssFile:\t 9 kB\n";
        assert_eq!(field_kib(status, "RssAnon:"), 1234);
        assert_eq!(field_kib(status, "RssShmem:"), 0);
        assert!(now_mib() < 10_000);
    }
}
