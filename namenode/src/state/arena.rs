//! A growing array of records with stable small indices and reuse of freed ones.
//!
//! Grows by whole chunks, so that a large namespace never copies itself and wastes at most one chunk.

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
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    /// Puts a record into the lowest chunk with room.
    ///
    /// # Panics
    /// Beyond 2^32 - 2 records.
    pub fn insert(&mut self, record: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            *self.get_mut(slot) = record;
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
        self.free.push(slot);
    }

    /// The record in a slot that is in use.
    pub fn get(&self, slot: Slot) -> &T {
        &self.chunks[slot as usize / CHUNK_RECORDS][slot as usize % CHUNK_RECORDS]
    }

    /// The record in a slot that is in use.
    pub fn get_mut(&mut self, slot: Slot) -> &mut T {
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
}
