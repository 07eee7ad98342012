// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's taint flags: a second witness of what went wrong, for a console can be silenced.
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
}
