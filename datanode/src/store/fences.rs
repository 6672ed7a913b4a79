//! Fences of blocks that are not here: a writer that is late is refused.
//!
//! A block recovery that finds no replica on a datanode goes by that: the block may be taken back, or get a length without
//! this datanode. A writer that had been given the block before and opens its pipeline only now would have bytes
//! acknowledged that no file has. So what was asked for by a recovery is remembered, and a new replica under an older stamp
//! is refused; the writer asks the namenode for another block, which knows whether it may have one.
//!
//! A restart forgets what was remembered. Instead, the namenode says at registration which stamp it gave out last: what
//! was given out before this process came is refused too. So is, when there are too many fences, what is older than the
//! ones that are forgotten. Stamps never come twice, so nobody is kept out for good.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use ringfs_proto::ids::{BlockId, Stamp};

/// Blocks that are remembered.
const FENCES_MAX: usize = 65_536;

#[derive(Debug, Default)]
struct Inner {
    has_begun: bool,
    /// The lowest stamp that a new replica of any block may have.
    floor: Stamp,
    /// The lowest stamp that a new replica of a block may have.
    by_block: BTreeMap<BlockId, Stamp>,
    by_stamp: BTreeSet<(Stamp, BlockId)>,
}

/// The fences of a datanode.
#[derive(Debug, Default)]
pub struct Fences(Mutex<Inner>);

impl Fences {
    /// This process has joined: stamps up to `last` were given out before. Only the first call counts: what comes later is
    /// remembered.
    pub fn begin(&self, last: Stamp) {
        let mut inner = self.0.lock();
        if !std::mem::replace(&mut inner.has_begun, true) {
            inner.floor = inner.floor.max(Stamp(last.0.saturating_add(1)));
        }
    }

    /// A recovery has asked for a block that is not here.
    pub fn add(&self, block: BlockId, stamp: Stamp) {
        let mut inner = self.0.lock();
        let before = inner.by_block.get(&block).copied();
        if before.is_some_and(|before| before >= stamp) {
            return;
        }
        if let Some(before) = before {
            inner.by_stamp.remove(&(before, block));
        }
        inner.by_block.insert(block, stamp);
        inner.by_stamp.insert((stamp, block));
        while inner.by_stamp.len() > FENCES_MAX {
            let Some((stamp, block)) = inner.by_stamp.pop_first() else { return };
            inner.by_block.remove(&block);
            inner.floor = inner.floor.max(stamp);
        }
    }

    /// The lowest stamp that a new replica of a block may have.
    pub fn floor_of(&self, block: BlockId) -> Stamp {
        let inner = self.0.lock();
        inner.by_block.get(&block).map_or(inner.floor, |stamp| inner.floor.max(*stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_fence_of_a_block_counts() {
        let fences = Fences::default();
        fences.add(BlockId(1), Stamp(5));
        fences.add(BlockId(1), Stamp(9));
        fences.add(BlockId(1), Stamp(7));
        assert_eq!((fences.floor_of(BlockId(1)), fences.floor_of(BlockId(2))), (Stamp(9), Stamp(0)));
    }

    #[test]
    fn what_was_given_out_before_the_process_came_is_refused_and_only_that() {
        let fences = Fences::default();
        fences.begin(Stamp(20));
        fences.begin(Stamp(40));
        assert_eq!(fences.floor_of(BlockId(1)), Stamp(21));
    }

    #[test]
    fn what_is_forgotten_is_refused_for_all_blocks() {
        let fences = Fences::default();
        for number in 1..=FENCES_MAX as u64 + 10 {
            fences.add(BlockId(number), Stamp(100 + number));
        }
        let inner = fences.0.lock();
        assert_eq!((inner.by_block.len(), inner.by_stamp.len()), (FENCES_MAX, FENCES_MAX));
        assert_eq!(inner.floor, Stamp(110), "as high as the highest of those that are forgotten");
    }
}
