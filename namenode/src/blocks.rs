//! The block map: which storage has which replica. Soft: learnt from reports, never logged.
//!
//! Indexed by the slots of [`crate::state`]. A committed block keeps only the storages whose replicas count; what is
//! known of open blocks, of replicas that are bad or doomed, and of replicas beyond the third stands aside. For each
//! storage there is a compressed set of the slots that it has replicas of, so that a datanode is forgotten, and a full
//! report compared, without looking at the blocks of others.

mod leaving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ringfs_proto::meta::membership::{FinalizedReplicaV1, ReplicaState, ReplicaV1};
use ringfs_proto::meta::namespace::BlockRefV1;
use roaring::RoaringBitmap;

use crate::state::Slot;

use leaving::Leaving;

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
    /// Checksums of replicas that were completed.
    pub crcs: BTreeMap<StorageIndex, FinalizedReplicaV1>,
}

/// What is wrong with a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its bytes do not match their checksums, or it has another length than the block.
    Corrupt,
    /// Its stamp is too old, or it was never finished.
    Outdated,
}

/// A replica that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// It is bad: kept until there are enough good ones.
    Bad {
        /// As it was reported.
        replica: BlockRefV1,
        /// Why.
        fault: Fault,
    },
    /// It shall be deleted, and counts no more, until its datanode says that it is gone.
    Doomed {
        /// As the datanode is told.
        replica: BlockRefV1,
        /// What was wrong with it; nothing if it was one too many.
        fault: Option<Fault>,
        /// Whether the command has left: from then on nothing but a report brings it back.
        is_sent: bool,
    },
}

impl Aside {
    fn is_corrupt(&self) -> bool {
        match self {
            Self::Bad { fault, .. } => *fault == Fault::Corrupt,
            Self::Doomed { fault, .. } => *fault == Some(Fault::Corrupt),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    storages: [StorageIndex; INLINE],
}

impl Default for Entry {
    fn default() -> Self {
        Self { storages: [FREE; INLINE] }
    }
}

/// All blocks.
#[derive(Debug, Default)]
pub struct BlockMap {
    entries: Vec<Entry>,
    more: BTreeMap<Slot, Vec<StorageIndex>>,
    open: BTreeMap<Slot, OpenBlock>,
    aside: BTreeMap<(Slot, StorageIndex), Aside>,
    /// The slots of which each storage has a replica, of whatever kind.
    by_storage: Vec<RoaringBitmap>,
    leaving: Leaving,
    corrupt_blocks: u64,
    doomed: u64,
}

impl BlockMap {
    /// A new open block.
    pub fn add(&mut self, slot: Slot, pipeline: Vec<StorageIndex>, promised_bytes: u64) {
        let index = slot as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry::default());
        }
        self.entries[index] = Entry::default();
        self.open.insert(slot, OpenBlock { pipeline, promised_bytes, ..OpenBlock::default() });
    }

    /// An open block gets a pipeline, as the one it had was forgotten by a restart.
    pub fn set_pipeline(&mut self, slot: Slot, pipeline: Vec<StorageIndex>, promised_bytes: u64) {
        let open = self.open.entry(slot).or_default();
        (open.pipeline, open.promised_bytes) = (pipeline, promised_bytes);
    }

    /// A block has its length: replicas that match it count from now on. Returns the storages that were to get one and
    /// have not reported it.
    pub fn commit(&mut self, slot: Slot, block: BlockRefV1) -> Vec<StorageIndex> {
        let OpenBlock { mut pipeline, replicas, .. } = self.open.remove(&slot).unwrap_or_default();
        for (storage, replica) in replicas {
            let is_leaving = self.leaving.contains(slot, storage);
            self.unmark(slot, storage);
            if is_leaving {
                continue;
            }
            match fault_of(&replica, block) {
                Some(fault) => self.set_bad(slot, storage, replica.block, fault),
                None if is_good(&replica, block) => self.insert(slot, storage),
                None => continue,
            }
            pipeline.retain(|other| *other != storage);
        }
        pipeline
    }

