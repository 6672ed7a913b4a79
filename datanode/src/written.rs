//! Which blocks were written to since the namenode was last told: that renews the leases of their files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use ringfs_proto::ids::BlockId;

/// Blocks in one heartbeat, and blocks of closed pipelines that wait for one; who is left out is named by the next.
pub const WRITTEN_BLOCKS_MAX: usize = 4096;

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<BlockId, Arc<AtomicBool>>,
    closed: BTreeSet<BlockId>,
}

/// The blocks that are being written.
#[derive(Debug, Default)]
pub struct WrittenBlocks(Mutex<Inner>);

/// One block that is being written, until it is dropped.
#[derive(Debug)]
pub struct Mark {
    blocks: Arc<WrittenBlocks>,
    block: BlockId,
    is_written: Arc<AtomicBool>,
}

impl WrittenBlocks {
    /// A pipeline opens a block.
    pub fn open(self: &Arc<Self>, block: BlockId) -> Mark {
        let is_written = Arc::new(AtomicBool::new(true));
        self.0.lock().open.insert(block, is_written.clone());
        Mark { blocks: self.clone(), block, is_written }
    }

    /// Takes those that were written to since the last call, sorted, at most [`WRITTEN_BLOCKS_MAX`].
    pub fn take(&self) -> Vec<BlockId> {
        let mut inner = self.0.lock();
        let mut written = core::mem::take(&mut inner.closed);
        for (block, is_written) in &inner.open {
            if written.len() == WRITTEN_BLOCKS_MAX {
                break;
            }
            if is_written.swap(false, Ordering::Relaxed) {
                written.insert(*block);
            }
        }
        written.into_iter().collect()
    }
}

impl Mark {
    /// It was written to. One store: cheap enough for every group of packets.
    pub fn touch(&self) {
        self.is_written.store(true, Ordering::Relaxed);
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut inner = self.blocks.0.lock();
        // Another pipeline may have opened the block since.
        if inner.open.get(&self.block).is_some_and(|open| Arc::ptr_eq(open, &self.is_written)) {
            inner.open.remove(&self.block);
        }
        if self.is_written.load(Ordering::Relaxed) && inner.closed.len() < WRITTEN_BLOCKS_MAX {
            inner.closed.insert(self.block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_named_once_per_time_it_is_written_to() {
        let blocks = Arc::new(WrittenBlocks::default());
        let first = blocks.open(BlockId(2));
        let _other = blocks.open(BlockId(1));
        assert_eq!(blocks.take(), [BlockId(1), BlockId(2)]);
        assert!(blocks.take().is_empty());
        first.touch();
        assert_eq!(blocks.take(), [BlockId(2)]);
        first.touch();
        drop(first);
        assert_eq!(blocks.take(), [BlockId(2)], "closed since, but written to before");
        assert!(blocks.take().is_empty());
    }

    #[test]
    fn the_end_of_an_old_pipeline_does_not_hide_the_new_one() {
        let blocks = Arc::new(WrittenBlocks::default());
        let old = blocks.open(BlockId(1));
        let new = blocks.open(BlockId(1));
        drop(old);
        blocks.take();
        new.touch();
        assert_eq!(blocks.take(), [BlockId(1)]);
    }
}
