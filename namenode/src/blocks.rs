//! The block map: which storage has which replica. Soft: learnt from reports, never logged.
//!
//! Indexed by the slots of [`crate::state`]. A committed block keeps only the storages whose replicas count; what is
//! known of open blocks, of replicas that do not match, and of replicas beyond the third stands aside.

use std::collections::{BTreeMap, BTreeSet};

use ringfs_proto::meta::membership::{ReplicaState, ReplicaV1};
use ringfs_proto::meta::namespace::BlockRefV1;

use crate::state::Slot;

/// Number of a storage, see [`crate::datanodes`].
pub type StorageIndex = u16;

const INLINE: usize = 3;
const FREE: StorageIndex = StorageIndex::MAX;

/// A block that is being written.
#[derive(Debug, Clone, Default)]
pub struct OpenBlock {
    /// Where it was told to go, in the order of the pipeline.
    pub pipeline: Vec<StorageIndex>,
    /// Bytes that were promised to it on each of these storages.
    pub promised_bytes: u64,
    /// What was reported.
    pub replicas: BTreeMap<StorageIndex, ReplicaV1>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    storages: [StorageIndex; INLINE],
    is_committed: bool,
}

impl Default for Entry {
    fn default() -> Self {
        Self { storages: [FREE; INLINE], is_committed: false }
    }
}

/// All blocks.
#[derive(Debug, Default)]
pub struct BlockMap {
    entries: Vec<Entry>,
    more: BTreeMap<Slot, Vec<StorageIndex>>,
    open: BTreeMap<Slot, OpenBlock>,
    corrupt: BTreeSet<(Slot, StorageIndex)>,
    reported: u64,
}

impl BlockMap {
    /// A new open block.
    pub fn add(&mut self, slot: Slot, pipeline: Vec<StorageIndex>, promised_bytes: u64) {
        let index = slot as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry::default());
        }
        self.entries[index] = Entry::default();
        self.open.insert(slot, OpenBlock { pipeline, promised_bytes, replicas: BTreeMap::new() });
    }

    /// An open block gets a pipeline, as the one it had was forgotten by a restart.
    pub fn set_pipeline(&mut self, slot: Slot, pipeline: Vec<StorageIndex>, promised_bytes: u64) {
        let open = self.open.entry(slot).or_default();
        (open.pipeline, open.promised_bytes) = (pipeline, promised_bytes);
    }

    /// A block has its length: replicas that match it count from now on.
    pub fn commit(&mut self, slot: Slot, block: BlockRefV1) {
        self.entries[slot as usize].is_committed = true;
        let open = self.open.remove(&slot).unwrap_or_default();
        for (storage, replica) in open.replicas {
            if is_good(&replica, block) {
                self.insert(slot, storage);
            } else if replica.state == ReplicaState::Finalized {
                self.mark_corrupt(slot, storage);
            }
        }
    }

    /// A block is gone. Returns every storage that may have a replica.
    pub fn remove(&mut self, slot: Slot) -> BTreeSet<StorageIndex> {
        let mut storages: BTreeSet<StorageIndex> = self.storages(slot).collect();
        if !storages.is_empty() {
            self.reported -= 1;
        }
        if let Some(open) = self.open.remove(&slot) {
            storages.extend(open.pipeline);
            storages.extend(open.replicas.into_keys());
        }
        self.more.remove(&slot);
        let corrupt: Vec<_> = self.corrupt.range((slot, 0)..=(slot, StorageIndex::MAX)).copied().collect();
        for key in corrupt {
            self.corrupt.remove(&key);
            storages.insert(key.1);
        }
        self.entries[slot as usize] = Entry::default();
        storages
    }

    /// A replica of an open block was reported.
    pub fn report_open(&mut self, slot: Slot, storage: StorageIndex, replica: ReplicaV1) {
        self.open.entry(slot).or_default().replicas.insert(storage, replica);
    }

    /// A good replica of a committed block was reported.
    pub fn insert(&mut self, slot: Slot, storage: StorageIndex) {
        self.corrupt.remove(&(slot, storage));
        if self.storages(slot).any(|other| other == storage) {
            return;
        }
        if self.count(slot) == 0 {
            self.reported += 1;
        }
        match self.entries[slot as usize].storages.iter_mut().find(|place| **place == FREE) {
            Some(place) => *place = storage,
            None => self.more.entry(slot).or_default().push(storage),
        }
    }

    /// A storage has no good replica of this block any more.
    pub fn forget(&mut self, slot: Slot, storage: StorageIndex) {
        if let Some(open) = self.open.get_mut(&slot) {
            open.replicas.remove(&storage);
        }
        self.corrupt.remove(&(slot, storage));
        let before = self.count(slot);
        for place in &mut self.entries[slot as usize].storages {
            if *place == storage {
                *place = FREE;
            }
        }
        if let Some(more) = self.more.get_mut(&slot) {
            more.retain(|other| *other != storage);
            if more.is_empty() {
                self.more.remove(&slot);
            }
        }
        if before > 0 && self.count(slot) == 0 {
            self.reported -= 1;
        }
    }

    /// A replica of a committed block is bad: it does not count.
    pub fn mark_corrupt(&mut self, slot: Slot, storage: StorageIndex) {
        self.forget(slot, storage);
        self.corrupt.insert((slot, storage));
    }

    /// The storages with good replicas of a committed block.
    pub fn storages(&self, slot: Slot) -> impl Iterator<Item = StorageIndex> + '_ {
        let inline = self.entries.get(slot as usize).map_or(&[][..], |entry| &entry.storages);
        let more = self.more.get(&slot).into_iter().flatten();
        inline.iter().chain(more).copied().filter(|storage| *storage != FREE)
    }

    /// How many good replicas a committed block has.
    pub fn count(&self, slot: Slot) -> usize {
        self.storages(slot).count()
    }

    /// What is known of an open block.
    pub fn open(&self, slot: Slot) -> Option<&OpenBlock> {
        self.open.get(&slot)
    }

    /// How many replicas of an open block are finalized as its writer says.
    pub fn finalized(&self, slot: Slot, block: BlockRefV1) -> usize {
        let open = self.open.get(&slot);
        open.map_or(0, |open| open.replicas.values().filter(|replica| is_good(replica, block)).count())
    }

    /// Committed blocks with at least one good replica.
    pub fn reported(&self) -> u64 {
        self.reported
    }

    /// Bad replicas.
    pub fn corrupt_count(&self) -> u64 {
        self.corrupt.len() as u64
    }

    /// The blocks of which a storage has a replica, of whatever state.
    pub fn slots_of(&self, storage: StorageIndex) -> BTreeSet<Slot> {
        let committed =
            (0..self.entries.len() as Slot).filter(|slot| self.storages(*slot).any(|other| other == storage));
        let open =
            self.open.iter().filter(|(_, open)| open.replicas.contains_key(&storage)).map(|(slot, _)| *slot);
        let corrupt = self.corrupt.iter().filter(|(_, other)| *other == storage).map(|(slot, _)| *slot);
        committed.chain(open).chain(corrupt).collect()
    }

    /// Bytes of memory of the entries.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

