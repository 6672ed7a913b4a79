//! Replicas that count no more and are not forgotten yet: a lost datanode had them, or a full report did not name them.
//!
//! They stop counting at once, whatever their number; the block map forgets them in turns of bounded length.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::{BlockMap, StorageIndex};
use crate::state::Slot;

/// Which replicas, by storage.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    slots: BTreeMap<StorageIndex, RoaringBitmap>,
}

impl Leaving {
    /// Whether a replica is one of them.
    pub(super) fn contains(&self, slot: Slot, storage: StorageIndex) -> bool {
        !self.slots.is_empty() && self.slots.get(&storage).is_some_and(|slots| slots.contains(slot))
    }

    /// More was heard of a replica.
    pub(super) fn take_back(&mut self, slot: Slot, storage: StorageIndex) {
        if self.slots.is_empty() {
            return;
        }
        if let Some(slots) = self.slots.get_mut(&storage) {
            slots.remove(slot);
            if slots.is_empty() {
                self.slots.remove(&storage);
            }
        }
    }
}

impl BlockMap {
    /// These replicas of a storage count no more.
    pub fn begin_leaving(&mut self, storage: StorageIndex, slots: RoaringBitmap) {
        if !slots.is_empty() {
            *self.leaving.slots.entry(storage).or_default() |= slots;
        }
    }

    /// A storage is back before all of its replicas were forgotten: the others count again.
    pub fn keep(&mut self, storage: StorageIndex) {
        self.leaving.slots.remove(&storage);
    }

    /// Forgets at most `count` replicas that count no more; returns their slots, to be judged again.
    pub fn forget_leaving(&mut self, count: usize) -> Vec<Slot> {
        let mut forgotten = Vec::new();
        while forgotten.len() < count {
            let Some((&storage, slots)) = self.leaving.slots.first_key_value() else { break };
            let turn: Vec<Slot> = slots.iter().take(count - forgotten.len()).collect();
            turn.iter().for_each(|slot| self.forget(*slot, storage));
            forgotten.extend(turn);
        }
        forgotten
    }

    /// Replicas that count no more and are not forgotten yet.
    pub fn leaving_count(&self) -> u64 {
        self.leaving.slots.values().map(RoaringBitmap::len).sum()
    }
}