    /// A committed block is written again: its good replicas are what its next pipeline begins with.
    pub fn reopen(&mut self, slot: Slot, block: BlockRefV1) {
        let pipeline: Vec<StorageIndex> = self.storages(slot).collect();
        pipeline.iter().for_each(|storage| self.discount(slot, *storage));
        let replica = ReplicaV1 { block, state: ReplicaState::Finalized };
        let replicas = pipeline.iter().map(|storage| (*storage, replica)).collect();
        self.open.insert(slot, OpenBlock { pipeline, replicas, ..OpenBlock::default() });
    }

    /// A block is gone. Returns every storage that may have a replica.
    pub fn remove(&mut self, slot: Slot) -> BTreeSet<StorageIndex> {
        let mut storages: BTreeSet<StorageIndex> = self.all_storages(slot).collect();
        if let Some(open) = self.open.remove(&slot) {
            storages.extend(open.pipeline);
            storages.extend(open.replicas.into_keys());
        }
        let aside: Vec<StorageIndex> = self.aside(slot).map(|(storage, _)| storage).collect();
        for storage in aside {
            self.clear_aside(slot, storage);
            storages.insert(storage);
        }
        self.more.remove(&slot);
        self.entries[slot as usize] = Entry::default();
        storages.iter().for_each(|storage| self.unmark(slot, *storage));
        storages
    }

    /// A replica of an open block was reported.
    pub fn report_open(&mut self, slot: Slot, storage: StorageIndex, replica: ReplicaV1) {
        self.clear_aside(slot, storage);
        self.open.entry(slot).or_default().replicas.insert(storage, replica);
        self.mark(slot, storage);
    }

    /// A replica of an open block is complete, with this checksum.
    pub fn report_crc(&mut self, slot: Slot, storage: StorageIndex, finalized: FinalizedReplicaV1) {
        if let Some(open) = self.open.get_mut(&slot) {
            open.crcs.insert(storage, finalized);
        }
    }

    /// The checksum of an open block as its writer says that it is: that of all replicas which say one. Nothing when they
    /// differ: one of them is bad, and nobody knows yet which.
    pub fn crc(&self, slot: Slot, block: BlockRefV1) -> Option<u32> {
        let crcs = self.open.get(&slot)?.crcs.values().filter(|finalized| finalized.block == block);
        let mut crcs = crcs.map(|finalized| finalized.crc);
        let first = crcs.next()?;
        crcs.all(|crc| crc == first).then_some(first)
    }

    /// A good replica of a committed block was reported.
    pub fn insert(&mut self, slot: Slot, storage: StorageIndex) {
        self.clear_aside(slot, storage);
        self.mark(slot, storage);
        if self.all_storages(slot).any(|other| other == storage) {
            return;
        }
        match self.entries[slot as usize].storages.iter_mut().find(|place| **place == FREE) {
            Some(place) => *place = storage,
            None => self.more.entry(slot).or_default().push(storage),
        }
    }

    /// A storage has no replica of this block any more.
    pub fn forget(&mut self, slot: Slot, storage: StorageIndex) {
        if let Some(open) = self.open.get_mut(&slot) {
            open.replicas.remove(&storage);
        }
        self.clear_aside(slot, storage);
        self.discount(slot, storage);
        self.unmark(slot, storage);
    }

    /// A replica is bad: it does not count.
    pub fn set_bad(&mut self, slot: Slot, storage: StorageIndex, replica: BlockRefV1, fault: Fault) {
        self.forget(slot, storage);
        self.set_aside(slot, storage, Aside::Bad { replica, fault });
    }

    /// A replica of a committed block shall be deleted: it does not count from now on.
    pub fn doom(&mut self, slot: Slot, storage: StorageIndex, replica: BlockRefV1) {
        let fault = match self.aside.get(&(slot, storage)) {
            Some(Aside::Bad { fault, .. }) => Some(*fault),
            Some(Aside::Doomed { fault, .. }) => *fault,
            None => None,
        };
        self.forget(slot, storage);
        self.set_aside(slot, storage, Aside::Doomed { replica, fault, is_sent: false });
    }

