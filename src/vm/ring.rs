// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's log as it is in a guest's memory: what a guest that answers nothing has said last,
//! debug messages too. Pure.
//!
//! `kernel/printk/printk_ringbuffer.h`, of a 64-bit kernel, little endian, 5.10 or later. Whatever is
//! not as it must be there is left out: the guest may write to it meanwhile, and may lie.

use std::ops::Range;

use super::kernel_log::Record;

/// The variable that points to the ring (`kernel/printk/printk.c`).
pub const SYMBOL: &str = "prb";
/// Bytes of `struct printk_ringbuffer` that are read.
pub const HEAD: usize = 64;
/// Bytes of the first infos, of which their size is found.
pub const FIRST_INFOS: usize = INFOS_TRIED * INFO_MAX;

/// Bytes of `struct prb_desc`.
const DESC: usize = 24;
/// Bytes of `struct printk_info`, which depend on the configuration: 88 or 112 by now.
const INFO_MIN: usize = 64;
const INFO_MAX: usize = 256;
/// Infos that must have their own number for a size to be theirs.
const INFOS_TRIED: usize = 16;
/// Rings that are larger are not read: a guest may say anything.
const SIZE_BITS: Range<u32> = 10..25;
const COUNT_BITS: Range<u32> = 5..18;

/// Where the parts of the ring are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    descs: u64,
    infos: u64,
    count: usize,
    text: u64,
    size_bits: u32,
}

/// A part of the guest's memory: where it begins, and its bytes.
pub type Part = (u64, usize);

impl Ring {
    /// Reads `struct printk_ringbuffer`.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let is_pointer = |at: &usize| word(head, *at).is_some_and(|word| word >> 52 == 0xfff);
        // `last_finalized_seq` came with 6.8, before the text's ring.
        let text = [48, 56].into_iter().find(is_pointer)?;
        let (count_bits, size_bits) = (bits(head, 0)?, bits(head, text - 8)?);
        let possible = COUNT_BITS.contains(&count_bits) && SIZE_BITS.contains(&size_bits);
        if !(possible && is_pointer(&8) && is_pointer(&16)) {
            return None;
        }
        Some(Self {
            descs: word(head, 8)?,
            infos: word(head, 16)?,
            count: 1 << count_bits,
            text: word(head, text)?,
            size_bits,
        })
    }

    /// The first infos.
    pub fn first_infos(&self) -> Part {
        (self.infos, FIRST_INFOS)
    }

    /// The bytes of an info: with them, each of the first has its own number.
    pub fn info_size(&self, first: &[u8]) -> Option<usize> {
        let own = |size: usize, at: usize| {
            word(first, size * at).is_some_and(|seq| self.index(seq) == at)
        };
        let mut sizes = (INFO_MIN..=INFO_MAX).step_by(8);
        sizes.find(|size| (0..INFOS_TRIED.min(self.count)).all(|at| own(*size, at)))
    }

    /// The descriptors, the infos and the text.
    pub fn parts(&self, info_size: usize) -> [Part; 3] {
        [
            (self.descs, self.count * DESC),
            (self.infos, self.count * info_size),
            (self.text, 1 << self.size_bits),
        ]
    }

    /// The records in the parts, in their order.
    pub fn records(&self, info_size: usize, parts: &[Vec<u8>; 3]) -> Vec<Record> {
        let [descs, infos, text] = parts;
        let record = |at| self.record(at, info_size, descs, infos, text);
        let mut records: Vec<_> = (0..self.count).filter_map(record).collect();
        records.sort_by_key(|record| record.seq);
        records
    }

    fn record(
        &self,
        at: usize,
        info_size: usize,
        descs: &[u8],
        infos: &[u8],
        text: &[u8],
    ) -> Option<Record> {
        let desc = descs.get(at * DESC..(at + 1) * DESC)?;
        let info = infos.get(at * info_size..(at + 1) * info_size)?;
        let (state, seq) = (word(desc, 0)?, word(info, 0)?);
        // Committed or finalized, and in its place.
        let (is_whole, id) = (matches!(state >> 62, 1 | 2), state << 2 >> 2);
        if !is_whole || self.index(id) != at || self.index(seq) != at {
            return None;
        }
        let block = text.get(self.block(word(desc, 8)?, word(desc, 16)?)?)?;
        // It begins with the descriptor that it belongs to.
        let (owner, said) = block.split_at_checked(8)?;
        if word(owner, 0)? != id {
            return None;
        }
        let length = usize::from(u16::from_le_bytes(info.get(16..18)?.try_into().ok()?));
        let said = said.get(..length).unwrap_or(said);
        Some(Record {
            seq: Some(seq),
            level: Some(info.get(19)? >> 5),
            by_program: *info.get(18)? > 0,
            micros: Some(word(info, 8)? / 1000),
            text: String::from_utf8_lossy(said).into_owned(),
        })
    }

    /// Where a block of text is (`kernel/printk/printk_ringbuffer.c: get_data()`): one that has no
    /// room before the end of the ring is at its beginning.
    fn block(&self, begin: u64, next: u64) -> Option<Range<usize>> {
        let size = 1u64 << self.size_bits;
        let turn = |position: u64| position >> self.size_bits;
        // Positions begin below zero.
        let turns = (
            turn(begin) == turn(next),
            turn(begin.wrapping_add(size)) == turn(next),
        );
        let range = match (turns, begin % size, next % size) {
            ((true, _), begin, next) => begin..next,
            ((_, true), begin, 0) => begin..size,
            ((_, true), _, next) => 0..next,
            _ => return None,
        };
        // Records without text have odd positions.
        let is_block = begin.is_multiple_of(8) && range.start < range.end;
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        is_block.then_some(range)
    }

    /// The place of a number, which is that of its descriptor and its info.
    fn index(&self, number: u64) -> usize {
        usize::try_from(number % self.count as u64).unwrap_or_default()
    }
}

