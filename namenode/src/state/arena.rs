//! A growing array of records with stable small indices and reuse of freed ones.
//!
//! Grows by whole chunks, so that a large namespace never copies itself and wastes at most one chunk.
//!
//! While a snapshot is taken, what a record was when it began is kept aside before it is changed for the first time,
//! whoever changes it: memory is bounded by what changes meanwhile.

use hashbrown::HashMap;

/// Index of a record in an arena.
pub type Slot = u32;

/// No record.
pub const NONE: Slot = u32::MAX;

const CHUNK_RECORDS: usize = 4096;

/// Records of one type.
#[derive(Debug)]
pub struct Arena<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<Slot>,
    kept: Option<Kept<T>>,
}

/// Records as they were when a snapshot began.
#[derive(Debug)]
struct Kept<T> {
    /// Slots at or above it were not there yet.
    end: Slot,
    /// `None` for a slot that was free.
    records: HashMap<Slot, Option<T>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), kept: None }
    }
}

impl<T: Clone> Arena<T> {
    /// Puts a record into the lowest chunk with room.
    ///
    /// # Panics
    /// Beyond 2^32 - 2 records.
    pub fn insert(&mut self, record: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            if let Some(kept) = self.kept.as_mut().filter(|kept| slot < kept.end) {
                // A slot that was freed since then has its record kept already.
                kept.records.entry(slot).or_insert(None);
            }
            *self.record(slot) = record;
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_RECORDS) {
            self.chunks.push(Vec::with_capacity(CHUNK_RECORDS));
        }
        let chunk_index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[chunk_index];
        chunk.push(record);
        let slot = chunk_index * CHUNK_RECORDS + chunk.len() - 1;
        Slot::try_from(slot).ok().filter(|slot| *slot != NONE).expect("fewer than 2^32 records")
    }

    /// Frees a record; its slot may be given to another.
    pub fn remove(&mut self, slot: Slot) {
        self.keep(slot);
        self.free.push(slot);
    }

    /// The record in a slot that is in use.
    pub fn get(&self, slot: Slot) -> &T {
        &self.chunks[slot as usize / CHUNK_RECORDS][slot as usize % CHUNK_RECORDS]
    }

    /// The record in a slot that is in use.
    pub fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.keep(slot);
        self.record(slot)
    }

    /// From now on, records are kept as they are now.
    pub fn begin_snapshot(&mut self) {
        self.kept = Some(Kept { end: self.end(), records: HashMap::new() });
    }

    /// What was kept is forgotten.
    pub fn end_snapshot(&mut self) {
        self.kept = None;
    }

    /// A record as it was when the snapshot began; `None` for a slot that was free, unless it is free still, in which
    /// case what it was left as.
    pub fn as_it_was(&self, slot: Slot) -> Option<&T> {
        match self.kept.as_ref().and_then(|kept| kept.records.get(&slot)) {
            Some(kept) => kept.as_ref(),
            None => Some(self.get(slot)),
        }
    }

    /// The slots that were ever given out are below this.
    pub fn end(&self) -> Slot {
        let before = self.chunks.len().saturating_sub(1) * CHUNK_RECORDS;
        (before + self.chunks.last().map_or(0, Vec::len)) as Slot
    }

    fn keep(&mut self, slot: Slot) {
        let Some(kept) = self.kept.as_mut().filter(|kept| slot < kept.end) else { return };
        let record = &self.chunks[slot as usize / CHUNK_RECORDS][slot as usize % CHUNK_RECORDS];
        kept.records.entry(slot).or_insert_with(|| Some(record.clone()));
    }

    fn record(&mut self, slot: Slot) -> &mut T {
        &mut self.chunks[slot as usize / CHUNK_RECORDS][slot as usize % CHUNK_RECORDS]
    }

    /// All records, freed ones as they were left.
    pub fn iter(&self) -> impl Iterator<Item = &T> + '_ {
        self.chunks.iter().flatten()
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.chunks.len() * CHUNK_RECORDS * size_of::<T>() + self.free.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_stable_and_reused() {
        let mut arena = Arena::default();
        let slots: Vec<Slot> = (0..10_000).map(|value| arena.insert(value)).collect();
        assert!(slots.iter().enumerate().all(|(value, slot)| *arena.get(*slot) == value));
        arena.remove(slots[5000]);
        assert_eq!(arena.insert(7), slots[5000]);
        assert_eq!(*arena.get(slots[5000]), 7);
    }

    #[test]
    fn a_snapshot_sees_what_was_there_when_it_began() {
        let mut arena = Arena::default();
        let slots: Vec<Slot> = (0..5).map(|value| arena.insert(value)).collect();
        arena.remove(slots[4]);
        arena.begin_snapshot();
        *arena.get_mut(slots[0]) = 10;
        *arena.get_mut(slots[0]) = 11;
        arena.remove(slots[1]);
        assert_eq!(arena.insert(12), slots[1]);
        assert_eq!(arena.insert(13), slots[4]);
        let new = arena.insert(14);
        let seen: Vec<Option<i32>> = slots.iter().map(|slot| arena.as_it_was(*slot).copied()).collect();
        assert_eq!(seen, [Some(0), Some(1), Some(2), Some(3), None]);
        assert_eq!((new, arena.end()), (5, 6));
        arena.end_snapshot();
        assert_eq!(arena.as_it_was(slots[0]), Some(&11));
    }
}