    /// A doomed replica is bad too: it is not to be spared as a good one.
    pub fn set_fault(&mut self, slot: Slot, storage: StorageIndex, found: Fault) {
        let was_corrupt = self.has_corrupt(slot);
        if let Some(Aside::Doomed { fault, .. }) = self.aside.get_mut(&(slot, storage)) {
            *fault = Some(found);
        }
        self.count_corrupt(was_corrupt, slot);
    }

    /// A doomed replica has become good since it was found to be bad: a recovery has given it the stamp that it lacked. It may be
    /// spared as a good one.
    pub fn set_good(&mut self, slot: Slot, storage: StorageIndex, found: BlockRefV1) {
        let was_corrupt = self.has_corrupt(slot);
        if let Some(Aside::Doomed { replica, fault, .. }) = self.aside.get_mut(&(slot, storage)) {
            (*replica, *fault) = (found, None);
        }
        self.count_corrupt(was_corrupt, slot);
    }

    /// The command to delete a doomed replica leaves, or has to be sent once more.
    pub fn set_sent(&mut self, slot: Slot, storage: StorageIndex, sent: bool) {
        if let Some(Aside::Doomed { is_sent, .. }) = self.aside.get_mut(&(slot, storage)) {
            *is_sent = sent;
        }
    }

    /// A doomed replica whose command has not left is what it was before. `block` is the block as it was committed, unless
    /// it is open: a replica of what it was before somebody wrote behind it does not count.
    pub fn spare(&mut self, slot: Slot, storage: StorageIndex, block: Option<BlockRefV1>) {
        match self.aside.get(&(slot, storage)).copied() {
            Some(Aside::Doomed { fault: None, replica, .. }) if block != Some(replica) => {
                self.set_bad(slot, storage, replica, Fault::Outdated);
            }
            Some(Aside::Doomed { fault: None, .. }) => self.insert(slot, storage),
            Some(Aside::Doomed { fault: Some(fault), replica, .. }) => {
                self.set_bad(slot, storage, replica, fault);
            }
            _ => {}
        }
    }

