//! From a sequential 64-bit id to a slot: 4 bytes per id that is in use, for ids that are never reused.
//!
//! Ids come from the log in order, so the map is an array of pages; a page whose ids are all gone is freed.

use super::arena::{NONE, Slot};

const PAGE_IDS: u64 = 1024;

#[derive(Debug)]
struct Page {
    used: u32,
    slots: [Slot; PAGE_IDS as usize],
}

/// Slots by id.
#[derive(Debug, Default)]
pub struct IdMap {
    pages: Vec<Option<Box<Page>>>,
}

impl IdMap {
    /// The slot of an id, if it is in use.
    pub fn get(&self, id: u64) -> Option<Slot> {
        let page = self.pages.get(usize::try_from(id / PAGE_IDS).ok()?)?.as_ref()?;
        Some(page.slots[(id % PAGE_IDS) as usize]).filter(|slot| *slot != NONE)
    }

    /// Adds an id that is not in use.
    pub fn insert(&mut self, id: u64, slot: Slot) {
        let index = usize::try_from(id / PAGE_IDS).expect("ids fit in memory");
        if index >= self.pages.len() {
            self.pages.resize_with(index + 1, || None);
        }
        let empty = || Box::new(Page { used: 0, slots: [NONE; PAGE_IDS as usize] });
        let page = self.pages[index].get_or_insert_with(empty);
        let place = &mut page.slots[(id % PAGE_IDS) as usize];
        assert_eq!(*place, NONE, "id {id} is in use");
        *place = slot;
        page.used += 1;
    }

    /// Makes room for ids up to this one, so that adding them copies nothing.
    pub fn reserve(&mut self, last: u64) {
        let pages = usize::try_from(last / PAGE_IDS + 1).expect("ids fit in memory");
        self.pages.reserve(pages.saturating_sub(self.pages.len()));
    }

    /// Removes an id that is in use.
    pub fn remove(&mut self, id: u64) {
        let index = (id / PAGE_IDS) as usize;
        let page = self.pages[index].as_mut().expect("the id is in use");
        page.slots[(id % PAGE_IDS) as usize] = NONE;
        page.used -= 1;
        if page.used == 0 {
            self.pages[index] = None;
        }
    }

    /// Ids and slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let pages = self.pages.iter().enumerate().filter_map(|(index, page)| Some((index, page.as_ref()?)));
        pages.flat_map(|(index, page)| {
            let ids = (index as u64 * PAGE_IDS..).zip(page.slots.iter().copied());
            ids.filter(|(_, slot)| *slot != NONE)
        })
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        self.pages.capacity() * size_of::<Option<Box<Page>>>() + pages * size_of::<Page>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_and_go_and_pages_are_freed() {
        let mut map = IdMap::default();
        for id in 1..5000 {
            map.insert(id, id as Slot * 2);
        }
        assert_eq!(map.get(4999), Some(9998));
        assert_eq!(map.get(5000), None);
        assert_eq!(map.get(u64::MAX), None);
        let full = map.memory_bytes();
        for id in 1..4990 {
            map.remove(id);
        }
        assert!(map.memory_bytes() < full / 3);
        assert_eq!(map.iter().map(|(id, _)| id).collect::<Vec<_>>(), (4990..5000).collect::<Vec<_>>());
    }
}
