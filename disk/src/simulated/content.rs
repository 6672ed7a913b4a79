//! Bytes of a file on a disk that remembers for certain only what was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::random::Random;

/// What a disk writes in one piece.
pub const SECTOR_BYTES: usize = 512;
/// What the page cache keeps in one piece.
pub const PAGE_BYTES: usize = 4096;
/// Versions of a page that a power cut chooses from; the oldest is the one that was synced.
const VERSIONS_MAX: usize = 4;

type Page = Arc<[u8; PAGE_BYTES]>;

/// A file. A page that is not there is zero.
#[derive(Debug, Default)]
pub struct Content {
    /// Each page's versions: the first is durable, the last is what a read sees.
    pages: BTreeMap<u64, Vec<Page>>,
    dirty: BTreeSet<u64>,
    /// As pages: the first is durable, the last is what a read sees.
    lengths: Vec<u64>,
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.lengths.last().copied().unwrap_or(0)
    }

    /// Bytes that it takes on the disk.
    pub fn used_bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    /// Bytes that it would take more after a write.
    pub fn growth(&self, offset: u64, len: u64) -> u64 {
        let pages = (offset + len).div_ceil(PAGE_BYTES as u64) - offset / PAGE_BYTES as u64;
        let first = offset / PAGE_BYTES as u64;
        let have = self.pages.range(first..first + pages).count() as u64;
        (pages - have) * PAGE_BYTES as u64
    }

    /// Reads up to the end of the file; returns how many bytes.
    pub fn read(&self, target: &mut [u8], offset: u64) -> usize {
        let len = self.len().saturating_sub(offset).min(target.len() as u64) as usize;
        let target = &mut target[..len];
        target.fill(0);
        let first = offset / PAGE_BYTES as u64;
        let end = (offset + len as u64).div_ceil(PAGE_BYTES as u64);
        for (page, versions) in self.pages.range(first..end) {
            let Some(bytes) = versions.last() else { continue };
            let begin = page * PAGE_BYTES as u64;
            let from = offset.max(begin);
            let until = (offset + len as u64).min(begin + PAGE_BYTES as u64);
            target[(from - offset) as usize..(until - offset) as usize]
                .copy_from_slice(&bytes[(from - begin) as usize..(until - begin) as usize]);
        }
        len
    }

    /// Writes, durable or not yet.
    pub fn write(&mut self, bytes: &[u8], offset: u64, is_synced: bool) {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (page, into) = (at / PAGE_BYTES as u64, (at % PAGE_BYTES as u64) as usize);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - into));
            self.change(page, |target| target[into..into + now.len()].copy_from_slice(now), now);
            if is_synced {
                self.sync_page(page);
            }
            at += now.len() as u64;
            rest = later;
        }
        if at > self.len() {
            self.set_length(at);
        }
        if is_synced {
            self.sync_length();
        }
    }

    /// Cuts or extends.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len() {
            self.zero_from(len);
        }
        self.set_length(len);
    }

    /// All of it is durable now.
    pub fn sync(&mut self) {
        while let Some(page) = self.dirty.pop_first() {
            self.sync_page(page);
        }
        self.sync_length();
    }

    /// What is left when the power fails: of each sector that was not synced any version since the last sync.
    pub fn forget(&mut self, random: &mut Random) {
        let mood = random.below(3);
        for page in std::mem::take(&mut self.dirty) {
            let Some(versions) = self.pages.get_mut(&page) else { continue };
            let left = match mood {
                0 => versions.first().cloned(),
                1 => versions.last().cloned(),
                _ => Some(torn(versions, random)),
            };
            *versions = left.into_iter().collect();
            self.drop_zeros(page);
        }
        let lengths = std::mem::take(&mut self.lengths);
        let length = match mood {
            0 => lengths.first().copied(),
            1 => lengths.last().copied(),
            _ => lengths.get(random.below(lengths.len() as u64) as usize).copied(),
        };
        self.lengths = vec![length.unwrap_or(0)];
        self.zero_from(length.unwrap_or(0));
        self.sync();
    }

    /// Turns a bit around, wherever it is kept. False beyond the end, or where nothing is stored.
    pub fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        let (page, into) = (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize);
        let Some(versions) =
            self.pages.get_mut(&page).filter(|_| offset < self.lengths.last().copied().unwrap_or(0))
        else {
            return false;
        };
        for version in versions {
            Arc::make_mut(version)[into] ^= 1 << (bit % 8);
        }
        true
    }

    /// Offsets of pages that hold something, in order.
    pub fn stored_pages(&self) -> impl Iterator<Item = u64> {
        self.pages.keys().map(|page| page * PAGE_BYTES as u64)
    }

    fn change(&mut self, page: u64, change: impl FnOnce(&mut [u8; PAGE_BYTES]), bytes: &[u8]) {
        if !self.pages.contains_key(&page) && bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        let versions = self.pages.entry(page).or_insert_with(|| vec![Arc::new([0; PAGE_BYTES])]);
        if versions.len() < VERSIONS_MAX
            && let Some(last) = versions.last().cloned()
        {
            versions.push(last);
        }
        if let Some(last) = versions.last_mut() {
            change(Arc::make_mut(last));
        }
        self.dirty.insert(page);
    }

    fn sync_page(&mut self, page: u64) {
        self.dirty.remove(&page);
        if let Some(versions) = self.pages.get_mut(&page) {
            versions.drain(..versions.len() - 1);
        }
        self.drop_zeros(page);
    }

    fn drop_zeros(&mut self, page: u64) {
        let is_zero = |version: &Page| version.iter().all(|byte| *byte == 0);
        if self.pages.get(&page).is_some_and(|versions| versions.iter().all(is_zero)) {
            self.pages.remove(&page);
        }
    }

    fn zero_from(&mut self, len: u64) {
        let (first, into) = (len / PAGE_BYTES as u64, (len % PAGE_BYTES as u64) as usize);
        let beyond: Vec<u64> = self.pages.range(first..).map(|(page, _)| *page).collect();
        for page in beyond {
            let from = if page == first { into } else { 0 };
            self.change(page, |bytes| bytes[from..].fill(0), &[]);
        }
    }

    fn set_length(&mut self, len: u64) {
        if self.lengths.is_empty() {
            self.lengths.push(0);
        }
        if self.lengths.len() >= VERSIONS_MAX {
            self.lengths.pop();
        }
        self.lengths.push(len);
    }

    fn sync_length(&mut self) {
        let len = self.len();
        self.lengths = vec![len];
    }
}

fn torn(versions: &[Page], random: &mut Random) -> Page {
    let mut mixed = [0; PAGE_BYTES];
    for sector in 0..PAGE_BYTES / SECTOR_BYTES {
        let place = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        if let Some(version) = versions.get(random.below(versions.len() as u64) as usize) {
            mixed[place.clone()].copy_from_slice(&version[place]);
        }
    }
    Arc::new(mixed)
}
