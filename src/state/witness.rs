// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent says of the guest beside the state that is compared: the kernel's taint flags, a
//! second witness of what went wrong, for a console can be silenced; and whether the disk is full.
//! Pure. See `Documentation/admin-guide/tainted-kernels.rst`.

/// The flags that a kernel sets when something has gone wrong; not those that say what was loaded.
const COMPLAINTS: [(u32, &str); 5] = [
    (4, "M: a machine check"),
    (5, "B: a bad page"),
    (7, "D: an oops"),
    (9, "W: a warning"),
    (14, "L: a soft lockup"),
];

/// The complaints in the agent's `state` reply, as `W: a warning`.
pub fn complaints(dump: &str) -> Vec<&'static str> {
    let tainted = dump
        .lines()
        .find_map(|line| line.strip_prefix("tainted\t")?.parse::<u64>().ok())
        .unwrap_or(0);
    let set = |(bit, name): &(u32, &'static str)| (tainted >> bit & 1 == 1).then_some(*name);
    COMPLAINTS.iter().filter_map(set).collect()
}

/// Bytes that every write of a step goes into.
const FULL: u64 = 64 << 10;

/// Whether the guest's disk, which is memory, is full according to the agent's `state` reply.
pub fn disk_is_full(dump: &str) -> bool {
    let mut free = dump.lines().filter_map(|line| line.strip_prefix("disk\t"));
    let free = free.next().and_then(|bytes| bytes.parse::<u64>().ok());
    free.is_some_and(|free| free < FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_no_complaint() {
        // K, E and O: a livepatch, without a signature, from outside the tree.
        assert_eq!(complaints("tainted\t45056\n"), [""; 0]);
        assert_eq!(
            complaints("module\tx\ntainted\t45696\n"),
            ["D: an oops", "W: a warning"]
        );
        assert_eq!(complaints("tainted\t-\n"), [""; 0]);
    }

    #[test]
    fn a_disk_of_unknown_size_is_not_full() {
        assert!(disk_is_full("tainted\t0\ndisk\t0\n"));
        for dump in ["disk\t100000000\n", "disk\t-\n", "", "module\tdisk\t0\n"] {
            assert!(!disk_is_full(dump), "{dump}");
        }
    }
}