/// Where a symbol is, in the kernel's `System.map`.
pub fn address(system_map: &str, symbol: &str) -> Option<u64> {
    let ends = format!(" {symbol}");
    let line = system_map.lines().find(|line| line.ends_with(&ends))?;
    u64::from_str_radix(line.split(' ').next()?, 16).ok()
}

/// A word of memory.
pub fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

fn bits(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCS: u64 = 0xffff_ffff_8180_0000;
    const INFO: usize = 88;
    /// The first descriptor's number, whose upper two bits are not stored.
    const FIRST: u64 = (u64::MAX - 31) << 2 >> 2;

    /// A ring of 32 records and 1 KiB of text.
    fn head(since_6_8: bool) -> Vec<u8> {
        let mut words = vec![5, DESCS, DESCS + 0x1000, 0, 0];
        words.extend(since_6_8.then_some(40));
        words.extend([10, DESCS + 0x8000, 0u64.wrapping_sub(1024), 0]);
        words
            .iter()
            .flat_map(|word: &u64| word.to_le_bytes())
            .collect()
    }

    /// The parts of a ring with these texts; each is written where the one before it ends.
    fn parts(texts: &[&str]) -> [Vec<u8>; 3] {
        let (mut descs, mut infos, mut text) =
            (vec![0; 32 * DESC], vec![0; 32 * INFO], vec![0; 1024]);
        let mut position = 0u64.wrapping_sub(1024);
        for (seq, said) in texts.iter().enumerate() {
            let (at, id) = (seq % 32, (FIRST + seq as u64) << 2 >> 2);
            let length = 8 + said.len().next_multiple_of(8) as u64;
            let mut next = position.wrapping_add(length);
            let mut begin = (position % 1024) as usize;
            if position >> 10 != next >> 10 && !next.is_multiple_of(1024) {
                next = (next >> 10 << 10) + length;
                begin = 0;
            }
            let words = [id | 2 << 62, position, next];
            let words: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            descs[at * DESC..][..DESC].copy_from_slice(&words);
            let info = &mut infos[at * INFO..][..INFO];
            info[..8].copy_from_slice(&(seq as u64).to_le_bytes());
            info[8..16].copy_from_slice(&(seq as u64 * 1_000_500).to_le_bytes());
            info[16..18].copy_from_slice(&(said.len() as u16).to_le_bytes());
            info[19] = 7 << 5 | 1;
            text[begin..][..8].copy_from_slice(&id.to_le_bytes());
            text[begin + 8..][..said.len()].copy_from_slice(said.as_bytes());
            position = next;
        }
        [descs, infos, text]
    }

    #[test]
    fn a_ring_is_found_in_kernels_before_and_since_6_8() {
        let old = Ring::parse(&head(false)).unwrap();
        assert_eq!(Ring::parse(&head(true)).unwrap(), old);
        assert_eq!(old.first_infos(), (DESCS + 0x1000, FIRST_INFOS));
        assert_eq!(old.parts(INFO)[2], (DESCS + 0x8000, 1024));
        for (at, byte) in [(0, 40), (15, 0), (40, 40)] {
            let mut wrong = head(false);
            wrong[at] = byte;
            assert_eq!(Ring::parse(&wrong), None, "{at}");
        }
        assert_eq!(Ring::parse(&head(true)[..40]), None);
    }

    #[test]
    fn records_come_in_their_order_wherever_they_are() {
        let ring = Ring::parse(&head(true)).unwrap();
        // More than fit into the ring of text, and more than there are descriptors.
        let texts: Vec<_> = (0..45)
            .map(|n| format!("message {n}{}", " .".repeat(n % 7)))
            .collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let parts = parts(&texts);
        assert_eq!(ring.info_size(&parts[1]), Some(INFO));
        let records = ring.records(INFO, &parts);
        let last: Vec<_> = records.iter().map(|record| record.text.as_str()).collect();
        assert!(last.ends_with(&texts[25..]), "{last:?}");
        assert_eq!(
            records.last().unwrap().line(),
            "[    0.044022] message 44 . ."
        );
        assert_eq!(records.last().unwrap().level, Some(7));
    }

    #[test]
    fn what_is_not_whole_is_left_out() {
        let ring = Ring::parse(&head(true)).unwrap();
        let texts = ["zero", "one", "two", "three"];
        let said = |change: &dyn Fn(&mut [Vec<u8>; 3])| {
            let mut parts = parts(&texts);
            change(&mut parts);
            let records = ring.records(INFO, &parts);
            let texts: Vec<_> = records.into_iter().map(|record| record.text).collect();
            texts.join(" ")
        };
        assert_eq!(said(&|_| {}), "zero one two three");
        // Reserved; of another turn; without text; cut off; of another descriptor.
        assert_eq!(said(&|[descs, ..]| descs[7] = 0x3f), "one two three");
        assert_eq!(said(&|[_, infos, _]| infos[INFO] = 2), "zero two three");
        assert_eq!(
            said(&|[descs, ..]| descs[2 * DESC + 8] |= 1),
            "zero one three"
        );
        assert_eq!(said(&|[.., text]| text.truncate(40)), "zero one");
        assert_eq!(said(&|[.., text]| text[0] ^= 1), "one two three");
        assert_eq!(said(&|parts| *parts = Default::default()), "");
    }

    #[test]
    fn the_ring_is_where_the_map_says() {
        let map = "ffffffff8182c900 d my_prb\nffffffff8182c928 D prb\nffffffff8182c940 d x\n";
        assert_eq!(address(map, SYMBOL), Some(0xffff_ffff_8182_c928));
        let other = "ffffffffffffffff B The real System.map\n";
        assert_eq!(address(other, SYMBOL), None);
    }
}