/// Whether a replica is a complete copy of a block.
pub fn is_good(replica: &ReplicaV1, block: BlockRefV1) -> bool {
    replica.state == ReplicaState::Finalized && replica.block == block
}

#[cfg(test)]
mod tests {
    use ringfs_proto::ids::{BlockId, Stamp};

    use super::*;

    fn block(length: u64) -> BlockRefV1 {
        BlockRefV1 { block: BlockId(1), stamp: Stamp(1), length }
    }

    fn replica(length: u64, state: ReplicaState) -> ReplicaV1 {
        ReplicaV1 { block: block(length), state }
    }

    #[test]
    fn only_finalized_replicas_of_the_committed_length_count() {
        let mut map = BlockMap::default();
        map.add(0, vec![1, 2, 3], 0);
        map.report_open(0, 1, replica(10, ReplicaState::Finalized));
        map.report_open(0, 2, replica(9, ReplicaState::Finalized));
        map.report_open(0, 3, replica(10, ReplicaState::BeingWritten));
        assert_eq!(map.finalized(0, block(10)), 1);
        map.commit(0, block(10));
        assert_eq!(map.storages(0).collect::<Vec<_>>(), [1]);
        assert_eq!((map.reported(), map.corrupt_count()), (1, 1));
    }

    #[test]
    fn more_than_three_replicas_are_kept_and_all_are_told_of_a_removal() {
        let mut map = BlockMap::default();
        map.add(0, Vec::new(), 0);
        map.commit(0, block(10));
        for storage in 1..=5 {
            map.insert(0, storage);
            map.insert(0, storage);
        }
        assert_eq!(map.count(0), 5);
        map.mark_corrupt(0, 2);
        map.forget(0, 5);
        assert_eq!(map.count(0), 3);
        assert_eq!(map.slots_of(4), BTreeSet::from([0]));
        assert_eq!(map.remove(0), BTreeSet::from([1, 2, 3, 4]));
        assert_eq!((map.reported(), map.corrupt_count(), map.count(0)), (0, 0, 0));
    }
}