    /// The storages with good replicas of a committed block.
    pub fn storages(&self, slot: Slot) -> impl Iterator<Item = StorageIndex> + '_ {
        self.all_storages(slot).filter(move |storage| !self.leaving.contains(slot, *storage))
    }

    /// How many good replicas a committed block has.
    pub fn count(&self, slot: Slot) -> usize {
        self.storages(slot).count()
    }

    /// The replicas of a block that do not count, by storage.
    pub fn aside(&self, slot: Slot) -> impl Iterator<Item = (StorageIndex, Aside)> + '_ {
        let range = self.aside.range((slot, 0)..=(slot, StorageIndex::MAX));
        let here = range.filter(move |((_, storage), _)| !self.leaving.contains(slot, *storage));
        here.map(|((_, storage), aside)| (*storage, *aside))
    }

    /// Where a reader may still look when no good replica is known: replicas of the block's stamp and length that were
    /// reported corrupt, of which parts may verify, and such that are to be deleted. Readers verify what they get.
    pub fn last_resort(&self, slot: Slot, block: BlockRefV1) -> Vec<StorageIndex> {
        let may_have = |aside: Aside| match aside {
            Aside::Bad { replica, .. } | Aside::Doomed { replica, .. } => replica == block,
        };
        self.aside(slot).filter(|(_, aside)| may_have(*aside)).map(|(storage, _)| storage).collect()
    }

    /// What is known of one replica that does not count.
    pub fn aside_on(&self, slot: Slot, storage: StorageIndex) -> Option<Aside> {
        self.aside.get(&(slot, storage)).copied()
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

    /// Blocks with a corrupt replica.
    pub fn corrupt_blocks(&self) -> u64 {
        self.corrupt_blocks
    }

    /// Replicas of committed blocks that shall be deleted.
    pub fn doomed_count(&self) -> u64 {
        self.doomed
    }

    /// The slots of the blocks of which a storage has a replica, of whatever kind.
    pub fn slots_of(&self, storage: StorageIndex) -> RoaringBitmap {
        self.by_storage.get(usize::from(storage)).cloned().unwrap_or_default()
    }

    /// One above the highest slot that was ever in use.
    pub fn slots_end(&self) -> Slot {
        self.entries.len() as Slot
    }

    /// Bytes of memory of the entries and of the sets per storage.
    pub fn memory_bytes(&self) -> usize {
        let sets: usize = self.by_storage.iter().map(RoaringBitmap::serialized_size).sum();
        self.entries.capacity() * size_of::<Entry>() + sets
    }

    fn all_storages(&self, slot: Slot) -> impl Iterator<Item = StorageIndex> + '_ {
        let inline = self.entries.get(slot as usize).map_or(&[][..], |entry| &entry.storages);
        let more = self.more.get(&slot).into_iter().flatten();
        inline.iter().chain(more).copied().filter(|storage| *storage != FREE)
    }

    /// A good replica counts no more.
    fn discount(&mut self, slot: Slot, storage: StorageIndex) {
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
    }

    fn mark(&mut self, slot: Slot, storage: StorageIndex) {
        let index = usize::from(storage);
        if index >= self.by_storage.len() {
            self.by_storage.resize_with(index + 1, RoaringBitmap::new);
        }
        self.by_storage[index].insert(slot);
        self.leaving.take_back(slot, storage);
    }

    fn unmark(&mut self, slot: Slot, storage: StorageIndex) {
        if let Some(slots) = self.by_storage.get_mut(usize::from(storage)) {
            slots.remove(slot);
        }
        self.leaving.take_back(slot, storage);
    }

    fn set_aside(&mut self, slot: Slot, storage: StorageIndex, aside: Aside) {
        self.mark(slot, storage);
        let was_corrupt = self.has_corrupt(slot);
        self.aside.insert((slot, storage), aside);
        self.doomed += u64::from(matches!(aside, Aside::Doomed { .. }));
        self.count_corrupt(was_corrupt, slot);
    }

    fn clear_aside(&mut self, slot: Slot, storage: StorageIndex) {
        let was_corrupt = self.has_corrupt(slot);
        if let Some(aside) = self.aside.remove(&(slot, storage)) {
            self.doomed -= u64::from(matches!(aside, Aside::Doomed { .. }));
            self.count_corrupt(was_corrupt, slot);
        }
    }

    fn has_corrupt(&self, slot: Slot) -> bool {
        self.aside.range((slot, 0)..=(slot, StorageIndex::MAX)).any(|(_, aside)| aside.is_corrupt())
    }

    fn count_corrupt(&mut self, was_corrupt: bool, slot: Slot) {
        let is_corrupt = self.has_corrupt(slot);
        self.corrupt_blocks += u64::from(is_corrupt);
        self.corrupt_blocks -= u64::from(was_corrupt);
    }
}

/// Whether a replica is a complete copy of a block.
pub fn is_good(replica: &ReplicaV1, block: BlockRefV1) -> bool {
    replica.state == ReplicaState::Finalized && replica.block == block
}

/// What is wrong with a replica of a committed block; nothing if it is good, or may become so by itself.
///
/// HDFS: `BlockManager.checkReplicaCorrupt`.
pub fn fault_of(replica: &ReplicaV1, block: BlockRefV1) -> Option<Fault> {
    match replica.state {
        ReplicaState::Temporary => None,
        _ if replica.block.stamp < block.stamp => Some(Fault::Outdated),
        ReplicaState::Finalized => (replica.block != block).then_some(Fault::Corrupt),
        // Cut by a restart: it grows no more.
        ReplicaState::WaitingForRecovery => Some(Fault::Outdated),
        // Its last packet may be on the way.
        ReplicaState::BeingWritten => None,
    }
}
