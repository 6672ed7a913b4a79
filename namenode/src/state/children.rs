//! The entries of a directory: slots of inodes in leaves sorted by name.

use super::arena::Slot;

/// Entries of a leaf before it is split in two.
const LEAF_ENTRIES_MAX: usize = 512;

/// Entries of one directory. Names are not kept here: every call is told how to find them.
#[derive(Debug, Clone, Default)]
pub struct Children {
    leaves: Vec<Vec<Slot>>,
}

impl Children {
    /// A directory with these entries, which are sorted by name.
    pub fn from_sorted(slots: &[Slot]) -> Self {
        Self { leaves: slots.chunks(LEAF_ENTRIES_MAX).map(<[Slot]>::to_vec).collect() }
    }

    /// The entry called `name`.
    pub fn find<'a>(&self, name: &[u8], name_of: impl Fn(Slot) -> &'a [u8]) -> Option<Slot> {
        let leaf = self.leaves.get(self.leaf_of(name, &name_of))?;
        let at = leaf.binary_search_by(|slot| name_of(*slot).cmp(name)).ok()?;
        leaf.get(at).copied()
    }

    /// Adds an entry whose name is not there yet.
    pub fn insert<'a>(&mut self, slot: Slot, name: &[u8], name_of: impl Fn(Slot) -> &'a [u8]) {
        let index = self.leaf_of(name, &name_of);
        if index == self.leaves.len() {
            self.leaves.push(Vec::new());
        }
        let leaf = &mut self.leaves[index];
        let at = leaf.partition_point(|other| name_of(*other) < name);
        leaf.insert(at, slot);
        if leaf.len() > LEAF_ENTRIES_MAX {
            // Names that arrive in order leave full leaves behind; others are split in the middle.
            let keep = if at + 1 == leaf.len() { LEAF_ENTRIES_MAX } else { leaf.len() / 2 };
            let tail = leaf.split_off(keep);
            self.leaves.insert(index + 1, tail);
        }
    }

    /// Removes the entry called `name`, which is there.
    pub fn remove<'a>(&mut self, name: &[u8], name_of: impl Fn(Slot) -> &'a [u8]) {
        let index = self.leaf_of(name, &name_of);
        let leaf = &mut self.leaves[index];
        let at = leaf.partition_point(|other| name_of(*other) < name);
        leaf.remove(at);
        if leaf.is_empty() {
            self.leaves.remove(index);
        }
    }

    /// Removes the last entry.
    pub fn pop(&mut self) -> Option<Slot> {
        let slot = self.leaves.last_mut()?.pop();
        if self.leaves.last().is_some_and(Vec::is_empty) {
            self.leaves.pop();
        }
        slot
    }

    /// The entries after `name`, in order; all for an empty name.
    pub fn after<'a>(&self, name: &[u8], name_of: impl Fn(Slot) -> &'a [u8]) -> Entries<'_> {
        let index = self.leaf_of(name, &name_of);
        let at = self.leaves.get(index).map_or(0, |leaf| leaf.partition_point(|slot| name_of(*slot) <= name));
        let first = self.leaves.get(index).map_or(&[][..], |leaf| &leaf[at..]);
        Entries { first: first.iter(), rest: self.leaves.get(index + 1..).unwrap_or_default().iter() }
    }

    /// How many entries come after `name`.
    pub fn count_after<'a>(&self, name: &[u8], name_of: impl Fn(Slot) -> &'a [u8]) -> usize {
        let index = self.leaf_of(name, &name_of);
        let at = self.leaves.get(index).map_or(0, |leaf| leaf.partition_point(|slot| name_of(*slot) <= name));
        self.leaves.iter().skip(index).map(Vec::len).sum::<usize>() - at
    }

    /// Bytes of memory besides this struct.
    pub fn memory_bytes(&self) -> usize {
        let entries: usize = self.leaves.iter().map(|leaf| leaf.capacity() * size_of::<Slot>()).sum();
        self.leaves.capacity() * size_of::<Vec<Slot>>() + entries
    }

    /// The leaf in which `name` is or belongs.
    fn leaf_of<'a>(&self, name: &[u8], name_of: impl Fn(Slot) -> &'a [u8]) -> usize {
        let begins_at_or_before =
            |leaf: &Vec<Slot>| leaf.first().is_some_and(|first| name_of(*first) <= name);
        self.leaves.partition_point(begins_at_or_before).saturating_sub(1)
    }
}

/// Entries of a directory, in order.
#[derive(Debug, Clone, Default)]
pub struct Entries<'a> {
    first: core::slice::Iter<'a, Slot>,
    rest: core::slice::Iter<'a, Vec<Slot>>,
}

impl Iterator for Entries<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        loop {
            if let Some(slot) = self.first.next() {
                return Some(*slot);
            }
            self.first = self.rest.next()?.iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_sorted_through_splits_and_removals() {
        let names: Vec<String> =
            (0..3000u32).map(|i| format!("n{:08x}", i.wrapping_mul(0x9e37_79b9))).collect();
        let name_of = |slot: Slot| names[slot as usize].as_bytes();
        let mut children = Children::default();
        for slot in 0..3000 {
            children.insert(slot, name_of(slot), name_of);
        }
        let mut sorted: Vec<Slot> = (0..3000).collect();
        sorted.sort_by_key(|slot| name_of(*slot));
        assert_eq!(children.after(b"", name_of).collect::<Vec<_>>(), sorted);
        let middle = name_of(sorted[1499]);
        assert_eq!(children.after(middle, name_of).collect::<Vec<_>>(), sorted[1500..]);
        assert_eq!(children.count_after(middle, name_of), 1500);
        assert_eq!(children.after(b"", name_of).count(), 3000);
        for slot in (0..3000).step_by(2) {
            children.remove(name_of(slot), name_of);
        }
        assert!((0..3000).all(|slot| children.find(name_of(slot), name_of).is_some() == (slot % 2 == 1)));
        assert_eq!(children.find(b"absent", name_of), None);
        let popped: Vec<Slot> = std::iter::from_fn(|| children.pop()).collect();
        sorted.retain(|slot| slot % 2 == 1);
        assert!(popped.iter().eq(sorted.iter().rev()));
    }
}
